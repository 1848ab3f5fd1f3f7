"""Lines of a study's figures: results of the tables against the quantity that a figure names."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pullback.metrics.metric import words
from pullback.report.seeds import Measured, grouped, measure
from pullback.report.style import Series, with_unit
from pullback.report.tables import Family, Rows
from pullback.study.base import Uniform, canonical, did_you_mean, is_distribution
from pullback.study.figures import COSTS, Figure, family_numbers, numbers
from pullback.study.model import Problem, Study

LINE_COLUMNS = (
    "figure",
    "title",
    "line",
    "problem",
    "family",
    "method",
    "infer",
    "x_name",
    "x",
    "metric",
    "value",
    "low",
    "high",
    "floor",
    "n",
    "unit",
    "seeds",
)
"""Columns of the table of what is drawn: number of the figure, its line, whose result it is, x (empty where it has none
and is a reference), and the metric as in the table of means."""

STANDS_FOR = {**dict.fromkeys(COSTS, ("steps", "tolerance", "levels", "updates")), "set_size": ("set_size",)}
"""Settings of an inference that x stands for: results that differ in nothing else are one line."""
LABELS = {
    **{name: f"{name.replace('_', ' ')} of one draw" for name in COSTS},
    "set_size": "observations in the conditioning set",
    "problem": "",
    "family": "",
    "method": "",
}

Costs = Mapping[tuple[str, str, str, str], Mapping[str, float]]
"""Costs of one draw by (problem, method, infer, family), each by its name (`COSTS`)."""


@dataclass(frozen=True)
class Result:
    """One result of a figure: whose it is, x (a number, a category, or None where it has none), the metric."""

    problem: str
    family: Family
    series: Series
    x: float | str | None
    measured: Measured


@dataclass
class Line:
    """Results that differ only in x, or one result without x, drawn as a horizontal reference line."""

    label: str
    results: list[Result] = field(default_factory=list)

    @property
    def is_reference(self) -> bool:
        """Whether the line has no x."""
        return self.results[0].x is None


@dataclass
class Panel:
    """One axes: lines of one family, or of all families where x runs over them; then the ranges of x trained on."""

    problem: str
    title: str
    lines: list[Line]
    trained: Sequence[tuple[float, float]] = ()


@dataclass
class Plot:
    """One figure as numbers. ``note`` says why there is nothing to draw; then there are no panels."""

    number: int
    figure: Figure
    title: str
    metric: str
    unit: str
    x_label: str
    panels: list[Panel]
    note: str = ""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows of the table of what is drawn."""
        for panel in self.panels:
            for line in panel.lines:
                for r in line.results:
                    m = r.measured
                    values = {"x": "" if r.x is None else r.x, "value": m.value, "low": m.low, "high": m.high}
                    yield {
                        **{"figure": self.number, "title": self.title, "line": line.label, "problem": r.problem},
                        **{"family": r.family.name, "method": r.series.method, "infer": r.series.infer},
                        **{"x_name": self.figure.x, "metric": self.metric, "unit": self.unit or "1"},
                        **{k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()},
                        "floor": m.floor if math.isfinite(m.floor) else "",
                        "n": int(m.n) if math.isfinite(m.n) else "",
                        "seeds": len(m.seeds),
                    }


def costs_of_a_draw(costs: Any) -> dict[tuple[str, str, str, str], dict[str, float]]:
    """Costs of one draw from the cost table (rows with numbers): those of all seeds over their draws."""
    found: dict[tuple[str, str, str, str], dict[str, float]] = {}
    drawn: dict[tuple[str, str, str, str], float] = {}
    for row in costs.to_dict("records"):
        draws = row["events"] * row["draws"]
        if math.isfinite(row["network_calls"]) and math.isfinite(draws):
            key = (row["problem"], row["method"], row["infer"], row["family"])
            total = found.setdefault(key, dict.fromkeys(COSTS, 0.0))
            for name in COSTS:
                total[name] += row[name]
            drawn[key] = drawn.get(key, 0.0) + draws
    return {
        key: {name: each / drawn[key] for name, each in total.items()} for key, total in found.items() if drawn[key]
    }


def make_plots(
    study: Study,
    rows: Mapping[str, Rows],
    costs: Costs,
    families: Mapping[str, Sequence[Family]],
    series: Sequence[Series],
) -> list[Plot]:
    """Every figure of a study as numbers.

    Args:
        study: as it ran.
        rows: rows of the metrics table by problem and metric.
        costs: as `costs_of_a_draw` gives them.
        families: of each problem, in the order of panels.
        series: methods of the whole report.
    """
    return [
        _plot(number, figure, study, rows, costs, families, series) for number, figure in enumerate(study.figures, 1)
    ]


def _plot(
    number: int,
    figure: Figure,
    study: Study,
    rows: Mapping[str, Rows],
    costs: Costs,
    families: Mapping[str, Sequence[Family]],
    series: Sequence[Series],
) -> Plot:
    against = x_label(figure, "")
    title = figure.title or f"{words(figure.y).title} {f'against {against}' if against else f'by {figure.x}'}"
    plot = Plot(number, figure, title, figure.y, "", x_label(figure, ""), [])
    taken = {name: found for name, found in rows.items() if name in study.problems and figure.takes(problems=name)}
    known = dict.fromkeys(metric for found in taken.values() for metric in found)
    for metric in (figure.y, *(("seen_swd",) if figure.x == "seen_swd" else ())):
        if metric not in known:
            hint = did_you_mean(metric, known)
            plot.note = f"no result of these problems has a metric '{metric}'{hint} The metrics are {', '.join(known)}."
            return plot
    results = []
    for name, found in taken.items():
        mine = [f for f in families[name] if figure.takes(families=f.name)]
        lookup = {
            metric: grouped(found.get(metric, ()), "method", "infer", "family") for metric in {figure.y, "seen_swd"}
        }
        results += list(_results(figure, study, name, mine, series, lookup, costs))
    drawn = [r for r in results if r.x is not None]
    if not drawn:
        what = f"no result that the filters leave has '{figure.y}'"
        plot.note = f"{what} and a value of '{figure.x}'." if results else f"{what}."
        return plot
    # Problems and families that have nothing to draw against x have no panel.
    places = {_place(figure, r) for r in drawn}
    results = [r for r in results if _place(figure, r) in places]
    plot.unit = _unit(rows, figure.y, results)
    plot.x_label = x_label(figure, _unit(rows, figure.x, results))
    plot.panels = _panels(figure, study, results)
    return plot


def trained_ranges(spec: Problem) -> dict[str, list[tuple[float, float]]]:
    """Ranges of parameters that sweeps are trained on, by parameter."""
    ranges: dict[str, list[tuple[float, float]]] = {}
    for family in spec.families.values():
        for name, value in family.params.items() if family.sweep else ():
            if is_distribution(value):
                ranges.setdefault(name, []).extend(Uniform(**value).intervals)
    return ranges


def x_label(figure: Figure, unit: str) -> str:
    """Words for the axis of x."""
    if figure.x in LABELS:
        return LABELS[figure.x]
    if figure.x == "seen_swd":
        return with_unit(words("seen_swd").title.lower(), unit)
    return figure.x.partition(".")[2].replace(".", ", ").replace("_", " ")


def _unit(rows: Mapping[str, Rows], metric: str, results: Sequence[Result]) -> str:
    problems = {r.problem for r in results}
    found = {row["unit"] for name in sorted(problems) for row in rows[name].get(metric, ())}
    return next((unit for unit in sorted(found) if unit not in ("", "1")), "") if len(found) == 1 else ""


def _results(
    figure: Figure,
    study: Study,
    problem: str,
    families: Sequence[Family],
    series: Sequence[Series],
    lookup: Mapping[str, Mapping[tuple[Any, ...], list[dict[str, Any]]]],
    costs: Costs,
) -> Iterator[Result]:
    methods = study.problems[problem].methods
    for s in series:
        if s.method not in methods or methods[s.method].kind != s.kind or s.infer not in methods[s.method].infer:
            continue
        if not figure.takes(methods=s.method, infer=s.infer):
            continue
        for family in families:
            key = (s.method, s.infer, family.name)
            measured = measure(lookup[figure.y].get(key, ()), s.competes)
            if measured is None or measured.failed:
                continue
            if figure.x in COSTS:
                # The oracle calls no network.
                x: float | str | None = costs.get((problem, *key), {}).get(figure.x) or None
            elif figure.x == "seen_swd":
                seen = measure(lookup["seen_swd"].get(key, ()))
                x = seen.value if seen else None
            elif figure.x == "set_size":
                observed = float(min(row["n_observed"] for row in lookup[figure.y][key]))
                x = _set_size(methods[s.method], s.infer, observed)
            else:
                x = _of_study(figure.x, study, problem, family, s)
            if x is None and _runs_over(figure, "family"):
                continue
            yield Result(problem, family, s, x, measured)


def _set_size(method: Any, infer: str, observed: float) -> float | None:
    """Observations that a result is conditioned on; None of a method that answers each event by itself."""
    settings = method.infer[infer]
    if not method.uses_set(settings):
        return None
    if settings.set_size == "all":
        return observed if math.isfinite(observed) else None
    return float(min(settings.set_size, observed) if math.isfinite(observed) else settings.set_size)


def _of_study(x: str, study: Study, problem: str, family: Family, series: Series) -> float | str | None:
    spec = study.problems[problem]
    group, _, name = x.partition(".")
    if not name:
        return {"problem": problem, "family": family.name, "method": series.label}[x]
    if group == "params":
        # A shift is another family at the same parameter.
        known = family_numbers(spec, family.name) if family.name in spec.families and family.shift == "none" else {}
    elif group == "simulator":
        known = numbers(spec.simulator)
    elif group == "method":
        known = numbers(spec.methods[series.method].model_dump(mode="json", exclude={"infer"}))
    else:
        known = numbers(spec.methods[series.method].infer[series.infer])
    return known.get(name)


def _runs_over(figure: Figure, what: str) -> bool:
    """Whether results of several problems or families stand in one panel."""
    group = figure.x.partition(".")[0]
    return group in {"family": ("family", "params", "seen_swd"), "problem": ("problem", "simulator")}[what]


def _place(figure: Figure, result: Result) -> tuple[str, str]:
    return (
        "" if _runs_over(figure, "problem") else result.problem,
        "" if _runs_over(figure, "family") else result.family.name,
    )


def _panels(figure: Figure, study: Study, results: Sequence[Result]) -> list[Panel]:
    several = len({r.problem for r in results}) > 1
    labels = _labels(figure, study, results)
    panels: dict[tuple[str, str], Panel] = {}
    for result in results:
        place = _place(figure, result)
        if place not in panels:
            problem = place[0] if several else ""
            title = ": ".join(part for part in (problem, result.family.title if place[1] else "") if part)
            name = figure.x.removeprefix("params.")
            panels[place] = Panel(place[0], title, [], trained_ranges(study.problems[result.problem]).get(name, ()))
        panel, label = panels[place], labels[result.problem, _key(figure, study, result)]
        line = next((one for one in panel.lines if one.label == label), None)
        if line is None:
            line = Line(label)
            panel.lines.append(line)
        line.results.append(result)
    for panel in panels.values():
        for line in panel.lines:
            line.results.sort(key=lambda r: r.x if isinstance(r.x, float) else 0.0)
    return list(panels.values())


Key = tuple[str, ...]


def _key(figure: Figure, study: Study, result: Result) -> Key:
    """What results of one line have in common."""
    method, infer = result.series.method, result.series.infer
    if result.x is None or _runs_over(figure, "problem") or figure.x == "method":
        return ("" if result.x is not None else "reference", method, infer)
    spec = study.problems[result.problem].methods[method]
    settings = spec.infer[infer].model_dump(mode="json", exclude={"families", "parts"})
    for name in STANDS_FOR.get(figure.x, ()):
        settings.pop(name, None)
    group, _, path = figure.x.partition(".")
    if group == "infer":
        _without(settings, path)
    if group != "method":
        return (method, canonical(settings))
    whole = spec.model_dump(mode="json", exclude={"infer"})
    _without(whole, path)
    return (canonical(whole), canonical(settings))


def _without(settings: dict[str, Any], path: str) -> None:
    *parents, last = path.split(".")
    for part in parents:
        settings = settings[part]
    settings.pop(last, None)


def _labels(figure: Figure, study: Study, results: Sequence[Result]) -> dict[tuple[str, Key], str]:
    """A name for each line of each problem: what the names of its methods share, then those of its inferences."""
    if figure.x == "method":
        return {(r.problem, _key(figure, study, r)): r.series.label for r in results}
    members: dict[str, dict[Key, list[Series]]] = {}
    for r in results:
        found = members.setdefault(r.problem, {}).setdefault(_key(figure, study, r), [])
        if r.series not in found:
            found.append(r.series)
    labels = {}
    for problem, groups in members.items():
        heads = {key: _common([s.method for s in found]) for key, found in groups.items()}
        taken: set[str] = set()
        for key, found in groups.items():
            siblings = [k for k in groups if heads[k] == heads[key]]
            label = heads[key]
            if len(siblings) > 1:
                shared = _pieces([s.infer for k in siblings for s in groups[k]])
                own = [piece for piece in _pieces([s.infer for s in found]) if piece not in shared]
                label += f" ({'-'.join(own)})" if own else ""
            if label in taken:
                whose = (dict.fromkeys(s.method for s in found), dict.fromkeys(s.infer for s in found))
                label = f"{', '.join(whose[0])} ({', '.join(whose[1])})"
            taken.add(label)
            labels[problem, key] = label
    return labels


def _pieces(names: Sequence[str]) -> list[str]:
    """Pieces between hyphens that all names have, in the order of the first: euler-2, euler-4 -> euler."""
    split = [re.split(r"[-_]", name) for name in names]
    return [piece for piece in split[0] if all(piece in pieces for pieces in split)]


def _common(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return names[0] if len(names) == 1 else "-".join(_pieces(names)) or ", ".join(names)
