"""Cross-field validation of a study."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from pullback.registry import did_you_mean
from pullback.study import figures as study_figures
from pullback.study import uncertainties
from pullback.study.base import OWN_LIKELIHOOD, Uniform, is_distribution
from pullback.study.families import Family
from pullback.study.kinds import Message, MethodSpec, SimulatorSettings
from pullback.study.model import Problem, Study, resolve_fallback
from pullback.study.shifts import SimulatorShift


def errors(study: Study) -> Iterator[str]:
    """Error messages, one line each."""
    for name, problem in study.problems.items():
        at = f"problems.{name}"
        yield from _family_errors(at, problem)
        yield from _lines(at, problem.spec.check(problem))
        yield from _learner_errors(at, problem, study.seen(name))
        yield from _shared_prior_errors(study, name)
        for method_name, method in problem.methods.items():
            yield from _method_errors(f"{at}.methods.{method_name}", at, problem, method, study.seen(name))
        for group in ("priors", "likelihoods", "methods"):
            for kind_name, spec in getattr(problem, group).items():
                yield from _lines(f"{at}.{group}.{kind_name}", spec.check(problem))
                yield from _left_out_errors(f"{at}.{group}.{kind_name}", spec.left_out, study.seen(name))
        yield from _evaluation_errors(at, problem)
        yield from uncertainties.errors(at, problem, study.seeds)
    yield from study_figures.errors(study.figures, study.problems)


def _lines(at: str, messages: Iterator[Message]) -> Iterator[str]:
    """What a kind says of its own block, with the place of that block."""
    for message in messages:
        key, text = ("", message) if isinstance(message, str) else message
        yield f"{at}{'.' if key else ''}{key}: {text}"


def _has_reference(problem: Problem, name: str) -> bool:
    """Whether a family, or the one that its events come from, has an independent truth."""
    base = resolve_fallback(problem, problem.families[name]).events_from if name in problem.families else None
    family = problem.families.get(base or name)
    return family is None or (
        "reference" in family.splits and (family.read is None or "reference" in family.read.files)
    )


def _evaluation_errors(at: str, problem: Problem) -> Iterator[str]:
    """Comparisons that a problem gives nothing for, and families that are not evaluated."""
    gives = problem.capabilities
    for key in ("exact_events", "c2st_events"):
        if getattr(problem.evaluation, key) and not gives & {"exact-posterior", "likelihood"}:
            yield (
                f"{at}.evaluation.{key}: compares with the exact posterior, and problem kind '{problem.kind}' gives "
                f"{', '.join(sorted(gives))}; leave it out{problem.why_without('likelihood', 'exact-posterior')}"
            )
    again = "resimulate_events" in problem.evaluation.model_fields_set and problem.evaluation.resimulate_events
    if again and (why := problem.why_without("forward")):
        yield f"{at}.evaluation.resimulate_events: draws cannot be simulated again{why}; leave it out"
    for name in problem.evaluation.exact_families or []:
        if name in problem.evaluated and "exact-posterior" not in gives and not _has_reference(problem, name):
            yield (
                f"{at}.evaluation.exact_families: problem kind '{problem.kind}' knows the posterior by its reference "
                f"split, and '{name}' has none"
            )
        if name not in problem.evaluated:
            hint = did_you_mean(name, problem.evaluated)
            yield f"{at}.evaluation.exact_families: '{name}' has no test events here{hint}"


def _learner_errors(at: str, problem: Problem, seen: list[str]) -> Iterator[str]:
    """Priors and likelihoods that cannot be learned here."""
    if any(prior.reads_events for prior in problem.priors.values()) and not seen:
        yield f"{at}.priors: a prior is trained on the truth of seen families, and there is none"
    if problem.likelihoods and not seen:
        yield f"{at}.likelihoods: a likelihood is trained on pairs of seen families, and there is none"
    if problem.likelihoods and problem.unlearnable:
        yield f"{at}.likelihoods: of problem kind '{problem.kind}' none can be learned: {problem.unlearnable}"
    if OWN_LIKELIHOOD in problem.likelihoods:
        yield (
            f"{at}.likelihoods.{OWN_LIKELIHOOD}: '{OWN_LIKELIHOOD}' means the problem's own likelihood; give this one "
            "another name"
        )


def _shared_prior_errors(study: Study, name: str) -> Iterator[str]:
    """Priors of another problem that is not there, has none of that name, or has not trained it."""
    for prior_name, prior in study.problems[name].priors.items():
        if prior.of is None:
            continue
        here, (other, wanted) = f"problems.{name}.priors.{prior_name}", prior.of
        if other not in study.problems or other == name:
            known = [problem for problem in study.problems if problem != name]
            why = "is this problem itself" if other == name else f"is no problem here{did_you_mean(other, known)}"
            wanted_one = f"wanted one of {', '.join(known)}" if known else "the study has no other"
            yield f"{here}.problem: '{other}' {why}; {wanted_one}"
            continue
        trained = [key for key, spec in study.problems[other].priors.items() if spec.trains]
        if wanted not in trained:
            yield (
                f"{here}.prior: '{wanted}' is not trained by problem '{other}'{did_you_mean(wanted, trained)}; it "
                f"trains {', '.join(trained) or 'none'}"
            )


def _left_out_errors(here: str, left_out: frozenset[str], seen: list[str]) -> Iterator[str]:
    """Families that cannot be left out of a training."""
    for family in sorted(left_out - set(seen)):
        yield f"{here}.train.leave_out: '{family}' is no seen family{did_you_mean(family, seen)}"
    if seen and left_out.issuperset(seen):
        yield f"{here}.train.leave_out: all seen families are left out, wanted one to learn from"


def _method_errors(here: str, at: str, problem: Problem, method: MethodSpec, seen: list[str]) -> Iterator[str]:
    """A method that needs what the problem, or another block, does not have."""
    gives = problem.capabilities
    said = f"'{method.kind}' needs {{}}, and problem kind '{problem.kind}' gives {', '.join(sorted(gives))}"
    if missing := sorted(method.needs - gives):
        yield f"{here}: {said.format(', '.join(missing))}{problem.why_without(*missing)}"
    if method.needs_either and not gives.intersection(method.needs_either):
        yield f"{here}: {said.format(' or '.join(method.needs_either))}{problem.why_without(*method.needs_either)}"
    elif method.uses_reference(gives):
        for infer_name, infer in method.infer.items():
            for name in problem.evaluated if infer.families is None else infer.families:
                if not _has_reference(problem, name):
                    yield (
                        f"{here}.infer.{infer_name}: '{method.kind}' answers from the reference split, and '{name}' "
                        "has none here: list the families that have one in `families`"
                    )
    if (method.trains or method.needs_seen) and not seen:
        yield f"{here}: '{method.kind}' learns from seen families, and there is none"
    if "prior" in type(method).model_fields and method.prior_name not in problem.priors:
        known = ", ".join(problem.priors) or "none"
        yield f"{here}.prior: there is no prior '{method.prior_name}' under {at}.priors ({known})"
    for infer_name, infer in method.infer.items():
        yield from _lines(f"{here}.infer.{infer_name}", infer.check(problem))
        if method.unfolds and infer.set_size != "all":
            yield (
                f"{here}.infer.{infer_name}.set_size: found {infer.set_size}, wanted all: an unfolded truth "
                "distribution is that of the whole ensemble; leave set_size out"
            )
        chosen = infer.families or []
        for family in sorted({name for name in chosen if chosen.count(name) > 1}):
            yield f"{here}.infer.{infer_name}.families: '{family}' is there twice: name it once"
        for family in chosen:
            if family not in problem.evaluated:
                hint = did_you_mean(family, problem.evaluated)
                yield f"{here}.infer.{infer_name}.families: '{family}' has no test events here{hint}"


def _family_errors(at: str, problem: Problem) -> Iterator[str]:
    families = problem.families
    for name, family in families.items():
        here = f"{at}.families.{name}"
        for key, base in (("events_from", family.events_from), ("fallback", family.fallback)):
            if base is None:
                continue
            if base not in families:
                yield f"{here}.{key}: there is no family '{base}'{did_you_mean(base, families)}"
            elif base == name or (key == "fallback" and families[base].fallback):
                yield f"{here}.{key}: '{base}' may not be there either: name a family that is always made"
            elif "test" not in families[base].splits or families[base].events_from:
                yield f"{here}.{key}: '{base}' has no test events of its own"
        if family.fallback and not (family.read or problem.spec.parameter_files(family.params)):
            yield (
                f"{here}: `fallback` is used in place of outside files, and this family has none: there is no `read`, "
                "and its parameters name no file"
            )
        if isinstance(family.shift, SimulatorShift):
            yield from _change_errors(here, problem, family, family.shift)
        if family.read:
            yield from _read_errors(here, problem, family)
        elif not family.events_from:
            yield from _parameter_errors(here, problem, family)
    yield from _twice(at, families)


def _read_errors(here: str, problem: Problem, family: Family) -> Iterator[str]:
    """Outside files must be of records that the problem reads, with the splits that the family's role needs."""
    assert family.read is not None
    if family.read.records not in {"arrays", *problem.spec.reads}:
        reads = ", ".join(sorted({"arrays", *problem.spec.reads}))
        yield (f"{here}.read: the files hold {family.read.records}, and problems of kind '{problem.kind}' read {reads}")
    else:
        yield from _lines(f"{here}.read", family.read.check(problem))
    if "test" not in family.read.files:
        yield f"{here}.read.files: there are no test files; a family in the role '{family.role}' is evaluated on them"
    if family.role == "seen":
        learns = problem.priors or problem.likelihoods or any(m.trains for m in problem.methods.values())
        for split in ("train", *(("validation",) if learns else ())):
            if split not in family.read.files:
                yield f"{here}.read.files: there is no {split}, and a family in the role 'seen' is trained on"


def _parameter_errors(here: str, problem: Problem, family: Family) -> Iterator[str]:
    """Parameters must be those of the problem's kind; distributions belong to a sweep."""
    try:
        if problem.spec.Params is None:
            given = {n: Uniform.model_validate(v) if is_distribution(v) else v for n, v in family.params.items()}
        else:
            given = dict(problem.spec.Params.model_validate(family.params))
    except ValidationError as error:
        yield from _option_errors(f"{here}.params", error, problem.spec.Params or Uniform)
        return
    distributed = [key for key, value in given.items() if isinstance(value, Uniform)]
    if distributed and not family.sweep:
        yield f"{here}.params.{distributed[0]}: a distribution of priors needs a `sweep` block"
    if family.sweep and not distributed:
        yield f"{here}.sweep: no parameter is a distribution, such as {{uniform: [low, high]}}"


def _change_errors(here: str, problem: Problem, family: Family, shift: SimulatorShift) -> Iterator[str]:
    """A shift that simulates again changes settings that there are, of a simulator that is run."""
    base = problem.families.get(family.events_from) if family.events_from else None
    if base is not None and base.read is not None:
        yield f"{here}.shift: '{family.events_from}' is read from files: there is no simulation to change"
    if not problem.spec.resimulates:
        yield f"{here}.shift: problems of kind '{problem.kind}' cannot be simulated again from their truth"
        return
    settings = problem.spec.Settings
    if settings is None:
        return
    if "preset" in shift.change:
        yield f"{here}.shift.change.preset: a preset fills what is not given, and all is given: name what changes"
    try:
        changed = settings.model_validate({**problem.simulator.model_dump(), **shift.change})
    except ValidationError as error:
        yield from _option_errors(f"{here}.shift.change", error, settings)
        return
    unused = changed.unused if isinstance(changed, SimulatorSettings) else {}
    if without := sorted(unused.keys() & shift.change.keys()):
        yield f"{here}.shift.change.{without[0]}: {unused[without[0]]}"
    elif changed == problem.simulator:
        yield f"{here}.shift.change: all is as the problem has it: name what differs"


def _option_errors(here: str, error: ValidationError, model: Any) -> Iterator[str]:
    """One line for each option that is not right."""
    for item in error.errors(include_url=False):
        key = ".".join(part for part in map(str, item["loc"]) if not _is_type(part))
        message = item["msg"].removeprefix("Value error, ")
        known = "" if item["type"] == "unknown_key" else f" (allowed: {', '.join(model.model_fields)})"
        yield f"{here}{'.' if key else ''}{key}: {message}{known}"


def _is_type(part: str) -> bool:
    """Whether a piece of an error's path is a type of a union, which is in no file."""
    return part in ("float", "int", "str", "bool") or part[:1].isupper() or "[" in part


def _twice(at: str, families: dict[str, Family]) -> Iterator[str]:
    """A prior that is trained on cannot also be the unseen one."""
    seen = {repr(sorted(f.params.items())): n for n, f in families.items() if f.role == "seen" and not f.read}
    for name, family in families.items():
        key = repr(sorted(family.params.items()))
        if family.role == "unseen" and not family.events_from and not family.read and key in seen:
            yield (
                f"{at}.families.{name}: the same prior is seen as '{seen[key]}' and unseen here; a seen family has "
                "its own test split, so leave this one out or change its params"
            )
