"""The contract of readers: a block ``read`` of a family, and the files and entries that it names."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pullback.study.base import Closed, Split, expand_patterns, outside_path
from pullback.study.kinds import Message, Package

if TYPE_CHECKING:
    from pullback.study.model import Problem

FileNames = str | Annotated[list[str], Field(min_length=1)]
"""One entry of ``files``: a file, or files that hold one event together."""


def names_of(entry: FileNames) -> list[str]:
    """The files of one entry."""
    return [entry] if isinstance(entry, str) else list(entry)


PLACEHOLDERS = [-99.0, -999.0, -9999.0, -99999.0, -999999.0, 999.0, 9999.0, 99999.0, 999999.0]
"""Numbers that stand for a missing value in many files."""


class ReaderSpec(Closed):
    """Outside files of one format, as a family's block ``read`` names them.

    Attributes:
        records: what an event is read from, which a problem must name in its ``reads``: jets, gathers. ``arrays``: the
            fields x and y as they are, which every problem reads.
        truth: the option without which no truth is read; empty where the files always hold it.
        requires: optional packages that read the format.
        own_forward: whether the problem's forward process is that of such observations where a family does not say so.
        joins_files: whether an entry of ``files`` may be a list of files that hold one event together.
        takes_entries: whether ``open`` reads only the entries of a file that are asked for (`OutsideFile.span`).
        suffixes: endings of the files that ``inspect`` describes.
        NAMED: options that name files or entries, of which a job holds those of its own shard and split.
    """

    records: ClassVar[str] = "arrays"
    truth: ClassVar[str] = ""
    requires: ClassVar[tuple[Package, ...]] = ()
    own_forward: ClassVar[bool] = False
    joins_files: ClassVar[bool] = False
    takes_entries: ClassVar[bool] = False
    suffixes: ClassVar[tuple[str, ...]] = ()
    NAMED: ClassVar[frozenset[str]] = frozenset({"files", "models", "entries"})

    kind: str
    files: dict[Split, Annotated[list[FileNames], Field(min_length=1)]] = Field(
        description="files of each split, relative to the working directory; $PULLBACK_DATA and other variables "
        "expand, and a pattern such as data/*.root stands for the files that there are, by name. Of segy a list in the "
        "list is the files of one event"
    )
    entries: dict[Split, tuple[int | float, int | float]] = Field(
        default={},
        description="[from, to] of the entries of each file that a split reads, as numbers of entries (from counts, to "
        "does not) or, where one of the two has a decimal point, as fractions of the file: [0, 0.8] and [0.8, 1.0]",
    )
    scale: float | Literal["fit"] = Field(
        default=1.0,
        description="factor on y. fit: the factor by which the first pairs agree best with their simulation",
    )
    tolerance: float = Field(
        default=0.02,
        ge=0,
        description="relative misfit ||F(x) - y|| / ||y|| between recorded pairs and their simulation that nothing is "
        "said of, beside that of noise; of vectors relative to the spread of each component",
    )
    invalid: Literal["refuse", "drop"] = Field(
        default="refuse",
        description="what becomes of events with NaN, infinity, a missing value or a placeholder: the file is refused, "
        "or they are left out and counted",
    )
    invalid_fraction: float = Field(
        default=0.1, gt=0, le=1, description="most events of a file that may be left out with `invalid: drop`"
    )
    placeholders: list[float] = Field(
        default=PLACEHOLDERS,
        description="numbers that stand for a missing value, where they lie far outside of a column's other values",
    )

    @model_validator(mode="before")
    @classmethod
    def _files_of_patterns(cls, values: Any) -> Any:
        for option in cls.NAMED & values.keys() if isinstance(values, dict) else ():
            if isinstance(named := values[option], dict):
                expanded = {split: expand_patterns(n) if isinstance(n, list) else n for split, n in named.items()}
                values = {**values, option: expanded}
        return values

    @model_validator(mode="after")
    def _each_entry_once(self) -> "ReaderSpec":
        refuse_entries_twice(self)
        return self

    @property
    def packages(self) -> tuple[Package, ...]:
        """The optional packages that read these files."""
        return self.requires

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

    def check(self, problem: "Problem") -> Iterator[Message]:
        """Cross-field validation against the problem that it is part of."""
        return iter(())

    def open(self, problem: Any, file: Any) -> AbstractContextManager[Any]:
        """Open one file and compare it with the fields of the problem.

        Args:
            problem: a `pullback.problems.base.Problem`.
            file: a `pullback.readers.base.OutsideFile`.

        Returns:
            A context that gives the file's `pullback.readers.base.Events`.

        Raises:
            ReadError: there, or from a block: whatever is wrong with the file.
            pullback.core.optional.MissingExtraError: a package is not installed.
        """
        raise NotImplementedError

    @classmethod
    def inspect(cls, path: Path) -> Any:
        """What a file holds, a `pullback.readers.base.Inspection`; for kinds with ``suffixes``.

        Raises:
            ReadError: it cannot be read.
        """
        raise NotImplementedError

    def job_digest(self, path: Path) -> str | None:
        """The digest of the job that made a file of this package's own; None of any other."""
        return None


def refuse_entries_twice(reader: ReaderSpec) -> None:
    """Refuse a file that is read twice, but for entries of splits that do not overlap; paths are resolved.

    Raises:
        ValueError: with the file and both splits.
    """
    for split, (start, stop) in reader.entries.items():
        if split not in reader.files:
            raise ValueError(f"`entries` names {split}, of which there are no files")
        if not reader.takes_entries:
            raise ValueError(f"`entries`: files of kind '{reader.kind}' are read as a whole; leave it out")
        if not 0 <= start < stop or (is_fraction((start, stop)) and stop > 1):
            raise ValueError(f"`entries.{split}`: found [{start}, {stop}], wanted 0 <= from < to, of fractions to <= 1")
    seen: dict[str, list[Split]] = {}
    for split, entries in reader.files.items():
        if not reader.joins_files and any(isinstance(entry, list) for entry in entries):
            raise ValueError(
                f"`files.{split}`: a list in the list, wanted files: kind '{reader.kind}' reads each alone"
            )
        for name in (name for entry in entries for name in names_of(entry)):
            path = os.path.realpath(outside_path(name))
            for other in seen.get(path, []):
                if other == split or not _are_apart(reader.entries.get(other), reader.entries.get(split)):
                    where = f"twice in {split}" if other == split else f"in {other} and in {split}"
                    remedy = "name it once" + ("" if other == split else _SPLIT_IT if reader.takes_entries else "")
                    raise ValueError(f"`files`: {name} is {where}: {remedy}")
            seen.setdefault(path, []).append(split)


_SPLIT_IT = ", or give each split entries of its own: entries: {train: [0, 0.8], test: [0.8, 1.0]}"

Span = tuple[int | float, int | float]


def is_fraction(span: Span) -> bool:
    """Whether entries are given as fractions of a file: one of the two has a decimal point."""
    return any(isinstance(end, float) for end in span)


def _are_apart(one: Span | None, other: Span | None) -> bool:
    if one is None or other is None or is_fraction(one) != is_fraction(other):
        return False
    return one[1] <= other[0] or other[1] <= one[0]
