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
        covariances: (component, d, d), symmetric, positive semidefinite.
        schedule: of the noise.
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor, schedule: Schedule):
        self.schedule, self.means = schedule, means
        self.log_weights = (weights / weights.sum()).log()
        self.variances, self.axes = torch.linalg.eigh(covariances)

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """See `Denoiser`."""
        alpha, sigma = self.schedule(as_column(t, x))
        # (component, B, d), along each component's axes.
        variances, means = self.variances[:, None], self.means[:, None]
        total = alpha**2 * variances + sigma**2
        centred = (x - alpha * means) @ self.axes
        logs = -0.5 * (centred.square() / total + total.log()).sum(dim=2)
        responsibility = (self.log_weights[:, None] + logs).softmax(dim=0)
        each = means + (centred * (alpha * variances / total)) @ self.axes.mT
        return (responsibility[..., None] * each).sum(dim=0)
