"""Base classes of shards, parts of posteriors, and the index files over them."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import h5py
import numpy as np

from pullback.core.atomic import StoreError
from pullback.ensembles import hdf5
from pullback.ensembles.digests import array_digest, combine_digests
from pullback.ensembles.stale_files import job_digest_of, refuse_stale_files

READ_ROWS = 65_536


class PieceWriter:
    """A file under a temporary name; a clean exit finishes and renames it, an error leaves nothing."""

    kind: str

    def __init__(self, path: Path | str, spec: str, attributes: Mapping[str, Any]):
        self.path = Path(path)
        self._creating = hdf5.create(self.path, libver=("earliest", "v110"))
        self._file = self._creating.__enter__()
        self._file.attrs.update(attributes)
        hdf5.stamp(self._file, self.kind, spec)
        self._events = hdf5.Appender(self._file)

    @property
    def n(self) -> int:
        """Events written so far."""
        return self._events.n

    def note(self, name: str, value: int | float | str) -> None:
        """Keep one more attribute of the file; it is not in the content digest."""
        self._file.attrs[name] = value

    def __enter__(self) -> Self:
        return self

    def _finish(self) -> str:
        """Write what stands beside the events; the content digest."""
        return self._events.finish()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._file.attrs["content_digest"] = self._finish()
        except BaseException as finishing:
            self._creating.__exit__(type(finishing), finishing, finishing.__traceback__)
            raise
        self._creating.__exit__(kind, error, trace)


class Piece(NamedTuple):
    """One shard or part: its file and its rows in the index."""

    path: Path
    start: int
    stop: int


class PieceReader:
    """Reads rows of a piece or of an index over pieces; verifies the files behind an index."""

    kinds: tuple[str, ...]

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._file = hdf5.open_checked(self.path, self.kinds)
        self._open: dict[Path, h5py.File] = {}
        self._start = 0
        self._rows: np.ndarray | None = None
        with hdf5.refuse_damage(self.path, hdf5.remedy_for(self.path)):
            attributes = dict(self._file.attrs)
            self.digest: str = attributes["content_digest"]
            self.spec: dict[str, Any] = json.loads(attributes["spec"])
            self.attributes = {key: value for key, value in attributes.items() if not key.startswith("_")}
            is_index = "shard_path" in self._file
            self.n = int(self._file.attrs["events"]) if is_index else self._file["event_id"].shape[0]
            tables = {name: data for name, data in self._file.items() if isinstance(data, h5py.Dataset)}
            self.columns = [name for name, data in tables.items() if data.shape and _is_event_variable(data)]
            self._pieces = self._verify() if is_index else [Piece(self.path, 0, self.n)]
            self._describe()

    def _describe(self) -> None:
        """Read the attributes of this kind of file."""

    def made_by(self) -> dict[str, Any]:
        """The job that made the first piece: of the only one, or of the first that an index lists."""
        path = self._pieces[0].path
        with hdf5.refuse_damage(path, hdf5.remedy_for(path)):
            made: dict[str, Any] = json.loads(self._handle(path).attrs["spec"])
        return made

    def piece_attributes(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """First row, row after the last, and attributes of each piece that has rows here, in order."""
        for path, low, high in self._pieces:
            start, stop = low - self._start, high - self._start
            if self._rows is not None:
                start, stop = (int(row) for row in np.searchsorted(self._rows, [start, stop]))
            start, stop = max(start, 0), min(stop, self.n)
            if start < stop:
                with hdf5.refuse_damage(path, hdf5.remedy_for(path)):
                    yield start, stop, dict(self._handle(path).attrs)

    def _verify(self) -> list[Piece]:
        names = [name.decode() for name in self._file["shard_path"][()]]
        counts = self._file["shard_events"][()]
        digests = [digest.decode() for digest in self._file["shard_digest"][()]]
        sizes = self._file["shard_bytes"][()]
        pieces, row = [], 0
        for name, count, digest, size in zip(names, counts, digests, sizes, strict=True):
            path = self.path.parent / name
            remedy = hdf5.remedy_for(path, self.path)
            found = path.stat().st_size if path.exists() else None
            # The size first: a truncated file can keep the HDF5 library busy for ever.
            if found is not None and found != size:
                raise StoreError(f"{path}: found {found} bytes, wanted {size}: truncated or changed; {remedy}")
            with hdf5.open_checked(path, self.kinds, self.path) as piece:
                if piece.attrs["content_digest"] != digest:
                    raise StoreError(f"{path}: its content changed since {self.path.name} was made; {remedy}")
            pieces.append(Piece(path, row, row + int(count)))
            row += int(count)
        return pieces

    def select(self, rows: np.ndarray) -> Self:
        """A view of some rows (row,), in increasing order; it shares the open files."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._rows = rows if self._rows is None else self._rows[rows]
        view.n = len(rows)
        return view

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows ``start`` to ``stop`` of one variable."""
        stop = self.n if stop is None else min(stop, self.n)
        if self._rows is None:
            return self._read(name, self._start + start, self._start + stop)
        rows = self._rows[start:stop]
        if not len(rows):
            return self._read(name, 0, 0)
        first = int(rows[0])
        return self._read(name, self._start + first, self._start + int(rows[-1]) + 1)[rows - first]

    def _read(self, name: str, first: int, last: int) -> np.ndarray:
        """Rows ``first`` to ``last`` of one variable of the file."""
        if name not in self.columns:
            raise StoreError(f"{self.path}: there is no variable '{name}'; it has {', '.join(self.columns)}")
        found = []
        for path, low, high in self._pieces:
            if max(low, first) < min(high, last):
                with hdf5.refuse_damage(path, hdf5.remedy_for(*dict.fromkeys((path, self.path)))):
                    found.append(self._handle(path)[name][max(low, first) - low : min(high, last) - low])
        if found:
            return found[0] if len(found) == 1 else np.concatenate(found)
        data = self._handle(self._pieces[0].path)[name]
        return np.empty((0, *data.shape[1:]), data.dtype)

    def _handle(self, path: Path) -> h5py.File:
        if path == self.path:
            return self._file
        if path not in self._open:
            self._open[path] = h5py.File(path, "r")
        return self._open[path]

    def close(self) -> None:
        """Close every file."""
        for file in (self._file, *self._open.values()):
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


Reader = TypeVar("Reader", bound=PieceReader)


def _is_event_variable(data: h5py.Dataset) -> bool:
    return data.name != "/event" and bool(data.dims[0].keys()) and data.dims[0][0].name == "/event"


@contextmanager
def piece_index(
    job: str, inputs: str, reader: type[Reader], paths: Sequence[Path | str], out: Path | str
) -> Iterator[tuple[h5py.File, list[Reader], dict[str, np.ndarray]]]:
    """An index file over pieces, with virtual variables, that is being written.

    The pieces are read through once: their content gets one digest that does not depend on where it was cut.

    Args:
        job: JSON of the names that become attributes of the file.
        inputs: name of the pieces in the job's ``inputs``.
        reader: of a piece.
        paths: pieces, in order.
        out: the index file.

    Yields:
        The file, the open pieces, and a dict for arrays that the content digest is to hold beside the variables.

    Raises:
        StoreError: a piece is missing, damaged, not like the others, or of another config; no index is written.
    """
    names = json.loads(job)
    refuse_stale_files(names, job_digest_of, **{inputs: [Path(path) for path in paths]})
    names.pop("inputs", None)
    readers = [reader(path) for path in paths]
    first, out = readers[0], Path(out)
    for other in readers[1:]:
        if other.columns != first.columns or other.attributes["fields"] != first.attributes["fields"]:
            raise StoreError(f"{other.path}: its variables differ from those of {first.path}; rerun both")
    digests = {name: _digest(name, readers) for name in first.columns}
    total = sum(each.n for each in readers)
    with hdf5.create(out, libver="v110") as file, ExitStack() as stack:
        for each in readers:
            stack.callback(each.close)
        file.attrs.update(names)
        hdf5.stamp(file, first.kinds[-1], job)
        file.attrs.update(events=total, fields=first.attributes["fields"])
        relative = [os.path.relpath(each.path, out.parent) for each in readers]
        for name in first.columns:
            _virtual(file, name, total, readers, relative)
        text = h5py.string_dtype()
        file.create_dataset("shard_path", data=np.array(relative, dtype=object), dtype=text)
        file.create_dataset("shard_digest", data=np.array([each.digest for each in readers], dtype=object), dtype=text)
        file.create_dataset("shard_events", data=np.array([each.n for each in readers], np.int64))
        file.create_dataset("shard_bytes", data=np.array([each.path.stat().st_size for each in readers], np.int64))
        for name in ("shard_path", "shard_digest", "shard_events", "shard_bytes"):
            hdf5.attach(file, file[name], ("shard",))
        shapes = {name: (file[name].dtype.str, file[name].shape) for name in first.columns}
        extra: dict[str, np.ndarray] = {}
        yield file, readers, extra
        digests |= {name: array_digest(array) for name, array in extra.items()}
        file.attrs["content_digest"] = combine_digests(digests, shapes)


def _digest(name: str, readers: Sequence[PieceReader]) -> str:
    running = hashlib.sha256()
    for reader in readers:
        event_bytes = reader._file[name].dtype.itemsize * int(np.prod(reader._file[name].shape[1:], dtype=int))
        rows = max(1, min(READ_ROWS, 64 * 1024**2 // max(event_bytes, 1)))
        for start in range(0, reader.n, rows):
            block = PieceReader.read(reader, name, start, start + rows)
            running.update(np.ascontiguousarray(block).tobytes())
    return running.hexdigest()


def _virtual(file: h5py.File, name: str, total: int, readers: Sequence[PieceReader], relative: list[str]) -> None:
    first = readers[0]._file[name]
    layout = h5py.VirtualLayout((total, *first.shape[1:]), first.dtype)
    row = 0
    for reader, path in zip(readers, relative, strict=True):
        if reader.n:
            layout[row : row + reader.n] = h5py.VirtualSource(path, name, (reader.n, *first.shape[1:]), first.dtype)
        row += reader.n
    data = file.create_virtual_dataset(name, layout)
    scale_names = {"DIMENSION_LIST", "CLASS", "NAME", "_Netcdf4Dimid"}
    data.attrs.update({key: value for key, value in first.attrs.items() if key not in scale_names})
    if first.ndim == 1:
        hdf5.attach(file, data, ("event",))
