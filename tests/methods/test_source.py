"""What a source is made of: entropy, sliced distance, first source, learned detector."""

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from pullback.core.context import Context
from pullback.diffusion.settings import Train
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.arrays import ArrayEnsemble
from pullback.ensembles.sets import TrainingData
from pullback.methods.unfolding.source import (
    Observations,
    Source,
    Space,
    anneal,
    directions,
    entropy,
    quantile_tables,
    sliced_distance,
)
from pullback.methods.unfolding.sourcerer import Sourcerer
from pullback.methods.unfolding.sourcerer_spec import SourcererInfer, SourcererSpec, Surrogate
from pullback.networks.settings import Mlp
from pullback.readers.jets import X_FIELD, Y_FIELD

torch.set_num_threads(1)

NETWORK = Mlp(width=16, depth=1)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_entropy_of_a_gaussian(d):
    n, rng = 3000, np.random.default_rng(d)
    root = np.tril(rng.standard_normal((d, d))) + 2 * np.eye(d)
    sample = torch.from_numpy(rng.standard_normal((n, d)) @ root.T)
    exact = 0.5 * d * np.log(2 * np.pi * np.e) + np.log(np.abs(np.linalg.det(root)))
    # log p(x) has variance d / 2, d log r_k about trigamma(4) = 0.28 beside it; bias of four of 3000 neighbours.
    assert float(entropy(sample)) == pytest.approx(exact, abs=4 * np.sqrt((d / 2 + 0.28) / n) + 0.02 * d)
    # Of a sample that is stretched the entropy grows by the logarithm; so does its derivative by the factor.
    factor = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    entropy(factor * sample).backward()
    assert float(factor.grad) == pytest.approx(d, rel=1e-9)


def test_entropy_of_angles_is_that_on_the_line():
    """Uniform on a circle: log 2 pi, though a point is embedded in two dimensions."""
    space = Space(np.array([-np.pi]), np.array([np.pi]), np.array([True]))
    source = Source(*quantile_tables(np.linspace(-3, 3, 100)[:, None]), space, NETWORK)
    angle = torch.from_numpy(np.random.default_rng(0).uniform(-np.pi, np.pi, (3000, 1)))
    error = 4 * np.sqrt(0.28 / 3000) + 0.01
    assert float(entropy(source.embedded(angle), 1)) == pytest.approx(np.log(2 * np.pi), abs=error)


def test_sliced_distance():
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((400, 3)), rng.standard_normal((400, 3)).astype(np.float32)
    lines = directions(5, 3, rng)
    np.testing.assert_allclose(np.linalg.norm(lines, axis=1), 1, rtol=1e-6)

    def distance(sample, seen):
        quantiles = torch.from_numpy(seen.quantiles(lines, 400))
        return float(sliced_distance(torch.from_numpy(sample).float(), torch.from_numpy(lines), quantiles))

    each = [np.mean((np.sort(one @ u) - np.sort(other @ u)) ** 2) for u in lines]
    assert distance(one, Observations.of(other, np.ones(400))) == pytest.approx(np.mean(each), rel=1e-4)
    # Of a shift every projection has the distance of its own shift, W_1 as W_2.
    shifted = (one + np.array([1.0, -2.0, 0.5])).astype(np.float32)
    moved = [wasserstein_distance(one @ u, shifted @ u) ** 2 for u in lines]
    assert distance(one, Observations.of(shifted, np.ones(400))) == pytest.approx(np.mean(moved), rel=1e-4)
    # Events of weight 3 are three events; half a sample is compared with every second quantile.
    thrice = Observations.of(other[:200], np.where(np.arange(200) < 100, 3.0, 1.0))
    repeated = Observations.of(np.concatenate([other[:100]] * 3 + [other[100:200]]), np.ones(400))
    assert thrice.total == repeated.total == 400
    np.testing.assert_array_equal(thrice.quantiles(lines, 400), repeated.quantiles(lines, 400))
    np.testing.assert_array_equal(np.sort(thrice.draw(1000, np.random.default_rng(0)), axis=0)[0], other[:200].min(0))
    assert distance(one[:200], thrice) > 0


def test_the_first_source_is_the_product_of_the_seen_marginals():
    rng = np.random.default_rng(0)
    cut = 0.5 + rng.exponential(1.0, 20_000)
    seen = np.stack([cut, cut + rng.uniform(-np.pi, np.pi, 20_000)], axis=1)
    seen[:, 1] = (seen[:, 1] + np.pi) % (2 * np.pi) - np.pi
    space = Space(np.array([0.5, -np.pi]), np.array([20.0, np.pi]), np.array([False, True]))
    source = Source(*quantile_tables(seen), space, NETWORK)
    with torch.no_grad():
        v = source(torch.from_numpy(rng.standard_normal((20_000, 2)).astype(np.float32))).numpy()
    assert v[:, 0].min() >= 0.5
    assert (np.abs(v[:, 1]) <= np.pi + 1e-5).all()
    # Two samples of equal law: W_1 of some sqrt(variance / n); 65 knots add less.
    assert wasserstein_distance(v[:, 0], seen[:, 0]) < 0.04
    assert wasserstein_distance(v[:, 1], seen[:, 1]) < 0.08
    assert abs(np.corrcoef(v.T)[0, 1]) < 4 / np.sqrt(20_000)
    with torch.no_grad():
        beyond = source._inside(torch.tensor([[0.2, 3.5], [-1.0, -9.0]])).numpy()
    np.testing.assert_allclose(beyond, [[0.8, 3.5 - 2 * np.pi], [2.0, 4 * np.pi - 9 - 2 * np.pi]], rtol=1e-5)


def test_weight_of_the_entropy_falls_to_the_middle():
    assert [anneal(step, 100, (0.4, 0.1)) for step in (0, 25, 50, 99)] == pytest.approx([0.4, 0.2, 0.1, 0.1])
    assert [anneal(step, 100, (0.4, 0.0)) for step in (0, 25, 50)] == pytest.approx([0.4, 0.2, 0.0])


def jets(n, seed):
    """Truth jets, and observed ones of gain 0.8, 20 % wide, their angle 0.1 wide."""
    rng = np.random.default_rng(seed)
    x = np.stack(
        [30 + rng.exponential(40, n), rng.normal(0, 1, n), rng.uniform(-np.pi, np.pi, n), rng.exponential(10, n)],
        axis=1,
    )
    y = x[:, :3] * [0.8, 1, 1]
    y[:, 0] *= np.exp(0.2 * rng.standard_normal(n))
    y[:, 1:] += 0.1 * rng.standard_normal((n, 2))
    y[:, 2] = (y[:, 2] + np.pi) % (2 * np.pi) - np.pi
    return x, y


class Jets:
    """A detector that is known by its pairs alone."""

    x, y = X_FIELD, Y_FIELD


def test_a_learned_detector_takes_angles_and_is_differentiable():
    x, y = jets(20_000, 0)
    train = Train(steps=180, learning_rate=1e-2, sets_per_step=2, set_size=(128, 128), validate_every=60, ema=0.95)
    spec = SourcererSpec(kind="sourcerer", surrogate=Surrogate(transforms=1, width=32, depth=1), train=train)
    seen = ArrayEnsemble(y, x, x_field=X_FIELD, y_field=Y_FIELD)
    settings = SourcererInfer(network=NETWORK, steps=3, batch=64, slices=6, samples=3000)
    method = Sourcerer(spec, Jets(), Context(("study", "jets", "sourcerer", 0), accelerator="cpu"), settings)
    method.use(method.train(TrainingData([seen], [seen], 100), TrainPaths()))
    assert not method.own_simulator
    x, _ = jets(4000, 1)
    given = torch.from_numpy(x).float().requires_grad_()
    pushed = method.flow(given, torch.randn((4000, 3), generator=torch.Generator().manual_seed(0)))
    pushed[:, 0].sum().backward()
    # d y / d x of pT: about the gain.
    assert float(given.grad[:, 0].median()) == pytest.approx(0.8, abs=0.15)
    away = pushed.detach().numpy() - x[:, :3]
    angle = (away[:, 2] + np.pi) % (2 * np.pi) - np.pi
    for found, mean, width in (
        (np.log(pushed[:, 0].detach().numpy() / x[:, 0]), np.log(0.8), 0.2),
        (away[:, 1], 0.0, 0.1),
        (angle, 0.0, 0.1),
    ):
        # A short training: a third of the width, and its width within 40 %.
        assert np.median(found) == pytest.approx(mean, abs=width / 3)
        assert np.subtract(*np.quantile(found, [0.84, 0.16])) / 2 == pytest.approx(width, rel=0.4)
    # Three steps: the first source nearly, within the bounds of x.
    truths = method.condition(ArrayEnsemble(jets(1000, 2)[1], y_field=Y_FIELD))["x"]
    assert truths[:, 0].min() > 29
    assert (np.abs(truths[:, 2]) <= np.pi).all()
    assert truths[:, 3].min() >= 0
    assert wasserstein_distance(truths[:, 0], x[:, 0]) < 8
