"""Unfolded events in files of other programs: ROOT (TTree and RNTuple), Parquet and CSV; and those files as rows.

A file is written in blocks under a temporary name. The metadata are inside, as JSON: of ROOT the TObjString
``metadata`` beside the tree ``unfolded``, of Parquet the key ``pullback`` of the schema.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from pullback.core.atomic import atomic
from pullback.core.optional import require
from pullback.ensembles.unfolded import Bins
from pullback.report.export import ExportError, refuse_existing
from pullback.report.unfolded.metadata import FORMAT, FORMAT_VERSION
from pullback.report.unfolded.rows import Rows

TREE, METADATA, KEY = "unfolded", "metadata", b"pullback"
BLOCK_BYTES = 32 * 1024**2
"""Bytes of rows that are written at once: a basket of each branch, a cluster, a row group."""


def blocks(rows: Rows) -> Iterator[dict[str, np.ndarray]]:
    """All rows, some at a time."""
    size = max(BLOCK_BYTES // sum(dtype.itemsize for dtype in rows.columns.values()), 1)
    for start in range(0, rows.n, size):
        yield rows.read(rows.columns, start, min(start + size, rows.n))


@contextmanager
def _new(rows: Rows, target: Path) -> Iterator[Path]:
    refuse_existing(target)
    if not rows.n:
        raise ExportError(f"{rows.path}: has bins and no events: export them to .csv, or to .tar.gz for HEPData")
    with atomic(target) as temporary:
        yield temporary


def write_ttree(rows: Rows, target: Path) -> None:
    """Write a ROOT file with a TTree.

    Raises:
        ExportError: the target is there, or there are no rows.
        pullback.core.optional.MissingExtraError: uproot is not installed.
        pullback.core.atomic.StoreError: it cannot be written.
    """
    uproot = require("uproot", "hep")
    with _new(rows, target) as temporary, uproot.recreate(temporary, compression=uproot.ZSTD(1)) as file:
        tree = file.mktree(TREE, {name: (dtype.base, dtype.shape) for name, dtype in rows.columns.items()})
        for block in blocks(rows):
            tree.extend(block)
        file[METADATA] = json.dumps(rows.metadata)


def write_rntuple(rows: Rows, target: Path) -> None:
    """Write a ROOT file with an RNTuple; raises as `write_ttree`."""
    uproot = require("uproot", "hep")
    with _new(rows, target) as temporary, uproot.recreate(temporary, compression=uproot.ZSTD(1)) as file:
        table = None
        for block in blocks(rows):
            # uproot takes the types from data.
            if table is None:
                table = file.mkrntuple(TREE, block)
            else:
                table.extend(block)
        file[METADATA] = json.dumps(rows.metadata)


def write_parquet(rows: Rows, target: Path) -> None:
    """Write a Parquet file; a column of several numbers is a list of fixed size. Raises as `write_ttree`."""
    pa, pq = require("pyarrow", "hep"), require("pyarrow.parquet", "hep")

    def kind(dtype: np.dtype) -> Any:
        base = pa.from_numpy_dtype(dtype.base)
        return pa.list_(base, dtype.shape[0]) if dtype.shape else base

    schema = pa.schema([(name, kind(dtype)) for name, dtype in rows.columns.items()])
    schema = schema.with_metadata({KEY: json.dumps(rows.metadata)})
    with _new(rows, target) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for block in blocks(rows):
            columns = [
                pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
                if values.ndim > 1
                else pa.array(values)
                for values in block.values()
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def write_csv(rows: Rows, target: Path) -> None:
    """Write a CSV file: outside files by name, a column of several numbers as ``name_0`` and so on.

    The metadata are beside it, in ``target`` with ``.json`` behind. Raises as `write_ttree`.
    """
    beside = target.with_name(f"{target.name}.json")
    refuse_existing(beside)
    with _new(rows, target) as temporary, atomic(beside) as also:
        write_table(temporary, blocks(rows), rows.metadata["inputs"]["ensemble"].get("source_files", []))
        also.write_text(json.dumps(rows.metadata, indent=1) + "\n", encoding="utf-8")


def write_table(path: Path, found: Iterable[Mapping[str, np.ndarray]], source_files: list[str]) -> None:
    """Write blocks of columns as CSV, with all digits of each number."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        header: list[str] = []
        for block in found:
            flat: dict[str, list[Any]] = {}
            for name, values in block.items():
                if name == "source_file":
                    flat[name] = [source_files[number] if number >= 0 else "" for number in values.tolist()]
                elif values.ndim > 1:
                    flat |= {f"{name}_{j}": _digits(values[:, j]) for j in range(values.shape[1])}
                else:
                    flat[name] = _digits(values)
            if not header:
                header = list(flat)
                writer.writerow(header)
            writer.writerows(zip(*flat.values(), strict=True))


def _digits(values: np.ndarray) -> list[Any]:
    """Numbers whose text reads back as the same ones: of float32 the shortest such text."""
    return [str(value) for value in values] if values.dtype == np.float32 else values.tolist()


WRITERS: dict[str, Callable[[Rows, Path], None]] = {
    ".root": write_ttree,
    ".parquet": write_parquet,
    ".csv": write_csv,
}
"""By the ending of the file."""


class RootRows:
    """Rows of a ROOT file, TTree or RNTuple.

    Raises:
        ExportError: it is not a file of this module.
    """

    bins: Mapping[str, Bins] = MappingProxyType({})
    joint: np.ndarray | None = None

    def __init__(self, path: Path):
        uproot = require("uproot", "hep")
        self.path = path
        try:
            self._file = uproot.open(path, object_cache=None, array_cache=None)
            metadata, self._table = str(self._file[METADATA]), self._file[TREE]
        except (OSError, KeyError, ValueError) as error:
            raise foreign(path, error) from None
        self.metadata = checked(path, metadata)
        self.n = int(self._table.num_entries)
        # RNTuples list their fields in an order of their own.
        first = self._table.arrays(entry_stop=1, library="np")
        self.columns: Mapping[str, np.dtype] = {
            name: np.dtype((values.dtype, values.shape[1:])) for name, values in first.items()
        }

    def read(self, names: Iterable[str], start: int, stop: int) -> dict[str, np.ndarray]:
        """Rows of some columns."""
        found: dict[str, np.ndarray] = self._table.arrays(list(names), entry_start=start, entry_stop=stop, library="np")
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetRows:
    """Rows of a Parquet file.

    Raises:
        ExportError: it is not a file of this module.
    """

    bins: Mapping[str, Bins] = MappingProxyType({})
    joint: np.ndarray | None = None

    def __init__(self, path: Path):
        pa, pq = require("pyarrow", "hep"), require("pyarrow.parquet", "hep")
        self.path, self._pa = path, pa
        try:
            self._file = pq.ParquetFile(path)
            metadata = (self._file.schema_arrow.metadata or {})[KEY].decode()
        except (OSError, KeyError, pa.ArrowException) as error:
            raise foreign(path, error) from None
        self.metadata = checked(path, metadata)
        self.n = self._file.metadata.num_rows
        self.columns: Mapping[str, np.dtype] = {each.name: self._dtype(each.type) for each in self._file.schema_arrow}
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._ends = np.cumsum(sizes)

    def _dtype(self, kind: Any) -> np.dtype:
        if self._pa.types.is_fixed_size_list(kind):
            return np.dtype((kind.value_type.to_pandas_dtype(), (kind.list_size,)))
        return np.dtype(kind.to_pandas_dtype())

    def read(self, names: Iterable[str], start: int, stop: int) -> dict[str, np.ndarray]:
        """Rows of some columns."""
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        table = self._file.read_row_groups(range(first, last + 1), columns=list(names))
        before = int(self._ends[first - 1]) if first else 0
        table = table.slice(start - before, stop - start).combine_chunks()
        found = {}
        for name in table.column_names:
            values, shape = table.column(name).combine_chunks(), self.columns[name].shape
            flat = values.flatten() if shape else values
            found[name] = flat.to_numpy(zero_copy_only=False).reshape(-1, *shape)
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def foreign(path: Path, error: Exception) -> ExportError:
    """The error for a file that `pullback export` did not write."""
    said = " ".join(str(error).split())[:160]
    return ExportError(f"{path}: not a file of unfolded events that `pullback export` wrote ({said})")


def checked(path: Path, text: str) -> dict[str, Any]:
    """The metadata of a file.

    Raises:
        ExportError: they are of another program or version.
    """
    try:
        found: dict[str, Any] = json.loads(text)
        said = found["format"], found["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise foreign(path, error) from None
    if said != (FORMAT, FORMAT_VERSION):
        raise ExportError(f"{path}: {said[0]}, version {said[1]}; wanted {FORMAT}, version {FORMAT_VERSION}")
    return found
