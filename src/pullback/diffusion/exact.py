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

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of x_0."""
        return self.mean, (self.axes * self.variances) @ self.axes.T

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

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of x_0, float64."""
        weight = self.log_weights.double().exp()
        means, variances, axes = (part.double() for part in (self.means, self.variances, self.axes))
        mean = weight @ means
        apart = means - mean
        inside = torch.einsum("k,kij->ij", weight, (axes * variances[:, None]) @ axes.mT)
        return mean, inside + (weight * apart.T) @ apart


def posterior(prior: GaussianDenoiser | MixtureDenoiser, matrix: Tensor, y: Tensor) -> MixtureDenoiser:
    """The denoiser of p(x_0 | y), y = matrix x_0 + n, n ~ N(0, I): a mixture like the prior, so that it is exact.

    With S_k = matrix C_k matrix^T + I and K_k = C_k matrix^T S_k^-1 its components have

        weights proportional to w_k N(y; matrix m_k, S_k),
        means m_k + K_k (y - matrix m_k),
        covariances (I - K_k matrix) C_k.

    Its score is the prior's plus grad log p(y | x_t), of p(y | x_t) = sum_k p(k | x_t) N(y; matrix m_k(x_t), S_k(t)).

    Args:
        prior: of x_0; its type and device are the result's.
        matrix: (m, d), in units of the noise.
        y: (m,), likewise.
    """
    if isinstance(prior, GaussianDenoiser):
        given = prior.mean.new_zeros(1), prior.mean[None], prior.variances[None], prior.axes[None]
    else:
        given = prior.log_weights, prior.means, prior.variances, prior.axes
    log_weights, means, variances, axes = (part.double() for part in given)
    matrix, y = matrix.to(means), y.to(means)
    covariances = (axes * variances[:, None]) @ axes.mT
    spread = matrix @ covariances @ matrix.T + torch.eye(len(y)).to(y)
    evidence = torch.distributions.MultivariateNormal(means @ matrix.T, spread)
    gains = torch.cholesky_solve(matrix @ covariances, evidence.scale_tril).mT
    rest = torch.eye(len(matrix.T)).to(y) - gains @ matrix
    weights = (log_weights + evidence.log_prob(y)).softmax(0)
    means = means + (gains @ (y - evidence.mean)[..., None])[..., 0]
    # (I - K matrix) C, in a form that rounding leaves positive.
    covariances = rest @ covariances @ rest.mT + gains @ gains.mT
    like = given[0]
    return MixtureDenoiser(weights.to(like), means.to(like), covariances.to(like), prior.schedule)
