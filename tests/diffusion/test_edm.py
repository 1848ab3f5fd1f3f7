import math

import numpy as np
import pytest
import torch

from pullback.diffusion.denoisers import GaussianDenoiser, MixtureDenoiser
from pullback.diffusion.edm import EdmDenoiser, edm_loss, euler_ode, karras_grid

torch.set_num_threads(1)

MEAN = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)
FACTOR = torch.tensor([[1.0, 0.0, 0.0], [0.4, 0.5, 0.0], [-0.3, 0.2, 0.1]], dtype=torch.float64)
COVARIANCE = FACTOR @ FACTOR.T


def normals(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_grid():
    grid = karras_grid(5, 0.002, 80.0)
    assert len(grid) == 6
    assert grid[0] == 80.0
    assert grid[4] == 0.002
    assert grid[5] == 0.0
    # Equal steps in sigma^(1/7) (Karras et al., eq. 5).
    assert np.diff([s ** (1 / 7) for s in grid[:5]]) == pytest.approx([(0.002 ** (1 / 7) - 80 ** (1 / 7)) / 4] * 4)
    assert karras_grid(1, 0.002, 3.0) == [3.0, 0.0]


class ExactNetwork(torch.nn.Module):
    """The F of a known denoiser, from what it is given: its input scaled to unit variance and log(sigma) / 4."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, u, t, y, context):
        sigma = (4 * t).exp()[:, None]
        total = (sigma**2 + 1).sqrt()
        x = u * total
        return (self.denoiser(x, sigma[:, 0]) - x / total**2) / (sigma / total)


def test_preconditioning_around_an_exact_network():
    exact = GaussianDenoiser(MEAN, COVARIANCE)
    x = normals(7, 3) * 3
    sigma = torch.logspace(-2.5, 1.9, 7, dtype=torch.float64)
    wrapped = EdmDenoiser(ExactNetwork(exact))
    torch.testing.assert_close(wrapped(x, sigma), exact(x, sigma), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(wrapped(x, 0.7), exact(x, 0.7), rtol=1e-9, atol=1e-9)


class Zero(torch.nn.Module):
    def forward(self, u, t, y, context):
        self.input = u
        return torch.zeros_like(u)


def test_without_a_network_it_is_the_denoiser_of_unit_data():
    x = normals(5, 4)
    exact = GaussianDenoiser(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(EdmDenoiser(Zero())(x, 2.5), exact(x, 2.5))


def test_loss_of_the_exact_denoiser_is_one_at_every_level():
    # For x ~ N(0, I): lambda Var(x_0 | x_t) = (sigma^2 + 1) / sigma^2 * sigma^2 / (sigma^2 + 1) = 1; the network sees
    # unit variance.
    n, d = 20_000, 8
    zero = Zero()
    x, level, noise = normals(n, d), normals(n, seed=1), normals(n, d, seed=2)
    loss = edm_loss(EdmDenoiser(zero), x.float(), level.float(), noise.float())
    assert loss.shape == (n,)
    error = math.sqrt(2 / (n * d))
    assert float(loss.mean()) == pytest.approx(1, abs=5 * error)
    assert float(zero.input.var()) == pytest.approx(1, abs=5 * error)
    # Of each row, not only on average: chi-square with d degrees of freedom, variance 2 / d.
    assert float(loss.var()) == pytest.approx(2 / d, rel=0.1)


def test_gaussian_denoiser_is_the_conditional_mean():
    sigma = 0.8
    x = normals(4, 3, seed=3)
    wanted = MEAN + torch.linalg.solve(COVARIANCE + sigma**2 * torch.eye(3), (x - MEAN).T).T @ COVARIANCE
    torch.testing.assert_close(GaussianDenoiser(MEAN, COVARIANCE)(x, sigma), wanted)


def test_mixture_denoiser_agrees_with_quadrature():
    weights, means, variances = [0.3, 0.7], [-1.0, 2.0], [0.2, 0.5]
    mixture = MixtureDenoiser(
        torch.tensor(weights, dtype=torch.float64),
        torch.tensor(means, dtype=torch.float64)[:, None],
        torch.tensor(variances, dtype=torch.float64)[:, None, None],
    )
    grid = np.linspace(-8, 9, 20_001)
    prior = sum(
        w * np.exp(-((grid - m) ** 2) / (2 * v)) / math.sqrt(v)
        for w, m, v in zip(weights, means, variances, strict=True)
    )
    for x_t, sigma in [(-1.5, 0.3), (0.4, 1.0), (3.0, 2.0)]:
        posterior = prior * np.exp(-((x_t - grid) ** 2) / (2 * sigma**2))
        found = mixture(torch.tensor([[x_t]], dtype=torch.float64), sigma)
        assert float(found) == pytest.approx((grid * posterior).sum() / posterior.sum(), abs=1e-8)


def test_ode_gives_the_prior_from_noise():
    # The flow of a Gaussian is linear: noise with covariance exactly I must come out with the prior's, up to Euler's
    # error, which halves when levels double, and the start at sigma_max instead of infinity.
    denoiser = EdmDenoiser(ExactNetwork(GaussianDenoiser(MEAN, COVARIANCE)))
    noise = normals(16, 3)
    noise = noise - noise.mean(dim=0)
    noise = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T @ noise / 16)).T
    errors = []
    for levels in (200, 400):
        x = euler_ode(denoiser, 80 * noise, karras_grid(levels, 0.002, 80.0))
        centred = x - x.mean(dim=0)
        errors.append((centred.T @ centred / 16 - COVARIANCE).abs().max())
        torch.testing.assert_close(x.mean(dim=0), MEAN, rtol=0, atol=0.02)
    assert errors[1] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.2)
