"""The page of kinds: tables of everything that the registry knows, from what each kind says of itself."""

import inspect
from collections.abc import Iterable
from typing import Any

from pullback import registry
from pullback.study.problem_kind import ProblemKind

HEAD = """# Kinds

A study names a kind by `kind:`. This page is made from the registry when the documentation is built. Entry points in
the groups `pullback.<group>` of installed packages add kinds, and a study may name a class of its own as
`./my.py:Name`.
"""


def first_sentence(of: Any) -> str:
    """The first line of a docstring, as the text of a table cell."""
    doc = inspect.getdoc(of) or ""
    return doc.partition("\n\n")[0].replace("\n", " ").replace("|", "\\|").replace("*", "\\*")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(list(head)), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listed(values: Iterable[str]) -> str:
    """Names, sorted."""
    return ", ".join(sorted(values))


def problem(name: str, cls: Any) -> list[str]:
    """Name, what it is, capabilities, and what outside records its families may be read from."""
    kind = ProblemKind(cls)
    what = first_sentence(inspect.getmodule(cls))
    return [f"`{name}`", what, listed(kind.capabilities()), listed(kind.reads)]


def detector(name: str, spec: Any) -> list[str]:
    """Name, what it is, and what is known of it."""
    known = {
        "smear": "simulation from truth jets",
        "log_likelihood": "likelihood",
        "efficiency": "efficiency",
        "fakes": "fakes",
    }
    return [f"`{name}`", first_sentence(spec), listed(text for has, text in known.items() if hasattr(spec, has))]


def method(name: str, spec: Any) -> list[str]:
    """Name, what it is, label, and what the problem must give."""
    needs = [*sorted(spec.needs), *([" or ".join(spec.needs_either)] if spec.needs_either else [])]
    if "prior" in spec.model_fields:
        needs.append("a diffusion prior")
    return [f"`{name}`", first_sentence(spec), spec.returns, ", ".join(needs)]


def learned(name: str, spec: Any) -> list[str]:
    """Name and what it is."""
    return [f"`{name}`", first_sentence(spec)]


def reader(name: str, spec: Any) -> list[str]:
    """Name, what it reads, what events it gives, and the extra that installs its packages."""
    extras = sorted({f"`{package.extra}`" for package in spec.requires})
    return [f"`{name}`", first_sentence(spec), spec.records, ", ".join(extras)]


def metric(name: str, found: Any) -> list[str]:
    """Name of the rows, title, what it measures, unit, and which way is better."""
    better = f"{found.target:g}" if found.better == "target" and found.target is not None else found.better
    unit = "" if found.unit == "1" else found.unit
    return [f"`{name}`", found.title, found.description.replace("|", "\\|"), unit, better]


GROUPS: dict[str, tuple[str, tuple[str, ...], Any]] = {
    "problems": ("Problems", ("kind", "what", "gives", "reads"), problem),
    "detectors": ("Detectors", ("kind", "what", "known"), detector),
    "methods": ("Methods", ("kind", "what", "label", "needs"), method),
    "priors": ("Priors", ("kind", "what"), learned),
    "likelihoods": ("Likelihoods", ("kind", "what"), learned),
    "readers": ("Readers", ("kind", "what", "events", "extra"), reader),
    "metrics": ("Metrics", ("rows", "title", "what", "unit", "better"), metric),
}
"""Group of the registry -> its title, the heads of its table, and the function that makes a row."""


def page() -> str:
    """The page in Markdown."""
    parts = [HEAD]
    for group, (title, head, row) in GROUPS.items():
        rows = [row(name, registry.load(group, name)) for name in registry.kinds(group)]
        parts.append(f"## {title}\n\n{table(head, rows)}\n" if rows else "")
    return "\n".join(filter(None, parts))


if __name__ == "__main__":
    print(page())
