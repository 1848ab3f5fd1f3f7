"""What the rule `infer` calls: one part of one family's observations, answered by one method, streamed to a file."""

import json
import logging
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pullback.ensembles.leftovers import refuse_leftovers
from pullback.ensembles.store import EnsembleReader, PosteriorWriter
from pullback.joblog import progress
from pullback.methods.base import Chunk, Context, Method
from pullback.methods.classical.oracle import Oracle
from pullback.methods.run import method_spec
from pullback.problems.base import make_problem
from pullback.study.base import Closed
from pullback.study.methods import Infer
from pullback.study.plugins import load_class

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
        set_size: ``"whole"``, or observations of one set; the remainder is a set of its own.
        block: most events of a piece.
    """
    size = observed if set_size == "whole" else int(set_size)
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
) -> None:
    """Write one part of one posterior.

    Args:
        job: `Plan.infer_job`.
        ensemble: index of the family's test split.
        out: the part.
        artifact: the trained model, for methods that train.
        prior: the diffusion prior, for methods that use one.
        seen: train indices of the seen families, for methods that answer from them.
    """
    plan = json.loads(job)
    refuse_leftovers(plan, ensemble=[ensemble], seen=seen)
    refuse_leftovers(plan, _asked_of_artifact, artifact=[artifact] if artifact else [], prior=[prior] if prior else [])
    problem = make_problem(plan["problem"]["kind"], plan["problem"]["simulator"], plan["problem"].get("folder", "."))
    spec = method_spec(plan["method"])
    settings = infer_settings(spec, plan["infer"])
    address = (*plan["address"], plan["infer_name"], plan["family"])
    context = Context(address, plan["threads"], plan["accelerator"], progress)
    method = load_class(spec.code)(spec, problem, context)  # type: ignore[attr-defined]
    method.load(artifact, prior, list(seen))
    if isinstance(method, Oracle):
        method.tell(plan["params"])
    with EnsembleReader(ensemble) as reader:
        attributes = {"returns": spec.returns}  # type: ignore[attr-defined]
        answer(method, settings, reader, out, job, part=plan["part"], parts=plan["parts"], attributes=attributes)


def answer(
    method: Method[Any],
    settings: Infer,
    ensemble: EnsembleReader,
    out: Path,
    job: str,
    part: int = 0,
    parts: int = 1,
    attributes: dict[str, Any] | None = None,
) -> None:
    """Condition a loaded method on an ensemble's sets and stream its draws for one part of the events to a file.

    Args:
        method: loaded.
        settings: of the inference.
        ensemble: the observations.
        out: the part that is written.
        job: canonical JSON of what was asked, kept in the file.
        part, parts: which of how many pieces of the events.
        attributes: more attributes of the file.
    """
    started = time.perf_counter()
    events = min(ensemble.n, settings.max_events or ensemble.n)
    work = list(pieces(events, ensemble.n, settings.set_size, method.block))
    mine = work[part * len(work) // parts : (part + 1) * len(work) // parts]
    log.info(
        "%s: events %d of %d, %d draws each, set size %s; part %d of %d has %d of %d pieces",
        *(ensemble.path, events, ensemble.n, settings.draws, settings.set_size),
        *(part + 1, parts, len(mine), len(work)),
    )
    diagnostics: dict[str, list[float]] = {}
    conditioned, state = None, None
    with PosteriorWriter(
        out,
        x=method.problem.x,
        draws=settings.draws,
        ensemble=ensemble,
        ensemble_name=str(ensemble.path),
        spec=job,
        attributes={**(attributes or {}), "observations": ensemble.n},
    ) as writer:
        for piece in method.context.progress(mine, len(mine), "infer"):
            if conditioned != (piece.set_first, piece.set_last):
                conditioned = (piece.set_first, piece.set_last)
                state = method.condition(ensemble.window(*conditioned), settings)
                for key, value in method.diagnostics(state).items():
                    diagnostics.setdefault(key, []).append(float(value))
            event_id = ensemble.read("event_id", piece.first, piece.last)
            chunk = method.draw(state, ensemble.read("y", piece.first, piece.last), event_id, settings)
            writer.append(_checked(chunk), event_id)
        cost = {
            "seconds": time.perf_counter() - started,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "events": writer.n,
            **asdict(method.cost),
        }
        # Each number is of one set; the part's is their median.
        writer.finish(cost, {key: float(np.median(values)) for key, values in diagnostics.items()})
    log.info("cost: %s", ", ".join(f"{key} {value:.4g}" for key, value in cost.items()))


def _asked_of_artifact(path: Path) -> str | None:
    from pullback.generative.checkpoint import load_artifact

    return load_artifact(path)[1].get("asked")


def infer_settings(spec: Closed, values: dict[str, Any]) -> Infer:
    """The settings of an inference from their plain values, as the method's kind knows them."""
    blocks = type(spec).model_fields["infer"].annotation
    model: type[Infer] = blocks.__args__[1]  # type: ignore[union-attr]
    return model.model_validate(values)


def _checked(chunk: Chunk) -> Chunk:
    """The chunk with a draw that is not finite marked as failed: it stays and counts."""
    finite = np.isfinite(chunk.x).reshape(*chunk.ok.shape, -1).all(axis=-1) & np.isfinite(chunk.log_weight)
    ok = chunk.ok & finite
    if (lost := int((chunk.ok & ~finite).sum())) > 0:
        log.warning("%d draws are not finite: they count as failed", lost)
    x = np.where(ok.reshape(*ok.shape, *(1,) * (chunk.x.ndim - 2)), chunk.x, np.nan)
    return Chunk(x, np.where(ok, chunk.log_weight, 0.0), ok)
