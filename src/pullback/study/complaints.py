"""What its types cannot say of a study: names that lead nowhere, methods that a problem cannot serve."""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pullback.study import figures as study_figures
from pullback.study import methods as method_kinds
from pullback.study.base import Capability, Uniform, is_distribution
from pullback.study.inference import Refine
from pullback.study.learning import InversionNet, Moments, Unet
from pullback.study.model import Problem, Study, resolve_otherwise
from pullback.study.plugins import problem_class
from pullback.study.problems import (
    BUILT_IN_PROBLEMS,
    CustomProblem,
    Family,
    FwiProblem,
    NoiseShift,
    RootFiles,
    ScaleShift,
    SimulatorShift,
    UnfoldingProblem,
)
from pullback.study.waves import FwiParams, WaveFiles


def complaints(study: Study, folder: Path) -> Iterator[str]:
    """One line for each thing that is wrong; ``folder`` is that of the study's file."""
    for name, problem in study.problems.items():
        at = f"problems.{name}"
        gives: frozenset[Capability]
        if isinstance(problem, CustomProblem):
            try:
                gives = frozenset(problem_class(problem.kind, folder).gives)
            except Exception as error:  # The user's own file may raise anything.
                near = difflib.get_close_matches(problem.kind, BUILT_IN_PROBLEMS, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                known = ", ".join(BUILT_IN_PROBLEMS)
                yield f"{at}.kind: '{problem.kind}' cannot be loaded ({error}){hint} Built in: {known}."
                continue
        else:
            gives = problem.gives
        yield from _family_complaints(at, problem)
        yield from _method_complaints(at, problem, gives, study.seen(name))
        yield from _shape_complaints(at, problem)
        yield from _judging_complaints(at, problem, gives)
    yield from study_figures.complaints(study.figures, study.problems)


def _family_complaints(at: str, problem: Problem) -> Iterator[str]:
    families = problem.families
    params_model = problem.Params
    for name, family in families.items():
        here = f"{at}.families.{name}"
        for key, take in (("take", family.take), ("otherwise", family.otherwise)):
            if take is None:
                continue
            if take.family not in families:
                near = difflib.get_close_matches(take.family, families, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                yield f"{here}.{key}.family: there is no family '{take.family}'{hint}"
            elif take.family == name or (key == "otherwise" and families[take.family].otherwise):
                yield f"{here}.{key}.family: '{take.family}' may not be there either: name a family that is always made"
            elif "test" not in families[take.family].splits or families[take.family].take:
                yield f"{here}.{key}.family: '{take.family}' has no test events of its own"
        if isinstance(family.shift, SimulatorShift):
            yield from _change_complaints(here, problem, family)
        if isinstance(family.read, RootFiles) and problem.kind != "unfolding":
            yield f"{here}.read: ROOT files are read by problems of kind 'unfolding' only"
        if isinstance(family.read, WaveFiles) and problem.kind != "fwi":
            yield f"{here}.read: files of kind '{family.read.kind}' are read by problems of kind 'fwi' only"
        if family.read and "test" not in family.read.files:
            yield f"{here}.read.files: there is no test, and a family in the role '{family.role}' is judged on it"
        if family.read and family.role == "seen":
            learns = problem.priors or problem.likelihoods or any(m.trains for m in problem.methods.values())
            for split in ("train", *(("validation",) if learns else ())):
                if split not in family.read.files:
                    yield f"{here}.read.files: there is no {split}, and a family in the role 'seen' is trained on"
        if isinstance(problem, UnfoldingProblem) and isinstance(family.read, RootFiles):
            yield from _cut_complaints(here, problem, family.read)
        if problem.kind == "unfolding" and isinstance(family.shift, NoiseShift):
            yield f"{here}.shift: noise has one size for all of y, and jets have GeV and radians: scale a `feature`"
        if problem.kind == "unfolding" and isinstance(family.shift, ScaleShift) and family.shift.feature is None:
            yield f"{here}.shift: a factor on all of y would stretch angles too: name the `feature`"
        if problem.kind == "digits" and isinstance(family.shift, NoiseShift):
            yield (
                f"{here}.shift: noise would fall on lost pixels too, whose exact 0 says that they are lost: use "
                "{kind: simulator, change: {noise_variance: ...}}"
            )
        if family.take or family.read:
            continue
        try:
            if params_model is None:
                checked: Iterable[tuple[str, Any]] = _own_parameters(family.params)
            else:
                checked = params_model.model_validate(family.params)
        except ValidationError as error:
            yield from _option_complaints(f"{here}.params", params_model or Uniform, error)
            continue
        yield from _layer_complaints(here, problem, checked)
        distributed = [key for key, value in checked if isinstance(value, Uniform)]
        if distributed and not family.sweep:
            yield f"{here}.params.{distributed[0]}: a distribution of priors needs a `sweep` block"
        if family.sweep and not distributed:
            yield f"{here}.sweep: no parameter is a distribution, such as {{uniform: [low, high]}}"
    yield from _twice(at, families)


def _layer_complaints(here: str, problem: Problem, params: Any) -> Iterator[str]:
    """Made-up geology has as many layers as the nodes of x can hold."""
    if not (isinstance(problem, FwiProblem) and isinstance(params, FwiParams)) or params.geology == "tiles":
        return
    nodes = (problem.simulator.x_cells or problem.simulator.shape)[0]
    if params.layers[1] > nodes // 2:
        yield (
            f"{here}.params.layers: x has {nodes} nodes of depth, which hold {nodes // 2} layers, found at most "
            f"{params.layers[1]}: take fewer, or more nodes"
        )


def _cut_complaints(here: str, problem: UnfoldingProblem, read: RootFiles) -> Iterator[str]:
    """Of jets that pass different cuts p(y|x) differs, and what a family is answered with would not be its own."""
    wanted = problem.simulator.reco_pt_min
    if read.y_pt_min != wanted:
        yield (
            f"{here}.read.y_pt_min: found {read.y_pt_min:g} GeV, and p(y|x) of this problem is that of jets from "
            f"{wanted:g} GeV on: give every family and `simulator.reco_pt_min` the same cut"
        )


def _own_parameters(params: dict[str, Any]) -> list[tuple[str, Any]]:
    """Parameters of a user's own problem, of which only distributions are known here."""
    return [
        (name, Uniform.model_validate(value) if is_distribution(value) else value) for name, value in params.items()
    ]


def _change_complaints(here: str, problem: Problem, family: Family) -> Iterator[str]:
    """A shift that simulates again changes settings that there are, of a simulator that is run."""
    assert isinstance(family.shift, SimulatorShift)
    base = problem.families.get(family.take.family) if family.take else None
    if base is not None and base.read is not None:
        yield f"{here}.shift: '{family.take.family}' is read from files: there is no simulation to change"  # type: ignore[union-attr]
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
        yield from _option_complaints(f"{here}.shift.change", settings, error)
        return
    if getattr(changed, "wavelet", None) and "peak_frequency" in family.shift.change:
        yield f"{here}.shift.change.peak_frequency: it says nothing where there is a `wavelet`: change that, or to null"
    elif changed == problem.simulator:
        yield f"{here}.shift.change: all is as the problem has it: name what differs"


def _option_complaints(here: str, model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    """One line for each option of a model that is not right, with what is allowed beside an unknown one."""
    for item in error.errors(include_url=False):
        path = [str(part) for part in item["loc"]]
        known: type[BaseModel] | None = model
        for part in path[:-1]:
            known = _block(known, part) if known else None
        # A path through a union holds names of types, which are in no file.
        key, known = (".".join(path), known) if known else (path[0], model)
        near = difflib.get_close_matches(path[-1], known.model_fields, n=1) if path else []
        hint = f"; did you mean '{near[0]}'?" if item["type"] == "extra_forbidden" and near else ""
        message = item["msg"].removeprefix("Value error, ")
        yield f"{here}{'.' if key else ''}{key}: {message}{hint} (allowed: {', '.join(known.model_fields)})"


def _block(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The model of a block of options inside another."""
    field = model.model_fields.get(key)
    kinds = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def answers_from_reference(method: method_kinds.MethodBase, gives: frozenset[Capability]) -> bool:
    """Whether the independent truth of the family that is answered stands for its prior."""
    return "likelihood" in method.needs_either and "exact-posterior" not in gives


def _has_reference(problem: Problem, name: str) -> bool:
    """Whether a judged family, or the one that it is taken from, has an independent truth."""
    take = resolve_otherwise(problem.families[name]).take if name in problem.families else None
    base = problem.families.get(take.family if take else name)
    return base is None or ("reference" in base.splits and (base.read is None or "reference" in base.read.files))


def _reference_complaints(here: str, problem: Problem, method: method_kinds.Method, judged: list[str]) -> Iterator[str]:
    for infer_name, infer in method.infer.items():
        for name in judged if infer.families is None else infer.families:
            if not _has_reference(problem, name):
                yield (
                    f"{here}.infer.{infer_name}: '{method.kind}' answers from the reference split, and '{name}' has "
                    "none here: list the families that have one in `families`"
                )


def _twice(at: str, families: dict[str, Family]) -> Iterator[str]:
    """A prior that is trained on cannot also be the unseen one that judges."""
    seen = {repr(sorted(f.params.items())): n for n, f in families.items() if f.role == "seen" and not f.read}
    for name, family in families.items():
        key = repr(sorted(family.params.items()))
        if family.role == "unseen" and not family.take and not family.read and key in seen:
            yield (
                f"{at}.families.{name}: the same prior is seen as '{seen[key]}' and unseen here; a seen family has "
                "its own test split, so leave this one out or change its params"
            )


def _judging_complaints(at: str, problem: Problem, gives: frozenset[Capability]) -> Iterator[str]:
    for key in ("exact_events", "c2st_events"):
        if getattr(problem.judging, key) and not gives & {"exact-posterior", "likelihood"}:
            yield (
                f"{at}.judging.{key}: compares with the exact posterior, and problem kind '{problem.kind}' gives "
                f"{', '.join(sorted(gives))}; leave it out"
            )
    judged = [name for name, family in problem.families.items() if "test" in family.splits]
    for name in problem.judging.exact_families or []:
        if name in judged and "exact-posterior" not in gives and not _has_reference(problem, name):
            yield (
                f"{at}.judging.exact_families: problem kind '{problem.kind}' knows the posterior by its reference "
                f"split, and '{name}' has none"
            )
        if name not in judged:
            near = difflib.get_close_matches(name, judged, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            yield f"{at}.judging.exact_families: '{name}' has no test events here{hint}"


def _method_complaints(at: str, problem: Problem, gives: frozenset[Capability], seen: list[str]) -> Iterator[str]:
    judged = [name for name, family in problem.families.items() if "test" in family.splits]
    for name, method in problem.methods.items():
        here = f"{at}.methods.{name}"
        missing = sorted(method.needs - gives)
        if missing:
            yield (
                f"{here}: '{method.kind}' needs {', '.join(missing)}, and problem kind '{problem.kind}' gives "
                f"{', '.join(sorted(gives))}"
            )
        if method.needs_either and not gives.intersection(method.needs_either):
            yield (
                f"{here}: '{method.kind}' needs {' or '.join(method.needs_either)}, and problem kind '{problem.kind}' "
                f"gives {', '.join(sorted(gives))}"
            )
        elif answers_from_reference(method, gives):
            yield from _reference_complaints(here, problem, method, judged)
        if (method.trains or isinstance(method, method_kinds.RandomTruth)) and not seen:
            yield f"{here}: '{method.kind}' learns from seen families, and there is none"
        if isinstance(method, method_kinds.LbfgsFwi) and not seen:
            for infer_name in (name for name, descent in method.infer.items() if descent.start is None):
                yield (
                    f"{here}.infer.{infer_name}.start: without it a descent starts from the mean profile of the seen "
                    "families, and there is none: give the velocity at the top and at the bottom"
                )
        if isinstance(method, method_kinds.Told) and method.parameters:
            yield from _parameter_complaints(here, problem, judged)
        yield from _batch_complaints(here, method)
        if isinstance(method, method_kinds.Told):
            yield from _no_encoder_complaints(here, method)
        prior = getattr(method, "prior", None)
        if method.uses_prior and prior not in problem.priors:
            yield f"{here}.prior: there is no prior '{prior}' under {at}.priors ({', '.join(problem.priors) or 'none'})"
        for infer_name, infer in method.infer.items():
            if refine := getattr(infer, "refine", None):
                yield from _refine_complaints(f"{here}.infer.{infer_name}.refine", at, problem, gives, refine)
            chosen = infer.families or []
            for family in sorted({name for name in chosen if chosen.count(name) > 1}):
                yield f"{here}.infer.{infer_name}.families: '{family}' is there twice: name it once"
            for family in chosen:
                if family not in judged:
                    near = difflib.get_close_matches(family, judged, n=1)
                    hint = f"; did you mean '{near[0]}'?" if near else ""
                    yield f"{here}.infer.{infer_name}.families: '{family}' has no test events here{hint}"
    if problem.priors and not seen:
        yield f"{at}.priors: a prior is trained on the truth of seen families, and there is none"
    if problem.likelihoods and not seen:
        yield f"{at}.likelihoods: a likelihood is trained on pairs of seen families, and there is none"
    if problem.likelihoods and problem.unlearnable:
        yield (f"{at}.likelihoods: of problem kind '{problem.kind}' none can be learned, because {problem.unlearnable}")
    if "exact" in problem.likelihoods:
        yield f"{at}.likelihoods.exact: 'exact' means the problem's own likelihood; give this one another name"


def _batch_complaints(here: str, method: method_kinds.Method) -> Iterator[str]:
    """InversionNet normalises over the targets of a step, which one alone has no spread for."""
    if not (isinstance(method, method_kinds.Amortised) and isinstance(method.network, InversionNet)):
        return
    train = method.train
    if train.sets * min(train.set_size[0], train.targets or train.set_size[0]) < 2:
        yield (
            f"{here}.train: network 'inversion-net' normalises over the targets of a step, and a step may have 1, "
            "wanted at least 2: raise `sets`, or `targets` and the least of `set_size`"
        )


def _shape_complaints(at: str, problem: Problem) -> Iterator[str]:
    """What cannot take truths or observations that are vectors, or arrays, as those of a built-in kind are known."""
    if problem.arrays is None:
        return
    of_kind = f"of problem kind '{problem.kind}'"
    for name in problem.priors if problem.periodic else ():
        yield (
            f"{at}.priors.{name}: a prior is of x alone, and networks see {', '.join(problem.periodic)} of x {of_kind} "
            "relative to y: leave it out, with the methods that use it"
        )
    learn = _of_vector if "x" not in problem.arrays else _of_array
    for block in ("priors", "likelihoods", "methods"):
        for name, learner in getattr(problem, block).items():
            yield from (f"{at}.{block}.{name}{says}" for says in learn(learner, of_kind))
            encoder = getattr(learner, "set_encoder", None)
            if "y" in problem.arrays and isinstance(encoder, Moments):
                yield (
                    f"{at}.{block}.{name}.set_encoder.kind: 'moments' is for y that is a vector, and {of_kind} it is "
                    "an array: use set-transformer or deep-sets"
                )


def _of_vector(learner: Any, of_kind: str) -> Iterator[str]:
    network = getattr(learner, "network", None)
    if isinstance(network, Unet | InversionNet):
        gan = isinstance(learner, method_kinds.VelocityGan)
        other = "another method, with network mlp" if gan else "kind: mlp"
        yield f".network.kind: '{network.kind}' is for x on a grid, and {of_kind} it is a vector: use {other}"


def _of_array(learner: Any, of_kind: str) -> Iterator[str]:
    if isinstance(learner, method_kinds.Hvae):
        yield f": 'hvae' is for x that is a vector, and {of_kind} it is an array: use ei-fm with network unet"
    train = getattr(learner, "train", None)
    if train and train.tilt:
        yield f".train.tilt: sets are reweighted by truths that are vectors, and {of_kind} they are arrays: set it to 0"


def _no_encoder_complaints(here: str, method: method_kinds.Cfm | method_kinds.Cddpm) -> Iterator[str]:
    """What belongs to a set encoder says nothing to a method that has none, or the wrong thing."""
    if method.parameters and method.train.tilt:
        yield (
            f"{here}.train.tilt: found {method.train.tilt:g} with `parameters: true`: a reweighted set is of another "
            "prior than the parameters that are told beside it; leave one of the two out"
        )
    for name, infer in method.infer.items():
        for key, default in (("bootstrap", 0), ("duplicate_to", None)):
            if (value := getattr(infer, key)) != default:
                yield (
                    f"{here}.infer.{name}.{key}: found {value}, and '{method.kind}' has no set encoder that would see "
                    "another set: leave it out"
                )


def _parameter_complaints(here: str, problem: Problem, judged: list[str]) -> Iterator[str]:
    """A method that is told the parameters of a prior needs them stated for every family it learns from or answers."""
    families = problem.families
    swept: dict[str, list[str]] = {}
    for name, family in families.items():
        if family.role != "seen":
            continue
        if not family.sweep:
            yield f"{here}.parameters: the seen family '{name}' is not a sweep: its parameters are not recorded"
            return
        swept[name] = sorted(key for key, value in family.params.items() if isinstance(value, dict))
    first = next(iter(swept.values()), [])
    if any(names != first for names in swept.values()):
        yield f"{here}.parameters: seen families sweep over different parameters ({swept}); they must be the same"
    for name in judged:
        take = families[name].take
        params = families[take.family if take else name].params
        missing = [key for key in first if not isinstance(params.get(key), int | float)]
        if missing and families[name].role != "seen":
            yield f"{here}.parameters: family '{name}' states no number for {', '.join(missing)}"


def _refine_complaints(
    here: str, at: str, problem: Problem, gives: frozenset[Capability], refine: Refine
) -> Iterator[str]:
    known = problem.likelihoods
    if refine.likelihood == "exact":
        if "likelihood" not in gives:
            yield (
                f"{here}.likelihood: 'exact' needs a problem that gives likelihood, and problem kind "
                f"'{problem.kind}' gives {', '.join(sorted(gives))}; learn one under {at}.likelihoods and name it"
            )
    elif refine.likelihood not in known:
        near = difflib.get_close_matches(refine.likelihood, [*known, "exact"], n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        yield (
            f"{here}.likelihood: there is no likelihood '{refine.likelihood}' under {at}.likelihoods "
            f"({', '.join(known) or 'none'}), and it is not 'exact'{hint}"
        )
