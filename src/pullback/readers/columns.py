"""Columns of a table of entries: one number for each entry, or a list of numbers."""

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Column:
    """Some entries of a column, flattened.

    Attributes:
        values: numbers (value,); 0 where there is none.
        missing: where an optional column has no value (value,).
        counts: values of each entry (entry,); None where each has one.
        fixed: whether each entry has an array of the same length, by its type or as it is.
        absent: entries whose list is missing, with 0 values (entry,); empty where each has one value.
    """

    values: np.ndarray
    missing: np.ndarray
    counts: np.ndarray | None = None
    fixed: bool = False
    absent: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    @staticmethod
    def of(values: np.ndarray) -> "Column":
        """A column of arrays: one number for each entry (entry,), or lists of one length (entry, value)."""
        n, *lengths = values.shape
        missing = np.zeros(values.size, bool)
        if not lengths:
            return Column(values, missing)
        return Column(values.ravel(), missing, np.full(n, lengths[0]), True, np.zeros(n, bool))

    def without(self, entries: np.ndarray) -> "Column":
        """No values in some entries (entry,) of a column of lists."""
        assert self.counts is not None
        if not entries.any():
            return self
        kept = ~np.repeat(entries, self.counts)
        return replace(
            self, values=self.values[kept], missing=self.missing[kept], counts=np.where(entries, 0, self.counts)
        )
