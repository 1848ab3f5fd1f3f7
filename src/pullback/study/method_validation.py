"""What its types cannot say of a study's methods and evaluation: those that a problem cannot serve."""

from collections.abc import Iterator
from typing import Any

from pullback.study import methods as method_kinds
from pullback.study.base import Capability, did_you_mean
from pullback.study.inference import Refine
from pullback.study.learning import InversionNet, Moments, Unet
from pullback.study.model import Problem, resolve_fallback


def answers_from_reference(method: method_kinds.MethodBase, gives: frozenset[Capability]) -> bool:
    """Whether the independent truth of the family that is answered stands for its prior."""
    return "likelihood" in method.needs_either and "exact-posterior" not in gives


def uses_likelihood(problem: Problem) -> bool:
    """Whether a method answers by the problem's own likelihood, or evaluation compares with it."""
    refined = [getattr(infer, "refine", None) for method in problem.methods.values() for infer in method.infer.values()]
    return (
        any("likelihood" in method.needs_either for method in problem.methods.values())
        or any(refine.likelihood == "exact" for refine in refined if refine)
        or bool(problem.evaluation.exact_events or problem.evaluation.c2st_events)
    )


def _has_reference(problem: Problem, name: str) -> bool:
    """Whether a judged family, or the one that it is taken from, has an independent truth."""
    base = resolve_fallback(problem.families[name]).events_from if name in problem.families else None
    family = problem.families.get(base or name)
    return family is None or (
        "reference" in family.splits and (family.read is None or "reference" in family.read.files)
    )


def _reference_errors(here: str, problem: Problem, method: method_kinds.Method, judged: list[str]) -> Iterator[str]:
    for infer_name, infer in method.infer.items():
        for name in judged if infer.families is None else infer.families:
            if not _has_reference(problem, name):
                yield (
                    f"{here}.infer.{infer_name}: '{method.kind}' answers from the reference split, and '{name}' has "
                    "none here: list the families that have one in `families`"
                )


def _evaluation_messages(at: str, problem: Problem, gives: frozenset[Capability]) -> Iterator[str]:
    """Comparisons that a problem gives nothing for, and families that are not judged."""
    for key in ("exact_events", "c2st_events"):
        if getattr(problem.evaluation, key) and not gives & {"exact-posterior", "likelihood"}:
            yield (
                f"{at}.evaluation.{key}: compares with the exact posterior, and problem kind '{problem.kind}' gives "
                f"{', '.join(sorted(gives))}; leave it out"
            )
    judged = [name for name, family in problem.families.items() if "test" in family.splits]
    for name in problem.evaluation.exact_families or []:
        if name in judged and "exact-posterior" not in gives and not _has_reference(problem, name):
            yield (
                f"{at}.evaluation.exact_families: problem kind '{problem.kind}' knows the posterior by its reference "
                f"split, and '{name}' has none"
            )
        if name not in judged:
            hint = did_you_mean(name, judged)
            yield f"{at}.evaluation.exact_families: '{name}' has no test events here{hint}"


def method_errors(at: str, problem: Problem, gives: frozenset[Capability], seen: list[str]) -> Iterator[str]:
    """Methods, priors and likelihoods that need what the problem, or another block, does not have."""
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
            yield from _reference_errors(here, problem, method, judged)
        if (method.trains or isinstance(method, method_kinds.RandomTruth)) and not seen:
            yield f"{here}: '{method.kind}' learns from seen families, and there is none"
        if isinstance(method, method_kinds.LbfgsFwi) and not seen:
            for infer_name in (name for name, descent in method.infer.items() if descent.start is None):
                yield (
                    f"{here}.infer.{infer_name}.start: without it a descent starts from the mean profile of the seen "
                    "families, and there is none: give the velocity at the top and at the bottom"
                )
        if isinstance(method, method_kinds.Told) and method.parameters:
            yield from _parameter_errors(here, problem, judged)
        yield from _batch_errors(here, method)
        if isinstance(method, method_kinds.Told):
            yield from _no_encoder_errors(here, method)
        prior = getattr(method, "prior", None)
        if method.uses_prior and prior not in problem.priors:
            yield f"{here}.prior: there is no prior '{prior}' under {at}.priors ({', '.join(problem.priors) or 'none'})"
        for infer_name, infer in method.infer.items():
            if refine := getattr(infer, "refine", None):
                yield from _refine_errors(f"{here}.infer.{infer_name}.refine", at, problem, gives, refine)
            chosen = infer.families or []
            for family in sorted({name for name in chosen if chosen.count(name) > 1}):
                yield f"{here}.infer.{infer_name}.families: '{family}' is there twice: name it once"
            for family in chosen:
                if family not in judged:
                    hint = did_you_mean(family, judged)
                    yield f"{here}.infer.{infer_name}.families: '{family}' has no test events here{hint}"
    if problem.priors and not seen:
        yield f"{at}.priors: a prior is trained on the truth of seen families, and there is none"
    if problem.likelihoods and not seen:
        yield f"{at}.likelihoods: a likelihood is trained on pairs of seen families, and there is none"
    if problem.likelihoods and problem.unlearnable:
        yield (f"{at}.likelihoods: of problem kind '{problem.kind}' none can be learned, because {problem.unlearnable}")
    if "exact" in problem.likelihoods:
        yield f"{at}.likelihoods.exact: 'exact' means the problem's own likelihood; give this one another name"


def _batch_errors(here: str, method: method_kinds.Method) -> Iterator[str]:
    """InversionNet normalises over the targets of a step, which one alone has no spread for."""
    if not (isinstance(method, method_kinds.Amortised) and isinstance(method.network, InversionNet)):
        return
    train = method.train
    if train.sets_per_step * min(train.set_size[0], train.loss_members or train.set_size[0]) < 2:
        yield (
            f"{here}.train: network 'inversion-net' normalises over the targets of a step, and a step may have 1, "
            "wanted at least 2: raise `sets`, or `targets` and the least of `set_size`"
        )


def shape_errors(at: str, problem: Problem) -> Iterator[str]:
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
    if train and train.prior_reweighting:
        yield (
            f".train.prior_reweighting: sets are reweighted by truths that are vectors, and {of_kind} they are arrays: "
            "set it to 0"
        )


def _no_encoder_errors(here: str, method: method_kinds.Cfm | method_kinds.Cddpm) -> Iterator[str]:
    """What belongs to a set encoder says nothing to a method that has none, or the wrong thing."""
    if method.parameters and method.train.prior_reweighting:
        yield (
            f"{here}.train.prior_reweighting: found {method.train.prior_reweighting:g} with "
            "`parameters: true`: a reweighted set is of another prior than the "
            "parameters beside it; leave one of the two out"
        )
    for name, infer in method.infer.items():
        for key, default in (("bootstrap", 0), ("duplicate_to", None)):
            if (value := getattr(infer, key)) != default:
                yield (
                    f"{here}.infer.{name}.{key}: found {value}, and '{method.kind}' has no set encoder that would see "
                    "another set: leave it out"
                )


def _parameter_errors(here: str, problem: Problem, judged: list[str]) -> Iterator[str]:
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
        params = families[families[name].events_from or name].params
        missing = [key for key in first if not isinstance(params.get(key), int | float)]
        if missing and families[name].role != "seen":
            yield f"{here}.parameters: family '{name}' states no number for {', '.join(missing)}"


def _refine_errors(here: str, at: str, problem: Problem, gives: frozenset[Capability], refine: Refine) -> Iterator[str]:
    known = problem.likelihoods
    if refine.likelihood == "exact":
        if "likelihood" not in gives:
            yield (
                f"{here}.likelihood: 'exact' needs a problem that gives likelihood, and problem kind "
                f"'{problem.kind}' gives {', '.join(sorted(gives))}; learn one under {at}.likelihoods and name it"
            )
    elif refine.likelihood not in known:
        hint = did_you_mean(refine.likelihood, [*known, "exact"])
        yield (
            f"{here}.likelihood: there is no likelihood '{refine.likelihood}' under {at}.likelihoods "
            f"({', '.join(known) or 'none'}), and it is not 'exact'{hint}"
        )
