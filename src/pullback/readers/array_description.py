"""What a file of arrays holds, and the block ``read`` that reads it into a problem."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from pullback.readers.array_files import FORMATS, Variable, format_of, opened
from pullback.readers.base import Inspection
from pullback.readers.field_units import ROCK

LOOK_BYTES = 2**23
"""Values are read up to this size to tell their range."""
PLOTS = 8
"""Arrays that are drawn."""
X_NAMES = frozenset({"x", "m", "v", "vp", "velocity", "velocities", "model", "models", "truth", "truths"})
Y_NAMES = frozenset({"y", "d", "data", "shots", "gathers", "seis", "seismic", "observation", "observations", "obs"})
_MODELS = (
    "models without observations: name the file under `models` of a family, and that of its observations under "
    "`files`; or cut models from one section by params.tiles"
)
LEAST_NODES = 8
"""Of a section each way; vectors (event, component) have fewer components."""
OPENFWI = (5, 1000, 70)
"""Shape of OpenFWI's gathers."""


def describe(path: Path | str) -> dict[str, Any]:
    """The arrays of a .npy, .npz, netCDF or HDF5 file as plain values.

    Returns:
        ``format``, and under ``variables`` for each array ``dims`` (None where an axis has no name), ``shape``,
        ``dtype``, ``units`` (None where the file says none), ``range`` of the first ``looked_at`` values along the
        first axis (None of what is no number, or where none is finite), ``not_finite`` among them, and
        ``coordinates``: for each named dimension that has one, ``count``, ``from``, ``to``, ``units``.

    Raises:
        ReadError: the file is damaged or of another format.
        pullback.core.optional.MissingExtraError: netCDF-3 without scipy.
    """
    path = Path(path)
    with opened(path) as arrays:
        return {
            "format": FORMATS[format_of(path) or ""],
            "variables": {name or path.stem: _described(each) for name, each in arrays.items()},
        }


def _described(variable: Variable) -> dict[str, Any]:
    units = variable.units
    return {
        "dims": list(variable.dims),
        "shape": list(variable.shape),
        "dtype": str(variable.dtype),
        "units": list(units) if isinstance(units, tuple) else units,
        **_range(variable),
        "coordinates": {
            name: {
                "count": len(along.values),
                **({"from": _plain(along.values[0]), "to": _plain(along.values[-1])} if len(along.values) else {}),
                "units": along.units,
            }
            for name, along in variable.coordinates.items()
        },
    }


def _plain(value: Any) -> float | str:
    return float(value) if isinstance(value, np.number) and np.isrealobj(value) else str(value)


def _range(variable: Variable) -> dict[str, Any]:
    if variable.dtype.kind not in "fiu" or not math.prod(variable.shape):
        return {"range": None, "looked_at": 0, "not_finite": 0}
    row = variable.dtype.itemsize * max(1, math.prod(variable.shape[1:]))
    looked_at = min(max(1, LOOK_BYTES // row), *variable.shape[:1]) if variable.shape else 1
    values = variable.read((slice(0, looked_at),) if variable.shape else ())
    finite = values[np.isfinite(values)]
    return {
        "range": [float(finite.min()), float(finite.max())] if finite.size else None,
        "looked_at": looked_at,
        "not_finite": int(values.size - finite.size),
    }


def inspected(path: Path) -> Inspection:
    """What a file holds, and the block that reads it as far as names and numbers of axes tell.

    Raises:
        ReadError: the file is damaged or of another format.
        pullback.core.optional.MissingExtraError: netCDF-3 without scipy.
    """
    found = describe(path)
    with opened(path) as arrays:
        lines = [("format", found["format"])]
        for name, each in found["variables"].items():
            lines.append((name, _line(each)))
            lines += [(f"  {dim}", _coordinate_line(along)) for dim, along in each["coordinates"].items()]
        numbers = [each for each in arrays.values() if each.dtype.kind in "fiu" and 0 not in each.shape]
        images = {each.name or path.stem: _first_event(each) for each in numbers[:PLOTS]}
        read, hint = _block(path, found["format"], numbers)
    return Inspection(lines, read, hint, images)


def _line(each: dict[str, Any]) -> str:
    axes = ", ".join(
        f"{dim} {size}" if dim else str(size) for dim, size in zip(each["dims"], each["shape"], strict=True)
    )
    said = [f"({axes})", each["dtype"]]
    if each["units"]:
        said.append(f"in {each['units'] if isinstance(each['units'], str) else ', '.join(each['units'])}")
    if each["range"]:
        first = f" in the first {each['looked_at']}" if each["shape"] and each["looked_at"] < each["shape"][0] else ""
        said.append(f"from {each['range'][0]:g} to {each['range'][1]:g}{first}")
    if each["not_finite"]:
        said.append(f"{each['not_finite']} not finite")
    return ", ".join(said)


def _coordinate_line(along: dict[str, Any]) -> str:
    ends = (f"{end:g}" if isinstance(end, float) else end for end in (along.get("from", ""), along.get("to", "")))
    return f"{along['count']} values from {' to '.join(ends)}{' ' + along['units'] if along['units'] else ''}"


def _first_event(variable: Variable) -> np.ndarray:
    """An image (row, column) of the first event, or values for a histogram."""
    most = max(1, LOOK_BYTES // variable.dtype.itemsize)
    ahead = tuple(slice(0, 1) for _ in variable.shape[:-2])
    behind = tuple(slice(0, int(math.sqrt(most))) for _ in variable.shape[-2:])
    values = variable.read((*ahead, *behind)).astype(np.float64)
    return values.reshape(values.shape[-2:]) if len(ahead) else values.ravel()


def _block(path: Path, format_name: str, arrays: list[Variable]) -> tuple[dict[str, Any] | None, str]:
    """The block ``read``, or why there is none."""
    large = [each for each in arrays if len(each.shape) > 1]
    y, x = (next((each for each in arrays if _own(each) in names), None) for names in (Y_NAMES, X_NAMES))
    rest = sorted((each for each in large if each is not y and each is not x), key=lambda each: -len(each.shape))
    is_pair = len(large) == 2
    if y is None and rest and (x is not None or is_pair or len(large) == 1):
        y = rest.pop(0)
    if x is None and rest and y is not None and is_pair:
        x = rest.pop(0)
    are_models = x is not None and y is not None and _are_velocities(x) and _long(y) <= _long(x)
    if (y is None and x is not None) or are_models:
        return None, _MODELS
    if y is None:
        here = "no numbers" if not arrays else "arrays, and none by which observations are known"
        return None, f"the file has {here}: name them in read.variables: {{y: NAME, x: NAME}}"
    kind = "numpy" if format_name in (FORMATS["npy"], FORMATS["npz"]) else "netcdf"
    if format_name == FORMATS["npy"]:
        if _are_velocities(y) or _are_velocities(y, 1e3):
            return None, _MODELS
        kind = "openfwi" if y.shape[-3:] == OPENFWI else "numpy"
    block: dict[str, Any] = {"kind": kind, "files": {"test": [str(path)]}}
    names = {
        field: each.name for field, each in (("x", x), ("y", y)) if each is not None and each.name not in ("", field)
    }
    if names:
        block["variables"] = names
    if x is not None and x.units is None and _are_velocities(x, 1e3):
        block["units"] = "km/s"
    return block, ""


def _long(variable: Variable) -> int:
    """Axes that are not of length 1: of gathers there are more than of models."""
    return sum(length != 1 for length in variable.shape)


def _own(variable: Variable) -> str:
    """A name without its group."""
    return variable.name.rpartition("/")[2].lower()


def _are_velocities(variable: Variable, times: float = 1.0) -> bool:
    """Whether the values of models are those of rocks in m/s."""
    found = _range(variable)["range"]
    long = [length for length in variable.shape if length != 1]
    is_model = len(long) > 1 and min(long[-2:]) >= LEAST_NODES and _own(variable) in X_NAMES | {""}
    return is_model and found is not None and ROCK[0] <= found[0] * times and found[1] * times <= ROCK[1]
