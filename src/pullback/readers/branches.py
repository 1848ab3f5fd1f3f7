"""The branch map of jets, and its columns read in GeV and radians."""

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, WithJsonSchema, field_validator, model_validator

from pullback.core.angles import wrap
from pullback.readers.base import ReadError
from pullback.readers.invalid import placeholders
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
from pullback.readers.table import Column, RootTable
from pullback.readers.units import UnitsError, factor
from pullback.study.base import Closed

log = logging.getLogger("pullback")

WANTED = {"pt": "GeV", "phi": "rad", "mass": "GeV"}
COUNTERS = ("n{}", "n_{}", "N{}", "{}_n", "{}_N", "{}_size", "num_{}")
"""How the number of the jets of arrays is named, by the beginning of their names."""

Unit = Literal["pt", "phi", "mass"]
Wrong = dict[tuple[str, str], np.ndarray]
"""(branch, what its values are) -> where (value,)."""


_UNITS_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "object", "properties": {key: {"type": "string"} for key in WANTED}, "additionalProperties": False},
    ]
}


class Branches(Closed):
    """Which branches of a ROOT file hold which feature. Plain column names, no expressions."""

    pt: str
    eta: str
    phi: str
    mass: str | None = Field(default=None, description="without it the jet is taken as massless")
    count: str | None = Field(
        default=None,
        description="branch with the number of jets of each entry, where arrays have places beyond them",
    )
    units: Annotated[dict[Unit, str], WithJsonSchema(_UNITS_SCHEMA)] = Field(
        default={},
        description="units of the columns where they are not GeV and radians, {pt: MeV, mass: MeV, phi: deg}; or one "
        "unit for all columns that it fits: MeV, deg. Known without it where a branch's title ends with [MeV]",
    )

    @field_validator("units", mode="before")
    @classmethod
    def _one_for_all(cls, value: object) -> object:
        """One unit, of the columns that it fits."""
        if not isinstance(value, str):
            return value
        fitting = {quantity: value for quantity in WANTED if _is_unit(value, WANTED[quantity])}
        if not fitting:
            raise ValueError(f"found '{value}', wanted a unit of momentum (MeV) or of angle (deg)")
        return fitting

    @field_validator("units")
    @classmethod
    def _convertible(cls, value: dict[Unit, str]) -> dict[Unit, str]:
        for quantity, unit in value.items():
            factor(unit, WANTED[quantity])
        return value

    @model_validator(mode="after")
    def _each_branch_once(self) -> "Branches":
        names = list(self.columns.values())
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"the branch '{twice[0]}' is named for two quantities: name another for one of them")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """Quantity -> the branch that is named: pt, eta, phi and, where there is one, mass."""
        found = {"pt": self.pt, "eta": self.eta, "phi": self.phi, "mass": self.mass}
        return {quantity: name for quantity, name in found.items() if name}

    @property
    def named(self) -> list[str]:
        """All branches of the map."""
        return [*self.columns.values(), *filter(None, [self.count])]


def _is_unit(found: str, wanted: str) -> bool:
    try:
        return bool(factor(found, wanted))
    except UnitsError:
        return False


def counter_of(names: Iterable[str], is_there: Callable[[str], bool]) -> str | None:
    """The branch whose name says that it counts the jets of some branches; None where there is none.

    Args:
        names: of the branches.
        is_there: whether there is a branch.
    """
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    stem = "".join(letters[0] for letters in alike).rstrip("_. ")
    return next((name for form in COUNTERS if stem and is_there(name := form.format(stem))), None)


class ReadJets(NamedTuple):
    """The jets of some entries, and what was left out of them.

    Attributes:
        jets: of each entry; those with a wrong value, and empty places of arrays of fixed length, stay in their places,
            which `match` numbers, with a pT of -1: no selection takes them.
        pt: as it is, in GeV (jet,); NaN where it is none.
        wrong: where values are none.
        absent: branch -> entries whose list of jets is missing (entry,).
    """

    jets: Jets
    pt: np.ndarray
    wrong: Wrong
    absent: dict[str, np.ndarray]


class JetColumns:
    """The jets of a table by a branch map, in GeV and radians.

    Args:
        table: that has the branches.
        branches: the map.
        listed: numbers that stand for a missing value.
        warnings: added to, where values are unusual.

    Raises:
        ReadError: `units` and the title of a branch disagree.
    """

    def __init__(self, table: RootTable, branches: Branches, listed: list[float], warnings: list[str]):
        self.table, self.columns, self.count = table, branches.columns, branches.count
        self.listed = [*listed, *NONE]
        self.units = {str(quantity): unit for quantity, unit in branches.units.items()}
        self._warnings = warnings
        self._suspected: set[str] = set()
        for quantity, wanted in WANTED.items():
            name = self.columns.get(quantity)
            titled = table.unit(name) if name else ""
            if not titled or not _is_unit(titled, wanted):
                continue
            given = self.units.setdefault(quantity, titled)
            if not np.isclose(factor(given, wanted), factor(titled, wanted)):
                raise ReadError(
                    f"{table.path}: '{name}' is in {titled} by its title and in {given} by `units`; correct `units`"
                )
            if given == titled and titled != wanted:
                log.info("%s: '%s' is in %s by its title", table.path, name, titled)

    def read(self, start: int, stop: int) -> ReadJets:
        """Jets of some entries."""
        columns, counts = self.table.lists(list(self.columns.values()), start, stop)
        features, wrong = np.zeros((len(columns[0].values), 4)), Wrong()
        for number, (quantity, column) in enumerate(zip(self.columns, columns, strict=True)):
            unit = self.units.get(quantity)
            scale = factor(unit, WANTED[quantity]) if unit else 1.0
            features[:, number] = column.values.astype(np.float64) * scale
            for what, where in self._no_values(quantity, column, features[:, number]):
                wrong[self.columns[quantity], what] = where
        missing = self._any(wrong)
        beyond = {self.columns[of]: bad for of, bad in out_of_range(features).items() if of in self.columns}
        empty = (features[:, 0] == 0) & ~columns[0].missing
        if columns[0].fixed:
            # No jet has one without pT, and nothing or zeros elsewhere.
            none = [missing[name] | beyond[name] for name in self.columns.values()]
            empty |= features[:, 0] < 0
            empty |= none[0] & np.all([bad | (features[:, i] == 0) for i, bad in enumerate(none)], axis=0)
        empty |= self._beyond_counter(columns[0], counts, empty, start, stop)
        self._check_units(features[~(empty | np.any(list(missing.values()), axis=0))])
        wrong |= {(name, "out of range"): where for name, where in beyond.items()}
        left = ~empty
        for key, where in wrong.items():
            wrong[key] = where & left  # each jet for one reason
            left &= ~where
        pt = np.where(self._any(wrong)[self.columns["pt"]], np.nan, features[:, 0])
        features[~left] = (-1.0, 0.0, 0.0, 0.0)
        features[:, 2] = wrap(features[:, 2])
        features[:, 3] = np.maximum(features[:, 3], 0.0)
        absent, there = {}, np.ones(stop - start, bool)
        for name, column in zip(self.columns.values(), columns, strict=True):
            absent[name] = column.absent & there  # each entry for one branch
            there &= ~column.absent
        return ReadJets(Jets(features, counts), pt, wrong, absent)

    def _any(self, wrong: Wrong) -> dict[str, np.ndarray]:
        """Branch -> where its values are none, for whatever reason."""
        return {
            name: np.any([where for (of, _), where in wrong.items() if of == name], axis=0)
            for name in self.columns.values()
        }

    def _no_values(self, quantity: str, column: Column, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """What values of a column are not, and where; of those listed also the ones that hardly a jet has."""
        finite = np.isfinite(values)
        yield "missing (None)", column.missing
        yield "not finite", ~finite & ~column.missing
        listed = np.isin(column.values, self.listed)
        far = placeholders(column.values, self.listed) & ~np.isin(column.values, NONE)
        known = (listed & not_a_jets(quantity, values)) | far
        yield "a placeholder", known & finite & ~column.missing

    def _beyond_counter(
        self, column: Column, counts: np.ndarray, empty: np.ndarray, start: int, stop: int
    ) -> np.ndarray:
        """Places beyond the number of jets that `count` says (jet,); refused where a branch of its name has another."""
        name = self.count or (counter_of(self.columns.values(), self.table.has) if column.fixed else None)
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

    def _check_units(self, features: np.ndarray) -> None:
        """Compare the jets that are there with GeV and radians."""
        if not len(features):
            return
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
