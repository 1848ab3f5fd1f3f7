"""What is done with values that are none, in files of entries: refused, or left out and counted."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pullback.readers.base import ReadError
from pullback.readers.columns import Column
from pullback.readers.invalid import is_listed, placeholders
from pullback.readers.table import Table
from pullback.study.reader_spec import ReaderSpec

Wrong = dict[tuple[str, str], np.ndarray]
"""(column, what its values are) -> where (value,)."""


class LeftOut:
    """Values of one file that are none.

    Args:
        path: of the file.
        spec: with the policy, ``invalid``.
        what: of a column, for messages: branch.

    Attributes:
        events: that were left out, by reason.
        counts: values that were left out: (of what, column, reason) -> number.
    """

    def __init__(self, path: Path, spec: ReaderSpec, what: str):
        self.path, self.spec, self.what = path, spec, what
        self.events: Counter[str] = Counter()
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self._first: dict[tuple[str, str, str], int] = {}

    def add(
        self,
        wrong: Mapping[tuple[str, str], np.ndarray],
        of: str,
        entry: np.ndarray,
        events: np.ndarray,
        keep: np.ndarray | None = None,
    ) -> None:
        """Refuse or count values that are none.

        Args:
            wrong: (column, what they are) -> where (value,).
            of: what has a value: jets, or entries.
            entry: that each value is of (value,).
            events: that are lost with each (value,).
            keep: values that matter (value,); None: all.

        Raises:
            ReadError: there is one, and the policy is to refuse.
        """
        for (name, what), everywhere in wrong.items():
            where = everywhere if keep is None else everywhere & keep
            if not where.any():
                continue
            first = int(entry[np.argmax(where)])
            if self.spec.invalid == "refuse":
                raise ReadError(
                    f"{self.path}: {self.what} '{name}' is {what} in entry {first} ({int(where.sum())} of "
                    f"{len(where)} {of} up to entry {int(entry[-1])}): repair the file, or leave such {of} out by "
                    f"read.invalid: drop{'; `placeholders` lists what is one' if what == 'a placeholder' else ''}"
                )
            self._first.setdefault((of, name, what), first)
            self.counts[of, name, what] += int(where.sum())
            if lost := int(events[where].sum()):
                self.events[f"'{name}' is {what}"] += lost

    def add_entries(self, absent: Mapping[str, np.ndarray], start: int, stop: int) -> None:
        """Refuse or count entries without a list, by column (entry,); each loses an event at least."""
        wrong = {(name, "missing (None)"): where for name, where in absent.items()}
        self.add(wrong, "entries", np.arange(start, stop), np.ones(stop - start, int))

    @property
    def said(self) -> list[str]:
        """The counts, for the log."""
        return [f"{count} {of} left out as '{name}' is {what}" for (of, name, what), count in self.counts.items()]

    @property
    def warnings(self) -> list[str]:
        """A line for each reason, with the first entry."""
        return [
            f"{self.path}: {self.counts[of, name, what]} {of} left out: {self.what} '{name}' is {what}, first in entry "
            f"{entry}"
            for (of, name, what), entry in self._first.items()
        ]


def made_from_placeholders(table: Table, text: str, result: Column, listed: list[float]) -> np.ndarray:
    """Where an expression is computed from numbers that stand for a missing value (value,).

    These are numbers that lie far outside of the only column that it is computed from, or the same one in all columns.

    Args:
        table: that it was evaluated on, last for these entries.
        text: the expression.
        result: what it gave.
        listed: the numbers.
    """
    found = np.zeros(len(result.values), bool)
    if table.expression(text).is_column:
        return found
    inputs = [each.values for each in table.inputs(text) if len(each.values) == len(found)]
    if len(inputs) == 1:
        return placeholders(inputs[0], listed)
    if inputs:
        found = is_listed(inputs[0], listed)
        for each in inputs[1:]:
            found &= each == inputs[0]
    return found
