"""Columns of a Parquet file, by pyarrow."""

from pathlib import Path
from typing import Any

import numpy as np

from pullback.core.optional import require
from pullback.readers.base import ReadError, short
from pullback.readers.columns import Column
from pullback.readers.table import Table


class ParquetTable(Table):
    """Columns of numbers, or of lists of numbers. One row group of a column is held at a time.

    Args:
        path: the file.

    Raises:
        ReadError: damaged, no Parquet file, or without entries.
        pullback.core.optional.MissingExtraError: pyarrow is not installed.
    """

    format = "Parquet"

    def __init__(self, path: Path):
        super().__init__(path)
        parquet = require("pyarrow.parquet", "hep")
        try:
            self._file = parquet.ParquetFile(self.path, page_checksum_verification=True)
            self._schema = self._file.schema_arrow
            groups = range(self._file.metadata.num_row_groups)
            rows = [self._file.metadata.row_group(number).num_rows for number in groups]
        except Exception as error:  # pyarrow raises errors of many kinds
            raise ReadError(f"{self.path}: cannot be read as Parquet ({short(error)}); fetch it again") from None
        self._edges = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self.entries = int(self._edges[-1])
        self._held: dict[str, tuple[int, Any]] = {}
        if not self.entries:
            self.close()
            raise ReadError(f"{self.path}: has no entries, wanted at least one: leave the file out of the study")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self._schema.names)

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self._schema.names

    def typename(self, name: str) -> str:
        """The Arrow type of a column."""
        return str(self._schema.field(name).type)

    def unit(self, name: str) -> str:
        """The metadata ``unit`` or ``units`` of a column."""
        found = self._schema.field(name).metadata or {}
        return (found.get(b"units") or found.get(b"unit") or b"").decode("utf-8", "replace")

    def column(self, name: str, start: int, stop: int) -> Column:
        """Some entries of a column."""
        first = int(np.searchsorted(self._edges, start, "right")) - 1
        found = []
        for group in range(first, len(self._edges) - 1):
            low, high = int(self._edges[group]), int(self._edges[group + 1])
            if low >= stop:
                break
            array = self._group(name, group)
            begin = max(start, low) - low
            found.append(self._column(name, array.slice(begin, min(stop, high) - low - begin)))
        if len(found) == 1:
            return found[0]
        parts = [(each.values, each.missing, each.counts, each.absent) for each in found]
        values, missing, counts, absent = zip(*parts, strict=True)
        lengths = None if counts[0] is None else np.concatenate(counts)
        fixed = all(each.fixed for each in found)
        return Column(np.concatenate(values), np.concatenate(missing), lengths, fixed, np.concatenate(absent))

    def _group(self, name: str, group: int) -> Any:
        """A column of a row group, kept until another is asked for."""
        held = self._held.get(name)
        if held is None or held[0] != group:
            try:
                table = self._file.read_row_group(group, columns=[name])
                self._held[name] = held = (group, table.column(name).combine_chunks())
            except Exception as error:
                raise ReadError(
                    f"{self.path}: column '{name}' cannot be read ({short(error)}); it is damaged, fetch or make it "
                    "again"
                ) from None
        return held[1]

    def _column(self, name: str, array: Any) -> Column:
        types = require("pyarrow.types", "hep")
        kind = array.type
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        of = kind.value_type if is_list else kind
        if not (types.is_integer(of) or types.is_floating(of) or types.is_boolean(of)):
            raise ReadError(f"{self.path}: column '{name}' holds {kind}, wanted numbers or lists of them; name another")
        if not is_list:
            return Column(*_numbers(array, of))
        absent = array.is_null().to_numpy(zero_copy_only=False)
        # Lists that are missing have no members in `flatten`.
        lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        values, missing = _numbers(array.flatten(), of)
        return Column(values, missing, np.where(absent, 0, lengths), bool(types.is_fixed_size_list(kind)), absent)


def _numbers(array: Any, kind: Any) -> tuple[np.ndarray, np.ndarray]:
    """Values, 0 where there is none, and where that is."""
    missing = array.is_null().to_numpy(zero_copy_only=False)
    if missing.any():
        array = array.fill_null(False if str(kind) == "bool" else 0)
    return array.to_numpy(zero_copy_only=False), missing
