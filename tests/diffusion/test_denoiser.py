import math
from itertools import product

import numpy as np
import pytest
import torch

from pullback.diffusion.denoiser import EdmDenoiser, NetworkDenoiser, edm_loss, noised
from pullback.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from pullback.diffusion.schedule import Ddpm, FlowMatching, VarianceExploding

torch.set_num_threads(1)

MEAN = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)
FACTOR = torch.tensor([[1.0, 0.0, 0.0], [0.4, 0.5, 0.0], [-0.3, 0.2, 0.1]], dtype=torch.float64)
COVARIANCE = FACTOR @ FACTOR.T
EDM = VarianceExploding()
SCHEDULES = {"flow": FlowMatching(), "cosine": Ddpm("cosine", 20), "paper": Ddpm("paper", 20), "edm": EDM}
TIMES = {"flow": [0.1, 0.5, 0.95], "cosine": [0.05, 0.5, 0.95], "paper": [0.05, 0.5, 1.0], "edm": [0.01, 1.0, 70.0]}
PREDICTIONS = {
    "flow": ("mean", "noise", "v", "velocity"),
    "cosine": ("mean", "noise", "v"),
    "paper": ("mean", "noise", "v"),
    "edm": ("mean", "noise", "v"),
}


def normals(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Predictions


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_prediction_gives_back_data_and_noise(name):
    x, n = normals(2, 3, 4)
    t = torch.tensor(TIMES[name], dtype=torch.float64)
    for predicts in PREDICTIONS[name]:
        x_t, target = noised(SCHEDULES[name], predicts, x, n, t)
        denoiser = NetworkDenoiser(lambda x, t, target=target: target, SCHEDULES[name], predicts)
        for found, wanted in zip(denoiser.split(x_t, t), (x, n), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
        # One time for all rows.
        one = NetworkDenoiser(lambda x, t, target=target: target[1:2], SCHEDULES[name], predicts)
        torch.testing.assert_close(one(x_t[1:2], TIMES[name][1]), x[1:2], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_there_and_back_between_predictions_is_the_identity(name):
    schedule, (predicted, x_t) = SCHEDULES[name], normals(2, 3, 4, seed=1)
    t = torch.tensor(TIMES[name], dtype=torch.float64)

    def converted(p, old, new):
        mean, noise = NetworkDenoiser(lambda x, t: p, schedule, old).split(x_t, t)
        return noised(schedule, new, mean, noise, t)[1]

    for old, new in product(PREDICTIONS[name], repeat=2):
        back = converted(converted(predicted, old, new), new, old)
        torch.testing.assert_close(back, predicted, rtol=1e-8, atol=1e-8)


def test_predictions_are_defined_where_there_is_no_signal_and_where_there_is_no_noise():
    x, n = normals(2, 2, 4)
    for schedule, predicts, ends in ((FlowMatching(), "velocity", [0.0, 1.0]), (Ddpm("cosine", 9), "v", [1.0, 0.0])):
        t = torch.tensor(ends, dtype=torch.float64)
        x_t, target = noised(schedule, predicts, x, n, t)
        torch.testing.assert_close(x_t, torch.stack([n[0], x[1]]))
        denoiser = NetworkDenoiser(lambda x, t, target=target: target, schedule, predicts)
        torch.testing.assert_close(torch.stack(denoiser.split(x_t, t)), torch.stack([x, n]))


def test_the_target_of_a_flow_is_the_derivative_of_its_path():
    x, n = normals(2, 4, 3, 5)
    t = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64)
    (before, velocity), (after, _) = (noised(FlowMatching(), "velocity", x, n, t + h) for h in (0, 1e-3))
    torch.testing.assert_close((after - before) / 1e-3, velocity, rtol=0, atol=1e-9)


# EDM


class ExactNetwork(torch.nn.Module):
    """The F of a known denoiser, from what it is given: its input scaled to unit variance and log(sigma) / 4."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, u, t, y, context):
        sigma = (4 * t).exp()[:, None]
        total = (sigma**2 + 1).sqrt()
        x = u * total
        return (self.denoiser(x, sigma[:, 0]) - x / total**2) / (sigma / total)


def test_preconditioning_around_an_exact_network():
    exact = GaussianDenoiser(MEAN, COVARIANCE, EDM)
    x = normals(7, 3) * 3
    sigma = torch.logspace(-2.5, 1.9, 7, dtype=torch.float64)
    wrapped = EdmDenoiser(ExactNetwork(exact), EDM)
    torch.testing.assert_close(wrapped(x, sigma), exact(x, sigma), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(wrapped(x, 0.7), exact(x, 0.7), rtol=1e-9, atol=1e-9)


class Zero(torch.nn.Module):
    def forward(self, u, t, y, context):
        self.input = u
        return torch.zeros_like(u)


def test_without_a_network_it_is_the_denoiser_of_unit_data():
    x = normals(5, 4)
    exact = GaussianDenoiser(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64), EDM)
    torch.testing.assert_close(EdmDenoiser(Zero(), EDM)(x, 2.5), exact(x, 2.5))


def test_loss_of_the_exact_denoiser_is_one_at_every_level():
    # For x ~ N(0, I): lambda Var(x_0 | x_t) = (sigma^2 + 1) / sigma^2 * sigma^2 / (sigma^2 + 1) = 1; the network sees
    # unit variance.
    n, d = 20_000, 8
    zero = Zero()
    x, level, noise = normals(n, d), normals(n, seed=1), normals(n, d, seed=2)
    loss = edm_loss(EdmDenoiser(zero, EDM), x.float(), level.float(), noise.float())
    assert loss.shape == (n,)
    error = math.sqrt(2 / (n * d))
    assert float(loss.mean()) == pytest.approx(1, abs=5 * error)
    assert float(zero.input.var()) == pytest.approx(1, abs=5 * error)
    # Of each row, not only on average: chi-square with d degrees of freedom, variance 2 / d.
    assert float(loss.var()) == pytest.approx(2 / d, rel=0.1)


# Exact denoisers


@pytest.mark.parametrize("name", SCHEDULES)
def test_gaussian_denoiser_is_the_conditional_mean(name):
    denoiser = GaussianDenoiser(MEAN, COVARIANCE, SCHEDULES[name])
    for t in TIMES[name]:
        alpha, sigma = SCHEDULES[name](t)
        x = normals(4, 3, seed=3)
        total = alpha**2 * COVARIANCE + sigma**2 * torch.eye(3)
        wanted = MEAN + alpha * torch.linalg.solve(total, (x - alpha * MEAN).T).T @ COVARIANCE
        torch.testing.assert_close(denoiser(x, t), wanted)
        law = torch.distributions.MultivariateNormal(alpha * MEAN, total)
        torch.testing.assert_close(denoiser.log_density(x, torch.full((4,), t, dtype=torch.float64)), law.log_prob(x))


def mixture(schedule=EDM):
    weights, means, variances = [0.3, 0.7], [-1.0, 2.0], [0.2, 0.5]
    tensors = (torch.tensor(values, dtype=torch.float64) for values in (weights, means, variances))
    w, m, v = tensors
    return MixtureDenoiser(w, m[:, None], v[:, None, None], schedule), list(zip(weights, means, variances, strict=True))


@pytest.mark.parametrize("schedule", [EDM, FlowMatching()])
def test_mixture_denoiser_agrees_with_quadrature(schedule):
    denoiser, parts = mixture(schedule)
    grid = np.linspace(-8, 9, 20_001)
    prior = sum(w * np.exp(-((grid - m) ** 2) / (2 * v)) / math.sqrt(v) for w, m, v in parts)
    for x_t, t in [(-1.5, 0.3), (0.4, 0.9), (3.0, 0.6)]:
        alpha, sigma = schedule(t)
        posterior = prior * np.exp(-((x_t - alpha * grid) ** 2) / (2 * sigma**2))
        found = denoiser(torch.tensor([[x_t]], dtype=torch.float64), t)
        assert float(found) == pytest.approx((grid * posterior).sum() / posterior.sum(), abs=1e-8)


# Derivatives


def test_the_derivative_of_a_gaussian_denoiser_is_its_gain():
    denoiser = GaussianDenoiser(MEAN, COVARIANCE, EDM)
    x, v = normals(2, 4, 3)
    with torch.no_grad():
        mean, pull = denoiser.vjp(x, 0.8)
        found = pull(v)
    torch.testing.assert_close(mean, denoiser(x, 0.8))
    gain = COVARIANCE @ torch.linalg.inv(COVARIANCE + 0.64 * torch.eye(3))
    torch.testing.assert_close(found, v @ gain)


@pytest.mark.parametrize("predicts", ["velocity", "v", "edm", "mixture"])
def test_derivatives_are_those_of_finite_differences(predicts):
    weight = normals(1, 1, seed=5)

    def network(x, t, y=None, context=None):
        return torch.tanh(x * weight + t.reshape(-1, 1))

    class Module(torch.nn.Module):
        forward = staticmethod(network)

    denoiser = {
        "velocity": NetworkDenoiser(network, FlowMatching(), "velocity"),
        "v": NetworkDenoiser(network, Ddpm("cosine", 10), "v"),
        "edm": EdmDenoiser(Module(), EDM),
        "mixture": mixture()[0],
    }[predicts]
    x, h = normals(5, 1, seed=6), 1e-6
    wanted = (denoiser(x + h, 0.6) - denoiser(x - h, 0.6)) / (2 * h)
    _, pull = denoiser.vjp(x, 0.6)
    torch.testing.assert_close(pull(torch.ones_like(x)), wanted, rtol=1e-6, atol=1e-7)
