import math

import pytest
import torch

from pullback.diffusion.flow import SOLVERS, dopri5, interpolate

torch.set_num_threads(1)

ORDERS = {"euler": 1, "midpoint": 2, "heun": 2}


def test_path_goes_from_noise_to_data_at_constant_velocity():
    x0, x1 = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start, velocity = interpolate(x0, x1, torch.zeros(4, dtype=torch.float64))
    end, _ = interpolate(x0, x1, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(start, x0)
    torch.testing.assert_close(end, x1)
    t = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64)
    moved, _ = interpolate(x0, x1, t + 1e-3)
    torch.testing.assert_close((moved - interpolate(x0, x1, t)[0]) / 1e-3, velocity, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SOLVERS)
def test_convergence_order(name):
    # dx/dt = (1 + t) x has x(1) = x(0) exp(3 / 2).
    x = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    exact = x * math.exp(1.5)
    errors = [(SOLVERS[name](lambda x, t: x * (1 + t)[:, None], x, steps) - exact).abs().max() for steps in (40, 80)]
    # One halving of the step at h = 1/40 shows the order to about h.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[name], abs=0.1)


@pytest.mark.parametrize("name", SOLVERS)
def test_calls_of_the_velocity(name):
    times = []

    def velocity(x, t):
        assert t.shape == (1,)
        times.append(float(t[0]))
        return torch.zeros_like(x)

    SOLVERS[name](velocity, torch.zeros(3, 2), 5)
    assert len(times) == 5 * ORDERS[name]
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

        found = dopri5(velocity, x, tolerance)
        # The tolerance holds in each of a few steps, and errors grow by at most exp(3 / 2) on the way.
        assert (found - x * math.exp(1.5)).abs().max() < 20 * tolerance + 1e-6
        calls[tolerance] = len(times)
    assert 6 <= calls[1e-3] < calls[1e-6] < 200


def gaussian():
    mean = torch.tensor([1.0, -0.5], dtype=torch.float64)
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.float64)

    def velocity(x, t):
        # E[x_1 - x_0 | x_t] of jointly Gaussian (x_1 - x_0, x_t).
        s = t[:, None, None]
        eye = torch.eye(2, dtype=torch.float64)
        total = (1 - s) ** 2 * eye + s**2 * covariance
        gain = (s * covariance - (1 - s) * eye) @ torch.linalg.inv(total)
        return mean + (gain @ (x - t[:, None] * mean)[:, :, None])[:, :, 0]

    return mean, covariance, velocity


@pytest.mark.parametrize("name", SOLVERS)
def test_flow_carries_noise_to_a_gaussian(name):
    mean, covariance, velocity = gaussian()
    # Eight points with mean exactly 0 and covariance exactly I: the flow of a Gaussian is linear, so theirs must
    # come out exactly up to the solver's error.
    noise = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = noise - noise.mean(dim=0)
    noise = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T @ noise / 8)).T
    steps = 400
    x = SOLVERS[name](velocity, noise, steps)
    atol = 3 / steps if name == "euler" else 30 / steps**2
    torch.testing.assert_close(x.mean(dim=0), mean, rtol=0, atol=atol)
    torch.testing.assert_close((x - mean).T @ (x - mean) / 8, covariance, rtol=0, atol=atol)


def test_least_squares_velocity_is_the_flow():
    # What a network that regresses on the target learns at a time t, by linear regression on samples of the path.
    mean, covariance, velocity = gaussian()
    generator = torch.Generator().manual_seed(1)
    n = 200_000
    x0, z = torch.randn(2, n, 2, generator=generator, dtype=torch.float64)
    x1 = mean + z @ torch.linalg.cholesky(covariance).T
    t = torch.full((n,), 0.7, dtype=torch.float64)
    x_t, target = interpolate(x0, x1, t)
    design = torch.cat([x_t, torch.ones(n, 1, dtype=torch.float64)], dim=1)
    fitted = torch.linalg.lstsq(design, target).solution
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    learned = torch.cat([points, torch.ones(3, 1, dtype=torch.float64)], dim=1) @ fitted
    # Standard error of a coefficient: residual sd (< 2) / (sd of x_t (> 0.4) * sqrt(n)) = 0.011; 4 of them.
    torch.testing.assert_close(learned, velocity(points, t[:3]), rtol=0, atol=0.045)
