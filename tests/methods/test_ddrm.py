"""DDRM against the numbers of a one-dimensional problem and a transcription, component by component."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from guidance_cases import SCHEDULE, f64, made, unit

from pullback.diffusion.exact import GaussianDenoiser
from pullback.ensembles.fields import Field
from pullback.methods.guided.ddrm import Ddrm, Restoration
from pullback.methods.guided.guidance import levels, singular
from pullback.methods.guided.guidance_spec import DdrmInfer
from pullback.methods.guided.observation import LikelihoodError, TensorSvd
from pullback.problems.linear import Matrix

torch.set_num_threads(1)

Y = f64([1.2, -0.8, 0.3])


class Partial:
    """Three observations of four components, which see two directions: one value of H is 0."""

    x, y = Field.vector("x", "abcd", "1"), Field.vector("y", "uvw", "1")
    linear = Matrix(np.array([[1.0, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.1], [2.0, 0.0, 1.0, 0.0]]))
    noise_covariance = 0.09

    def apply(self, x):
        return self.linear.apply(x), np.ones(len(x), bool)


def restoration(grid, normals, eta=0.85, eta_b=1.0):
    method = made(Ddrm, *unit())
    linear = method.observation(np.array([1.0])).linear
    sampler = Restoration(method.prior, singular(linear, "ddrm"), linear.target, normals, eta, eta_b)
    return sampler(sampler.start(grid[0]), grid)


def moments(grid):
    """Mean and variance of a draw, which is linear in its random numbers."""
    rows = torch.eye(len(grid), len(grid) - 1, dtype=torch.float64)
    x = restoration(grid, iter(rows.T[:, :, None]))[:, 0]
    return float(x[-1]), float((x[:-1] - x[-1]).square().sum())


@pytest.mark.parametrize(
    ("steps", "mean", "variance"), [(20, 0.816, 0.051), (200, 0.959, 0.0095), (1000, 0.984, 0.005)]
)
def test_draws_concentrate_as_steps_become_more(steps, mean, variance):
    """Facts, section 2.2: x ~ N(0, 1), y = 1, noise 0.5, exact mean .8 and variance .2; levels in equal ratios."""
    found = moments([*np.geomspace(30, 0.01, steps), 0.0])
    # The ends of the table's levels are not stated: a factor of 2 in the first one is 0.01 of the mean at 20 steps.
    assert found[0] == pytest.approx(mean, abs=0.003)
    assert found[1] == pytest.approx(variance, rel=0.07)


def test_the_published_levels_concentrate_as_the_module_says():
    for steps, mean, variance in ((20, 0.78, 0.072), (200, 0.88, 0.034), (1000, 0.94, 0.017)):
        found = moments(levels(SCHEDULE, DdrmInfer(levels=steps)))
        assert found == pytest.approx((mean, variance), abs=0.005)


def published(denoiser, s, ybar, v, grid, normals, eta, eta_b):
    """Facts, section 2.2, one component after the other; V is square, components of no singular value have s = 0."""
    n = next(normals) @ v
    bar = torch.empty_like(n)
    for i, size in enumerate(s):
        seen = size > 0 and grid[0] > 1 / size
        bar[:, i] = ybar[i] + math.sqrt(grid[0] ** 2 - size**-2) * n[:, i] if seen else grid[0] * n[:, i]
    for t, q in pairwise(grid[:-1]):
        clean, n, after = denoiser(bar @ v.T, t) @ v, next(normals) @ v, torch.empty_like(bar)
        for i, size in enumerate(s):
            keep = math.sqrt(1 - eta**2) * q
            if size == 0:
                after[:, i] = clean[:, i] + keep * (bar[:, i] - clean[:, i]) / t + eta * q * n[:, i]
            elif q < 1 / size:
                after[:, i] = clean[:, i] + keep * size * (ybar[i] - clean[:, i]) + eta * q * n[:, i]
            else:
                mixed = (1 - eta_b) * clean[:, i] + eta_b * ybar[i]
                after[:, i] = mixed + math.sqrt(q**2 - (eta_b / size) ** 2) * n[:, i]
        bar = after
    return denoiser(bar @ v.T, grid[-2])


@pytest.mark.parametrize(("eta", "eta_b"), [(0.85, 1.0), (0.3, 0.6)])
def test_steps_are_the_published_ones(eta, eta_b):
    factor = f64(np.random.default_rng(0).normal(size=(4, 4)))
    prior = GaussianDenoiser(f64([0.1, 0.2, -0.3, 0.0]), factor @ factor.T, SCHEDULE)
    linear = made(Ddrm, Partial(), prior).observation(Y.numpy()).linear
    svd = singular(linear, "ddrm")
    assert len(svd.s) == 2
    matrix = Partial.linear.matrix / 0.3
    u, s, vt = np.linalg.svd(matrix)
    s = np.where(s > 1e-10, s, 0)
    ybar = [float(a / b) if b else 0.0 for a, b in zip(u.T @ (Y.numpy() / 0.3), s, strict=True)]
    grid = [20.0, 4.0, 1.0, 0.5, 0.2, 0.05, 0.0]
    # On the way a state is noisier than both components of y, than one, and than none.
    assert min(s[:2]) < 1 / 0.5 < max(s[:2]) < 1 / 0.05
    normals = torch.randn(7, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sampler = Restoration(prior, svd, linear.target, iter(normals), eta, eta_b)
    found = sampler(sampler.start(grid[0]), grid)
    expected = published(prior, [*s, 0.0], [*ybar, 0.0], f64(vt.T), grid, iter(normals), eta, eta_b)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_method_restores_what_is_seen_and_keeps_the_prior_elsewhere():
    """y = (x_1, x_3) almost without noise: those come back, and x_2 and x_4 follow them by the prior's correlation."""

    class Seen(Partial):
        y = Field.vector("y", "uv", "1")
        linear = Matrix(np.eye(4)[[0, 2]])
        noise_covariance = 1e-6

    C = np.eye(4)
    C[0, 1] = C[1, 0] = C[2, 3] = C[3, 2] = 0.99
    method = made(Ddrm, Seen(), GaussianDenoiser(f64([0.0] * 4), f64(C), SCHEDULE), mean=1.0, std=2.0)
    x = method.using(DdrmInfer()).sample(None, np.float32([[3.0, -2.0]]), np.array([7])).x
    assert x.shape == (1, 1, 4)
    # The last level, 0.0105, times the scaling. x_2 given x_1: 1 + 0.99 (x_1 - 1) +- 2 sqrt(1 - 0.99^2) = 0.28.
    np.testing.assert_allclose(x[0, 0, [0, 2]], [3, -2], atol=3.5 * 0.021)
    np.testing.assert_allclose(x[0, 0, [1, 3]], [2.98, -1.97], atol=3.5 * 0.28)
    assert method.cost.network_calls == 20


def test_one_x_is_given():
    with pytest.raises(ValueError, match="1"):
        DdrmInfer(draws=2)


def test_a_problem_that_is_not_linear_is_refused():
    class Curved(Partial):
        linear = None

        def vjp(self, x, u):
            raise AssertionError

    with pytest.raises(LikelihoodError, match="ddrm needs y = A x"):
        made(Ddrm, Curved(), unit()[1]).using(DdrmInfer()).sample(None, np.float32([Y.numpy()]), np.array([0]))


def test_singular_values_of_nothing_are_refused():
    class Large:
        svd = None

    with pytest.raises(LikelihoodError, match="too large to compute"):
        singular(Large(), "ddrm")
    Large.svd = TensorSvd(torch.ones(1, 1), torch.zeros(1), torch.ones(1, 1))
    with pytest.raises(LikelihoodError, match="A is zero"):
        singular(Large(), "ddrm")
