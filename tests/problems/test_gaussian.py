"""The Gaussian problem against its formulas."""

import numpy as np
import pytest
from scipy import stats

from pullback.metrics.distances import directions, project, wasserstein_powers
from pullback.problems.base import simulate
from pullback.problems.gaussian import Gaussian, GaussianSimulator, matrix
from pullback.study import StudyError, load_study

PROBLEM = Gaussian(GaussianSimulator())
M = np.array([[2.2, 0.5], [0.5, 3.2]])


def gaussian(dimension, noise=0.5):
    return Gaussian(GaussianSimulator(dimension=dimension, noise=noise))


def events(problem, n, seed, **params):
    rng = np.random.default_rng(seed)
    x = problem.sample_prior(rng, n, params)
    return x, simulate(problem, x, rng)[0]


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
        y, ok = simulate(PROBLEM, x, np.random.default_rng(1))
        wanted = 0.5 * scale * np.sqrt(2)
        np.testing.assert_allclose((y - x @ M).std(0), wanted, rtol=5 / np.sqrt(2 * n))
        assert ok.all()
        np.testing.assert_array_equal(PROBLEM.apply(x)[0], x @ M)


@pytest.mark.parametrize("d", [1, 2, 5, 10])
def test_prior_in_any_dimension(d):
    n, gamma = 40_000, -0.7
    params = {"gamma": gamma, "mu1": 1.5} | ({"mu2": -0.5} if d > 1 else {})
    x = gaussian(d).sample_prior(np.random.default_rng(3), n, params)
    mean = np.resize([1.5, -0.5, *np.zeros(d)], d)
    apart = np.abs(np.subtract.outer(np.arange(d), np.arange(d)))
    # Standard errors: 1 / sqrt(n) of a mean; at most sqrt(2 / n) of an entry of the covariance.
    np.testing.assert_allclose(x.mean(0), mean, atol=5 / np.sqrt(n))
    np.testing.assert_allclose(np.cov(x.T).reshape(d, d), gamma**apart, atol=5 * np.sqrt(2 / n))


def test_two_dimensions_are_the_papers():
    """The formulas written out, on the same random numbers."""
    x = PROBLEM.sample_prior(np.random.default_rng(0), 5, {"gamma": 0.3})
    z = np.random.default_rng(0).standard_normal((5, 2))
    np.testing.assert_array_equal(x, np.stack([z[:, 0], 0.3 * z[:, 0] + np.sqrt(1 - 0.3**2) * z[:, 1]], axis=1))
    y, _ = simulate(PROBLEM, x, np.random.default_rng(1))
    eps = np.random.default_rng(1).standard_normal((5, 2))
    np.testing.assert_array_equal(y, x @ M + 0.5 * np.linalg.norm(x, axis=1, keepdims=True) * eps)
    assert PROBLEM.x.features == ("x1", "x2")


def test_matrix_is_well_conditioned_in_any_dimension():
    np.testing.assert_array_equal(matrix(2), M)
    for d in (1, 3, 10, 100):
        eigenvalues = np.linalg.eigvalsh(matrix(d))
        assert eigenvalues[0] > 1.58
        assert eigenvalues[-1] < 3.82


def test_noise_of_a_component_does_not_grow_with_the_dimension():
    n = 20_000
    for d in (2, 10):
        problem = gaussian(d)
        x = problem.sample_prior(np.random.default_rng(2), n, {"gamma": 0.0})
        y, _ = simulate(problem, x, np.random.default_rng(3))
        # E |x|^2 = d: the variance of one component's noise is 0.5^2 * 2. |x|^2 y^2 has relative spread below sqrt(8).
        assert ((y - x @ problem.matrix) ** 2).mean() == pytest.approx(0.5, rel=5 * np.sqrt(8 / (n * d)))


def test_likelihood_is_that_of_scipy():
    for d in (1, 2, 5, 10):
        problem = gaussian(d, noise=0.3)
        x, y = events(problem, 4, 7, gamma=0.4)
        wanted = [
            stats.multivariate_normal(a @ matrix(d), 0.3**2 * 2 / d * (a @ a) * np.eye(d)).logpdf(b)
            for a, b in zip(x, y, strict=True)
        ]
        np.testing.assert_allclose(problem.log_likelihood(y, x), wanted, rtol=1e-10)


def test_likelihood_is_a_density_of_y():
    x = np.array([0.7, -1.1])
    grid = np.linspace(-12, 12, 801)
    y = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1)
    total = np.exp(PROBLEM.log_likelihood(y, x)).sum() * (grid[1] - grid[0]) ** 2
    assert total == pytest.approx(1, abs=1e-6)


def grid_moments(problem, y, gamma, mu):
    """Mean and covariance of the posterior by numerical integration over log |x| and direction, d = 1 or 2."""
    d = problem.dimension
    angle = np.linspace(0, 2 * np.pi, 600, endpoint=False)
    direction = np.array([[1.0], [-1.0]]) if d == 1 else np.stack([np.cos(angle), np.sin(angle)], -1)
    x = np.geomspace(1e-4, 12, 1500)[:, None, None] * direction
    x = x.reshape(-1, d)
    prior = stats.multivariate_normal(mu, gamma ** np.abs(np.subtract.outer(range(d), range(d))))
    density = np.linalg.norm(x, axis=1) ** d * np.exp(prior.logpdf(x) + problem.log_likelihood(y, x))
    density /= density.sum()
    mean = density @ x
    return mean, (x - mean).T @ (density[:, None] * (x - mean))


@pytest.mark.parametrize(
    ("gamma", "mu", "y"),
    [
        (0.0, [1.5], [0.3]),
        (0.0, [0.0], [-2.5]),
        (0.5, [0.0, 0.0], [1.5, -2.0]),
        (0.99, [0.0, 0.0], [1.0, -0.5]),  # an observation that this prior hardly makes
        (-0.9, [1.5, -0.5], [4.0, 1.0]),
        (0.3, [0.0, 0.0], [0.02, -0.01]),  # |x| and with it the noise is small
    ],
)
def test_exact_posterior_agrees_with_a_grid(gamma, mu, y):
    problem = gaussian(len(mu))
    mean, covariance = grid_moments(problem, np.array(y), gamma, mu)
    params = {"gamma": gamma} | {f"mu{i + 1}": value for i, value in enumerate(mu)}
    n = 20_000
    x, _ = problem.exact_posterior(np.tile(y, (n // 100, 1)), params, 100, 64, np.random.default_rng(2))
    x = x.reshape(n, -1).astype(float)
    spread = np.sqrt(np.diag(covariance))
    # Draws are independent. A pool of 64 leaves a bias below a few hundredths of the standard deviation.
    np.testing.assert_allclose(x.mean(0), mean, atol=(5 / np.sqrt(n) + 0.02) * spread.max())
    kurtosis = ((x - mean) ** 4).mean(0).max() / spread.max() ** 4
    allowed = (5 * np.sqrt(max(kurtosis, 3) / n) + 0.02) * spread.max() ** 2
    np.testing.assert_allclose(np.cov(x.T).reshape(covariance.shape), covariance, atol=allowed)


def test_exact_posterior_agrees_with_a_pool_of_prior_draws():
    """Another algorithm: the whole prior resampled by the likelihood, as the paper's targets were computed."""
    params = {"gamma": 0.75, "mu1": 0.5, "mu2": -0.5}
    _, y = events(PROBLEM, 6, 11, **params)
    pool = PROBLEM.sample_prior(np.random.default_rng(12), 400_000, params)
    weight = np.exp(PROBLEM.log_likelihood(y[:, None], pool))
    weight /= weight.sum(1, keepdims=True)
    effective = 1 / (weight**2).sum(1)
    mean = weight @ pool
    variance = weight @ pool**2 - mean**2
    draws = 4000
    x, ess = PROBLEM.exact_posterior(y, params, draws, 64, np.random.default_rng(13))
    assert effective.min() > 1000
    assert (ess > 16).all()
    error = np.sqrt(variance * (1 / draws + 1 / effective[:, None]))
    assert (np.abs(x.mean(1) - mean) < 5 * error).all()
    # Tails are those of a Gaussian or lighter: the relative error of a variance is about sqrt(2 / n).
    np.testing.assert_allclose(x.var(1), variance, rtol=5 * np.sqrt(2 / draws + 2 / effective.min()))


@pytest.mark.parametrize(("d", "gamma"), [(1, 0.0), (2, 1.0), (5, 0.5), (5, -0.99), (10, 0.99), (10, -0.9)])
def test_exact_posterior_is_calibrated_in_any_dimension(d, gamma):
    """Ranks of the truth among its posterior's draws are uniform (simulation-based calibration)."""
    problem, n, draws = gaussian(d), 1000, 9
    params = {"gamma": gamma, "mu1": -1.0}
    x, y = events(problem, n, 17, **params)
    found, ess = problem.exact_posterior(y, params, draws, 64, np.random.default_rng(18))
    assert np.median(ess) > 32
    functions = [*range(d), lambda v: v.sum(-1), lambda v: np.linalg.norm(v, axis=-1)]
    for function in functions:
        value = function if callable(function) else lambda v, i=function: v[..., i]
        # Rounding of draws to float32 only matters where components coincide (gamma = 1).
        ranks = (value(found.astype(float)) < value(x)[:, None]).sum(1)
        counts = np.bincount(ranks, minlength=draws + 1)
        # 99.99 % point of chi2 with 9 degrees of freedom; 42 functions are looked at.
        assert ((counts - n / 10) ** 2 / (n / 10)).sum() < 33.7


@pytest.mark.parametrize(
    ("gamma", "wanted"),
    [(0.0, 0.015), (0.5, 0.014), (0.75, 0.013), (0.9, 0.013), (0.99, 0.012), (-0.75, 0.013), (-0.9, 0.014)],
)
def test_paired_swd_of_the_oracle(gamma, wanted):
    """The distance that one draw for each of 16,000 observations has to their truths (analytic targets, +-.003)."""
    x, y = events(PROBLEM, 16_000, 21, gamma=gamma)
    draw = PROBLEM.exact_posterior(y, {"gamma": gamma}, 1, 64, np.random.default_rng(22))[0][:, 0]
    theta = directions(("test", "swd"), 2, 50)
    seen = [project(sample, theta, x.mean(0)) for sample in (x, draw)]
    assert np.sqrt(wasserstein_powers(*seen, 2).mean()) == pytest.approx(wanted, abs=0.009)


def test_setting_c_is_a_sweep_of_three_parameters():
    far = {"uniform": [[-1.5, -0.5], [0.5, 1.5]]}
    raw = {
        "config_version": 2,
        "study": "c",
        "problems": {
            "gaussian": {
                "kind": "gaussian",
                "families": {
                    "sweep": {
                        "role": "seen",
                        "params": {"gamma": {"uniform": [-0.7, 0.7]}, "mu1": far, "mu2": far},
                        "sweep": {"ensembles": 8, "events": 64},
                    }
                },
                "methods": {"cfm": {"kind": "cfm"}},
            }
        },
    }
    load_study(raw)
    raw["problems"]["gaussian"]["simulator"] = {"dimension": 1}
    with pytest.raises(StudyError, match="mu2 is the mean of x2, and dimension is 1"):
        load_study(raw)


def test_an_observation_that_the_prior_never_makes_is_answered_and_told():
    y = np.array([[0.0, 0.0], [10.0, -10.0], [1e4, -1e4]])
    x, ess = PROBLEM.exact_posterior(y, {"gamma": 0.99}, 20, 64, np.random.default_rng(0))
    assert np.isfinite(x).all()
    assert np.isfinite(ess).all()
    assert ess[1:].max() < 3
