"""How often 95 % intervals hold the truth, and exact posteriors are called wrong, over many simulated data sets."""

import os

import numpy as np
import pytest
from scipy.stats import norm

from pullback.metrics.bootstrap import Replicas, percentile_interval
from pullback.metrics.checks import floor_of_parts
from pullback.metrics.errors import root_of_ratio
from pullback.metrics.floors import Distances
from pullback.metrics.ranks import ranks, uniformity
from pullback.metrics.sample import Sample, Space

pytestmark = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1")

REPEATS = 1500
ERROR = np.sqrt(0.9 * 0.1 / REPEATS)
"""Standard error of a share of 0.9."""


def interval(rng, values, group, weight=None, of_means=lambda means: means[..., 0]):
    replicas = Replicas(group, 200, rng, weight)
    return percentile_interval(of_means(replicas.mean(values)[1]))


@pytest.mark.parametrize("size", [1, 10])
@pytest.mark.parametrize("groups", [5, 6, 7, 8, 10, 15, 20, 30, 50])
@pytest.mark.parametrize("law", ["normal", "gamma"])
def test_mean_by_groups(law, groups, size):
    """With percentiles of replicas of all groups: 80 % with 5, 87 % with 10, 90 % with 30."""
    rng = np.random.default_rng(groups)
    group, inside = np.repeat(np.arange(groups), size), 0
    for _ in range(REPEATS):
        values = rng.normal(size=len(group)) if law == "normal" else rng.gamma(2, size=len(group)) - 2
        # Half of the variance is common to a group.
        common = rng.normal(size=groups) if law == "normal" else rng.gamma(2, size=groups) - 2
        low, high = interval(rng, (values + common[group])[:, None], group)
        inside += low <= 0 <= high
    print(f"{law}, {groups} groups of {size}: {inside / REPEATS:.3f}")
    assert 0.90 - 2 * ERROR < inside / REPEATS < 0.97


@pytest.mark.parametrize("events", [50, 200])
def test_mean_with_lognormal_weights(events):
    rng, inside = np.random.default_rng(1), []
    while len(inside) < REPEATS:
        weight = np.exp(rng.normal(size=events))
        low, high = interval(rng, rng.gamma(2, size=(events, 1)), np.arange(events), weight)
        if low is not None:
            inside.append(low <= 2 <= high)
    print(f"lognormal weights of {events} events: {np.mean(inside):.3f}")
    assert 0.92 < np.mean(inside) < 0.98


@pytest.mark.parametrize("groups", [5, 10, 40])
def test_ratio_of_means_by_groups(groups):
    """Spread over skill of an exact posterior: a root of a ratio of two means of squares."""
    rng, inside = np.random.default_rng(2), 0
    group = np.repeat(np.arange(groups), 10)
    for _ in range(REPEATS):
        both = np.column_stack([np.ones(len(group)), rng.normal(size=len(group)) ** 2])
        low, high = interval(rng, both, group, of_means=root_of_ratio)
        inside += low <= 1 <= high
    print(f"spread over skill, {groups} groups of 10: {inside / REPEATS:.3f}")
    assert inside / REPEATS > 0.90


@pytest.mark.parametrize("law", ["normal", "two blobs", "heavy tails"])
def test_floor_of_parts(law):
    """Ratio to the distance of two independent samples; halves over sqrt(2) give 0.85 for the last two."""
    rng, n, repeats, found, fresh, old = np.random.default_rng(5), 1000, 150, [], [], []
    draw = {
        "normal": lambda: rng.normal(size=(n, 2)),
        "two blobs": lambda: 0.3 * rng.normal(size=(n, 2)) + [5, 0] * rng.integers(2, size=(n, 1)),
        "heavy tails": lambda: rng.standard_t(3, size=(n, 2)),
    }[law]
    space = Space((), ("m",), np.zeros(2, bool), np.ones(2), "m", -np.ones(2), np.ones(2))
    for _ in range(repeats):
        y = draw()
        judge = Distances(y, space, Replicas(np.arange(n), 0, rng), ("d",), 1, 1)
        found.append(floor_of_parts(judge, rng))
        fresh.append(judge.swd(draw(), y)["swd_draw"])
        old.append(judge.swd(y[::2], y[1::2])["swd_draw"] / np.sqrt(2))
    before, after = np.mean(old) / np.mean(fresh), np.mean(found) / np.mean(fresh)
    error = np.hypot(np.std(found) / np.mean(found), np.std(fresh) / np.mean(fresh)) / np.sqrt(repeats)
    print(f"{law}: {after:.3f} of the floor, halves over sqrt(2) {before:.3f}, standard error {error:.3f}")
    assert after == pytest.approx(1, abs=0.05 + 3 * error)


def exact_ranks(rng, groups, size, noise):
    """Randomised ranks of the exact posterior of each event's own y; truths of a group are correlated by a half."""
    group = np.repeat(np.arange(groups), size)
    x = np.sqrt(0.5) * (rng.normal(size=groups)[group] + rng.normal(size=len(group)))
    y = x + noise * rng.normal(size=len(group))
    variance = 1 / (1 + 1 / noise**2)
    return norm.cdf((x - variance * y / noise**2) / np.sqrt(variance)), group


@pytest.mark.parametrize("noise", [0.5, 1, 3])
@pytest.mark.parametrize("groups", [5, 10, 20, 40, 200])
def test_false_alarms_of_ranks_by_groups(groups, noise):
    """Exact posteriors above 1.56 floors: with independent events as floor 10 % to 40 %."""
    rng, above, repeats = np.random.default_rng(3), 0, 600
    for _ in range(repeats):
        u, group = exact_ranks(rng, groups, 10, noise)
        row = uniformity("sbc_ks.a", u, Replicas(group, 0, rng))
        above += row.value > 1.56 * row.floor
    print(f"{groups} groups of 10, noise {noise}: {above / repeats:.3f} above 1.56 floors")
    assert above / repeats < (0.07 if groups > 5 else 0.11) + 2 * np.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.parametrize(
    ("noise", "draws"), [(0.001, 1000), (0.01, 1000), (0.03, 1000), (0.1, 100), (0.3, 100), (1, 100)]
)
def test_coverage_and_ranks_of_an_exact_importance_sampler(noise, draws):
    """Prior draws weighted by the likelihood; with shares of weight coverage90 was 0.945 for 10 effective draws."""
    rng, n = np.random.default_rng(4), 4000
    truth, x = rng.normal(size=n), rng.normal(size=(n, draws))
    log_weight = -0.5 * (((truth + noise * rng.normal(size=n))[:, None] - x) / noise) ** 2
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    ordered = Sample.of_arrays(x, truth, weight).ordered
    covered = [ordered.coverage(percent).mean() for percent in (50, 90)]
    row = uniformity("sbc_ks.a", ranks(x, truth, weight, rng.random(n)), Replicas(np.arange(n), 0, rng))
    size = np.median(1 / (weight**2).sum(axis=1))
    print(f"{size:.1f} effective draws: coverage {covered[0]:.3f} {covered[1]:.3f}, {row.value / row.floor:.2f} floors")
    assert covered == pytest.approx([0.5, 0.9], abs=4 * np.sqrt(0.25 / n))
    assert row.value < 2.2 * row.floor
