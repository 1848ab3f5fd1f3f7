"""One TTree or RNTuple of a ROOT file, read column by column and checked.

Only plain columns are read: string expressions on an RNTuple silently give empty records (uproot 5.7).
"""

import difflib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pullback.core.optional import require
from pullback.readers.base import ReadError, short

CHUNK_ENTRIES = 50_000


class RootTable:
    """One TTree or RNTuple, read column by column with checks. A context manager.

    Args:
        path: the ROOT file.
        tree: name of the TTree or RNTuple in it.

    Raises:
        ReadError: no such file, not a ROOT file, truncated, no such tree, no entries.
    """

    def __init__(self, path: Path, tree: str):
        self.path, self.name = Path(path), tree
        _check_whole(self.path)
        uproot = require("uproot", "hep")
        try:
            self._file = uproot.open(self.path)
            kinds = {key.partition(";")[0]: kind for key, kind in self._file.classnames(recursive=True).items()}
        except Exception as error:
            raise ReadError(f"{self.path}: cannot be opened as a ROOT file ({short(error)}); is it damaged?") from None
        tables = {key: kind for key, kind in kinds.items() if kind in ("TTree", "TNtuple") or kind.endswith("RNTuple")}
        if tree not in tables:
            self._file.close()
            has = ", ".join(f"{key} ({kind.removeprefix('ROOT::')})" for key, kind in tables.items()) or "none at all"
            raise ReadError(f"{self.path}: there is no TTree or RNTuple '{tree}'; it has {has}. Set `tree`")
        self.format = tables[tree].removeprefix("ROOT::")
        self._table = self._file[tree]
        self.entries = int(self._table.num_entries)
        if not self.entries:
            self._file.close()
            raise ReadError(
                f"{self.path}: '{tree}' has no entries, wanted at least one; leave the file out of the study"
            )

    def __enter__(self) -> "RootTable":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def require(self, names: list[str]) -> None:
        """Raise a ReadError unless all these columns are there."""
        for name in names:
            if name not in self._table:
                # All keys of an RNTuple with 1500 fields take uproot 15 s; the top level takes less than one.
                there = list(dict.fromkeys(self._table.keys(recursive=self.format != "RNTuple")))
                near = difflib.get_close_matches(name, there, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(there[:12])} ..."
                raise ReadError(
                    f"{self.path}: there is no branch '{name}' in '{self.name}'; {hint} Correct the branch map"
                )

    def column(self, name: str, start: int, stop: int) -> Any:
        """One column of some entries, as an awkward array of numbers; NaN and infinity are refused."""
        ak = require("awkward", "hep")
        try:
            values = self._table[name].array(entry_start=start, entry_stop=stop, library="ak")
        except Exception as error:
            raise ReadError(
                f"{self.path}: branch '{name}' cannot be read ({short(error)}); it is damaged, fetch or make it again"
            ) from None
        if len(values) != stop - start:
            raise ReadError(
                f"{self.path}: branch '{name}' gives {len(values)} of the entries {start} to {stop}; it is damaged"
            )
        try:
            bad = ~np.isfinite(ak.to_numpy(ak.flatten(values, axis=None)))
        except (TypeError, ValueError):
            raise ReadError(f"{self.path}: branch '{name}' holds {values.type}, wanted numbers; name another") from None
        if bad.any():
            per_entry = ak.to_numpy(ak.num(values)) if values.ndim > 1 else np.ones(len(values), dtype=int)
            entry = start + int(np.searchsorted(np.cumsum(per_entry), np.flatnonzero(bad)[0], side="right"))
            raise ReadError(
                f"{self.path}: branch '{name}' holds NaN or infinity ({int(bad.sum())}, first in entry {entry}), "
                "wanted finite numbers; repair or leave out these entries"
            )
        return values

    def numbers(self, name: str, start: int, stop: int) -> np.ndarray:
        """A column with one number for each entry (entry,)."""
        ak = require("awkward", "hep")
        values = self.column(name, start, stop)
        if values.ndim != 1:
            raise ReadError(
                f"{self.path}: branch '{name}' holds {values.type}, wanted one number per entry; name another"
            )
        return ak.to_numpy(values)

    def lists(self, names: list[str], start: int, stop: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Columns with a list for each entry, flattened (jet,), and the common lengths of the lists (entry,)."""
        ak = require("awkward", "hep")
        flat: list[np.ndarray] = []
        lengths: np.ndarray | None = None
        for name in names:
            values = self.column(name, start, stop)
            if values.ndim != 2:
                raise ReadError(
                    f"{self.path}: branch '{name}' holds {values.type}, wanted a list per entry; name another"
                )
            counts = ak.to_numpy(ak.num(values))
            if lengths is None:
                lengths = counts
            if (different := np.flatnonzero(counts != lengths)).size:
                row = int(different[0])
                raise ReadError(
                    f"{self.path}: in entry {start + row} branch '{names[0]}' has {lengths[row]} values and '{name}' "
                    f"{counts[row]}; lists of one kind of jet must have the same length, correct the branch map"
                )
            flat.append(ak.to_numpy(ak.flatten(values)))
        assert lengths is not None
        return flat, lengths.astype(np.int64)

    def chunks(self) -> Iterator[tuple[int, int]]:
        """First and last entry of each chunk."""
        for start in range(0, self.entries, CHUNK_ENTRIES):
            yield start, min(start + CHUNK_ENTRIES, self.entries)


def _check_whole(path: Path) -> None:
    """The first bytes of a ROOT file say how long it is."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(20)
    except OSError as error:
        raise ReadError(f"{path}: cannot be read ({error.strerror}); give the path of a ROOT file") from None
    if head[:4] != b"root" or len(head) < 20:
        raise ReadError(f"{path}: not a ROOT file (it starts with {head[:4]!r}, wanted b'root'); give a ROOT file")
    version = struct.unpack(">i", head[4:8])[0]
    end = struct.unpack(">q" if version >= 1_000_000 else ">i", head[12 : 20 if version >= 1_000_000 else 16])[0]
    if size < end:
        raise ReadError(f"{path}: truncated, {size} bytes of {end}; fetch or make it again")
