"""One TTree or RNTuple of a ROOT file, read column by column and checked.

Only plain columns are read: string expressions on an RNTuple silently give empty records (uproot 5.7).
"""

import re
import struct
from collections.abc import Iterable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from pullback.core.optional import require
from pullback.readers.base import ReadError, short
from pullback.readers.columns import Column
from pullback.readers.table import Table

ALIKE = 20
"""Lists of so many entries that all have one length, above 1, are arrays of a fixed length."""
_COLUMN = re.compile(r"column-(\d+)")
"""The columns that a field of an RNTuple is read from, in the form that uproot gives it."""
_UNIT = re.compile(r"[\[(]\s*([^\W\d_][^\[\]()]*?)\s*[\])]\s*$")
"""A unit at the end of a title: ``transverse momentum [MeV]``."""


class RootTable(Table):
    """One TTree or RNTuple, read column by column with checks.

    Args:
        path: the ROOT file.
        tree: of the TTree or RNTuple in it: ``Events``, ``/folder/Events``, or ``Events;1`` of several with the name.

    Raises:
        ReadError: no such file, not a ROOT file, truncated, no such tree, no entries.
    """

    what = "branch"

    def __init__(self, path: Path, tree: str):
        super().__init__(path)
        self.name = tree
        self._compared: set[str] = set()
        self._edges: dict[str, np.ndarray] = {}
        self._held: dict[str, tuple[int, int, Any]] = {}
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

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def where(self) -> str:
        """The tree, for messages."""
        return f" in '{self.name}'"

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
        if (quick := _plain_lists(values)) is not None:
            return quick
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

    def edges(self, name: str) -> np.ndarray:
        """Where the baskets of a column, or the clusters of an RNTuple, begin, and the number of entries."""
        key = name if self.format != "RNTuple" else ""
        if key not in self._edges:
            try:
                if self.format == "RNTuple":
                    found = [cluster.num_first_entry for cluster in self._table.cluster_summaries]
                else:
                    found = list(self._table[name].entry_offsets)
            except Exception:  # of a damaged file, which is said when it is read
                found = []
            inside = [int(edge) for edge in found if 0 < edge < self.entries]
            self._edges[key] = np.array([0, *sorted(set(inside)), self.entries])
        return self._edges[key]

    def parts(self, texts: Iterable[str], start: int, stop: int, entries: int) -> Iterator[tuple[int, int]]:
        """Parts that end where baskets or clusters do, as these are decompressed as a whole."""
        names = {name for text in texts for name in self.expression(text).columns}
        common = reduce(np.intersect1d, [self.edges(name) for name in sorted(names)], self.edges(min(names)))
        first = start
        while first < stop:
            inside = common[(common > first) & (common <= first + entries)]
            last = min(int(inside[-1]) if len(inside) else first + entries, stop)
            yield first, last
            first = last

    def _values(self, name: str, start: int, stop: int) -> Any:
        """Some entries of a column as uproot gives them.

        Of a basket or cluster that is larger, all entries are kept until those of another one are asked for.
        """
        edges = self.edges(name)
        low, high = int(edges[np.searchsorted(edges, start, "right") - 1]), int(edges[np.searchsorted(edges, stop)])
        place = int(np.searchsorted(edges, start, "right"))
        is_part = int(edges[place]) >= stop and (low, high) != (start, stop)
        if not is_part:
            self._held.pop(name, None)
            return self._array(name, start, stop)
        held = self._held.get(name)
        if held is None or held[:2] != (low, high):
            self._held[name] = held = (low, high, self._array(name, low, high))
        return held[2][start - low : stop - low]

    def _array(self, name: str, start: int, stop: int) -> Any:
        if self._has_dot(name):
            found = self._table.arrays(filter_name=lambda each: each == name, entry_start=start, entry_stop=stop)
            return found[name]
        return self._branch(name).array(entry_start=start, entry_stop=stop, library="ak")

    def _has_dot(self, name: str) -> bool:
        """Whether a field has a dot in its name: uproot (5.7) alone takes what is before it for a record."""
        return self.format == "RNTuple" and "." in name and name in self.names

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


def _plain_lists(values: Any) -> Column | None:
    """Lists of numbers of which none is missing, as awkward holds them; None of any other array."""
    ak = require("awkward", "hep")
    layout = values.layout
    if not isinstance(layout, ak.contents.ListOffsetArray) or not isinstance(layout.content, ak.contents.NumpyArray):
        return None
    if layout.parameter("__array__") or layout.content.parameter("__array__"):
        return None  # texts
    offsets, flat = np.asarray(layout.offsets.data), np.asarray(layout.content.data)
    if flat.ndim != 1 or flat.dtype.kind not in "iufb":
        return None
    counts = np.diff(offsets).astype(np.int64)
    flat = flat[offsets[0] : offsets[-1]]
    fixed = len(counts) >= ALIKE and bool(counts.min() == counts.max() > 1)
    return Column(flat, np.zeros(len(flat), bool), counts, fixed, np.zeros(len(counts), bool))


def open_root(path: Path) -> tuple[Any, dict[str, str]]:
    """An open ROOT file, and its tables: ``folder/name;cycle`` -> TTree, TNtuple or RNTuple.

    Raises:
        ReadError: no such file, not a ROOT file, or damaged.
    """
    _check_whole(path)
    uproot = require("uproot", "hep")
    try:
        file = uproot.open(path, handler=uproot.MemmapSource)
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
