"""Mixtures of Gaussians in closed form: density, draws, and the posterior of a linear observation.

With S_k = A C_k A^T + s^2 I and K_k = C_k A^T S_k^-1 the posterior of y = A x + s eps, eps ~ N(0, I), under the prior
sum_k w_k N(m_k, C_k) is a mixture again, with

    weights proportional to w_k N(y; A m_k, S_k),  means m_k + K_k (y - A m_k),  covariances (I - K_k A) C_k,

and log p(y) = log sum_k w_k N(y; A m_k, S_k).
"""

from typing import Any, NamedTuple

import numpy as np

from pullback.core.arrays import like, logsumexp


class GaussianMixture(NamedTuple):
    """sum_k w_k N(m_k, C_k): weights (..., component), means (..., component, d), covariances (component, d, d)."""

    weight: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray

    def log_components(self, x: Any) -> Any:
        """log w_k N(x; m_k, C_k) (..., component) of x (..., d), array or tensor, float64."""
        root = np.linalg.cholesky(self.covariance)
        whiten = np.linalg.inv(root)
        with np.errstate(divide="ignore"):
            constant = np.log(self.weight) - np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(-1)
        white = (like(whiten, x) @ (x[..., None, :] - like(self.mean, x))[..., None])[..., 0]
        return like(constant - 0.5 * x.shape[-1] * np.log(2 * np.pi), x) - (white**2).sum(-1) / 2

    def log_density(self, x: Any) -> Any:
        """log p(x) (...,)."""
        return logsumexp(self.log_components(x))

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draws (..., n, d), n of each mixture."""
        edges = np.cumsum(self.weight, axis=-1)[..., None, :-1]
        component = (rng.random((*self.weight.shape[:-1], n, 1)) > edges).sum(-1)
        z = rng.standard_normal((*component.shape, self.mean.shape[-1]))
        # In this form a covariance may be singular.
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0))[..., None, :]
        x = np.take_along_axis(self.mean, component[..., None], axis=-2)
        for k, matrix in enumerate(root):
            x[component == k] += z[component == k] @ matrix.T
        return x

    def observed_through(self, matrix: np.ndarray, noise: float) -> "GaussianMixture":
        """The mixture of y = A x + noise eps."""
        covariance = matrix @ self.covariance @ matrix.T + noise**2 * np.eye(len(matrix))
        return GaussianMixture(self.weight, self.mean @ matrix.T, covariance)

    def posterior(self, y: np.ndarray, matrix: np.ndarray, noise: float) -> "GaussianMixture":
        """p(x|y) for each y (event, component of y): a mixture with a leading event axis."""
        evidence = self.observed_through(matrix, noise)
        log_share = evidence.log_components(y)
        gain = np.swapaxes(np.linalg.solve(evidence.covariance, matrix @ self.covariance), -1, -2)
        mean = self.mean + (gain @ (y[:, None] - evidence.mean)[..., None])[..., 0]
        covariance = self.covariance - gain @ matrix @ self.covariance
        return GaussianMixture(np.exp(log_share - logsumexp(log_share)[:, None]), mean, covariance)
