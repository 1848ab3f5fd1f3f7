"""Recorded pairs beside their simulation: each common difference is named, and pairs that agree pass."""

import json

import numpy as np
import pytest

from pullback.core.seeding import generator
from pullback.ensembles.fields import Coordinate, Field
from pullback.problems.base import problem_of, simulate
from pullback.problems.check_files import Pairs, look
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
    "normalised and negated": (
        lambda x, y: (x, -y / np.abs(y).max(axis=(1, 2, 3), keepdims=True)),
        "the sign of y is the other one; each event of y has a factor of its own",
    ),
    "negated and small": (lambda x, y: (x, -0.02 * y), "the sign of y is the other one and it is 0.02 times"),
    "transposed and large": (
        lambda x, y: (x.swapaxes(1, 2), 1e3 * y),
        "exchanged: transpose it, or name its dimensions; y is 1000 times the simulation: set read.scale: 0.001 ",
    ),
    "transposed, normalised traces": (
        lambda x, y: (x.swapaxes(1, 2), y / np.abs(y).max(axis=2, keepdims=True)),
        "exchanged: transpose it, or name its dimensions; each trace of y has a factor of its own",
    ),
    "transposed and shuffled": (lambda x, y: (x.swapaxes(1, 2), y[[1, 2, 3, 0]]), "exchanged: transpose"),
    "turned": (lambda x, y: (np.rot90(x, 1, (1, 2)), y), "runs backwards along"),
    "mirrored": (lambda x, y: (x, y[:, ::-1, :, ::-1]), "y runs backwards along source and receiver"),
    "logarithms to a range": (
        lambda x, y: (x, 2 * np.log1p(np.abs(y)) * np.sign(y) + 0.5),
        "y is sign(y) log(1 + |y|) of the simulation, as OpenFWI's loader makes it: undo it; a constant of 0.5 was",
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


class Jets:
    """Three quantities of very different sizes -> three others."""

    x = Field.vector("x", ("pt", "eta", "m"), ("GeV", "1", "GeV"))
    y = Field.vector("y", ("pt", "eta", "t"), ("GeV", "1", "K"))

    def apply(self, x):
        if (np.abs(x[:, 1]) > 10).any():
            raise ZeroDivisionError("no jet lies there")
        signal = np.stack([1.1 * x[:, 0] + x[:, 2], 0.9 * x[:, 1], 300 + 0.01 * x[:, 0]], axis=1)
        return signal, np.ones(len(x), bool)


def test_components_count_alike_whatever_their_size():
    rng = np.random.default_rng(4)
    x = np.stack([20 + rng.exponential(50, 100), rng.normal(size=100), rng.uniform(1, 10, 100)], axis=1)
    y, _ = Jets().apply(x)

    def said(x, y):
        return compare(Jets(), x, y, 0.02, generator(0)).summary

    assert "misfit 0" in said(x, y)
    assert "component" not in said(x, y.astype(np.float32))
    assert "have a factor of their own, eta (-1 times): correct" in said(x, y * [1, -1, 1])
    assert "pt (1000 times)" in said(x, y * [1e3, 1, 1])
    assert "t (1 times and a constant)" in said(x, y - [0, 0, 273.15])
    assert "y has its components in the order eta, pt, t" in said(x, y[:, [1, 0, 2]])
    assert "x number 0 belongs to y number 1" in said(x, np.roll(y, 1, axis=0))
    assert "y has its components in the order t, eta, pt" in said(x, y[:, ::-1]), "x in another order is refused"


def test_vectors_that_are_all_the_same():
    class Constant(Jets):
        def apply(self, x):
            return np.full((len(x), 3), 5.0), np.ones(len(x), bool)

    x = np.random.default_rng(0).normal(size=(20, 3))
    assert compare(Constant(), x, np.full((20, 3), 5.0), 0.02, generator(0)).agrees
    assert "y is 1.2 times the simulation" in compare(Constant(), x, np.full((20, 3), 6.0), 0.02, generator(0)).summary


def test_few_noisy_values_are_no_alarm():
    """Where one simulation takes long there are two pairs, and the noise of one may be far from that of the other."""

    class Slow(Jets):
        def observe(self, signal, x, rng):
            return signal + rng.normal(size=signal.shape)

    rng = np.random.default_rng(6)
    x = np.stack([20 + rng.exponential(50, 200), rng.normal(size=200), rng.uniform(1, 10, 200)], axis=1).reshape(
        100, 2, 3
    )
    pairs = [(two, Slow().observe(Slow().apply(two)[0], two, rng)) for two in x]
    found = [compare(Slow(), *two, 0.02, generator(i)).agrees for i, two in enumerate(pairs)]
    assert np.mean(found) > 0.95


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
    unlike = compare_with_seen(field, smooth, seen)[1]
    assert any("mean frequency" in line for line in unlike)
    assert not any("polarity" in line for line in unlike), "a filter is no other polarity"
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


def test_pairs_that_cannot_be_simulated_are_a_warning():
    task = {"family": "data", "own_forward": True, "tolerance": 0.02}
    found = look(Jets(), task, np.zeros((2, 3)), np.full((2, 3), 99.0), None)
    assert found.warnings == [
        "its pairs cannot be simulated (ZeroDivisionError: no jet lies there): correct x, or the simulator"
    ]


def test_a_later_file_may_differ_from_the_first(pairs):
    x, y = pairs
    task = {"family": "data", "own_forward": True, "tolerance": 0.02}
    found = look(Echoes(), task, y, x, None, [Pairs("b.npy", y, x), Pairs("c.npy", -y, x)])
    assert found.said == ["2 pairs simulated: relative misfit 0"]
    (warning,) = found.warnings
    assert warning.startswith("c.npy: 2 pairs simulated: ")
    assert "the sign of y is the other one" in warning
