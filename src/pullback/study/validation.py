"""What its types cannot say of a study: names that lead nowhere, families that cannot be made as asked."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pullback.study import figures as study_figures
from pullback.study.base import Capability, Uniform, did_you_mean, is_distribution
from pullback.study.families import READERS, Family, NoiseShift, ScaleShift, SimulatorShift
from pullback.study.method_validation import (
    _evaluation_messages,
    method_errors,
    shape_errors,
)
from pullback.study.model import Problem, Study
from pullback.study.plugins import problem_class, reader_class, with_reader
from pullback.study.problems import BUILT_IN_PROBLEMS, CustomProblem, FwiProblem
from pullback.study.waves import FwiParams


def errors(study: Study, folder: Path) -> Iterator[str]:
    """One line for each thing that is wrong; ``folder`` is that of the study's file."""
    for name, problem in study.problems.items():
        at = f"problems.{name}"
        gives: frozenset[Capability]
        if isinstance(problem, CustomProblem):
            try:
                made = problem_class(problem.kind, folder)
                gives, reads = frozenset(made.gives), frozenset(getattr(made, "reads", ()))
            except Exception as error:  # The user's own file may raise anything.
                hint = did_you_mean(problem.kind, BUILT_IN_PROBLEMS)
                known = ", ".join(BUILT_IN_PROBLEMS)
                yield f"{at}.kind: '{problem.kind}' cannot be loaded ({error}){hint} Built in: {known}."
                continue
        else:
            gives, reads = problem.gives, problem.reads
        yield from _family_errors(at, problem, reads, folder)
        yield from method_errors(at, problem, gives, study.seen(name))
        yield from shape_errors(at, problem)
        yield from _evaluation_messages(at, problem, gives)
    yield from study_figures.errors(study.figures, study.problems)


def _family_errors(at: str, problem: Problem, reads: frozenset[str], folder: Path) -> Iterator[str]:
    families = problem.families
    params_model = problem.Params
    for name, family in families.items():
        here = f"{at}.families.{name}"
        for key, base in (("events_from", family.events_from), ("fallback", family.fallback)):
            if base is None:
                continue
            if base not in families:
                hint = did_you_mean(base, families)
                yield f"{here}.{key}: there is no family '{base}'{hint}"
            elif base == name or (key == "fallback" and families[base].fallback):
                yield f"{here}.{key}: '{base}' may not be there either: name a family that is always made"
            elif "test" not in families[base].splits or families[base].events_from:
                yield f"{here}.{key}: '{base}' has no test events of its own"
        if isinstance(family.shift, SimulatorShift):
            yield from _change_errors(here, problem, family)
        if family.read:
            yield from _read_errors(f"{here}.read", problem, family, reads, folder)
        if family.read and "test" not in family.read.files:
            yield f"{here}.read.files: there is no test, and a family in the role '{family.role}' is judged on it"
        if family.read and family.role == "seen":
            learns = problem.priors or problem.likelihoods or any(m.trains for m in problem.methods.values())
            for split in ("train", *(("validation",) if learns else ())):
                if split not in family.read.files:
                    yield f"{here}.read.files: there is no {split}, and a family in the role 'seen' is trained on"
        if problem.kind == "unfolding" and isinstance(family.shift, NoiseShift):
            yield f"{here}.shift: noise has one size for all of y, and jets have GeV and radians: scale a `feature`"
        if problem.kind == "unfolding" and isinstance(family.shift, ScaleShift) and family.shift.feature is None:
            yield f"{here}.shift: a factor on all of y would stretch angles too: name the `feature`"
        if problem.kind == "digits" and isinstance(family.shift, NoiseShift):
            yield (
                f"{here}.shift: noise would fall on lost pixels too, whose exact 0 says that they are lost: use "
                "{kind: simulator, change: {noise_variance: ...}}"
            )
        if family.events_from or family.read:
            continue
        try:
            if params_model is None:
                checked: Iterable[tuple[str, Any]] = _own_parameters(family.params)
            else:
                checked = params_model.model_validate(family.params)
        except ValidationError as error:
            yield from _option_errors(f"{here}.params", params_model or Uniform, error)
            continue
        yield from _layer_errors(here, problem, checked)
        distributed = [key for key, value in checked if isinstance(value, Uniform)]
        if distributed and not family.sweep:
            yield f"{here}.params.{distributed[0]}: a distribution of priors needs a `sweep` block"
        if family.sweep and not distributed:
            yield f"{here}.sweep: no parameter is a distribution, such as {{uniform: [low, high]}}"
    yield from _twice(at, families)


def _layer_errors(here: str, problem: Problem, params: Any) -> Iterator[str]:
    """Made-up geology has as many layers as the nodes of x can hold."""
    if not (isinstance(problem, FwiProblem) and isinstance(params, FwiParams)) or params.geology == "tiles":
        return
    nodes = (problem.simulator.x_cells or problem.simulator.shape)[0]
    if params.layers[1] > nodes // 2:
        yield (
            f"{here}.params.layers: x has {nodes} nodes of depth, which hold {nodes // 2} layers, found at most "
            f"{params.layers[1]}: take fewer, or more nodes"
        )


def _read_errors(here: str, problem: Problem, family: Family, reads: frozenset[str], folder: Path) -> Iterator[str]:
    """Whether files can be read, hold events of this problem, and fit its settings."""
    assert family.read is not None
    kind = family.read.kind
    try:
        read = with_reader(family, folder).read
    except ValidationError as error:
        yield from _option_errors(here, reader_class(kind, folder), error)
        return
    except Exception as error:  # The user's own file may raise anything.
        known = ", ".join(READERS)
        yield f"{here}.kind: '{kind}' cannot be loaded ({error}){did_you_mean(kind, READERS)} Built in: {known}."
        return
    assert read is not None
    if family.role != "observed" and not read.has_truth:
        yield f"{here}.{read.truth}: it names the truth and is not there: without it the role is 'observed'"
    if read.records in reads:
        yield from (f"{here}.{message}" for message in read.check(problem))
    else:
        takes = f"takes {', '.join(sorted(reads))}" if reads else "is not read from files"
        yield f"{here}.kind: '{kind}' reads {read.records}, and a problem of kind '{problem.kind}' {takes}"


def _own_parameters(params: dict[str, Any]) -> list[tuple[str, Any]]:
    """Parameters of a user's own problem, of which only distributions are known here."""
    return [
        (name, Uniform.model_validate(value) if is_distribution(value) else value) for name, value in params.items()
    ]


def _change_errors(here: str, problem: Problem, family: Family) -> Iterator[str]:
    """A shift that simulates again changes settings that there are, of a simulator that is run."""
    assert isinstance(family.shift, SimulatorShift)
    base = problem.families.get(family.events_from) if family.events_from else None
    if base is not None and base.read is not None:
        yield f"{here}.shift: '{family.events_from}' is read from files: there is no simulation to change"  # type: ignore[union-attr]
    if problem.kind == "unfolding" or "simulator" not in type(problem).model_fields:
        yield f"{here}.shift: problems of kind '{problem.kind}' cannot be simulated again from their truth"
        return
    if isinstance(problem.simulator, dict):
        return
    if "preset" in family.shift.change:
        yield f"{here}.shift.change.preset: a preset fills what is not given, and all is given: name what changes"
    settings = type(problem.simulator)
    try:
        changed = settings.model_validate({**problem.simulator.model_dump(), **family.shift.change})
    except ValidationError as error:
        yield from _option_errors(f"{here}.shift.change", settings, error)
        return
    if getattr(changed, "wavelet", None) and "peak_frequency" in family.shift.change:
        yield f"{here}.shift.change.peak_frequency: it says nothing where there is a `wavelet`: change that, or to null"
    elif changed == problem.simulator:
        yield f"{here}.shift.change: all is as the problem has it: name what differs"


def _option_errors(here: str, model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    """One line for each option of a model that is not right, with what is allowed beside an unknown one."""
    for item in error.errors(include_url=False):
        path = [str(part) for part in item["loc"]]
        known: type[BaseModel] | None = model
        for part in path[:-1]:
            known = _block(known, part) if known else None
        # A path through a union holds names of types, which are in no file.
        key, known = (".".join(path), known) if known else (path[0], model)
        hint = did_you_mean(path[-1], known.model_fields) if path and item["type"] == "extra_forbidden" else ""
        message = item["msg"].removeprefix("Value error, ")
        yield f"{here}{'.' if key else ''}{key}: {message}{hint} (allowed: {', '.join(known.model_fields)})"


def _block(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The model of a block of options inside another."""
    field = model.model_fields.get(key)
    kinds = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _twice(at: str, families: dict[str, Family]) -> Iterator[str]:
    """A prior that is trained on cannot also be the unseen one that judges."""
    seen = {repr(sorted(f.params.items())): n for n, f in families.items() if f.role == "seen" and not f.read}
    for name, family in families.items():
        key = repr(sorted(family.params.items()))
        if family.role == "unseen" and not family.events_from and not family.read and key in seen:
            yield (
                f"{at}.families.{name}: the same prior is seen as '{seen[key]}' and unseen here; a seen family has "
                "its own test split, so leave this one out or change its params"
            )
