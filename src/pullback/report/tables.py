"""Tables of the report: metrics by family and method with intervals and floors, costs, truth-free checks, failures."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pullback.core.optional import require
from pullback.metrics.bootstrap import LEAST_GROUPS
from pullback.metrics.metric import Words, words
from pullback.metrics.table import COST_COLUMNS
from pullback.report.files import ReportError
from pullback.report.seeds import Measured, grouped, measure
from pullback.report.style import ROLES, Series, interval, number

FEW_GROUPS = 10
"""With fewer the page says how many there are."""
NO_INTERVAL = "No interval where fewer than five independent groups of events were evaluated."

FAR = 1.5
"""How many times the distance that 95 % of sets of the training priors stay below is called far."""

TIMES_AS_FAR = "times as far from the training ensembles as 95 % of sets of their own"

_NUMBERS = {"value", "low", "high", "floor", "n", "n_observed", "groups", *COST_COLUMNS[5:]}


def read_csv(paths: Iterable[Path], wanted: Sequence[str]) -> Any:
    """All rows of some CSV files, in order, every cell as text.

    Raises:
        ReportError: a file is missing, empty or lacks a wanted column.
    """
    pandas = require("pandas", extra="evaluate")
    frames = []
    for path in paths:
        try:
            frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise ReportError(f"{path}: not a readable CSV table ({error}); run the rule that makes it again") from None
        missing = [name for name in wanted if name not in frame.columns]
        if missing:
            raise ReportError(f"{path}: no column {', '.join(missing)} (found {', '.join(frame.columns)})")
        frames.append(frame)
    return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame(columns=list(wanted), dtype=str)


def as_numbers(frame: Any) -> Any:
    """A copy in which the columns that hold numbers are numbers; what is no number becomes NaN."""
    pandas = require("pandas", extra="evaluate")
    frame = frame.copy()
    for name in _NUMBERS & set(frame.columns):
        frame[name] = pandas.to_numeric(frame[name], errors="coerce")
    return frame


Rows = dict[str, list[dict[str, Any]]]
"""Rows of a metrics table by metric."""


def rows_by_metric(metrics: Any) -> Rows:
    """Rows of a table with numbers, by metric."""
    return {metric: rows for (metric,), rows in grouped(metrics.to_dict("records"), "metric").items()}


def best(cells: Sequence[Measured | None], better: str) -> int | None:
    """Position of the best value, or None unless its interval is disjoint from that of every other candidate.

    Candidates compete (bounds do not), have an interval, and were evaluated on as many events as the others: those
    evaluated on fewer are shown, not ranked. A single candidate is not marked.

    Args:
        cells: one for each column of a row.
        better: "lower", "higher", or "" (never marked).
    """
    rated = [(i, c) for i, c in enumerate(cells) if c and c.competes and math.isfinite(c.low) and math.isfinite(c.high)]
    most = max((c.n for _, c in rated if math.isfinite(c.n)), default=math.nan)
    rated = [(i, c) for i, c in rated if not math.isfinite(most) or c.n == most]
    if better not in ("lower", "higher") or len(rated) < 2:
        return None
    sign = 1 if better == "lower" else -1
    rated.sort(key=lambda item: sign * item[1].value)
    first, rest = rated[0], rated[1:]
    apart = all(first[1].high < c.low if better == "lower" else first[1].low > c.high for _, c in rest)
    return first[0] if apart else None


@dataclass(frozen=True)
class Family:
    """A family as a row label.

    Attributes:
        name, title, role, shift: as in the study.
        tags: its shift, in or outside the trained range.
        parameter: its one number.
        outside: its observations come from files, and not from the problem's simulator.
        own_forward: the problem's forward process is that of its observations.
    """

    name: str
    title: str
    role: str
    shift: str = "none"
    tags: tuple[str, ...] = ()
    parameter: tuple[str, float] | None = None
    outside: bool = False
    own_forward: bool = True


@dataclass(frozen=True)
class Cell:
    """What one cell prints: value, interval, notes; whether it is marked; its tooltip; whether groups are too few."""

    value: str
    interval: str = ""
    note: str = ""
    best: bool = False
    tip: str = ""
    few: bool = False


@dataclass(frozen=True)
class Row:
    """One family of a table."""

    family: Family
    cells: list[Cell]
    floor: str
    n: str


@dataclass(frozen=True)
class MetricTable:
    """One metric of one problem: families (grouped by role) by methods."""

    metric: str
    words: Words
    unit: str
    series: list[Series]
    groups: list[tuple[str, list[Row]]]
    has_floor: bool
    few: str = ""
    """The note on cells without an interval, where there are any."""
    marks: dict[str, int] = field(default_factory=dict)
    """How often each series is marked best on unseen families."""


def collect(
    rows: Sequence[dict[str, Any]], series: Sequence[Series], families: Sequence[Family]
) -> list[list[Measured | None]]:
    """(family, series) of one metric; ``rows`` are that metric's, of one problem."""
    groups = grouped(rows, "method", "infer", "family")
    return [
        [measure(groups.get((s.method, s.infer, family.name), ()), s.competes) for s in series] for family in families
    ]


def _unit(rows: Sequence[dict[str, Any]]) -> str:
    return next((row["unit"] for row in rows if row["unit"] not in ("", "1")), "")


def metric_table(
    rows: Sequence[dict[str, Any]], metric: str, series: Sequence[Series], families: Sequence[Family]
) -> MetricTable:
    """The table of one metric from its rows; only series and families that have a value."""
    found = collect(rows, series, families)
    shown = [i for i in range(len(series)) if any(row[i] for row in found)]
    text = words(metric)
    groups: list[tuple[str, list[Row]]] = []
    marks: dict[str, int] = {}
    for role in ROLES:
        shown_rows = []
        for family, measured in zip(families, found, strict=True):
            cells = [measured[i] for i in shown]
            if family.role != role or not any(cells):
                continue
            mark = best(cells, text.better)
            if mark is not None and role == "unseen":
                name = series[shown[mark]].label
                marks[name] = marks.get(name, 0) + 1
            shown_rows.append(_row(family, cells, mark))
        if shown_rows:
            groups.append((role, shown_rows))
    return MetricTable(
        metric,
        text,
        _unit(rows),
        [series[i] for i in shown],
        groups,
        any(row.floor != "–" for _, group in groups for row in group),
        NO_INTERVAL if any(cell.few for _, group in groups for row in group for cell in row.cells) else "",
        marks,
    )


def _row(family: Family, cells: Sequence[Measured | None], mark: int | None) -> Row:
    present = [c for c in cells if c]
    most = max((c.n for c in present if math.isfinite(c.n)), default=math.nan)
    floors = [c.floor for c in present if math.isfinite(c.floor) and (c.n == most or not math.isfinite(most))]
    floor = floors[0] if floors else math.nan
    return Row(
        family,
        [_cell(c, i == mark, most, floor) for i, c in enumerate(cells)],
        number(floor),
        count(most),
    )


def _cell(measured: Measured | None, marked: bool, most: float, floor: float) -> Cell:
    if measured is None:
        return Cell("–", tip="not evaluated on this family")
    m = measured
    if m.failed:
        return Cell("failed", tip=f"too many draws, or their simulations, failed; {count(m.n)} events")
    notes = []
    if len(m.seeds) > 1:
        notes.append(f"seeds {number(min(m.seeds), m.low, m.high)} to {number(max(m.seeds), m.low, m.high)}")
    if m.n < most:
        notes.append(f"n = {count(m.n)}")
    # Of fewer events, or of fewer draws: another than the row's.
    if math.isfinite(m.floor) and m.floor != floor:
        notes.append(f"floor {number(m.floor)}")
    # Where each event is a group, their number says it.
    if m.groups < FEW_GROUPS and m.groups < m.n:
        notes.append(f"{m.groups:.0f} groups")
    tip = f"{m.value:.6g}, 95 % interval [{m.low:.6g}, {m.high:.6g}], floor {m.floor:.6g}, {count(m.n)} events"
    if m.groups < m.n:
        tip += f" in {m.groups:.4g} groups"
    few = m.groups < LEAST_GROUPS
    return Cell(number(m.value, m.low, m.high), interval(m.value, m.low, m.high), ", ".join(notes), marked, tip, few)


def count(value: float) -> str:
    """An integer with thin spaces between thousands, or a dash."""
    return f"{int(value):,}".replace(",", "\u202f") if math.isfinite(value) else "–"


COST_HEADS = (
    "seconds",
    "peak memory (MB)",
    "events",
    "draws each",
    "ms per draw",
    "network calls",
    "network gradients",
    "likelihood gradients",
    "simulator calls",
    "failed simulations",
    "projected to bounds",
)


COUNTS = (
    "network_calls",
    "network_gradients",
    "likelihood_gradients",
    "simulator_calls",
    "failed_simulations",
    "projected",
)
"""Columns of the cost table that are counts, in the order of their heads."""


def cost_rows(costs: Any, series: Sequence[Series]) -> list[tuple[Series, list[str]]]:
    """What methods used on one problem, all families together, mean over seeds; columns: `COST_HEADS`."""
    groups = dict(list(costs.groupby(["method", "infer"], sort=False)))
    return [(s, _cost(groups[s.method, s.infer])) for s in series if (s.method, s.infer) in groups]


def _cost(part: Any) -> list[str]:
    seeds = max(part["seed"].nunique(), 1)

    def total(name: str) -> float:
        return float(part[name].sum(min_count=1)) / seeds

    seconds = total("seconds")
    drawn = float((part["events"] * part["draws"]).sum(min_count=1)) / seeds
    each = part["draws"].dropna().unique()
    per_draw = 1000 * seconds / drawn if drawn and math.isfinite(drawn) else math.nan
    memory = float(part["peak_memory_mb"].max())
    return [
        number(seconds),
        count(round(memory)) if math.isfinite(memory) else "–",
        count(total("events")),
        " / ".join(count(v) for v in sorted(each)) or "–",
        number(per_draw),
        *(count(total(name)) for name in COUNTS),
    ]


@dataclass(frozen=True)
class Check:
    """One truth-free number about one observed family."""

    family: Family
    series: Series
    title: str
    value: str
    interval: str
    unit: str
    reading: str
    good: bool | None


def truth_free(by_metric: Rows, series: Sequence[Series], families: Sequence[Family]) -> list[Check]:
    """Checks of observed families that need no truth, each with a reading in plain words."""
    checks = []
    outsized = collect(by_metric.get("set_size_outside", []), series, families)
    for metric in (m for m in by_metric if words(m).metric.check):
        found = collect(by_metric[metric], series, families)
        unit = _unit(by_metric[metric])
        for place, (family, row) in enumerate(zip(families, found, strict=True)):
            if family.role != "observed":
                continue
            for position, measured in enumerate(row):
                if measured is None:
                    continue
                seen = [r[position] for r, f in zip(found, families, strict=True) if f.role == "seen"]
                size = outsized[place][position]
                untrained = size is not None and size.value > 0
                reading, good = read_check(metric, measured, [m for m in seen if m], untrained)
                shown = number(measured.value, measured.low, measured.high)
                span = interval(measured.value, measured.low, measured.high)
                title = words(metric).title
                checks.append(Check(family, series[position], title, shown, span, unit, reading, good))
    order = {family.name: i for i, family in enumerate(families)}
    return sorted(checks, key=lambda c: (order[c.family.name], c.series.index))


def read_check(
    metric: str, measured: Measured, seen: Sequence[Measured], untrained: bool = False
) -> tuple[str, bool | None]:
    """A verbal interpretation, and whether it is good (None: undecided).

    A check with a limit is compared with that; the others with their floor, then with the largest value on seen
    families.

    Args:
        metric: its name.
        measured: on an observed family.
        seen: on seen families.
        untrained: the observations were conditioned on in sets of a size that was not trained.
    """
    if measured.failed:
        return "failed: too many draws, or their simulations, did", False
    limit = words(metric).metric.limit
    if limit == "floor" or math.isfinite(limit):
        ratio = measured.value / limit_of(metric, measured)
        if metric == "embedding_distance" and untrained:
            return "its sets have a size that was not trained: the distance says no more than that", None
        return _read_distance(ratio)
    if math.isfinite(measured.floor) and measured.low <= measured.floor:
        return f"at the sampling floor ({number(measured.floor)})", True
    worst = max((m.value for m in seen if not m.failed), default=math.nan)
    if measured.value <= worst:
        return f"as on seen families (up to {number(worst)})", True
    if worst > 0:
        return f"{measured.value / worst:.1f} times the largest on seen families ({number(worst)})", False
    if measured.floor > 0:
        return f"{measured.value / measured.floor:.1f} times the sampling floor ({number(measured.floor)})", None
    return "no seen family to compare with", None


def limit_of(metric: str, measured: Measured) -> float:
    """The value that 95 % of sets of the training priors stay below; NaN where that is not known, or is 0."""
    limit = words(metric).metric.limit
    limit = measured.floor if limit == "floor" else limit
    return limit if limit > 0 else math.nan


def _read_distance(ratio: float) -> tuple[str, bool | None]:
    if math.isnan(ratio):
        return "too few training sets to compare with", None
    if ratio <= 1:
        return "as near as sets of the training priors (95 % of them)", True
    if ratio <= FAR:
        return f"at the edge of the training priors: 1 in 20 of their sets lies beyond 1, this one at {ratio:.2f}", None
    return f"{ratio:.1f} {TIMES_AS_FAR}: do not trust without other evidence", False
