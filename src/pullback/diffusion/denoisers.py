"""A diffusion prior as a denoiser: (x_t, sigma) -> E[x_0 | x_t], with x_t = x_0 + sigma n, n ~ N(0, I).

By Tweedie's formula the score of the noisy prior is (E[x_0 | x_t] - x_t) / sigma^2, so that a denoiser is all that a
sampler needs. The exact ones here stand in for a trained network in tests and in problems whose prior is known.
"""

import math
from typing import Protocol

import torch
from torch import Tensor


class Denoiser(Protocol):
    """The mean of x_0 given x_t; differentiable in x_t, so that torch.func gives vector-Jacobian products."""

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Means (B, *x) for x_t (B, *x) at noise level sigma, one for all or one for each (B,)."""
        ...


def as_column(sigma: Tensor | float, x: Tensor) -> Tensor:
    """Noise levels in a shape that broadcasts against x (B, *x): (B or 1, 1, ...)."""
    level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    return level.reshape(-1, *(1,) * (x.ndim - 1))


class GaussianDenoiser:
    """Exact denoiser of x_0 ~ N(mean, covariance): mean + C (C + sigma^2 I)^-1 (x_t - mean).

    Args:
        mean: (d,).
        covariance: (d, d), symmetric, positive semidefinite.
    """

    def __init__(self, mean: Tensor, covariance: Tensor):
        self.mean = mean
        self.variances, self.axes = torch.linalg.eigh(covariance)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Means (B, d) of x_0 given x_t (B, d)."""
        shrink = self.variances / (self.variances + as_column(sigma, x).square())
        return self.mean + ((x - self.mean) @ self.axes * shrink) @ self.axes.T


class MixtureDenoiser:
    """Exact denoiser of a Gaussian mixture: the components' means weighted by p(component | x_t).

    Args:
        weights: (component,), positive; normalised here.
        means: (component, d).
        covariances: (component, d, d).
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor):
        self.log_weights = (weights / weights.sum()).log()
        self.parts = [GaussianDenoiser(mean, c) for mean, c in zip(means, covariances, strict=True)]

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Means (B, d) of x_0 given x_t (B, d)."""
        variance = as_column(sigma, x).square()
        logs = []
        for part in self.parts:
            total = part.variances + variance
            centred = (x - part.mean) @ part.axes
            logs.append(-0.5 * (centred.square() / total + (2 * math.pi * total).log()).sum(dim=1))
        responsibility = (self.log_weights + torch.stack(logs, dim=1)).softmax(dim=1)
        return torch.einsum("bk,kbd->bd", responsibility, torch.stack([part(x, sigma) for part in self.parts]))
