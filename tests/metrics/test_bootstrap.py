import numpy as np
import pytest

from pullback.metrics import bootstrap
from pullback.metrics.bootstrap import Replicas, distance_interval, effective_groups, percentile_interval
from pullback.metrics.distances import directions
from pullback.metrics.floors import Distances
from pullback.metrics.sample import Space


def width(group, values, replicas=2000, weight=None, seed=0):
    found = Replicas(np.asarray(group), replicas, np.random.default_rng(seed), weight)
    value, spread = found.mean(values[:, None])
    low, high = percentile_interval(spread[:, 0])
    assert low < value[0] < high
    return high - low


# The 2.5 % and 97.5 % points of 2000 replicas: each has a relative standard error of sqrt(q(1-q)/B)/phi(z)/z = 3 %,
# so the width has 2.1 %; 5 of these, and 1/sqrt(2n) for the spread of the sample.
TOLERANCE = 0.15


def test_width_of_a_mean():
    values = np.random.default_rng(1).normal(3, 2, 1000)
    expected = 2 * 1.96 * 2 / np.sqrt(1000)
    assert width(range(1000), values) == pytest.approx(expected, rel=TOLERANCE)


def test_events_of_a_group_are_drawn_together():
    """Eight copies of each value say no more than one."""
    values = np.random.default_rng(2).normal(0, 1, 500)
    expected = 2 * 1.96 / np.sqrt(500)
    rows = np.random.default_rng(3).permutation(4000)
    group, copies = np.repeat(np.arange(500), 8)[rows], np.repeat(values, 8)[rows]
    assert width(group, copies) == pytest.approx(expected, rel=TOLERANCE)
    assert width(range(4000), copies) == pytest.approx(expected / np.sqrt(8), rel=TOLERANCE)


def test_many_groups_are_joined_without_changing_the_spread(monkeypatch):
    values = np.random.default_rng(4).normal(0, 1, 3000)
    monkeypatch.setattr(bootstrap, "MOST_GROUPS", 600)
    found = Replicas(np.arange(3000), 10, np.random.default_rng(0))
    assert found.groups == 600
    # 599 (1.960 / 1.964)^2 groups of five events.
    assert all(len(events) == 596 * 5 for events in found.events)
    assert width(range(3000), values) == pytest.approx(2 * 1.96 / np.sqrt(3000), rel=TOLERANCE)


def test_weighted_mean():
    rng = np.random.default_rng(5)
    values, weight = rng.normal(0, 1, 2000), rng.integers(1, 3, 2000).astype(float)
    found = Replicas(np.arange(2000), 0, rng, weight)
    assert found.mean(values[:, None])[0][0] == pytest.approx(np.average(values, weights=weight))
    # Variance of a ratio of means: sum w^2 / (sum w)^2 for unit values.
    expected = 2 * 1.96 * np.sqrt((weight**2).sum()) / weight.sum()
    assert width(range(2000), values, weight=weight) == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize(
    "group", [np.tile([5, 5, 9, 2, 9, 9], 5) + 10 * np.repeat(np.arange(5), 6), np.arange(30)[::-1]]
)
def test_replica_events_agree_with_counts(group):
    found = Replicas(group, 20, np.random.default_rng(0))
    values = np.arange(30.0)[:, None] ** 2
    for r, events in enumerate(found.events):
        assert values[events].mean() == pytest.approx(found.mean(values)[1][r, 0])
    # A replica stands for the whole set, of however few groups it is made.
    assert found.counts.sum(axis=1) == pytest.approx(found.groups)


@pytest.mark.parametrize("groups", [1, 4])
def test_few_groups_have_no_interval(groups):
    found = Replicas(np.arange(12) % groups, 100, np.random.default_rng(0))
    assert percentile_interval(found.mean(np.ones((12, 1)))[1][:, 0]) == (None, None)
    assert distance_interval(1.0, np.empty(0)) == (None, None)


def test_five_groups_of_about_one_size_have_an_interval():
    found = Replicas(np.arange(49) % 5, 10, np.random.default_rng(0))
    assert 4.9 < found.effective_groups < 5
    assert found.count == 10


def test_effective_number_of_groups():
    assert effective_groups(np.repeat([7, 3, 9], 4), None) == pytest.approx(3)
    assert effective_groups(np.arange(50), np.r_[1.0, np.zeros(49)]) == 1
    # The sum over a group of twice the events has 4 times the variance.
    assert effective_groups(np.array([0, 1, 2, 2]), None) == pytest.approx((1 + 1 + 4) ** 2 / (1 + 1 + 16))


def test_groups_of_no_weight_are_not_drawn():
    """Six events of eight that weigh nothing: a replica of those alone would be 0 / 0."""
    weight = np.tile([0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], 3)
    found = Replicas(np.arange(24), 500, np.random.default_rng(0), weight)
    values = np.arange(24.0)
    value, spread = found.mean(values[:, None])
    assert value[0] == pytest.approx(values[weight > 0].mean())
    assert np.isfinite(spread).all()
    assert all(weight[events].all() for events in found.events)
    alone = Replicas(np.arange(6), 500, np.random.default_rng(0)).mean(values[weight > 0][:, None])[1]
    assert spread == pytest.approx(alone)


def coverage(rng, values, mean, repeats, groups, weight=None):
    """Share of data sets whose interval of a mean holds it; values and weights are functions of a number of events."""
    inside = 0
    for _ in range(repeats):
        found = Replicas(groups, 200, rng, None if weight is None else weight(len(groups)))
        low, high = percentile_interval(found.mean(values(len(groups))[:, None])[1][:, 0])
        inside += low <= mean <= high
    return inside / repeats


@pytest.mark.parametrize("groups", [5, 10, 30])
def test_intervals_of_few_groups_hold_the_truth(groups):
    """Gamma values; percentiles of replicas of all groups hold it in 80, 87 and 92 % of cases."""
    rng = np.random.default_rng(9)
    found = coverage(rng, lambda n: rng.gamma(2, size=n), 2, 400, np.arange(groups))
    error = np.sqrt(0.93 * 0.07 / 400)
    assert 0.92 - 3 * error < found < 0.96 + 3 * error


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_interval_of_a_distance_is_its_spread_over_test_sets(shift):
    """At the floor and far from it: it holds the value, and is as wide as values of fresh test sets scatter."""
    rng = np.random.default_rng(6)
    n, values, widths = 300, [], []
    for _ in range(80):
        truth, sample = rng.standard_normal((n, 2)), rng.standard_normal((n, 2)) + shift
        replicas = Replicas(np.arange(n), 60, rng)
        judge = Distances(truth, SPACE, replicas, ("interval",), 10, 1)
        found = judge.measure_swd(sample)[0]
        assert 0 <= found.low <= found.value <= found.high
        values.append(found.value)
        widths.append(found.high - found.low)
    # 80 values give their standard deviation to 8 %. At shift 0 the square is a sum of a few squares of normal
    # variables, whose interval covers 0.94 and is 1.4 times as wide (audit/test_sliced_interval).
    assert np.mean(widths) / (2 * 1.96 * np.std(values)) == pytest.approx(1.4 if shift == 0 else 1, abs=0.3)


SPACE = Space((), ("m",), np.zeros(2, bool), np.ones(2), "m", -np.ones(2), np.ones(2))


def test_floor_falls_as_the_root_of_n():
    rng = np.random.default_rng(7)

    def floor(n: int) -> float:
        found = []
        for i in range(12):
            truth, other = (rng.standard_normal((n, 2)) for _ in range(2))
            judge = Distances(truth, SPACE, Replicas(np.arange(n), 0, rng), (i,), 20, 1, (other, None))
            found.append(judge.floors["swd_draw"])
        return np.mean(found)

    # A floor scatters by about 20 %: 6 % on each mean, 8 % on the ratio.
    assert floor(500) / floor(8000) == pytest.approx(4, rel=0.3)


def test_floor_uses_as_many_events_of_both():
    rng = np.random.default_rng(8)
    truth, other = rng.standard_normal((400, 2)), rng.standard_normal((300, 2))
    whole = Distances(truth, SPACE, Replicas(np.arange(400), 0, rng), (0,), 20, 1, (other, None)).floors
    cut = Distances(truth[:300], SPACE, Replicas(np.arange(300), 0, rng), (0,), 20, 1, (other, None)).floors
    assert whole["swd_draw"] == pytest.approx(cut["swd_draw"], rel=1e-6)
    assert set(whole) == {"swd_draw", "swd20_draw", "w1_draw.pixels"}
    assert directions((0, "directions", 0), 2, 50).shape == (50, 2)
