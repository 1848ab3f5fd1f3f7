"""Randomness depends on the address alone."""

import numpy as np

from pullback.core.seeding import event_normals, generator, integer_seed


def test_same_address_same_numbers():
    assert generator(1, "p", 0).random() == generator(1, "p", 0).random()


def test_addresses_are_told_apart():
    addresses = [(1,), ("1",), (1, 1), ("1\x1f1",), ("a", "b"), ("ab",)]
    assert len({generator(*address).random() for address in addresses}) == len(addresses)


def test_an_event_keeps_its_normals_whichever_events_stand_beside_it():
    ids = np.array([7, 3, 2**40])
    together = event_normals(("a",), ids, (5, 2))
    for row, event_id in zip(together, ids, strict=True):
        np.testing.assert_array_equal(row, event_normals(("a",), np.array([event_id]), (5, 2))[0])


def test_streams_of_neighbouring_events_do_not_overlap():
    # Philox gives four words a counter step: 4000 normals of one event must not run into the next event's.
    first, second = event_normals(("a",), np.array([0, 1]), (4000,))
    assert not np.isin(first, second).any()


def test_event_normals_are_standard_and_independent():
    n = 40_000
    z = event_normals(("b",), np.arange(n // 2), (2,)).astype(float)
    # Standard errors: mean 1/sqrt(n), variance sqrt(2/n), correlation 1/sqrt(n/2); five of them.
    assert abs(z.mean()) < 5 / np.sqrt(n)
    assert abs(z.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((z[:, 0] * z[:, 1]).mean()) < 5 / np.sqrt(n / 2)


def test_integer_seed_stays_below_its_bits():
    assert all(0 <= integer_seed("x", i, bits=20) < 2**20 for i in range(50))


def test_an_event_s_numbers_are_those_of_its_counter_block():
    """NumPy's Philox started at the event's block gives the same, whatever was drawn for the events before."""
    ids = np.array([7, 0, 123_456_789_012, 7])
    found = event_normals(("a", 1), ids, (3, 2))
    for row, event_id in zip(found, ids, strict=True):
        philox = np.random.Philox(key=integer_seed("a", 1, bits=128), counter=[0, 0, int(event_id), 0])
        assert np.array_equal(np.random.Generator(philox).standard_normal((3, 2), dtype=np.float32), row)
