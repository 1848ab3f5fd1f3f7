"""Arrays in files, opened and described the same way whatever the format: .npy, .npz, netCDF, HDF5.

Values are read when they are asked for. What a file says of an array beside its values (names of dimensions,
coordinates, units) stands in its `Variable`.
"""

import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from pullback.core.optional import require
from pullback.readers.base import ReadError, short
from pullback.readers.heaps import has_endless_heap

if TYPE_CHECKING:
    import xarray as xr

FORMATS = {"npy": ".npy", "npz": ".npz", "classic": "netCDF", "hdf5": "HDF5"}
"""Format -> what messages call it; netCDF-4 is HDF5."""
ALIASES = {
    "depth": frozenset({"depth", "depths", "z", "nz", "iz", "elevation", "altitude", "height"}),
    "offset": frozenset({"offset", "offsets", "x", "nx", "ix", "distance", "lateral", "horizontal"}),
    "time": frozenset({"time", "times", "t", "nt", "it", "twt"}),
    "source": frozenset({"source", "sources", "shot", "shots", "src", "ns"}),
    "receiver": frozenset({"receiver", "receivers", "trace", "traces", "rec", "nr", "geophone", "geophones"}),
    "event": frozenset({"event", "events", "sample", "realization", "batch", "model", "models"}),
}
"""Names of one dimension in different fields of work. y is none: it is depth in pictures, a second offset on maps."""
UPWARD = frozenset({"elevation", "altitude", "height"})
"""Those of depth that count upwards."""
MEANINGS = ("standard_name", "long_name", "axis")
"""Attributes that say what a coordinate is (CF conventions)."""
_UNNAMED = ("phony_dim_", "dim_")
"""What h5netcdf and xarray call dimensions without names."""
_DEFLATE = 1100
"""No compression of HDF5 makes values smaller than by this factor."""
LISTED = 12
"""Names in a message."""
_SKIP = 2**22
"""Bytes of a .npz member that are read at once to come to a row."""
_GROUPS = 50
"""Groups of an HDF5 file that are looked at."""


@dataclass(frozen=True)
class Along:
    """Values along one dimension, by the name and with the attributes of their variable."""

    name: str
    values: np.ndarray
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def units(self) -> str | None:
        """As the file spells them; None where it says nothing."""
        return text(units_in(self.attributes))


@dataclass(frozen=True)
class Variable:
    """One array of a file.

    Attributes:
        path: the file.
        name: of the array; empty where the file holds one without a name.
        shape, dtype: as they are read.
        values: what gives values by an index (tuple of slices).
        dims: a name for each axis; None where nothing names it.
        coordinates: by the name of their dimension.
        attributes: by name, of any type.
        component_units: units of each component of a vector, where a variable of the file lists them.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    values: Any
    dims: tuple[str | None, ...]
    coordinates: Mapping[str, Along] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    component_units: tuple[str, ...] | None = None

    @property
    def units(self) -> str | tuple[str, ...] | None:
        """As the file spells them, one or one for each component; None where it says nothing."""
        if self.component_units is not None:
            return self.component_units
        found = units_in(self.attributes)
        if isinstance(found, list | tuple | np.ndarray) and np.size(found) > 1:
            return tuple(text(each) or "" for each in np.ravel(np.asarray(found, dtype=object)))
        return text(found)

    def read(self, index: tuple[slice, ...]) -> np.ndarray:
        """Some of the values.

        Raises:
            ReadError: the file is damaged there.
        """
        try:
            return np.asarray(self.values[index])
        except Exception as error:  # damaged files raise anything
            of = f" of '{self.name}'" if self.name else ""
            raise ReadError(f"{self.path}: values{of} cannot be read ({short(error)}); fetch it again") from None


def text(attribute: Any) -> str | None:
    """An attribute of any type as text; None where it is missing or empty."""
    if isinstance(attribute, np.ndarray | list | tuple):
        attribute = np.ravel(np.asarray(attribute, dtype=object))[0] if np.size(attribute) else None
    if isinstance(attribute, bytes):
        attribute = attribute.decode("utf-8", "replace")
    said = "" if attribute is None else " ".join(str(attribute).strip("\x00").split())
    return said or None


def units_in(attributes: Mapping[str, Any]) -> Any:
    """The attribute ``units``, as people also write it: ``Units``, ``unit``."""
    named = {str(key).lower(): value for key, value in attributes.items()}
    return attributes.get("units", named.get("units", named.get("unit")))


def listed(arrays: Mapping[str, Variable]) -> str:
    """Names of arrays for a message."""
    names = [" ".join(name.split()) for name in sorted(arrays)]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more or "nothing"


def format_of(path: Path) -> str | None:
    """Which of `FORMATS` a file has, by its first bytes; None of any other.

    Raises:
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(8)
    for begins, name in ((b"\x93NUMPY", "npy"), (b"PK", "npz"), (b"\x89HDF\r\n\x1a\n", "hdf5"), (b"CDF", "classic")):
        if head.startswith(begins):
            return name
    import h5py

    # HDF5 may begin with a block of the user's own.
    return "hdf5" if h5py.is_hdf5(path) else None


@contextmanager
def opened(path: Path, formats: tuple[str, ...] = tuple(FORMATS)) -> Iterator[dict[str, Variable]]:
    """The arrays of a file, by name.

    Args:
        path: the file.
        formats: those of `FORMATS` that are allowed.

    Raises:
        ReadError: it is damaged, or of another format.
        pullback.core.optional.MissingExtraError: netCDF-3 without scipy.
    """
    *others, last = (FORMATS[name] for name in formats)
    wanted = f"{', '.join(others)} or {last}" if others else last
    with ExitStack() as stack:
        try:
            found = format_of(path)
            if found not in formats:
                raise ValueError(f"it is {FORMATS[found]}" if found else "it begins like none")
            opener = {"npy": _npy, "npz": _npz, "hdf5": _hdf5, "classic": _classic}[found]
            arrays = _with_loose_coordinates({each.name: each for each in opener(stack, path)})
        except (ReadError, ImportError):
            raise
        except Exception as error:  # damaged files raise anything
            if "labeled and unlabeled" in str(error):
                raise ReadError(
                    f"{path}: some axes of an array have HDF5 scales and others none ({short(error)}): attach scales "
                    "to all its axes, or to none"
                ) from None
            raise ReadError(f"{path}: cannot be read as {wanted} ({short(error)}); fetch it again") from None
        yield arrays


def _with_loose_coordinates(arrays: dict[str, Variable]) -> dict[str, Variable]:
    """Arrays whose axes have no names, with the coordinates beside them that have usual names: ``depth``, ``t``."""
    usual = frozenset[str]().union(*ALIASES.values())
    loose: dict[str, dict[str, Along]] = {}
    for name, each in arrays.items():
        group, _, own = name.rpartition("/")
        if own.lower() in usual and len(each.shape) == 1 and each.shape[0] > 1 and each.dtype.kind in "fiu":
            values = each.read((slice(None),))
            loose.setdefault(group, {})[own] = Along(own, values, each.attributes)
    return {
        name: each if any(each.dims) else replace(each, coordinates=loose.get(name.rpartition("/")[0], {}))
        for name, each in arrays.items()
    }


def refuse_what_is_no_number(variable: Variable) -> None:
    """Refuse values that are not real numbers, and a variable without any."""
    what = f"{variable.path}: " + (f"'{variable.name}'" if variable.name else "it")
    if variable.dtype.kind not in "fiu":
        kinds = {"c": "complex numbers", "b": "truth values", "O": "objects or texts", "V": "records"}
        found = kinds.get(variable.dtype.kind, "texts" if variable.dtype.kind in "SUT" else str(variable.dtype))
        raise ReadError(f"{what} holds {found} ({variable.dtype}), wanted real numbers: write floats")
    if not math.prod(variable.shape):
        raise ReadError(f"{what} has shape {variable.shape}, wanted at least one event")


def _npy(stack: ExitStack, path: Path) -> Iterator[Variable]:
    with path.open("rb") as file:
        shape, dtype = _header(file)
    values = None if dtype.hasobject else np.lib.format.open_memmap(path, "r")
    yield Variable(path, "", shape, dtype, values, (None,) * len(shape))


class _Member:
    """An array of a .npz file. Rows are read one after the other; what is asked for again is read from the start."""

    def __init__(self, archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype, by_rows: bool):
        self.archive, self.name, self.shape, self.dtype, self.by_rows = archive, name, shape, dtype, by_rows
        self._file: IO[bytes] | None = None
        self._next = 0  # the row that the open file stands at
        self._whole: np.ndarray | None = None

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        if not (self.by_rows and index and isinstance(index[0], slice)):
            if self._whole is None:
                with self.archive.open(self.name) as file:
                    self._whole = np.lib.format.read_array(file, allow_pickle=False)
            return self._whole[index]
        start, stop, step = index[0].indices(self.shape[0])
        return self._rows(start, stop)[(slice(None, None, step), *index[1:])]

    def _rows(self, start: int, stop: int) -> np.ndarray:
        size = self.dtype.itemsize * math.prod(self.shape[1:])
        if self._file is None or self._next > start:
            self._file = self.archive.open(self.name)
            _header(self._file)
            self._next = 0
        while self._next < start:
            skipped = min(start - self._next, max(1, _SKIP // max(size, 1)))
            self._file.read(skipped * size)
            self._next += skipped
        content = self._file.read((stop - start) * size)
        self._next = stop
        return np.frombuffer(content, self.dtype).reshape(stop - start, *self.shape[1:]).copy()


def _npz(stack: ExitStack, path: Path) -> Iterator[Variable]:
    archive = stack.enter_context(zipfile.ZipFile(path))
    for member in archive.infolist():
        if not member.filename.endswith(".npy"):
            continue
        with archive.open(member) as file:
            shape, dtype, is_fortran = _full_header(file)
            # What the header promises is there, before memory is taken for it.
            if not dtype.hasobject and file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
                raise ValueError(f"{member.filename} has {member.file_size} bytes, and its header says {shape} {dtype}")
        name = member.filename.removesuffix(".npy")
        by_rows = bool(shape) and not dtype.hasobject and not is_fortran
        values = _Member(archive, member.filename, shape, dtype, by_rows)
        yield Variable(path, name, shape, dtype, values, (None,) * len(shape))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    shape, dtype, _ = _full_header(file)
    return shape, dtype


def _full_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Shape, dtype, and whether the first axis runs fastest."""
    read = np.lib.format.read_array_header_1_0 if np.lib.format.read_magic(file)[0] == 1 else _long_header
    shape, is_fortran, dtype = read(file)
    return shape, dtype, is_fortran


def _long_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    return np.lib.format.read_array_header_2_0(file)


def _classic(stack: ExitStack, path: Path) -> Iterator[Variable]:
    require("scipy", "learn")
    import xarray as xr

    # Without a map into memory: values that lie behind the end of a cut file are an error then.
    data = stack.enter_context(xr.open_dataset(path, engine="scipy", decode_times=False, mmap=False))
    yield from _variables(path, data, "")


def _hdf5(stack: ExitStack, path: Path) -> Iterator[Variable]:
    import xarray as xr

    if has_endless_heap(path):
        raise ValueError("a heap is damaged")
    for group, labels in _groups(path).items():
        data = stack.enter_context(
            xr.open_dataset(path, engine="h5netcdf", group=group or None, phony_dims="sort", decode_times=False)
        )
        yield from _variables(path, data, group, labels)


def _groups(path: Path) -> dict[str, dict[str, tuple[str | None, ...]]]:
    """The groups that hold arrays -> their arrays -> labels of the axes (HDF5's own, which netCDF does not use)."""
    import h5py

    size = path.stat().st_size
    found: dict[str, dict[str, tuple[str | None, ...]]] = {"": {}}

    def look(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset):
            outside = item.is_virtual or item.external
            if not outside and item.nbytes > _DEFLATE * size:
                raise ValueError(f"'{name}' is said to have {item.nbytes} bytes, and the file has {size}")
            group, _, own = name.rpartition("/")
            found.setdefault(group, {})[own] = tuple(dim.label or None for dim in item.dims)
        return True if len(found) > _GROUPS else None

    with h5py.File(path) as file:
        file.visititems(look)
    return found


def _variables(
    path: Path, data: "xr.Dataset", group: str, labels: Mapping[str, tuple[str | None, ...]] | None = None
) -> Iterator[Variable]:
    along = _along(data)
    for own, variable in data.variables.items():
        name = str(own)
        if own in data.coords and (own not in variable.dims or len(variable.dims) < 2):
            continue
        dims = [None if str(dim).startswith(_UNNAMED) else str(dim) for dim in variable.dims]
        named = (labels or {}).get(name, ())
        if not any(dims) and len(named) == len(dims):
            dims = list(named)
        yield Variable(
            path,
            f"{group}/{name}" if group else name,
            variable.shape,
            variable.dtype,
            variable,
            tuple(dims),
            {dim: along[dim] for dim in dims if dim in along},
            dict(variable.attrs),
            _component_units(data, name, variable.shape),
        )


def _along(data: "xr.Dataset") -> dict[str, Along]:
    """The coordinates by their dimension: of its name, or what by name or attributes is another one."""
    usual = frozenset[str]().union(*ALIASES.values())
    found: dict[str, Along] = {}
    for name, each in data.variables.items():
        own = str(name)
        said = {own.lower(), *((text(each.attrs.get(key)) or "").lower() for key in MEANINGS)}
        if len(each.dims) == 1 and (each.dims == (name,) or said & usual):
            along, dim = Along(own, np.asarray(each.values), dict(each.attrs)), str(each.dims[0])
            found[dim] = along if own == dim else found.get(dim, along)
    return found


def _component_units(data: "xr.Dataset", name: str, shape: tuple[int, ...]) -> tuple[str, ...] | None:
    """Units that an ensemble of this package lists beside a vector whose components differ in them."""
    listed = data.get(f"{name}_units")
    if listed is None or text(data[name].attrs.get("units")) != "mixed" or listed.shape != shape[-1:]:
        return None
    return tuple(text(each) or "" for each in listed.values)
