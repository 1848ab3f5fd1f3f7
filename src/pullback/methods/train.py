"""What the rules `train`, `prior` and `likelihood` call: one job, its files, a training that survives being stopped."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pullback.core.atomic import write_atomic
from pullback.core.context import Context
from pullback.core.joblog import progress
from pullback.core.seeding import generator
from pullback.core.stopping import Clock
from pullback.diffusion.devices import check_devices
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.stale_files import refuse_stale_files
from pullback.ensembles.store import EnsembleReader
from pullback.methods.launch import launch
from pullback.methods.simulator import CountedSimulator
from pullback.problems.base import can_simulate, problem_of
from pullback.study.base import canonical, job_digest
from pullback.study.kinds import parse

log = logging.getLogger("pullback")

FINGERPRINT = "fingerprint.json"


class RunError(ValueError):
    """A training that cannot share its work, or a checkpoint folder that is not what its name says."""


def spec_of(job: dict[str, Any]) -> Any:
    """The Spec of the method, prior or likelihood of a job."""
    return parse(job.get("group", "methods"), job["method"], job.get("folder", "."))


def train(
    job: str,
    train: Sequence[Path],
    validation: Sequence[Path],
    artifact: Path,
    curves: Path,
    checkpoints: Path,
    code: str,
    limit: float | None = None,
    gpus: int = 0,
    nodes: int = 1,
    processes: int = 0,
) -> None:
    """Train one method, prior or likelihood on the seen families.

    Args:
        job: `Plan.train_job`.
        train, validation: index files of the seen families' splits.
        artifact: the model that is written.
        curves: the CSV of loss curves that is written.
        checkpoints: folder for the state of a training that is not finished; removed on success.
        code: `Graph.code`: what this job runs, piece by piece, JSON.
        limit: minutes that a scheduler gives this job (`stopping.Clock`).
        gpus: number requested, on all nodes together; more than one train together, by torchrun.
        nodes: number requested.
        processes: on each node, which share the training; 0: one for each GPU.

    Raises:
        DeviceError: the GPUs differ from those requested.
        RunError: several processes for a training that only one can do.
        Stopped: close to the limit, or on a signal; the same call goes on.
    """
    with Clock(None if limit is None else 60 * limit) as clock:
        plan = json.loads(job)
        devices = check_devices(gpus, plan["accelerator"], nodes)
        refuse_stale_files(plan, train=train, validation=validation)
        processes = processes or max(1, devices)
        reason = spec_of(plan).single_process_reason
        if reason and processes * nodes > 1:
            raise RunError(
                f"{plan['method']['kind']} trains in one process, as {reason}; found {processes * nodes} processes: "
                "ask for one GPU"
            )
        arguments = {
            "job": job,
            "train": [str(path) for path in train],
            "validation": [str(path) for path in validation],
            "artifact": str(artifact),
            "curves": str(curves),
            "checkpoints": str(checkpoints),
            "code": code,
        }
        if processes * nodes == 1:
            learn(**arguments, stop=clock.due)  # type: ignore[arg-type]
        else:
            launch(arguments, Path(checkpoints) / "launch", clock, processes, nodes)
    shutil.rmtree(checkpoints, ignore_errors=True)


def learn(
    job: str,
    train: Sequence[str],
    validation: Sequence[str],
    artifact: str,
    curves: str,
    checkpoints: str,
    code: str,
    stop: Callable[..., str | None],
    first: bool = True,
) -> None:
    """What one process of a training does; the first one makes the folder of its checkpoints.

    Paths are text, for they come through a file where there are several processes.
    """
    plan = json.loads(job)
    spec = spec_of(plan)
    problem = problem_of(plan["problem"])
    readers = {"train": [EnsembleReader(p) for p in train], "validation": [EnsembleReader(p) for p in validation]}
    try:
        loop = getattr(spec, "train", None)
        drawn = generator(*plan["address"], "bootstrap of the training events") if loop and loop.bootstrap else None
        data = None
        if spec.reads_events:
            data = TrainingData(readers["train"], readers["validation"], spec.memory_mb, drawn)
        digests = data.digests if data else {}
        # Not the number of processes: the training of one can go on in several.
        parts = {"job": plan, "data": digests, "code": json.loads(code), "threads": plan["threads"]}
        folder = checkpoint_folder(Path(checkpoints), parts, make=first)
        simulator = CountedSimulator(problem, folder) if can_simulate(problem) else None
        if data:
            data.simulator = simulator
        context = Context(tuple(plan["address"]), plan["threads"], plan["accelerator"], progress, stop)
        method = spec.build(problem, context)
        if "params" in plan:
            method.set_prior_params(plan["params"])
        method.train(data, TrainPaths(Path(artifact), Path(curves), folder, job_digest(job)))
        if first and simulator and simulator.cost["simulator_calls"]:
            _note_cost(Path(artifact), simulator.cost)
    finally:
        for reader in (*readers["train"], *readers["validation"]):
            reader.close()


def _note_cost(artifact: Path, cost: dict[str, int]) -> None:
    """Keep what the simulations of a training cost in its artifact."""
    from pullback.diffusion.checkpoint import load_artifact, save_artifact

    weights, meta = load_artifact(artifact)
    save_artifact(artifact, weights, {**meta, "cost": cost})


def fingerprint(parts: dict[str, Any]) -> str:
    """SHA-256 of everything that the numbers of a job depend on."""
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def checkpoint_folder(checkpoints: Path, parts: dict[str, Any], make: bool = True) -> Path:
    """The folder of exactly this job's state; the log says what differs from others found.

    Args:
        checkpoints: where such folders are.
        parts: everything that the job's numbers depend on, which names the folder and stands in it as a record.
        make: whether to make it when it is not there.

    Raises:
        RunError: the folder's own record disagrees with its name.
    """
    folder = checkpoints / fingerprint(parts)[:16]
    for other in sorted(checkpoints.glob(f"*/{FINGERPRINT}")):
        if other.parent == folder:
            continue
        try:
            changes = ", ".join(differences(json.loads(other.read_text()), parts))
        except ValueError:
            changes = f"{other} cannot be read"
        log.info("checkpoints of another job in %s are not used; what changed: %s", other.parent, changes)
    record = folder / FINGERPRINT
    if record.exists():
        try:
            agrees = fingerprint(json.loads(record.read_text())) == fingerprint(parts)
        except ValueError:
            agrees = False
        if not agrees:
            raise RunError(
                f"{record}: describes another job than the name of its folder; somebody changed files here: "
                f"delete {folder} to start from scratch"
            )
    elif make:
        write_record(folder, parts)
    return folder


def write_record(folder: Path, parts: dict[str, Any]) -> None:
    """Make the folder of a job's state, with the record of what the job's numbers depend on."""
    if not (folder / FINGERPRINT).exists():
        write_atomic(folder / FINGERPRINT, canonical(parts))


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """What changed between two records, as `path: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(set(old) | set(new)):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
