"""Denoisers of other noise processes on the variance-exploding clock, against the exact one of the same prior."""

import math

import numpy as np
import pytest
import torch

from pullback.diffusion.denoiser import NetworkDenoiser, Rescaled, noised
from pullback.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from pullback.diffusion.sampler import Euler
from pullback.diffusion.schedule import DdpmTable, FlowMatching, VarianceExploding, VariancePreserving

torch.set_num_threads(1)

MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)
BETAS = np.linspace(1e-4, 0.02, 1000)
SCHEDULES = {"vp": VariancePreserving(), "ddpm": DdpmTable(BETAS), "flow": FlowMatching(), "ve": VarianceExploding()}
LEVELS = [0.012, 0.3, 1.7, 60.0]


def points(n=6):
    return 3 * torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_and_times_are_inverse(name):
    schedule, levels = SCHEDULES[name], torch.tensor(LEVELS, dtype=torch.float64)
    times = schedule.time_of(levels)
    alpha, sigma = schedule(times)
    torch.testing.assert_close(torch.as_tensor(sigma / alpha), levels, rtol=1e-9, atol=0)
    # Numbers as tensors.
    for i, level in enumerate(LEVELS):
        time = schedule.time_of(level)
        assert time == pytest.approx(float(times[i]), rel=1e-9)
        assert schedule(time) == pytest.approx((float(alpha[i]), float(sigma[i])), rel=1e-9)


def test_the_rates_of_the_preserving_process_are_derivatives():
    schedule, h = VariancePreserving(), 1e-6
    wanted = (np.array(schedule(0.4 + h)) - np.array(schedule(0.4 - h))) / (2 * h)
    np.testing.assert_allclose(schedule.rate(0.4), wanted, atol=1e-8)


def test_a_table_has_the_published_amplitudes():
    table, abar = DdpmTable(BETAS), np.cumprod(1 - BETAS)
    for i in (0, 1, 500, 999):
        assert table(float(i)) == pytest.approx((math.sqrt(abar[i]), math.sqrt(1 - abar[i])), rel=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("predicts", ["exact", "mean", "noise", "v"])
def test_a_rescaled_denoiser_is_the_exact_one_of_the_exploding_process(name, predicts):
    schedule = SCHEDULES[name]
    exact = GaussianDenoiser(MEAN, COVARIANCE, schedule)

    def network(x, t):
        mean, noise = exact.split(x, t)
        return noised(schedule, predicts, mean, noise, t)[1]

    inner = exact if predicts == "exact" else NetworkDenoiser(network, schedule, predicts)
    rescaled = Rescaled(inner, 0.002, 80.0)
    wanted = GaussianDenoiser(MEAN, COVARIANCE, VarianceExploding())
    z = points()
    for level in LEVELS:
        torch.testing.assert_close(rescaled(z, level), wanted(z, level), rtol=1e-6, atol=1e-6)
    levels = torch.tensor([*LEVELS, 0.1, 5.0], dtype=torch.float64)
    torch.testing.assert_close(rescaled(z, levels), wanted(z, levels), rtol=1e-6, atol=1e-6)
    (_, found), (_, pull) = (one.vjp(z, 0.7) for one in (rescaled, wanted))
    torch.testing.assert_close(found(z), pull(z), rtol=1e-6, atol=1e-6)


def test_draws_of_a_preserving_prior_on_the_exploding_clock():
    rescaled = Rescaled(GaussianDenoiser(MEAN, COVARIANCE, VariancePreserving()), 0.002, 80.0)
    n = 4000
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = Euler(rescaled)(80.0 * noise, rescaled.schedule.times(200))
    # Four standard errors of 4000 draws; the map is linear, and Euler's 200 steps widen it by about 1 %.
    torch.testing.assert_close(x.mean(0), MEAN, rtol=0, atol=4 * math.sqrt(2 / n) + 0.01)
    torch.testing.assert_close(torch.cov(x.T), COVARIANCE, rtol=0, atol=4 * 2 * math.sqrt(2 / n) + 0.05)


def test_a_mixture_of_full_covariances_is_weighted_by_its_densities():
    rng = np.random.default_rng(0)
    roots = torch.from_numpy(rng.standard_normal((3, 2, 2)))
    weights, means = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), torch.from_numpy(rng.standard_normal((3, 2)))
    covariances = roots @ roots.mT + 0.1 * torch.eye(2)
    z, schedule = points(), VariancePreserving()
    for t in (0.2, torch.linspace(0.1, 0.9, 6, dtype=torch.float64)):
        found = MixtureDenoiser(weights, means, covariances, schedule)(z, t)
        parts = [GaussianDenoiser(m, c, schedule) for m, c in zip(means, covariances, strict=True)]
        density = weights * torch.stack([part.log_density(z, t).exp() for part in parts], dim=1)
        each = torch.stack([part(z, t) for part in parts], dim=1)
        torch.testing.assert_close(found, (density[..., None] * each).sum(1) / density.sum(1, keepdim=True))
