"""Recorded pairs beside their simulation: each common difference is named, and pairs that agree pass."""

import json

import numpy as np
import pytest

from pullback.core.seeding import generator
from pullback.ensembles.fields import Coordinate, Field
from pullback.problems.base import problem_of, simulate
from pullback.problems.check_files import look
from pullback.problems.recorded import compare, fitted_scale
from pullback.problems.traits import compare_with_seen

SIZE, TIMES, SOURCES = 8, 64, 3


class Echoes:
    """Rock of SIZE x SIZE nodes -> echoes of each column at each receiver, from three sources."""

    def __init__(self, noise=0.0):
        self.x = Field.array("x", ("depth", "offset"), (SIZE, SIZE), "m/s")
        times = Coordinate(np.arange(1, TIMES + 1) * 0.01, "s")
        shape = (SOURCES, TIMES, SIZE)
        self.y = Field.array("y", ("source", "time", "receiver"), shape, "1", coordinates={"time": times})
        self.noise = noise
        rng = np.random.default_rng(3)
        self.kernel = rng.normal(size=(SOURCES, TIMES, SIZE)) * np.linspace(1, 0, TIMES)[:, None] ** 2
        self.kernel[:, 0] += 10  # a first arrival of one polarity

    def apply(self, x):
        return np.einsum("std,edo->esto", self.kernel, x - 2000) * 1e-3, np.ones(len(x), bool)

    def observe(self, signal, x, rng):
        return signal + self.noise * signal.std() * rng.normal(size=signal.shape)


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    x = 2000 + 500 * rng.normal(size=(4, SIZE, SIZE))
    return x, Echoes().apply(x)[0]


DIFFERENT = {
    "sign": (lambda x, y: (x, -y), "the sign of y is the other one: set read.scale: -1 "),
    "sign and size": (lambda x, y: (x, -1e6 * y), "the sign of y is the other one"),
    "factor": (lambda x, y: (x, 250 * y), "y is 250 times the simulation: set read.scale: 0.004"),
    "normalised events": (
        lambda x, y: (x, y / np.abs(y).max(axis=(1, 2, 3), keepdims=True)),
        "each event of y has a factor of its own",
    ),
    "normalised traces": (
        lambda x, y: (x, y / np.abs(y).max(axis=2, keepdims=True)),
        "each trace of y has a factor of its own",
    ),
    "to a range": (lambda x, y: (x, (y - y.min()) / np.ptp(y)), "was added to y"),
    "transposed": (lambda x, y: (x.swapaxes(1, 2), y), "x has depth and offset exchanged"),
    "upside down": (lambda x, y: (x[:, ::-1], y), "x runs backwards along depth"),
    "receivers": (lambda x, y: (x, y[..., ::-1]), "y runs backwards along receiver"),
    "shuffled events": (lambda x, y: (x, y[[1, 2, 3, 0]]), "x number 0 belongs to y number 3"),
    "shuffled shots": (lambda x, y: (x, y[:, [2, 0, 1]]), "sources stand in another order, 1, 2, 0"),
    "late": (
        lambda x, y: (x, np.concatenate([np.zeros_like(y[:, :, :5]), y[:, :, :-5]], axis=2)),
        "y is 5 samples (0.05 s) later than the simulation",
    ),
    "other physics": (lambda x, y: (x, y + 0.7 * np.roll(y[::-1], 9, axis=2)), "explains it"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_difference_is_named_with_its_remedy(pairs, name):
    change, words = DIFFERENT[name]
    found = compare(Echoes(), *change(*pairs), 0.02, generator(0))
    assert not found.agrees
    assert words in found.summary + " "


def test_pairs_that_agree_pass(pairs):
    x, y = pairs
    assert compare(Echoes(), x, y, 0.02, generator(0)).agrees
    assert compare(Echoes(), x, 1.01 * y, 0.02, generator(0)).agrees, "within the tolerance"
    noisy = Echoes(noise=0.3)
    found = compare(noisy, x, noisy.observe(y, x, np.random.default_rng(5)), 0.02, generator(0))
    assert found.agrees
    assert found.noise == pytest.approx(0.3, rel=0.05), "two simulations of one x differ by it"


def test_noise_does_not_hide_a_factor():
    problem = problem_of({"kind": "gaussian", "simulator": {}})
    rng = np.random.default_rng(1)
    x = problem.sample_prior(rng, 200, {"gamma": 0.3})
    y, _ = simulate(problem, x, rng)
    assert compare(problem, x, y, 0.02, generator(0)).agrees
    assert "times the simulation" in compare(problem, x, 3 * y, 0.02, generator(0)).summary
    assert "sign of y" in compare(problem, x, -y, 0.02, generator(0)).summary


def test_a_factor_is_fitted(pairs):
    x, y = pairs
    assert fitted_scale(Echoes(), x, 1e6 * y, generator(0)) == pytest.approx(1e-6)
    with pytest.raises(ValueError, match=r"give read\.scale as a number"):
        fitted_scale(Echoes(), x, np.roll(y, 1, axis=0), generator(0))


def test_observations_beside_those_trained_on(pairs):
    """Amplitude, sign and frequencies are compared with quantiles of the seen families."""
    field = Echoes().y
    rng = np.random.default_rng(2)
    seen = np.concatenate([Echoes().apply(2500 + 300 * rng.normal(size=(20, SIZE, SIZE)))[0] for _ in range(3)])
    assert compare_with_seen(field, seen[:5], seen)[1] == []
    for change, words in ((1e3, "amplitude"), (-1, "read.scale: -1")):
        assert any(words in line for line in compare_with_seen(field, change * seen[:5], seen)[1])
    smooth = np.apply_along_axis(lambda v: np.convolve(v, np.ones(9) / 9, "same"), 2, seen[:5])
    assert any("mean frequency" in line for line in compare_with_seen(field, smooth, seen)[1])
    assert compare_with_seen(field, np.abs(seen[:5]), np.abs(seen))[1] == [], "all of one sign"
    vector = Field.vector("y", ("pt", "eta"), ("GeV", "1"))
    jets = np.column_stack([rng.exponential(50, 200), rng.normal(size=200)])
    assert compare_with_seen(vector, jets[:50], jets)[1] == []
    assert any("pt" in line for line in compare_with_seen(vector, jets[:50] * [1e3, 1], jets)[1])


def test_a_family_of_another_detector_is_not_compared(pairs):
    x, y = pairs
    task = {"family": "data", "own_forward": False, "tolerance": 0.02}
    assert look(Echoes(), task, -y, x, None) == ([], [])
    assert "sign" in json.dumps(look(Echoes(), {**task, "own_forward": True}, -y, x, None).warnings)
