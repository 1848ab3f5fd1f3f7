"""Atomic HDF5 files in netCDF4 layout (for xarray), with a digest of their content.

Every file is netCDF4-style: dimension scales with real names, units on variables. It is written under a temporary
name in the same folder and renamed at the end; while it is written, the bytes of each variable run through SHA-256.
"""

import errno
import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from pullback.core.atomic import StoreError, atomic
from pullback.ensembles.arrays import FIELD_EVENT_BYTES
from pullback.ensembles.digests import array_digest, combine_digests
from pullback.ensembles.fields import Coordinate, Field

CONTRACT_VERSION = 1
TABLE_CHUNK_BYTES = 128 * 1024
TABLE_CHUNK_ROWS = 4096
FIELD_CHUNK_BYTES = 512 * 1024
"""A chunk holds 1-8 events that are fields, thousands that are rows of a table. (Whole-shard chunks made random reads
of fields 300 times slower; 8-row chunks doubled the size of tables.)"""

DIMENSION_ONLY = b"This is a netCDF dimension but not a netCDF variable. %10d"


class _Disk(io.RawIOBase):
    """File object that HDF5 writes to; it stores the first error instead of raising it inside HDF5.

    HDF5 does not survive a write that fails: it tries again when each object is let go, h5py prints every try, loses
    some, and the process may crash at its end. What comes after the first error goes to memory, where HDF5 finds it
    again; it closes in peace, and the file is thrown away.
    """

    def __init__(self, path: Path):
        self._file = path.open("w+b", buffering=0)
        self._place = 0
        self._lost: list[tuple[int, bytes]] = []
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._place = offset + (0, self._place, self._file.seek(0, io.SEEK_END))[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def write(self, data: Any, /) -> int:
        left = memoryview(data).cast("B")
        size, start = len(left), self._place
        try:
            self._file.seek(start)
            # A disk that is nearly full takes a part.
            while left and self.error is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = error
        if left:
            self._lost.append((start + size - len(left), bytes(left)))
        self._place += size
        return size

    def readinto(self, buffer: Any, /) -> int:
        target = memoryview(buffer).cast("B")
        self._file.seek(self._place)
        done = 0
        while done < len(target) and (got := self._file.readinto(target[done:])):
            done += got
        target[done:] = bytes(len(target) - done)
        for start, data in self._lost:
            first, last = max(start, self._place), min(start + len(data), self._place + len(target))
            if first < last:
                target[first - self._place : last - self._place] = data[first - start : last - start]
        self._place += len(target)
        return len(target)

    def truncate(self, size: int | None = None, /) -> int:
        size = self._place if size is None else size
        try:
            if self.error is None:
                self._file.truncate(size)
        except OSError as error:
            self.error = error
        return size

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self._file.close()
        super().close()


class NewFile(h5py.File):
    """An HDF5 file that is being written."""

    def __init__(self, path: Path, libver: Any = None):
        self._disk = _Disk(path)
        super().__init__(self._disk, "w", libver=libver)

    def check(self) -> None:
        """Raise the OSError of the first write that failed."""
        if self._disk.error is not None:
            raise self._disk.error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._disk.close()
        if error is None:
            self.check()


@contextmanager
def create(path: Path | str, libver: Any = None) -> Iterator[NewFile]:
    """Context that creates an HDF5 file; it appears only when the block ends without an error.

    Raises:
        StoreError: the folder cannot be written or the disk is full.
    """
    with atomic(path) as temporary, NewFile(temporary, libver) as file:
        yield file


def chunk_rows(event_bytes: int) -> int:
    """Events in one chunk of a variable whose events have this many bytes."""
    if event_bytes >= FIELD_EVENT_BYTES:
        return max(1, min(8, FIELD_CHUNK_BYTES // event_bytes))
    return max(8, min(TABLE_CHUNK_ROWS, TABLE_CHUNK_BYTES // max(event_bytes, 1)))


class Appender:
    """Variables that grow along ``event``, with a running digest of each.

    Args:
        file: the file that is being written.
    """

    def __init__(self, file: NewFile):
        self.file = file
        self.n = 0
        self._variables: dict[str, h5py.Dataset] = {}
        self._hashes: dict[str, Any] = {}
        self._dims: dict[str, tuple[str, ...]] = {}

    def variable(self, name: str, dtype: Any, dims: tuple[str, ...], shape: tuple[int, ...], **attributes: Any) -> None:
        """Declare a variable (event, *shape) with dimension names for ``shape``."""
        dtype = np.dtype(dtype)
        rows = chunk_rows(dtype.itemsize * int(np.prod(shape, dtype=int)))
        data = self.file.create_dataset(
            name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(rows, *shape), fletcher32=True
        )
        data.attrs.update(attributes)
        self._variables[name] = data
        self._hashes[name] = hashlib.sha256()
        self._dims[name] = dims

    def append(self, values: Mapping[str, np.ndarray]) -> None:
        """Append rows of every declared variable."""
        if set(values) != set(self._hashes):
            raise StoreError(f"wanted the variables {sorted(self._hashes)}, found {sorted(values)}")
        sizes = {name: len(array) for name, array in values.items()}
        if len(set(sizes.values())) != 1:
            raise StoreError(f"variables of one file must have the same number of events, found {sizes}")
        rows = next(iter(sizes.values()))
        for name, array in values.items():
            data = self._variables[name]
            array = np.ascontiguousarray(array, dtype=data.dtype)
            if array.shape[1:] != data.shape[1:]:
                raise StoreError(f"{name}: each event has shape {array.shape[1:]}, wanted {data.shape[1:]}")
            data.resize(self.n + rows, axis=0)
            data[self.n :] = array
            self._hashes[name].update(array)
            self.file.check()
        self.n += rows

    def finish(self, extra: Mapping[str, np.ndarray] = {}) -> str:
        """Attach the dimensions and return the content digest of the events and of ``extra`` arrays."""
        for name, dims in self._dims.items():
            attach(self.file, self.file[name], ("event", *dims))
        digests = {name: running.hexdigest() for name, running in self._hashes.items()}
        return combine_digests(
            digests | {name: array_digest(array) for name, array in extra.items()},
            {name: (self.file[name].dtype.str, self.file[name].shape) for name in self._hashes},
        )


def dimension(
    file: h5py.Group, name: str, size: int, values: np.ndarray | None = None, units: str | None = None
) -> None:
    """A dimension scale: with coordinate values, or (netCDF's convention) without."""
    if name in file:
        return
    if values is None:
        scale = file.create_dataset(name, shape=(size,), dtype=">f4")
        scale.make_scale(DIMENSION_ONLY.replace(b"%10d", f"{size:10d}".encode()).decode())
    else:
        is_text = np.asarray(values).dtype.kind in "UO"
        scale = file.create_dataset(
            name, data=values, dtype=h5py.string_dtype() if is_text else np.asarray(values).dtype
        )
        scale.make_scale(name)
        if units is not None:
            scale.attrs["units"] = units


def attach(file: h5py.Group, data: h5py.Dataset, dims: tuple[str, ...]) -> None:
    """Name the axes of a variable; a dimension that has no scale yet gets one without values."""
    for axis, name in enumerate(dims):
        dimension(file, name, data.shape[axis])
        data.dims[axis].attach_scale(file[name])


def describe(file: h5py.File, field: Field) -> dict[str, str]:
    """Write a field's coordinates; returns the attributes of its variable."""
    if field.is_vector:
        name = field.dims[0]
        dimension(file, name, len(field.features), np.array(field.features, dtype=object))
        units = file.create_dataset(
            f"{field.name}_units", data=np.array(field.units, dtype=object), dtype=h5py.string_dtype()
        )
        attach(file, units, (name,))
    for name, size in zip(field.dims, field.shape, strict=True):
        coordinate = field.coordinates.get(name)
        if coordinate is not None:
            if len(coordinate.values) != size:
                raise StoreError(f"coordinate '{name}' has {len(coordinate.values)} values, its dimension has {size}")
            dimension(file, name, size, np.asarray(coordinate.values), coordinate.units)
    same = len(set(field.units)) == 1
    return {
        "units": field.units[0] if same else "mixed",
        "long_name": "truth" if field.name == "x" else "observation",
    }


def field_to_json(field: Field) -> dict[str, Any]:
    """A field as plain values, without coordinate values, which are variables of the file."""
    return {**vars(field), "coordinates": {name: each.units for name, each in field.coordinates.items()}}


def field_from_json(entry: Mapping[str, Any], file: h5py.File) -> Field:
    """The inverse of `field_to_json`."""
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    plain["coordinates"] = {
        name: Coordinate(np.asarray(file[name][()]), units) for name, units in entry["coordinates"].items()
    }
    return Field(**plain)


def remedy_for(*files: Path) -> str:
    """Command that has damaged or missing files made again. The target of a link into a cache is removed too."""
    there = [str(name) for file in files if file.exists() for name in (file, *_linked(file))]
    return f"to have it made anew: rm {' '.join(there)}, and run again" if there else "run again to have it made"


def _linked(file: Path) -> list[Path]:
    return [file.resolve()] if file.is_symlink() else []


@contextmanager
def refuse_damage(path: Path, remedy: str) -> Iterator[None]:
    """Context that turns the various errors of HDF5 and h5py for a damaged file into a StoreError."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        found = " ".join(str(error).split())
        raise StoreError(f"{path}: the file is damaged ({type(error).__name__}: {found}); {remedy}") from None


def open_any(path: Path | str, remedy: str | None = None) -> h5py.File:
    """Open an HDF5 file for reading.

    Args:
        path: the file.
        remedy: instruction to have it made again, where removing it is not enough.

    Raises:
        StoreError: there is no such file, or it is truncated or not HDF5.
    """
    path = Path(path)
    remedy = remedy or remedy_for(path)
    if not path.exists():
        raise StoreError(f"{path}: there is no such file; {remedy}")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise StoreError(
                f"{path}: too many files are open at once; raise the limit (ulimit -n), or use fewer shards"
            ) from None
        raise StoreError(f"{path}: not readable as HDF5, truncated or damaged ({error}); {remedy}") from None


def open_checked(path: Path | str, kinds: tuple[str, ...], index: Path | None = None) -> h5py.File:
    """Open an HDF5 file of pullback for reading.

    Args:
        path: the file.
        kinds: accepted file kinds.
        index: the index that lists it, which must be made again together with it.

    Raises:
        StoreError: there is no such file, it is truncated or not HDF5, or it is not one of these kinds.
    """
    path = Path(path)
    remedy = remedy_for(path, *filter(None, [index]))
    file = open_any(path, remedy)
    with refuse_damage(path, remedy):
        kind = file.attrs.get("kind")
        version = file.attrs.get("contract_version")
        ours = kind in kinds and version == CONTRACT_VERSION and "content_digest" in file.attrs
    if not ours:
        file.close()
        raise StoreError(
            f"{path}: found a file of kind {kind!r}, contract version {version}; "
            f"wanted {' or '.join(kinds)}, version {CONTRACT_VERSION}; {remedy}"
        )
    return file


def spec_digest(spec: str) -> str:
    """Digest of the job's parameters."""
    return hashlib.sha256(spec.encode()).hexdigest()


def stamp(file: h5py.File, kind: str, spec: str) -> None:
    """Say what a file is and what was asked, in its attributes."""
    file.attrs.update(kind=kind, contract_version=CONTRACT_VERSION, spec=spec, spec_digest=spec_digest(spec))


def refuse_nan(name: str, array: np.ndarray, path: Path) -> None:
    """Raise StoreError for NaN or infinity in values without a success flag."""
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        raise StoreError(
            f"{path}: {name} has {len(bad)} values that are not finite, the first in event {bad[0][0]} at index "
            f"{tuple(int(i) for i in bad[0][1:])}; find out why its source gives them (nothing was written)"
        )
