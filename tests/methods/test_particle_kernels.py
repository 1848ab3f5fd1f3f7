"""Moves and weights of guided particles against closed forms (targets computed in NumPy, not from these kernels)."""

import math
import os
from itertools import pairwise

import numpy as np
import pytest
import torch
from gaussian_twins import SCHEDULE, Line, Twin, lecture, moments, normals, plane, tensor
from scipy.stats import multivariate_normal

from pullback.core.particles import normalise
from pullback.methods.base import Cost
from pullback.methods.guided import particle_kernels as kernels
from pullback.methods.guided.moments import Moments, shrunk
from pullback.methods.guided.particle_method import start
from pullback.methods.guided.population import Scheme, evolve
from pullback.methods.guided.quadratic import Foresight, GaussianTwist, TemperedQuadratic
from pullback.methods.guided.twist import Tempered, Tweedie

slow = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: many particles and levels")
FREE = {"resample_below": 0.0}
WIDE = Line([[1.0, 0.3, 0.0], [0.5, -2.0, 1.0]], [0.4, -1.0], 0.5)


MEAN, ROOT = np.array([1.0, -0.5, 2.0]), np.array([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [-3.0, 0.2, 1.0]])
LONG = Twin([1.0], [MEAN], [ROOT @ ROOT.T], WIDE)


def quadratic(twin, tempering="none", first=1.0):
    if tempering != "gaussian":
        return TemperedQuadratic(twin.denoiser, twin.line, None if tempering == "none" else first, Cost())
    foresight = Foresight(twin.line.h, Moments.of(*twin.denoiser.moments()), torch.float64)
    return GaussianTwist(twin.denoiser, foresight, twin.line.target, Cost())


def run(twin, twist, scheme, x, levels, seed=0, equal=True):
    rng = np.random.default_rng(seed)
    log_weight = np.zeros(len(x)) if equal else None
    return evolve(twist, scheme, x, log_weight, levels, normals(*x.shape, seed), rng)


def normaliser(scheme, particles, steps, seed):
    """Mean weight without resampling from sigma = .5 to 0, and its standard error."""
    twin = lecture()
    found = run(twin, quadratic(twin), scheme, twin.start(0.5, particles, seed), np.linspace(0.5, 0, steps + 1), seed)
    weight = np.exp(found.log_weight)
    return weight.mean(), weight.std() / math.sqrt(particles)


CASES = [Scheme(eta=eta, weights=weights, **FREE) for weights in ("rate", "difference", "path") for eta in (0, 0.5, 1)]
ODE = Scheme(stochastic=False, **FREE)


def test_the_target_of_the_normaliser():
    twin = lecture()
    assert math.exp(twin.log_z(0) - twin.log_z(0.5)) == pytest.approx(1.07057, abs=1e-5)
    assert math.exp(twin.log_z(0) - twin.log_z(1.0)) == pytest.approx(1.24747, abs=1e-5)


@pytest.mark.parametrize("scheme", [*CASES, ODE], ids=lambda s: f"{s.weights}-{s.eta}-{s.stochastic}")
def test_the_mean_weight_is_the_ratio_of_normalisations(scheme):
    # 50 steps leave an error of about .001 (from 25, 50 and 100 steps), within which signs and factors are seen.
    mean, error = normaliser(scheme, 2000, 50, CASES.index(scheme) if scheme in CASES else 9)
    assert abs(mean - 1.07057) < 3 * error + 0.002
    assert error < 0.04


@slow
@pytest.mark.parametrize("scheme", [*CASES, ODE], ids=lambda s: f"{s.weights}-{s.eta}-{s.stochastic}")
def test_the_mean_weight_is_the_ratio_of_normalisations_with_many_particles(scheme):
    mean, error = normaliser(scheme, 40_000, 400, CASES.index(scheme) if scheme in CASES else 9)
    assert abs(mean - 1.07057) < 3 * error


def check_twin(weights, particles, levels, tolerance):
    """Mean, covariance and evidence of the plane from t = 2, in units of .02, 5 % and .03."""
    twin = plane()
    found = run(twin, quadratic(twin), Scheme(weights=weights), twin.start(2.0, particles), levels)
    mean, covariance = moments(found)
    np.testing.assert_allclose(mean, [1.190265, -0.150442], atol=0.02 * tolerance)
    exact = [[0.252212, -0.320354], [-0.320354, 0.867257]]
    np.testing.assert_allclose(covariance, exact, rtol=0.05 * tolerance)
    assert found.log_evidence == pytest.approx(2.009302 - 1.645205, abs=0.03 * tolerance)


def test_gaussian_twin():
    # 3000 effective particles: .009 and .017 for the means, 3 % for the variances; the steps' error of the evidence at
    # 100 uniform levels is -.08 (this scheme's moments, followed exactly in one dimension), at 400 -.02.
    check_twin("difference", 6000, np.linspace(2.0, 0, 101), 4)


@slow
@pytest.mark.parametrize("weights", ["rate", "difference"])
def test_gaussian_twin_with_many_particles(weights):
    check_twin(weights, 40_000, np.linspace(2.0, 0, 801), 1)


def mixture(particles, levels, tempering, first):
    """Mean, deviation, P(x < -1), log evidence and population of the lecture's posterior."""
    twin = lecture()
    twist = quadratic(twin, tempering, first)
    x, _, log_z = start(twist, first, normals(particles, 1, 5)(""))
    if tempering == "none":  # At a level this low the noisy prior is no Gaussian.
        x, log_z = twin.start(first, particles), twin.log_z(first)
    found = run(twin, twist, Scheme(), x, SCHEDULE.times(levels, first), 1)
    mean, variance = moments(found)
    tail = normalise(found.log_weight)[found.x[:, 0].numpy() < -1].sum()
    return mean[0], variance[0, 0] ** 0.5, tail, found.log_evidence + log_z + twin.line.constant, found


@slow
@pytest.mark.parametrize(("tempering", "first"), [("linear", 80.0), ("gaussian", 80.0), ("none", 5.0)])
def test_lectures_mixture(tempering, first):
    mean, deviation, tail, evidence, found = mixture(20_000, 400, tempering, first)
    assert (mean, deviation) == (pytest.approx(0.350, abs=0.02), pytest.approx(0.620, abs=0.02))
    assert tail == pytest.approx(0.0021, abs=0.002)
    # Difference weights of 400 steps miss .03 (as in the plane); path weights, those of gaussian tempering, do not.
    assert evidence == pytest.approx(-1.434948, abs=0.03 if tempering == "gaussian" else 0.06)
    assert found.died == 0


def test_lectures_mixture_with_gaussian_tempering():
    mean, deviation, _, evidence, found = mixture(3000, 50, "gaussian", 10.0)
    # 2100 effective particles give errors of .014 and .010.
    assert (mean, deviation) == (pytest.approx(0.350, abs=0.045), pytest.approx(0.620, abs=0.03))
    assert evidence == pytest.approx(-1.434948, abs=0.06)
    assert found.resamplings == 0
    assert found.ess.min() > 0.6


def test_flow_alone_telescopes():
    """The rate's integral is mu(X_0) - mu(X_T) to the order of the solver, 1; the difference form at once."""
    twin = lecture()
    x, twist = twin.start(1.0, 200), quadratic(twin)
    error = []
    for steps in (50, 100):
        levels = np.linspace(1.0, 0, steps + 1)
        found = run(twin, twist, Scheme(stochastic=False, weights="rate", **FREE), x, levels)
        exact = (twin.line.potential(x) - twin.line.potential(found.x)).numpy()
        error.append(np.abs(found.log_weight - exact).mean())
        for weights in ("difference", "path"):
            same = run(twin, twist, Scheme(stochastic=False, weights=weights, **FREE), x, levels)
            np.testing.assert_allclose(same.log_weight, exact, atol=1e-9)
    assert error[0] / error[1] == pytest.approx(2, abs=0.2)


def test_constants_and_order_change_nothing():
    twin = lecture()
    x, order = twin.start(1.0, 64), np.random.default_rng(3).permutation(64)
    levels = SCHEDULE.times(12, 1.0)

    class Higher(Line):
        def potential(self, z):
            return super().potential(z) + 7

        def gradient(self, z):
            mu, slope = super().gradient(z)
            return mu + 7, slope

    def found(likelihood, x, rows=slice(None), below=0.0):
        draw = normals(64, 1)
        twist = Tempered(twin.denoiser, likelihood, 1.0)
        scheme = Scheme(corrector_steps=1, resample_below=below)
        return evolve(twist, scheme, x, np.zeros(64), levels, lambda s: draw(s)[rows], np.random.default_rng(0))

    plain, higher = found(twin.line, x, below=0.99), found(Higher([[1.0]], 0.5, 0.8), x, below=0.99)
    assert plain.resamplings > 0
    torch.testing.assert_close(plain.x, higher.x)
    torch.testing.assert_close(
        *(torch.as_tensor(each.log_weight - each.log_weight.max()) for each in (plain, higher)), atol=1e-9, rtol=0
    )
    assert plain.log_evidence - higher.log_evidence == pytest.approx(7)
    plain, mixed = found(twin.line, x), found(twin.line, x[order], order)
    torch.testing.assert_close(plain.x[order], mixed.x)
    np.testing.assert_allclose(plain.log_weight[order], mixed.log_weight)
    assert plain.log_evidence == pytest.approx(mixed.log_evidence)


def test_split_step_is_the_limit_of_explicit_ones():
    """Mean and noise of one exact step against 4000 explicit ones of the same process, coordinate by coordinate."""
    twist = TemperedQuadratic(None, WIDE, None, Cost())
    centre, variance, time, n = tensor([[2.0, -1.0, 0.5]]), 0.3, 0.4, 4000
    zero = torch.zeros(4, 3, dtype=torch.float64)
    zero[1:] = torch.eye(3)
    exact = kernels.contract(twist, 0.5, centre.expand(4, 3), variance, time, zero, False).x
    mean, spread = centre, torch.zeros(3, 3, dtype=torch.float64)
    shrink = torch.eye(3, dtype=torch.float64) - time / n * WIDE.h.T @ WIDE.h
    for _ in range(n):
        mean = mean - time / n * WIDE.gradient(mean)[1]
        spread = shrink @ spread @ shrink.T + variance / n * torch.eye(3)
    torch.testing.assert_close(exact[:1], mean, atol=2e-3, rtol=0)
    root = (exact[1:] - exact[0]).T
    torch.testing.assert_close(root @ root.T, spread, atol=2e-3, rtol=0)


def test_split_and_explicit_runs_agree_where_steps_are_short():
    twin = lecture()
    x, levels = twin.start(0.5, 500), np.linspace(0.5, 0, 101)
    one = run(twin, quadratic(twin), Scheme(**FREE), x, levels)
    other = run(twin, Tempered(twin.denoiser, twin.line, None), Scheme(**FREE), x, levels)
    # The same noise: they differ by the order of the step, .5 / 100.
    torch.testing.assert_close(one.x, other.x, atol=0.02, rtol=0)
    np.testing.assert_allclose(one.log_weight, other.log_weight, atol=0.02)
    assert 0 < other.stiffness < 2


@pytest.mark.parametrize("exact", [True, False], ids=["contract", "push"])
def test_ratio_of_densities(exact):
    """log M/K of a step against SciPy's Gaussian densities."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(1, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(1, 3, generator=generator, dtype=torch.float64)
    variance, time = 0.3, 0.2
    slope = WIDE.gradient(centre)[1]
    if exact:
        twist = TemperedQuadratic(None, WIDE, None, Cost())
        ends = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
        law = kernels.contract(twist, 0.5, centre.expand(4, 3), variance, time, ends, False).x
        mean, root = law[0].numpy(), (law[1:] - law[0]).T.numpy()
        found = kernels.contract(twist, 0.5, centre, variance, time, noise, True)
    else:
        mean, root = (centre - time * slope)[0].numpy(), math.sqrt(variance) * np.eye(3)
        found = kernels.push(centre, variance, slope, time, noise, 1e9)
    x = found.x[0].numpy()
    free = multivariate_normal(centre[0].numpy(), variance * np.eye(3)).logpdf(x)
    assert float(found.log_ratio[0]) == pytest.approx(free - multivariate_normal(mean, root @ root.T).logpdf(x))


def test_a_long_move_is_cut():
    slope = tensor([[3.0, 4.0], [0.03, 0.04]])
    moved = kernels.push(torch.zeros_like(slope), 1.0, slope, 2.0, torch.zeros_like(slope), 1.0)
    torch.testing.assert_close(moved.x, -tensor([[0.6, 0.8], [0.06, 0.08]]))
    torch.testing.assert_close(moved.log_ratio, -tensor([0.5, 0.005]))


@pytest.mark.parametrize("t", [0.0, 0.7, 5.0])
def test_gaussian_tempering_is_the_likelihood_of_a_gaussian_prior(t):
    """Against the conditional of the joint Gaussian of y and z_t."""
    twist = quadratic(LONG, "gaussian")
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    h, c = WIDE.h.numpy(), ROOT @ ROOT.T
    gain = h @ c @ np.linalg.inv(c + t**2 * np.eye(3))
    law = multivariate_normal(np.zeros(2), np.eye(2) + h @ c @ h.T - gain @ c @ h.T)
    expected = -law.logpdf(WIDE.target.numpy() - h @ MEAN - (z.numpy() - MEAN) @ gain.T) - math.log(2 * math.pi)
    np.testing.assert_allclose(twist.value(z, t), expected)
    phi, slope = twist.gradient(z, t)
    np.testing.assert_allclose(phi, expected)
    leaf = z.clone().requires_grad_()
    torch.testing.assert_close(slope, torch.autograd.grad(twist.value(leaf, t).sum(), leaf)[0])


def test_gaussian_tempering_leaves_equal_weights_for_a_gaussian_prior():
    """At eta = 1 the guided drift is then that of the exact posterior, however elongated the prior is."""
    twist = quadratic(LONG, "gaussian")
    x, _, log_z = start(twist, 80.0, normals(2000, 3)(""))
    found = run(LONG, twist, Scheme(eta=1.0, weights="path", **FREE), x, SCHEDULE.times(100, 80.0))
    assert found.ess[-1] > 0.9
    assert found.log_evidence + log_z == pytest.approx(LONG.log_z(0), abs=0.05)


@pytest.mark.parametrize("tempering", ["none", "linear", "gaussian"])
def test_start_is_the_conditioned_law(tempering):
    """Mean and covariance at t = 3 against NumPy's normal equations."""
    twist = quadratic(LONG, tempering, 3.0)
    unit = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    x, log_weight, log_z = start(twist, 3.0, unit)
    basis, weight, pull, constant = twist.form(3.0)
    v, weight, pull = basis.v.numpy(), weight.numpy(), pull.numpy()
    # Of the other two the noisy prior is taken as that of an x of unit variance.
    mean, noisy = (MEAN, ROOT @ ROOT.T + 9 * np.eye(3)) if tempering == "gaussian" else (np.zeros(3), 10 * np.eye(3))
    precision = v * weight @ v.T + np.linalg.inv(noisy)
    side = v @ pull + np.linalg.solve(noisy, mean)
    np.testing.assert_allclose(x[0], np.linalg.solve(precision, side))
    root = (x[1:] - x[0]).T.numpy()
    np.testing.assert_allclose(root @ root.T, np.linalg.inv(precision), atol=1e-9)
    by_parts = 0.5 * (side @ np.linalg.solve(precision, side) - mean @ np.linalg.solve(noisy, mean))
    by_parts -= 0.5 * np.linalg.slogdet(precision @ noisy)[1]
    assert log_z == pytest.approx(by_parts - constant)
    assert log_weight is not None


def test_moments_of_a_mixture_and_of_few_draws():
    twin = lecture()
    mean, covariance = twin.denoiser.moments()
    x = twin.prior(0.0).sample(np.random.default_rng(0), 200_000)
    assert float(mean[0]) == pytest.approx(x.mean(), abs=0.02)
    assert float(covariance[0, 0]) == pytest.approx(x.var(), rel=0.02)
    # Of 60 draws in 40 dimensions the shrunk covariance is nearer to the truth, and keeps the trace.
    truth = torch.diag(torch.linspace(0.2, 2.0, 40, dtype=torch.float64))
    draws = torch.randn(60, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ truth.sqrt()
    sample = draws.T.cov()
    found = shrunk(sample, 60)
    assert float(found.trace()) == pytest.approx(float(sample.trace()))
    assert float((found - truth).norm()) < 0.6 * float((sample - truth).norm())


def test_laplacian_by_probes():
    twin = Twin([1.0], [[0.0] * 3], [np.eye(3)], WIDE)
    explicit, exact = Tempered(twin.denoiser, WIDE, None), quadratic(twin)
    x, probes = torch.zeros(4000, 3, dtype=torch.float64), normals(4000, 3)("")
    found = explicit.laplacian(x, 1.0, probes)
    trace = float((WIDE.h**2).sum())
    assert float(exact.laplacian(x, 1.0, probes)[0]) == pytest.approx(trace)
    assert float(found.mean()) == pytest.approx(trace, abs=4 * float(found.std()) / math.sqrt(4000))


def test_rate_at_half_is_the_flows_share():
    twin = lecture()
    look = quadratic(twin).look(twin.start(1.0, 20), 1.0)
    moved = kernels.flow(look.x, look.mean, 1.0, 0.9) - look.x
    half = kernels.log_rate(look, moved, 1.0, 0.5, 0.2, 1e9, 0.0)
    torch.testing.assert_close(half, -kernels.dot(moved, look.slope))
    score = look.mean - look.x
    whole = kernels.log_rate(look, moved, 1.0, 1.0, 0.2, 3.0, 0.0)
    extra = 0.1 * ((look.slope**2).sum(1) - 3.0 - (score * look.slope).sum(1))
    torch.testing.assert_close(whole, half + extra)


def test_the_dead_stay_dead_and_are_counted():
    twin = lecture()

    class Fails(Line):
        def gradient(self, z):
            mu, slope = super().gradient(z)
            bad = z[:, 0] > 1.0
            return torch.where(bad, torch.inf, mu), torch.where(bad[:, None], 0.0, slope)

    line = Fails([[1.0]], 0.5, 0.8)
    line.potential = lambda z: line.gradient(z)[0]
    x = twin.start(0.5, 400)
    found = run(twin, Tempered(twin.denoiser, line, None), Scheme(**FREE), x, SCHEDULE.times(10, 0.5))
    dead = ~np.isfinite(found.log_weight)
    assert found.died == dead.sum() > 20
    assert dead[x[:, 0].numpy() > 1.3].all()
    assert np.isfinite(found.log_evidence)
    again = run(twin, Tempered(twin.denoiser, line, None), Scheme(resample_below=0.95), x, SCHEDULE.times(10, 0.5))
    assert again.resamplings
    assert np.isfinite(again.log_weight).sum() > 380


def test_a_population_of_the_dead_ends():
    twin = lecture()

    class Never(Line):
        def gradient(self, z):
            return torch.full((len(z),), torch.inf, dtype=torch.float64), torch.zeros_like(z)

        def potential(self, z):
            return self.gradient(z)[0]

    twist = Tempered(twin.denoiser, Never([[1.0]], 0.5, 0.8), None)
    found = run(twin, twist, Scheme(), twin.start(0.5, 10), SCHEDULE.times(10, 0.5))
    assert found.died == 10
    assert found.log_evidence == -math.inf


def test_a_gradient_that_is_not_a_number_kills_its_particle():
    twin = lecture()

    class Broken:
        schedule = SCHEDULE

        def vjp(self, x, t):
            return x, lambda cotangent: torch.where(x > 0.5, torch.nan, cotangent)

    twist = Tweedie(Broken(), twin.line, 0.0)
    look = twist.look(tensor([[0.0], [1.0]]), 0.5)
    assert look.phi.isfinite().tolist() == [True, False]
    assert look.slope[1] == 0


def steered(twin, scheme, n, levels, seed=0, inflation=2.5):
    """From p_t, exactly, weighted by the twist."""
    twist, first = Tweedie(twin.denoiser, twin.line, inflation), 5.0
    x = tensor(twin.prior(first).sample(np.random.default_rng(seed), n))
    return run(twin, twist, scheme, x, SCHEDULE.times(levels, first), seed, equal=False)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_twisted_particles_have_the_exact_posterior(eta):
    """TDS, and steering by the prior's steps alone: SMC whose error is that of the prior's discretised steps."""
    twin = plane()
    found = steered(twin, Scheme(eta=eta, weights="path"), 4000, 60)
    mean, covariance = moments(found)
    assert found.ess[-1] > (0.3 if eta else 0.05)
    np.testing.assert_allclose(mean, [1.190265, -0.150442], atol=0.09)
    np.testing.assert_allclose(covariance, [[0.252212, -0.320354], [-0.320354, 0.867257]], rtol=0.25)
    assert found.log_evidence + twin.line.constant == pytest.approx(-1.645205, abs=0.12)


def test_steering_without_the_ratio_is_biased():
    """Guided twice, by the drift and by the weights: the seen direction is too narrow."""
    twin = plane()
    seen = twin.line.matrix[0]
    exact = seen @ np.array([[0.252212, -0.320354], [-0.320354, 0.867257]]) @ seen
    widths = []
    for ratio in (True, False):
        _, covariance = moments(steered(twin, Scheme(eta=1.0, weights="path", ratio=ratio), 4000, 60))
        widths.append(seen @ covariance @ seen / exact)
    assert widths[0] == pytest.approx(1, abs=0.2)
    assert widths[1] < 0.8


def test_what_needs_no_gradient():
    assert not Scheme(eta=0.0, weights="path").needs_slope(False)
    assert not Scheme().needs_slope(True)
    assert Scheme().needs_slope(False)
    assert Scheme(eta=1.0).needs_slope(True)
    assert Scheme(stochastic=False, corrector_steps=1).needs_slope(False)


def test_step_of_a_known_point_is_the_posterior_of_the_noise():
    """Without Phi: x_s given x_t and x_0 (Ho et al. 2020, eq. 7), in the variance-exploding clock."""
    x, mean, t, s = tensor([[2.0]]), tensor([[0.3]]), 1.5, 0.6
    centre, variance = kernels.diffuse(kernels.flow(x, mean, t, s), mean, s, math.log(t / s))
    beta = t**2 - s**2
    torch.testing.assert_close(centre, (s**2 * x + beta * mean) / t**2)
    assert variance == pytest.approx(beta * s**2 / t**2)
    assert all(Scheme().time(a, b) >= 0 for a, b in pairwise(SCHEDULE.times(10)))
