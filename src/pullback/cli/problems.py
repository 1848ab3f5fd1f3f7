"""Checks of ``pullback check`` for the problems of a study: outside files, waves, shifts, networks, draws."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pullback.cli.common import count

if TYPE_CHECKING:
    from pullback.problems.base import Problem
    from pullback.study.job_params import Plan

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    """One line of the output: status, subject, remedy."""

    level: str
    of: str
    says: str


def _outside_files(plan: Plan) -> Iterator[Finding]:
    from pullback.study.model import parameter_files

    for problem, spec in plan.study.problems.items():
        for name, family in spec.families.items():
            if family.read is None and not parameter_files(spec, family):
                continue
            of = f"{problem}.{name}"
            if plan.source(problem, name) == "derive":
                yield Finding(
                    WARNING,
                    of,
                    f"the outside files are not all there, events of '{plan.base(problem, name)}' take their place: "
                    "set PULLBACK_DATA to the folder that has them",
                )
                continue
            look = _section if family.read is None else _read_files
            yield from look(plan, problem, name, of)


def _section(plan: Plan, problem: str, name: str, of: str) -> Iterator[Finding]:
    """The files that a family's truth is made from: one draw is made of them."""
    import numpy as np

    from pullback.problems.base import problem_of

    params = plan.family(problem, name).params
    try:
        made = problem_of(json.loads(plan.preflight_job(problem)))
        made.sample_prior(np.random.default_rng(0), 1, params)
        yield Finding(OK, of, made.describe(params) if hasattr(made, "describe") else "one draw was made")
    except (ValueError, OSError) as error:
        yield Finding(PROBLEM, of, str(error))


def _made(plan: Plan) -> Iterator[tuple[str, Problem]]:
    """The problems that can be made, by name; of the others the look at the disk tells."""
    from pullback.problems.base import problem_of

    for name in plan.study.problems:
        try:
            made = problem_of(json.loads(plan.preflight_job(name)))
        except Exception:  # a user's own class may raise anything
            continue
        yield name, made


def _settings(plan: Plan) -> Iterator[Finding]:
    """Settings that the first job would refuse, of simulators that can check them without a simulation."""
    for problem, made in _made(plan):
        if not hasattr(made, "review"):
            continue
        try:
            found = made.review()
        except ValueError as error:
            yield Finding(PROBLEM, problem, str(error))
            continue
        yield from (Finding(WARNING, problem, warning) for warning in found.warnings)
        yield Finding(OK, problem, found.summary)


def _shifts(plan: Plan) -> Iterator[Finding]:
    """Whether shifts are of this y, and whether its truth can be simulated with other settings."""
    from pullback.problems.derive import Resimulation, check_shift
    from pullback.study.shifts import SimulatorShift

    for problem, made in _made(plan):
        for name, family in plan.study.problems[problem].families.items():
            if family.shift is None:
                continue
            try:
                if not isinstance(family.shift, SimulatorShift):
                    check_shift(family.shift, made.y)
                    continue
                again = Resimulation(json.loads(plan.derive_job(problem, name)), family.shift.change).problem
                if not hasattr(again, "review"):
                    continue
                # What is true of the problem itself is said there.
                known = made.review().warnings  # type: ignore[attr-defined]
                for warning in (new for new in again.review().warnings if new not in known):
                    yield Finding(WARNING, f"{problem}.{name}", f"shift: {warning}")
            except Exception as error:  # a user's own class may raise anything
                yield Finding(PROBLEM, f"{problem}.{name}", str(error))


def _networks(plan: Plan) -> Iterator[Finding]:
    """Whether what learns can take truths and observations as they are; networks are built without memory."""
    if find_spec("torch") is None:
        return
    for problem, made in _made(plan):
        spec = plan.study.problems[problem]
        for name, learner in (*spec.priors.items(), *spec.likelihoods.items(), *spec.methods.items()):
            try:
                learner.check_fields(made.x, made.y)
            except ValueError as error:
                yield Finding(PROBLEM, f"{problem}.{name}", str(error))


def _read_files(plan: Plan, problem: str, name: str, of: str) -> Iterator[Finding]:
    from itertools import zip_longest

    from pullback.core.optional import MissingExtraError
    from pullback.problems.base import problem_of
    from pullback.readers.base import OutsideFile, ReadError
    from pullback.study.model import family_files, family_models

    family = plan.family(problem, name)
    assert family.read is not None
    try:
        made = problem_of(json.loads(plan.preflight_job(problem)))
    except Exception:  # The look at the problem tells of it.
        return
    for split in plan.splits(problem, name):
        for path, model in zip_longest(family_files(family, split), family_models(family, split)):
            file = OutsideFile(Path(path), Path(model) if model else None, has_truth=family.role != "observed")
            try:
                with family.read.open(made, file) as events:
                    # Units and bounds show in the first events; to look at all would be to read them.
                    next(iter(events.blocks), None)
                    yield Finding(OK, of, f"{path}: {events.summary}")
            except (ReadError, MissingExtraError, OSError) as error:
                yield Finding(PROBLEM, of, str(error))


def _draws(plan: Plan) -> Iterator[Finding]:
    """Methods whose draws are too few for a point estimate, by whose errors answers on a grid are ranked."""
    from pullback.metrics.calibration import LEAST_DRAWS_POINT

    for problem, made in _made(plan):
        if made.x.is_vector:
            continue
        for name, method in plan.study.problems[problem].methods.items():
            most = max(infer.draws for infer in method.infer.values())
            if method.returns != "point estimate" and most < LEAST_DRAWS_POINT:
                yield Finding(
                    WARNING,
                    f"{problem}.{name}",
                    f"{count(most, 'draw')} of an event at most: a median needs {LEAST_DRAWS_POINT} or more, "
                    "so that it is left out of tables of point estimates",
                )


LOOKS = (_outside_files, _settings, _shifts, _networks, _draws)
