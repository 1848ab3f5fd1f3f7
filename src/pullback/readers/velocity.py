"""Velocity models in files: NumPy, netCDF or HDF5, SEG-Y, raw float32; and tiles cut from them.

Every reader gives a `Section`: velocities (depth, offset) in m/s with the distance between nodes in m.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pullback.readers.section import Section, spelled
from pullback.readers.segy import read_model
from pullback.simulators.wave_settings import Tiles
from pullback.study.base import outside_path

if TYPE_CHECKING:
    import xarray as xr

PLAUSIBLE = (100.0, 12_000.0)
"""m/s: no rock, water or gas lies outside."""


class VelocityFileError(ValueError):
    """An unusable velocity file; the message says what was found, what was expected and the remedy."""


def read_section(options: Tiles) -> Section:
    """Read the file that tiles are cut from.

    Raises:
        VelocityFileError: it is missing, of an unknown kind, of another size, not finite or in another unit.
        pullback.readers.segy_layout.SegyError: a SEG-Y file that is damaged or says nothing of distances.
    """
    path = Path(outside_path(options.file))
    if not path.is_file():
        raise VelocityFileError(f"{path}: no such file; give the path of a velocity model in tiles.file")
    kind, first_axis = path.suffix.lower(), str(options.first_axis)
    spacing = None if options.spacing is None else (options.spacing, options.spacing)
    if kind == ".npy":
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
            if not isinstance(values, np.ndarray):
                raise ValueError("it holds several")
        except (OSError, ValueError, EOFError) as error:
            raise VelocityFileError(f"{path}: not a complete array of numbers ({error}); save it again") from None
    elif kind in (".bin", ".raw"):
        values = _raw(path, options)
    elif kind in (".nc", ".h5", ".hdf5"):
        variable = _variable(path, options)
        first_axis = str(variable.dims[0]) if set(variable.dims) == {"depth", "offset"} else first_axis
        values, spacing = variable.values, spacing or _spacing(path, variable)
    elif kind in (".segy", ".sgy", ".su"):
        section = read_model(path, spacing, options.inline)
        return Section(_in_metres(path, section.velocity, options), section.spacing)
    else:
        raise VelocityFileError(
            f"{path}: ending '{kind}' is not known: give .npy, .nc, .h5, .segy, .sgy, .su, .bin or .raw"
        )
    if values.ndim != 2:
        raise VelocityFileError(f"{path}: {values.ndim} dimensions {values.shape}, wanted one section (depth, offset)")
    if spacing is None:
        raise VelocityFileError(
            f"{path}: nothing in the file says how far apart its nodes are: give tiles.spacing in m"
        )
    if min(values.shape) < 2:
        raise VelocityFileError(f"{path}: {values.shape[0]} x {values.shape[1]} nodes, wanted at least 2 each way")
    if first_axis == "offset":
        values, spacing = values.T, spacing[::-1]
    return Section(_in_metres(path, values, options), spacing)


def _raw(path: Path, options: Tiles) -> np.ndarray:
    if options.shape is None:
        raise VelocityFileError(f"{path}: a raw file says nothing about its size: give tiles.shape, slowest axis first")
    wanted, found = 4 * options.shape[0] * options.shape[1], path.stat().st_size
    if found != wanted:
        raise VelocityFileError(
            f"{path}: {found} bytes, wanted {wanted} for {options.shape[0]} x {options.shape[1]} float32; correct "
            "tiles.shape, or fetch the file again if it is truncated"
        )
    values = np.fromfile(path, "<f4").reshape(options.shape)
    good, other = _share_of_velocities(values), _share_of_velocities(values.byteswap())
    if other > 0.9 > good:
        raise VelocityFileError(
            f"{path}: big-endian numbers (read as little-endian, {100 * good:.0f} % are velocities, the other way "
            f"{100 * other:.0f} %): convert it, with numpy: np.fromfile(path, '>f4').astype('<f4').tofile(path)"
        )
    return values


def _share_of_velocities(values: np.ndarray) -> float:
    """Share of the numbers that can be velocities, in m/s or in km/s."""
    with np.errstate(invalid="ignore", over="ignore"):
        return max(float(((v > PLAUSIBLE[0]) & (v < PLAUSIBLE[1])).mean()) for v in (values, 1000 * values))


def _variable(path: Path, options: Tiles) -> "xr.DataArray":
    """The section of a netCDF4 or HDF5 file, with its coordinates."""
    import xarray as xr

    try:
        file = xr.open_dataset(path, engine="h5netcdf", phony_dims="sort")
    except OSError as error:
        raise VelocityFileError(f"{path}: no netCDF4 or HDF5 file ({error}); convert it, or fetch it again") from None
    with file:
        sections = [str(name) for name, variable in file.data_vars.items() if variable.ndim == 2]
        name = options.variable or (sections[0] if len(sections) == 1 else None)
        if name is None or name not in file:
            found = f"there is no variable '{name}'" if name else "there is not one section alone"
            raise VelocityFileError(
                f"{path}: {found}; sections are {', '.join(sections) or 'none'}: name one in tiles.variable"
            )
        return file[name].load()


def _spacing(path: Path, variable: "xr.DataArray") -> tuple[float, float] | None:
    if variable.ndim != 2 or not all(dim in variable.coords for dim in variable.dims):
        return None
    first, second = (_step(path, variable.coords[dim]) for dim in variable.dims)
    return first, second


def _step(path: Path, coordinate: "xr.DataArray") -> float:
    """Metres between the nodes of a coordinate."""
    steps = np.diff(np.asarray(coordinate.values, np.float64))
    unit = spelled(coordinate.attrs.get("units", "m"))
    even = len(steps) and np.allclose(steps, steps[0], rtol=1e-3, atol=0)
    if unit != "m" or not even or steps[0] <= 0:
        found = f"from {steps.min():g} to {steps.max():g} {unit}" if len(steps) else "missing"
        raise VelocityFileError(
            f"{path}: steps of the coordinate '{coordinate.name}' are {found}; wanted one positive step in m: "
            "give tiles.spacing"
        )
    return float(steps[0])


def _in_metres(path: Path, values: np.ndarray, options: Tiles) -> np.ndarray:
    """Values in m/s, checked."""
    if values.dtype.kind not in "fiu":
        raise VelocityFileError(f"{path}: values of type {values.dtype}, wanted numbers")
    velocity = np.asarray(values, np.float32) * (1000 if options.units == "km/s" else 1)
    if not np.isfinite(velocity).all():
        raise VelocityFileError(
            f"{path}: {np.count_nonzero(~np.isfinite(velocity))} velocities are not finite: repair it"
        )
    low, high = float(velocity.min()), float(velocity.max())
    if low < PLAUSIBLE[0] or high > PLAUSIBLE[1]:
        hint = "say units: km/s" if high < 20 else "say units: m/s" if high > 1e5 else "a velocity model was wanted"
        raise VelocityFileError(
            f"{path}: velocities from {low:g} to {high:g} m/s, wanted {PLAUSIBLE[0]:g} to {PLAUSIBLE[1]:g}: {hint}"
        )
    return velocity


@functools.lru_cache(maxsize=4)
def _section(options: str) -> Section:
    return read_section(Tiles.model_validate_json(options))


def sample_tiles(
    options: Tiles, rng: np.random.Generator, n: int, shape: tuple[int, int], extent: tuple[float, float]
) -> np.ndarray:
    """Tiles at random places of a section, interpolated linearly to the nodes of x.

    A tile covers ``stretch`` times the extent and is compressed to the extent. Where the file's nodes are
    closer than those of x, the section is first smoothed over the distance between the nodes of x.

    Args:
        options: the file and how to cut it.
        rng: where tiles lie; the only source of randomness.
        n: tiles.
        shape: nodes (depth, offset) of x.
        extent: m (depth, offset) from the first node of x to the last.

    Returns:
        (n, depth, offset), float32, m/s.

    Raises:
        VelocityFileError: the file, or one that is smaller than a tile.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    section = _section(options.model_dump_json())
    size = [(length - 1) * step for length, step in zip(section.velocity.shape, section.spacing, strict=True)]
    tile = [options.stretch * length for length in extent]
    room = np.array([size[0] - options.depth_from - tile[0], size[1] - tile[1]])
    # A tile as large as the section fits, whatever its spacing is in binary.
    if (room < -1e-6 * np.array(tile)).any():
        raise VelocityFileError(
            f"{options.file}: {size[0]:g} m deep and {size[1]:g} m wide, too small for tiles of {tile[0]:g} m x "
            f"{tile[1]:g} m below {options.depth_from:g} m: lower tiles.stretch or tiles.depth_from"
        )
    steps = [length / (count - 1) for length, count in zip(tile, shape, strict=True)]
    # Half the ratio of the spacings: what is finer than the new nodes can carry goes, and nothing where they are finer.
    sigma = [max(0.0, (new / old - 1) / 2) for new, old in zip(steps, section.spacing, strict=True)]
    velocity = gaussian_filter(section.velocity, sigma, mode="nearest")
    first = rng.random((n, 2)) * room.clip(0) + [options.depth_from, 0.0]
    where = [(first[:, i, None] + steps[i] * np.arange(shape[i])) / section.spacing[i] for i in range(2)]
    rows = np.broadcast_to(where[0][:, :, None], (n, *shape))
    columns = np.broadcast_to(where[1][:, None, :], (n, *shape))
    return map_coordinates(velocity, [rows, columns], order=1, mode="nearest")
