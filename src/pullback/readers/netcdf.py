"""The fields of any problem as variables of netCDF and HDF5 files (by xarray)."""

from typing import ClassVar, Literal

from pydantic import Field as Option

from pullback.readers.arrays import ArrayFiles


class NetcdfFiles(ArrayFiles):
    """netCDF or HDF5 files: the variables y and, where there is a truth, x; dimensions by their names."""

    formats: ClassVar[tuple[str, ...]] = ("classic", "hdf5")
    suffixes: ClassVar[tuple[str, ...]] = (".nc", ".nc4", ".cdf", ".h5", ".hdf5")

    kind: Literal["netcdf"] = Option(description="the variables y and x, also of HDF5 and netCDF-3")
