"""A table of entries whose columns are read by name, and expressions over them: the base of all formats."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import numpy as np

from pullback.readers.base import ReadError
from pullback.readers.column_values import ExpressionError
from pullback.readers.columns import Column
from pullback.readers.expressions import Expression

LISTED = 12
"""Names in a message."""


class Table(ABC):
    """Columns of one file, read in parts. A context manager.

    Attributes:
        path: the file.
        entries: how many it has.
        format: what messages and attributes call it.
        what: of its columns, for messages: branch, column, array.
    """

    path: Path
    entries: int
    format: str
    what = "column"

    def __init__(self, path: Path):
        self.path = Path(path)
        self._known: dict[str, Expression] = {}
        self._part: tuple[int, int] = (0, 0)
        self._columns: dict[str, Column] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Names of the columns."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is such a column."""

    @abstractmethod
    def typename(self, name: str) -> str:
        """The type of a column."""

    @abstractmethod
    def column(self, name: str, start: int, stop: int) -> Column:
        """Some entries of a column of numbers, or of lists of numbers."""

    def unit(self, name: str) -> str:
        """The unit that the file says of a column; empty where it says none."""
        return ""

    def parts(self, texts: Iterable[str], start: int, stop: int, entries: int) -> Iterator[tuple[int, int]]:
        """First and last entry of each part, of at most so many entries, in which some expressions are read."""
        for first in range(start, stop, entries):
            yield first, min(first + entries, stop)

    @property
    def where(self) -> str:
        """Where in the file the columns are, for messages."""
        return ""

    def expression(self, text: str) -> Expression:
        """A column where there is one of this name, or an expression.

        Raises:
            ReadError: it is none.
        """
        if text not in self._known:
            try:
                self._known[text] = Expression.of_column(text) if self.has(text) else Expression(text)
            except ExpressionError as error:
                raise ReadError(f"{self.path}: {error}") from None
        return self._known[text]

    def require(self, texts: Iterable[str]) -> None:
        """Raise a ReadError unless all columns of these expressions are there."""
        for text in texts:
            for name in self.expression(text).columns:
                if not self.has(name):
                    there = self.names
                    near = [f"'{each}'" for each in difflib.get_close_matches(name, there, n=3, cutoff=0.75)]
                    more = f" and {len(there) - LISTED} more" if len(there) > LISTED else ""
                    hint = (
                        f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(there[:LISTED])}{more}."
                    )
                    of = f" (in `{text}`)" if text != name else ""
                    raise ReadError(
                        f"{self.path}: there is no {self.what} '{name}'{self.where}{of}; {hint} Correct the name"
                    )

    def evaluate(self, text: str, start: int, stop: int) -> Column:
        """Some entries of a column or of an expression.

        Columns of the last part are kept, as several expressions may need one.

        Raises:
            ReadError: the file is damaged, or the expression cannot be computed from such columns.
        """
        if self._part != (start, stop):
            self._part, self._columns = (start, stop), {}
        try:
            return self.expression(text).evaluate(self._kept, start)
        except ExpressionError as error:
            raise ReadError(f"{self.path}: {error}") from None

    def inputs(self, text: str) -> list[Column]:
        """The columns that an expression was last evaluated on."""
        return [self._kept(name) for name in self.expression(text).columns]

    def _kept(self, name: str) -> Column:
        if name not in self._columns:
            self._columns[name] = self.column(name, *self._part)
        return self._columns[name]

    def numbers(self, text: str, start: int, stop: int) -> Column:
        """An expression with one number for each entry; ``name[i]`` is the i-th of a list, from 0 on."""
        found = self.evaluate(text, start, stop)
        if found.counts is None:
            return found
        expression = self.expression(text)
        if expression.is_column:
            raise ReadError(
                f"{self.path}: {self.what} '{text}' holds {self.typename(text)}, wanted one number per entry; name "
                f"another, or one of the list: {text}[0]"
            )
        raise ReadError(f"{self.path}: `{text}` gives a list in each entry, wanted one number: reduce it, sum({text})")

    def lists(self, texts: list[str], start: int, stop: int) -> tuple[list[Column], np.ndarray]:
        """Expressions with a list for each entry, and the common lengths of the lists (entry,).

        Where the list of one is missing, none has values.
        """
        columns = [self.evaluate(text, start, stop) for text in texts]
        for text, column in zip(texts, columns, strict=True):
            if column.counts is None or column.values.dtype.kind == "b":
                is_column = self.expression(text).is_column
                holds = self.typename(text) if is_column else "no list of numbers"
                raise ReadError(
                    f"{self.path}: {self.what} '{text}' holds {holds}, wanted a list per entry, of numbers; "
                    "name another"
                )
        absent = np.any([column.absent for column in columns], axis=0)
        columns = [column.without(absent) for column in columns]
        lengths = columns[0].counts
        assert lengths is not None
        for text, column in zip(texts, columns, strict=True):
            assert column.counts is not None
            if (different := np.flatnonzero(column.counts != lengths)).size:
                row = int(different[0])
                raise ReadError(
                    f"{self.path}: in entry {start + row} {self.what} '{texts[0]}' has {lengths[row]} values and "
                    f"'{text}' {column.counts[row]}; lists of one kind of object must have the same length, correct "
                    "the map"
                )
        return columns, lengths
