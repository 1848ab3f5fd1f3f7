"""One TTree or RNTuple of a ROOT file, read column by column and checked.

Only plain columns are read: string expressions on an RNTuple silently give empty records (uproot 5.7).
"""

import difflib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pullback.core.optional import require
from pullback.readers.base import ReadError, short

CHUNK_ENTRIES = 50_000
ALIKE = 20
"""Lists of so many entries that all have one length, above 1, are arrays of a fixed length."""
_ELEMENT = re.compile(r"(.+)\[(\d+)\]")
"""One of a vector: ``LHEPdfWeight[3]``."""
_COLUMN = re.compile(r"column-(\d+)")
"""The columns that a field of an RNTuple is read from, in the form that uproot gives it."""
_UNIT = re.compile(r"[\[(]\s*([^\W\d_][^\[\]()]*?)\s*[\])]\s*$")
"""A unit at the end of a title: ``transverse momentum [MeV]``."""


@dataclass(frozen=True)
class Column:
    """Some entries of a column, flattened.

    Attributes:
        values: numbers (value,); 0 where there is none.
        missing: where an optional column has no value (value,).
        counts: values of each entry (entry,); None where each has one.
        fixed: whether each entry has an array of the same length, by its type or as it is.
        absent: entries whose list is missing, with 0 values (entry,); empty where each has one value.
    """

    values: np.ndarray
    missing: np.ndarray
    counts: np.ndarray | None = None
    fixed: bool = False
    absent: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def without(self, entries: np.ndarray) -> "Column":
        """No values in some entries (entry,) of a column of lists."""
        assert self.counts is not None
        kept = ~np.repeat(entries, self.counts)
        return replace(
            self, values=self.values[kept], missing=self.missing[kept], counts=np.where(entries, 0, self.counts)
        )


class RootTable:
    """One TTree or RNTuple, read column by column with checks. A context manager.

    Args:
        path: the ROOT file.
        tree: of the TTree or RNTuple in it: ``Events``, ``/folder/Events``, or ``Events;1`` of several with the name.

    Raises:
        ReadError: no such file, not a ROOT file, truncated, no such tree, no entries.
    """

    def __init__(self, path: Path, tree: str):
        self.path, self.name = Path(path), tree
        self._compared: set[str] = set()
        self._file, tables = open_root(self.path)
        key = _find(tables, tree)
        if key is None:
            self._file.close()
            has = ", ".join(f"{_said(each, tables)} ({kind})" for each, kind in tables.items()) or "none at all"
            raise ReadError(f"{self.path}: there is no TTree or RNTuple '{tree}'; it has {has}. Set `tree`")
        self.format = tables[key]
        try:
            self._table = self._file[key]
            self.entries = int(self._table.num_entries)
        except Exception as error:
            self._file.close()
            raise ReadError(f"{self.path}: '{tree}' cannot be opened ({short(error)}); is it damaged?") from None
        if self.entries <= 0:
            full = [_said(other, tables) for other in tables if self._entries_of(other) > 0]
            self._file.close()
            remedy = f"set `tree` to another ({', '.join(full)}), or " if full else ""
            raise ReadError(
                f"{self.path}: '{tree}' has no entries, wanted at least one; {remedy}leave the file out of the study"
            )

    def __enter__(self) -> "RootTable":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def _entries_of(self, key: str) -> int:
        """Entries of a table of the file; 0 where it cannot be read."""
        try:
            return int(self._file[key].num_entries)
        except Exception:  # uproot raises errors of many kinds
            return 0

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        try:
            # All keys of an RNTuple with 1500 fields take uproot 15 s; the top level takes less than one.
            return list(dict.fromkeys(self._table.keys(recursive=self.format != "RNTuple")))
        except Exception as error:
            raise ReadError(f"{self.path}: the columns of '{self.name}' cannot be read ({short(error)})") from None

    def require(self, names: list[str]) -> None:
        """Raise a ReadError unless all these columns are there."""
        for name in names:
            if not self.has(self._element(name)[0]):
                there = self.names
                near = difflib.get_close_matches(name, there, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(there[:12])} ..."
                raise ReadError(
                    f"{self.path}: there is no branch '{name}' in '{self.name}'; {hint} Correct the branch map"
                )

    def unit(self, name: str) -> str:
        """What stands in brackets at the end of a column's title; empty where nothing does."""
        branch = self._branch(name)
        found = _UNIT.search(str(getattr(branch, "title", "") or getattr(branch, "description", "") or ""))
        return found[1] if found else ""

    def typename(self, name: str) -> str:
        """The C++ type of a column."""
        return str(self._branch(name).typename)

    def column(self, name: str, start: int, stop: int) -> Column:
        """Some entries of a column of numbers, or of lists of numbers."""
        ak = require("awkward", "hep")
        try:
            self._compare_checksums(name)
            with np.errstate(all="ignore"):
                values = self._values(name, start, stop)
            length = len(values)
        except ReadError:
            raise
        except Exception as error:
            raise ReadError(
                f"{self.path}: branch '{name}' cannot be read ({short(error)}); it is damaged, fetch or make it again"
            ) from None
        if length != stop - start:
            raise ReadError(
                f"{self.path}: branch '{name}' gives {length} of the entries {start} to {stop}; is it damaged?"
            )
        fixed, counts, absent = False, None, np.zeros(0, bool)
        try:
            if values.ndim == 2:
                fixed = bool(values.layout.purelist_isregular)
                absent = ak.to_numpy(ak.is_none(values))
                values = ak.fill_none(values, [], axis=0)
                counts = ak.to_numpy(ak.num(values)).astype(np.int64)
                fixed |= length >= ALIKE and bool(counts.min() == counts.max() > 1)
                values = ak.flatten(values)
            missing = ak.to_numpy(ak.is_none(values))
            flat = np.asarray(ak.to_numpy(ak.fill_none(values, 0) if missing.any() else values))
            usable = values.ndim == 1 and flat.dtype.kind in "iufb" and flat.ndim == 1
        except (TypeError, ValueError):
            usable = False
        if not usable:
            raise ReadError(f"{self.path}: branch '{name}' holds {values.type}, wanted numbers; name another")
        return Column(np.ma.getdata(flat), missing, counts, fixed, absent)

    def _values(self, name: str, start: int, stop: int) -> Any:
        """Some entries of a column as uproot gives them."""
        if self._has_dot(name):
            found = self._table.arrays(filter_name=lambda each: each == name, entry_start=start, entry_stop=stop)
            return found[name]
        return self._branch(name).array(entry_start=start, entry_stop=stop, library="ak")

    def _has_dot(self, name: str) -> bool:
        """Whether a field has a dot in its name: uproot (5.7) alone takes what is before it for a record."""
        return self.format == "RNTuple" and "." in name and name in self.names

    def numbers(self, name: str, start: int, stop: int) -> Column:
        """A column with one number for each entry; ``name[i]`` is the i-th of a vector, from 0 on."""
        stem, index = self._element(name)
        column = self.column(stem, start, stop)
        if index is None:
            if column.counts is not None:
                raise ReadError(
                    f"{self.path}: branch '{name}' holds {self.typename(stem)}, wanted one number per entry; name "
                    f"another, or one of the list: {name}[0]"
                )
            return column
        if column.counts is None:
            raise ReadError(f"{self.path}: branch '{stem}' holds one number per entry; leave [{index}] out")
        if (short_lists := column.counts <= index).any():
            entry = int(np.argmax(short_lists))
            raise ReadError(
                f"{self.path}: branch '{stem}' has {column.counts[entry]} values in entry {start + entry}, wanted one "
                f"of number {index}; numbers start at 0"
            )
        place = np.cumsum(column.counts) - column.counts + index
        return Column(column.values[place], column.missing[place])

    def lists(self, names: list[str], start: int, stop: int) -> tuple[list[Column], np.ndarray]:
        """Columns with a list for each entry, and the common lengths of the lists (entry,).

        Where the list of one is missing, none has values.
        """
        columns = [self.column(name, start, stop) for name in names]
        for name, column in zip(names, columns, strict=True):
            if column.counts is None or column.values.dtype.kind == "b":
                raise ReadError(
                    f"{self.path}: branch '{name}' holds {self.typename(name)}, wanted a list per entry, of numbers; "
                    "name another"
                )
        absent = np.any([column.absent for column in columns], axis=0)
        columns = [column.without(absent) for column in columns]
        lengths = columns[0].counts
        assert lengths is not None
        for name, column in zip(names, columns, strict=True):
            assert column.counts is not None
            if (different := np.flatnonzero(column.counts != lengths)).size:
                row = int(different[0])
                raise ReadError(
                    f"{self.path}: in entry {start + row} branch '{names[0]}' has {lengths[row]} values and '{name}' "
                    f"{column.counts[row]}; lists of one kind of jet must have the same length, correct the branch map"
                )
        return columns, lengths

    def chunks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """First and last entry of each chunk."""
        for first in range(start, stop, CHUNK_ENTRIES):
            yield first, min(first + CHUNK_ENTRIES, stop)

    def _compare_checksums(self, name: str) -> None:
        """Compare the pages of an RNTuple's column with their checksums, once; uproot (5.7) does not."""
        if self.format != "RNTuple" or name in self._compared:
            return
        self._compared.add(name)
        digest = require("xxhash", "hep").xxh3_64_digest
        one = {"filter_name": lambda each: each == name}
        form = self._table.to_akform(**one) if self._has_dot(name) else self._branch(name).to_akform()
        columns = {int(number) for number in _COLUMN.findall(str(form[0].to_json()))}
        lists = [
            cluster[column] for cluster in self._table.page_link_list for column in columns if column < len(cluster)
        ]
        with self.path.open("rb") as file:
            for page in (page for each in lists if not each.suppressed for page in each.pages if page.has_checksum):
                file.seek(page.locator.offset)
                data = file.read(page.locator.num_bytes + 8)
                if digest(data[:-8]) != data[:-9:-1]:
                    raise ReadError(f"{self.path}: branch '{name}' does not have its checksum; fetch the file again")

    def _element(self, name: str) -> tuple[str, int | None]:
        """A column, and which of its vector is meant."""
        found = _ELEMENT.fullmatch(name)
        return (found[1], int(found[2])) if found and not self.has(name) else (name, None)

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        try:
            return name in self._table
        except Exception as error:
            raise ReadError(f"{self.path}: the columns of '{self.name}' cannot be read ({short(error)})") from None

    def _branch(self, name: str) -> Any:
        try:
            return self._table[name]
        except Exception as error:
            raise ReadError(f"{self.path}: branch '{name}' cannot be opened ({short(error)})") from None


def open_root(path: Path) -> tuple[Any, dict[str, str]]:
    """An open ROOT file, and its tables: ``folder/name;cycle`` -> TTree, TNtuple or RNTuple.

    Raises:
        ReadError: no such file, not a ROOT file, or damaged.
    """
    _check_whole(path)
    uproot = require("uproot", "hep")
    try:
        file = uproot.open(path)
        kinds = file.classnames(recursive=True)
    except Exception as error:
        raise ReadError(f"{path}: cannot be opened as a ROOT file ({short(error)}); is it damaged?") from None
    named = {key: str(kind).removeprefix("ROOT::") for key, kind in kinds.items()}
    return file, {key: kind for key, kind in named.items() if kind in ("TTree", "TNtuple", "RNTuple")}


def _said(key: str, tables: dict[str, str]) -> str:
    """The name of a table, with its cycle where several have the name."""
    name = key.rpartition(";")[0]
    return key if sum(each.rpartition(";")[0] == name for each in tables) > 1 else name


def _find(tables: dict[str, str], tree: str) -> str | None:
    """The key of a table: the last cycle of its name that is one, as a directory or histogram may have the same."""
    wanted = re.sub(r";\d+/", "/", tree.strip("/"))  # of folders the last one with a name is read
    if wanted in tables:
        return wanted
    cycles = [key for key in tables if key.rpartition(";")[0] == wanted]
    return max(cycles, key=lambda key: int(key.rpartition(";")[2]), default=None)


def _check_whole(path: Path) -> None:
    """The first bytes of a ROOT file say how long it is."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(20)
    except OSError as error:
        raise ReadError(f"{path}: cannot be read ({error.strerror}); give the path of a ROOT file") from None
    if head[:4] != b"root":
        raise ReadError(f"{path}: not a ROOT file (it starts with {head[:4]!r}, wanted b'root'); give a ROOT file")
    if len(head) < 20:
        raise ReadError(f"{path}: truncated, {size} bytes; fetch or make it again")
    if not 20 <= struct.unpack(">i", head[8:12])[0] < 1000:
        raise ReadError(f"{path}: not a ROOT file, though it starts with b'root'; give a ROOT file")
    version = struct.unpack(">i", head[4:8])[0]
    end = struct.unpack(">q" if version >= 1_000_000 else ">i", head[12 : 20 if version >= 1_000_000 else 16])[0]
    if size < end:
        raise ReadError(f"{path}: truncated, {size} bytes of {end}; fetch or make it again")
