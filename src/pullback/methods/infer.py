"""What the rule `infer` calls: one part of one family's observations, answered by one method, streamed to a file."""

import hashlib
import json
import logging
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pullback.core.joblog import progress
from pullback.core.stopping import Clock, Stopped
from pullback.diffusion.devices import check_devices
from pullback.ensembles.arrays import Ensemble
from pullback.ensembles.stale_files import refuse_stale_files
from pullback.ensembles.store import EnsembleReader, PosteriorWriter, merge
from pullback.methods.base import Context, Method, PosteriorSamples
from pullback.methods.resume import Answer, Finished, add_cost
from pullback.methods.train import checkpoint_folder, spec_of
from pullback.problems.base import problem_of

log = logging.getLogger("pullback")


class Piece(NamedTuple):
    """Events that are answered at once, all conditioned on the same set of observations."""

    first: int
    last: int
    set_first: int
    set_last: int


def pieces(events: int, observed: int, set_size: int | str, block: int) -> Iterator[Piece]:
    """Cut a family's first ``events`` into sets and blocks; the same whatever the number of parts.

    Args:
        events: events that are answered.
        observed: observations there are; a set may hold more of them than are answered.
        set_size: ``"all"``, or observations of one set; the remainder is a set of its own.
        block: most events of a piece.
    """
    size = observed if set_size == "all" else int(set_size)
    for set_first in range(0, events, size):
        set_last = min(set_first + size, observed)
        for first in range(set_first, min(set_last, events), block):
            yield Piece(first, min(first + block, set_last, events), set_first, set_last)


def infer(
    job: str,
    ensemble: Path,
    out: Path,
    artifact: Path | None = None,
    prior: Path | None = None,
    seen: Sequence[Path] = (),
    reference: Path | None = None,
    likelihood: Path | None = None,
    checkpoints: Path | None = None,
    code: str = "",
    limit: float | None = None,
    gpus: int = 0,
) -> None:
    """Write one part of one posterior.

    Args:
        job: `Plan.infer_job`.
        ensemble: index of the family's test split.
        out: the part.
        artifact: the trained model, for methods that train.
        prior: the diffusion prior, for methods that use one.
        seen: train indices of the seen families, for methods that answer from them.
        reference: index of the family's reference split, for methods to whom its truth stands for the prior.
        likelihood: the learned likelihood, for an inference that is refined with one.
        checkpoints: folder for the finished pieces of a long inference; removed on success. None keeps nothing.
        code: digest of the code that this job runs.
        limit: minutes that a scheduler gives this job (`stopping.Clock`).
        gpus: that were asked for; one is used.

    Raises:
        DeviceError: the GPUs are not those that were asked for.
        Stopped: close to the limit, or on a signal; the same call goes on.
    """
    plan = json.loads(job)
    with Clock(None if limit is None else 60 * limit) as clock:
        check_devices(gpus, plan["accelerator"])
        refuse_stale_files(plan, ensemble=[ensemble], seen=seen, reference=[reference] if reference else [])
        learned = {"artifact": [artifact] if artifact else [], "prior": [prior] if prior else []}
        learned["likelihood"] = [likelihood] if likelihood else []
        refuse_stale_files(plan, _job_digest_of_artifact, **learned)
        problem = problem_of(plan["problem"])
        spec = spec_of(plan)
        settings = spec.infer_settings(plan["infer"])
        address = (*plan["address"], plan["infer_name"], plan["family"])
        context = Context(address, plan["threads"], plan["accelerator"], progress, clock.due)
        method = spec.build(problem, context, settings)
        method.load(artifact, prior, list(seen))
        if "params" in plan:
            method.set_prior_params(plan["params"])
        if reference:
            method.set_reference(reference)
        method = settings.wrap(method, likelihood)
        with EnsembleReader(ensemble) as reader:
            finished = None
            if checkpoints is not None:
                record = {
                    "job": plan,
                    "data": _digests(reader, seen, reference, artifact=artifact, prior=prior, likelihood=likelihood),
                    "code": json.loads(code),
                }
                finished = Finished(checkpoint_folder(Path(checkpoints), record, make=False), record)
            attributes = {"returns": spec.returns}
            cut = {"part": plan["part"], "parts": plan["parts"]}
            answer(method, reader, out, job, **cut, attributes=attributes, finished=finished)


def _digests(
    ensemble: EnsembleReader, seen: Sequence[Path], reference: Path | None, **learned: Path | None
) -> dict[str, Any]:
    """Digests of everything that an inference reads."""
    found: dict[str, Any] = {"ensemble": ensemble.digest, "seen": [], "reference": []}
    for name, files in (("seen", seen), ("reference", [reference] if reference else [])):
        for path in files:
            with EnsembleReader(path) as reader:
                found[name].append(reader.digest)
    for name, file in learned.items():
        found[name] = hashlib.sha256(file.read_bytes()).hexdigest() if file else None
    return found


def answer(
    method: Method[Any],
    ensemble: EnsembleReader,
    out: Path,
    job: str,
    part: int = 0,
    parts: int = 1,
    attributes: dict[str, Any] | None = None,
    finished: Finished | None = None,
) -> None:
    """Condition a loaded method on an ensemble's sets and stream its draws for one part of the events to a file.

    Args:
        method: loaded, with the settings of the inference.
        ensemble: the observations.
        out: the part that is written.
        job: canonical JSON of what was asked, kept in the file.
        part, parts: which of how many pieces of the events.
        attributes: more attributes of the file.
        finished: the pieces that an earlier attempt answered, and where to keep new ones.

    Raises:
        Stopped: the method's context said so between two pieces; the finished ones are kept.
    """
    settings = method.settings
    events = min(ensemble.n, settings.max_events or ensemble.n)
    work = list(pieces(events, ensemble.n, settings.set_size, method.events_at_once(settings.draws)))
    mine = work[part * len(work) // parts : (part + 1) * len(work) // parts]
    log.info(
        "%s: events %d of %d, %d draws each, set size %s; part %d of %d has %d of %d pieces",
        *(ensemble.path, events, ensemble.n, settings.draws, settings.set_size),
        *(part + 1, parts, len(mine), len(work)),
    )
    if parts > len(work):
        log.warning(
            "%d of %d parts have nothing to do: give `parts: %d`, or smaller sets", parts - len(work), parts, len(work)
        )
    spent = _Spent(method)
    sampler = Sampler(method, ensemble)
    longest = 0.0
    with PosteriorWriter(
        out,
        x=method.problem.x,
        draws=settings.draws,
        ensemble=ensemble,
        ensemble_name=str(ensemble.path),
        spec=job,
        attributes={**(attributes or {}), "observations": ensemble.n},
    ) as writer:
        for number, piece in enumerate(method.context.progress(mine, len(mine), "infer")):
            if finished and (found := finished.get(number)):
                writer.append(*found)
                continue
            began = time.perf_counter()
            chunk, event_id = answered = sampler.sample(piece)
            writer.append(chunk, event_id)
            longest = max(longest, time.perf_counter() - began)
            reason = method.context.stop(longest) if finished and number + 1 < len(mine) else None
            if finished and (finished.add(number, answered) or reason):
                finished.save(spent.since_last(), sampler.diagnostics)
            if reason:
                raise Stopped(f"after piece {number + 1} of {len(mine)}", reason)
        before = finished.cost if finished else {}
        cost = {**add_cost(before, spent.in_all()), "events": writer.n}
        if finished:
            merge(sampler.diagnostics, finished.diagnostics)
        writer.finish(cost, sampler.diagnostics)
    if finished:
        finished.remove()
    log.info("cost: %s", ", ".join(f"{key} {value:.4g}" for key, value in cost.items()))


class Sampler:
    """Samples pieces of an ensemble's events; the method is conditioned once for each set.

    Args:
        method: loaded, with the settings of the inference.
        ensemble: the observations.

    Attributes:
        diagnostics: by name, of each set by its first event and of each piece by its own.
    """

    def __init__(self, method: Method[Any], ensemble: Ensemble):
        self._method, self._ensemble = method, ensemble
        self._set: tuple[int, int] | None = None
        self._state: Any = None
        self.diagnostics: dict[str, dict[int, float]] = {}

    def sample(self, piece: Piece) -> Answer:
        """The draws of a piece, those that are not finite marked as failed, and its events' numbers."""
        method, ensemble = self._method, self._ensemble
        if self._set != (piece.set_first, piece.set_last):
            self._set = (piece.set_first, piece.set_last)
            self._state = method.condition(ensemble.window(*self._set))
            noticed = method.diagnostics(self._state).items()
            merge(self.diagnostics, {key: {piece.set_first: float(value)} for key, value in noticed})
        event_id = ensemble.read("event_id", piece.first, piece.last)
        chunk = _checked(method.sample(self._state, ensemble.read("y", piece.first, piece.last), event_id))
        merge(self.diagnostics, {key: {piece.first: float(v)} for key, v in chunk.diagnostics.items()})
        return Answer(chunk, event_id)


class _Spent:
    """What an attempt used, in all and since it was last asked."""

    def __init__(self, method: Method[Any]):
        self._method = method
        self._began = time.perf_counter()
        self._last: dict[str, float] = {}

    def in_all(self) -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - self._began,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            **asdict(self._method.cost),
        }

    def since_last(self) -> dict[str, float]:
        now = self.in_all()
        since = {key: value - self._last.get(key, 0) for key, value in now.items()}
        self._last = now
        return {**since, "peak_memory_mb": now["peak_memory_mb"]}


def _job_digest_of_artifact(path: Path) -> str | None:
    from pullback.diffusion.checkpoint import load_artifact

    return load_artifact(path)[1].get("asked")


def _checked(chunk: PosteriorSamples) -> PosteriorSamples:
    """The chunk with a draw that is not finite marked as failed: it stays and counts."""
    finite = np.isfinite(chunk.x).reshape(*chunk.ok.shape, -1).all(axis=-1) & np.isfinite(chunk.log_weight)
    ok = chunk.ok & finite
    if (lost := int((chunk.ok & ~finite).sum())) > 0:
        log.warning("%d draws are not finite: they count as failed", lost)
    x = np.where(ok.reshape(*ok.shape, *(1,) * (chunk.x.ndim - 2)), chunk.x, np.nan)
    return PosteriorSamples(x, np.where(ok, chunk.log_weight, 0.0), ok, chunk.diagnostics)
