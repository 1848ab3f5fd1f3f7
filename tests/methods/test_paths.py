from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pullback.diffusion.schedule import FlowMatching
from pullback.diffusion.share import Noise, Share
from pullback.methods.amortised.conditional_net import path_loss
from pullback.methods.amortised.paths import DirectPath, ddpm_path, flow_path, spread_times
from pullback.methods.amortised.spec import DdpmInfer, FlowInfer
from pullback.study.kinds import PointInfer

torch.set_num_threads(1)


def noise(sets=3, seed=0):
    return Noise(seed, Share(sets))


def test_times_are_uniform_and_evenly_spread_in_a_set():
    x = torch.zeros(3, 100, 2)
    t = spread_times(noise(), x)
    assert t.shape == (3, 100)
    assert ((t >= 0) & (t < 1)).all()
    for row in t:
        np.testing.assert_allclose(np.diff(np.sort(row.numpy())), 0.01, atol=1e-5)
    firsts = np.array([float(spread_times(noise(1, seed), x[:1])[0, 0]) for seed in range(400)])
    # Uniform: mean 1/2 and variance 1/12, with the errors of 400 draws.
    assert firsts.mean() == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / 400))
    assert firsts.var() == pytest.approx(1 / 12, rel=0.3)


@pytest.mark.parametrize("path", [flow_path(), ddpm_path("cosine", 50), ddpm_path("linear", 50)])
def test_the_ends_of_a_path_are_noise_and_data(path):
    x = torch.randn(3, 2000, 2, generator=torch.Generator().manual_seed(1)) * 3 + 5
    x_t, t, target = path.point(x, x, noise())
    assert x_t.shape == target.shape == x.shape
    flow = isinstance(path.schedule, FlowMatching)
    near_data = t > 0.98 if flow else t < 0.03
    near_noise = t < 0.02 if flow else t > 0.99
    # At the data's end the distance is of the noise's share, at the other end nothing of the data's mean is left.
    assert (x_t - x)[near_data].abs().mean() < 0.2
    assert abs(float(x_t[near_noise].mean())) < 0.3


def test_a_perfect_network_brings_every_path_to_the_data():
    """All data at one point: velocity, v and the regression are known."""
    point = torch.tensor([2.0, -1.0])
    start = torch.randn(64, 2, generator=torch.Generator().manual_seed(2))
    infer = FlowInfer(solver="euler", steps=10)
    flow = flow_path().sample(lambda x, t: (point - x) / (1 - t), start, start, infer, None)
    torch.testing.assert_close(flow, point.expand(64, 2), rtol=0, atol=1e-5)
    path = ddpm_path("cosine", 40)

    def v(x, t):
        a, s = path.schedule(float(t))
        return a * (x - a * point) / s - s * point

    for sampler in ("ddim", "ancestral"):
        found = path.sample(v, start, start, DdpmInfer(sampler=sampler, steps=40), lambda i: torch.randn(64, 2))
        torch.testing.assert_close(found, point.expand(64, 2), rtol=0, atol=1e-4)
    direct = DirectPath()
    x = torch.randn(3, 5, 2)
    at, t, target = direct.point(x, x, noise())
    assert (at == 0).all()
    assert (t == 0).all()
    assert target is x
    assert (direct.sample(lambda x, t: x + point, start, start, PointInfer(), None) == point).all()


def test_a_path_may_begin_at_the_observation():
    """A bridge x_t = (1 - t) y + t x, through the loss: for x = 2 y the network that gives y is without error."""

    class Bridge:
        def point(self, x, y, noise):
            t = spread_times(noise, x)
            return (1 - t[..., None]) * y + t[..., None] * x, t, x - y

    network = SimpleNamespace(
        normalises_rows=False,
        purity=None,
        context=lambda sets: None,
        network=lambda x, t, y, c: x / (1 + t[:, None]),
    )
    y = torch.randn(3, 7, 2, generator=torch.Generator().manual_seed(0))
    sets = {"x": 2 * y, "y": y, "mask": torch.ones(3, 7, dtype=torch.bool)}
    total, count = path_loss(network, Bridge(), sets, noise(), 5)
    assert float(total) < 1e-10
    assert float(count) == 15
