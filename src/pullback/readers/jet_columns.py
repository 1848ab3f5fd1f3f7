"""The jets of a table by a branch map, in GeV and radians."""

import logging
from collections.abc import Iterator
from functools import reduce
from typing import NamedTuple

import numpy as np

from pullback.core.angles import wrap
from pullback.ensembles.fields import Field as Quantities
from pullback.readers.base import ReadError
from pullback.readers.branches import WANTED, Branches, counter_of, is_unit
from pullback.readers.columns import Column
from pullback.readers.invalid import is_listed, placeholders
from pullback.readers.jet_values import (
    ANGLE_MAX,
    ETA_MAX,
    MANY,
    MASS_MAX,
    NONE,
    PT_MEDIAN_MAX,
    PT_MEDIAN_MIN,
    angle_unit,
    momentum_unit,
    not_a_jets,
    out_of_range,
    suspicions,
)
from pullback.readers.jets import Jets
from pullback.readers.left_out import Wrong, made_from_placeholders
from pullback.readers.table import Table
from pullback.readers.units import UnitsError, factor

log = logging.getLogger("pullback")

CHECKED = 20_000
"""Jets of a part of a file that units are told from."""


class ReadJets(NamedTuple):
    """The jets of some entries, and what was left out of them.

    Attributes:
        jets: of each entry; those with a wrong value, those that are not selected and empty places of arrays of fixed
            length stay in their places, which `match` numbers, with a pT of -1: no selection takes them.
        pt: as it is, in GeV (jet,); NaN where it is none.
        wrong: where values are none.
        absent: branch -> entries whose list of jets is missing (entry,).
    """

    jets: Jets
    pt: np.ndarray
    wrong: Wrong
    absent: dict[str, np.ndarray]

    @property
    def lost(self) -> np.ndarray:
        """Which jets have a wrong value (jet,)."""
        return np.any([np.zeros(len(self.pt), bool), *self.wrong.values()], axis=0)


class JetColumns:
    """The jets of a table by a branch map, in GeV and radians, further features in the units of a problem.

    Args:
        table: that has the branches.
        branches: the map.
        listed: numbers that stand for a missing value.
        warnings: added to, where values are unusual.
        field: of the problem, whose features are wanted.

    Attributes:
        order: places of the field's features among those of the jets: pt, eta, phi, mass and the further ones.
        positive_angles: whether an azimuth is beyond pi, so that they run from 0 to 2 pi.

    Raises:
        ReadError: `units` and the title of a branch disagree, or the field has a feature that the map does not name.
    """

    def __init__(self, table: Table, branches: Branches, listed: list[float], warnings: list[str], field: Quantities):
        self.table, self.columns, self.count = table, branches.columns, branches.count
        self.further, self.selection = branches.features, branches.selection
        self.listed = [*listed, *NONE]
        self.units = dict(branches.units)
        self.wanted = {**dict(zip(field.features, field.units, strict=True)), **WANTED}
        self._warnings = warnings
        self._suspected: set[str] = set()
        self.positive_angles = False
        known = ["pt", "eta", "phi", "mass", *self.further]
        if missing := [name for name in field.features if name not in known]:
            raise ReadError(
                f"{table.path}: {field.name} of the problem has the feature '{missing[0]}': name its branch in "
                f"`{field.name}.features`: {{{missing[0]}: BRANCH}}"
            )
        for name, unit in zip(field.features, field.units, strict=True):
            if name in WANTED and not (is_unit(unit, WANTED[name]) and np.isclose(factor(unit, WANTED[name]), 1)):
                raise ReadError(f"{table.path}: the problem's {name} is in {unit}, and jets are in {WANTED[name]}")
        self.order = [known.index(name) for name in field.features]
        for quantity, wanted in self.wanted.items():
            name = self.named.get(quantity, "")
            titled = table.unit(name) if name and table.has(name) else ""
            if not titled or not is_unit(titled, wanted):
                continue
            given = self.units.setdefault(quantity, titled)
            if not np.isclose(factor(given, wanted), factor(titled, wanted)):
                raise ReadError(
                    f"{table.path}: '{name}' is in {titled} by its title and in {given} by `units`; correct `units`"
                )
            if given == titled and titled != wanted:
                log.info("%s: '%s' is in %s by its title", table.path, name, titled)

    @property
    def named(self) -> dict[str, str]:
        """Feature -> its branch or expression."""
        return {**self.columns, **self.further}

    def read(self, start: int, stop: int) -> ReadJets:
        """Jets of some entries."""
        names = self.named
        asked = [*names.values(), *filter(None, [self.selection])]
        columns, counts = self.table.lists(list(names.values()), start, stop)
        n = len(columns[0].values)
        # Column by column in memory, as they are filled and compared.
        features, wrong = np.zeros((n, 4 + len(self.further)), order="F"), Wrong()
        places = [*range(len(self.columns)), *range(4, 4 + len(self.further))]
        for place, (quantity, name), column in zip(places, names.items(), columns, strict=True):
            unit = self.units.get(quantity)
            np.multiply(column.values, self._factor(quantity, unit) if unit else 1.0, out=features[:, place])
            for what, where in self._no_values(quantity, column, features[:, place]):
                wrong[name, what] = where
        missing = self._any(wrong, n)
        beyond = {names[of]: bad for of, bad in out_of_range(features[:, :4]).items() if of in self.columns}
        empty = (features[:, 0] == 0) & ~columns[0].missing
        if columns[0].fixed:
            # No jet has one without pT, and nothing or zeros elsewhere.
            none = [missing[name] | beyond.get(name, False) for name in self.columns.values()]
            empty |= features[:, 0] < 0
            empty |= none[0] & np.all([bad | (features[:, i] == 0) for i, bad in enumerate(none)], axis=0)
        empty |= self._beyond_counter(columns[0], counts, empty, start, stop)
        if self.selection:
            empty |= ~self._selected(counts, wrong, start, stop)
        there = ~empty
        for each in missing.values():
            there &= ~each
        self._check_units(features[:, :4], np.flatnonzero(there))
        wrong |= {(name, "out of range"): where for name, where in beyond.items()}
        left = ~empty
        for key, where in wrong.items():
            wrong[key] = where & left  # each jet for one reason
            left &= ~where
        pt = features[:, 0].copy()
        pt[self._any(wrong, n)[self.columns["pt"]]] = np.nan
        pt[empty] = -1.0
        features[~left] = (-1.0, *[0.0] * (features.shape[1] - 1))
        turned = np.flatnonzero(np.abs(features[:, 2]) >= np.pi)
        self.positive_angles |= bool(features[turned, 2].max(initial=0.0) > np.pi + 0.01)
        features[turned, 2] = wrap(features[turned, 2])
        np.maximum(features[:, 3], 0.0, out=features[:, 3])
        absent, there = {}, np.ones(stop - start, bool)
        for name, column in zip(asked, columns, strict=False):
            absent[name] = column.absent & there  # each entry for one branch
            there &= ~column.absent
        return ReadJets(Jets(features, counts), pt, wrong, absent)

    def _factor(self, quantity: str, unit: str) -> float:
        try:
            return factor(unit, self.wanted[quantity])
        except UnitsError as error:
            raise ReadError(f"{self.table.path}: `units` of {quantity}: {error}") from None

    def _selected(self, counts: np.ndarray, wrong: Wrong, start: int, stop: int) -> np.ndarray:
        """Which jets are selected (jet,); a condition that is missing is wrong."""
        assert self.selection is not None
        column = self.table.evaluate(self.selection, start, stop)
        if column.counts is None or column.values.dtype.kind != "b":
            raise ReadError(
                f"{self.table.path}: `selection: {self.selection}` gives no truth value for each jet, wanted a "
                "condition on its lists: (abs(Jet_eta) < 2.5)"
            )
        if (different := np.flatnonzero(column.counts != counts)).size:
            row = int(different[0])
            raise ReadError(
                f"{self.table.path}: in entry {start + row} `{self.selection}` has {column.counts[row]} values for "
                f"{counts[row]} jets; wanted one for each, correct `selection`"
            )
        wrong[self.selection, "missing (None)"] = column.missing
        return column.values.astype(bool) | column.missing

    def _any(self, wrong: Wrong, n: int) -> dict[str, np.ndarray]:
        """Branch -> where its values are none, for whatever reason (jet,)."""
        none = np.zeros(n, bool)
        return {
            name: reduce(np.logical_or, [where for (of, _), where in wrong.items() if of == name], none)
            for name in self.named.values()
        }

    def _no_values(self, quantity: str, column: Column, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """What values of a column are not, and where there are some; of those listed also what hardly a jet has."""
        if not len(values):
            return
        text, there = self.named[quantity], ~column.missing
        if not there.all():
            yield "missing (None)", column.missing
        finite = np.isfinite(values.min()) and np.isfinite(values.max())
        if not finite:
            yield "not finite", ~np.isfinite(values) & there
        made = made_from_placeholders(self.table, text, column, self.listed)
        if made.any():
            yield "made from placeholders", there & made
        listed = is_listed(column.values, self.listed)
        if listed.any():
            far = placeholders(column.values, self.listed) & ~is_listed(column.values, list(NONE))
            listed &= self.table.expression(text).is_column
            known = (listed & not_a_jets(quantity, values)) | far if quantity in self.columns else far
            yield "a placeholder", known & np.isfinite(values) & there

    def _beyond_counter(
        self, column: Column, counts: np.ndarray, empty: np.ndarray, start: int, stop: int
    ) -> np.ndarray:
        """Places beyond the number of jets that `count` says (jet,); refused where a branch of its name has another."""
        name = self.count or (self._counter() if column.fixed else None)
        if name is None:
            return np.zeros(len(empty), bool)
        number = self.table.numbers(name, start, stop)
        if number.values.dtype.kind not in "iu" or number.missing.any():
            if self.count is None:
                return np.zeros(len(empty), bool)
            raise ReadError(f"{self.table.path}: '{name}' holds no whole number in each entry; correct `count`")
        place = np.arange(len(empty)) - np.repeat(np.cumsum(counts) - counts, counts)
        beyond = place >= np.repeat(number.values.astype(np.int64), counts)
        if self.count is None and (more := beyond & ~empty).any():
            entry = int(np.repeat(np.arange(start, stop), counts)[np.argmax(more)])
            raise ReadError(
                f"{self.table.path}: '{name}' counts {number.values[entry - start]} in entry {entry}, where "
                f"'{self.columns['pt']}' has more values: give `count: {name}` in the branch map if it counts the jets"
            )
        return beyond

    def _counter(self) -> str | None:
        names = (name for text in self.named.values() for name in self.table.expression(text).columns)
        return counter_of(names, self.table.has)

    def _check_units(self, features: np.ndarray, there: np.ndarray) -> None:
        """Compare jets with GeV and radians: some of the rows of those that are there, of each part of a file."""
        if not len(there):
            return
        features = features[there[:: max(1, len(there) // CHECKED)]]
        path, (pt, eta, phi, mass) = self.table.path, features.T
        median = float(np.median(pt))
        if (share := float((pt <= 0).mean())) > 0.25:
            raise ReadError(
                f"{path}: '{self.columns['pt']}' is not positive for {share:.0%} of the jets, wanted pT; correct the "
                "branch map"
            )
        if not PT_MEDIAN_MIN <= median <= PT_MEDIAN_MAX:
            bound = f"most {PT_MEDIAN_MAX:g}" if median > 1 else f"least {PT_MEDIAN_MIN:g}"
            unit = momentum_unit(median) if median > 1 else "TeV"
            raise ReadError(
                f"{path}: the median of '{self.columns['pt']}' is {median:.4g} GeV, wanted at {bound}; it looks like "
                f"{unit}: {self._remedy('pt', unit)}"
            )
        if (share := float((mass > MASS_MAX * pt).mean())) > 0.5:
            unit = momentum_unit(100 * float(np.median(mass / pt)))
            raise ReadError(
                f"{path}: '{self.columns['mass']}' is above {MASS_MAX:g} times '{self.columns['pt']}' for {share:.0%} "
                f"of the jets, wanted GeV; it looks like {unit}: {self._remedy('mass', f'{{mass: {unit}}}')}"
            )
        turned = np.abs(phi)
        if (turned > ANGLE_MAX).mean() > 0.5:
            unit, name = angle_unit(float(turned.max()))
            raise ReadError(
                f"{path}: '{self.columns['phi']}' reaches {turned.max():.4g}, wanted radians; it looks like {name}: "
                f"{self._remedy('phi', unit)}"
            )
        if "phi" in self.units and len(phi) >= MANY and turned.max() < 0.06:
            raise ReadError(
                f"{path}: no '{self.columns['phi']}' is beyond {turned.max():.4g} radians in {len(phi)} jets, wanted "
                f"up to pi: {self._remedy('phi', 'rad')}"
            )
        if (np.abs(eta) > ETA_MAX).mean() > 0.5:
            raise ReadError(
                f"{path}: '{self.columns['eta']}' is beyond {ETA_MAX:g} for most jets, wanted pseudorapidities; name "
                "the branch that has them"
            )
        for quantity, text in suspicions(features[(turned <= ANGLE_MAX) & (np.abs(eta) <= ETA_MAX)]):
            if quantity not in self._suspected:
                self._suspected.add(quantity)
                self._warnings.append(f"{path}: '{self.columns[quantity]}' {text}")

    def _remedy(self, quantity: str, unit: str) -> str:
        if quantity in self.units:
            return f"correct `units` of the branch map, which has {quantity}: {self.units[quantity]}"
        return f"give `units: {unit}` in the branch map"
