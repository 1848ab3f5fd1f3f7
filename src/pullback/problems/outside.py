"""Jobs that make ensembles from outside files: shot gathers, with velocity models where there is a truth."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pullback.ensembles.store import Column, EnsembleWriter
from pullback.problems.base import problem_of
from pullback.problems.fwi import Fwi
from pullback.readers.gathers import Fields, open_events
from pullback.study.waves import WaveFiles

log = logging.getLogger("pullback")

ENTRY_BITS = 32
"""event_id of outside events: ``file << 32 | entry``, files counted through the split."""


def fields(problem: Fwi, with_truth: bool) -> Fields:
    """What files must hold to be events of a problem."""
    return Fields(problem.x if with_truth else None, problem.y, problem.acquisition)


def read_waves(job: str, files: Sequence[Path], models: Sequence[Path], out: Path) -> None:
    """Read outside gathers into one ensemble shard.

    Args:
        job: `Plan.read_waves_job`.
        files: with the gathers.
        models: with the models, one for each of ``files``; none where they are in the same file, or not read.
        out: the shard; it appears when it is whole.

    Raises:
        GatherError: whatever is wrong with a file; nothing is written.
        pullback.readers.segy.SegyError: likewise, of a SEG-Y file.
        pullback.core.optional.MissingExtraError: segyio is not installed.
    """
    task = json.loads(job)
    problem = problem_of(task)
    assert isinstance(problem, Fwi)
    wanted, read = fields(problem, task["truth"]), WaveFiles.model_validate({**task["read"], "files": {}})
    attributes = {
        "problem": task["problem"],
        "family": task["family"],
        "split": task["split"],
        "source_files": json.dumps([file.name for file in files]),
        "source_format": read.kind,
    }
    columns = {"source_file": Column("int32"), "source_entry": Column("int64")}
    with EnsembleWriter(out, x=wanted.x, y=wanted.y, spec=job, attributes=attributes, columns=columns) as writer:
        for number, file in enumerate(files):
            with open_events(read, wanted, file, models[number] if models else None) as events:
                for start, y, x in events.blocks():
                    entry = np.arange(start, start + len(y))
                    event_id = np.int64(task["first_file"] + number) << ENTRY_BITS | entry
                    source_file = np.full(len(y), number, np.int32)
                    writer.append(y, event_id, x=x, source_file=source_file, source_entry=entry)
                log.info("read: %s, %s: %d events", file, read.kind, events.n)
