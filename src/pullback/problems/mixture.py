"""Linear observations of a mixture of Gaussians: several modes with an exact posterior.

The formulas are those of `pullback.problems.linear_gaussian`, with C_k = s_k^2 I. The default is the one-dimensional
example of L. Ruthotto's lectures on guided diffusion: prior weights .3, .5, .2 of modes at -2.5, 0, 1.5 with standard
deviations .3, .4, .3, seen with noise .8. At y = 0.5 the exact posterior has weights .0012, .8011, .1977; a sampler
that finds the mode at -2.5 or loses that at 1.4 is seen to be wrong.
"""

from typing import Any

import numpy as np
from pydantic import Field as Option
from pydantic import model_validator

from pullback.problems.linear_gaussian import GaussianMixture, LinearGaussian, positive_scale, refuse_rows
from pullback.study.base import Number
from pullback.study.kinds import Parameters, SimulatorSettings


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
        if min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"weights {self.weights}: wanted positive ones that sum to 1")
        if min(self.deviations) <= 0:
            raise ValueError(f"deviations {self.deviations}: wanted positive ones")
        if len({len(mean) for mean in self.means}) > 1 or not self.means[0]:
            raise ValueError(f"means of {[len(mean) for mean in self.means]} numbers, wanted one for each x")
        refuse_rows(self.matrix, len(self.means[0]))
        return self


class MixtureParams(Parameters):
    """How the prior of a family differs from that of the simulator; theta of a sweep holds what its `params` give."""

    weight1: Number | None = Option(
        default=None, description="weight of the first mode, in [0, 1]; the others share the rest as they do by default"
    )
    shift1: Number = Option(default=0.0, description="added to x1 of every mode's mean")
    shift2: Number = Option(default=0.0, description="added to x2 of every mode's mean")
    scale: Number = Option(default=1.0, description="factor of every mode's standard deviation, positive")


class Mixture(LinearGaussian):
    """Prior, likelihood, posterior and evidence in closed form; see the module.

    Args:
        options: the ``simulator`` block.
    """

    Settings = MixtureSimulator
    Params = MixtureParams

    def prior(self, params: dict[str, Any]) -> GaussianMixture:
        """The prior with these parameters."""
        weight = np.asarray(self.options.weights, np.float64) / sum(self.options.weights)
        first = params.get("weight1")
        if first is not None:
            if not 0 <= first <= 1 or ((len(weight) == 1 or weight[0] == 1) and first != 1):
                raise ValueError(f"weight1 is a share of several modes: found {first:g} of weights {weight.tolist()}")
            rest = weight[1:] * ((1 - first) / (1 - weight[0])) if first < 1 else 0 * weight[1:]
            weight = np.array([first, *rest])
        shift = np.zeros(max(2, self.dimension))
        shift[:2] = float(params.get("shift1", 0.0)), float(params.get("shift2", 0.0))
        deviation = positive_scale(params) * np.asarray(self.options.deviations, np.float64)
        covariance = deviation[:, None, None] ** 2 * np.eye(self.dimension)
        return GaussianMixture(weight, np.asarray(self.options.means, np.float64) + shift[: self.dimension], covariance)
