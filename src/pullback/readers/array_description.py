"""What a file of arrays holds, and the block ``read`` that reads it into a problem."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from pullback.ensembles.fields import Field
from pullback.readers.array_files import FORMATS, Variable, format_of, opened
from pullback.readers.arrays import has_components
from pullback.readers.axes import arranged, proposed_names
from pullback.readers.base import ReadError
from pullback.readers.field_units import likely_unit

LOOK_BYTES = 2**23
"""Values are read up to this size to tell their range."""


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
    row = variable.dtype.itemsize * math.prod(variable.shape[1:])
    looked_at = min(max(1, LOOK_BYTES // row), *variable.shape[:1]) if variable.shape else 1
    values = variable.read((slice(0, looked_at),) if variable.shape else ())
    finite = values[np.isfinite(values)]
    return {
        "range": [float(finite.min()), float(finite.max())] if finite.size else None,
        "looked_at": looked_at,
        "not_finite": int(values.size - finite.size),
    }


def proposal(path: Path | str, problem: Any, split: str = "test") -> dict[str, Any]:
    """The block ``read`` of a family that reads a file, as far as the file and the fields of a problem tell.

    Args:
        path: .npy, .npz, netCDF or HDF5.
        problem: a `pullback.problems.base.Problem`.
        split: that the file is named under.

    Raises:
        ReadError: the file is damaged, of another format, or holds nothing that has the lengths of y or x.
    """
    path = Path(path)
    block: dict[str, Any] = {"kind": "netcdf", "files": {split: [str(path)]}}
    with opened(path) as arrays:
        if format_of(path) in ("npy", "npz"):
            block["kind"] = "numpy"
        apart = {field.name: has_components(arrays, field) for field in (problem.y, problem.x)}
        y = _of_field(arrays, problem.y)
        rest = {name: each for name, each in arrays.items() if y is None or each is not y[0]}
        x = _of_field(rest, problem.x)
        if y is None and x is None and not any(apart.values()):
            here = ", ".join(f"{name or path.name} {each.shape}" for name, each in arrays.items()) or "nothing"
            raise ReadError(f"{path}: has {here}, nothing of the lengths of y {problem.y.shape} or x {problem.x.shape}")
        if y is None and not apart["y"]:
            block["files"] = {split: ["the file with y"]}
            block["models"] = {split: [str(path)]}
        for field, found in ((problem.y, y), (problem.x, x)):
            if found is None:
                continue
            variable, names = found
            if variable.name and variable.name != field.name:
                block.setdefault("variables", {})[field.name] = variable.name
            for key, value in names.items():
                block.setdefault(key, {}).update(value)
            unit = _unit(variable, field)
            if unit is not None:
                block.setdefault("units", {})[field.name] = unit
    return block


def _of_field(arrays: dict[str, Variable], field: Field) -> tuple[Variable, dict[str, Any]] | None:
    """The array that can be read as a field, by its name before others, with the keys that name its axes."""
    for variable in sorted(arrays.values(), key=lambda each: each.name != field.name):
        if variable.dtype.kind not in "fiu" or not math.prod(variable.shape):
            continue
        # A quantity beside others is no vector of one component.
        if field.is_vector and has_components(arrays, field) and variable.name != field.name:
            continue
        for names in ({}, proposed_names(variable, field)):
            try:
                arranged(variable, field, names.get("dimensions", {}), names.get("axes", {}).get(field.name, ()), {})
            except ReadError:
                continue
            return variable, names
    return None


def _unit(variable: Variable, field: Field) -> str | None:
    """The unit that brings values without one into the bounds of an array field."""
    found = None if variable.units is not None or field.is_vector else _range(variable)["range"]
    return None if found is None else likely_unit(field, 0, (found[0], found[1]), field.units[0])
