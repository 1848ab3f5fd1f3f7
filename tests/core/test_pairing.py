"""Pairing of objects of a collision."""

import numpy as np
import pytest

from pullback.core import pairing


def test_rapidity():
    pt, eta, mass = np.array([40.0, 40.0]), np.array([1.3, 1.3]), np.array([0.0, 25.0])
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    pz = pt * np.sinh(eta)
    np.testing.assert_allclose(pairing.rapidity(pt, eta, mass), 0.5 * np.log((energy + pz) / (energy - pz)), rtol=1e-12)
    assert pairing.rapidity(pt, eta, mass)[0] == pytest.approx(1.3)


def test_distance_goes_around():
    a, b = np.array([[50.0, 0.0, 3.1, 0.0]]), np.array([[50.0, 0.0, -3.1, 0.0]])
    assert pairing.distance(a, b)[0] == pytest.approx(2 * np.pi - 6.2)


def test_all_pairs_stay_within_a_collision():
    a, b = pairing.all_pairs(np.array([2, 0, 1, 1]), np.array([1, 3, 2, 0]))
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == [(0, 0), (1, 0), (2, 4), (2, 5)]


def test_nearest_first_one_to_one():
    # b0 is nearest to a0, but a1 is nearer to b0: a0 must do with b1.
    a, b = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert pairing.pair_one_to_one(a, b, np.array([0.2, 0.3, 0.1, 0.9])).tolist() == [False, True, True, False]


@pytest.mark.parametrize("seed", range(5))
def test_same_as_one_by_one(seed):
    rng = np.random.default_rng(seed)
    a, b = pairing.all_pairs(rng.integers(0, 6, 20), rng.integers(0, 6, 20))
    distances = rng.random(len(a))
    wanted, used_a, used_b = [], set(), set()
    for i in np.argsort(distances):
        if a[i] not in used_a and b[i] not in used_b:
            wanted.append(i)
            used_a.add(a[i])
            used_b.add(b[i])
    assert np.flatnonzero(pairing.pair_one_to_one(a, b, distances)).tolist() == sorted(wanted)
    assert len(wanted) > 20


def test_without_candidates():
    none = np.empty(0, dtype=np.int64)
    assert pairing.pair_one_to_one(none, none, np.empty(0)).size == 0
