"""Tweedie moments: TMPD, Boys et al. 2023, arXiv 2310.06721; MMPS, Rozet et al. 2024, arXiv 2405.13712.

The second moment of p(z_0 | z_t) is known, too: Cov(z_0 | z_t) = t^2 J, J = dE[z_0 | z_t] / dz_t. Both papers guide
with that covariance. TMPD replaces t^2 H J H^T by a diagonal, the row sums of J, which needs J to be dominated by its
diagonal and its row sums to be positive. Here, as in MMPS, (t^2 H J H^T + I) v = target - H E[z_0 | z_t] is solved by
conjugate gradients with products J^T u alone (J is symmetric), which has no such condition: with as many iterations as
the matrix has distinct eigenvalues the guidance of a Gaussian prior is exact. Each iteration takes one derivative of
the network. The dependence of J on z_t is left out.
"""

import torch
from torch import Tensor

from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.schedule import Time
from pullback.methods.guided.guidance import Guided, GuidedMethod, whitened
from pullback.methods.guided.guidance_spec import TmpdInfer
from pullback.methods.guided.observation import Observation

TOLERANCE = 1e-4
"""Residual norm, relative to the right side, at which a row's solution is kept."""


class TweedieMoments(Guided):
    """The mean of z_0 given z_t and y with covariance t^2 J.

    Args:
        prior, observation: see `Guided`.
        iterations: most of conjugate gradients.
    """

    def __init__(self, prior: Denoiser, observation: Observation, iterations: int):
        super().__init__(prior, observation)
        self._linear, self._iterations = whitened(observation, "tmpd"), iterations

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """See `Denoiser`."""
        variance, linear = float(t) ** 2, self._linear
        mean, pull = self.prior.vjp(x, t)
        # v = (t^2 H J H^T + I)^-1 right by conjugate gradients, each row on its own; J^T H^T v goes along.
        right = linear.residual(mean)
        rest, direction = right, right
        guidance, size = torch.zeros_like(mean), right.square().sum(1, keepdim=True)
        enough = TOLERANCE**2 * size
        for _ in range(self._iterations):
            pulled = pull(linear.operator.transpose(direction))
            image = direction + variance * linear.operator.apply(pulled)
            curvature = (direction * image).sum(1, keepdim=True)
            # A trained network's J is not positive everywhere: such a row keeps what it has. NaN goes on.
            done = (size <= enough) | (curvature <= 0)
            length = torch.where(done, 0.0, size / curvature)
            rest = rest - length * image
            guidance = guidance + length.reshape(-1, *(1,) * (mean.ndim - 1)) * pulled
            before, size = size, torch.where(done, size, rest.square().sum(1, keepdim=True))
            if done.all():
                break
            direction = torch.where(done, direction, rest + size / before * direction)
        return mean + variance * guidance


class Tmpd(GuidedMethod):
    """Draws with Tweedie moments."""

    settings: TmpdInfer
    stage = "tmpd"

    def guided(self, observation: Observation) -> Denoiser:
        """See `GuidedMethod`."""
        return TweedieMoments(self.prior, observation, self.settings.iterations)
