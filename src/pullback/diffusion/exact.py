"""Exact denoisers of priors in closed form, for tests and for problems whose prior is known."""

import math

import torch
from torch import Tensor

from pullback.diffusion.denoiser import Denoiser, as_column
from pullback.diffusion.schedule import Schedule, Time


class GaussianDenoiser(Denoiser):
    """x_0 ~ N(mean, C): mean + alpha C (alpha^2 C + sigma^2 I)^-1 (x_t - alpha mean).

    Args:
        mean: (d,).
        covariance: C (d, d), symmetric, positive semidefinite.
        schedule: of the noise.
    """

    def __init__(self, mean: Tensor, covariance: Tensor, schedule: Schedule):
        self.mean, self.schedule = mean, schedule
        self.variances, self.axes = torch.linalg.eigh(covariance)

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """See `Denoiser`."""
        alpha, sigma = self.schedule(as_column(t, x))
        shrink = alpha * self.variances / (alpha**2 * self.variances + sigma**2)
        return self.mean + ((x - alpha * self.mean) @ self.axes * shrink) @ self.axes.T

    def log_density(self, x: Tensor, t: Time) -> Tensor:
        """log p(x_t) = log N(x_t; alpha mean, alpha^2 C + sigma^2 I), (B,)."""
        alpha, sigma = self.schedule(as_column(t, x))
        total = alpha**2 * self.variances + sigma**2
        centred = (x - alpha * self.mean) @ self.axes
        return -0.5 * (centred.square() / total + (2 * math.pi * total).log()).sum(dim=1)


class MixtureDenoiser(Denoiser):
    """A mixture of Gaussians: the components' means weighted by p(component | x_t).

    Args:
        weights: (component,), positive; normalised here.
        means: (component, d).
        covariances: (component, d, d).
        schedule: of the noise.
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor, schedule: Schedule):
        self.schedule = schedule
        self.log_weights = (weights / weights.sum()).log()
        self.parts = [GaussianDenoiser(mean, c, schedule) for mean, c in zip(means, covariances, strict=True)]

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """See `Denoiser`."""
        logs = torch.stack([part.log_density(x, t) for part in self.parts], dim=1)
        responsibility = (self.log_weights + logs).softmax(dim=1)
        return torch.einsum("bk,kbd->bd", responsibility, torch.stack([part(x, t) for part in self.parts]))
