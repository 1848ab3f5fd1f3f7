"""What is said of the coverage of exact methods: false alarms by number of events and of groups, and true ones."""

import os

import numpy as np
import pytest

from pullback.metrics.bootstrap import Replicas, percentile_interval
from pullback.report.diagnosis import LEAST_GROUPS, diagnose, wilson
from pullback.report.style import make_series
from pullback.report.tables import Family

SERIES = make_series([("exact", "default", "cfm", "approximate")])
FAMILY = Family("f", "F", "unseen")


def said(coverage, rng, n, groups=None, components=1, weighted=False):
    """What the page says of n events of which a share lies inside their 90 % intervals; events of a group together."""
    group = np.arange(n) if groups is None else np.arange(n) % groups
    inside = rng.random((group.max() + 1, components))[group] < coverage
    weight = rng.lognormal(0, 1, n) if weighted else None
    replicas = Replicas(group, 200, rng, weight)
    value, spread = replicas.mean(inside.mean(axis=1, keepdims=True))
    low, high = (np.nan if edge is None else edge for edge in percentile_interval(spread[:, 0]))
    of_groups = replicas.group_sums(np.ones((n, 1)))
    row = {"metric": "coverage90", "method": "exact", "infer": "default", "family": "f", "unit": "1", "n": n, "seed": 0,
           "value": float(value[0]), "low": low, "high": high, "floor": np.nan,
           "groups": float(np.square(of_groups).sum() ** 2 / (of_groups**4).sum())}  # fmt: skip
    lines = diagnose({"coverage90": [row]}, SERIES, [FAMILY], None, {}, {})
    return lines[0].found[0].partition(":")[0] if lines else ""


def shares(repeats, *args, **more):
    rng = np.random.default_rng(0)
    found = [said(args[0], rng, *args[1:], **more) for _ in range(repeats)]
    return [np.mean([one == word for one in found]) for word in ("too wide", "over-confident")]


CASES = [
    *({"n": n, "components": c} for n in (2, 3, 5, 10, 20, 50, 200, 1000) for c in (1, 2)),
    *({"n": 10 * groups, "groups": groups} for groups in (2, 5, 10, 30, 100)),
    *({"n": n, "weighted": True} for n in (10, 30, 100, 1000)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact_methods_are_rarely_blamed(case):
    """Both words together in at most 5 % of cases: 3 standard errors of the simulation above."""
    repeats = 1000 if os.environ.get("SLOW") else 60
    wide, narrow = shares(repeats, 0.9, **case)
    print(f"{case}: too wide {wide:.3f}, over-confident {narrow:.3f}")
    assert wide + narrow <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)


def test_few_events_are_not_judged():
    assert shares(20, 1.0, LEAST_GROUPS - 1) == shares(20, 0.0, LEAST_GROUPS - 1) == [0, 0]
    # 1,000 events of as few groups say no more.
    assert shares(20, 0.0, 1000, LEAST_GROUPS - 1) == [0, 0]


def test_wrong_methods_are_blamed():
    assert shares(20, 1.0, 100) == [1, 0]
    assert shares(20, 1.0, 1000, 100) == [1, 0]
    # Half inside: with 10 events at most 5 of 10 in 62 %, where Wilson's upper end is .76; with 50 nearly always.
    assert shares(50, 0.5, 10)[1] > 0.4
    assert shares(20, 0.5, 50)[1] == 1


@pytest.mark.parametrize(("inside", "n"), [(0, 10), (3, 10), (10, 10), (41, 50)])
def test_wilsons_interval_is_that_of_scipy(inside, n):
    from scipy.stats import binomtest

    expected = binomtest(inside, n).proportion_ci(0.95, method="wilson")
    # 1.96 stands for the quantile 1.959964.
    assert wilson(inside / n, n) == pytest.approx((expected.low, expected.high), abs=1e-4)
