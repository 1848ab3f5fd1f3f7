"""Velocity models in files: NumPy, netCDF or HDF5, SEG-Y, raw float32.

Every reader gives a `Section`: velocities (depth, offset) in m/s with the distance between nodes in m.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pullback.readers.array_files import MEANINGS, Variable, listed, opened, text
from pullback.readers.base import ReadError
from pullback.readers.section import (
    Axis,
    Section,
    VelocityFileError,
    depth_is_first,
    exchanged_axes,
    grid,
    smoother_row,
    words,
)
from pullback.readers.segy import read_model
from pullback.readers.units import UnitsError, factor
from pullback.simulators.wave_settings import Tiles
from pullback.study.base import outside_path

PLAUSIBLE = (100.0, 12_000.0)
"""m/s: no rock, water or gas lies outside."""
OTHERS = frozenset({"rho", "density", "vs", "slowness", "impedance"})
"""Names of variables and files that are no velocities of pressure waves."""
VELOCITIES = frozenset({"vp", "velocity", "velocities"})
"""Names of those that are, beside others."""


@dataclass(frozen=True)
class Found:
    """An array as it lies in a file.

    Attributes:
        values: of any type and shape.
        axes: what the file says of them.
        units: of the values, by the file; empty where it does not say.
        warnings: what speaks against it.
        taken: what was concluded from it.
    """

    values: np.ndarray
    axes: tuple[Axis, ...] = (Axis(), Axis())
    units: str = ""
    warnings: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()


def read_section(options: Tiles) -> Section:
    """Read the file that tiles are cut from.

    Raises:
        VelocityFileError: it is missing, of an unknown kind, of another size, not finite or of another quantity; it
            contradicts the options; or neither says what must be known.
        pullback.readers.segy_layout.SegyError: a SEG-Y file that is damaged or says nothing of distances.
    """
    path = Path(outside_path(options.file))
    if not path.is_file():
        raise VelocityFileError(f"{path}: no such file; give the path of a velocity model in tiles.file")
    kind = path.suffix.lower()
    if kind in (".segy", ".sgy", ".su"):
        spacing = None if options.spacing is None else (options.spacing, options.spacing)
        section = read_model(path, spacing, options.inline)
        velocity, taken = _in_metres(path, Found(section.velocity), options)
        return Section(velocity, section.spacing, section.origin, taken)
    if kind not in FORMATS:
        raise VelocityFileError(f"{path}: ending '{kind}' is not known: give {', '.join(FORMATS)}, .segy, .sgy or .su")
    found = FORMATS[kind](path, options)
    values = found.values
    if values.ndim != 2:
        raise VelocityFileError(f"{path}: {values.ndim} dimensions {values.shape}, wanted one section (depth, offset)")
    if min(values.shape) < 2:
        raise VelocityFileError(f"{path}: {values.shape[0]} x {values.shape[1]} nodes, wanted at least 2 each way")
    axes = (found.axes[0], found.axes[1])
    depth_first = depth_is_first(path, axes, options.first_axis)
    nodes = [grid(path, axis, options.spacing, is_depth=(i == 0) == depth_first) for i, axis in enumerate(axes)]
    velocity, taken = _in_metres(path, found, options)
    taken = (*found.taken, *taken)
    for axis, node in enumerate(nodes):
        velocity = velocity if node.order is None else np.take(velocity, node.order, axis=axis)
    if not depth_first:
        velocity, nodes = velocity.T, nodes[::-1]
    depth, offset = nodes
    named = any(axis.of for axis in axes)
    if not named and options.first_axis is None:
        taken = (*taken, "first axis taken as depth")
    taken = (*taken, *filter(None, (depth.said,)))
    warnings = found.warnings
    # Rows of a wrong length look like exchanged axes, too.
    if not named and not warnings and (doubt := exchanged_axes(velocity, stated=options.first_axis is not None)):
        warnings = (doubt,)
    spacing, origin = (depth.step, offset.step), (depth.first, offset.first)
    return Section(np.ascontiguousarray(velocity), spacing, origin, taken, warnings)


def _raw(path: Path, options: Tiles) -> Found:
    if options.shape is None:
        raise VelocityFileError(f"{path}: a raw file says nothing about its size: give tiles.shape, slowest axis first")
    wanted, found = 4 * options.shape[0] * options.shape[1], path.stat().st_size
    if found != wanted:
        twice = "save float32 if these are float64, " if found == 2 * wanted else ""
        raise VelocityFileError(
            f"{path}: {found} bytes, wanted {wanted} for {options.shape[0]} x {options.shape[1]} float32; correct "
            f"tiles.shape, {twice}or fetch the file again if it is truncated"
        )
    values = np.fromfile(path, "<f4")
    is_big_endian = _share_of_velocities(values.byteswap()) > 0.9 > _share_of_velocities(values)
    values = values.byteswap() if is_big_endian else values
    taken = ("taken as big-endian: the other way these are no velocities",) if is_big_endian else ()
    warnings: tuple[str, ...] = ()
    if np.isfinite(values).all() and (row := smoother_row(values, options.shape[1])):
        warnings = (
            f"rough from row to row with tiles.shape [{options.shape[0]}, {options.shape[1]}], smooth with "
            f"[{len(values) // row}, {row}]: give that",
        )
    return Found(values.reshape(options.shape), warnings=warnings, taken=taken)


def _share_of_velocities(values: np.ndarray) -> float:
    """Share of the numbers that can be velocities, in m/s or in km/s."""
    with np.errstate(invalid="ignore", over="ignore"):
        return max(float(((v > PLAUSIBLE[0]) & (v < PLAUSIBLE[1])).mean()) for v in (values, 1000 * values))


def _array(path: Path, options: Tiles) -> Found:
    """The section of a file of arrays, with its coordinates."""
    try:
        with opened(path) as arrays:
            variable = _section_of(path, arrays, options)
            values = variable.read(tuple(slice(None) for _ in variable.shape))
            kept = _kept(variable)
            axes = tuple(_axis(arrays, variable, axis) for axis in kept)
    except ReadError as error:
        raise VelocityFileError(str(error)) from None
    units = variable.units
    return Found(values.reshape([variable.shape[axis] for axis in kept]), axes, units if isinstance(units, str) else "")


def _kept(variable: Variable) -> list[int]:
    """The axes of an array without those of one node that have a name or, as event and channel, are too many."""
    long = [axis for axis, length in enumerate(variable.shape) if length != 1]
    return long if len(long) == 2 else [axis for axis, name in enumerate(variable.dims) if name is None or axis in long]


def _section_of(path: Path, arrays: Mapping[str, Variable], options: Tiles) -> Variable:
    """The array that is named, or the only one, or the only section."""
    sections = [name for name, variable in arrays.items() if len(_kept(variable)) == 2]
    names = sections if len(arrays) > 1 else list(arrays)
    name = options.variable or (names[0] if len(names) == 1 else None)
    wanted = f"sections are {listed({each: arrays[each] for each in sections})}: name one in tiles.variable"
    if name is None or name not in arrays:
        found = f"there is no variable '{name}'" if name else "there is not one section alone"
        raise VelocityFileError(f"{path}: {found}; {wanted}")
    of = (name, *(text(arrays[name].attributes.get(key)) or "" for key in MEANINGS))
    if not options.variable and not arrays[name].units and any(not OTHERS.isdisjoint(words(each)) for each in of):
        raise VelocityFileError(f"{path}: '{name}' is no velocity by its name and has no units; {wanted}")
    return arrays[name]


def _axis(arrays: Mapping[str, Variable], variable: Variable, axis: int) -> Axis:
    """An axis with its coordinate, or with the one array along it that is called so: z along nz."""
    dim, length = variable.dims[axis], variable.shape[axis]
    if dim is not None and dim in variable.coordinates:
        along = variable.coordinates[dim]
        return Axis(dim, along.values, along.attributes)
    named = [each for each in arrays.values() if each.dims == (dim,) and each.shape == (length,) and Axis(each.name).of]
    if len(named) == 1:
        return Axis(named[0].name, named[0].read((slice(None),)), named[0].attributes)
    return Axis(dim or "")


FORMATS = {
    **dict.fromkeys((".npy", ".npz", ".nc", ".nc4", ".cdf", ".h5", ".hdf5"), _array),
    **dict.fromkeys((".bin", ".raw"), _raw),
}


def _in_metres(path: Path, found: Found, options: Tiles) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values in m/s, checked, and what was done with them.

    Raises:
        VelocityFileError: they are no finite numbers, or no velocities, or `tiles.units` contradicts the file.
    """
    if found.values.dtype.kind not in "fiu":
        raise VelocityFileError(f"{path}: values of type {found.values.dtype}, wanted numbers")
    named = words(path.stem)
    if not found.units and not options.units and not OTHERS.isdisjoint(named) and VELOCITIES.isdisjoint(named):
        raise VelocityFileError(
            f"{path}: by its name no velocity of pressure waves ({', '.join(sorted(OTHERS & set(named)))}) and without "
            "units: name another file in tiles.file, or say tiles.units: m/s if these are velocities"
        )
    by_file = _factor(path, found.units, "name a variable that holds velocities in tiles.variable")
    by_key = _factor(path, options.units or "", "correct tiles.units")
    if by_file and by_key and not np.isclose(by_file, by_key):
        raise VelocityFileError(
            f"{path}: its velocities are in {found.units}, and tiles.units says {options.units}: leave it out"
        )
    scale = by_file or by_key or 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        velocity = (found.values * np.float64(scale)).astype(np.float32)
    if not np.isfinite(velocity).all():
        raise VelocityFileError(
            f"{path}: {np.count_nonzero(~np.isfinite(velocity))} velocities are not finite: repair it"
        )
    low, high = float(velocity.min()), float(velocity.max())
    if low < PLAUSIBLE[0] or high > PLAUSIBLE[1]:
        raise VelocityFileError(
            f"{path}: velocities from {low:g} to {high:g} m/s, wanted {PLAUSIBLE[0]:g} to {PLAUSIBLE[1]:g}: "
            f"{_remedy(found.values, scale, found.units)}"
        )
    return velocity, (f"converted from {found.units}",) if by_file and not np.isclose(by_file, 1.0) else ()


def _factor(path: Path, units: str, remedy: str) -> float | None:
    """What velocities in a unit are multiplied by, so that they are in m/s; None where no unit is said."""
    try:
        return factor(units, "m/s") if units else None
    except UnitsError as error:
        raise VelocityFileError(f"{path}: {error}: {remedy}") from None


def _remedy(values: np.ndarray, scale: float, units: str) -> str:
    """What to do about values that are no velocities in the unit that they are said to be in."""
    low, high = float(values.min()), float(values.max())
    metres = values * scale
    bad = values[(metres < PLAUSIBLE[0]) | (metres > PLAUSIBLE[1])]
    if len(bad) < values.size / 2 and (bad == bad.flat[0]).all():
        return f"{100 * len(bad) / values.size:.2g} % are {bad.flat[0]:g}, which stands for no rock: fill them"
    if 0 <= low < high <= 1 or -10 < low < 0 < high < 10:
        is_slowness = low > 0 and 1 / high >= PLAUSIBLE[0] and 1 / low <= PLAUSIBLE[1]
        return "they look like a slowness in s/m: give its inverse" if is_slowness else _NORMALISED
    for unit in ("m/s", "km/s", "ft/s"):
        if low * factor(unit, "m/s") >= PLAUSIBLE[0] and high * factor(unit, "m/s") <= PLAUSIBLE[1]:
            if units:
                return f"they look like {unit}: correct the attribute units, {units}"
            density = "; if they are a density in g/cm3, name another file" if unit == "km/s" and high < 4 else ""
            return f"they look like {unit}: say tiles.units: {unit}{density}"
    return "a velocity model was wanted"


_NORMALISED = "they look normalised: undo it, low + value * (high - low)"
