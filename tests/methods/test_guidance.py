"""Guided scores against torch's derivatives, closed forms and a transcription of the published algorithm."""

import logging
import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from guidance_cases import SCHEDULE, drawn, f64, made, moments, unit
from torch.distributions import MultivariateNormal

from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from pullback.diffusion.schedule import VarianceExploding
from pullback.ensembles.fields import Field
from pullback.methods.guided.dps import Dps, NormStep, growth, warn_long_steps
from pullback.methods.guided.exact_score import ExactScore
from pullback.methods.guided.flat import Flat
from pullback.methods.guided.guidance import levels
from pullback.methods.guided.guidance_spec import DpsInfer, ExactScoreSpec, GuidanceInfer, TmpdInfer
from pullback.methods.guided.observation import LikelihoodError
from pullback.methods.guided.pigdm import Pigdm
from pullback.methods.guided.prior_spec import EdmPriorSpec, ExactPriorSpec
from pullback.methods.guided.priors import PriorError
from pullback.methods.guided.tmpd import Tmpd
from pullback.problems.linear import Matrix
from pullback.problems.whitening import NoiseError

torch.set_num_threads(1)

A, NOISE = f64([[1.0, 0.5, 0.0], [0.3, -1.0, 2.0]]), f64([0.4, 0.7])
MEAN, STD = f64([0.5, -1.0, 0.0]), f64([2.0, 0.5, 1.0])
Y = f64([1.2, -0.8])
WEIGHTS, MEANS = f64([0.3, 0.7]), f64([[-1.0, 0.5, 0.2], [0.8, -0.3, 0.0]])
COVARIANCES = f64([[[0.5, 0.2, 0.0], [0.2, 0.8, 0.1], [0.0, 0.1, 0.3]], np.diag([0.2, 0.4, 1.0])])
Z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LIKELIHOOD = DpsInfer(step="likelihood")


class Linear:
    """y = A x + noise, in x that is not scaled."""

    x, y = Field.vector("x", "abc", "1"), Field.vector("y", "uv", "1")
    linear = Matrix(A.numpy())
    noise_covariance = NOISE.square().numpy()

    def apply(self, x):
        return self.linear.apply(x), np.ones(len(x), bool)


class Curved(Linear):
    """y = A x + x_1^2, not linear; it fails for large x."""

    linear = None

    def apply(self, x):
        return x @ A.numpy().T + x[:, :1] ** 2, np.abs(x).max(1) < 20

    def vjp(self, x, u):
        return u @ A.numpy() + 2 * x[:, :1] * u.sum(1, keepdims=True) * [[1, 0, 0]]


def mixture():
    return MixtureDenoiser(WEIGHTS, MEANS, COVARIANCES, SCHEDULE)


def guided(cls, infer, prior=None, problem=None):
    method = made(cls, problem or Linear(), prior or mixture(), MEAN, STD).using(infer)
    return method.guided(method.observation(Y.numpy()))


def forward(z, curved=False):
    """F in units of the noise, of z; H z + offset where it is linear."""
    x = MEAN + STD * z
    return (x @ A.T + (x[:, :1] ** 2 if curved else 0)) / NOISE


H, TARGET = A * STD / NOISE[:, None], (Y - A @ MEAN) / NOISE


def slope(log_likelihood, t):
    """The prior's mean plus t^2 times torch's derivative."""
    z = Z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_likelihood(z).sum(), z)
    return mixture()(Z, t) + t**2 * gradient


def gaussian(mean, covariance):
    return MultivariateNormal(mean, covariance).log_prob(TARGET)


def exact_likelihood(z, t):
    """log p(y | z_t), component by component."""
    parts = []
    for weight, mean, covariance in zip(WEIGHTS, MEANS, COVARIANCES, strict=True):
        gain = covariance @ torch.linalg.inv(covariance + t**2 * torch.eye(3))
        of_z = MultivariateNormal(mean, covariance + t**2 * torch.eye(3)).log_prob(z)
        of_y = gaussian((mean + (z - mean) @ gain.T) @ H.T, H @ (covariance - gain @ covariance) @ H.T + torch.eye(2))
        parts.append(weight.log() + torch.stack([of_z, of_z + of_y]))
    both = torch.stack(parts).logsumexp(0)
    return both[1] - both[0]


@pytest.mark.parametrize("t", [0.05, 0.7, 4.0, 100.0])
def test_guidance_is_the_derivative_of_its_likelihood(t):
    half, eye = t**2 / (1 + t**2), torch.eye(2)
    cases = {
        "exact": (guided(ExactScore, GuidanceInfer()), lambda z: exact_likelihood(z, t)),
        "flat": (guided(Flat, GuidanceInfer()), lambda z: gaussian(z @ H.T, t**2 * H @ H.T + eye)),
        "dps": (guided(Dps, LIKELIHOOD), lambda z: gaussian(mixture()(z, t) @ H.T, eye)),
        "curved": (
            guided(Dps, LIKELIHOOD, problem=Curved()),
            lambda z: -(Y / NOISE - forward(mixture()(z, t), True)).square().sum(1) / 2,
        ),
        "pigdm": (guided(Pigdm, GuidanceInfer()), lambda z: gaussian(mixture()(z, t) @ H.T, half * H @ H.T + eye)),
    }
    for name, (denoiser, likelihood) in cases.items():
        torch.testing.assert_close(denoiser(Z, t), slope(likelihood, t), rtol=1e-6, atol=1e-6, msg=name)


@pytest.mark.parametrize("t", [0.05, 0.7, 4.0, 100.0])
def test_tweedie_moments_solve_with_the_jacobian(t):
    expected = []
    for z in Z:
        mean = mixture()(z[None], t)[0]
        J = torch.autograd.functional.jacobian(lambda z: mixture()(z[None], t)[0], z)
        expected.append(
            mean + t**2 * J.T @ H.T @ torch.linalg.solve(t**2 * H @ J @ H.T + torch.eye(2), TARGET - H @ mean)
        )
    torch.testing.assert_close(guided(Tmpd, TmpdInfer())(Z, t), torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_tweedie_moments_are_exact_for_a_gaussian_prior():
    prior = GaussianDenoiser(MEANS[0], COVARIANCES[0], SCHEDULE)
    for t in (0.05, 0.7, 4.0):
        exact = guided(ExactScore, GuidanceInfer(), prior)(Z, t)
        torch.testing.assert_close(guided(Tmpd, TmpdInfer(), prior)(Z, t), exact, rtol=1e-4, atol=1e-4)


def test_identity_in_place_of_the_jacobian():
    t, denoiser = 0.7, guided(Dps, LIKELIHOOD.model_copy(update={"jacobian": "identity"}))
    mean = mixture()(Z, t)
    torch.testing.assert_close(denoiser(Z, t), mean + t**2 * (TARGET - mean @ H.T) @ H)
    cut = guided(Dps, LIKELIHOOD.model_copy(update={"guidance_cutoff": 0.82}))
    # 1 / sqrt(1 + 0.7^2) = 0.819.
    torch.testing.assert_close(cut(Z, t), mean)
    assert (cut(Z, 0.69) - mixture()(Z, 0.69)).abs().min() > 1e-3


@pytest.mark.parametrize("problem", [Linear(), Curved()], ids=["linear", "curved"])
def test_norm_step_is_the_published_algorithm(problem):
    """Algorithm 1 in x_t = alpha z_t, as published: abar, beta, the released norm of the residual in units of y."""
    scale, curved = 0.3, isinstance(problem, Curved)
    grid = levels(SCHEDULE, GuidanceInfer(levels=12, grid="vp"))
    normals = torch.randn(13, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    infer = DpsInfer(scale=scale)
    found = NormStep(guided(Dps, infer, problem=problem), iter(normals), scale)(grid[0] * Z, grid)

    # The noise of both components is made equal to its root mean square for what the norm is taken of: whitened.
    size = NOISE.square().mean().sqrt()
    abar = [1 / (1 + t**2) for t in grid]
    x, rows = math.sqrt(abar[0]) * grid[0] * Z, iter(normals)
    for i, (at, to) in enumerate(pairwise(abar)):
        x = x.detach().requires_grad_()
        clean = mixture()(x / math.sqrt(at), grid[i])
        norm = (size * (Y / NOISE - forward(clean, curved))).square().sum(1).sqrt()
        (down,) = torch.autograd.grad(norm.sum(), x)
        beta = 1 - at / to
        mean = math.sqrt(1 - beta) * (1 - to) / (1 - at) * x + math.sqrt(to) * beta / (1 - at) * clean
        noise = math.sqrt(beta * (1 - to) / (1 - at)) * next(rows) if to < 1 else 0
        x = mean + noise - scale * down
    torch.testing.assert_close(found, x.detach(), rtol=1e-8, atol=1e-8)


def test_rows_of_a_batch_do_not_see_each_other():
    infer = DpsInfer(scale=0.3)
    for one in (
        guided(Tmpd, TmpdInfer(iterations=2)),
        guided(Pigdm, GuidanceInfer()),
        guided(Flat, GuidanceInfer()),
        guided(Dps, LIKELIHOOD, problem=Curved()),
        guided(ExactScore, GuidanceInfer()),
    ):
        torch.testing.assert_close(one(Z, 0.7), torch.cat([one(z[None], 0.7) for z in Z]), rtol=1e-12, atol=1e-12)
    steps = [NormStep(guided(Dps, infer), iter(lambda: torch.zeros(()), None), 0.3).step for _ in range(2)]
    torch.testing.assert_close(
        steps[0](Z, 0.7, 0.5), torch.cat([steps[1](z[None], 0.7, 0.5) for z in Z]), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    ("cls", "infer", "mean", "variance"),
    [
        (ExactScore, GuidanceInfer, 0.799, 0.199),
        (Flat, GuidanceInfer, 0.716, 0.144),
        (Dps, lambda **more: DpsInfer(step="likelihood", **more), 0.980, 0.125),
        (Tmpd, TmpdInfer, 0.799, 0.199),
        # Exact for N(0, 1), too.
        (Pigdm, GuidanceInfer, 0.799, 0.199),
    ],
)
def test_gaussian_table(cls, infer, mean, variance):
    """Facts, section 2.3: prior N(0, 1), y = 1, sigma_y = 0.5, 1000 steps; a draw is linear in its random numbers."""
    assert extrapolated(cls, infer) == pytest.approx((mean, variance), abs=0.002)


def extrapolated(cls, infer):
    """Moments without the steps' error of first order.

    Its second order is below 0.001, a third of the change from 50 and 100 levels. The table has 1000 steps of its own.
    """
    coarse, fine = (np.array(moments(made(cls, *unit()), infer(levels=n), [1.0])) for n in (100, 200))
    return tuple(2 * fine - coarse)


def test_all_ways_of_sampling_reach_the_exact_posterior():
    for grid, sampler in (("karras", "ode"), ("vp", "sde"), ("vp", "ode")):
        found = extrapolated(
            ExactScore, lambda grid=grid, sampler=sampler, **more: GuidanceInfer(grid=grid, sampler=sampler, **more)
        )
        # The flow keeps what the start from N(0, 160^2), in place of the posterior's N(0.8, 160^2), does to the mean.
        assert found == pytest.approx((0.8, 0.2), abs=0.004), (grid, sampler)


def test_steps_of_order_2():
    """Half as long steps have a quarter of the error, and 100 levels less of it than 1000 of order 1 (2 %)."""
    errors = []
    for n in (50, 100, 200):
        found = moments(made(ExactScore, *unit()), GuidanceInfer(levels=n, sampler="sde-2"), [1.0])
        errors.append(np.abs(np.array(found) - (0.8, 0.2)).max())
    assert errors[1] < 0.02 * 0.2
    assert 3 < errors[0] / errors[1] < 6
    assert 3 < errors[1] / errors[2] < 6


def test_levels_are_those_of_the_variance_preserving_sde():
    time = np.linspace(1, 1e-3, 7)
    integral = [np.trapezoid(0.1 + 19.9 * (grid := np.linspace(0, t, 10_001)), grid) for t in time]
    abar = np.exp(-np.array(integral))
    found = levels(SCHEDULE, infer := GuidanceInfer(levels=7, grid="vp"))
    np.testing.assert_allclose(found, [*np.sqrt((1 - abar) / abar), 0], rtol=1e-6)
    short = levels(VarianceExploding(0.02, 80.0), infer)
    np.testing.assert_allclose([short[0], short[-2]], [80, 0.02], rtol=1e-9)
    # Equal steps of the SDE's time: of -2 log alpha = 0.1 t + 19.9 t^2 / 2.
    inner = np.log1p(np.square(short[:-1]))
    np.testing.assert_allclose(np.diff((np.sqrt(0.01 + 39.8 * inner) - 0.1) / 19.9, 2), 0, atol=1e-12)


def test_too_few_levels_are_said_with_a_number_that_works(caplog):
    problem, prior = unit(noise=0.1)
    few = DpsInfer(step="likelihood", levels=20)
    with caplog.at_level(logging.WARNING, "pullback"):
        assert moments(made(Dps, problem, prior), few, [1.0])[1] > 100
    (record,) = caplog.records
    assert "steps between 20 levels are too long" in record.message
    number = int(record.message.partition("set `levels: ")[2].partition("`")[0])
    caplog.clear()
    enough = few.model_copy(update={"levels": number})
    assert moments(made(Dps, problem, prior), enough, [1.0])[1] < 1
    assert not caplog.records
    # Other methods damp the guidance by (H S H^T + I)^-1.
    for cls, infer in ((Flat, GuidanceInfer), (Pigdm, GuidanceInfer), (Tmpd, TmpdInfer)):
        assert moments(made(cls, problem, prior), infer(levels=20), [1.0])[1] < 0.1
    # The number is not far more than is needed either.
    fewer = few.model_copy(update={"levels": int(number / 1.3)})
    moments(made(Dps, problem, prior), fewer, [1.0])
    assert caplog.records


def test_no_number_of_levels_is_said_that_a_study_may_not_have(caplog):
    warn_long_steps(SCHEDULE, DpsInfer(step="likelihood", levels=20), 1e4)
    assert "no number of levels is enough: set `step: norm`" in caplog.text


@pytest.mark.parametrize("sampler", ["sde", "ode"])
def test_too_few_levels_of_a_problem_that_is_not_linear_are_said(caplog, sampler):
    """What the levels show of y = x, given as a function with a derivative, is what its singular value says."""

    class Function:
        x, y, noise_covariance = Field.vector("x", "a", "1"), Field.vector("y", "u", "1"), 0.01

        def apply(self, x):
            return x, np.ones(len(x), bool)

        def vjp(self, x, u):
            return u

    caplog.set_level(logging.WARNING, "pullback")
    _, prior = unit()
    infer = DpsInfer(step="likelihood", sampler=sampler, levels=20, draws=8)
    drawn(made(Dps, Function(), prior), infer, [1.0])
    (record,) = caplog.records
    assert "explicit guidance moves draws by up to" in record.message
    caplog.clear()
    enough = 20
    while growth(levels(SCHEDULE, infer.model_copy(update={"levels": enough})), infer, 10.0) >= 1:
        enough *= 2
    drawn(made(Dps, Function(), prior), infer.model_copy(update={"levels": enough}), [1.0])
    drawn(made(Dps, Function(), prior), DpsInfer(levels=20, draws=8), [1.0])
    assert not caplog.records


def test_a_draw_whose_guidance_is_not_finite_fails_alone():
    class Broken(Denoiser):
        schedule = SCHEDULE

        def __call__(self, x, t):
            mean = mixture()(x, t)
            # Of the right value, with a derivative that is NaN.
            return torch.cat([mean[:3], mean[3:4] + 0 * x[3:4].abs().sqrt().mul(0).sqrt(), mean[4:]])

    for infer in (DpsInfer(levels=5, draws=6), DpsInfer(levels=5, draws=6, step="likelihood")):
        fine, broken = (drawn(made(Dps, Linear(), prior, MEAN, STD), infer, Y) for prior in (mixture(), Broken()))
        np.testing.assert_array_equal(np.isfinite(broken).all(1), [True] * 3 + [False] + [True] * 2)
        np.testing.assert_allclose(np.delete(broken, 3, 0), np.delete(fine, 3, 0), rtol=1e-5)


def test_a_failed_simulation_fails_its_draw_and_is_counted():
    method = made(Dps, Curved(), GaussianDenoiser(f64([0.0] * 3), f64(np.diag([1.0, 1.0, 400.0])), SCHEDULE))
    x = drawn(method, DpsInfer(levels=10, draws=200, scale=0.01), Y)
    failed = ~np.isfinite(x).all(1)
    # x_3 ~ N(0, 20^2) goes beyond 20 for some draws.
    assert 0 < failed.sum() < 200
    assert method.cost.failed_simulations >= failed.sum()


def test_costs_are_counted():
    for cls, infer, gradients in ((Dps, DpsInfer, 1), (Pigdm, GuidanceInfer, 1), (Flat, GuidanceInfer, 0)):
        method = made(cls, Linear(), mixture(), MEAN, STD)
        drawn(method, infer(levels=5, draws=6), Y)
        assert (method.cost.network_calls, method.cost.network_gradients) == (30, 30 * gradients)
        assert method.cost.likelihood_gradients == (30 if cls is Dps else 0)


def test_draws_do_not_depend_on_the_other_events():
    method = made(Dps, Linear(), mixture(), MEAN, STD).using(DpsInfer(levels=5, draws=6))
    together = method.sample(None, np.float32([Y.numpy(), -Y.numpy()]), np.array([4, 9])).x
    np.testing.assert_array_equal(together[1], method.sample(None, np.float32([-Y.numpy()]), np.array([9])).x[0])


class Silent(Linear):
    noise_covariance = 0.0


class Noiseless(Curved):
    noise_covariance = None


class Logarithmic(Curved):
    noise_covariance = None
    autograd = True

    def log_likelihood(self, y, x):
        return -(y - x[:, :2]).abs().sum(1)


class Blind(Linear):
    linear = Matrix(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("cls", "problem", "infer", "message"),
    [
        (Dps, Silent(), DpsInfer(), "variance 0: a residual is divided by it"),
        (Dps, Noiseless(), LIKELIHOOD, "set step: norm"),
        (Dps, Logarithmic(), DpsInfer(), "set step: likelihood"),
        (Pigdm, Curved(), GuidanceInfer(), "pigdm needs y = A x"),
        (Flat, Blind(), GuidanceInfer(), "flat: A is zero"),
    ],
)
def test_what_cannot_guide_is_refused(cls, problem, infer, message):
    with pytest.raises((LikelihoodError, NoiseError), match=message):
        guided(cls, infer, problem=problem)


def test_the_exact_score_needs_an_exact_prior():
    class Network(Denoiser):
        schedule = SCHEDULE

    with pytest.raises(PriorError, match="found Network; take the method tmpd"):
        guided(ExactScore, GuidanceInfer(), Network())


def test_a_study_with_a_network_for_the_exact_score_is_refused():
    study = SimpleNamespace(priors={"trained": EdmPriorSpec(kind="edm"), "known": ExactPriorSpec(kind="exact")})
    assert not list(ExactScoreSpec(kind="exact-score", prior="known").check(study))
    ((key, message),) = ExactScoreSpec(kind="exact-score", prior="trained").check(study)
    assert (key, message[:29]) == ("prior", "a prior of kind 'edm' is a ne")


def test_the_norm_step_has_no_probability_flow():
    with pytest.raises(ValueError, match="step: norm is a part of an ancestral step"):
        DpsInfer(sampler="ode")
    with pytest.raises(ValueError, match="step: norm is a part of an ancestral step"):
        DpsInfer(sampler="sde-2")
