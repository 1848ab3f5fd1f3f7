"""What the rule `infer` calls: one part of one family's observations, answered by one method, streamed to a file."""

import json
import logging
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pullback.ensembles.store import EnsembleReader, PosteriorWriter
from pullback.joblog import progress
from pullback.methods.base import Chunk, Context
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
    job: str, ensemble: Path, out: Path, artifact: Path | None = None, prior: Path | None = None, seen: list[Path] = []
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
    started = time.perf_counter()
    problem = make_problem(plan["problem"]["kind"], plan["problem"]["simulator"], plan["problem"].get("folder", "."))
    spec = method_spec(plan["method"])
    settings = infer_settings(spec, plan["infer"])
    address = (*plan["address"], plan["infer_name"], plan["family"])
    context = Context(address, plan["threads"], plan["accelerator"], progress)
    method = load_class(spec.code)(spec, problem, context)  # type: ignore[attr-defined]
    method.load(artifact, prior, seen)
    if isinstance(method, Oracle):
        method.tell(plan["params"])
    with EnsembleReader(ensemble) as reader:
        events = min(reader.n, settings.max_events or reader.n)
        work = list(pieces(events, reader.n, settings.set_size, method.block))
        mine = work[plan["part"] * len(work) // plan["parts"] : (plan["part"] + 1) * len(work) // plan["parts"]]
        log.info(
            "%s on %s: events %d of %d, %d draws each, set size %s; part %d of %d has %d of %d pieces",
            *(plan["address"][2], plan["family"], events, reader.n, settings.draws, settings.set_size),
            *(plan["part"] + 1, plan["parts"], len(mine), len(work)),
        )
        attributes = {"observations": reader.n, "returns": spec.returns}  # type: ignore[attr-defined]
        name = str(ensemble)
        diagnostics: dict[str, list[float]] = {}
        with PosteriorWriter(
            out, x=problem.x, draws=settings.draws, ensemble=reader, ensemble_name=name, spec=job, attributes=attributes
        ) as writer:
            conditioned, state = None, None
            for piece in progress(mine, len(mine), f"infer {plan['family']}"):
                if conditioned != (piece.set_first, piece.set_last):
                    conditioned = (piece.set_first, piece.set_last)
                    state = method.condition(reader.window(*conditioned), settings)
                    for key, value in method.diagnostics(state).items():
                        diagnostics.setdefault(key, []).append(float(value))
                event_id = reader.read("event_id", piece.first, piece.last)
                chunk = method.draw(state, reader.read("y", piece.first, piece.last), event_id, settings)
                writer.append(_checked(chunk), event_id)
            cost = {
                "seconds": time.perf_counter() - started,
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "events": writer._events.n,
                **asdict(method.cost),
            }
            # Over the sets of this part: the median, as each is a number of one set.
            writer.finish(cost, {key: float(np.median(values)) for key, values in diagnostics.items()})
    log.info("cost: %s", ", ".join(f"{key} {value:.4g}" for key, value in cost.items()))


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
