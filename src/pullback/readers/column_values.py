"""Operations on columns of numbers and of lists, for expressions."""

from dataclasses import replace
from typing import Any

import numpy as np

from pullback.readers.columns import Column

Value = Column | float | int
"""A column, or a number that stands in an expression."""


class ExpressionError(ValueError):
    """What is not an expression, or cannot be computed from columns of these kinds."""


def alike(values: list[Value], said: list[str], first: int) -> list[Value]:
    """Values that each stand beside the others: numbers of entries repeated for the members of lists.

    Args:
        values: columns and numbers.
        said: what each is, for messages.
        first: number of the first entry, for messages.

    Raises:
        ExpressionError: two lists have other lengths in an entry.
    """
    lists = [(each, what) for each, what in zip(values, said, strict=True) if is_list(each)]
    if not lists:
        return values
    absent = np.any([each.absent for each, _ in lists], axis=0)  # type: ignore[union-attr]
    fixed = all(each.fixed for each, _ in lists)  # type: ignore[union-attr]
    counts, of = None, ""
    for each, what in lists:
        assert isinstance(each, Column)
        found = each.without(absent).counts
        assert found is not None
        if counts is None:
            counts, of = found, what
        if (different := np.flatnonzero(counts != found)).size:
            row = int(different[0])
            raise ExpressionError(
                f"in entry {first + row} '{of}' has {counts[row]} values and '{what}' {found[row]}, wanted lists of "
                "the same length"
            )
    assert counts is not None
    result: list[Value] = []
    for each in values:
        if not isinstance(each, Column):
            result.append(each)
        elif each.counts is None:
            result.append(
                Column(np.repeat(each.values, counts), np.repeat(each.missing, counts), counts, fixed, absent)
            )
        else:
            result.append(replace(each.without(absent), fixed=fixed, absent=absent))
    return result


def is_list(value: Value) -> bool:
    """Whether a value is a column of lists."""
    return isinstance(value, Column) and value.counts is not None


def for_arithmetic(values: Any) -> Any:
    """Floats in double precision, whole numbers in 64 bits, truth values as 0 and 1."""
    if not isinstance(values, np.ndarray):
        return values
    if values.dtype.kind == "f":
        return values.astype(np.float64, copy=False)
    return values if values.dtype == np.uint64 else values.astype(np.int64, copy=False)


def sums(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums over the members of each list."""
    found = np.zeros(len(counts), np.float64 if values.dtype.kind == "f" else np.int64)
    starts, full = np.cumsum(counts) - counts, counts > 0
    if full.any():
        found[full] = np.add.reduceat(for_arithmetic(values), starts[full])
    return found


def reduced(name: str, column: Column, default: float | None) -> Column:
    """Sum, count, max or min of each list; of a condition count is how often it holds.

    The max or min of an empty list is missing, or the default; what has a missing member is missing.
    """
    assert column.counts is not None
    counts, full = column.counts, column.counts > 0
    missing = column.absent | (sums(column.missing, counts) > 0)
    if name in ("sum", "count"):
        is_condition = column.values.dtype.kind == "b"
        return Column(counts.copy() if name == "count" and not is_condition else sums(column.values, counts), missing)
    values = for_arithmetic(column.values)
    found = np.full(len(counts), 0 if default is None else default, np.result_type(values, type(default or 0)))
    if full.any():
        starts = np.cumsum(counts) - counts
        found[full] = (np.maximum if name == "max" else np.minimum).reduceat(values, starts[full])
    return Column(found, missing | (~full if default is None else False))


def nth(column: Column, index: int, default: float | None) -> Column:
    """One member of each list; missing, or the default, where there is none."""
    assert column.counts is not None
    there = column.counts > index
    place = (np.cumsum(column.counts) - column.counts + index)[there]
    fill = 0 if default is None else default
    of = column.values.dtype if default is None else np.result_type(column.values, type(default))
    found, missing = np.full(len(there), fill, of), column.absent | (~there if default is None else False)
    found[there] = column.values[place]
    missing[there] |= column.missing[place]
    return Column(found, missing)
