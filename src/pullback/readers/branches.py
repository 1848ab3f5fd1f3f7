"""The branch map of jets, and its columns read in GeV and radians."""

import logging
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, WithJsonSchema, field_validator

from pullback.core.angles import wrap
from pullback.readers.base import ReadError
from pullback.readers.invalid import placeholders
from pullback.readers.jets import Jets
from pullback.readers.table import Column, RootTable
from pullback.readers.units import UnitsError, factor
from pullback.study.base import Closed

log = logging.getLogger("pullback")

WANTED = {"pt": "GeV", "phi": "rad", "mass": "GeV"}
PT_MEDIAN_MAX, PT_MEDIAN_MIN = 5e3, 0.1
"""GeV; a larger median pT means that the file is in MeV, a smaller one that it is not."""
MASS_MAX = 10.0
"""In units of pT; most masses above it are in another unit than pT."""
MOMENTUM_MAX = 1e6
"""GeV; no jet has a larger pT or mass."""
ETA_MAX = 20.0
"""No jet has a larger |eta|."""
ANGLE_MAX = 2 * np.pi + 0.01
"""No azimuth in radians is larger."""
MANY = 20
"""Azimuths of so many jets are spread over the circle."""
MASS_ROUNDING = 0.01
"""Rounding makes masses of single particles negative, by at most this fraction of the momentum."""

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

    @property
    def columns(self) -> dict[str, str]:
        """Quantity -> the branch that is named: pt, eta, phi and, where there is one, mass."""
        found = {"pt": self.pt, "eta": self.eta, "phi": self.phi, "mass": self.mass}
        return {quantity: name for quantity, name in found.items() if name}


def _is_unit(found: str, wanted: str) -> bool:
    try:
        return bool(factor(found, wanted))
    except UnitsError:
        return False


class JetColumns:
    """The jets of a table by a branch map, in GeV and radians.

    Args:
        table: that has the branches.
        branches: the map.
        listed: numbers that stand for a missing value.

    Raises:
        ReadError: `units` and the title of a branch disagree.
    """

    def __init__(self, table: RootTable, branches: Branches, listed: list[float]):
        self.table, self.listed, self.columns = table, listed, branches.columns
        self.units = {str(quantity): unit for quantity, unit in branches.units.items()}
        self._warned = False
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

    def read(self, start: int, stop: int) -> tuple[Jets, np.ndarray, Wrong]:
        """Jets of some entries, their pT as it is in GeV (jet,), NaN where it is none, and where values are none.

        These, and empty places of arrays of fixed length, stay in their places, which `match` numbers, with a pT of -1:
        no selection takes them.
        """
        columns, counts = self.table.lists(list(self.columns.values()), start, stop)
        features, wrong = np.zeros((len(columns[0].values), 4)), {}
        for number, (quantity, column) in enumerate(zip(self.columns, columns, strict=True)):
            unit = self.units.get(quantity)
            scale = factor(unit, WANTED[quantity]) if unit else 1.0
            features[:, number] = column.values.astype(np.float64) * scale
            for what, where in self._no_values(quantity, column, features[:, number]):
                wrong[self.columns[quantity], what] = where
        empty = (features[:, 0] == 0) & ~columns[0].missing
        if columns[0].fixed:
            empty |= features[:, 0] < 0
            each = [[where for (of, _), where in wrong.items() if of == name] for name in self.columns.values()]
            empty |= np.all([np.any(where, axis=0) for where in each], axis=0)
        self._check_units(features[~(empty | np.any(list(wrong.values()), axis=0))])
        for name, where in self._out_of_range(features):
            wrong[name, "out of range"] = where
        left = ~empty
        for key, where in wrong.items():
            wrong[key] = where & left  # each jet for one reason
            left &= ~where
        none = np.any([where for (name, _), where in wrong.items() if name == self.columns["pt"]], axis=0)
        pt = np.where(none, np.nan, features[:, 0])
        features[~left] = (-1.0, 0.0, 0.0, 0.0)
        features[:, 2] = wrap(features[:, 2])
        features[:, 3] = np.maximum(features[:, 3], 0.0)
        return Jets(features, counts), pt, wrong

    def _no_values(self, quantity: str, column: Column, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """What values of a column are not, and where; of those listed also the ones that hardly a jet has."""
        finite = np.isfinite(values)
        yield "missing (None)", column.missing
        yield "not finite", ~finite & ~column.missing
        rare = {"eta": np.abs(values) > 5, "phi": (values < -np.pi - 0.01) | (values > ANGLE_MAX)}
        beyond = rare.get(quantity, values < 0)
        listed = np.isin(column.values, self.listed) & beyond
        yield "a placeholder", (listed | placeholders(column.values, self.listed)) & finite & ~column.missing

    def _out_of_range(self, features: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        pt, eta, phi, mass = features.T
        with np.errstate(invalid="ignore", over="ignore"):
            yield self.columns["pt"], (pt < 0) | (pt > MOMENTUM_MAX)
            yield self.columns["eta"], np.abs(eta) > ETA_MAX
            yield self.columns["phi"], np.abs(phi) > ANGLE_MAX
            if "mass" in self.columns:
                momentum = pt * np.cosh(np.clip(eta, -ETA_MAX, ETA_MAX))
                yield self.columns["mass"], (mass < -MASS_ROUNDING * momentum) | (mass > MOMENTUM_MAX)

    def _check_units(self, features: np.ndarray) -> None:
        """Compare the jets that are there with GeV and radians."""
        if not len(features):
            return
        path, (pt, _, phi, mass) = self.table.path, features.T
        if (median := float(np.median(pt))) > PT_MEDIAN_MAX:
            raise ReadError(
                f"{path}: the median of '{self.columns['pt']}' is {median:.4g} GeV, wanted at most {PT_MEDIAN_MAX:g}; "
                f"it looks like MeV: {self._remedy('pt', 'MeV')}"
            )
        if median < PT_MEDIAN_MIN:
            raise ReadError(
                f"{path}: the median of '{self.columns['pt']}' is {median:.4g} GeV, wanted at least {PT_MEDIAN_MIN:g}: "
                f"{self._remedy('pt', 'TeV')}"
            )
        if (share := float((mass > MASS_MAX * pt).mean())) > 0.5:
            raise ReadError(
                f"{path}: '{self.columns['mass']}' is above {MASS_MAX:g} times '{self.columns['pt']}' for {share:.0%} "
                f"of the jets, wanted GeV; it looks like MeV: {self._remedy('mass', '{mass: MeV}')}"
            )
        turned = np.abs(phi)
        if (turned > ANGLE_MAX).mean() > 0.5:
            raise ReadError(
                f"{path}: '{self.columns['phi']}' reaches {turned.max():.4g}, wanted radians; it looks like degrees: "
                f"{self._remedy('phi', 'deg')}"
            )
        if "phi" in self.units and len(phi) >= MANY and turned.max() < 0.06:
            raise ReadError(
                f"{path}: no '{self.columns['phi']}' is beyond {turned.max():.4g} radians in {len(phi)} jets, wanted "
                f"up to pi: {self._remedy('phi', 'rad')}"
            )
        if (largest := float(turned[turned <= ANGLE_MAX].max(initial=0.0))) > np.pi + 0.01 and not self._warned:
            self._warned = True
            log.warning("%s: '%s' reaches %.4g, outside [-pi, pi]: wrapped", path, self.columns["phi"], largest)

    def _remedy(self, quantity: str, unit: str) -> str:
        if quantity in self.units:
            return f"correct `units` of the branch map, which has {quantity}: {self.units[quantity]}"
        return f"give `units: {unit}` in the branch map"
