import math
from itertools import repeat

import numpy as np
import pytest
import torch

from pullback.diffusion.denoiser import Denoiser, NetworkDenoiser
from pullback.diffusion.exact import GaussianDenoiser
from pullback.diffusion.sampler import Ancestral, Dopri5, Euler, Heun, Midpoint
from pullback.diffusion.schedule import Ddpm, FlowMatching, VarianceExploding

torch.set_num_threads(1)

ORDERS = {Euler: 1, Midpoint: 2, Heun: 2}
FLOW, EDM = FlowMatching(), VarianceExploding()
SCHEDULES = {"flow": FLOW, "edm": EDM, "cosine": Ddpm("cosine", 2000), "linear": Ddpm("linear", 2000)}
MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.float64)


def flow_of(velocity):
    return NetworkDenoiser(velocity, FLOW, "velocity")


def whitened(n=8):
    """Points with mean exactly 0 and covariance exactly I: a linear map of them shows its covariance without noise."""
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = noise - noise.mean(dim=0)
    return noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T @ noise / n)).T


def distance(x):
    """Of the mean and covariance of points from those of the Gaussian."""
    gap = x - x.mean(dim=0)
    return max(float((x.mean(dim=0) - MEAN).abs().max()), float((gap.T @ gap / len(x) - COVARIANCE).abs().max()))


# One Gaussian, three schedules


@pytest.mark.parametrize("sampler", ORDERS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_carries_noise_to_the_same_gaussian(name, sampler):
    """The exact flow of a Gaussian is linear in x; solvers reach it at their order in every parameterisation."""
    schedule = SCHEDULES[name]
    denoiser = GaussianDenoiser(MEAN, COVARIANCE, schedule)
    # From x at the first time, exactly: at sigma = 80 something is left of the data.
    alpha, sigma = schedule(schedule.times(2)[0])
    start = alpha * MEAN + whitened() @ torch.linalg.cholesky(alpha**2 * COVARIANCE + sigma**2 * torch.eye(2)).T
    errors = [distance(sampler(denoiser)(start, schedule.times(steps))) for steps in (100, 200)]
    assert errors[1] < {1: 0.03, 2: 0.001}[ORDERS[sampler]]
    # The midpoint rule is of order 3 in these moments of a flow; sigma of ``linear`` rises as sqrt(t), which is not
    # smooth at the data's end.
    assert math.log2(errors[0] / errors[1]) > (1 if name == "linear" else ORDERS[sampler]) - 0.3


def test_one_euler_step_is_the_same_step_in_every_schedule():
    """With x scaled to alpha = 1, a step between equal signal-to-noise ratios is the step of EDM."""
    x = whitened()
    wanted = Euler(GaussianDenoiser(MEAN, COVARIANCE, EDM)).step(x, 1.5, 0.25)
    flow = [1 / (1 + sigma) for sigma in (1.5, 0.25)]
    found = Euler(GaussianDenoiser(MEAN, COVARIANCE, FLOW)).step(flow[0] * x, *flow) / flow[1]
    torch.testing.assert_close(found, wanted)
    table = Ddpm("cosine", 1000)
    t, s = 0.626, 0.156
    ratios = [table(at)[1] / table(at)[0] for at in (t, s)]
    wanted = Euler(GaussianDenoiser(MEAN, COVARIANCE, EDM)).step(x, *ratios)
    found = Euler(GaussianDenoiser(MEAN, COVARIANCE, table)).step(table(t)[0] * x, t, s) / table(s)[0]
    torch.testing.assert_close(found, wanted)


def test_a_denoiser_can_be_wrapped_and_says_where_its_noise_ends():
    """Heun's last step to sigma = 0 of a denoiser that gives means alone is Euler's."""

    class Shifted(Denoiser):
        schedule = EDM

        def __call__(self, x, t):
            return GaussianDenoiser(MEAN, COVARIANCE, EDM)(x, t) + 1

    x = whitened()
    torch.testing.assert_close(Heun(Shifted()).step(x, 0.3, 0.0), Shifted()(x, 0.3))


@pytest.mark.parametrize("schedule", [FLOW, EDM], ids=["flow", "edm"])
def test_guidance_by_the_derivative_of_the_denoiser_gives_the_posterior(schedule):
    """E[x_0 | x_t, y] = E[x_0 | x_t] + sigma^2 / alpha d log p(y | x_t) / d x_t, in closed form for y = g x + noise."""
    g, noise, y = torch.tensor([1.0, -2.0], dtype=torch.float64), 0.5, 0.7

    class Guided(Denoiser):
        def __init__(self, prior):
            self.prior, self.schedule = prior, prior.schedule

        def __call__(self, x, t):
            alpha, sigma = self.schedule(t)
            mean, pull = self.prior.vjp(x, t)
            # J = alpha / sigma^2 Cov(x_0 | x_t), so that p(y | x_t) = N(g mean, sigma^2 / alpha g J g + noise^2).
            variance = sigma**2 / alpha * (pull(g.expand_as(x)) @ g) + noise**2
            return mean + sigma**2 / alpha * pull(((y - mean @ g) / variance)[:, None] * g)

    gain = COVARIANCE @ g / (g @ COVARIANCE @ g + noise**2)
    mean = MEAN + gain * (y - g @ MEAN)
    covariance = COVARIANCE - torch.outer(gain, g @ COVARIANCE)
    times = [0.001, *schedule.times(400)[1:]] if schedule is FLOW else schedule.times(400)
    # From x_t given y at the first time, exactly.
    alpha, sigma = schedule(times[0])
    start = alpha * mean + whitened() @ torch.linalg.cholesky(alpha**2 * covariance + sigma**2 * torch.eye(2)).T
    x = Heun(Guided(GaussianDenoiser(MEAN, COVARIANCE, schedule)))(start, times)
    gap = x - x.mean(dim=0)
    torch.testing.assert_close(x.mean(dim=0), mean, rtol=0, atol=1e-3)
    torch.testing.assert_close(gap.T @ gap / len(x), covariance, rtol=0, atol=1e-3)


def test_transcriptions():
    """Each against its formula as it is published, with a network that is no exact denoiser."""

    def network(x, t):
        return torch.sin(3 * x + t[:, None])

    x = whitened()
    v = network(x, torch.tensor([0.3]))
    torch.testing.assert_close(Euler(flow_of(network)).step(x, 0.3, 0.5), x + 0.2 * v)
    half = network(x + 0.1 * v, torch.tensor([0.4]))
    torch.testing.assert_close(Midpoint(flow_of(network)).step(x, 0.3, 0.5), x + 0.2 * half)
    ahead = network(x + 0.2 * v, torch.tensor([0.5]))
    torch.testing.assert_close(Heun(flow_of(network)).step(x, 0.3, 0.5), x + 0.1 * (v + ahead))
    # Ho et al. 2020, algorithm 2, from t = 5 to 4 of 10: 1 / sqrt(a) (x - (1 - a) / sqrt(1 - abar) eps) + sigma z.
    table, z = Ddpm("paper", 10), whitened()[:, [1, 0]]
    a, abar, before = (table.alpha[5] / table.alpha[4]) ** 2, table.alpha[5] ** 2, table.alpha[4] ** 2
    eps = network(x, torch.tensor([0.5]))
    mean = (x - (1 - a) / math.sqrt(1 - abar) * eps) / math.sqrt(a)
    denoiser = NetworkDenoiser(network, table, "noise")
    for wide, variance in ((True, 1 - a), (False, (1 - a) * (1 - before) / (1 - abar))):
        found = Ancestral(denoiser, repeat(z), wide).step(x, 0.5, 0.4)
        torch.testing.assert_close(found, mean + math.sqrt(variance) * z)


# Flows


@pytest.mark.parametrize("sampler", ORDERS)
def test_convergence_order(sampler):
    # dx/dt = (1 + t) x has x(1) = x(0) exp(3 / 2).
    x = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    exact = x * math.exp(1.5)
    flow = flow_of(lambda x, t: x * (1 + t)[:, None])
    errors = [(sampler(flow)(x, FLOW.times(steps)) - exact).abs().max() for steps in (40, 80)]
    # One halving of the step at h = 1/40 shows the order to about h.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[sampler], abs=0.1)


@pytest.mark.parametrize("sampler", ORDERS)
def test_calls_of_the_network(sampler):
    times = []

    def velocity(x, t):
        assert t.shape == (1,)
        times.append(float(t[0]))
        return torch.zeros_like(x)

    sampler(flow_of(velocity))(torch.zeros(3, 2), FLOW.times(5))
    assert len(times) == 5 * ORDERS[sampler]
    assert times[0] == 0
    assert max(times) <= 1


def test_the_adaptive_solver_keeps_its_tolerance_and_calls_as_it_needs():
    x = torch.tensor([[1.0], [-2.0]])
    calls = {}
    for tolerance in (1e-3, 1e-6):
        times = []

        def velocity(x, t, times=times):
            times.append(float(t[0]))
            return x * (1 + t)[:, None]

        found = Dopri5(flow_of(velocity), tolerance)(x, FLOW.times(1))
        # The tolerance holds in each of a few steps, and errors grow by at most exp(3 / 2) on the way.
        assert (found - x * math.exp(1.5)).abs().max() < 20 * tolerance + 1e-6
        calls[tolerance] = len(times)
    assert 6 <= calls[1e-3] < calls[1e-6] < 200


def test_the_adaptive_solver_of_other_schedules():
    start = whitened().float()
    for schedule, times in ((FLOW, [0.0, 1.0]), (EDM, [80.0, 0.002])):
        denoiser = GaussianDenoiser(MEAN.float(), COVARIANCE.float(), schedule)
        found = Dopri5(denoiser, 1e-5)(start * schedule(times[0])[1], [times[0], min(times[1], 0.999)])
        assert distance(found.double()) < 0.015


def test_least_squares_velocity_is_the_flow():
    # What a network that regresses on x_0 - n learns at a time t, by linear regression on samples of the path.
    generator = torch.Generator().manual_seed(1)
    n = 200_000
    noise, z = torch.randn(2, n, 2, generator=generator, dtype=torch.float64)
    x = MEAN + z @ torch.linalg.cholesky(COVARIANCE).T
    t = 0.7
    design = torch.cat([t * x + (1 - t) * noise, torch.ones(n, 1, dtype=torch.float64)], dim=1)
    fitted = torch.linalg.lstsq(design, x - noise).solution
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    learned = torch.cat([points, torch.ones(3, 1, dtype=torch.float64)], dim=1) @ fitted
    mean, of_noise = GaussianDenoiser(MEAN, COVARIANCE, FLOW).split(points, t)
    # Standard error of a coefficient: residual sd (< 2) / (sd of x_t (> 0.4) * sqrt(n)) = 0.011; 4 of them.
    torch.testing.assert_close(learned, mean - of_noise, rtol=0, atol=0.045)


# DDPM


def one(schedule):
    return GaussianDenoiser(
        torch.tensor([0.7], dtype=torch.float64), torch.tensor([[0.25]], dtype=torch.float64), schedule
    )


def test_ancestral_sampling_gives_mean_and_variance_of_the_data():
    schedule = Ddpm("cosine", 200)
    generator = torch.Generator().manual_seed(1)
    n = 100_000

    def normals():
        while True:
            yield torch.randn(n, 1, generator=generator, dtype=torch.float64)

    steps = normals()
    x = Ancestral(one(schedule), steps)(next(steps), schedule.times(200))
    # Every step is exact for the mean; the estimate of x_0 in place of a draw of it loses variance of order 1 / T.
    assert float(x.mean()) == pytest.approx(0.7, abs=4 * 0.5 / math.sqrt(n))
    assert float(x.var()) == pytest.approx(0.25, rel=4 * math.sqrt(2 / n) + 3 / 200)


def test_the_published_reproduction_is_biased_and_says_so_in_numbers():
    """Starting from pure noise where 0.60 of the signal should be left: the mean comes out short."""
    schedule = Ddpm("paper", 100)
    found = Euler(one(schedule))(torch.zeros(1, 1, dtype=torch.float64), schedule.times(100))
    assert float(found) < 0.9 * 0.7


def test_ddim_calls_the_network_once_a_step():
    calls = []

    def predict(x, t):
        calls.append(float(t))
        return torch.zeros_like(x)

    schedule = Ddpm("cosine", 1000)
    Euler(NetworkDenoiser(predict, schedule, "v"))(torch.zeros(2, 1), schedule.times(7))
    np.testing.assert_allclose(calls, [1, 0.857, 0.714, 0.571, 0.429, 0.286, 0.143], atol=1e-3)
