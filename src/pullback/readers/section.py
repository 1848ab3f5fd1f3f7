"""A velocity model in physical units, and how its units are spelled."""

from dataclasses import dataclass

import numpy as np

_SPELLINGS = {
    **dict.fromkeys(("meter", "metre", "meters", "metres"), "m"),
    **dict.fromkeys(("sec", "second", "seconds"), "s"),
    **dict.fromkeys(("m s-1", "m s^-1", "m s**-1", "m.s-1", "meter/second", "metre/second"), "m/s"),
    **dict.fromkeys(("km s-1", "km s^-1", "km s**-1", "km.s-1"), "km/s"),
}


def spelled(units: str) -> str:
    """Units as they are written here, from other spellings that netCDF files have (CF conventions, UDUNITS)."""
    return _SPELLINGS.get(units, units)


@dataclass(frozen=True)
class Section:
    """A velocity model in physical units.

    Attributes:
        velocity: (depth, offset), m/s, float32.
        spacing: m between nodes (depth, offset).
        origin: depth and offset of the first node, m, where a file says it.
    """

    velocity: np.ndarray
    spacing: tuple[float, float]
    origin: tuple[float, float] = (0.0, 0.0)
