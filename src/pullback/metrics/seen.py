"""Observations of training beside those of a family: how far they lie, and how far sets of training lie themselves."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pullback.core import seeding
from pullback.core.once import once
from pullback.ensembles.arrays import read_rows
from pullback.ensembles.positive_weights import cell_resampled
from pullback.ensembles.store import EnsembleReader
from pullback.metrics import distances
from pullback.metrics.floors import DIRECTIONS
from pullback.metrics.metric import Measured, Metric
from pullback.metrics.sample import Space

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers

SEEN_VALUES = 4_000_000
"""Numbers of observations of a seen family that are compared."""


SEEN_ENSEMBLES = 64
"""Ensembles of a sweep that are compared, spread evenly over it."""


SEEN_SETS = 20
"""Sets of each seen family that show how far one of as many events lies: 1 in 21 others lies beyond all of them."""


USUAL = 0.95
"""The share of them that lies nearer than what is called usual."""


SCALE_EVENTS = 1000
"""Observations of each seen ensemble whose spread is the unit of quantities that have different ones."""


class Observations(NamedTuple):
    """Observations (event, component) and their weights (event,), None where all are equal."""

    y: np.ndarray
    weight: np.ndarray | None

    def take(self, rows: np.ndarray) -> "Observations":
        """Some of them."""
        return Observations(self.y[rows], None if self.weight is None else self.weight[rows])


class SeenObservations:
    """Observations of the ensembles that were trained on: of each seen family, of a sweep up to `SEEN_ENSEMBLES`.

    One with negative event weights, or none above 0, is left out: no distance between distributions is known of it.

    Args:
        paths: index files of the train split, one for each family.
        most: events of each ensemble at most.
    """

    def __init__(self, paths: list[Path], most: int):
        self.paths, self.most = paths, most

    def events(self, n: int, components: int) -> int:
        """How many of n observations of so many components are compared."""
        return max(1, min(n, self.most, SEEN_VALUES // components))

    @once
    def _families(self, n: int) -> list[list[Observations]]:
        """Up to n observations of each ensemble, spread evenly over it: for each family those of its ensembles."""
        found = []
        for path in self.paths:
            with EnsembleReader(path) as reader:
                last = len(reader.offsets) - 2
                chosen = np.unique(np.linspace(0, last, min(last + 1, SEEN_ENSEMBLES)).astype(int))
                read = [_observations(reader, int(ensemble), n) for ensemble in chosen]
            found.append([one for one in read if one is not None])
        return found

    @once
    def _space(self) -> Space:
        """How observations are compared: range, and where units differ their scale, are of what was trained on.

        One space for all families, as their distances are compared; of a few observations no spread is known.
        """
        with EnsembleReader(self.paths[0]) as reader:
            field = reader.y
        plain = len(set(field.units)) == 1 and "periodic" not in field.transforms
        n = 1 if plain else self.events(SCALE_EVENTS, math.prod(field.shape))
        return Space.of(field, np.concatenate([one.y for family in self._families(n) for one in family]))

    def distance(self, y: np.ndarray, weight: np.ndarray | None, address: seeding.Address) -> Measured | None:
        """``seen_swd``: sliced distance from observations to the nearest ensemble that was trained on.

        It measures the distance from the training priors, independent of the method, on the scale of y. Samples of
        one prior are not 0 apart, and fewer events are farther apart: the floor is the distance that 95 % of sets of
        as many seen events stay below (`usual`).

        Args:
            y: observations (event, component), as many as `events` says.
            weight: their weights (event,), or None.
            address: root of the directions.
        """
        n = len(y)
        seen = [one for family in self._families(n) for one in family]
        if not seen:
            return None
        space = self._space()
        theta = _directions(address, y.shape[1])
        ours = space.standard(y)
        found = []
        for theirs in seen:
            some = slice(len(theirs.y))
            our_weight = None if weight is None else weight[some]
            found.append(
                distances.sliced_wasserstein(ours[some], space.standard(theirs.y), theta, our_weight, theirs.weight)
            )
        # Unequal weights tell as much as fewer equal ones.
        effective = n if weight is None else max(1, int(weight.sum() ** 2 / np.square(weight).sum()))
        return Measured("seen_swd", min(found), None, None, self.usual(effective, address), n, space.unit)

    @once
    def usual(self, n: int, address: seeding.Address) -> float | None:
        """The distance that 95 % of sets of n seen events stay below; of several families the largest.

        Of a family of one ensemble a set is n of its events at random, and its distance that from as many others of
        them: of half of them each where there are fewer than 2 n, which are farther apart. Of a sweep, which stands for
        a continuum of priors, a set is n events of one ensemble, and its distance that from the nearest other one. None
        where there are too few events or ensembles for that.
        """
        found = []
        for number, (path, family) in enumerate(zip(self.paths, self._families(n), strict=True)):
            rng = seeding.generator(*address, "sets of seen events", number, n)
            own = list(
                self._of_ensembles(family, address, rng) if len(family) > 1 else self._of_one(path, n, address, rng)
            )
            if own:
                # Of s exchangeable sets and one more, the latter is above the k-th in (s + 1 - k) of s + 1 cases.
                found.append(np.sort(own)[min(len(own), math.ceil(USUAL * (len(own) + 1))) - 1])
        return float(max(found)) if found else None

    def _of_ensembles(
        self, family: list[Observations], address: seeding.Address, rng: np.random.Generator
    ) -> Iterator[float]:
        """Distances of some ensembles to the nearest of the others."""
        seen = [self._project(one, address) for one in family]
        for place in rng.permutation(len(seen))[:SEEN_SETS]:
            yield min(_apart(seen[place], other) for i, other in enumerate(seen) if i != place)

    def _of_one(self, path: Path, n: int, address: seeding.Address, rng: np.random.Generator) -> Iterator[float]:
        """Distances between disjoint sets of n events of the one ensemble of a file."""
        with EnsembleReader(path) as reader:
            most = max(2 * n, min(2 * n * SEEN_SETS, SEEN_VALUES // math.prod(reader.y.shape)))
            pool = _observations(reader, 0, most)
        if pool is None or len(pool.y) < 2:
            return
        k = min(n, len(pool.y) // 2)
        for _ in range(SEEN_SETS):
            order = rng.permutation(len(pool.y))
            yield _apart(*(self._project(pool.take(rows), address) for rows in (order[:k], order[k : 2 * k])))

    def _project(self, one: Observations, address: seeding.Address) -> Observations:
        """Observations seen along the directions (direction, event), sorted where they have no weights."""
        space = self._space()
        centre = 0.5 * (space.low + space.high) / space.scale
        seen = distances.project(space.standard(one.y), _directions(address, one.y.shape[1]), centre)
        return Observations(np.sort(seen, axis=1) if one.weight is None else seen, one.weight)


def _observations(reader: EnsembleReader, ensemble: int, n: int) -> Observations | None:
    """Up to n observations spread evenly over one ensemble; None where the sum of the weights is not positive."""
    first, stop = (int(edge) for edge in reader.offsets[ensemble : ensemble + 2])
    rows = np.unique(np.linspace(first, stop - 1, min(stop - first, n)).astype(int))
    weight = read_rows(reader, "weight", rows) if "weight" in reader.columns else None
    y = read_rows(reader, "y", rows).reshape(len(rows), -1)
    if weight is not None:
        if not weight.sum() > 0:
            return None
        if (weight < 0).any():
            weight = cell_resampled(y, reader.y, weight)
    equal = weight is None or (weight == weight[0]).all()
    return Observations(y, None if equal else weight)


def _directions(address: seeding.Address, components: int) -> np.ndarray:
    return distances.directions((*address, "y", "directions", 0), components, DIRECTIONS)


def _apart(one: Observations, other: Observations) -> float:
    """Sliced distance of two samples along directions, as `SeenObservations._project` gives them."""
    if one.weight is None and other.weight is None and one.y.shape == other.y.shape:
        return float(np.sqrt(np.square(one.y - other.y).mean(dtype=np.float64)))
    return float(np.sqrt(distances.wasserstein_powers(one.y, other.y, 2, one.weight, other.weight).mean()))


def seen_rows(answers: "Answers") -> Iterator[Measured]:
    """The distance of the observations to the nearest training ensemble, the same for every method."""
    found = answers.case.distance_to_seen(len(answers.one), answers.seen)
    if found:
        yield found


SEEN_SWD = Metric(
    "seen_swd",
    "Distance to the nearest seen prior",
    "between these observations and a training ensemble's; 95 % of sets of as many seen events lie below the floor",
    needs_truth=False,
    measure=seen_rows,
    check=True,
    limit="floor",
)
"""Sliced Wasserstein distance between these observations and those of the nearest training family.

Needs no truth. Angles: as `swd`. Weights: of events. Failed draws: none, it is of observations. Floor: the
distance that 95 % of sets of as many seen events stay below.
"""
