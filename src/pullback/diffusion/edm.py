"""Diffusion in the design of Karras et al. 2022 (EDM, arXiv 2206.00364): preconditioning, loss, levels, ODE.

x_t = x_0 + sigma n. The network F sees inputs and gives outputs of unit variance at every level (their table 1,
section 5):

    D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)
    c_skip = s^2 / (sigma^2 + s^2),   c_out = sigma s / sqrt(sigma^2 + s^2),
    c_in = 1 / sqrt(sigma^2 + s^2),   c_noise = log(sigma) / 4,        s = SIGMA_DATA

and the loss E[ lambda(sigma) |D(x_0 + sigma n; sigma) - x_0|^2 ], lambda = 1 / c_out^2, log sigma ~ N(P_MEAN, P_STD^2).
The probability-flow ODE in sigma is dx/dsigma = (x - D(x; sigma)) / sigma (their eq. 3 with s(t) = 1).
"""

import math
from itertools import pairwise

from torch import Tensor, nn

from pullback.diffusion.denoisers import Denoiser, as_column

SIGMA_DATA = 1.0
"""Standard deviation of x as networks see it: `Scaling` standardises."""

P_STD = 1.2
P_MEAN = -1.2 + math.log(2.0)
"""Published -1.2 at sigma_data = 0.5; the same levels relative to the data's here."""


class EdmDenoiser(nn.Module):
    """D(x; sigma) around a network F(x, t, y = None, context = None), t = c_noise."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Means (B, *x) of x_0 given x_t (B, *x) at sigma, one for all or one for each (B,)."""
        level = as_column(sigma, x)
        total = (level.square() + SIGMA_DATA**2).sqrt()
        c_noise = (level.flatten().log() / 4).expand(len(x))
        F = self.network(x / total, c_noise, None, None)
        # Under bfloat16 only the network is rounded: c_skip x is as large as sigma.
        return (SIGMA_DATA / total).square() * x + level * SIGMA_DATA / total * F.to(x.dtype)


def edm_loss(denoiser: nn.Module, x: Tensor, level: Tensor, n: Tensor) -> Tensor:
    """lambda(sigma) |D(x + sigma n; sigma) - x|^2, mean over entries of x: one number for each row (B,).

    Args:
        denoiser: an `EdmDenoiser`.
        x: clean data (B, *x), unit variance.
        level: standard normals (B,), which give log sigma.
        n: standard normals (B, *x).
    """
    sigma = (P_MEAN + P_STD * level).exp()
    weight = (sigma.square() + SIGMA_DATA**2) / (sigma * SIGMA_DATA).square()
    error = denoiser(x + as_column(sigma, x) * n, sigma) - x
    return weight * error.square().flatten(1).mean(dim=1)


def karras_grid(levels: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """Noise levels sigma_max = s_0 > ... > s_{levels-1} = sigma_min, then 0 (eq. 5): levels + 1 numbers, float64.

    A single level is sigma_max.
    """
    if levels == 1:
        return [sigma_max, 0.0]
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    # The ends are written as they were given, not as powers of their roots.
    inner = [(top + i / (levels - 1) * (bottom - top)) ** rho for i in range(1, levels - 1)]
    return [sigma_max, *inner, sigma_min, 0.0]


def euler_step(denoiser: Denoiser, x: Tensor, sigma: float, next_sigma: float) -> Tensor:
    """One Euler step of the probability-flow ODE from sigma down to next_sigma; to 0 it is the denoiser itself."""
    mean = denoiser(x, sigma)
    return mean if next_sigma == 0 else x + (next_sigma - sigma) / sigma * (x - mean)


def euler_ode(denoiser: Denoiser, x: Tensor, sigmas: list[float]) -> Tensor:
    """The probability-flow ODE along a grid of levels; calls the denoiser ``len(sigmas) - 1`` times."""
    for sigma, next_sigma in pairwise(sigmas):
        x = euler_step(denoiser, x, sigma, next_sigma)
    return x
