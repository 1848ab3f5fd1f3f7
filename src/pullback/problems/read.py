"""The driver of the rule `read`: outside files, or those that a simulator made -> one ensemble shard."""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pullback.core.seeding import generator
from pullback.ensembles.acceptance import FAKE
from pullback.ensembles.stale_files import refuse_stale_files
from pullback.ensembles.store import EnsembleWriter
from pullback.problems.base import Problem, problem_of
from pullback.problems.recorded import fitted_scale
from pullback.readers.base import Block, Events, OutsideFile, ReadError
from pullback.readers.invalid import invalid_events, refuse_too_many
from pullback.study.kinds import parse
from pullback.study.reader_spec import FileNames, ReaderSpec, names_of

log = logging.getLogger("pullback")


def read(
    job: str,
    files: Sequence[Path | str],
    models: Sequence[Path | str],
    out: Path | str,
    pairs: Sequence[Path | str] = (),
) -> None:
    """Read the events of some files into one ensemble shard.

    Args:
        job: JSON of `Plan.read_job`.
        files: with the observations.
        models: with the truth, one for each of ``files``; none where it is in the same file, or not read.
        out: the shard; it appears when it is complete.
        pairs: the family's first file, and its models where they are another: what `scale: fit` is fitted to.

    Raises:
        ReadError: whatever is wrong with a file; nothing is written.
        pullback.ensembles.stale_files.StaleFileError: a simulator made a file for another config.
        pullback.core.optional.MissingExtraError: a package that reads the format is not installed.
    """
    task = json.loads(job)
    reader: ReaderSpec = parse("readers", {**task["read"], "files": {}}, task.get("folder", "."))
    refuse_stale_files(task, reader.job_digest, files=[Path(file) for file in files])
    problem = problem_of(task)
    groups = _by_entry(task.get("files"), [Path(file) for file in files])
    attributes = {
        "problem": task["problem"],
        "family": task["family"],
        "split": task["split"],
        "source_files": json.dumps([", ".join(path.name for path in group) for group in groups]),
        "source_format": reader.kind,
    }
    x = problem.x if task["truth"] else None
    entries = tuple(task["entries"]) if "entries" in task else None
    left_out: Counter[str] = Counter()
    scale = 1.0
    if pairs:
        scale = fit_scale(reader, problem, _by_entry(task["pairs"], [Path(file) for file in pairs]))
        attributes["scale"] = repr(scale)
    columns_of_file = {name: dtype for name, dtype in reader.columns.items() if name != FAKE or x is not None}
    with EnsembleWriter(out, x=x, y=problem.y, spec=job, attributes=attributes, columns=columns_of_file) as writer:
        for row, (path, *others) in enumerate(groups):
            model = Path(models[row]) if models else None
            number = task["first_file"] + row
            file = OutsideFile(path, model, number, row, task["split"], bool(task["truth"]), entries, tuple(others))
            before, members = writer.n, 0
            with reader.open(problem, file) as events:
                for block in valid_blocks(reader, problem, file, events, scale):
                    columns = dict(block.columns)
                    if FAKE in reader.columns and x is not None:
                        columns[FAKE] = np.zeros(len(block.y)) if block.fake is None else block.fake
                    writer.append(block.y, block.event_id, x=block.x, group=block.group, **columns)
                    if block.missed is not None and x is not None:
                        writer.append_missed(block.missed)
                    if events.ensembles is not None:
                        members = members + events.ensembles.events(np.asarray(block.group))
                if events.ensembles is not None:
                    writer.ensembles(_offsets(path, members), events.ensembles.theta, events.ensembles.names)
                for name, value in events.attributes.items():
                    writer.note(name, value)
                for warning in events.warnings:
                    log.warning("%s", warning)
                log.info("read: %s: %s; %d events", path, events.summary, writer.n - before)
            for reason, count in events.left_out.items():
                log.warning("%s: %d events left out: %s", path, count, reason)
            left_out += events.left_out
        if left_out:
            writer.note("left_out", json.dumps(left_out))


def _offsets(path: Path, members: np.ndarray | int) -> np.ndarray:
    """First event of each ensemble and the number of events, from the number of events of each.

    Raises:
        ReadError: an ensemble has no event.
    """
    counts = np.atleast_1d(members)
    if (counts == 0).any():
        raise ReadError(
            f"{path}: {int((counts == 0).sum())} of the {len(counts)} ensembles of this sweep have no events, the "
            f"first is number {int(np.argmax(counts == 0))}; raise `sweep.events`"
        )
    return np.concatenate([[0], np.cumsum(counts)])


def _by_entry(entries: list[FileNames] | None, files: list[Path]) -> list[list[Path]]:
    """Files by entry of a job's `files`; a file that a simulator made has none."""
    rest = iter(files)
    return [[next(rest) for _ in names_of(entry)] for entry in entries] if entries else [[file] for file in rest]


def fit_scale(reader: ReaderSpec, problem: Problem, pairs: Sequence[Sequence[Path | str]]) -> float:
    """The factor on y with which the first pairs of a file agree best with their simulation.

    Args:
        reader: of the file.
        problem: with a forward process.
        pairs: the file, or files of one event, and its models where they are another.

    Raises:
        ReadError: no factor makes them alike.
    """
    (path, *others), *models = pairs
    model = Path(models[0][0]) if models else None
    file = OutsideFile(Path(path), model, others=tuple(map(Path, others)))
    with reader.open(problem, file) as events:
        block = next(iter(valid_blocks(reader, problem, file, events)))
    y, x = block.pairs
    assert x is not None
    try:
        scale = fitted_scale(problem, x, y, generator("check files", "scale"))
    except ValueError as error:
        raise ReadError(f"{file.path}: {error}") from None
    log.info("%s: y is multiplied by %.6g, which its first pairs agree best with", file.path, scale)
    return scale


def valid_blocks(
    reader: ReaderSpec, problem: Problem, file: OutsideFile, events: Events, scale: float = 1.0
) -> Iterator[Block]:
    """The blocks of a file, scaled; events without valid values are left out and counted, where the study says so.

    Args:
        reader: with the policy, and a ``scale`` that is a number.
        problem: with the fields.
        file: for messages.
        events: of it.
        scale: the fitted factor, where ``scale`` is ``fit``.

    Raises:
        ReadError: an event is not valid and ``invalid`` is ``refuse``; more than ``invalid_fraction`` are not; or no
            event is left.
    """
    place, kept = 0, 0  # events of this file so far
    for block in events.blocks:
        wrong = np.zeros(len(block.y), bool)
        for field, values in ((problem.y, block.y), (problem.x, block.x)):
            if values is None:
                continue
            if values.shape[1:] != field.shape:
                raise ReadError(f"{file.path}: {field.name} of shape {values.shape[1:]}, wanted {field.shape}")
            here = slice(None) if field is problem.y or block.fake is None else ~block.fake
            for what, found in invalid_events(values[here], reader.placeholders, field.is_vector).items():
                bad = np.zeros(len(values), bool)
                bad[here] = found
                if not bad.any():
                    continue
                if reader.invalid == "refuse":
                    path = file.model if field is problem.x and file.model else file.path
                    row = int(np.argmax(bad))
                    entry = int(block.columns["source_entry"][row]) if "source_entry" in block.columns else place + row
                    at = ""
                    if not np.isfinite(values[row]).all():
                        at = f" at {tuple(int(i) for i in np.argwhere(~np.isfinite(values[row]))[0])}"
                    raise ReadError(
                        f"{path}: {field.name} of event {entry} is {what}{at}: repair it, or leave such events out by "
                        "read.invalid: drop"
                    )
                events.left_out[f"{field.name} is {what}"] += int((bad & ~wrong).sum())
                wrong |= bad
        place += len(wrong)
        kept += int((~wrong).sum())
        yield _rows(block, ~wrong, scale if reader.scale == "fit" else reader.scale)
    refuse_too_many(file.path, events.left_out, kept, reader.invalid_fraction)
    if not kept:
        raise ReadError(f"{file.path}: there are no events, wanted at least one: leave the file out of the study")


def _rows(block: Block, keep: np.ndarray, scale: float) -> Block:
    """Some events of a block, their y multiplied by a factor."""
    y = block.y if scale == 1 else np.asarray(block.y * scale, np.float32)
    event_id = np.asarray(block.event_id, np.int64)
    if keep.all():
        return replace(block, y=y, event_id=event_id)
    return Block(
        y[keep],
        None if block.x is None else block.x[keep],
        event_id[keep],
        None if block.group is None else block.group[keep],
        {name: values[keep] for name, values in block.columns.items()},
        None if block.fake is None else block.fake[keep],
        block.missed,
    )
