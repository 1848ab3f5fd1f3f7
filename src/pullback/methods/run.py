"""What the rules `train` and `prior` call: one job of the plan, its files, a training that survives being killed."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pullback.ensembles.leftovers import refuse_leftovers
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader
from pullback.joblog import progress
from pullback.methods.base import Context, TrainJob
from pullback.problems.base import make_problem
from pullback.study.base import Closed, asked, canonical
from pullback.study.methods import EdmPrior, Method
from pullback.study.plugins import load_class
from pullback.whole import atomic

log = logging.getLogger("pullback")

FINGERPRINT = "fingerprint.json"


class RunError(ValueError):
    """A checkpoint folder that is not what its name says."""


def method_spec(values: dict[str, Any]) -> Closed:
    """The spec of a method or a prior from its plain values in a job."""
    if values.get("kind") == "edm":
        return EdmPrior.model_validate(values)
    spec: Closed = TypeAdapter(Method).validate_python(values)
    return spec


def train(
    job: str, train: list[Path], validation: list[Path], artifact: Path, curves: Path, checkpoints: Path, code: str
) -> None:
    """Train one method or prior on the seen families.

    Args:
        job: `Plan.train_job` or `Plan.prior_job`.
        train, validation: index files of the seen families' splits.
        artifact: the model that is written.
        curves: the CSV of loss curves that is written.
        checkpoints: folder for the state of a training that is not finished; removed on success.
        code: digest of the code that this job runs.
    """
    plan = json.loads(job)
    refuse_leftovers(plan, train=train, validation=validation)
    spec = method_spec(plan["method"])
    entry = plan["problem"]
    problem = make_problem(entry["kind"], entry["simulator"], entry.get("folder", "."))
    readers = {"train": [EnsembleReader(p) for p in train], "validation": [EnsembleReader(p) for p in validation]}
    try:
        data = TrainingData(readers["train"], readers["validation"], spec.train.memory_mb)  # type: ignore[attr-defined]
        parts = {"job": plan, "data": data.digests, "code": code, "threads": plan["threads"]}
        folder = checkpoint_folder(Path(checkpoints), parts)
        context = Context(tuple(plan["address"]), plan["threads"], plan["accelerator"], progress)
        method = load_class(spec.code)(spec, problem, context)  # type: ignore[attr-defined]
        method.train(data, TrainJob(Path(artifact), Path(curves), folder, asked(job)))
    finally:
        for reader in (*readers["train"], *readers["validation"]):
            reader.close()
    shutil.rmtree(checkpoints, ignore_errors=True)


def fingerprint(parts: dict[str, Any]) -> str:
    """SHA-256 of everything that the numbers of a training depend on."""
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def checkpoint_folder(checkpoints: Path, parts: dict[str, Any]) -> Path:
    """The folder of exactly this training, made when it is not there; the log says what differs from others found.

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
        log.info("checkpoints of another training in %s are not used; what changed: %s", other.parent, changes)
    record = folder / FINGERPRINT
    if record.exists():
        try:
            agrees = fingerprint(json.loads(record.read_text())) == fingerprint(parts)
        except ValueError:
            agrees = False
        if not agrees:
            raise RunError(
                f"{record}: describes another training than the name of its folder; somebody changed files here: "
                f"delete {folder} to start from scratch"
            )
        return folder
    with atomic(record) as temporary:
        temporary.write_text(canonical(parts))
    return folder


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
