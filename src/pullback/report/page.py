"""The report of a study: one self-contained page, and all metrics in one table."""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pullback.core.atomic import write_atomic
from pullback.core.optional import require
from pullback.ensembles.stale_files import refuse_stale_files
from pullback.metrics.budget import Budget, read_budgets
from pullback.metrics.metric import load_metrics, words
from pullback.metrics.table import COLUMNS, COST_COLUMNS, write_table
from pullback.problems.base import problem_of
from pullback.report import calibration, figures, matrices, plots, uncertainties, weights
from pullback.report.curves import curve_figure, read_curves
from pullback.report.diagnosis import Line, diagnose
from pullback.report.drawing import Drawing
from pullback.report.examples import Example, read_examples, with_coordinates
from pullback.report.galleries import Gallery, galleries
from pullback.report.lines import LINE_COLUMNS, Plot, costs_of_a_draw, make_plots, trained_ranges
from pullback.report.receipt import versions
from pullback.report.seeds import SEED_COLUMNS, seed_rows
from pullback.report.style import LABEL_TEXT, ROLE_TEXT, ROLES, Series, main_metric, make_series, number
from pullback.report.tables import (
    COST_HEADS,
    FAR,
    Check,
    Family,
    MetricTable,
    Rows,
    as_numbers,
    collect,
    cost_rows,
    metric_table,
    read_csv,
    rows_by_metric,
    truth_free,
)
from pullback.report.unfolding_tests import MethodTable, Outcome, Results, method_tables, outcomes
from pullback.study.model import Problem, Study

log = logging.getLogger("pullback")


@dataclass(frozen=True)
class MethodCard:
    """Description of one method of one problem."""

    series: Series
    meaning: str
    settings: str


@dataclass
class ProblemView:
    """One problem as the template prints it."""

    name: str
    kind: str
    meaning: str
    cards: list[MethodCard]
    main: MetricTable | None = None
    others: list[MetricTable] = field(default_factory=list)
    verdict: str = ""
    overview: Drawing | None = None
    calibration: list[Drawing] = field(default_factory=list)
    budgets: list[Drawing] = field(default_factory=list)
    migration: Drawing | None = None
    weights: list[Drawing] = field(default_factory=list)
    tests: list[Outcome] = field(default_factory=list)
    method_tables: list[MethodTable] = field(default_factory=list)
    galleries: list[Gallery] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    other_forward: str = ""
    curves: Drawing | None = None
    costs: list[tuple[Series, list[str]]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    preflight: list[tuple[str, str]] = field(default_factory=list)
    diagnosis: list[Line] = field(default_factory=list)


def write_report(
    job: str,
    metrics: list[Path],
    costs: list[Path],
    examples: list[Path],
    curves: list[Path],
    preflights: list[Path],
    page: Path,
    table: Path,
    seeds: Path,
    drawn: Path,
    files: Sequence[Path] = (),
    budgets: Sequence[Path] = (),
) -> None:
    """Write the page of a study, the table of all its metrics, that of their means over seeds and that of its figures.

    Args:
        job: ``Plan.report_job()``: the study, and the folder of its file.
        metrics, costs: CSV tables of each (problem, method).
        examples: HDF5 files of each (problem, method), as evaluation writes them.
        curves: CSV loss curves, named ``.../models|priors|likelihoods/<problem>/<name>/seed-<n>.curves.csv``.
        preflights: JSON files, named ``.../<problem>/preflight.json``.
        page: HTML file; everything it shows is inside it.
        table: CSV file: the rows of ``metrics``, one table after the other.
        seeds: CSV file: one row for the rows of all seeds (columns: `pullback.report.seeds`).
        drawn: CSV file: what the study's `figures` show (columns: `pullback.report.lines`).
        files: JSON files of `pullback.problems.check_files`, named ``.../<problem>/<family>/files.json``.
        budgets: HDF5 files of `pullback.metrics.budget`, named ``.../<problem>.h5``.

    Raises:
        ReportError: an input cannot be read or lacks a column; nothing is written.
    """
    parsed = json.loads(job)
    refuse_stale_files(parsed, examples=examples, budgets=list(budgets))
    study = Study.model_validate(parsed["study"], context={"folder": parsed["folder"]})
    for problem in study.problems.values():
        load_metrics(problem.evaluation.metrics, parsed["folder"])
    text = read_csv(metrics, COLUMNS)
    numbers = as_numbers(text)
    cost = as_numbers(read_csv(costs, COST_COLUMNS))
    found = read_examples(examples)
    uncertain = {Path(path).stem: read_budgets(path) for path in budgets}
    loss = read_curves(curves)
    checks = {Path(path).parent.name: json.loads(Path(path).read_text()) for path in preflights}
    for path in files:
        problem_name, family = Path(path).parts[-3:-1]
        checks[problem_name].setdefault("files", {})[family] = json.loads(Path(path).read_text())
    series = make_series(
        [tuple(row) for row in numbers[["method", "infer", "method_kind", "returns"]].drop_duplicates().to_numpy()]
        + [(e.method, e.infer, e.method_kind, e.returns) for e in found],
        {method.kind: type(method) for problem in study.problems.values() for method in problem.methods.values()},
    )
    problems, rows, families = [], {}, {}
    for position, (name, spec) in enumerate(study.problems.items()):
        metric_rows = numbers[numbers["problem"] == name]
        examples_of = _in_units([e for e in found if e.problem == name], spec, parsed["folder"])
        rows[name], families[name] = rows_by_metric(metric_rows), problem_families(spec, metric_rows, examples_of)
        problems.append(
            _problem(
                f"p{position}",
                name,
                spec,
                metric_rows,
                rows[name],
                families[name],
                cost[cost["problem"] == name],
                examples_of,
                [c for c in loss if c[0] == name],
                checks.get(name, {}),
                series,
                uncertain.get(name, {}),
            )
        )
    asked = _asked(study, rows, cost, families, series)
    here = Path(page).parent
    html = _render(study, problems, series, asked, *(os.path.relpath(path, here) for path in (table, seeds, drawn)))
    write_atomic(table, text.to_csv(index=False, lineterminator="\n"))
    write_table(seeds, SEED_COLUMNS, seed_rows(numbers.to_dict("records")))
    write_table(drawn, LINE_COLUMNS, (row for plot, _ in asked for row in plot.rows()))
    write_atomic(page, html)


def _asked(
    study: Study,
    rows: Mapping[str, Rows],
    costs: Any,
    families: Mapping[str, Sequence[Family]],
    series: Sequence[Series],
) -> list[tuple[Plot, Drawing | None]]:
    """The figures that the study asks for; one that has nothing to show is told here and on the page."""
    found = make_plots(study, rows, costs_of_a_draw(costs), families, series)
    for plot in found:
        if plot.note:
            log.warning("figures[%d], '%s', is not drawn: %s", plot.number - 1, plot.title, plot.note)
    return [(plot, plots.draw(f"g{plot.number}", plot)) for plot in found]


def _render(
    study: Study,
    problems: list[ProblemView],
    series: list[Series],
    asked: list[tuple[Plot, Drawing | None]],
    table: str,
    seeds: str,
    drawn: str,
) -> str:
    jinja2 = require("jinja2", extra="evaluate")
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    used = {s.returns for s in series}
    present = {
        row.family.role for p in problems for t in [p.main, *p.others] if t for _, rows in t.groups for row in rows
    }
    return environment.get_template("page.html").render(
        study=study,
        problems=problems,
        series=series,
        table=table,
        seeds=seeds,
        drawn=drawn,
        asked=asked,
        labels={name: meaning for name, meaning in LABEL_TEXT.items() if name in used},
        roles=[role for role in ROLES if role in present],
        role_text=ROLE_TEXT,
        cost_heads=COST_HEADS,
        far=FAR,
        config=yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110),
        versions={name: version for name, version in versions().items() if version},
        css=(here / "style.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8"),
    )


def _problem(
    key: str,
    name: str,
    spec: Problem,
    metrics: Any,
    rows: Rows,
    families: Sequence[Family],
    costs: Any,
    examples: Sequence[Example],
    curves: Sequence[tuple[str, str, str, Any]],
    preflight: Mapping[str, Any],
    every: Sequence[Series],
    budgets: Mapping[str, Budget],
) -> ProblemView:
    # A name may be a method of another kind in another problem.
    columns = (metrics[name] for name in ("method", "infer", "method_kind"))
    named = {*zip(*columns, strict=True), *((e.method, e.infer, e.method_kind) for e in examples)}
    series = [s for s in every if (s.method, s.infer, s.kind) in named]
    view = ProblemView(name, spec.kind, _sentence(spec.spec.cls), [_card(s, spec) for s in series])
    is_field = any(e.is_field for e in examples) or any(m.startswith("ssim") for m in metrics["metric"])
    headline = spec.evaluation.headline
    if headline and headline not in rows:
        log.warning("%s: the headline '%s' is no metric of this problem; the usual one stands first", name, headline)
    chosen = headline if headline in rows else main_metric(_of_most(rows), is_field)
    if chosen:
        view.main = metric_table(rows[chosen], chosen, series, families)
        view.verdict = _verdict(view.main)
        found = collect(rows[chosen], series, families)
        view.overview = figures.generalisation(
            f"{key}o", chosen, view.main.unit, series, families, found, trained_ranges(spec)
        )
    others = [name for name in sorted(rows) if name != chosen and not weights.are_drawn(name)]
    view.others = [metric_table(rows[name], name, series, families) for name in others]
    view.checks = truth_free(rows, series, families)
    view.other_forward = ", ".join(family.title for family in families if not family.own_forward)
    view.calibration = calibration.drawings(f"{key}r", families, series, examples)
    units = {spectrum.name: spectrum.unit for example in examples for spectrum in example.spectra}
    view.budgets = uncertainties.drawings(f"{key}u", budgets, units, {family.name: family.title for family in families})
    view.migration = matrices.migration(f"{key}g", [e for f in families for e in examples if e.family == f.name])
    view.weights = weights.drawings(f"{key}w", rows, series, families)
    results = Results(rows, series, families)
    view.tests, view.method_tables = outcomes(results), method_tables(results, units)
    view.galleries = galleries(key, families, series, examples)
    view.curves = curve_figure(f"{key}c", curves, series)
    view.costs = cost_rows(costs, series)
    view.failures = _failures(metrics, costs)
    view.diagnosis = diagnose(rows, series, families, chosen, preflight, spec.spec.advice)
    view.preflight = [(k.replace("_", " "), _plain(v)) for k, v in preflight.items() if k != "files"]
    for family, said in preflight.get("files", {}).items():
        view.preflight += [(f"files of {family}", line) for line in said["said"]]
    return view


def _of_most(rows: Rows) -> list[str]:
    """Metrics that at least half of the results have: point estimates of few draws have no errors of the mean."""
    having = {metric: len({(row["method"], row["infer"]) for row in found}) for metric, found in rows.items()}
    return [metric for metric, n in having.items() if 2 * n >= max(having.values())]


def _in_units(examples: Sequence[Example], spec: Problem, folder: str) -> list[Example]:
    """Examples of fields with the coordinates of their problem: metres and seconds instead of cells."""
    if not any(e.is_field for e in examples):
        return list(examples)
    problem = problem_of({"kind": spec.kind, "simulator": spec.simulator_values, "folder": folder})
    return [with_coordinates(e, problem.x, problem.y) for e in examples]


def problem_families(spec: Problem, metrics: Any, examples: Sequence[Example]) -> list[Family]:
    """Families that were evaluated or drawn: by role, then parameter, then the study's name."""
    # The evaluation knows which files were there, and so whose events these are.
    known = {example.family: (example.title, example.role, example.shift) for example in examples}
    for row in metrics[["family", "role", "shift"]].drop_duplicates("family").itertuples(index=False):
        declared = spec.families.get(row.family)
        known.setdefault(row.family, ((declared.title if declared else None) or row.family, row.role, row.shift))
    sweeps = [f.params for f in spec.families.values() if f.sweep]
    families = []
    for name, (title, role, shift) in known.items():
        declared = spec.families.get(name)
        base = declared
        while base and base.events_from:
            base = spec.families.get(base.events_from)
        tags = [] if shift in ("none", "") else [f"shift: {shift}"]
        parameter = None
        if base and role != "observed":
            numeric = [
                (k, float(v)) for k, v in base.params.items() if isinstance(v, int | float) and not isinstance(v, bool)
            ]
            parameter = numeric[0] if len(numeric) == 1 and len(base.params) == 1 else None
            if sweeps and base.params:
                inside = any(spec.spec.is_inside(base.params, sweep) for sweep in sweeps)
                tags.append("inside the trained range" if inside else "outside the trained range")
        outside = bool(base and base.read)
        own = base is None or base.has_own_forward
        families.append(Family(name, title, role, shift or "none", tuple(tags), parameter, outside, own))
    return sorted(
        families,
        key=lambda f: (
            ROLES.index(f.role) if f.role in ROLES else len(ROLES),
            f.shift != "none",
            f.parameter[1] if f.parameter else math.inf,
            f.name,
        ),
    )


def _sentence(kind: type) -> str:
    return " ".join((kind.__doc__ or "").strip().split("\n\n")[0].split())


def _card(series: Series, spec: Problem) -> MethodCard:
    method = spec.methods.get(series.method)
    if method is None:
        return MethodCard(series, "", "")
    infer = method.infer.get(series.infer)
    chosen = {
        key: value
        for key, field in type(method).model_fields.items()
        if key != "kind" and isinstance(value := getattr(method, key), str | int | float) and value != field.default
    }
    given = infer.model_dump(mode="json", exclude={"families", "parts"}, exclude_none=True) if infer else {}
    settings = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in {**chosen, **given}.items())
    return MethodCard(series, _sentence(type(method)), settings)


def _verdict(table: MetricTable) -> str:
    """What the main table says about unseen families, in one sentence."""
    rows = next((rows for role, rows in table.groups if role == "unseen"), [])
    compared = [
        r for r in rows if sum(bool(c.interval) for c, s in zip(r.cells, table.series, strict=True) if s.competes) > 1
    ]
    if not compared or table.words.better not in ("lower", "higher"):
        return ""
    lead = sorted(table.marks.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{name} is clearly best on {n} of {len(compared)}" for name, n in lead]
    open_rows = len(compared) - sum(table.marks.values())
    if open_rows:
        said.append(f"on {open_rows} no method is clearly best")
    title = table.words.title[0].lower() + table.words.title[1:]
    return f"Unseen families, {title}: {', '.join(said)} (95 % intervals apart from all others)."


def _failures(metrics: Any, costs: Any) -> list[str]:
    """Messages about failures that were counted; empty when there are none."""
    said = []
    for row in metrics[metrics["value"] > 0].itertuples(index=False):
        alarm = words(row.metric).metric.alarm
        if alarm:
            who = f"{row.method} ({row.infer}, seed {row.seed}) on {row.family}"
            said.append(f"{who}: {alarm.format(percent=100 * row.value)}")
    for column, what in (
        ("failed_simulations", "simulations failed inside the method"),
        ("projected", "states were projected to the simulator's bounds"),
    ):
        part = costs[costs[column] > 0]
        for (method, infer), group in part.groupby(["method", "infer"], sort=True):
            said.append(f"{method} ({infer}): {group[column].sum():.0f} {what}")
    return said


def _plain(value: Any) -> str:
    return (
        number(value)
        if isinstance(value, float)
        else json.dumps(value)
        if isinstance(value, dict | list)
        else str(value)
    )
