"""Reference method: the posterior under the true prior of each family, an upper bound for all other methods.

Draws come from the problem's exact posterior or, for a problem with only a likelihood, from the family's reference
split weighted by it (`problems.true_prior`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from pullback.core.seeding import generator
from pullback.methods.base import Method, PosteriorSamples
from pullback.problems.true_prior import ByParameters, ByTruth
from pullback.study.base import Capability, Label, Name
from pullback.study.kinds import Infer, MethodSpec


class ExactInfer(Infer):
    """Exact posterior draws, each chosen by weight from a pool of candidates."""

    pool: int = Field(
        default=64,
        ge=8,
        description="weighted candidates that each draw is chosen from; a reference split is used completely",
    )


class OracleSpec(MethodSpec):
    """The posterior under the true prior: an upper bound for all other methods.

    The problem's own exact posterior (as `pool` grows); for a problem with only a likelihood, the family's reference
    split weighted by it (as the reference grows).
    """

    needs: ClassVar[frozenset[Capability]] = frozenset()
    needs_either: ClassVar[tuple[Capability, ...]] = ("exact-posterior", "likelihood")
    returns: ClassVar[Label] = "asymptotic"
    uses_true_prior: ClassVar[bool] = True
    colour: ClassVar[str] = "#009E73"
    code: ClassVar[str] = "pullback.methods.classical.oracle:Oracle"

    infer: Mapping[Name, ExactInfer] = Field(default={"default": ExactInfer()}, min_length=1)

    @property
    def uses_prior_params(self) -> bool:
        """The true parameters of the family's prior are used."""
        return True


LOW_QUANTILE = 0.05


class Oracle(Method[None]):
    """Draws from p(x|y) with the family's true parameters, or its own truth, as prior."""

    block = 1000
    settings: ExactInfer
    params: dict[str, Any]
    truth: ByTruth

    def set_prior_params(self, params: dict[str, Any]) -> None:
        """The true parameters of the family's prior."""
        self.params = params

    def set_reference(self, reference: Path) -> None:
        """Read the family's independent truth.

        Raises:
            TruePriorError: a weight is negative.
        """
        self.truth = ByTruth.read(self.problem, reference)

    def sample(self, state: None, y: np.ndarray, event_id: np.ndarray) -> PosteriorSamples:
        """Exact as ``settings.pool``, or the reference, grows; each block of events has its own generator."""
        rng = generator(*self.context.address, "draw", int(event_id[0]))
        own = hasattr(self.problem, "exact_posterior")
        prior = ByParameters(self.problem, self.params, self.settings.pool) if own else self.truth
        x, ess = prior.draw(y, self.settings.draws, rng)
        ok = np.isfinite(x).reshape(*x.shape[:2], -1).all(axis=-1)
        noticed = {}
        if np.isfinite(ess).all():
            noticed = {"effective_pool": np.median(ess), "effective_pool_low": np.quantile(ess, LOW_QUANTILE)}
        return PosteriorSamples(x, np.zeros(ok.shape), ok, noticed)
