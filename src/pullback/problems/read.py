"""The driver of the rule `read`: outside files, or those that a simulator made -> one ensemble shard."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pullback.ensembles.stale_files import refuse_stale_files
from pullback.ensembles.store import EnsembleWriter
from pullback.problems.base import problem_of
from pullback.readers.base import OutsideFile
from pullback.study.kinds import ReaderSpec, parse

log = logging.getLogger("pullback")


def read(job: str, files: Sequence[Path | str], models: Sequence[Path | str], out: Path | str) -> None:
    """Read the events of some files into one ensemble shard.

    Args:
        job: JSON of `Plan.read_job`.
        files: with the observations.
        models: with the truth, one for each of ``files``; none where it is in the same file, or not read.
        out: the shard; it appears when it is complete.

    Raises:
        ReadError: whatever is wrong with a file; nothing is written.
        pullback.ensembles.stale_files.StaleFileError: a simulator made a file for another config.
        pullback.core.optional.MissingExtraError: a package that reads the format is not installed.
    """
    task = json.loads(job)
    reader: ReaderSpec = parse("readers", {**task["read"], "files": {}}, task.get("folder", "."))
    refuse_stale_files(task, reader.job_digest, files=[Path(file) for file in files])
    problem = problem_of(task)
    attributes = {
        "problem": task["problem"],
        "family": task["family"],
        "split": task["split"],
        "source_files": json.dumps([Path(file).name for file in files]),
        "source_format": reader.kind,
    }
    x = problem.x if task["truth"] else None
    with EnsembleWriter(out, x=x, y=problem.y, spec=job, attributes=attributes, columns=reader.columns) as writer:
        for row, path in enumerate(files):
            model = Path(models[row]) if models else None
            number = task["first_file"] + row
            file = OutsideFile(Path(path), model, number, row, task["split"], bool(task["truth"]))
            before = writer.n
            with reader.open(problem, file) as events:
                for block in events.blocks:
                    event_id = np.asarray(block.event_id, np.int64)
                    writer.append(block.y, event_id, x=block.x, group=block.group, **block.columns)
                for name, value in events.attributes.items():
                    writer.note(name, value)
                log.info("read: %s: %s; %d events", path, events.summary, writer.n - before)
