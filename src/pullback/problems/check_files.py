"""The driver of the rule `check_files`: a family that was read, beside the simulator and the seen families.

Nothing is refused here: what is found are warnings of the page and the log, and of ``pullback check`` before a run.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
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


MORE = 8
"""Further files of which pairs are simulated."""
FEW = 16
"""Events that are read of each: gathers are megabytes."""


class Pairs(NamedTuple):
    """Pairs of another file of a family."""

    file: str
    y: np.ndarray
    x: np.ndarray | None


class FileChecks(NamedTuple):
    """What is said of a family's files: warnings, and lines on what agrees."""

    warnings: list[str]
    said: list[str]


def check_files(job: str, shards: Sequence[Path | str], seen: Sequence[Path | str], out: Path | str) -> None:
    """Compare a family's events with the simulator and the seen families, and count what was left out.

    Args:
        job: `Plan.check_files_job`.
        shards: of the family; pairs are those of the first, and some of others.
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
    first = _pairs(Path(shards[0]), n)
    more = (_pairs(Path(path), FEW) for path in shards[1 : 1 + MORE])
    trained = []
    for path in seen:
        with EnsembleReader(path) as reader:
            trained.append(reader.read("y", 0, min(EVENTS, reader.n)))
    found = look(problem, task, first.y, first.x, np.concatenate(trained) if trained else None, more)
    for reason, count in left_out.items():
        found.warnings.append(f"{count} events of its files were left out: {reason}")
    for line in found.said:
        log.info(line)
    for line in found.warnings:
        log.warning(line)
    content = {"warnings": found.warnings, "said": found.said, "left_out": dict(left_out)}
    write_atomic(out, json.dumps(content, indent=1, sort_keys=True) + "\n")


def _pairs(shard: Path, n: int) -> Pairs:
    """The first events of a shard."""
    with h5py.File(shard, "r") as file:
        names = ", ".join(json.loads(file.attrs.get("source_files", "[]")))
    with EnsembleReader(shard) as file_of_all:
        reader = file_of_all.pairs()
        x = None if reader.x is None else reader.read("x", 0, min(n, reader.n))
        return Pairs(names, reader.read("y", 0, min(n, reader.n)), x)


def look(
    problem: Problem,
    task: dict[str, Any],
    y: np.ndarray,
    x: np.ndarray | None,
    seen: np.ndarray | None,
    more: Iterable[Pairs] = (),
) -> FileChecks:
    """Compare some events of a family that is read.

    Args:
        problem: the problem.
        task: with ``family``, ``own_forward`` and ``tolerance``, as in `Plan.check_files_job`.
        y: observations (event, *y).
        x: their truths (event, *x), or None.
        seen: observations of the families that are trained on (event, *y), or None.
        more: of other files of the family, which may differ from the first.
    """
    warnings: list[str] = []
    said: list[str] = []
    for file, y_of, x_of in (Pairs("", y, x), *more):
        if x_of is None or not task["own_forward"] or not can_simulate(problem):
            continue
        of = f"{file}: " if file else ""
        try:
            found = compare(problem, x_of, y_of, task["tolerance"], generator("check files", task["family"]))
            if not found.agrees:
                warnings.append(of + found.summary)
            elif not file:
                said.append(found.summary)
        except Exception as error:  # a user's own simulator may raise anything
            warnings.append(f"{of}its pairs cannot be simulated ({short(error)}): correct x, or the simulator")
    if seen is not None:
        line, unlike = compare_with_seen(problem.y, y[:EVENTS], seen)
        said += [line] if line else []
        warnings += unlike
    return FileChecks(warnings, said)
