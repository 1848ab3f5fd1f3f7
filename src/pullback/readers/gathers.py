"""Outside shot gathers, and velocity models beside them, as events of a problem: OpenFWI's .npy, SEG-Y, netCDF or HDF5.

What a file says of shapes, places, times and units is compared with the problem's fields when it is opened; values are
read block by block.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pullback.ensembles.fields import Field
from pullback.readers.segy import read_gathers, read_model
from pullback.readers.velocity import spelled
from pullback.simulators.acquisition import Acquisition, evenly
from pullback.simulators.wave_settings import FwiSimulator
from pullback.simulators.wavelets import Ricker
from pullback.study.waves import WaveFiles

log = logging.getLogger("pullback")

BLOCK = 16
"""Events read at once: 22 MB of OpenFWI's gathers."""
CLOSE = 1e-3
"""Coordinates may be this fraction of their distance apart."""
IN_KM_S = 20.0
"""No rock is slower than 20 m/s, or faster than 20 km/s."""

Rows = Callable[[int, int], np.ndarray]


class GatherError(ValueError):
    """A file of gathers or models that is not of this problem; the message says what was found and wanted."""


@dataclass(frozen=True)
class Fields:
    """The fields that files must hold.

    Attributes:
        x: velocity models, or None where no truth is read.
        y: gathers.
        acquisition: who shoots where.
    """

    x: Field | None
    y: Field
    acquisition: Acquisition


@dataclass(frozen=True)
class Events:
    """The events of one file, or of one file and its models: ``y(start, stop)``, and ``x`` where there is a truth."""

    n: int
    y: Rows
    x: Rows | None

    def blocks(self) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        """The first event of each block, y (event, *y) and x (event, *x), float32 and checked.

        Raises:
            GatherError: values that are not finite, or velocities that are none of the problem.
        """
        for start in range(0, self.n, BLOCK):
            stop = min(start + BLOCK, self.n)
            yield start, self.y(start, stop), self.x(start, stop) if self.x else None


@contextmanager
def open_events(read: WaveFiles, wanted: Fields, file: Path, model: Path | None) -> Iterator[Events]:
    """Open the events of one file.

    Args:
        read: the family's block, of which kind and units count.
        wanted: what the file must hold.
        file: with the gathers.
        model: with the models; None where no truth is read, and of netCDF.

    Raises:
        GatherError: it cannot be read, or its shapes, coordinates or units are not those of the problem.
        pullback.readers.segy.SegyError: likewise, of a SEG-Y file.
    """
    opened = {"openfwi": _openfwi, "segy": _segy, "netcdf": _netcdf}[read.kind]
    with ExitStack() as stack:
        n, y, x = opened(stack, wanted, file, model)
        of = model or file
        yield Events(
            n,
            lambda start, stop: _finite(file, "y", y(start, stop), start),
            (lambda start, stop: _velocities(of, wanted.x, read.units, x(start, stop), start)) if x else None,
        )


def _openfwi(stack: ExitStack, wanted: Fields, file: Path, model: Path | None) -> tuple[int, Rows, Rows | None]:
    o = FwiSimulator(preset="openfwi")
    samples = round(o.record_length / o.output_interval)
    recorded = {
        "source": np.array(evenly(o.sources, o.offset_cells, o.spacing)),  # type: ignore[arg-type]
        "time": np.arange(1, samples + 1) * o.output_interval,
        "receiver": np.array(evenly(o.receivers, o.offset_cells, o.spacing)),  # type: ignore[arg-type]
    }
    for name, values in recorded.items():
        _compare_coordinate(f"{file}: OpenFWI's", wanted.y, name, values, "give the simulator preset: openfwi")
    _compare_openfwi(file, wanted.acquisition, o)
    y = _array(file, (), wanted.y)
    if not model:
        return len(y), _rows(y), None
    assert wanted.x
    for name, cells in (("depth", o.depth_cells), ("offset", o.offset_cells)):
        nodes = np.arange(cells) * o.spacing
        _compare_coordinate(f"{model}: OpenFWI's", wanted.x, name, nodes, "give the simulator preset: openfwi")
    x = _array(model, (1,), wanted.x)
    if len(x) != len(y):
        raise GatherError(
            f"{model}: {len(x)} models, and {len(y)} gathers in {file}: give the files of the same events"
        )
    return len(y), _rows(y), _rows(x[:, 0])


def _segy(stack: ExitStack, wanted: Fields, file: Path, model: Path | None) -> tuple[int, Rows, Rows | None]:
    y = read_gathers(file, wanted.acquisition)[None]
    if not model:
        return 1, _rows(y), None
    assert wanted.x
    section = read_model(model)
    _check_shape(model, "a section", section.velocity.shape, wanted.x)
    of = f"{model}: the section's"
    for name, length, step, first in zip(
        wanted.x.dims, section.velocity.shape, section.spacing, section.origin, strict=True
    ):
        _compare_coordinate(of, wanted.x, name, first + np.arange(length) * step, "interpolate, cut or shift it")
    return 1, _rows(y), _rows(section.velocity[None])


def _netcdf(stack: ExitStack, wanted: Fields, file: Path, model: Path | None) -> tuple[int, Rows, Rows | None]:
    import xarray as xr

    try:
        data = stack.enter_context(xr.open_dataset(file, engine="h5netcdf", phony_dims="sort", decode_times=False))
    except (OSError, ValueError) as error:
        raise GatherError(f"{file}: cannot be read as netCDF or HDF5 ({_short(error)}); fetch it again") from None
    found: dict[str, xr.DataArray] = {}
    for field in filter(None, (wanted.y, wanted.x)):
        dims = ("event", *field.dims)
        if field.name not in data:
            here = ", ".join(map(str, data.data_vars)) or "nothing"
            raise GatherError(f"{file}: has {here}, wanted '{field.name}': name the variable so")
        variable = data[field.name]
        # HDF5 that was written without names of dimensions has them in order.
        if len(variable.dims) == len(dims) and all(str(name).startswith("phony_dim") for name in variable.dims):
            variable = variable.rename(dict(zip(variable.dims, dims, strict=True)))
        if set(variable.dims) != set(dims):
            raise GatherError(
                f"{file}: {field.name} is ({', '.join(map(str, variable.dims))}), wanted ({', '.join(dims)})"
            )
        found[field.name] = variable = variable.transpose(*dims)
        _check_shape(file, f"events of {field.name}", variable.shape[1:], field)
        for name in set(field.dims) & set(variable.coords):
            values, units = variable.coords[name].values, variable.coords[name].attrs.get("units")
            if units is not None and spelled(units) != field.coordinates[name].units:
                raise GatherError(f"{file}: {name} is in {units}, wanted {field.coordinates[name].units}: convert it")
            _compare_coordinate(f"{file}:", field, name, values, "read it into a problem that was recorded so")
        # Whatever y is in, only the scale of the simulator's own source could say whether it fits.
        if field.name == "x" and spelled(variable.attrs.get("units", "m/s")) not in ("m/s", "km/s"):
            raise GatherError(f"{file}: x is in {variable.attrs['units']}, wanted m/s: convert it")

    if len({len(variable) for variable in found.values()}) > 1:
        raise GatherError(f"{file}: {len(found['x'])} models and {len(found['y'])} gathers, wanted one x for each y")

    def rows(name: str) -> Rows:
        return lambda start, stop: np.asarray(found[name][start:stop].values, np.float32)

    return found["y"].shape[0], rows("y"), rows("x") if wanted.x else None


def _rows(values: np.ndarray) -> Rows:
    return lambda start, stop: np.asarray(values[start:stop], np.float32)


def _array(path: Path, between: tuple[int, ...], field: Field) -> np.ndarray:
    """A .npy file (event, *between, *field), mapped into memory."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(values, np.ndarray):
            raise ValueError("it holds several arrays")
    except (OSError, ValueError, EOFError) as error:
        raise GatherError(f"{path}: cannot be read as .npy ({_short(error)}); fetch it again") from None
    shape = (*between, *field.shape)
    if values.shape[1:] != shape or not len(values) or values.dtype.kind != "f":
        raise GatherError(
            f"{path}: {values.dtype} of shape {values.shape}, wanted floats (event, {', '.join(map(str, shape))}): "
            f"give OpenFWI's {'gathers in `files`' if field.name == 'y' else 'models in `models`'}"
        )
    return values


def _check_shape(path: Path, what: str, shape: tuple[int, ...], field: Field) -> None:
    if tuple(shape) != field.shape:
        said = " x ".join(field.dims)
        raise GatherError(
            f"{path}: {what} of shape {tuple(shape)}, wanted {field.shape} ({said}): interpolate or cut it, or set the "
            "simulator's cells, sources, receivers and record as they were"
        )


def _compare_coordinate(of: str, field: Field, name: str, found: np.ndarray, remedy: str) -> None:
    wanted, units = field.coordinates[name].values, field.coordinates[name].units
    step = float(np.abs(np.diff(wanted)).min()) if len(wanted) > 1 else 1.0
    if len(found) == len(wanted) and np.abs(found - wanted).max() <= CLOSE * step:
        return
    first, last = (f"{len(v)} values from {v[0]:g} to {v[-1]:g} {units}" for v in (found, wanted))
    raise GatherError(f"{of} {name} has {first}, this problem's {last}: {remedy}")


def _compare_openfwi(file: Path, a: Acquisition, o: FwiSimulator) -> None:
    """What OpenFWI's files do not say and is known of them."""
    for what in ("sources", "receivers"):
        depths = np.array([depth for depth, _ in getattr(a, what)])
        if np.abs(depths - o.source_depth).max() > CLOSE * a.spacing:
            raise GatherError(
                f"{file}: OpenFWI's {what} lie {o.source_depth:g} m deep, this problem's {depths.min():g} to "
                f"{depths.max():g} m: give the simulator preset: openfwi"
            )
    if a.wavelet != Ricker(o.peak_frequency):
        log.warning(
            "%s: OpenFWI's wavelet is a Ricker of %g Hz, this problem's another one, with its peak at %.3g Hz",
            file, o.peak_frequency, a.wavelet.frequency,
        )  # fmt: skip
    if a.free_surface:
        log.warning("%s: OpenFWI's data have no free surface, and this problem has one", file)


def _finite(path: Path, name: str, values: np.ndarray, start: int) -> np.ndarray:
    if not np.isfinite(values).all():
        event, *where = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise GatherError(
            f"{path}: {name} of event {start + event} is not finite at {tuple(where)}: repair it, or leave the event "
            "out"
        )
    return values


def _velocities(path: Path, field: Field | None, units: str, values: np.ndarray, start: int) -> np.ndarray:
    """Models in m/s that the problem's simulator takes."""
    assert field is not None
    assert field.low
    assert field.high
    values = _finite(path, "x", values, start) * np.float32(1000 if units == "km/s" else 1)
    low, high = float(values.min()), float(values.max())
    # float32 cannot hold every bound exactly.
    if low < field.low[0] * (1 - 1e-6) or high > field.high[0] * (1 + 1e-6):
        remedy = "widen velocity_min and velocity_max of the simulator, or clip the models"
        if high < IN_KM_S:
            remedy = "these look like km/s: say read.units: km/s"
        elif high > 1000 * IN_KM_S and units == "km/s":
            remedy = "these look like m/s: say read.units: m/s"
        raise GatherError(
            f"{path}: velocities from {low:g} to {high:g} m/s in events {start} to {start + len(values) - 1}, wanted "
            f"{field.low[0]:g} to {field.high[0]:g}: {remedy}"
        )
    return values


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
