"""The features of x or of y as columns of a table, in the units of a problem."""

from typing import Any

import numpy as np

from pullback.core.angles import wrap
from pullback.ensembles.fields import Field
from pullback.readers.base import ReadError
from pullback.readers.field_units import conversion, refuse_out_of_bounds, units_of
from pullback.readers.invalid import placeholders
from pullback.readers.jet_values import ANGLE_MAX, PT_MEDIAN_MAX, angle_unit, momentum_unit
from pullback.readers.left_out import LeftOut, made_from_placeholders
from pullback.readers.table import Table
from pullback.registry import did_you_mean

_LARGEST = float(np.finfo(np.float32).max)
"""Ensembles hold 32-bit numbers."""


class Side:
    """The features of x or of y.

    Args:
        table: that has the columns.
        field: of the problem: a vector.
        texts: feature -> expression.
        spec: of the reader, with ``units`` and ``placeholders``.
        warnings: added to, where values are unusual.

    Attributes:
        units: the conversion to the field's units.
        positive_angles: whether an angle is beyond pi: azimuths from 0 to 2 pi.

    Raises:
        ReadError: the field has other features, or `units` are not its.
    """

    def __init__(self, table: Table, field: Field, texts: dict[str, str], spec: Any, warnings: list[str]):
        self.table, self.field, self.spec, self._warnings = table, field, spec, warnings
        path, name = table.path, field.name
        if not field.is_vector:
            raise ReadError(
                f"{path}: {name} of this problem is an array ({', '.join(field.dims)}), and a table has numbers: read "
                "it by `kind: netcdf` or `kind: numpy`"
            )
        if unknown := [each for each in texts if each not in field.features]:
            near = did_you_mean(unknown[0], field.features)
            raise ReadError(
                f"{path}: read.{name} names {unknown[0]}, which is no feature of {name}{near}; wanted "
                f"{', '.join(field.features)}"
            )
        if missing := [each for each in field.features if each not in texts]:
            raise ReadError(f"{path}: read.{name} names no column for {', '.join(missing)}: add {missing[0]}: COLUMN")
        self.texts = {each: texts[each] for each in field.features}
        table.require(self.texts.values())
        by_file = tuple(table.unit(text) if table.has(text) else "" for text in self.texts.values())
        self.units = conversion(f"{path}: {name}", field, by_file, units_of(spec.units, name))
        self.positive_angles = False
        self._suspected: set[str] = set()

    def read(self, start: int, stop: int, used: np.ndarray, lost: LeftOut) -> tuple[np.ndarray, np.ndarray]:
        """The features of some entries (entry, feature), float64, and which entries have a value that is none (entry,).

        Args:
            start, stop: the entries.
            used: which of them are looked at (entry,); the others hold NaN.
            lost: where values that are none are refused or counted.
        """
        values, bad = np.full((stop - start, len(self.texts)), np.nan), np.zeros(stop - start, bool)
        entries, one = np.arange(start, stop), np.ones(stop - start, int)
        factors = np.broadcast_to(self.units.factor, (len(self.texts),))
        for i, text in enumerate(self.texts.values()):
            column = self.table.numbers(text, start, stop)
            found = column.values.astype(np.float64)
            none = ~column.missing & made_from_placeholders(self.table, text, column, self.spec.placeholders)
            there = used & ~column.missing & ~none
            far = np.zeros(len(found), bool)
            far[there] = placeholders(found[there], self.spec.placeholders)
            wrong = {
                (text, "missing (None)"): column.missing,
                (text, "made from placeholders"): none,
                (text, "not finite"): there & ~np.isfinite(found),
                (text, "out of range"): there & (np.abs(found * factors[i]) > _LARGEST),
                (text, "a placeholder"): far,
            }
            for key, where in wrong.items():
                new = where & used & ~bad  # each entry for one reason
                lost.add({key: new}, "entries", entries, one)
                bad |= new
            values[:, i] = found
        values[~used | bad] = np.nan
        rows = used & ~bad
        values[rows] = self._checked(values[rows] * self.units.factor, start)
        return values, bad

    def _checked(self, values: np.ndarray, start: int) -> np.ndarray:
        """Values (event, feature) in the field's units, compared with them; angles from -pi to pi."""
        if not len(values):
            return values
        for i, (name, unit) in enumerate(zip(self.field.features, self.field.units, strict=True)):
            column, what = values[:, i], f"{self.table.path}: {name} of {self.field.name} ('{self.texts[name]}')"
            if unit == "rad":
                turned = np.abs(column)
                if (turned > ANGLE_MAX).mean() > 0.5:
                    found, said = angle_unit(float(turned.max()))
                    remedy = self._remedy(name, found)
                    raise ReadError(
                        f"{what} reaches {turned.max():.4g}, wanted radians; it looks like {said}: {remedy}"
                    )
                if self.field.transforms[i] == "periodic":
                    self.positive_angles |= bool(column.max() > np.pi + 0.01)
                    values[:, i] = wrap(column)
            elif unit == "GeV" and name not in self._suspected:
                median = float(np.median(np.abs(column)))
                if median > PT_MEDIAN_MAX:
                    self._suspected.add(name)
                    self._warnings.append(
                        f"{what} has a median of {median:.4g} GeV; it looks like {momentum_unit(median)}: "
                        f"{self._remedy(name, momentum_unit(median))}"
                    )
        refuse_out_of_bounds(self.table.path, self.field, values, start, self.units, self.spec.placeholders)
        return values

    def _remedy(self, name: str, unit: str) -> str:
        return f"give `units: {{{self.field.name}: {{{name}: {unit}}}}}`"


def condition(
    table: Table,
    key: str,
    text: str | None,
    start: int,
    stop: int,
    lost: LeftOut,
    keep: np.ndarray | None = None,
) -> np.ndarray:
    """Where a condition holds (entry,): truth values, or flags of 0 and 1; everywhere where there is none.

    Args:
        table: with its columns.
        key: of the study, for messages.
        text: the condition.
        start, stop: the entries.
        lost: where entries without a value are refused or counted.
        keep: entries that matter (entry,).

    Raises:
        ReadError: other values than 0 and 1.
    """
    if text is None:
        return np.ones(stop - start, bool)
    column = table.numbers(text, start, stop)
    values = column.values
    if values.dtype.kind != "b":
        other = ~np.isin(values, (0, 1)) & ~column.missing
        if other.any():
            row = int(np.argmax(other))
            raise ReadError(
                f"{table.path}: `{key}: {text}` is {values[row]} in entry {start + row}, wanted a condition, or a "
                f"flag of 0 and 1: compare it, ({text} > 0)"
            )
    wrong = {(text, "missing (None)"): column.missing}
    lost.add(wrong, "entries", np.arange(start, stop), np.ones(stop - start, int), keep)
    return (values != 0) & ~column.missing


def whole_numbers(table: Table, key: str, text: str, start: int, stop: int, keep: np.ndarray | None) -> np.ndarray:
    """A whole number of each entry that is kept (entry,), int64.

    Raises:
        ReadError: it is none, or negative.
    """
    column = table.numbers(text, start, stop)
    values = column.values
    used = np.ones(len(values), bool) if keep is None else keep
    if values.dtype.kind not in "iu" or column.missing[used].any() or (values[used] < 0).any():
        raise ReadError(
            f"{table.path}: `{key}: {text}` holds {values.dtype}"
            f"{' with missing values' if column.missing[used].any() else ''}, wanted whole numbers from 0 on; name "
            f"another in `{key}`, or leave it out"
        )
    return values.astype(np.int64)
