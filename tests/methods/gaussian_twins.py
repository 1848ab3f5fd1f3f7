"""Priors and linear observations in closed form, for tests of particle methods."""

import math

import numpy as np
import torch

from pullback.core.particles import normalise
from pullback.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from pullback.diffusion.schedule import VarianceExploding
from pullback.problems.linear_gaussian import GaussianMixture

SCHEDULE = VarianceExploding()


def tensor(values):
    return torch.as_tensor(values, dtype=torch.float64)


class Line:
    """mu(z) = |target - H z|^2 / 2, H = A / sigma_y, as an `Observation` and its whitened form in one."""

    def __init__(self, matrix, y, noise):
        self.matrix, self.y, self.noise = np.atleast_2d(np.asarray(matrix, float)), np.atleast_1d(y), noise
        self.h, self.target = tensor(self.matrix / noise), tensor(self.y / noise)
        u, s, vt = torch.linalg.svd(self.h, full_matrices=False)
        self.svd = u, s, vt.T

    def potential(self, z):
        return (self.target - z.double() @ self.h.T).square().sum(1) / 2

    def gradient(self, z):
        residual = self.target - z.double() @ self.h.T
        return residual.square().sum(1) / 2, (-residual @ self.h).to(z)

    @property
    def constant(self):
        return -len(self.y) * math.log(self.noise * math.sqrt(2 * math.pi))


class Twin:
    """A mixture of Gaussians seen through a line: q_t ~ p_t exp(-mu), its normalisation and draws."""

    def __init__(self, weight, mean, covariance, line):
        self.parts = [np.asarray(part, float) for part in (weight, mean, covariance)]
        self.line = line
        denoisers = [tensor(part) for part in self.parts]
        self.denoiser = (
            GaussianDenoiser(denoisers[1][0], denoisers[2][0], SCHEDULE)
            if len(weight) == 1
            else MixtureDenoiser(*denoisers, SCHEDULE)
        )

    def prior(self, t):
        """p_t."""
        weight, mean, covariance = self.parts
        return GaussianMixture(weight, mean, covariance + t**2 * np.eye(mean.shape[-1]))

    def tilted(self, t):
        """q_t."""
        return self.prior(t).posterior(self.line.y[None], self.line.matrix, self.line.noise)

    def log_z(self, t):
        """log of the integral of p_t exp(-mu)."""
        seen = self.prior(t).observed_through(self.line.matrix, self.line.noise)
        return float(seen.log_density(self.line.y[None])[0]) - self.line.constant

    def start(self, t, n, seed=0):
        """Particles of q_t."""
        return tensor(self.tilted(t).sample(np.random.default_rng(seed), n)[0])


def lecture():
    """The mixture of L. Ruthotto's lecture: posterior mean .349647, standard deviation .619929, P(x < -1) .00208."""
    square = np.square([0.3, 0.4, 0.3])[:, None, None]
    return Twin([0.3, 0.5, 0.2], [[-2.5], [0.0], [1.5]], square, Line([[1.0]], 0.5, 0.8))


def plane():
    """Two dimensions, one seen: posterior mean (1.190265, -.150442)."""
    return Twin([1.0], [[0.5, -1.0]], [[[1.0, 0.6], [0.6, 2.0]]], Line([[1.0, 0.5]], 1.2, 0.4))


def normals(n, d, seed=0):
    """Standard normals by the name of a stage, in the order of the calls."""
    source = torch.Generator().manual_seed(seed)
    return lambda stage: torch.randn(n, d, generator=source, dtype=torch.float64)


def moments(found):
    """Weighted mean and covariance of a population."""
    weight, x = normalise(found.log_weight), found.x.flatten(1).numpy()
    mean = weight @ x
    return mean, np.einsum("n,ni,nj->ij", weight, x - mean, x - mean)
