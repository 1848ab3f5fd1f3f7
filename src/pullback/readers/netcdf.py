"""Gathers and velocity models as the variables y and x of one netCDF4 or HDF5 file (by xarray)."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Option

from pullback.ensembles.fields import Field
from pullback.readers.base import OutsideFile, ReadError, short
from pullback.readers.gathers import GatherFiles, Opened, Rows, compare_coordinate, compare_shape
from pullback.readers.section import spelled

if TYPE_CHECKING:
    import xarray as xr


class NetcdfFiles(GatherFiles):
    """Gathers in netCDF or HDF5 files: the variables y and, where there is a truth, x, both (event, ...)."""

    kind: Literal["netcdf"] = Option(description="the variables y and x, (event, ...), also of HDF5")

    def opened(self, stack: ExitStack, problem: Any, file: OutsideFile) -> Opened:
        """Compare the variables with the fields; they are put in the order of the fields' dimensions."""
        import xarray as xr

        path = file.path
        try:
            data = stack.enter_context(xr.open_dataset(path, engine="h5netcdf", phony_dims="sort", decode_times=False))
        except (OSError, ValueError) as error:
            raise ReadError(f"{path}: cannot be read as netCDF or HDF5 ({short(error)}); fetch it again") from None
        fields = [problem.y, problem.x] if file.has_truth else [problem.y]
        found = {field.name: _variable(path, data, field) for field in fields}
        if len({len(variable) for variable in found.values()}) > 1:
            raise ReadError(f"{path}: {len(found['x'])} models and {len(found['y'])} gathers, wanted one x for each y")

        def rows(name: str) -> Rows:
            return lambda start, stop: np.asarray(found[name][start:stop].values, np.float32)

        return found["y"].shape[0], rows("y"), rows("x") if file.has_truth else None


def _variable(path: Path, data: "xr.Dataset", field: Field) -> "xr.DataArray":
    dims = ("event", *field.dims)
    if field.name not in data:
        here = ", ".join(map(str, data.data_vars)) or "nothing"
        raise ReadError(f"{path}: has {here}, wanted '{field.name}': name the variable so")
    variable = data[field.name]
    # HDF5 that was written without names of dimensions has them in order.
    if len(variable.dims) == len(dims) and all(str(name).startswith("phony_dim") for name in variable.dims):
        variable = variable.rename(dict(zip(variable.dims, dims, strict=True)))
    if set(variable.dims) != set(dims):
        raise ReadError(f"{path}: {field.name} is ({', '.join(map(str, variable.dims))}), wanted ({', '.join(dims)})")
    variable = variable.transpose(*dims)
    compare_shape(path, f"events of {field.name}", variable.shape[1:], field)
    for name in set(field.dims) & set(variable.coords):
        values, units = variable.coords[name].values, variable.coords[name].attrs.get("units")
        if units is not None and spelled(units) != field.coordinates[name].units:
            raise ReadError(f"{path}: {name} is in {units}, wanted {field.coordinates[name].units}: convert it")
        compare_coordinate(f"{path}:", field, name, values, "read it into a problem that was recorded so")
    # Whatever y is in, only the scale of the simulator's own source could say whether it fits.
    if field.name == "x" and spelled(variable.attrs.get("units", "m/s")) not in ("m/s", "km/s"):
        raise ReadError(f"{path}: x is in {variable.attrs['units']}, wanted m/s: convert it")
    return variable
