"""Mean and covariance of a diffusion prior: in closed form where it is exact, else of its own draws."""

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from pullback.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from pullback.diffusion.sampler import Multistep
from pullback.methods.guided.base import Counted
from pullback.methods.guided.priors import PriorError

DRAWS, LEVELS = 1024, 40
"""Draws of a network that its moments are made of, once for an inference, and their noise levels."""


class Moments(NamedTuple):
    """Mean m and covariance C = axes diag(variances) axes^T of z_0, flat, float64 on the CPU.

    Attributes:
        mean: (d,).
        variances: (d,), positive.
        axes: (d, d), orthonormal columns.
    """

    mean: Tensor
    variances: Tensor
    axes: Tensor

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor) -> "Moments":
        """Of a mean (d,) and a covariance (d, d), positive semidefinite."""
        variances, axes = torch.linalg.eigh(covariance.double().cpu())
        least = torch.finfo(torch.float32).eps * float(variances.max())
        return cls(mean.double().cpu(), variances.clamp_min(least), axes)


def moments_of(prior: Counted, noise: Callable[[str], Tensor]) -> Moments:
    """Of a diffusion prior.

    Args:
        prior: its denoiser.
        noise: standard normals (draw, *x) by name, `DRAWS` of them.

    Raises:
        PriorError: a draw of the prior is not finite.
    """
    if isinstance(prior.denoiser, GaussianDenoiser | MixtureDenoiser):
        return Moments.of(*prior.denoiser.moments())
    normals = (noise(f"moments-{number}") for number in count())
    grid = prior.schedule.times(LEVELS)
    x = Multistep(prior, normals)(grid[0] * next(normals), grid).flatten(1).double()
    if not x.isfinite().all():
        raise PriorError(
            "a draw of the prior is not finite: look at its training, or take `tempering: linear`, which needs none"
        )
    return Moments.of(x.mean(0), shrunk(torch.atleast_2d(x.T.cov()), len(x)))


def shrunk(covariance: Tensor, draws: int) -> Tensor:
    """A sample covariance (d, d) of normal draws, shrunk towards a multiple of I (Chen et al. 2010, OAS, eq. 23)."""
    d = len(covariance)
    scale, square = float(covariance.trace()) / d, float(covariance.square().mean())
    above = (draws + 1) * (square - scale**2 / d)
    share = 1.0 if above <= 0 else min(1.0, (square + scale**2) / above)
    return (1 - share) * covariance + share * scale * torch.eye(d).to(covariance)
