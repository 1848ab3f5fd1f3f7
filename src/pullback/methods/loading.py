"""Loading of methods for the rules `condition`, `infer` and `unfold`, and measurement of their cost."""

import hashlib
import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from pullback.core.context import Context
from pullback.core.joblog import progress
from pullback.core.stopping import Clock
from pullback.diffusion.devices import check_devices
from pullback.ensembles.stale_files import refuse_stale_files
from pullback.ensembles.store import EnsembleReader
from pullback.methods.base import Method
from pullback.methods.train import spec_of
from pullback.problems.base import problem_of


class Inputs(NamedTuple):
    """Files that an inference reads.

    Attributes:
        ensemble: index of the family's test split.
        artifact: the trained model, for methods that train.
        prior: the diffusion prior, for methods that use one.
        likelihood: the learned likelihood, for an inference that is refined with one.
        state: the states, where conditioning is a separate job.
        seen: train indices of the seen families, for methods that read them at inference.
        reference: index of the family's reference split, for methods that use it as a sample of the prior.
    """

    ensemble: Path
    artifact: Path | None = None
    prior: Path | None = None
    likelihood: Path | None = None
    state: Path | None = None
    seen: Sequence[Path] = ()
    reference: Path | None = None

    @staticmethod
    def of(files: Any) -> "Inputs":
        """From the named inputs of a rule, which are lists, empty where there is no such file."""
        one = {
            name: next((Path(path) for path in files.get(name, [])), None)
            for name in ("artifact", "prior", "likelihood", "state", "reference")
        }
        return Inputs(Path(files.ensemble), seen=[Path(path) for path in files.get("seen", [])], **one)


@contextmanager
def opened(
    job: str, inputs: Inputs, limit: float | None, gpus: int
) -> Iterator[tuple[dict[str, Any], Method[Any], EnsembleReader]]:
    """Context with the parsed job, its method and its open ensemble, under the job's clock.

    Args:
        job: canonical JSON.
        inputs: files.
        limit: minutes that a scheduler gives this job (`stopping.Clock`).
        gpus: number requested; one is used.

    Raises:
        DeviceError: the GPUs differ from those requested.
        StaleFileError: a file was made for another config.
    """
    plan = json.loads(job)
    with Clock(None if limit is None else 60 * limit) as clock:
        method = _load_method(plan, inputs, clock.due, gpus)
        with EnsembleReader(inputs.ensemble) as ensemble:
            yield plan, method, ensemble


def _load_method(plan: Mapping[str, Any], inputs: Inputs, stop: Callable[..., str | None], gpus: int) -> Method[Any]:
    """The method of a job, with its settings, its trained artifact and the parameters of the family that it uses."""
    check_devices(gpus, plan["accelerator"])
    reference = [inputs.reference] if inputs.reference else []
    refuse_stale_files(plan, ensemble=[inputs.ensemble], seen=inputs.seen, reference=reference)
    learned = {name: [path] if (path := getattr(inputs, name)) else [] for name in LEARNED}
    refuse_stale_files(plan, _job_digest_of_artifact, **learned)
    spec = spec_of(dict(plan))
    settings = spec.infer_settings(plan["infer"])
    address = (*plan["address"], plan["infer_name"], plan["family"])
    context = Context(address, plan["threads"], plan["accelerator"], progress, stop)
    method: Method[Any] = spec.build(problem_of(plan["problem"]), context, settings)
    method.load(inputs.artifact, inputs.prior, list(inputs.seen))
    if "params" in plan:
        method.set_prior_params(plan["params"])
    if inputs.reference:
        method.set_reference(inputs.reference)
    wrapped: Method[Any] = settings.wrap(method, inputs.likelihood)
    return wrapped


LEARNED = ("artifact", "prior", "likelihood", "state")


def record_of(plan: Mapping[str, Any], inputs: Inputs, ensemble: EnsembleReader, code: str) -> dict[str, Any]:
    """Record of everything that the results of a job depend on: the job, digests of its inputs, and its code."""
    found: dict[str, Any] = {"ensemble": ensemble.digest, "seen": [], "reference": []}
    for name, files in (("seen", inputs.seen), ("reference", [inputs.reference] if inputs.reference else [])):
        for path in files:
            with EnsembleReader(path) as reader:
                found[name].append(reader.digest)
    for name in LEARNED:
        file = getattr(inputs, name)
        found[name] = hashlib.sha256(file.read_bytes()).hexdigest() if file else None
    return {"job": plan, "data": found, "code": json.loads(code)}


def _job_digest_of_artifact(path: Path) -> str | None:
    from pullback.diffusion.checkpoint import load_artifact

    return load_artifact(path)[1].get("job")


class CostMeter:
    """Cost of an attempt: in total and since the last query."""

    def __init__(self, method: Method[Any]):
        self._method = method
        self._began = time.perf_counter()
        self._last: dict[str, float] = {}

    def in_all(self) -> dict[str, float]:
        """Seconds, memory and the method's own counts."""
        return {
            "seconds": time.perf_counter() - self._began,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            **asdict(self._method.cost),
        }

    def since_last(self) -> dict[str, float]:
        """The same since the last call; memory is that of the attempt."""
        now = self.in_all()
        since = {key: value - self._last.get(key, 0) for key, value in now.items()}
        self._last = now
        return {**since, "peak_memory_mb": now["peak_memory_mb"]}
