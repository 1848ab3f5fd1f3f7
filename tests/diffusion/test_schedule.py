import numpy as np
import pytest
import torch

from pullback.diffusion.schedule import Ddpm, FlowMatching, VarianceExploding

torch.set_num_threads(1)


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [50, 1000])
def test_ddpm_goes_from_pure_signal_to_pure_noise(name, steps):
    schedule = Ddpm(name, steps)
    assert len(schedule.alpha) == steps + 1
    assert schedule(0.0)[0] == 1
    assert schedule(1.0) == (0, 1)
    assert (np.diff(schedule.alpha) < 0).all()
    np.testing.assert_allclose(schedule.alpha**2 + schedule.sigma**2, 1, rtol=0, atol=1e-12)


def test_the_published_ddpm_leaves_signal_at_its_end():
    # Facts: abar_T = 0.364 at T = 100, 0.0064 at 500, 4e-5 at 1000, so that 0.60 of the signal is left at T = 100.
    for steps, abar, tolerance in ((100, 0.364, 5e-4), (500, 0.0064, 5e-5), (1000, 4e-5, 5e-6)):
        assert Ddpm("paper", steps)(1.0)[0] ** 2 == pytest.approx(abar, abs=tolerance)


@pytest.mark.parametrize("schedule", [FlowMatching(), Ddpm("cosine", 40), Ddpm("linear", 40), VarianceExploding()])
def test_numbers_and_tensors_of_times_have_the_same_levels_and_noise_falls(schedule):
    times = schedule.times(20)
    assert len(times) == 21
    levels = np.array([schedule(t) for t in times])
    for found, wanted in zip(schedule(torch.tensor(times, dtype=torch.float64)), levels.T, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert (np.diff(levels[:, 1] / np.maximum(levels[:, 0], 1e-9)) < 0).all()
    assert levels[-1].tolist() == [1, 0]


@pytest.mark.parametrize("schedule", [FlowMatching(), VarianceExploding()])
def test_rates_are_derivatives(schedule):
    h = 1e-6
    wanted = (np.array(schedule(0.4 + h)) - np.array(schedule(0.4 - h))) / (2 * h)
    np.testing.assert_allclose(schedule.rate(0.4), wanted, atol=1e-8)
    with pytest.raises(NotImplementedError, match="Ddpm is a table"):
        Ddpm("cosine", 10).rate(0.4)


def test_times_of_a_table():
    assert Ddpm("cosine", 1000).times(4) == [1, 0.75, 0.5, 0.25, 0]
    assert Ddpm("cosine", 10).times(50) == [i / 10 for i in range(10, -1, -1)]
    u = torch.tensor([0.0, 0.05, 0.25, 0.999999])
    torch.testing.assert_close(Ddpm("cosine", 10).training_times(u), torch.tensor([0.1, 0.1, 0.3, 1.0]))


def test_levels_of_edm():
    schedule = VarianceExploding(0.002, 80.0)
    grid = schedule.times(5)
    assert len(grid) == 6
    assert grid[0] == 80.0
    assert grid[4] == 0.002
    assert grid[5] == 0.0
    # Equal steps in sigma^(1/7) (Karras et al., eq. 5).
    assert np.diff([s ** (1 / 7) for s in grid[:5]]) == pytest.approx([(0.002 ** (1 / 7) - 80 ** (1 / 7)) / 4] * 4)
    assert schedule.times(1, 3.0) == [3.0, 0.0]
    assert schedule.times(3, 3.0)[::2] == [3.0, 0.002]
