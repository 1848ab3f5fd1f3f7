"""The branch map of jets: which branches of a ROOT file, or expressions over them, are which feature."""

from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Annotated

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from pullback.readers.expressions import checked
from pullback.readers.units import UnitsError, factor
from pullback.study.base import Closed

WANTED = {"pt": "GeV", "phi": "rad", "mass": "GeV"}
COUNTERS = ("n{}", "n_{}", "N{}", "{}_n", "{}_N", "{}_size", "num_{}")
"""How the number of the jets of arrays is named, by the beginning of their names."""

_UNITS_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "object", "additionalProperties": {"type": "string"}},
    ]
}


class Branches(Closed):
    """Which branches of a ROOT file, or which expressions over them, are which feature."""

    pt: str = Field(description="a branch with a list in each entry, or an expression: hypot(Jet_px, Jet_py)")
    eta: str
    phi: str
    mass: str | None = Field(default=None, description="without it the jet is taken as massless")
    features: dict[str, str] = Field(
        default={},
        description="further features of each jet, {width: Jet_width}, for a problem whose fields name them",
    )
    selection: str | None = Field(
        default=None,
        description="condition on each jet, (abs(Jet_eta) < 2.5) & (Jet_jetId != 0): the others are not there",
    )
    count: str | None = Field(
        default=None,
        description="branch with the number of jets of each entry, where arrays have places beyond them",
    )
    units: Annotated[dict[str, str], WithJsonSchema(_UNITS_SCHEMA)] = Field(
        default={},
        description="units of what branches and expressions give, where they are not GeV and radians, {pt: MeV, mass: "
        "MeV, phi: deg}; or one unit for pt, mass or phi, that it fits: MeV, deg. Known without it where a branch's "
        "title ends with [MeV]",
    )

    @field_validator("units", mode="before")
    @classmethod
    def _one_for_all(cls, value: object) -> object:
        """One unit, of the columns that it fits."""
        if not isinstance(value, str):
            return value
        fitting = {quantity: value for quantity in WANTED if is_unit(value, WANTED[quantity])}
        if not fitting:
            raise ValueError(f"found '{value}', wanted a unit of momentum (MeV) or of angle (deg)")
        return fitting

    @field_validator("units")
    @classmethod
    def _convertible(cls, value: dict[str, str]) -> dict[str, str]:
        for quantity, unit in value.items():
            if quantity in WANTED:
                factor(unit, WANTED[quantity])
        return value

    @field_validator("pt", "eta", "phi", "mass", "count", "selection")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        return value if value is None else checked(value)

    @field_validator("features")
    @classmethod
    def _are_expressions(cls, value: dict[str, str]) -> dict[str, str]:
        if taken := sorted(value.keys() & {"pt", "eta", "phi", "mass"}):
            raise ValueError(f"{taken[0]} is a key of the branch map: write it there")
        return {name: checked(text) for name, text in value.items()}

    @model_validator(mode="after")
    def _each_branch_once(self) -> "Branches":
        if unknown := sorted(self.units.keys() - {*WANTED, *self.features}):
            known = ", ".join([*WANTED, *self.features])
            raise ValueError(f"`units` names {unknown[0]}, wanted of {known}")
        names = list(self.columns.values())
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"the branch '{twice[0]}' is named for two quantities: name another for one of them")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """Quantity -> the branch or expression: pt, eta, phi and, where there is one, mass."""
        found = {"pt": self.pt, "eta": self.eta, "phi": self.phi, "mass": self.mass}
        return {quantity: name for quantity, name in found.items() if name}

    @property
    def named(self) -> list[str]:
        """All branches and expressions of the map."""
        return [*self.columns.values(), *self.features.values(), *filter(None, [self.count, self.selection])]


def is_unit(found: str, wanted: str) -> bool:
    """Whether a unit is one of the same quantity as another."""
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
