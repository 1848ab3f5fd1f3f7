"""Linear observations of a mixture of Gaussians in d dimensions: several modes with an exact posterior.

    x ~ sum_k w_k N(m_k, C_k),    y = A x + s eps,    eps ~ N(0, I)

The formulas are in `pullback.problems.closed_form`. The default is the one-dimensional example of L. Ruthotto's
lectures on guided diffusion: prior weights .3, .5, .2 of modes at -2.5, 0, 1.5 with standard deviations .3, .4, .3,
seen with noise .8. At y = 0.5 the exact posterior has weights .0012, .8011, .1977; a sampler that finds the mode at
-2.5 or loses that at 1.4 is seen to be wrong.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field as Option
from pydantic import model_validator

from pullback.problems.closed_form import GaussianMixture
from pullback.problems.linear_gaussian import (
    Drawn,
    LinearGaussian,
    LinearParams,
    LinearSettings,
    Noise,
    refuse_covariance,
)
from pullback.study.base import Number, ends
from pullback.study.kinds import Message

if TYPE_CHECKING:
    from pullback.study.model import Problem as StudyProblem


class DrawnMixture(Drawn):
    """A mixture of Gaussians of equal weight and an observation matrix, drawn once from a seed."""

    components: int = Option(ge=1, description="number of Gaussians")
    spread: float = Option(default=4.0, gt=0, description="standard deviation of the drawn means")


class MixtureSimulator(LinearSettings):
    """y = A x + noise eps, eps ~ N(0, I), of x from a mixture of Gaussians."""

    weights: list[float] = Option(default=[0.3, 0.5, 0.2], min_length=1, description="of the modes; they sum to 1")
    means: list[list[float]] = Option(
        default=[[-2.5], [0.0], [1.5]], min_length=1, description="of the modes, one number for each component of x"
    )
    deviations: list[float] = Option(
        default=[0.3, 0.4, 0.3], min_length=1, description="standard deviation of each mode, the same in all directions"
    )
    covariances: list[list[list[float]]] | None = Option(
        default=None, description="of each mode, row by row, in place of deviations"
    )
    matrix: list[list[float]] = Option(
        default=[[1.0]], min_length=1, description="A, row by row: one row for each component of y"
    )
    noise: Noise = Option(default=0.8, description="standard deviation of the noise of each component of y")
    drawn: DrawnMixture | None = Option(
        default=None, description="prior and A drawn from a seed, in place of those given"
    )

    GIVEN = ("weights", "means", "deviations", "covariances", "matrix")

    @property
    def unused(self) -> dict[str, str]:
        """Options that have no effect beside the others -> why."""
        return ({"deviations": "`covariances` are given"} if self.covariances else {}) | super().unused

    @model_validator(mode="after")
    def _fit(self) -> "MixtureSimulator":
        self.refuse_given()
        if self.covariances is not None and self.deviations != type(self).model_fields["deviations"].default:
            raise ValueError("modes have deviations or covariances: leave out one of the two")
        widths = "deviations" if self.covariances is None else "covariances"
        counts = {name: len(getattr(self, name)) for name in ("weights", "means", widths)}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{n} {name}" for name, n in counts.items())
            raise ValueError(f"each mode has a weight, a mean and a deviation or covariance: found {found}")
        if min(self.weights) <= 0 or abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"weights {self.weights}: wanted positive ones that sum to 1")
        if min(self.deviations) <= 0:
            raise ValueError(f"deviations {self.deviations}: wanted positive ones")
        if len({len(mean) for mean in self.means}) > 1 or not self.means[0]:
            raise ValueError(f"means of {[len(mean) for mean in self.means]} numbers, wanted one for each x")
        for i, covariance in enumerate(self.covariances or []):
            refuse_covariance(f"covariances[{i}]", covariance, len(self.means[0]))
        self.refuse_rows(len(self.means[0]))
        return self

    def prior(self) -> GaussianMixture:
        """The mixture of a family without parameters."""
        if self.drawn:
            return self.drawn.prior(self.drawn.components)
        weight, mean = np.asarray(self.weights, np.float64) / sum(self.weights), np.asarray(self.means, np.float64)
        covariance = np.square(self.deviations)[:, None, None] * np.eye(mean.shape[1])
        return GaussianMixture(weight, mean, covariance if self.covariances is None else np.asarray(self.covariances))


class MixtureParams(LinearParams):
    """How the prior of a family differs from that of the simulator: weight1, and the same move of all modes."""

    weight1: Number | None = Option(
        default=None, description="weight of the first mode, in [0, 1]; the others share the rest as they do by default"
    )

    @model_validator(mode="after")
    def _share(self) -> "MixtureParams":
        if self.weight1 is not None and not all(0 <= end <= 1 for end in ends(self.weight1)):
            raise ValueError(f"weight1 is a share: found {ends(self.weight1)}, wanted values in [0, 1]")
        return self


class Mixture(LinearGaussian):
    """Noisy linear observations of a mixture of Gaussians: prior, likelihood, posterior and evidence in closed form.

    Args:
        options: the ``simulator`` block.
    """

    Settings = MixtureSimulator
    Params = MixtureParams

    @staticmethod
    def check(problem: "StudyProblem") -> Iterator[Message]:
        """One mode has all the weight."""
        yield from LinearGaussian.check(problem)
        for name, family in problem.families.items():
            if len(problem.simulator.prior().weight) == 1 and family.params.get("weight1") is not None:
                yield f"families.{name}.params.weight1", "there is one mode, which has all the weight"

    def mixture_prior(self, params: dict[str, Any]) -> GaussianMixture:
        """The prior with these parameters: moved, stretched, and with another weight of the first mode."""
        moved, first = super().mixture_prior(params), params.get("weight1")
        if first is None:
            return moved
        rest = moved.weight[1:]
        return moved._replace(weight=np.array([first, *(1 - first) * rest / rest.sum()]))
