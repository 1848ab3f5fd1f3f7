"""Interface of the readers of outside files.

A format is one file of this package: a `ReaderSpec` whose ``open`` gives the events of one file. The driver of all of
them is `pullback.problems.read`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from pullback.ensembles.acceptance import Missed
from pullback.study.reader_spec import Span, is_fraction


class ReadError(ValueError):
    """Outside files that cannot be read into an ensemble: what was found, what was wanted, what to do."""


def short(error: Exception) -> str:
    """What another library says, in a part of one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


@dataclass(frozen=True)
class OutsideFile:
    """One file of a split.

    Attributes:
        path: with the observations.
        model: with their truth, where that is another file and is read.
        number: of the file in its split; with the row in the file it makes an ``event_id`` that does not depend on
            shards.
        row: of the file among those of its shard.
        split: that it is of.
        has_truth: whether truth is to be read.
        entries: the part of its entries that is to be read; None: all (`ReaderSpec.entries`).
        others: further files of the same event (`ReaderSpec.joins_files`).
    """

    path: Path
    model: Path | None = None
    number: int = 0
    row: int = 0
    split: str = "test"
    has_truth: bool = True
    entries: Span | None = None
    others: tuple[Path, ...] = ()

    def span(self, n: int) -> tuple[int, int]:
        """First entry to read, and the one after the last, of a file with n entries.

        Raises:
            ReadError: there are none between the two.
        """
        start, stop = self.entries or (0, n)
        if is_fraction((start, stop)):
            start, stop = round(start * n), round(stop * n)
        first, last = int(start), min(int(stop), n)
        if first >= last:
            raise ReadError(f"{self.path}: {n} entries, none of them from {first} to {stop}: correct `entries`")
        return first, last


class Inspection(NamedTuple):
    """What a file holds, for ``pullback inspect``.

    Attributes:
        lines: subject and text, in order.
        read: the block ``read`` of a family that would read it as far as the file says; None where none follows.
        hint: why, or what else to do with the file.
        plots: title -> values to draw: (value,) as a histogram, (row, column) as an image.
    """

    lines: list[tuple[str, str]]
    read: dict[str, Any] | None
    hint: str = ""
    plots: Mapping[str, np.ndarray] = MappingProxyType({})


@dataclass(frozen=True)
class Block:
    """Some consecutive events of a file.

    Attributes:
        y: (event, *y).
        x: (event, *x), or None where no truth is read.
        event_id: unique in the split (event,), int64.
        group: unit of the bootstrap (event,); None: each event is its own.
        columns: one value for each event, of each name in the reader's ``columns``.
        fake: which events have no truth (event,), bool, x is NaN there; None: all have one, or none is read.
        missed: truths that were not recorded; a block may hold nothing else.
    """

    y: np.ndarray
    x: np.ndarray | None
    event_id: np.ndarray
    group: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    fake: np.ndarray | None = None
    missed: Missed | None = None

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray | None]:
        """y (event, *y) and x (event, *x) of the events that have a truth; of all where no truth is read."""
        if self.x is None or self.fake is None:
            return self.y, self.x
        return self.y[~self.fake], self.x[~self.fake]


class Ensembles(NamedTuple):
    """The ensembles of a sweep in one file.

    Attributes:
        names: of the parameters of their priors.
        theta: parameters of each (ensemble, parameter).
        first: the smallest `group` of each (ensemble,); events are in their order.
    """

    names: list[str]
    theta: np.ndarray
    first: np.ndarray

    def events(self, group: np.ndarray) -> np.ndarray:
        """Number of events of each ensemble (ensemble,) among events of these groups (event,)."""
        return np.bincount(np.searchsorted(self.first, group, side="right") - 1, minlength=len(self.first))


@dataclass(frozen=True)
class Events:
    """The events of one open file.

    Attributes:
        blocks: in order, each read lazily.
        summary: summary for messages: ``segy, 1 event``; also what was taken from metadata.
        attributes: of the ensemble's file.
        left_out: events that are not in the blocks, by reason; complete when the last block was given. The driver
            leaves out events of the blocks that are not finite or hold placeholders, and adds them.
        warnings: what may be wrong with the file, a line each: of `pullback check` and of the log.
        ensembles: of a sweep; None: the file is of one prior.
    """

    blocks: Iterable[Block]
    summary: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    warnings: Sequence[str] = ()
    ensembles: Ensembles | None = None
