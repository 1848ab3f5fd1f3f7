"""The job that makes one shard of an ensemble from a simulator."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from pullback.core.joblog import progress
from pullback.core.seeding import generator
from pullback.ensembles.fields import Field
from pullback.ensembles.store import EnsembleWriter
from pullback.problems import base
from pullback.problems.base import Problem, SimulationError, problem_of
from pullback.study.base import draw_parameters, numeric_parameters
from pullback.study.problem_kind import problem_kind

log = logging.getLogger("pullback")

MAX_ATTEMPTS = 100


def simulate(job: str, out: Path | str) -> None:
    """Simulate one shard: an integer number of blocks, each with its own generator.

    Args:
        job: `Plan.simulate_job`.
        out: the shard.

    Raises:
        SimulationError: a simulation failed although the problem does not redraw failures, or too many failed.
        StoreError: an event is not finite.
    """
    spec = json.loads(job)
    problem = problem_of(spec)
    block, first, left = spec["block"], spec["first_block"], spec["events"]
    # Options of an own problem may be blocks: of those only distributions are parameters.
    names = numeric_parameters(spec["params"])
    theta, offsets, failures = [], [0], 0
    attributes = {"problem": spec["problem"], "family": spec["family"], "split": spec["split"]}
    log.info("%s: %d events in blocks of %d, from block %d", "/".join(attributes.values()), left, block, first)
    reads_files = problem_kind(spec["kind"], spec.get("folder", ".")).parameter_files(spec["params"])
    if reads_files and hasattr(problem, "describe") and (review := problem.describe({spec["split"]: spec["params"]})):
        log.info("%s", review.summary)
        for warning in review.warnings:
            log.warning("%s", warning)
    with EnsembleWriter(out, x=problem.x, y=problem.y, spec=job, attributes=attributes) as writer:
        for index in progress(range(first, first + -(-left // block)), -(-left // block), "simulate"):
            address = (spec["seed"], spec["problem"], spec["family"], spec["split"], index)
            params = spec["params"]
            if spec["sweep"]:
                params = draw_parameters(params, generator(*address, "theta"))
                theta.append([params[name] for name in names])
            n = min(block, left - offsets[-1])
            x, y, failed = _simulate_block(problem, address, n, params)
            event_id = np.arange(index * block, index * block + n)
            # Events of one ensemble of a sweep share their prior: the ensemble is what a bootstrap may resample.
            writer.append(y, event_id, x=x, group=np.full(n, index) if spec["sweep"] else None)
            offsets.append(offsets[-1] + n)
            failures += failed
        if spec["sweep"]:
            writer.ensembles(np.array(offsets), np.array(theta, float), names)
        if failures:
            writer.note("failed_simulations", failures)
            log.warning("%d simulations failed and were drawn again: the prior is conditional on success", failures)


def _simulate_block(
    problem: Problem, address: tuple[str | int, ...], n: int, params: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, int]:
    rng = generator(*address)
    x = np.asarray(problem.sample_prior(rng, n, params))
    y, ok = base.simulate(problem, x, rng)
    y, ok = np.array(y), np.array(ok, bool)
    for name, array, field in (("x", x, problem.x), ("y", y, problem.y)):
        _check_shape(name, array, field, n)
    if ok.shape != (n,):
        raise SimulationError(f"the simulator said of {ok.shape} events whether they succeeded, wanted {(n,)}")
    failures = int((~ok).sum())
    if failures and problem.fail != "redraw":
        raise SimulationError(
            f"{failures} of {n} simulations failed in block {address}, the first at its event {int(np.argmin(ok))}. "
            "Change the prior or the simulator, or let the problem say fail = 'redraw'"
        )
    for attempt in range(1, MAX_ATTEMPTS + 1):
        if ok.all():
            return x, y, failures
        again = generator(*address, "attempt", attempt)
        rows = np.flatnonzero(~ok)
        x[rows] = problem.sample_prior(again, len(rows), params)
        y[rows], success = base.simulate(problem, x[rows], again)
        ok[rows] = success
        failures += int((~ok[rows]).sum())
    raise SimulationError(
        f"{int((~ok).sum())} of {n} simulations still fail after {MAX_ATTEMPTS} draws in block {address}"
    )


def _check_shape(name: str, array: np.ndarray, field: Field, n: int) -> None:
    if array.shape != (n, *field.shape):
        raise SimulationError(f"the simulator gave {name} with shape {array.shape}, wanted {(n, *field.shape)}")
