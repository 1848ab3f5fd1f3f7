"""A study as one typed model, read from YAML and checked before any job starts."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import yaml
from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError

from pullback.study import figures as study_figures
from pullback.study import methods as method_kinds
from pullback.study.base import Capability, Closed, Name, Split, outside_path
from pullback.study.plugins import problem_class
from pullback.study.problems import (
    BUILT_IN_PROBLEMS,
    CommandProblem,
    CustomProblem,
    DigitsProblem,
    Family,
    FwiProblem,
    GaussianProblem,
    UnfoldingProblem,
)

CONFIG_VERSION = 1


class StudyError(ValueError):
    """A study that cannot run; the message names the file, the key, what was found and what is allowed."""


def _kind(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if kind in BUILT_IN_PROBLEMS else "custom"


Problem = Annotated[
    Annotated[GaussianProblem, Tag("gaussian")]
    | Annotated[FwiProblem, Tag("fwi")]
    | Annotated[UnfoldingProblem, Tag("unfolding")]
    | Annotated[DigitsProblem, Tag("digits")]
    | Annotated[CommandProblem, Tag("command")]
    | Annotated[CustomProblem, Tag("custom")],
    Discriminator(_kind),
]


class Study(Closed):
    """One config file, complete in what it runs."""

    config_version: Literal[1] = Field(description="version of this file format")
    study: Name = Field(description="name of the study and of its results folder: the file's stem")
    title: str = Field(default="", description="headline of the report")
    seed: int = Field(default=0, ge=0, description="root of every random number of the study")
    seeds: int = Field(default=1, ge=1, description="repeats of training and inference: seed-0, seed-1, ...")
    threads: int = Field(default=1, ge=1, description="CPU threads of training and inference (part of the result)")
    accelerator: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="auto: a GPU where there is one")
    problems: dict[Name, Problem] = Field(min_length=1)
    figures: list[study_figures.Figure] = Field(
        default=[], description="what the report draws beside its tables: one metric against one quantity"
    )

    def family(self, problem: str, family: str) -> Family:
        """A family by name."""
        return self.problems[problem].families[family]

    def seen(self, problem: str) -> list[str]:
        """Names of the families that are trained on, in the order of the file."""
        return [name for name, family in self.problems[problem].families.items() if family.role == "seen"]

    def judged(self, problem: str) -> list[str]:
        """Names of the families that methods answer: every one with a test split."""
        return [name for name, family in self.problems[problem].families.items() if "test" in family.splits]

    def infer_families(self, problem: str, method: str, infer: str) -> list[str]:
        """The judged families that one inference runs on."""
        chosen = self.problems[problem].methods[method].infer[infer].families
        return self.judged(problem) if chosen is None else chosen


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from _models(argument)


def _step(model: Any, part: str | int) -> Any:
    """The model under one piece of an error path, or the same model where the piece is a union's tag or an index."""
    if isinstance(model, list):
        tagged = [m for m in model if _tag(m) == part or m.__name__ == part]
        if tagged:
            return tagged[0]
        return model if len(model) > 1 else _step(model[0], part)
    if isinstance(part, str) and part in model.model_fields:
        annotation = model.model_fields[part].annotation
        found = list(_models(annotation))
        if not found:
            return None
        is_mapping = "dict" in str(annotation)
        return _Mapping(found) if is_mapping else (found[0] if len(found) == 1 else found)
    return model


class _Mapping(list):
    """The models of a mapping's values: the next piece of the path is a name of the user's."""


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    arguments = get_args(kind.annotation) if kind else ()
    if model is CustomProblem:
        return "custom"
    return arguments[0] if arguments and isinstance(arguments[0], str) else None


def _allowed_keys(path: tuple[str | int, ...]) -> list[str]:
    model: Any = Study
    for part in path:
        if isinstance(model, _Mapping):
            options = list(model)
            model = options[0] if len(options) == 1 else options
            continue
        model = _step(model, part)
        if model is None:
            return []
    return sorted(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _clean_path(raw: Any, location: tuple[str | int, ...]) -> str:
    """The path of a key as it stands in the file: pieces that are tags of a union are not in it."""
    parts: list[str] = []
    node = raw
    for part in location:
        if isinstance(node, dict) and part in node:
            node = node[part]
            parts.append(str(part))
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
            parts.append(f"[{part}]")
        elif isinstance(part, str) and part == location[-1]:
            parts.append(part)
    return ".".join(parts).replace(".[", "[")


def _explain(raw: Any, source: str, error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False):
        location = tuple(item["loc"])
        where = _clean_path(raw, location) or "the file"
        if item["type"] == "extra_forbidden":
            allowed = _allowed_keys(location[:-1])
            near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            known = f" Allowed here: {', '.join(allowed)}." if allowed else ""
            lines.append(f"  {where}: unknown key{hint}{known}")
        elif item["type"] == "union_tag_invalid":
            expected = str(item.get("ctx", {}).get("expected_tags", "")).replace("'", "")
            found = str(item.get("ctx", {}).get("tag", ""))
            near = difflib.get_close_matches(found, expected.split(", "), n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            lines.append(f"  {where}.kind: found '{found}', allowed: {expected}{hint}")
        elif item["type"] == "union_tag_not_found":
            lines.append(f"  {where}.kind: this key is needed and is not there (config/README.md lists the kinds)")
        elif item["type"] == "missing":
            lines.append(f"  {where}: this key is needed and is not there")
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"  {where}: {message} (found {item['input']!r:.80})")
    return f"{source} cannot run:\n" + "\n".join(dict.fromkeys(lines))


def load_study(raw: dict[str, Any], folder: Path | str = ".", source: str = "the study") -> Study:
    """Check a config and return the study.

    Args:
        raw: the config as read from YAML.
        folder: the folder of the config file; simulators given by path are relative to it.
        source: the name of the file, for messages.

    Raises:
        StudyError: with one line for each thing that is wrong.
    """
    if not isinstance(raw, dict):
        raise StudyError(f"{source} cannot run:\n  the file holds {type(raw).__name__}, wanted a mapping of keys")
    found = raw.get("config_version")
    if found is not None and found != CONFIG_VERSION:
        raise StudyError(
            f"{source} cannot run:\n  config_version: found {found!r}, this pullback reads {CONFIG_VERSION}"
        )
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise StudyError(_explain(raw, source, error)) from None
    complaints = list(_complaints(study, Path(folder)))
    if complaints:
        raise StudyError(f"{source} cannot run:\n" + "\n".join(f"  {line}" for line in complaints))
    return study


def _unique_keys(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: dict[Any, yaml.Mark] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=deep)
        if key in seen:
            raise StudyError(
                f"{key_node.start_mark.name}: the key '{key}' stands twice, on lines {seen[key].line + 1} and "
                f"{key_node.start_mark.line + 1}; keep one"
            )
        seen[key] = key_node.start_mark
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep)


class _Loader(yaml.SafeLoader):
    """YAML in which a key given twice is an error instead of a silent overwrite."""


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_keys)


def read_study(path: Path | str) -> Study:
    """Read and check one study file; `study` must be the file's stem (any name in `config.yaml`, the default)."""
    path = Path(path)
    try:
        with path.open() as stream:
            raw = yaml.load(stream, _Loader)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); give the path of a study's YAML file") from None
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: not valid YAML: {error}") from None
    study = load_study(raw, path.parent, str(path))
    check_stem(study, path)
    return study


def check_stem(study: Study, path: Path | str) -> None:
    """A study's name is its file's stem, so that two files never share a results folder."""
    stem = Path(path).stem
    if stem not in (study.study, "config"):
        raise StudyError(
            f"{path}: study is '{study.study}', wanted '{stem}', the stem of the file (or rename the file)"
        )


def family_files(family: Family, split: str) -> list[str]:
    """The outside files of one split."""
    if family.read is None:
        return []
    return [outside_path(name) for name in family.read.files.get(cast(Split, split), [])]


def resolve_otherwise(family: Family) -> Family:
    """The family as it runs here: `otherwise` in place of `read` when a file of `read` is not there."""
    if family.read is None or family.otherwise is None:
        return family
    files = [name for split in family.read.files for name in family_files(family, split)]
    if files and all(Path(name).exists() for name in files):
        return family.model_copy(update={"otherwise": None})
    return family.model_copy(update={"read": None, "take": family.otherwise, "otherwise": None})


def _complaints(study: Study, folder: Path) -> Iterator[str]:
    for name, problem in study.problems.items():
        at = f"problems.{name}"
        gives: frozenset[Capability]
        if isinstance(problem, CustomProblem):
            try:
                gives = frozenset(problem_class(problem.kind, folder).gives)
            except (ImportError, AttributeError, OSError, SyntaxError) as error:
                near = difflib.get_close_matches(problem.kind, BUILT_IN_PROBLEMS, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                known = ", ".join(BUILT_IN_PROBLEMS)
                yield f"{at}.kind: '{problem.kind}' cannot be loaded ({error}){hint} Built in: {known}."
                continue
        else:
            gives = problem.gives
        yield from _family_complaints(at, problem)
        yield from _method_complaints(at, problem, gives, study.seen(name))
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
            elif "test" not in families[take.family].splits or families[take.family].take:
                yield f"{here}.{key}.family: '{take.family}' has no test events of its own"
        if family.read and problem.kind != "unfolding":
            yield f"{here}.read: ROOT files are read by problems of kind 'unfolding' only"
        if family.take or family.read or params_model is None:
            continue
        try:
            checked = params_model.model_validate(family.params)
        except ValidationError as error:
            for item in error.errors(include_url=False):
                key = ".".join(str(part) for part in item["loc"][:1])
                near = difflib.get_close_matches(key, params_model.model_fields, n=1)
                hint = f"; did you mean '{near[0]}'?" if item["type"] == "extra_forbidden" and near else ""
                allowed = ", ".join(params_model.model_fields)
                yield f"{here}.params.{key}: {item['msg']}{hint} (allowed: {allowed})"
            continue
        distributed = [key for key, value in checked if isinstance(value, Closed)]
        if distributed and not family.sweep:
            yield f"{here}.params.{distributed[0]}: a distribution of priors needs a `sweep` block"
        if family.sweep and not distributed:
            yield f"{here}.sweep: no parameter is a distribution, such as {{uniform: [low, high]}}"
    yield from _twice(at, families)


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
        if isinstance(method, method_kinds.Told) and method.parameters:
            yield from _parameter_complaints(here, problem, judged)
        prior = getattr(method, "prior", None)
        if method.uses_prior and prior not in problem.priors:
            yield f"{here}.prior: there is no prior '{prior}' under {at}.priors ({', '.join(problem.priors) or 'none'})"
        for infer_name, infer in method.infer.items():
            if refine := getattr(infer, "refine", None):
                yield from _refine_complaints(f"{here}.infer.{infer_name}.refine", at, problem, gives, refine)
            for family in infer.families or []:
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
    here: str, at: str, problem: Problem, gives: frozenset[Capability], refine: method_kinds.Refine
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
