"""Figures over families and steps: how each method generalises, and how it was trained."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pullback.metrics.metric import words
from pullback.report.drawing import (
    WIDTH,
    Drawing,
    axes_at,
    entry,
    finish,
    floor_handle,
    handle,
    legend,
    log_axis,
    new_figure,
    style,
    tag,
)
from pullback.report.seeds import Measured
from pullback.report.style import FAINT, FLOOR, INK, ROLES, Series, with_unit
from pullback.report.tables import Family

_ROW = 0.42
_LABELS = 2.5


def generalisation(
    key: str,
    metric: str,
    unit: str,
    series: Sequence[Series],
    families: Sequence[Family],
    measured: Sequence[Sequence[Measured | None]],
    support: Mapping[str, Sequence[tuple[float, float]]],
) -> Drawing | None:
    """Metric by family and method, with intervals and floors.

    Families with one number as their parameter (three or more) are drawn against it; the others row by row.

    Args:
        key: unique name of the figure.
        metric, unit: what is drawn.
        series: methods.
        families: rows of ``measured``.
        measured: (family, series).
        support: trained ranges of parameters.
    """
    # A result that failed has no place on an axis; the table says so.
    finite = [[None if c is None or c.failed else c for c in row] for row in measured]
    rows = [(f, m) for f, m in zip(families, finite, strict=True) if any(m)]
    if not rows:
        return None
    shown = [i for i in range(len(series)) if any(m[i] for _, m in rows)]
    numeric = [(f, m) for f, m in rows if f.parameter and f.shift == "none"]
    parameters = {f.parameter[0] for f, _ in numeric if f.parameter}
    values = {f.parameter[1] for f, _ in numeric if f.parameter}
    if len(parameters) != 1 or len(values) < 3:
        numeric = []
    names = {f.name for f, _ in numeric}
    listed = [(f, m) for f, m in rows if f.name not in names]
    text = words(metric)
    label = with_unit(text.title.partition(",")[0], unit)
    below = _list_height(listed) + 0.62 if listed else 0.0
    above = 3.1 if numeric else 0.0
    with style():
        figure = new_figure(WIDTH, 0.4 + above + below)
        handles = [handle(series[i]) for i in shown]
        has_floor = any(c and math.isfinite(c.floor) for _, m in rows for c in m)
        legend(figure, handles + ([floor_handle()] if has_floor else []), 0.05)
        if numeric:
            axes = axes_at(figure, 0.75, below + 0.5, WIDTH - 1.0, above - 0.55)
            name = next(iter(parameters))
            _against_parameter(axes, name, numeric, series, shown, support.get(name, ()))
            axes.set_ylabel(label)
        if listed:
            axes = axes_at(figure, _LABELS, 0.5, WIDTH - _LABELS - 0.25, below - 0.62)
            _by_row(axes, listed, series, shown)
            axes.set_xlabel(f"{label}; {text.direction}" if text.direction else label)
        said = text.direction or text.description
        caption = f"{text.title}: families by methods ({said}). Bars and bands are 95 % intervals"
        caption += "; grey marks the sampling floor, what two independent sets of truth differ by" if has_floor else ""
        caption += ". Shaded ranges of the parameter were trained on." if numeric and support else "."
        alt = f"{text.title} of {', '.join(series[i].label for i in shown)} on {', '.join(f.title for f, _ in rows)}"
        return finish(figure, key, alt, caption)


def _against_parameter(
    axes: Any,
    name: str,
    rows: Sequence[tuple[Family, Sequence[Measured | None]]],
    series: Sequence[Series],
    shown: Sequence[int],
    support: Sequence[tuple[float, float]],
) -> None:
    rows = sorted(rows, key=lambda row: row[0].parameter[1] if row[0].parameter else 0.0)
    x = np.array([f.parameter[1] if f.parameter else np.nan for f, _ in rows])
    shade_trained(axes, support)
    floor = np.array([_floor(m) for _, m in rows])
    if np.isfinite(floor).any():
        axes.fill_between(x, 1e-12, floor, color=FLOOR, alpha=0.25, linewidth=0)
        axes.plot(x, floor, color=FLOOR, linewidth=2.5)
    values = [v for v in floor if math.isfinite(v)]
    for i in shown:
        cells = [m[i] for _, m in rows]
        value, least, most = (np.array([getattr(c, part) if c else np.nan for c in cells]) for part in _PARTS)
        band = axes.fill_between(x, least, most, color=series[i].colour, alpha=0.18, linewidth=0)
        lines = axes.plot(x, value, color=series[i].colour, marker=series[i].marker, markersize=5, linewidth=1.6)
        tag([band, *lines], series[i])
        values += [*value, *least, *most]
    _scale(axes, "y", values)
    axes.set_xlabel(name)
    axes.grid(axis="y")


def shade_trained(axes: Any, support: Sequence[tuple[float, float]]) -> None:
    """Mark the ranges of the parameter on the x axis that were trained on."""
    for low, high in support:
        axes.axvspan(low, high, color="#eef3f8", linewidth=0)
    if support:
        middle = max(support, key=lambda r: r[1] - r[0])
        axes.text(
            sum(middle) / 2, 0.975, "trained range", transform=axes.get_xaxis_transform(), ha="center", va="top",
            fontsize=8, color="#57606a",
        )  # fmt: skip


_PARTS = ("value", "low", "high")


def _floor(cells: Sequence[Measured | None]) -> float:
    found = [(c.n, c.floor) for c in cells if c and math.isfinite(c.floor)]
    return max(found, key=lambda item: item[0] if math.isfinite(item[0]) else -1)[1] if found else math.nan


def _scale(axes: Any, which: str, values: Sequence[float]) -> None:
    """From zero, or logarithmic where values span more than a factor of 10."""
    good = [v for v in values if math.isfinite(v)]
    if not good:
        return
    if min(good) > 0 and max(good) / min(good) > 10:
        log_axis(axes, which, min(good) / 1.4, max(good) * 1.4)
    else:
        axes.set(**{f"{which}lim": (min(0.0, *good) * 1.05, max(good) * 1.07)})


def _list_height(rows: Sequence[tuple[Family, Any]]) -> float:
    groups = len({f.role for f, _ in rows})
    return _ROW * (len(rows) + 0.7 * groups)


def _by_row(
    axes: Any, rows: Sequence[tuple[Family, Sequence[Measured | None]]], series: Sequence[Series], shown: Sequence[int]
) -> None:
    place, ticks, names, values = 0.0, [], [], []
    for role in ROLES:
        group = [row for row in rows if row[0].role == role]
        if not group:
            continue
        axes.text(
            -0.012, place + 0.35, role.capitalize(), transform=axes.get_yaxis_transform(), ha="right", va="center",
            fontweight="bold",
        )  # fmt: skip
        place += 0.7
        for family, cells in group:
            middle = place + 0.5
            axes.axhspan(place + 0.04, place + 0.96, color="#f6f8fa", linewidth=0)
            floor = _floor(cells)
            if math.isfinite(floor):
                axes.plot([floor, floor], [place + 0.08, place + 0.92], color=FLOOR, linewidth=4, solid_capstyle="butt")
                values.append(floor)
            for rank, i in enumerate(shown):
                cell = cells[i]
                if cell is None:
                    continue
                y = middle + 0.72 * ((rank + 0.5) / len(shown) - 0.5)
                dot = axes.plot(cell.value, y, color=series[i].colour, marker=series[i].marker, markersize=5)
                bar = axes.plot([cell.low, cell.high], [y, y], color=series[i].colour, linewidth=1.6)
                tag([*dot, *bar], series[i])
                values += [cell.value, cell.low, cell.high]
            ticks.append(middle)
            names.append(shorten(family.title, 38))
            place += 1
    axes.set_ylim(place, 0)
    axes.set_yticks(ticks, names)
    axes.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=FAINT)
    _scale(axes, "x", values)


def shorten(text: str, most: int) -> str:
    """A label that fits."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def training_curves(key: str, curves: Sequence[tuple[str, str, Any]]) -> Drawing | None:
    """Training and validation loss by step, one panel for each trained thing.

    Args:
        key: unique name of the figure.
        curves: (name, colour, table with columns step, train_loss, validation_loss); tables of one name are seeds.
    """
    names = list(dict.fromkeys(name for name, _, _ in curves))
    if not names:
        return None
    columns = min(len(names), 4)
    lines = math.ceil(len(names) / columns)
    wide = min(3.6, (WIDTH - 0.75 * columns) / columns)
    with style():
        figure = new_figure(columns * (wide + 0.75) + 0.1, 2.45 * lines + 0.35)
        validation = entry("validation, other ensembles", "#57606a", 1.8, marker="o", markersize=4)
        legend(figure, [entry("training", "#57606a", 0.9, alpha=0.6), validation], 0.05)
        for place, name in enumerate(names):
            row, column = divmod(place, columns)
            bottom = 2.45 * (lines - 1 - row) + 0.5
            axes = axes_at(figure, 0.62 + column * (wide + 0.75), bottom, wide, 1.6)
            losses: list[float] = []
            for other, colour, table in curves:
                if other != name:
                    continue
                train = table[table["train_loss"].notna()]
                train = train.iloc[:: max(len(train) // 300, 1)]
                axes.plot(train["step"], train["train_loss"], color=colour, linewidth=0.8, alpha=0.5)
                check = table[table["validation_loss"].notna()]
                axes.plot(
                    check["step"], check["validation_loss"], color=colour, linewidth=1.8, marker="o", markersize=3.5
                )
                losses += [*train["train_loss"], *check["validation_loss"]]
            if losses and min(losses) > 0 and max(losses) > 4 * min(losses):
                log_axis(axes, "y", min(losses) / 1.1, max(losses) * 1.1)
            axes.set_title(name, loc="left")
            axes.set_xlabel("step")
            axes.grid(axis="y")
            if column == 0:
                axes.set_ylabel("loss")
        alt = f"Training and validation loss by step of {', '.join(names)}"
        caption = (
            "Loss during training (thin) and on held-out ensembles of the seen families (thick). Panels have their own "
            "scale: losses of different models are not comparable. A validation curve that turns up says overfitting; "
            "one that still falls at the end says that more steps would help."
        )
        return finish(figure, key, alt, caption)
