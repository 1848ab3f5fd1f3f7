"""The posterior under the true prior, which no other method is told: the best that any method can do.

Where the problem gives the exact posterior, its draws. Where it gives the likelihood alone, the family's reference
split (truth that is independent of the events that are judged) stands for the prior and is weighted by the likelihood.
"""

from pathlib import Path
from typing import Any

import numpy as np

from pullback.ensembles.sets import nominal
from pullback.ensembles.store import EnsembleReader
from pullback.methods.base import Chunk, Method
from pullback.problems.reweighting import choose
from pullback.seeding import generator
from pullback.study.methods import ExactInfer, Infer

LOW_QUANTILE = 0.05


class OracleError(ValueError):
    """Truth that cannot stand for a prior."""


class Oracle(Method[None]):
    """Draws from p(x|y) with the family's true parameters, or its own truth, as prior."""

    block = 1000
    params: dict[str, Any]
    truth: np.ndarray
    log_weight: np.ndarray

    def tell(self, params: dict[str, Any]) -> None:
        """The true parameters of the family's prior."""
        self.params = params

    def refer(self, reference: Path) -> None:
        """Read the family's independent truth.

        Raises:
            OracleError: a weight is negative.
        """
        with EnsembleReader(reference) as reader:
            self.truth = reader.read("x")
            weight = nominal(reader.read("weight")) if "weight" in reader.columns else np.ones(reader.n)
        if (weight < 0).any():
            raise OracleError(
                f"{reference}: {int((weight < 0).sum())} of {len(weight)} weights are negative; draws are chosen by "
                "weight, so the oracle needs a reference of weights that are not"
            )
        with np.errstate(divide="ignore"):
            self.log_weight = np.log(weight)

    def draw(self, state: None, y: np.ndarray, event_id: np.ndarray, infer: Infer) -> Chunk:
        """Exact as ``infer.pool``, or the reference, grows; each block of events has its own generator."""
        assert isinstance(infer, ExactInfer)
        rng = generator(*self.context.address, "draw", int(event_id[0]))
        if "exact-posterior" in self.problem.gives:
            x, ess = self.problem.exact_posterior(y, self.params, infer.draws, infer.pool, rng)
        else:
            from_truth = getattr(self.problem, "posterior_from_truth", self._from_truth)
            x, ess = from_truth(y, self.truth, self.log_weight, infer.draws, rng)
        ok = np.isfinite(x).reshape(*x.shape[:2], -1).all(axis=-1)
        noticed = {}
        if np.isfinite(ess).all():
            noticed = {"effective_pool": np.median(ess), "effective_pool_low": np.quantile(ess, LOW_QUANTILE)}
        return Chunk(x, np.zeros(ok.shape), ok, noticed)

    def _from_truth(
        self, y: np.ndarray, truth: np.ndarray, log_weight: np.ndarray, draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        def log_likelihood(some: np.ndarray) -> np.ndarray:
            return self.problem.log_likelihood(some[:, None], truth)

        index, ess = choose(log_likelihood, y, log_weight, draws, rng)
        possible = (index >= 0).reshape(*index.shape, *(1,) * (truth.ndim - 1))
        return np.where(possible, truth[index], np.nan), ess
