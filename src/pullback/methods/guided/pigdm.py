"""Pseudo-inverse guidance: PiGDM, Song et al. 2023, ICLR, "Pseudoinverse-guided diffusion models for inverse problems".

p(z_0 | z_t) is taken as N(E[z_0 | z_t], r_t^2 I) with r_t^2 = t^2 / (1 + t^2), exact for a prior N(0, I): x as networks
see it has unit variance. The name is of the noise-free form, (H H^T)^-1 in place of (r_t^2 H H^T + I)^-1. Where the
prior is narrower than I in a measured direction, as trained ones of images are, r_t^2 is too large there.
"""

from torch import Tensor

from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.schedule import Time
from pullback.methods.guided.guidance import Guided, GuidedMethod, singular, solve, whitened
from pullback.methods.guided.observation import Observation


class PseudoInverse(Guided):
    """The mean of z_0 given z_t and y with covariance r_t^2 I."""

    def __init__(self, prior: Denoiser, observation: Observation):
        super().__init__(prior, observation)
        self._linear = whitened(observation, "pigdm")
        self._svd = singular(self._linear, "pigdm")

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """See `Denoiser`."""
        variance = float(t) ** 2
        mean, pull = self.prior.vjp(x, t)
        weighted = solve(self._svd, variance / (1 + variance), self._linear.residual(mean))
        return mean + variance * pull(self._linear.operator.transpose(weighted))


class Pigdm(GuidedMethod):
    """Draws with pseudo-inverse guidance."""

    stage = "pigdm"

    def guided(self, observation: Observation) -> Denoiser:
        """See `GuidedMethod`."""
        return PseudoInverse(self.prior, observation)
