"""The Gaussian problem against its formulas."""

import numpy as np
import pytest

from pullback.problems.gaussian import Gaussian, M
from pullback.study.problems import GaussianSimulator

PROBLEM = Gaussian(GaussianSimulator())


def test_prior_has_the_correlation():
    n = 50_000
    x = PROBLEM.sample_prior(np.random.default_rng(0), n, {"gamma": -0.9})
    # The standard error of a correlation is (1 - gamma^2) / sqrt(n).
    assert abs(np.corrcoef(x.T)[0, 1] + 0.9) < 5 * (1 - 0.81) / np.sqrt(n)
    np.testing.assert_allclose(x.std(0), 1, atol=5 / np.sqrt(2 * n))


def test_prior_refuses_what_is_no_correlation():
    with pytest.raises(ValueError, match=r"found 1.5, wanted a value in \[-1, 1\]"):
        PROBLEM.sample_prior(np.random.default_rng(0), 1, {"gamma": 1.5})


def test_noise_grows_with_the_signal():
    n = 20_000
    for scale in (0.1, 3.0):
        x = np.full((n, 2), scale)
        y, ok = PROBLEM.forward(x, np.random.default_rng(1))
        wanted = 0.5 * scale * np.sqrt(2)
        np.testing.assert_allclose((y - x @ M).std(0), wanted, rtol=5 / np.sqrt(2 * n))
        assert ok.all()


def test_likelihood_is_a_density_of_y():
    x = np.array([0.7, -1.1])
    grid = np.linspace(-12, 12, 801)
    y = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1)
    total = np.exp(PROBLEM.log_likelihood(y, x)).sum() * (grid[1] - grid[0]) ** 2
    assert total == pytest.approx(1, abs=1e-6)


def test_exact_posterior_agrees_with_a_grid():
    """Mean and covariance against numerical integration of prior times likelihood."""
    gamma, y = 0.5, np.array([1.5, -2.0])
    grid = np.linspace(-4, 4, 801)
    x = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1)
    log_prior = -(x[..., 0] ** 2 - 2 * gamma * x[..., 0] * x[..., 1] + x[..., 1] ** 2) / (2 * (1 - gamma**2))
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.nan_to_num(np.exp(log_prior + PROBLEM.log_likelihood(y, x)))
    density /= density.sum()
    mean = (density[..., None] * x).sum((0, 1))
    variance = (density[..., None] * (x - mean) ** 2).sum((0, 1))
    repeats, draws = 40, 400
    found = PROBLEM.exact_posterior(
        np.tile(y, (repeats, 1)), {"gamma": gamma}, draws, 200_000, np.random.default_rng(2)
    )
    flat = found.reshape(-1, 2).astype(float)
    # The pool holds at least a hundredth of its draws near the posterior: 2000 effective, shared by all repeats.
    np.testing.assert_allclose(flat.mean(0), mean, atol=5 * np.sqrt(variance.max() / 2000))
    np.testing.assert_allclose(flat.var(0), variance, rtol=5 * np.sqrt(2 / 2000))
