"""Distances of each event's draws to its exact posterior, against closed forms and POT."""

from types import SimpleNamespace

import numpy as np
import ot
import pytest
from scipy import stats

from pullback.metrics.bootstrap import Replicas
from pullback.metrics.distances import directions
from pullback.metrics.posterior_distance import distance_rows, distances
from pullback.metrics.sample import Sample

RNG = np.random.default_rng(0)


def of(x, weights=None):
    return Sample.of_arrays(x, np.zeros((len(x), x.shape[2])), weights)


def test_each_event_has_the_distances_of_scipy_and_pot():
    ours, theirs = RNG.standard_normal((3, 40, 2)), 1 + RNG.standard_normal((3, 40, 2))
    weights = RNG.random((3, 40))
    theta = directions(("t",), 2, 20)
    found = distances(of(ours, weights), of(theirs), of(ours).space, theta)
    for event in range(3):
        a, b, w = ours[event], theirs[event], weights[event] / weights[event].sum()
        w1 = np.mean([stats.wasserstein_distance(a[:, j], b[:, j], w) for j in range(2)])
        swd = ot.sliced_wasserstein_distance(a, b, w, projections=theta.T)
        np.testing.assert_allclose(found[event], [w1, swd], rtol=1e-5)


@pytest.mark.parametrize("dimension", [1, 3])
def test_a_shift_is_its_length_and_exact_draws_reach_the_floor(dimension):
    events, m = 30, 500

    def draws(seed):
        return np.random.default_rng(seed).standard_normal((events, m, dimension))

    def rows(x):
        exact = SimpleNamespace(
            n=events, truth=np.zeros((events, dimension)), space=of(x).space, address=("t",),
            sample=lambda n, count, name, i: of(draws(10 + i)),
        )  # fmt: skip
        case = SimpleNamespace(replicas=lambda n: Replicas(np.arange(n), 100, np.random.default_rng(0)))
        posterior = SimpleNamespace(n=events, draws=m)
        answers = SimpleNamespace(exact=exact, case=case, posterior=posterior, sample=lambda *_: of(x))
        return {row.metric: row for row in distance_rows(answers)}

    for row in rows(draws(1)).values():
        assert row.low < row.value < row.high
        assert row.value == pytest.approx(row.floor, rel=0.15)
    # A shift by s along every component: W1 = s, and W2 along a direction u is s |sum u|, of mean square s^2.
    moved = rows(draws(1) + 2.0)
    assert moved["posterior_w1"].value == pytest.approx(2, abs=0.05)
    # 50 directions: the mean of (sum u)^2 has a standard error of about 0.12.
    assert moved["posterior_swd"].value == pytest.approx(2, abs=0.05 if dimension == 1 else 0.4)
