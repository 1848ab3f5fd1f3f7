"""Problems as torch functions of x as networks see it: gradients against differences and closed forms."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from pullback.ensembles.fields import Field
from pullback.ensembles.scaling import Scaling
from pullback.problems.adapter import AdapterError, Differentiable
from pullback.problems.base import linearize, simulate
from pullback.problems.fwi import Fwi
from pullback.problems.whitening import NoiseError, Whitening
from pullback.simulators.wave_settings import FwiSimulator
from pullback.study.problem_kind import ProblemKind, problem_kind

TIME = np.linspace(0.0, 2.0, 5)


class Decay:
    """A user's class with `vjp`, x seen through logarithms."""

    x = Field.vector("x", ("amplitude", "rate"), ("V", "1/s"), transforms=("log", "log1p"))
    y = Field.vector("y", "abcde", "V")
    noise_covariance = 0.04

    def apply(self, x):
        return x[:, :1] * np.exp(-x[:, 1:] * TIME), x[:, 0] < 50

    def observe(self, signal, x, rng):
        return signal + 0.2 * rng.standard_normal(signal.shape)

    def vjp(self, x, cotangent):
        falling = np.exp(-x[:, 1:] * TIME)
        return np.stack([(cotangent * falling).sum(1), (-cotangent * x[:, :1] * TIME * falling).sum(1)], 1)


class Torch(Decay):
    """The same, written in torch, its noise correlated."""

    autograd = True
    noise_covariance = 0.04 * 0.5 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))

    def apply(self, x):
        x = torch.as_tensor(x)
        return x[:, :1] * torch.exp(-x[:, 1:] * torch.as_tensor(TIME).to(x)), np.asarray(x[:, 0].detach() < 50)


def adapted(problem, seed=0, x=None):
    rng = np.random.default_rng(seed)
    x = np.exp(0.3 * rng.standard_normal((200, *problem.x.shape))) if x is None else x
    y, _ = simulate(problem, x, rng)
    y = np.asarray(y)
    scaling = Scaling.fit(problem.x, problem.y, x, y)
    z = torch.from_numpy(scaling.encode_x(x[:4], y[:4]).astype(np.float64)).requires_grad_()
    return Differentiable(problem, scaling), z, torch.from_numpy(y[:4]), x[:4]


def noise_of(problem, y):
    """Of one observation (1, *y); None where it depends on x."""
    if not hasattr(problem, "noise_covariance"):
        return None
    y = y.numpy()
    seen = problem.observed(y)[0] if hasattr(problem, "observed") else np.ones(y.shape[1:], bool)
    return Whitening.of(problem.noise_covariance, y.shape[1:], seen.ravel())


def built(kind, **simulator):
    return problem_kind(kind).build(simulator)


PROBLEMS = [
    Decay(), Torch(), built("gaussian", dimension=3), built("linear-gaussian"), built("gaussian-mixture"),
    built("digits", size=4, keep=0.6),
]  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: type(p).__name__)
def test_derivatives_are_those_of_differences(problem):
    adapter, z, y, x = adapted(problem, x=np.random.default_rng(3).uniform(0.2, 0.8, (50, *problem.x.shape)))
    np.testing.assert_allclose(adapter.decode(z).detach(), x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(adapter.apply(z).detach(), problem.apply(x)[0], rtol=1e-4, atol=1e-5)
    assert gradcheck(adapter.apply, (z,), atol=1e-6)
    noise = noise_of(problem, y[:1])
    if noise is not None:
        assert gradcheck(lambda z: adapter.residual(z, y[:1], noise), (z,), atol=1e-6)
    assert gradcheck(lambda z: adapter.log_likelihood(z, y[:1], noise), (z,), atol=1e-5)


@pytest.mark.parametrize("problem", PROBLEMS[2:], ids=lambda p: type(p).__name__)
def test_the_likelihood_is_the_problems_own_but_for_a_term_of_y(problem):
    adapter, z, y, x = adapted(problem, x=np.random.default_rng(4).uniform(0.2, 0.8, (50, *problem.x.shape)))
    noise = noise_of(problem, y[:1])
    found = adapter.log_likelihood(z, y[:1], noise).detach().numpy() - problem.log_likelihood(y[:1].numpy(), x)
    np.testing.assert_allclose(found, found[0], atol=1e-4)


def test_one_derivative_from_whatever_a_problem_gives():
    """vjp, torch, linear: the same pullback in numpy."""
    rng = np.random.default_rng(5)
    x, u = rng.uniform(0.5, 1.5, (3, 2)), rng.standard_normal((3, 5))
    found = [linearize(problem, x) for problem in (Decay(), Torch())]
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-12)
    np.testing.assert_allclose(found[1][2](u), found[0][2](u), rtol=1e-12)
    np.testing.assert_allclose(found[1][2](2 * u), 2 * found[0][2](u), rtol=1e-12)
    problem = built("linear-gaussian", matrix=[[1, 2], [3, 4], [5, 6]])
    np.testing.assert_allclose(problem.linear.transpose(u[:, :3]), u[:, :3] @ problem.matrix)
    assert {"gradient", "signal", "forward"} <= ProblemKind(Decay).capabilities()
    assert "gradient" in ProblemKind(Torch).capabilities()


def test_a_likelihood_in_torch_is_taken_as_it_is():
    class Own(Torch):
        def log_likelihood(self, y, x):
            return -(y - self.apply(x)[0]).abs().sum(1)

    adapter, z, y, x = adapted(Own())
    wanted = -np.abs(y.numpy() - Decay().apply(x)[0]).sum(1)
    np.testing.assert_allclose(adapter.log_likelihood(z, y).detach(), wanted, rtol=1e-5)


@pytest.mark.parametrize("seen", [[1, 1, 1, 1, 1], [1, 0, 1, 1, 0]], ids=["all", "some"])
@pytest.mark.parametrize("covariance", [0.04, np.arange(1.0, 6.0), Torch.noise_covariance], ids=["one", "each", "all"])
def test_whitened_residuals(covariance, seen):
    """|W gap|^2 = gap^T R^-1 gap, log det R, and W^T the adjoint, for R of the observed components."""
    seen = np.array(seen, bool)
    noise = Whitening.of(covariance, (5,), seen)
    matrix = np.diag(np.broadcast_to(covariance, 5)) if np.ndim(covariance) < 2 else covariance
    matrix = matrix[np.ix_(seen, seen)]
    gap = torch.from_numpy(np.random.default_rng(10).standard_normal((4, 5)))
    some = gap.numpy()[:, seen]
    found = noise.apply(gap)
    np.testing.assert_allclose(found.square().sum(1), (some @ np.linalg.inv(matrix) * some).sum(1))
    assert noise.log_det == pytest.approx(np.linalg.slogdet(matrix)[1])
    np.testing.assert_allclose(noise.variances, np.diagonal(matrix))
    np.testing.assert_allclose((noise.transpose(found) * gap).sum(1), found.square().sum(1))
    assert not noise.transpose(found)[:, ~seen].any()
    assert noise.is_as(Whitening.of(covariance, (5,), seen.copy()))
    assert not noise.is_as(Whitening.of(2 * covariance, (5,), seen))
    assert not noise.is_as(Whitening.of(covariance, (5,), np.array([1, 1, 1, 0, 0], bool)))


def test_noise_without_variance_is_refused():
    with pytest.raises(NoiseError, match="variance 0: a residual is divided by it"):
        Whitening.of(0.0, (3,), np.ones(3, bool))
    with pytest.raises(NoiseError, match="not positive definite"):
        Whitening.of(np.ones((3, 3)), (3,), np.ones(3, bool))


def test_gradient_of_a_linear_gaussian_posterior_vanishes_at_its_mean():
    """log p(z) + log p(y|x(z)) is greatest where x is the closed form's mean: the map is affine."""
    problem = built("linear-gaussian")
    adapter, _, _, _ = adapted(problem, x=problem.sample_prior(np.random.default_rng(6), 500, {"shift1": 1.0}))
    y = np.array([[1.2]])
    mean = problem.posterior(y, {}).mean[0]
    z = torch.from_numpy(adapter.scaling.encode_x(mean, y).astype(np.float64)).requires_grad_()
    y = torch.from_numpy(y)
    total = adapter.log_likelihood(z, y, noise_of(problem, y)) + adapter.log_prior(z, {})
    (slope,) = torch.autograd.grad(total.sum(), z)
    np.testing.assert_allclose(slope, 0, atol=1e-5)


def test_the_density_of_z_has_the_volume_of_the_map():
    """Of amplitudes exp(v), expm1(v) and sign(v) expm1(|v|): it integrates to 1 over z."""

    class Prior(Torch):
        x = Field.vector("x", "abc", "1", transforms=("log", "log1p", "symlog"))
        y = Field.vector("y", "a", "1")

        def apply(self, x):
            return torch.as_tensor(x)[:, :1], np.ones(len(x), bool)

        def log_prior(self, x, params):
            return -x[:, 0] - x[:, 1] + torch.log(2 * torch.ones_like(x[:, 2])) - 4 * x[:, 2].abs()

    rng = np.random.default_rng(7)
    x = np.c_[rng.exponential(size=(400, 2)), rng.laplace(scale=0.25, size=400)]
    scaling = Scaling.fit(Prior.x, Prior.y, x, x[:, :1])
    adapter = Differentiable(Prior(), scaling)
    grid = torch.linspace(-8, 8, 161, dtype=torch.float64)
    z = torch.cartesian_prod(grid, grid, grid)
    density = adapter.log_prior(z, {}).exp()
    x = adapter.decode(z)
    inside = density[(x[:, 0] > 0) & (x[:, 1] > 0)]
    assert float(inside.sum()) * 0.1**3 == pytest.approx(1, abs=0.02)


def test_failures_are_nan_without_a_derivative():
    """An event that fails or is not finite takes nothing from the others."""
    adapter, z, *_ = adapted(Decay())
    z = z.detach().clone()
    z[1, 0], z[2] = 30.0, torch.nan
    z.requires_grad_()
    signal = adapter.apply(z)
    assert torch.isnan(signal).all(1).tolist() == [False, True, True, False]
    assert adapter.signals == 3
    torch.nan_to_num(signal).square().sum().backward()
    assert (z.grad[1:3] == 0).all()
    assert (z.grad[[0, 3]] != 0).all()
    assert adapter.derivatives == 3
    with torch.no_grad():
        adapter.apply(z)
    assert (adapter.signals, adapter.derivatives) == (6, 3)


def test_what_cannot_be_differentiated_is_said():
    class Plain(Decay):
        noise_covariance = None

    adapter, z, y, _ = adapted(Plain())
    with pytest.raises(AdapterError, match="Plain has no likelihood that can be differentiated: give it `autograd"):
        adapter.log_likelihood(z, y)
    with pytest.raises(AdapterError, match="no prior density"):
        adapter.log_prior(z, {})


def test_waves():
    """Along random directions in units of the network: float32 waves give differences to a per cent."""
    settings = {"x_cells": (10, 10), "boundary": "pml", "sources": 1, "record_length": 0.64}
    problem = Fwi(FwiSimulator(**settings))
    x = problem.sample_prior(np.random.default_rng(8), 6, {"geology": "gradient"}).astype(np.float64)
    y, _ = problem.apply(x)
    scaling = Scaling.fit(problem.x, problem.y, x, y)
    adapter = Differentiable(problem, scaling)
    z = torch.from_numpy(0.8 * scaling.encode_x(x[:2], y[:2]).astype(np.float64)).requires_grad_()
    target = torch.from_numpy(y[2:4].astype(np.float64))

    noise = Whitening.unit(np.ones(target[0].numel(), bool))

    def loss(z):
        return adapter.residual(z, target, noise).square().sum(1)

    (slope,) = torch.autograd.grad(loss(z).sum(), z)
    step = 1e-2 * torch.from_numpy(np.random.default_rng(9).standard_normal(z.shape))
    with torch.no_grad():
        differences = (loss(z + step) - loss(z - step)) / 2
    np.testing.assert_allclose((slope * step).sum((1, 2)), differences, rtol=0.03)
    assert adapter.derivatives == 2
