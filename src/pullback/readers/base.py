"""What every reader of outside files is: its options in a study, and the events that it gives.

A format is one file of this package: a `ReaderSpec` whose `open` gives the events of one file. It is named in
`pullback.study.families.READERS`, or by a study as ``./my.py:MyReader``. The driver of all of them is
`pullback.readers.read`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import ConfigDict, Field, StringConstraints

from pullback.study.base import Closed, Split


class ReadError(ValueError):
    """Outside files that cannot be read into an ensemble: what was found, what was wanted, what to do."""


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
    """

    path: Path
    model: Path | None = None
    number: int = 0
    row: int = 0
    split: str = "test"
    has_truth: bool = True


@dataclass(frozen=True)
class Block:
    """Some consecutive events of a file.

    Attributes:
        y: (event, *y).
        x: (event, *x), or None where no truth is read.
        event_id: unique in the split (event,), int64.
        group: unit of the bootstrap (event,); None: each event is its own.
        columns: one value for each event, of each name in the reader's `columns`.
    """

    y: np.ndarray
    x: np.ndarray | None
    event_id: np.ndarray
    group: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Events:
    """The events of one open file.

    Attributes:
        blocks: in order, each read when it is asked for.
        summary: what the file holds, for people: ``segy, 1 event``.
        attributes: of the ensemble's file.
    """

    blocks: Iterable[Block]
    summary: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


class ReaderSpec(Closed):
    """Outside files of one format, as a family's block ``read`` names them."""

    records: ClassVar[str]
    """What an event is read from; a problem names in its ``reads`` what it can take: jets, gathers."""
    truth: ClassVar[str] = ""
    """The option without which no truth is read."""
    label: ClassVar[str]
    extra: ClassVar[str] = ""
    packages: ClassVar[dict[str, str]] = {}
    """Modules that are needed and the packages that have them; the extra of pullback that installs them."""
    NAMED: ClassVar[frozenset[str]] = frozenset({"files", "models"})
    """Options that name files: jobs hold those of their own shard."""

    kind: str
    files: dict[Split, Annotated[list[str], Field(min_length=1)]] = Field(
        description="files of each split, relative to the working directory; $PULLBACK_DATA and other variables expand"
    )

    @property
    def has_truth(self) -> bool:
        """Whether the files hold a truth."""
        return True

    @property
    def columns(self) -> dict[str, str]:
        """Further variables with one value for each event, and their dtypes."""
        return {}

    def model_files(self, split: Split) -> list[str]:
        """The files that hold the truth of a split, where they are others than those with the observations."""
        return []

    def files_per_shard(self, events: int) -> int:
        """Files that one job reads, where a shard has at most so many events."""
        return 1

    def check(self, problem: Any) -> Iterator[str]:
        """What does not fit the problem's Spec, each message with the option first: ``y_pt_min: found ...``."""
        yield from ()

    def open(self, problem: Any, file: OutsideFile) -> AbstractContextManager[Events]:
        """Open one file and compare it with the fields of the problem.

        Args:
            problem: a `pullback.problems.base.Problem`.
            file: what is read.

        Raises:
            ReadError: there, or from a block: whatever is wrong with the file.
            pullback.core.optional.MissingExtraError: a package is not installed.
        """
        raise NotImplementedError

    def job_digest(self, path: Path) -> str | None:
        """The digest of the job that made a file of this package's own; None of any other."""
        return None


class CustomFiles(ReaderSpec):
    """Files of the user's own reader: ``./my_reader.py:MyReader``, a `ReaderSpec` with whatever options it has."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: Annotated[str, StringConstraints(pattern=r"^(.+\.py:[A-Za-z_]\w*|[A-Za-z][\w-]*)$")]
