"""Scores and distances of weighted draws and of angles, beside closed forms, scipy and POT."""

import numpy as np
import ot
import pytest
from scipy.stats import norm

from pullback.core import seeding
from pullback.core.angles import wrap
from pullback.ensembles.arrays import ArrayEnsemble
from pullback.ensembles.fields import Field
from pullback.methods.base import PosteriorSamples
from pullback.methods.infer import _checked
from pullback.metrics import arrays, pairs
from pullback.metrics.bootstrap import Replicas, effective_groups
from pullback.metrics.case import event_weights
from pullback.metrics.distances import circular_wasserstein
from pullback.metrics.floors import Distances
from pullback.metrics.sample import Sample, Space

ANGLE = Field.vector("x", ("phi",), "rad", transforms=("periodic",))


def importance(noise: float, draws: int, events: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x ~ N(0, 1), y = x + noise e: draws of the prior, weighted by their likelihood, and the truth."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=events)
    y = truth + noise * rng.normal(size=events)
    x = rng.normal(size=(events, draws))
    log_weight = norm.logpdf(y[:, None], x, noise)
    return x, np.exp(log_weight - log_weight.max(axis=1, keepdims=True)), truth


@pytest.mark.parametrize(("noise", "draws"), [(0.03, 1000), (0.1, 100), (1.0, 1000)])
def test_energy_score_of_weighted_draws_is_the_crps(noise, draws):
    """In one dimension they are one number; sampled pairs add noise of their own to each event, not to the mean."""
    x, weight, truth = importance(noise, draws)
    energy, crps = arrays.energy_score(x, truth, weight), arrays.crps(x, truth, weight)
    gap = energy - crps
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap)) + 1e-12
    assert gap.std() < 0.1 * crps.std()


def test_few_effective_draws_do_not_beat_the_exact_posterior():
    """Ten effective draws among 1000: the score of the exact posterior, sqrt(v / pi), is 0.0056, as theirs is."""
    x, weight, truth = importance(0.01, 1000)
    exact = 0.01 / np.sqrt(1 + 0.01**2) / np.sqrt(np.pi)
    score = arrays.energy_score(x, truth, weight)
    assert score.mean() > exact - 3 * score.std() / np.sqrt(len(score))


@pytest.mark.parametrize("gain", [10, 28, 60, 800])
def test_one_draw_with_all_the_weight_is_a_point(gain):
    rng = np.random.default_rng(1)
    x, truth = rng.normal(size=(50, 12)), rng.normal(size=50)
    weight = np.exp(np.where(np.arange(12) == 3, 0.0, -float(gain))) * np.ones((50, 1))
    wanted = np.abs((weight * x).sum(axis=1) / weight.sum(axis=1) - truth)
    for score in (arrays.energy_score, arrays.crps):
        assert score(x, truth, weight) == pytest.approx(wanted, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e30, 1e100])
def test_the_scale_of_event_weights_has_no_meaning(scale):
    weight = np.random.default_rng(2).exponential(size=500)
    plain, scaled = (event_weights(ArrayEnsemble(np.zeros((500, 1)), weight=w), 500) for w in (weight, scale * weight))
    np.testing.assert_allclose(plain / plain.sum(), weight / weight.sum(), rtol=1e-14)
    np.testing.assert_allclose(scaled / scaled.sum(), weight / weight.sum(), rtol=1e-14)
    group = np.arange(500) // 2
    assert effective_groups(group, scaled) == pytest.approx(effective_groups(group, weight))


def chain(rng, events, draws):
    x = rng.normal(size=(events, draws))
    for i in range(1, draws):
        x[:, i] = 0.95 * x[:, i - 1] + np.sqrt(1 - 0.95**2) * x[:, i]
    return x


@pytest.mark.parametrize("kind", ["sorted", "chain", "duplicates"])
def test_the_order_of_draws_does_not_matter(kind):
    rng = np.random.default_rng(2)
    x = chain(rng, 300, 200) if kind == "chain" else rng.normal(size=(300, 200))
    x = np.sort(x, axis=1) if kind == "sorted" else np.repeat(x[:, ::2], 2, axis=1) if kind == "duplicates" else x
    truth = rng.normal(size=300)
    gap = arrays.energy_score(x, truth) - arrays.crps(x, truth)
    assert abs(gap).max() < 0.02
    # One per cent of the score: pairs are a part of all, evenly spread.
    assert abs(gap.mean()) < 0.006


def test_a_draw_without_weight_has_not_failed():
    """Uniform likelihood: most prior draws weigh nothing, and the weighted posterior is exact."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=2000)
    y, x = truth + rng.uniform(-0.5, 0.5, 2000), rng.normal(size=(2000, 200))
    log_weight = np.where(np.abs(x - y[:, None]) < 0.5, 0.0, -np.inf)
    log_weight[0, 0], log_weight[0, 1] = np.nan, np.inf
    found = _checked(PosteriorSamples(x[..., None].astype("f4"), log_weight, np.ones(x.shape, bool)))
    assert (~found.ok).sum() == 2
    space = Space.of(Field.vector("x", ("a",), "m"), truth[:, None])
    sample = Sample.of(*found[:3], truth[:, None], space, np.full(2000, 0.5))
    assert sample.ordered.crps().mean() < 0.25
    inside = sample.ordered.coverage(90)[1:]
    assert inside.mean() == pytest.approx(0.9, abs=0.03)


# Angles


@pytest.mark.parametrize("mean", [0.0, np.pi - 0.3, np.pi])
def test_distances_of_angles_are_those_of_the_circle(mean):
    rng = np.random.default_rng(4)
    truth = wrap(rng.normal(mean, 0.1, (4000, 1)))
    draws = wrap(truth + 0.05)
    replicas = Replicas(np.arange(4000), 60, np.random.default_rng(0))
    found = {m.metric: m for m in Distances(truth, Space.of(ANGLE, truth), replicas, (0, "t"), 50, 1).measure(draws)}
    assert found["swd_draw"].value == pytest.approx(0.05, abs=1e-4)
    assert found["w1_draw.phi"].value == pytest.approx(0.05, abs=1e-4)
    assert found["w1_draw.phi"].low <= 0.05 + 1e-4 <= found["w1_draw.phi"].high + 2e-4


@pytest.mark.parametrize("weighted", [False, True])
def test_circular_distance_is_that_of_pot(weighted):
    rng = np.random.default_rng(5)
    for _ in range(20):
        u, v = rng.uniform(-4, 4, rng.integers(1, 40)), rng.normal(3, 1, rng.integers(1, 40))
        a, b = (rng.exponential(size=len(s)) if weighted else np.ones(len(s)) for s in (u, v))
        wanted = 2 * np.pi * ot.wasserstein_circle(u / (2 * np.pi) % 1, v / (2 * np.pi) % 1, a / a.sum(), b / b.sum())
        assert circular_wasserstein(u, v, a[None], b[None])[0] == pytest.approx(float(wanted[0]), abs=1e-9)
        assert arrays.wasserstein_1d(u, v, 1, a, b, periodic=True) == pytest.approx(float(wanted[0]), abs=1e-9)


def test_nothing_depends_on_where_zero_is():
    rng = np.random.default_rng(6)
    truth, draws = rng.vonmises(1, 2, (500, 1)), rng.vonmises(1.2, 1, (500, 12))
    found = []
    for turn in (0.0, 1.0, 3.0):
        x, at = wrap(draws + turn), wrap(truth + turn)
        scores = [
            arrays.crps(x[..., None], at, periodic=[0]).mean(),
            arrays.energy_score(x[..., None], at, periodic=[0]).mean(),
            arrays.coverage(x[..., None], at, 90, periodic=[0]).mean(),
            arrays.spread_skill(x[..., None], at, periodic=[0]),
            arrays.sliced_wasserstein(x[:, :1], at, periodic=[0]),
            arrays.wasserstein_1d(x[:, 0], at[:, 0], periodic=True),
        ]
        found.append(scores)
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    assert found[2] == pytest.approx(found[0], rel=1e-6)


@pytest.mark.parametrize("kappa", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("draws", [10, 32])
def test_an_exact_posterior_on_the_circle_is_calibrated(kappa, draws):
    """Truth and draws from one von Mises law about a centre of each event, which nothing may depend on."""
    rng = np.random.default_rng(7)
    events = 20_000
    centre = rng.uniform(-np.pi, np.pi, (events, 1))
    both = wrap(
        centre
        + (rng.vonmises(0, kappa, (events, draws + 1)) if kappa else rng.uniform(-np.pi, np.pi, (events, draws + 1)))
    )
    x, truth = both[:, 1:, None], both[:, :1]
    for percent in (50, 90):
        p = percent / 100
        found = arrays.coverage(x, truth, percent, periodic=[0]).mean()
        assert found == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / events))
    # Four standard errors of a mean square of at most pi^2, and 1 / draws^2 by construction.
    assert arrays.spread_skill(x, truth, periodic=[0]) == pytest.approx(1, abs=0.02 + 1 / draws**2)


def test_crps_of_an_angle_is_proper():
    """Three places on the circle: the exact law beats one that is a little wrong, and uniform draws have pi / 4."""
    rng = np.random.default_rng(8)
    places, events = np.array([0, 1.08, 3.68]), 60_000
    exact, wrong = (0.259, 0.259, 0.482), (0.239, 0.319, 0.442)
    truth = rng.choice(places, events, p=exact)[:, None]
    scores = [
        arrays.crps(rng.choice(places, (events, 12), p=law)[..., None], truth, periodic=[0]) for law in (exact, wrong)
    ]
    arc = np.abs(wrap(places[:, None] - places))
    wanted = [np.dot(law, arc @ exact) - 0.5 * np.dot(law, arc @ law) for law in (exact, wrong)]
    for score, mean in zip(scores, wanted, strict=True):
        assert score.mean() == pytest.approx(mean, abs=4 * score.std() / np.sqrt(events))
    assert wanted[0] < wanted[1]
    x, truth = rng.uniform(-np.pi, np.pi, (4000, 20, 1)), rng.uniform(-np.pi, np.pi, (4000, 1))
    score = arrays.crps(x, truth, periodic=[0])
    assert score.mean() == pytest.approx(np.pi / 4, abs=4 * score.std() / np.sqrt(4000))
    np.testing.assert_allclose(score[:, 0], arrays.energy_score(x, truth, periodic=[0]))


# Distances


@pytest.mark.parametrize("wild", [1e6, 1e7, 1e9])
def test_one_wild_pixel_does_not_hide_the_rest(wild):
    rng = np.random.default_rng(9)
    field = Field.array("x", ("row", "column"), (10, 10), "m/s")
    truth = rng.normal(3000, 300, (200, 100))
    draws = truth + 250
    draws[3, 7] = wild
    replicas = Replicas(np.arange(200), 20, np.random.default_rng(0))
    between = Distances(truth, Space.of(field, truth), replicas, (0, "t"), 50, 1)
    found = next(m for m in between.measure(draws) if m.metric == "w1_draw.pixels")
    exact = ot.wasserstein_1d(draws.ravel(), truth.ravel())
    width = np.ptp(truth) / 1024
    assert found.value == pytest.approx(float(exact), abs=2 * width)


@pytest.mark.parametrize(("dimension", "bias"), [(2, 0.0), (10, 100.0)])
def test_interval_of_the_sliced_distance_is_its_spread(dimension, bias):
    """Its width over that of the value between data sets: the seed of the directions does not decide it."""
    values, widths = [], []
    scale = np.ones(dimension)
    scale[0] = 100 if bias > 1 else 1
    for data in range(40):
        rng = np.random.default_rng(data)
        truth = rng.normal(size=(400, dimension)) * scale
        draws = truth + rng.normal(size=truth.shape) * scale
        draws[:, 0] += bias * (0.3 if bias > 1 else 1)
        replicas = Replicas(np.arange(400), 60, seeding.generator(data, "bootstrap"))
        space = Space.of(Field.vector("x", tuple(f"f{i}" for i in range(dimension)), "m"), truth)
        (found,) = (
            m for m in Distances(truth, space, replicas, (1, "d"), 50, 1).measure_swd(draws) if m.metric == "swd_draw"
        )
        values.append(found.value)
        widths.append((found.high - found.low) / 3.92)
    assert 0.65 < np.mean(widths) / np.std(values) < 1.5


def test_pairs_by_weight_are_those_of_the_double_sum():
    rng = np.random.default_rng(10)
    x, weight = rng.normal(size=(40, 150, 2)), rng.exponential(size=(40, 150)) ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    distance = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1)
    share = weight[:, :, None] * weight[:, None] * (1 - np.eye(150))
    wanted = (share * distance).sum(axis=(1, 2)) / share.sum(axis=(1, 2))
    found = pairs.pair_distance(x, weight, np.ones(2), np.zeros(2, bool))
    assert found == pytest.approx(wanted, rel=0.06)
    assert (found - wanted).mean() == pytest.approx(0, abs=0.01)
