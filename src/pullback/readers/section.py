"""A velocity model in physical units: which axis is depth, how far nodes are apart, whether it is smooth."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pullback.readers.array_files import ALIASES, MEANINGS, UPWARD, text, units_in
from pullback.readers.units import UnitsError, factor

_TIME = frozenset({"time", "twt", "twtt"})
_LENGTHS = {"m": 1.0, "km": 1000.0, "ft": 0.3048}
"""Units that names of axes end with, and that a coordinate without a unit may be in."""
REGULAR = 0.01
"""Nodes may lie this far from where a constant distance puts them, as a fraction of it."""
LEAST_ROW = 8
"""Shorter rows, or fewer of them, say nothing of smoothness."""
_SAMPLE = 1 << 16
SMOOTHER = 0.5
"""Another row length, or order of axes, is named where differences (trends) become this many times as large."""


class VelocityFileError(ValueError):
    """An unusable velocity file; the message says what was found, what was expected and the remedy."""


@dataclass(frozen=True)
class Section:
    """A velocity model in physical units.

    Attributes:
        velocity: (depth, offset), m/s, float32.
        spacing: m between nodes (depth, offset).
        origin: depth and offset of the first node, m, where a file says it.
        taken: what was concluded from the file, in parts of a sentence.
        warnings: what speaks against it.
    """

    velocity: np.ndarray
    spacing: tuple[float, float]
    origin: tuple[float, float] = (0.0, 0.0)
    taken: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def words(name: str) -> list[str]:
    """Words of a name, lower case: depth and km of ``Depth_km``."""
    return re.findall("[a-z]+", name.lower())


@dataclass(frozen=True)
class Axis:
    """One axis of an array, as its file describes it.

    Attributes:
        name: of the dimension; empty where the file names none.
        values: of its coordinate, where it has one.
        attributes: of the coordinate.
    """

    name: str = ""
    values: np.ndarray | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def of(self) -> Literal["depth", "offset", ""]:
        """Depth or offset, by its name or else its coordinate's attributes (CF conventions); empty: they do not say."""
        for name in (self.name, *(text(self.attributes.get(key)) or "" for key in MEANINGS)):
            depth, offset = (not ALIASES[dim].isdisjoint(words(name)) for dim in ("depth", "offset"))
            if depth != offset:
                return "depth" if depth else "offset"
        return "depth" if text(self.attributes.get("positive")) else ""

    @property
    def units(self) -> str:
        """The unit of its coordinate: the attribute, or the last word of the name; empty where there is none."""
        last = words(self.name)[-1:]
        return text(units_in(self.attributes)) or (last[0] if last and last[0] in _LENGTHS else "")

    @property
    def upward(self) -> bool:
        """Whether its coordinate rises towards the surface."""
        positive = (text(self.attributes.get("positive")) or "").lower()
        if positive in ("up", "down"):
            return positive == "up"
        values = np.asarray(self.values, np.float64)
        return not UPWARD.isdisjoint(words(self.name)) or -values.min() > values.max()


def depth_is_first(path: Path, axes: tuple[Axis, Axis], first_axis: str | None) -> bool:
    """Whether the slowest axis of a file is depth: by names; without names by ``first_axis``, whose default is depth.

    Raises:
        VelocityFileError: ``first_axis`` contradicts names, or they do not say it and it is not given.
    """
    names = f"its dimensions are ({', '.join(axis.name or 'one without name' for axis in axes)})"
    if not _TIME.isdisjoint(word for axis in axes for word in words(axis.name)):
        raise VelocityFileError(f"{path}: {names}: a section in time, wanted one in depth: convert it")
    first, second = (axis.of for axis in axes)
    if first and first == second:
        raise VelocityFileError(f"{path}: {names}, wanted depth and offset: name another variable in tiles.variable")
    named = first or {"depth": "offset", "offset": "depth", "": ""}[second]
    if named and first_axis not in (None, named):
        raise VelocityFileError(
            f"{path}: {names}, the first is {named}, and tiles.first_axis says {first_axis}: leave it out"
        )
    # Beside depth there is an offset, whatever its name; beside an offset there may be another one.
    if "depth" in (first, second):
        return first == "depth"
    if first_axis is None and any(axis.name for axis in axes):
        raise VelocityFileError(f"{path}: {names}, and which is depth is not said: give tiles.first_axis")
    return first_axis != "offset"


@dataclass(frozen=True)
class Grid:
    """The nodes of one axis: m between them, m of the first, and their order in the file, where it is another."""

    step: float
    first: float = 0.0
    order: np.ndarray | None = None

    @property
    def said(self) -> str:
        """What was done with them, in a part of a sentence; empty where nothing was."""
        if self.order is None:
            return ""
        return "turned, as it begins at the bottom" if self.order[0] > self.order[-1] else "sorted by depth"


def grid(path: Path, axis: Axis, spacing: float | None, *, is_depth: bool) -> Grid:
    """The nodes of an axis, by its coordinate, or by ``tiles.spacing`` where the coordinate is no distance.

    Raises:
        VelocityFileError: nothing says how far nodes are apart, or the two contradict each other, or nodes are not
            evenly apart, or in no unit of length.
    """
    if axis.values is None or not np.ptp(values := _numbers(path, axis)):
        return Grid(_given(path, spacing))
    known = bool(axis.units)
    try:
        values = values * (factor(axis.units, "m") if known else 1.0)
    except UnitsError as error:
        raise VelocityFileError(f"{path}: coordinate '{axis.name}': {error}; correct its units") from None
    if is_depth and axis.upward:
        values = -values
    order = np.argsort(values, kind="stable")
    values = values[order]
    moved = None if (np.diff(order) > 0).all() else order
    step = float((values[-1] - values[0]) / (len(values) - 1))
    # A coordinate is often stored in single precision.
    if np.abs(values - values[0] - step * np.arange(len(values))).max() > REGULAR * abs(step):
        steps = np.diff(values)
        raise VelocityFileError(
            f"{path}: steps of the coordinate '{axis.name}' are from {steps.min():g} to {steps.max():g} m, wanted one "
            "distance: interpolate the section to regular nodes"
        )
    if not known and step == 1 and values[0] in (0, 1):
        return Grid(_given(path, spacing), order=moved)  # numbers of nodes
    units = [1.0] if known or spacing is None else list(_LENGTHS.values())
    scale = next((unit for unit in units if spacing is None or abs(unit * step - spacing) <= 1e-3 * spacing), None)
    if scale is None:
        raise VelocityFileError(
            f"{path}: by the coordinate '{axis.name}' nodes are {step:g} m apart, and tiles.spacing says {spacing:g}: "
            "leave it out, or correct the coordinate"
        )
    return Grid(step * scale, float(values[0]) * scale, moved)


def _given(path: Path, spacing: float | None) -> float:
    if spacing is None:
        raise VelocityFileError(
            f"{path}: nothing in the file says how far apart its nodes are: give tiles.spacing in m"
        )
    return spacing


def _numbers(path: Path, axis: Axis) -> np.ndarray:
    values = np.asarray(axis.values)
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise VelocityFileError(
            f"{path}: the coordinate '{axis.name}' is not a number at every node (type {values.dtype}): repair it"
        )
    return values.astype(np.float64)


def exchanged_axes(velocity: np.ndarray, *, stated: bool) -> str:
    """A warning where the values of a section (depth, offset) speak against its order of axes, otherwise empty.

    Rock changes more downwards than along: its lateral average has a trend, and neighbours above each other differ more
    than those beside each other.

    Args:
        velocity: of a file that does not name its axes.
        stated: whether the study says which is depth: more must speak against it then.
    """
    trend = [float(velocity.mean(axis=1 - axis, dtype=np.float64).std()) for axis in (0, 1)]
    rough = [float(np.abs(np.diff(velocity, axis=axis)).mean(dtype=np.float64)) for axis in (0, 1)]
    if trend[0] >= (SMOOTHER if stated else 1.0) * trend[1] or rough[0] >= rough[1]:
        return ""
    return (
        f"velocity changes more along than downwards (means by {trend[1]:.3g} and {trend[0]:.3g} m/s): are depth and "
        "offset exchanged? Give tiles.first_axis"
    )


def smoother_row(values: np.ndarray, given: int) -> int | None:
    """The length of rows with which raw numbers are far smoother from row to row than with the one that is given.

    Numbers a row apart are neighbours; those .6 or 1.4 rows apart are not, and differ more. None where there is none.
    """
    rng = np.random.default_rng(0)

    def differs(by: int) -> float:
        at = rng.integers(len(values) - by, size=min(len(values), _SAMPLE))
        return float(np.abs(values[at + by] - values[at]).mean(dtype=np.float64))

    rows = {n: differs(n) for n in range(LEAST_ROW, len(values) // LEAST_ROW + 1) if len(values) % n == 0}
    known = differs(given)
    found = {n: d for n, d in rows.items() if d < SMOOTHER * known}
    found = {n: d for n, d in found.items() if d < 0.7 * min(differs(round(0.6 * n)), differs(round(1.4 * n)))}
    return min(found, key=lambda n: found[n]) if found else None
