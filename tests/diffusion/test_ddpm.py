import math

import numpy as np
import pytest
import torch

from pullback.diffusion.ddpm import ancestral, ddim, make_schedule, noised, split, time_grid

torch.set_num_threads(1)

MEAN, STD = 0.7, 0.5


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [50, 1000])
def test_schedules_go_from_pure_signal_to_pure_noise(name, steps):
    schedule = make_schedule(name, steps)
    assert schedule.steps == steps
    assert schedule.a[0] == 1
    assert schedule.a[-1] == 0
    assert (np.diff(schedule.a) < 0).all()
    np.testing.assert_allclose(schedule.a**2 + schedule.s**2, 1, rtol=0, atol=1e-12)


def test_the_published_schedule_leaves_signal_at_its_end():
    # Facts: abar_T = 0.364 at T = 100, 0.0064 at 500, 4e-5 at 1000, so that 0.60 of the signal is left at T = 100.
    for steps, abar, tolerance in ((100, 0.364, 5e-4), (500, 0.0064, 5e-5), (1000, 4e-5, 5e-6)):
        assert make_schedule("paper", steps).a[-1] ** 2 == pytest.approx(abar, abs=tolerance)
    assert make_schedule("paper", 100).predicts == "noise"


@pytest.mark.parametrize("name", ["cosine", "linear", "paper"])
def test_what_is_predicted_gives_back_data_and_noise(name):
    schedule = make_schedule(name, 20)
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    t = torch.tensor([1, 4, 9, 13, 19, 20])
    x_t, target = noised(schedule, x, noise, t)
    for row, time in enumerate(t.tolist()):
        clean, n = split(schedule, x_t[row], time, target[row])
        torch.testing.assert_close(clean, x[row], rtol=0, atol=1e-9)
        torch.testing.assert_close(n, noise[row], rtol=0, atol=1e-9)


def exact(schedule):
    """The best prediction for x_0 ~ N(MEAN, STD^2), a linear function of x_t."""

    def predict(x, t):
        step = round(float(t) * schedule.steps)
        a, s = schedule.a[step], schedule.s[step]
        clean = MEAN + a * STD**2 / (a**2 * STD**2 + s**2) * (x - a * MEAN)
        noise = (x - a * clean) / s
        return a * noise - s * clean if schedule.predicts == "v" else noise

    return predict


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_ddim_carries_noise_to_the_data(name):
    schedule = make_schedule(name, 1000)
    # The map is linear in x: two points give its mean and slope.
    ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    errors = []
    for calls in (50, 200, 1000):
        low, high = ddim(schedule, exact(schedule), ends, time_grid(1000, calls)).flatten().tolist()
        errors.append(max(abs(low - MEAN), abs(high - low - STD)))
    # First order: the error falls with the number of calls, 20 times from 50 to 1000 (a third allowed for).
    assert errors[2] < 2e-3
    assert errors[0] / errors[2] > 20 / 3


def test_ancestral_sampling_gives_mean_and_variance_of_the_data():
    schedule = make_schedule("cosine", 200)
    generator = torch.Generator().manual_seed(1)
    n = 100_000
    start = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    x = ancestral(
        schedule,
        exact(schedule),
        start,
        time_grid(200, 200),
        lambda i: torch.randn(n, 1, generator=generator, dtype=torch.float64),
    )
    # Every step is exact for the mean; the estimate of x_0 in place of a draw of it loses variance of order 1 / T.
    assert float(x.mean()) == pytest.approx(MEAN, abs=4 * STD / math.sqrt(n))
    assert float(x.var()) == pytest.approx(STD**2, rel=4 * math.sqrt(2 / n) + 3 / 200)


def test_the_published_reproduction_is_biased_and_says_so_in_numbers():
    """Starting from pure noise where 0.60 of the signal should be left: the mean comes out short."""
    schedule = make_schedule("paper", 100)
    ends = torch.tensor([[0.0]], dtype=torch.float64)
    found = float(ddim(schedule, exact(schedule), ends, time_grid(100, 100)))
    assert found < 0.9 * MEAN


def test_network_calls_are_the_grid():
    assert time_grid(1000, 4) == [1000, 750, 500, 250, 0]
    assert time_grid(10, 50) == list(range(10, -1, -1))
    calls = []
    schedule = make_schedule("cosine", 1000)

    def predict(x, t):
        calls.append(float(t))
        return torch.zeros_like(x)

    ddim(schedule, predict, torch.zeros(2, 1), time_grid(1000, 7))
    assert len(calls) == 7
    assert calls[0] == 1
