"""Checks of ``pullback check`` for the problems of a study: outside files, waves, shifts, networks, draws."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
    """The files that a family's truth is made from: one draw of each split is made of them."""
    import numpy as np

    from pullback.problems.base import problem_of

    params = {split: plan.params(problem, name, split) for split in plan.splits(problem, name)}
    trained = {
        f"{other}/train": plan.params(problem, other, "train")
        for other in plan.seen_with(problem, "train")
        if other != name
    }
    # What is judged comes first.
    described = {split: params[split] for split in ("test", *params) if split in params} | trained
    try:
        made = problem_of(json.loads(plan.preflight_job(problem)))
        for of_split in params.values():
            made.sample_prior(np.random.default_rng(0), 1, of_split)
        review = made.describe(described) if hasattr(made, "describe") else None
    except (ValueError, OSError) as error:
        yield Finding(PROBLEM, of, str(error))
        return
    yield from (Finding(WARNING, of, warning) for warning in (review.warnings if review else ()))
    yield Finding(OK, of, review.summary if review else "one draw was made")


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
    """Settings that the first job would refuse: by a `review` without a simulation, or by the pre-flight itself."""
    for problem, made in _made(plan):
        try:
            if not hasattr(made, "review"):
                if hasattr(made, "preflight"):
                    made.preflight()
                continue
            found = made.review()
        except Exception as error:  # a user's own class may raise anything
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
            except Exception as error:  # a user's own class may raise anything
                yield Finding(PROBLEM, f"{problem}.{name}", str(error))


def _shared_priors(plan: Plan) -> Iterator[Finding]:
    """Whether x is the same in problems that share a prior."""
    made = dict(_made(plan))
    for problem, spec in plan.study.problems.items():
        for name, prior in spec.priors.items():
            if prior.of is None or not {problem, prior.of[0]} <= made.keys():
                continue
            here, there = made[problem].x, made[prior.of[0]].x
            for what in ("shape", "features", "units", "transforms"):
                if getattr(here, what) != getattr(there, what):
                    yield Finding(
                        PROBLEM,
                        f"{problem}.{name}",
                        f"x of problem '{prior.of[0]}' has {what} {getattr(there, what)}, and here "
                        f"{getattr(here, what)}: problems share a prior where x is the same; train one here",
                    )
                    break


def _read_files(plan: Plan, problem: str, name: str, of: str) -> Iterator[Finding]:
    """The first events of each file, beside the simulator and the seen families."""
    from itertools import zip_longest

    from pullback.core.optional import MissingExtraError
    from pullback.problems.base import problem_of
    from pullback.problems.check_files import MORE, Pairs
    from pullback.problems.read import fit_scale, valid_blocks
    from pullback.readers.base import OutsideFile, ReadError
    from pullback.study.model import family_entries, family_models

    family = plan.family(problem, name)
    assert family.read is not None
    try:
        made = problem_of(json.loads(plan.preflight_job(problem)))
    except Exception:  # The look at the problem tells of it.
        return
    yield from _same_content(plan, problem, name, of)
    pairs: list[Any] = []
    scale = 1.0
    if family.read.scale == "fit":
        try:
            scale = fit_scale(family.read, made, plan.fitted_pairs(problem, name))
            yield Finding(OK, of, f"y is multiplied by {scale:.6g}, fitted to its first pairs")
        except (ReadError, MissingExtraError, OSError) as error:
            yield Finding(PROBLEM, of, str(error))
            return
    for split in plan.splits(problem, name):
        for paths, model in zip_longest(family_entries(family, split), family_models(family, split)):
            path, *others = map(Path, paths)
            entries = family.read.entries.get(split)
            has_truth = family.role != "observed"
            of_entry = Path(model) if model else None
            file = OutsideFile(path, of_entry, 0, 0, split, has_truth, entries, tuple(others))
            try:
                with family.read.open(made, file) as events:
                    # Units and bounds show in the first events; to look at all would be to read them.
                    block = next(iter(valid_blocks(family.read, made, file, events, scale)), None)
                    if block is not None and len(block.pairs[0]) and len(pairs) <= MORE:
                        pairs.append(Pairs(str(path), *block.pairs))
                    yield Finding(OK, of, f"{path}: {events.summary}")
                    yield from (Finding(WARNING, of, warning) for warning in events.warnings)
            except (ReadError, MissingExtraError, OSError) as error:
                yield Finding(PROBLEM, of, str(error))
    if pairs:
        yield from _compared(plan, problem, name, of, made, pairs)


def _same_content(plan: Plan, problem: str, name: str, of: str) -> Iterator[Finding]:
    """Two files of a family with the same content: events that are trained on would be evaluated, or count twice."""
    from pullback.study.model import family_files

    family, seen = plan.family(problem, name), dict[str, tuple[str, str]]()
    for split in plan.splits(problem, name):
        for file in family_files(family, split):
            content = _sampled_digest(Path(file))
            if content is None:
                continue
            other = seen.setdefault(content, (split, file))
            if other[1] != file:
                where = f"{other[1]} ({other[0]}) and {file} ({split})"
                yield Finding(PROBLEM, of, f"{where} have the same content: name each file once, or use `entries`")


SAMPLES, SAMPLE_BYTES = 16, 64 * 1024
"""How much of a large file its digest is of: files of one size that agree there are one."""


def _sampled_digest(path: Path) -> str | None:
    """A digest of a file's size and of pieces all over it; None where it cannot be read."""
    import hashlib

    try:
        length = path.stat().st_size
        digest = hashlib.sha256(str(length).encode())
        with path.open("rb") as stream:
            for number in range(SAMPLES):
                stream.seek(number * max(length - SAMPLE_BYTES, 0) // (SAMPLES - 1))
                digest.update(stream.read(SAMPLE_BYTES))
    except OSError:
        return None
    return digest.hexdigest()


def _compared(plan: Plan, problem: str, name: str, of: str, made: Any, pairs: list[Any]) -> Iterator[Finding]:
    """First events of files beside the simulator and, unless trained on, a few events of the seen families."""
    from pullback.problems.check_files import look

    task = json.loads(plan.check_files_job(problem, name))
    try:
        seen = None if plan.family(problem, name).role == "seen" else _few_seen(plan, problem, made)
        found = look(made, task, pairs[0].y, pairs[0].x, seen, pairs[1:])
    except Exception as error:  # a user's own simulator may raise anything
        yield Finding(WARNING, of, f"its files cannot be compared with the simulator: {error}")
        return
    yield from (Finding(OK, of, line) for line in found.said)
    yield from (Finding(WARNING, of, line) for line in found.warnings)


SEEN_SECONDS = 2.0
"""Time for simulations of seen families that a family is compared with."""


def _few_seen(plan: Plan, problem: str, made: Any) -> Any:
    """Observations of the seen families (event, *y): from their files, or simulated here for some seconds."""
    import time

    import numpy as np

    from pullback.core.seeding import generator
    from pullback.ensembles.store import EnsembleReader, StoreError
    from pullback.problems.base import simulate
    from pullback.problems.traits import EVENTS, LEAST_EVENTS
    from pullback.study import paths
    from pullback.study.base import draw_parameters

    found, families = [], plan.seen_with(problem, "train")
    for family in families:
        path = Path(paths.ensemble(plan.study.study, problem, family, "train"))
        try:
            with EnsembleReader(path) as reader:
                found.append(reader.read("y", 0, min(EVENTS, reader.n)))
                continue
        except (StoreError, OSError):
            pass
        if plan.source(problem, family) != "simulate":
            continue
        began, rng = time.monotonic(), generator("check files", family)
        for _ in range(LEAST_EVENTS):
            x = np.asarray(made.sample_prior(rng, 1, draw_parameters(plan.params(problem, family, "train"), rng)))
            y, ok = simulate(made, x, rng)
            found.append(np.asarray(y)[np.asarray(ok, bool)])
            if time.monotonic() - began > SEEN_SECONDS / len(families):
                break
    return np.concatenate(found) if found else None


def _draws(plan: Plan) -> Iterator[Finding]:
    """Methods whose draws are too few for a point estimate, by whose errors answers on a grid are ranked."""
    from pullback.metrics.calibration import LEAST_DRAWS_POINT

    for problem, made in _made(plan):
        if made.x.is_vector:
            continue
        for name, method in plan.study.problems[problem].methods.items():
            most = max(infer.draws for infer in method.infer.values())
            if method.label != "point estimate" and most < LEAST_DRAWS_POINT:
                yield Finding(
                    WARNING,
                    f"{problem}.{name}",
                    f"{count(most, 'draw')} of an event at most: a median needs {LEAST_DRAWS_POINT} or more, "
                    "so that it is left out of tables of point estimates",
                )


def _other_forward(plan: Plan) -> Iterator[Finding]:
    """Methods that take the problem's own likelihood or simulator for observations of another forward process."""
    for problem, spec in plan.study.problems.items():
        for name, method in spec.methods.items():
            likelihood = "likelihood" in method.needs_either
            for infer, settings in method.infer.items():
                if not (likelihood or settings.uses_likelihood or method.needs & {"forward", "likelihood"}):
                    continue
                families = plan.study.infer_families(problem, name, infer)
                other = [family for family in families if not plan.family(problem, family).has_own_forward]
                if other:
                    yield Finding(
                        WARNING,
                        f"{problem}.{name}",
                        f"{infer} uses the problem's own forward process, and that of {', '.join(other)} is another: "
                        "its draws there mean nothing; leave them out by `families`, or say own_forward: true",
                    )


LOOKS = (_outside_files, _settings, _shifts, _networks, _shared_priors, _draws, _other_forward)
