"""Figures that a study asks for: one metric against one quantity, over many results."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from pullback.registry import did_you_mean
from pullback.study.base import Closed

if TYPE_CHECKING:
    from pullback.study.model import Problem

COSTS = ("network_calls", "network_gradients", "likelihood_gradients", "simulator_calls", "seconds")
"""Costs of one draw, columns of the cost table."""
WORDS = (*COSTS, "set_size", "seen_swd", "problem", "family", "method")
"""What x may be by itself. All but the last three are numbers of a result, these are categories."""
GROUPS = ("params", "simulator", "method", "infer")
"""What x may be a number of: ``params.gamma``, ``simulator.dimension``, ``method.k``, ``infer.steps``."""
FILTERS = ("problems", "families", "methods", "infer")

Patterns = list[str]


class Figure(Closed):
    """One metric against one quantity: a panel for each family, unless x runs over families, and a line for the
    results that differ only in x."""

    title: str = Field(default="", description="headline; made of y and x when not given")
    y: str = Field(description="a metric, such as swd_draw or energy_score_excess")
    x: str = Field(
        description="a cost of one draw (network_calls, network_gradients, likelihood_gradients, simulator_calls, "
        "seconds), set_size, seen_swd (distance of a family from the training priors), "
        "problem, family, method, or a number of the study: params.<name> of families, simulator.<name> of problems, "
        "method.<name>, infer.<name>"
    )
    problems: Patterns | None = Field(
        default=None, min_length=1, description="only these: names, or patterns such as d-*; every one when not given"
    )
    families: Patterns | None = Field(default=None, min_length=1, description="only these, likewise")
    methods: Patterns | None = Field(default=None, min_length=1, description="only these, likewise")
    infer: Patterns | None = Field(default=None, min_length=1, description="only these inferences, likewise")
    log: Literal["auto", "none", "x", "y", "both"] = Field(
        default="auto", description="logarithmic axes; auto: where values span more than a factor of 10"
    )

    def takes(self, **names: str) -> bool:
        """Whether a result is drawn; ``names`` by filter: ``problems="d-2", methods="cfm"``."""
        return all(_matches(getattr(self, key), name) for key, name in names.items())


def _matches(patterns: Patterns | None, name: str) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


def numbers(settings: Any, prefix: str = "") -> dict[str, float]:
    """The numbers of a model or mapping by their path, pieces joined by dots: ``{"k": 3, "train.steps": 3000}``."""
    if isinstance(settings, BaseModel):
        settings = settings.model_dump(mode="json")
    found: dict[str, float] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + key] = float(value)
    return found


def family_numbers(problem: "Problem", family: str) -> dict[str, float]:
    """Parameters of a family, or of the one it takes its events from, that are numbers."""
    declared = problem.families[family]
    return numbers((problem.families[declared.events_from] if declared.events_from else declared).params)


def errors(figures: Sequence[Figure], problems: "Mapping[str, Problem]") -> Iterator[str]:
    """Errors in the figures of a study, one line each."""
    for position, figure in enumerate(figures):
        at = f"figures[{position}]"
        taken = [problem for name, problem in problems.items() if figure.takes(problems=name)]
        methods = [(n, m) for problem in taken for n, m in problem.methods.items() if figure.takes(methods=n)]
        known: dict[str, dict[str, None]] = {
            "problems": dict.fromkeys(problems),
            "families": dict.fromkeys(n for p in taken for n, f in p.families.items() if "test" in f.splits),
            "methods": dict.fromkeys(n for p in taken for n in p.methods),
            "infer": dict.fromkeys(n for _, m in methods for n in m.infer),
        }
        wrong = list(_filter_errors(at, figure, known))
        # What a wrong filter leaves over says nothing about x.
        yield from wrong or _x_errors(at, figure, taken, [m for _, m in methods])


def _filter_errors(at: str, figure: Figure, known: Mapping[str, Mapping[str, None]]) -> Iterator[str]:
    for key in FILTERS:
        for pattern in getattr(figure, key) or ():
            if not any(_matches([pattern], name) for name in known[key]):
                yield f"{at}.{key}: '{pattern}' is none of {_listed(known[key])}{did_you_mean(pattern, known[key])}"
                return


def _x_errors(at: str, figure: Figure, problems: "Sequence[Problem]", methods: Sequence[Any]) -> Iterator[str]:
    group, _, name = figure.x.partition(".")
    if figure.x in WORDS:
        return
    if group not in GROUPS or not name:
        words = (*WORDS, *(f"{group}.<name>" for group in GROUPS))
        yield f"{at}.x: '{figure.x}' is none of {_listed(words)}{did_you_mean(figure.x, words)}"
        return
    sources: list[dict[str, float]] = {
        "params": lambda: [
            family_numbers(p, n)
            for p in problems
            for n, f in p.families.items()
            if "test" in f.splits and figure.takes(families=n)
        ],
        "simulator": lambda: [numbers(getattr(p, "simulator", {})) for p in problems],
        "method": lambda: [numbers(m.model_dump(mode="json", exclude={"infer"})) for m in methods],
        "infer": lambda: [numbers(i) for m in methods for n, i in m.infer.items() if figure.takes(infer=n)],
    }[group]()
    known = dict.fromkeys(f"{group}.{key}" for source in sources for key in source)
    if figure.x not in known:
        hint = did_you_mean(figure.x, known)
        yield f"{at}.x: '{figure.x}' is no number here: {_listed(known) or 'there is none'}{hint}"


def _listed(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
