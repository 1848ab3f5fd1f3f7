"""The posterior under a family's true prior: used by the oracle, and as the reference of the evaluation.

Draws come from the problem's exact posterior, given the parameters of the prior. For a problem with only a likelihood,
the family's reference split (truth independent of the evaluated events) is a sample of the prior and is weighted by the
likelihood, which is exact as the reference grows.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pullback.ensembles.family_events import nominal
from pullback.problems.base import Problem
from pullback.problems.reweighting import choose, pairwise


class TruePriorError(ValueError):
    """A reference split that cannot be used as a prior (negative weights)."""


class TruePrior(Protocol):
    """Draws from the posterior under one prior."""

    def draw(self, y: np.ndarray, draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws x (event, draw, *x) from p(x|y), and the effective number of candidates of each event (event,).

        NaN where no candidate can have made the observation; inf where draws are exact.
        """
        ...


class ByParameters:
    """The problem's own exact posterior.

    Args:
        problem: gives `exact-posterior`.
        params: of the prior.
        pool: candidates that draws are chosen from, for a problem that needs them.
    """

    def __init__(self, problem: Problem, params: dict[str, Any], pool: int):
        self.problem, self.params, self.pool = problem, params, pool

    def draw(self, y: np.ndarray, draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See `TruePrior`."""
        return self.problem.exact_posterior(y, self.params, draws, self.pool, rng)


class ByTruth:
    """An independent sample of the truth, weighted by the likelihood.

    Args:
        problem: gives `likelihood`.
        truth: (truth, *x).
        log_weight: of each truth (truth,).
    """

    def __init__(self, problem: Problem, truth: np.ndarray, log_weight: np.ndarray):
        self.problem, self.truth, self.log_weight = problem, truth, log_weight

    @classmethod
    def read(cls, problem: Problem, reference: Path) -> "ByTruth":
        """From the index of a reference split.

        Raises:
            TruePriorError: the sum of the weights is not positive.
        """
        # With h5py, which a study is parsed without.
        from pullback.ensembles.positive_weights import cell_resampled
        from pullback.ensembles.store import EnsembleReader

        with EnsembleReader(reference) as file:
            reader = file.pairs()
            truth = reader.read("x")
            weight = nominal(reader.read("weight")) if "weight" in reader.columns else np.ones(reader.n)
            if (weight < 0).any():
                assert reader.x is not None
                try:
                    weight = cell_resampled(truth, reader.x, weight)
                except ValueError as error:
                    raise TruePriorError(f"{reference}: {error}, as draws are chosen by weight") from None
        with np.errstate(divide="ignore"):
            return cls(problem, truth, np.log(weight))

    def halves(self) -> "tuple[ByTruth, ByTruth]":
        """Two halves without a common truth: their draws are independent, so their difference is sampling noise."""
        middle = len(self.truth) // 2
        return (
            ByTruth(self.problem, self.truth[:middle], self.log_weight[:middle]),
            ByTruth(self.problem, self.truth[middle:], self.log_weight[middle:]),
        )

    def draw(self, y: np.ndarray, draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See `TruePrior`; a problem's symmetries make more of a truth (`Problem.posterior_from_truth`)."""
        own = getattr(self.problem, "posterior_from_truth", None)
        if own is not None:
            return own(y, self.truth, self.log_weight, draws, rng)
        index, ess = choose(pairwise(self.problem, self.truth), y, self.log_weight, draws, rng)
        possible = (index >= 0).reshape(*index.shape, *(1,) * (self.truth.ndim - 1))
        return np.where(possible, self.truth[index], np.nan), ess
