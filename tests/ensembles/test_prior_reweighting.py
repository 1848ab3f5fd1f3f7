import numpy as np
import pytest

from pullback.core.particles import effective_size
from pullback.core.seeding import generator
from pullback.ensembles.prior_reweighting import LEAST_EFFECTIVE, window


def gaussian(gamma, n=20_000):
    z = np.random.default_rng(0).standard_normal((n, 2))
    return np.stack([z[:, 0], gamma * z[:, 0] + np.sqrt(1 - gamma**2) * z[:, 1]], axis=1)


def test_windows_leave_as_many_effective_members_as_they_should():
    x = gaussian(0.5, 4000)
    found = []
    for i in range(200):
        weight = window(x, generator("w", i))
        assert weight.sum() == pytest.approx(1)
        assert weight.min() >= 0
        found.append(effective_size(weight) / len(weight))
    assert LEAST_EFFECTIVE * 0.99 < min(found) < 0.25
    assert max(found) > 0.9
    # Log-uniform: half lies below the geometric mean of the ends (binomial error 0.035).
    assert np.mean(np.array(found) < np.sqrt(LEAST_EFFECTIVE)) == pytest.approx(0.5, abs=0.12)


def test_a_window_on_a_gaussian_gives_the_gaussian_of_the_product():
    """N(0, C) times a window along u has the precision C^-1 + u u^T / tau^2 in z: computed from its own moments."""
    x = gaussian(0.5, 400_000)
    narrower = []
    for i in range(20):
        weight = window(x, generator("g", i))
        covariance = np.cov(x.T, aweights=weight, bias=True)
        z_covariance = np.cov(x.T, bias=True)
        change = np.linalg.inv(covariance) - np.linalg.inv(z_covariance)
        # Rank one and not negative: one eigenvalue is that of the window, the other zero up to the samples' noise.
        low, high = np.linalg.eigvalsh(change)
        n = effective_size(weight)
        scale = np.linalg.eigvalsh(np.linalg.inv(covariance)).max()
        assert abs(low) < 10 * scale * np.sqrt(2 / n)
        narrower.append(high)
    assert max(narrower) > 1


def test_windows_reach_correlations_beyond_the_ensemble_s():
    x = gaussian(0.75, 4000)
    found = []
    for i in range(300):
        weight = window(x, generator("c", i))
        covariance = np.cov(x.T, aweights=weight, bias=True)
        found.append(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    assert max(found) > 0.9
    assert min(found) < 0.4
