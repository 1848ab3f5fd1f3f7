"""What an ensemble holds of each event beside x and y: weight, group, and its place in the outside files."""

import json

import numpy as np

from pullback.ensembles.acceptance import FAKE
from pullback.ensembles.store import EnsembleReader

SOURCE_FILE = "source_file"
LONG_NAMES = {
    "weight": "event weight",
    FAKE: "1: an observation without a truth",
    "group": "unit of the bootstrap: events with one number are of one collision, or shot line",
    SOURCE_FILE: "number of the outside file in the attribute source_files, -1 for none",
    "source_entry": "entry of the outside file, from 0 on",
    "source_index": "place within the entry, from 0 on",
}


class EventColumns:
    """The columns of an ensemble that every export keeps.

    Args:
        events: the ensemble, or a window of it.

    Attributes:
        files: names of the outside files of all events, in the order of the shards.
        types: name -> dtype of each column.
    """

    def __init__(self, events: EnsembleReader):
        self._events = events
        self.files: list[str] = []
        self._pieces: list[tuple[int, int, int, int]] = []  # first row, row after the last, first file, files
        for start, stop, attributes in events.piece_attributes():
            names = json.loads(attributes.get("source_files", "[]"))
            self._pieces.append((start, stop, len(self.files), len(names)))
            self.files += names
        kept = [name for name in events.columns if name not in ("x", "y", "event_id", SOURCE_FILE)]
        self.types = {name: events.read(name, 0, 0).dtype for name in kept}
        if self.files:
            self.types[SOURCE_FILE] = np.dtype(np.int32)

    def read(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """The columns of some events."""
        found = {name: self._events.read(name, start, stop) for name in self.types if name != SOURCE_FILE}
        if SOURCE_FILE in self.types:
            found[SOURCE_FILE] = self._source_file(start, stop)
        return found

    def _source_file(self, start: int, stop: int) -> np.ndarray:
        """Shards number their own files; a shard of one file need not say which."""
        number = np.full(min(stop, self._events.n) - start, -1, np.int32)
        for first, last, file, count in self._pieces:
            low, high = max(first, start), min(last, start + len(number))
            if low >= high or not count:
                continue
            if SOURCE_FILE in self._events.columns:
                number[low - start : high - start] = file + self._events.read(SOURCE_FILE, low, high)
            elif count == 1:
                number[low - start : high - start] = file
        return number
