"""Driver of the rule `infer`: posterior samples of one method for one part of a family, written block by block."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pullback.core.stopping import Stopped
from pullback.ensembles.arrays import Ensemble
from pullback.ensembles.posterior_store import PosteriorWriter, add_cost, merge
from pullback.ensembles.store import EnsembleReader
from pullback.methods.base import Method, PosteriorSamples
from pullback.methods.loading import CostMeter, Inputs, opened, record_of
from pullback.methods.resume import Answer, Finished
from pullback.methods.states import States, conditioning_sets, load_states
from pullback.methods.train import checkpoint_folder

log = logging.getLogger("pullback")


class Block(NamedTuple):
    """A block of events that is sampled at once, conditioned on one set of observations."""

    first: int
    last: int
    set_first: int
    set_last: int


def blocks(events: int, observed: int, set_size: int | str, block: int) -> Iterator[Block]:
    """Cut a family's first ``events`` into sets and blocks; the same whatever the number of parts.

    Args:
        events: number of events to infer.
        observed: number of observations; a set may contain more of them than are inferred.
        set_size: ``"all"``, or the most observations of one set (`conditioning_sets`).
        block: most events of a block.
    """
    for set_first, set_last in conditioning_sets(events, observed, set_size):
        for first in range(set_first, min(set_last, events), block):
            yield Block(first, min(first + block, set_last, events), set_first, set_last)


def infer(
    job: str,
    inputs: Inputs,
    out: Path,
    checkpoints: Path | None = None,
    code: str = "",
    limit: float | None = None,
    gpus: int = 0,
) -> None:
    """Write one part of one posterior.

    Args:
        job: `Plan.infer_job`.
        inputs: files.
        out: the part.
        checkpoints: folder for the finished blocks of a long inference; removed on success. None keeps nothing.
        code: digest of the code that this job runs.
        limit: minutes that a scheduler gives this job (`stopping.Clock`).
        gpus: number requested; one is used.

    Raises:
        DeviceError: the GPUs differ from those requested.
        Stopped: close to the limit, or on a signal; the same call goes on.
    """
    with opened(job, inputs, limit, gpus) as (plan, method, reader):
        finished = None
        if checkpoints is not None:
            record = record_of(plan, inputs, reader, code)
            finished = Finished(checkpoint_folder(Path(checkpoints), record, make=False), record)
        answer(
            method,
            reader,
            out,
            job,
            part=plan["part"],
            parts=plan["parts"],
            attributes={"returns": method.spec.label},
            finished=finished,
            states=load_states(inputs.state) if inputs.state else None,
        )


def answer(
    method: Method[Any],
    ensemble: EnsembleReader,
    out: Path,
    job: str,
    part: int = 0,
    parts: int = 1,
    attributes: dict[str, Any] | None = None,
    finished: Finished | None = None,
    states: States | None = None,
) -> None:
    """Condition a loaded method on an ensemble's sets and stream its draws for one part of the events to a file.

    Args:
        method: loaded, with the settings of the inference.
        ensemble: the observations.
        out: the part that is written.
        job: canonical JSON of the job, stored in the file.
        part, parts: which of how many parts of the events.
        attributes: more attributes of the file.
        finished: the blocks finished by an earlier attempt, and storage for new ones.
        states: of the ensemble's sets, where they were computed before. The first part carries their cost.

    Raises:
        Stopped: the method's context said so between two blocks; the finished ones are kept.
    """
    settings = method.settings
    events = min(ensemble.n, settings.max_events or ensemble.n)
    work = list(blocks(events, ensemble.n, settings.set_size, method.events_at_once(settings.draws)))
    mine = work[part * len(work) // parts : (part + 1) * len(work) // parts]
    log.info(
        "%s: events %d of %d, %d draws each, set size %s; part %d of %d has %d of %d blocks",
        *(ensemble.path, events, ensemble.n, settings.draws, settings.set_size),
        *(part + 1, parts, len(mine), len(work)),
    )
    if parts > len(work):
        log.warning(
            "%d of %d parts have nothing to do: give `parts: %d`, or smaller sets", parts - len(work), parts, len(work)
        )
    spent = CostMeter(method)
    sampler = Sampler(method, ensemble, states)
    longest = 0.0
    with PosteriorWriter(
        out,
        x=method.problem.x,
        draws=settings.draws,
        ensemble=ensemble,
        ensemble_name=str(ensemble.path),
        spec=job,
        attributes={**(attributes or {}), "observations": ensemble.n},
        acceptance=method.acceptance,
        resamples=method.resamples,
    ) as writer:
        for number, block in enumerate(method.context.progress(mine, len(mine), "infer")):
            if finished and (found := finished.get(number)):
                writer.append(*found)
                continue
            began = time.perf_counter()
            chunk, event_id = answered = sampler.sample(block)
            writer.append(chunk, event_id)
            longest = max(longest, time.perf_counter() - began)
            reason = method.context.stop(longest) if finished and number + 1 < len(mine) else None
            if finished and (finished.add(number, answered) or reason):
                finished.save(spent.since_last(), sampler.diagnostics)
            if reason:
                raise Stopped(f"after block {number + 1} of {len(mine)}", reason)
        before = finished.cost if finished else {}
        if states is not None and part == 0:
            before = add_cost(states.cost, before)
        cost = {**add_cost(before, spent.in_all()), "events": writer.n}
        if finished:
            merge(sampler.diagnostics, finished.diagnostics)
        writer.finish(cost, sampler.diagnostics, method.marginals)
    if finished:
        finished.remove()
    log.info("cost: %s", ", ".join(f"{key} {value:.4g}" for key, value in cost.items()))


class Sampler:
    """Samples blocks of an ensemble's events; the method is conditioned once for each set.

    Args:
        method: loaded, with the settings of the inference.
        ensemble: the observations.
        states: of a job that conditioned before; None where the method is conditioned here.

    Attributes:
        diagnostics: by name, of each set by its first event and of each block by its own.
    """

    def __init__(self, method: Method[Any], ensemble: Ensemble, states: States | None = None):
        self._method, self._ensemble, self._states = method, ensemble, states
        self._set: tuple[int, int] | None = None
        self._state: Any = None
        self.diagnostics: dict[str, dict[int, float]] = {}

    def sample(self, block: Block) -> Answer:
        """The draws of a block, those that are not finite marked as failed, and its events' numbers."""
        method, ensemble = self._method, self._ensemble
        if self._set != (block.set_first, block.set_last):
            self._set = (block.set_first, block.set_last)
            if self._states is None:
                self._state = method.condition(ensemble.window(*self._set))
            else:
                self._state = method.unpack(self._states.of(self._set))
            found = method.diagnostics(self._state).items()
            merge(self.diagnostics, {key: {block.set_first: float(value)} for key, value in found})
        event_id = ensemble.read("event_id", block.first, block.last)
        chunk = _checked(method.sample(self._state, ensemble.read("y", block.first, block.last), event_id))
        merge(self.diagnostics, {key: {block.first: float(v)} for key, v in chunk.diagnostics.items()})
        return Answer(chunk, event_id)


def _checked(chunk: PosteriorSamples) -> PosteriorSamples:
    """The chunk with a draw that is not finite marked as failed: it stays and counts. A weight may be zero."""
    finite = np.isfinite(chunk.x).reshape(*chunk.ok.shape, -1).all(axis=-1) & (chunk.log_weight < np.inf)
    ok = chunk.ok & finite
    if (lost := int((chunk.ok & ~finite).sum())) > 0:
        log.warning("%d draws are not finite: they count as failed", lost)
    x = np.where(ok.reshape(*ok.shape, *(1,) * (chunk.x.ndim - 2)), chunk.x, np.nan)
    return chunk._replace(x=x, log_weight=np.where(ok, chunk.log_weight, 0.0), ok=ok)
