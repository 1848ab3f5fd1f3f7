"""Checkpoints of an inference: finished blocks are saved at intervals and reused by a rerun."""

import io
import json
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pullback.core.atomic import DamagedError, read_sealed, write_sealed
from pullback.ensembles.posterior_store import Diagnostics, add_cost, merge
from pullback.methods.base import PosteriorSamples
from pullback.methods.train import write_record

log = logging.getLogger("pullback")

SAVE_EVERY_S = 60.0
"""A shorter inference keeps nothing."""

MOST_BYTES = 256_000_000
"""Of draws that wait in memory for being kept."""


class Answer(NamedTuple):
    """The draws for one block, and the numbers of its events."""

    chunk: PosteriorSamples
    event_id: np.ndarray


class Finished:
    """Finished blocks in a folder that belongs to exactly one inference; a file holds those of one save.

    A damaged file is logged, and its blocks are answered again.

    Args:
        folder: of this inference (`run.checkpoint_folder`), made when there is something to keep.
        record: everything that its numbers depend on.

    Attributes:
        cost: cost of the reused blocks.
        diagnostics: of the sets that they belong to, and their own: {name: {first event of the set or block: value}}.
    """

    def __init__(self, folder: Path, record: dict[str, Any]):
        self.folder = folder
        self.cost: dict[str, float] = {}
        self.diagnostics: dict[str, dict[int, float]] = {}
        self._record = record
        self._taken: dict[int, tuple[Path, int, int]] = {}
        self._open: tuple[Path, dict[str, np.ndarray]] | None = None
        self._waiting: dict[int, Answer] = {}
        self._bytes = 0
        self._began = self._saved = time.monotonic()
        for path in sorted(folder.glob("blocks-*.npz")):
            try:
                found = _read(path)
            except DamagedError as error:
                log.warning("%s: its blocks are answered again", error)
                continue
            note = json.loads(str(found["note"]))
            row = 0
            for block, events in note["blocks"]:
                self._taken[block] = (path, row, row + events)
                row += events
            self.cost = add_cost(self.cost, note["cost"])
            for name, values in note["diagnostics"].items():
                merge(self.diagnostics, {name: {int(first): value for first, value in values.items()}})
        if self._taken:
            log.info("resumed: %d finished blocks from %s", len(self._taken), folder)

    def get(self, block: int) -> Answer | None:
        """A reused block, or None."""
        if block not in self._taken:
            return None
        path, first, last = self._taken[block]
        if self._open is None or self._open[0] != path:
            self._open = (path, _read(path))
        found = {name: values[first:last] for name, values in self._open[1].items() if name != "note"}
        event_id = found.pop("event_id")
        return Answer(PosteriorSamples(diagnostics={}, **found), event_id)

    def add(self, block: int, answer: Answer) -> bool:
        """Add a finished block; returns whether it is time to `save`."""
        self._waiting[block] = answer
        self._bytes += answer.chunk.x.nbytes
        now = time.monotonic()
        if now - self._saved >= SAVE_EVERY_S or (self._bytes > MOST_BYTES and now - self._began >= SAVE_EVERY_S):
            return True
        if self._bytes > MOST_BYTES:
            # The work of less than a minute: a rerun does it again.
            self._forget()
        return False

    def save(self, cost: Mapping[str, float], diagnostics: Diagnostics) -> None:
        """Save the new blocks, with their cost and diagnostics."""
        self._saved = time.monotonic()
        if not self._waiting:
            return
        write_record(self.folder, self._record)
        answers = list(self._waiting.values())
        note = {
            "blocks": [(block, len(answer.event_id)) for block, answer in self._waiting.items()],
            "cost": dict(cost),
            "diagnostics": diagnostics,
        }
        chunks = [answer.chunk._asdict() for answer in answers]
        arrays = {
            name: np.concatenate([chunk[name] for chunk in chunks])
            for name, first in chunks[0].items()
            if isinstance(first, np.ndarray)
        }
        arrays["x"] = arrays["x"].astype(np.float32)
        arrays["event_id"] = np.concatenate([answer.event_id for answer in answers])
        packed = io.BytesIO()
        np.savez(packed, allow_pickle=False, note=np.array(json.dumps(note)), **arrays)
        write_sealed(self.folder / f"blocks-{min(self._waiting):06d}-{max(self._waiting):06d}.npz", packed.getvalue())
        self._forget()

    def remove(self) -> None:
        """Delete the folder, and those of other inferences beside it."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _forget(self) -> None:
        self._waiting = {}
        self._bytes = 0


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(read_sealed(path)), allow_pickle=False) as found:
        return dict(found)
