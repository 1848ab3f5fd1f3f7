"""Linear observations of a mixture of Gaussians: several modes with an exact posterior.

The formulas are those of `pullback.problems.linear_gaussian`, with C_k = s_k^2 I. The default is the one-dimensional
example of L. Ruthotto's lectures on guided diffusion: prior weights .3, .5, .2 of modes at -2.5, 0, 1.5 with standard
deviations .3, .4, .3, seen with noise .8. At y = 0.5 the exact posterior has weights .0012, .8011, .1977; a sampler
that finds the mode at -2.5 or loses that at 1.4 is seen to be wrong.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field as Option
from pydantic import model_validator

from pullback.problems.linear_gaussian import GaussianMixture, LinearGaussian, LinearParams, refuse_rows
from pullback.study.base import Number, ends
from pullback.study.kinds import Message, SimulatorSettings

if TYPE_CHECKING:
    from pullback.study.model import Problem as StudyProblem


class MixtureSimulator(SimulatorSettings):
    """y = A x + noise eps, eps ~ N(0, I), of x from a mixture of round Gaussians."""

    weights: list[float] = Option(default=[0.3, 0.5, 0.2], min_length=1, description="of the modes; they sum to 1")
    means: list[list[float]] = Option(
        default=[[-2.5], [0.0], [1.5]], min_length=1, description="of the modes, one number for each component of x"
    )
    deviations: list[float] = Option(
        default=[0.3, 0.4, 0.3], min_length=1, description="standard deviation of each mode, the same in all directions"
    )
    matrix: list[list[float]] = Option(
        default=[[1.0]], min_length=1, description="A, row by row: one row for each component of y"
    )
    noise: float = Option(default=0.8, gt=0, description="standard deviation of the noise of each component of y")

    @model_validator(mode="after")
    def _fit(self) -> "MixtureSimulator":
        counts = {"weights": len(self.weights), "means": len(self.means), "deviations": len(self.deviations)}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{n} {name}" for name, n in counts.items())
            raise ValueError(f"each mode has a weight, a mean and a deviation: found {found}")
        if min(self.weights) <= 0 or abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"weights {self.weights}: wanted positive ones that sum to 1")
        if min(self.deviations) <= 0:
            raise ValueError(f"deviations {self.deviations}: wanted positive ones")
        if len({len(mean) for mean in self.means}) > 1 or not self.means[0]:
            raise ValueError(f"means of {[len(mean) for mean in self.means]} numbers, wanted one for each x")
        refuse_rows(self.matrix, len(self.means[0]))
        return self


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
    """Prior, likelihood, posterior and evidence in closed form; see the module.

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
            if len(problem.simulator.weights) == 1 and family.params.get("weight1") is not None:
                yield f"families.{name}.params.weight1", "there is one mode, which has all the weight"

    def prior(self, params: dict[str, Any]) -> GaussianMixture:
        """The prior with these parameters."""
        weight = np.asarray(self.options.weights, np.float64) / sum(self.options.weights)
        first = params.get("weight1")
        if first is not None:
            weight = np.array([first, *(1 - first) * weight[1:] / weight[1:].sum()])
        covariance = np.square(self.options.deviations)[:, None, None] * np.eye(self.dimension)
        return self._moved(weight, np.asarray(self.options.means, np.float64), covariance, params)
