"""The events of one family's split as training reads them: pairs and fakes in blocks, weights, windows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pullback.ensembles.acceptance import FAKE
from pullback.ensembles.arrays import Ensemble
from pullback.ensembles.fields import Field

WINDOWS = 16


class SetsError(ValueError):
    """Ensembles that cannot be trained on; the message names the file and what was wanted."""


class Pairs(NamedTuple):
    """Events pooled over ensembles.

    Attributes:
        x: truths (event, *x), float32, physical units.
        y: observations (event, *y), float32, physical units.
        weight: nominal event weights (event,), float64; ones where the family has none.
    """

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray

    def of(self, mask: np.ndarray) -> "Pairs":
        """Some of the events, by a mask (event,)."""
        return self if mask.all() else Pairs(*(values[mask] for values in self))


def nominal(weight: np.ndarray) -> np.ndarray:
    """The nominal weight of each event (event,), the first of several; float64, as its scale may be any."""
    return weight.reshape(len(weight), -1)[:, 0].astype(np.float64)


@dataclass
class Family:
    """One family's split: its ensembles and, once a network's view of them is in memory, its events."""

    source: Ensemble
    x: np.ndarray | None = None
    y: np.ndarray | None = None
    capped: bool = False

    @property
    def weighted(self) -> bool:
        """Whether its events have weights."""
        return "weight" in self.source.columns

    @cached_property
    def weight(self) -> np.ndarray:
        """Nominal weights of all events (event,)."""
        return self.weights(0, self.source.n)

    @cached_property
    def real(self) -> np.ndarray:
        """Which of all events have a truth (event,)."""
        return ~self.source.fake()

    @cached_property
    def has_fakes(self) -> bool:
        """Whether an event has no truth."""
        return FAKE in self.source.columns and not self.real.all()

    @property
    def name(self) -> str:
        """Of the family in the study."""
        return str(self.source.attributes.get("family", self.source.path))

    def bounds(self, ensemble: int) -> tuple[int, int]:
        """The first event of one of its ensembles, and the one after the last."""
        return int(self.source.offsets[ensemble]), int(self.source.offsets[ensemble + 1])

    def weights(self, start: int, stop: int) -> np.ndarray:
        """Nominal weights of some events (event,); ones where it has none."""
        return nominal(self.source.read("weight", start, stop)) if self.weighted else np.ones(stop - start)

    def events(self, start: int, stop: int) -> tuple[np.ndarray, Pairs]:
        """Some events, and which of them have a truth (event,); x of the others is NaN."""
        x, y = (self.source.read(name, start, stop) for name in ("x", "y"))
        return ~self.source.fake(start, stop), Pairs(x, y, self.weights(start, stop))

    def blocks(self, block: int) -> Iterator[tuple[np.ndarray, Pairs]]:
        """All `events`, at most ``block`` at once."""
        for start in range(0, self.source.n, block):
            yield self.events(start, min(start + block, self.source.n))


def windows(n: int, wanted: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Up to WINDOWS disjoint windows, spread evenly over n rows, of about ``wanted`` rows together."""
    if wanted >= n:
        return [(0, n)]
    edges = np.linspace(0, n, min(WINDOWS, wanted) + 1).astype(int)
    rows = -(-wanted // (len(edges) - 1))
    windows = []
    for low, high in pairwise(edges):
        size = min(rows, int(high - low))
        start = int(low) + int(rng.integers(high - low - size + 1))
        windows.append((start, start + size))
    return windows


def common_fields(sources: Sequence[Ensemble]) -> tuple[Field, Field]:
    """The fields x and y that all sources have.

    Raises:
        SetsError: a source without truth, or with other fields than the first.
    """
    first = sources[0]
    for source in sources:
        if source.x is None:
            raise SetsError(f"{source.path}: holds observations without truth; a family that is trained on needs x")
        for one, other in ((source.x, first.x), (source.y, first.y)):
            assert one is not None
            assert other is not None
            found, wanted = ((f.features, f.dims, f.shape, f.units) for f in (one, other))
            if found != wanted:
                raise SetsError(
                    f"{source.path}: {one.name} is {found}, wanted {wanted} as in {first.path}; families of one "
                    "problem share their fields, so remake the file that differs"
                )
    assert first.x is not None
    return first.x, first.y
