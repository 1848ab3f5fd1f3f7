"""The likelihood that guides: against the problems' own likelihoods, differences and NumPy's decomposition."""

import numpy as np
import pytest
import torch

from pullback.ensembles.fields import Field
from pullback.ensembles.scaling import Scaling
from pullback.methods.base import ADJOINT, Cost
from pullback.methods.guided.observation import Observation, Operators
from pullback.problems.base import simulate
from pullback.problems.linear import Matrix
from pullback.problems.whitening import NoiseError
from pullback.study.problem_kind import problem_kind


class Correlated:
    """Linear, with noise that is correlated between components."""

    x = Field.vector("x", "ab", "1")
    y = Field.vector("y", "cde", "V")
    linear = Matrix(np.array([[1.0, 0.5], [0.0, 2.0], [-1.0, 1.0]]))
    noise_covariance = 0.09 * 0.5 ** np.abs(np.subtract.outer(np.arange(3), np.arange(3)))

    def apply(self, x):
        return self.linear.apply(x), np.ones(len(x), bool)


class Cube(Correlated):
    """Not linear, fails for large x, differentiable by `vjp`."""

    x = Field.vector("x", "ab", "1", low=(-1.0, -1.0), high=(1.0, 1.0))
    linear = None
    noise_covariance = np.array([0.1, 0.2, 0.3])

    def apply(self, x):
        return np.stack([x[:, 0] ** 3, x[:, 1], x.sum(1)], 1), x[:, 1] < 0.9

    def vjp(self, x, u):
        return np.stack([3 * x[:, 0] ** 2 * u[:, 0] + u[:, 2], u[:, 1] + u[:, 2]], 1)


def built(kind, **simulator):
    return problem_kind(kind).build(simulator)


LINEAR = [built("linear-gaussian"), Correlated(), built("digits", size=4, keep=0.6)]


def observed(problem, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.2, 0.8, (50, *problem.x.shape))
    y = np.asarray(simulate(problem, x, rng)[0])
    scaling, cost = Scaling.fit(problem.x, problem.y, x, y), Cost()
    z = torch.from_numpy(scaling.encode_x(x[:5], y[:5]).astype(np.float64))
    return Observation(problem, scaling, y[7], cost), z, scaling, y[7], cost


def log_normal(problem, x, y):
    gap = (y - np.asarray(problem.apply(x)[0])).reshape(len(x), -1)
    covariance = np.asarray(problem.noise_covariance)
    if covariance.ndim < 2:
        covariance = np.diag(np.broadcast_to(covariance, gap.shape[1]))
    seen = problem.observed(y[None])[0].ravel() if hasattr(problem, "observed") else np.ones(gap.shape[1], bool)
    from scipy.stats import multivariate_normal

    return multivariate_normal(cov=covariance[np.ix_(seen, seen)]).logpdf(gap[:, seen])


@pytest.mark.parametrize("problem", [*LINEAR, Cube()], ids=lambda p: type(p).__name__)
def test_potential_and_gradient(problem):
    observation, z, scaling, y, cost = observed(problem)
    x = scaling.decode_x(z.numpy(), y[None]).astype(np.float64)
    found = observation.constant - observation.potential(z).numpy()
    np.testing.assert_allclose(found, log_normal(problem, x, y), rtol=1e-4, atol=1e-4)
    assert observation.noise**2 == pytest.approx(np.mean(np.diag(np.atleast_2d(problem.noise_covariance)))) or (
        np.ndim(problem.noise_covariance) == 1
    )
    mu, slope = observation.gradient(z)
    np.testing.assert_allclose(mu, observation.potential(z))
    flat = z.flatten(1)
    for i in range(flat.shape[1]):
        step = torch.zeros_like(flat)
        step[:, i] = 1e-5
        ends = [observation.potential((flat + sign * step).reshape(z.shape)) for sign in (1, -1)]
        np.testing.assert_allclose(slope.flatten(1)[:, i], (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-6)
    assert cost.likelihood_gradients == len(z)


@pytest.mark.parametrize("problem", LINEAR, ids=lambda p: type(p).__name__)
def test_whitened_operator(problem):
    observation, z, *_ = observed(problem)
    linear = observation.linear
    matrix = linear.operator.apply(torch.eye(z[0].numel(), dtype=torch.float64).reshape(-1, *z.shape[1:])).numpy().T
    np.testing.assert_allclose(linear.svd.s, np.linalg.svd(matrix, compute_uv=False)[: len(linear.svd.s)], atol=1e-12)
    np.testing.assert_allclose((linear.svd.u * linear.svd.s) @ linear.svd.v.T, matrix, atol=1e-12)
    u = torch.from_numpy(np.random.default_rng(1).standard_normal((5, len(linear.target))))
    np.testing.assert_allclose(
        (linear.operator.apply(z) * u).sum(1), (z * linear.operator.transpose(u)).flatten(1).sum(1)
    )
    # States outside the bounds are not clipped: the potential stays a parabola.
    ends = [observation.potential(factor * z) for factor in (0, 50, 100)]
    np.testing.assert_allclose(
        ends[0] - 2 * ends[1] + ends[2], 2500 * linear.operator.apply(z).square().sum(1), rtol=1e-9
    )


def test_what_fails_is_infinite_and_counted():
    observation, z, *_, cost = observed(Cube())
    z[0] = torch.nan
    z[1, 1] = 1e3
    mu, slope = observation.gradient(z)
    np.testing.assert_array_equal(mu[:2], np.inf)
    np.testing.assert_array_equal(slope[:2], 0)
    assert mu[2:].isfinite().all()
    assert cost.failed_simulations == 2


class Counting(Cube):
    """Counts its own work: simulations, an adjoint as `ADJOINT` of them."""

    def __init__(self):
        self.work = 0

    def apply(self, x):
        self.work += len(x)
        return super().apply(x)

    def vjp(self, x, u):
        self.work += ADJOINT * len(x)
        return super().vjp(x, u)


class InTorch(Cube):
    """Differentiated by torch: one simulation serves the value and the derivative."""

    autograd = True

    def apply(self, x):
        x = torch.as_tensor(x)
        return torch.stack([x[:, 0] ** 3, x[:, 1], x.sum(1)], 1), x[:, 1] < 0.9


def test_simulations_of_a_derivative_are_counted():
    """As L-BFGS counts them, so that methods compare at equal calls."""
    problem = Counting()
    observation, z, *_, cost = observed(problem)
    z[0] = torch.nan  # Counted as tried, but no adjoint of it was run.
    problem.work = 0
    observation.gradient(z)
    assert cost.likelihood_gradients == len(z)
    assert cost.simulator_calls == len(z) + ADJOINT * (len(z) - 1) == problem.work + 1
    observation.potential(z)
    assert cost.simulator_calls == 2 * len(z) + ADJOINT * (len(z) - 1)
    observation, z, _, _, cost = observed(InTorch())
    observation.gradient(z)
    assert cost.simulator_calls == cost.likelihood_gradients == len(z)


def test_noise_without_variance_is_refused():
    problem = Correlated()
    problem.noise_covariance = 0.0
    with pytest.raises(NoiseError, match="variance 0"):
        observed(problem)


def test_singular_vectors_are_computed_once_for_observations_that_are_alike(monkeypatch):
    """Correlated noise leaves no decomposition of the operator's own; another noise or scaling needs a new one."""
    made, decompose = [], torch.linalg.svd

    def counted(*args, **options):
        made.append(args)
        return decompose(*args, **options)

    monkeypatch.setattr(torch.linalg, "svd", counted)
    problem, rng, operators = Correlated(), np.random.default_rng(2), Operators()
    x = rng.standard_normal((50, 2))
    y = problem.apply(x)[0] + 0.3 * rng.standard_normal((50, 3))
    scaling = Scaling.fit(problem.x, problem.y, x, y)

    def seen(y, scaling=scaling):
        return Observation(problem, scaling, y, Cost(), operators).linear

    first, second = seen(y[0]), seen(y[1])
    assert first.svd is second.svd
    assert len(made) == 1
    np.testing.assert_allclose(
        first.target - second.target, first.operator.noise.apply(torch.from_numpy(y[:1] - y[1:2]))[0]
    )
    assert not first.residual(torch.zeros(1, 2)).equal(second.residual(torch.zeros(1, 2)))
    problem.noise_covariance = 4 * problem.noise_covariance
    np.testing.assert_allclose(seen(y[0]).svd.s, first.svd.s / 2)
    assert len(made) == 2
    other = Scaling.fit(problem.x, problem.y, 3 * x, y)
    np.testing.assert_allclose(seen(y[0], other).svd.s, 1.5 * first.svd.s)
    assert len(made) == 3
