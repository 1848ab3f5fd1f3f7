"""Guidance with a flat prior: DMPS, Meng and Kabashima 2022, arXiv 2211.12343; Jalal et al. 2021, arXiv 2108.01368.

p(z_0 | z_t) is taken as N(z_t, t^2 I), which is Bayes' theorem with a flat, improper prior of z_0: p(y | z_t) is the
likelihood with more noise. L. Ruthotto's lectures on inverse problems call this score exact for linear Gaussian
problems. It is where the prior is flat; it is near to it where t is far below the prior's width in every measured
direction, late in the sampling, and wrong before. It takes no derivative of the network.
"""

from torch import Tensor

from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.schedule import Time
from pullback.methods.guided.guidance import Guided, GuidedMethod, singular, solve, whitened
from pullback.methods.guided.observation import Observation


class FlatPrior(Guided):
    """The mean of z_0 given z_t and y with p(z_0 | z_t) = N(z_t, t^2 I) in the guidance."""

    def __init__(self, prior: Denoiser, observation: Observation):
        super().__init__(prior, observation)
        self._linear = whitened(observation, "flat")
        self._svd = singular(self._linear, "flat")

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """See `Denoiser`."""
        variance = float(t) ** 2
        weighted = solve(self._svd, variance, self._linear.residual(x))
        return self.prior(x, t) + variance * self._linear.operator.transpose(weighted)


class Flat(GuidedMethod):
    """Draws with a flat prior in the guidance."""

    stage = "flat"

    def guided(self, observation: Observation) -> Denoiser:
        """See `GuidedMethod`."""
        return FlatPrior(self.prior, observation)
