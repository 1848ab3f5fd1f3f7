"""The driver of the rule `check_files`: a family that was read, beside the simulator and the seen families.

Nothing is refused here: what is found are warnings of the page and the log, and of ``pullback check`` before a run.
"""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from pullback.core.atomic import write_atomic
from pullback.core.seeding import generator
from pullback.ensembles.stale_files import refuse_stale_files
from pullback.ensembles.store import EnsembleReader
from pullback.problems.base import Problem, can_simulate, problem_of
from pullback.problems.differences import OTHERS
from pullback.problems.recorded import PAIRS_OF_VECTORS, compare
from pullback.problems.traits import EVENTS, compare_with_seen
from pullback.readers.base import short

log = logging.getLogger("pullback")


class FileChecks(NamedTuple):
    """What is said of a family's files: warnings, and lines on what agrees."""

    warnings: list[str]
    said: list[str]


def check_files(job: str, shards: Sequence[Path | str], seen: Sequence[Path | str], out: Path | str) -> None:
    """Compare a family's events with the simulator and the seen families, and count what was left out.

    Args:
        job: `Plan.check_files_job`.
        shards: of the family; pairs are those of the first.
        seen: training ensembles, for a family that is not trained on.
        out: JSON with ``warnings``, ``said`` and ``left_out``.
    """
    task = json.loads(job)
    refuse_stale_files(task, shards=[Path(p) for p in shards], seen=[Path(p) for p in seen])
    left_out: Counter[str] = Counter()
    for path in shards:
        with h5py.File(path, "r") as file:
            left_out.update(json.loads(file.attrs.get("left_out", "{}")))
    problem = problem_of(task)
    n = max(EVENTS, OTHERS, PAIRS_OF_VECTORS if problem.y.is_vector else 0)
    with EnsembleReader(shards[0]) as reader:
        y = reader.read("y", 0, min(n, reader.n))
        x = None if reader.x is None else reader.read("x", 0, min(n, reader.n))
    trained = []
    for path in seen:
        with EnsembleReader(path) as reader:
            trained.append(reader.read("y", 0, min(EVENTS, reader.n)))
    found = look(problem, task, y, x, np.concatenate(trained) if trained else None)
    for reason, count in left_out.items():
        found.warnings.append(f"{count} events of its files were left out: {reason}")
    for line in found.said:
        log.info(line)
    for line in found.warnings:
        log.warning(line)
    content = {"warnings": found.warnings, "said": found.said, "left_out": dict(left_out)}
    write_atomic(out, json.dumps(content, indent=1, sort_keys=True) + "\n")


def look(
    problem: Problem, task: dict[str, Any], y: np.ndarray, x: np.ndarray | None, seen: np.ndarray | None
) -> FileChecks:
    """Compare some events of a family that is read.

    Args:
        problem: the problem.
        task: with ``family``, ``own_forward`` and ``tolerance``, as in `Plan.check_files_job`.
        y: observations (event, *y).
        x: their truths (event, *x), or None.
        seen: observations of the families that are trained on (event, *y), or None.
    """
    warnings: list[str] = []
    said: list[str] = []
    if x is not None and task["own_forward"] and can_simulate(problem):
        try:
            found = compare(problem, x, y, task["tolerance"], generator("check files", task["family"]))
            (said if found.agrees else warnings).append(found.summary)
        except Exception as error:  # a user's own simulator may raise anything
            warnings.append(f"its pairs cannot be simulated ({short(error)}): correct x, or the simulator")
    if seen is not None:
        line, unlike = compare_with_seen(problem.y, y[:EVENTS], seen)
        said += [line] if line else []
        warnings += unlike
    return FileChecks(warnings, said)
