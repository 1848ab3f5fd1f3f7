"""Figures that a study asks for, drawn: one metric against one quantity, small multiples by family."""

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pullback.metrics.metric import words
from pullback.report.drawing import (
    WIDTH,
    Drawing,
    axes_at,
    entry,
    finish,
    floor_handle,
    legend,
    legend_columns,
    log_axis,
    new_figure,
    tag,
)
from pullback.report.drawing import style as drawing_style
from pullback.report.figures import shade_trained, shorten
from pullback.report.lines import Line, Panel, Plot, Result
from pullback.report.style import FAINT, FLOOR, MARKERS, PALETTE, with_unit
from pullback.study.figures import COSTS

_SHADES = (0.0, 0.5, -0.45, 0.28, -0.22)
"""Towards white (or black) of the method's colour, for its second, third, ... line."""
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_LEFT, _GAP, _BOTTOM = 0.78, 0.22, 0.12
_CHARACTER = 0.068
"""Inches of one character of 9 pt, about."""


@dataclass(frozen=True)
class Look:
    """How one line is drawn in every panel of a figure."""

    label: str
    colour: str
    marker: str
    dash: Any
    series: tuple[Any, ...]

    def handle(self, is_reference: bool) -> Any:
        """The legend entry."""
        marker, dash = ("", (0, (3, 1.2))) if is_reference else (self.marker, self.dash)
        return entry(self.label, self.colour, marker=marker, markersize=5, linestyle=dash)


def draw(key: str, plot: Plot) -> Drawing | None:
    """A figure from its numbers; None where there is nothing to draw.

    Args:
        key: unique name of the figure in the page.
        plot: what to draw.
    """
    if not plot.panels:
        return None
    looks = _looks(plot)
    references = {line.label for panel in plot.panels for line in panel.lines if line.is_reference}
    groups = _groups(plot.panels)
    rows, wide, high = _layout(groups)
    categories = _categories(plot)
    turned = _are_turned(plot, categories, wide)
    tick_room = 0.14 + _CHARACTER * 0.72 * max(len(name) for name in _names(plot, categories)) if turned else 0.22
    above = 0.34 if any(panel.title for panel in plot.panels) else 0.12
    below = _BOTTOM + tick_room + (0.2 if plot.x_label else 0.0)
    with drawing_style():
        handles = [look.handle(label in references) for label, look in looks.items()]
        has_floor = any(math.isfinite(r.measured.floor) for r in _results(plot.panels))
        handles += [floor_handle()] if has_floor else []
        # A category per method names the methods on the axis.
        handles = handles if plot.figure.x != "method" else handles[len(looks) :]
        columns, lines = legend_columns([h.get_label() for h in handles], WIDTH - _LEFT)
        head = 0.1 + 0.2 * lines
        across = _LEFT + max(map(len, rows)) * (wide + _GAP)
        figure = new_figure(max(across, WIDTH if lines > 1 else 7.0), head + len(rows) * (high + above + below))
        if handles:
            legend(figure, handles, 0.05, _LEFT, columns)
        x_values = [r.x for r in _results(plot.panels) if isinstance(r.x, float)]
        for place, row in enumerate(rows):
            bottom = (len(rows) - 1 - place) * (high + above + below) + below
            same = next(group for group in groups if row[0] in group)
            for column, panel in enumerate(row):
                axes = axes_at(figure, _LEFT + column * (wide + _GAP), bottom, wide, high)
                logs = _scale_y(axes, plot, list(_results(same)))
                _scale_x(axes, plot, x_values, categories, wide)
                _panel(axes, plot, panel, looks, categories)
                axes.set_title(shorten(panel.title, int(wide / _CHARACTER)), loc="left")
                axes.set_xlabel(plot.x_label)
                axes.grid(axis="y", color=FAINT)
                if column:
                    axes.tick_params(axis="y", labelleft=False)
                else:
                    text = with_unit(words(plot.metric).title.partition(",")[0], plot.unit)
                    axes.set_ylabel("\n".join(textwrap.wrap(text, max(int(high / _CHARACTER), 12))))
        return finish(figure, key, _alt(plot), _caption(plot, bool(references), has_floor, logs))


def _results(panels: Sequence[Panel]) -> list[Result]:
    return [r for panel in panels for line in panel.lines for r in line.results]


def _groups(panels: Sequence[Panel]) -> list[list[Panel]]:
    """Panels that share the scale of y: those of one problem, or all where each problem has one."""
    groups: dict[str, list[Panel]] = {}
    for panel in panels:
        groups.setdefault(panel.problem, []).append(panel)
    return [list(panels)] if len(groups) == len(panels) else list(groups.values())


def _layout(groups: Sequence[list[Panel]]) -> tuple[list[list[Panel]], float, float]:
    """Rows of panels, each of one group; width and height of a panel in inches."""
    most = max(map(len, groups))
    columns = most if most < 5 else 3 if most in (5, 6, 9) else 4
    rows = [group[i : i + columns] for group in groups for i in range(0, len(group), columns)]
    wide = (WIDTH - _LEFT - 0.05) / columns - _GAP
    return rows, min(wide, 7.2), {1: 3.0, 2: 2.6}.get(columns, 2.1)


def _looks(plot: Plot) -> dict[str, Look]:
    """Colour, marker and dash of each line: those of its method, shades of it where a method has several lines."""
    members: dict[str, list[Any]] = {}
    is_reference: dict[str, bool] = {}
    length: dict[str, int] = {}
    for panel in plot.panels:
        for line in panel.lines:
            found = members.setdefault(line.label, [])
            for r in line.results:
                if r.series not in found:
                    found.append(r.series)
            is_reference[line.label] = line.is_reference
            length[line.label] = max(length.get(line.label, 0), len(line.results))
    order = sorted(members, key=lambda label: (is_reference[label], min(s.index for s in members[label])))
    single = {label: len({s.method for s in members[label]}) == 1 for label in order}
    fixed = {members[label][0].colour for label in order if single[label]}
    free = [colour for colour in PALETTE if colour not in fixed] or list(PALETTE)
    joined = [label for label in order if not single[label]]
    bases = {
        label: members[label][0].colour if single[label] else free[joined.index(label) % len(free)] for label in order
    }
    looks: dict[str, Look] = {}
    for position, label in enumerate(order):
        base = bases[label]
        # The longest line of a method has the method's own colour.
        same = sorted((other for other in order if bases[other] == base), key=lambda other: -length[other])
        rank = same.index(label)
        dash = (0, (3, 1.2)) if members[label][0].spec.uses_true_prior else _DASHES[rank % len(_DASHES)]
        colour = _shade(base, _SHADES[rank % len(_SHADES)])
        looks[label] = Look(label, colour, MARKERS[position % len(MARKERS)], dash, tuple(members[label]))
    return looks


def _shade(colour: str, towards: float) -> str:
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    end = 255 if towards > 0 else 0
    return "#" + "".join(f"{round(part + abs(towards) * (end - part)):02x}" for part in parts)


def _categories(plot: Plot) -> list[str]:
    found = dict.fromkeys(r.x for r in _results(plot.panels) if isinstance(r.x, str))
    if plot.figure.x == "family":
        return list(found)
    order = {r.x: (r.series.method if plot.figure.x == "method" else "") for r in reversed(_results(plot.panels))}
    methods = list(dict.fromkeys(r.series.method for r in _results(plot.panels)))
    return sorted(found, key=lambda name: (methods.index(order[name]) if order[name] else 0, _natural(name)))


def _natural(name: str) -> list[tuple[str, int]]:
    """A key that sorts d-2 before d-10."""
    return [(text, int(piece or 0)) for text, piece in re.findall(r"(\D*)(\d*)", name)]


def _names(plot: Plot, categories: Sequence[str]) -> list[str]:
    """What is printed for categories: titles of families, names of the others."""
    titles = {r.family.name: r.family.title for r in _results(plot.panels)} if plot.figure.x == "family" else {}
    return [shorten(titles.get(name, name), 30) for name in categories]


def _are_turned(plot: Plot, categories: Sequence[str], wide: float) -> bool:
    """Whether the names of categories would touch side by side."""
    return any((len(name) + 1.5) * _CHARACTER > wide / len(categories) for name in _names(plot, categories))


def _spans_decades(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) > 10 * min(values)


def _scale_y(axes: Any, plot: Plot, results: Sequence[Result]) -> bool:
    """Limits that hold values and bars; returns whether the axis is logarithmic."""
    values = [r.measured.value for r in results]
    ends = [v for r in results for v in (r.measured.low, r.measured.high) if math.isfinite(v)]
    floors = [r.measured.floor for r in results if math.isfinite(r.measured.floor)]
    wanted = plot.figure.log in ("y", "both")
    if min(values) > 0 and (wanted or (plot.figure.log == "auto" and _spans_decades([*values, *floors]))):
        positive = [v for v in (*values, *floors) if v > 0]
        # The lower end of a bar may reach 0: it is cut a little below the least value.
        low = max(min([v for v in ends if v > 0] + positive), min(positive) / 2) / 1.25
        high = max([*positive, *ends]) * 1.25
        log_axis(axes, "y", low, high)
        return True
    low, high = min([0.0, *values, *ends]), max([*values, *ends, *floors])
    axes.set_ylim(low * 1.06, high * 1.07 if high > 0 else -0.07 * low)
    return False


def _scale_x(axes: Any, plot: Plot, values: Sequence[float], categories: Sequence[str], wide: float) -> None:
    if categories:
        axes.set_xlim(-0.6, len(categories) - 0.4)
        turn: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        turn = turn if _are_turned(plot, categories, wide) else {}
        axes.set_xticks(range(len(categories)), _names(plot, categories), **turn)
        axes.tick_params(axis="x", length=0)
        return
    least, most = min(values), max(values)
    wanted = plot.figure.log in ("x", "both")
    if least > 0 and (wanted or (plot.figure.log == "auto" and _spans_decades(values))):
        room = max((most / least) ** 0.06, 1.05)
        log_axis(axes, "x", least / room, most * room)
    else:
        room = 0.06 * (most - least) or 0.5 * abs(most) or 0.5
        axes.set_xlim(least - room, most + room)
    if plot.figure.x not in (*COSTS, "seen_swd"):
        _ticks_at_values(axes, sorted(set(values)), wide)


def _ticks_at_values(axes: Any, values: Sequence[float], wide: float) -> None:
    """Where x takes a few values, they are the ticks, as far as their labels do not touch."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    if len(values) > 9:
        return
    kept: list[tuple[float, float]] = []
    for value in values:
        at = axes.transAxes.inverted().transform(axes.transData.transform((value, 1)))[0] * wide
        half = _CHARACTER * len(f"{value:,g}") / 2
        if not kept or at - half > kept[-1][1] + 0.06:
            kept.append((value, at + half))
    axes.xaxis.set_major_locator(FixedLocator([value for value, _ in kept]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,g}".replace(",", "\u202f").replace("-", "\u2212"))
    )


def _panel(axes: Any, plot: Plot, panel: Panel, looks: dict[str, Look], categories: Sequence[str]) -> None:
    left, right = axes.get_xlim()
    ranges = [(max(low, left), min(high, right)) for low, high in panel.trained]
    shade_trained(axes, [(low, high) for low, high in ranges if low < high])
    _floor(axes, panel, categories)
    drawn = [line for line in panel.lines if not line.is_reference]
    ordered = [line for line in panel.lines if line.is_reference] + drawn
    for line in ordered:
        look = looks[line.label]
        if line.is_reference:
            for r in line.results:
                _reference(axes, r, look)
            continue
        shift = 0.0
        if categories and plot.figure.x != "method":
            shift = 0.5 * ((drawn.index(line) + 0.5) / len(drawn) - 0.5)
        _points(axes, plot, line, look, categories, shift)


def _reference(axes: Any, result: Result, look: Look) -> None:
    m = result.measured
    if math.isfinite(m.low) and math.isfinite(m.high):
        tag(axes.axhspan(m.low, m.high, color=look.colour, alpha=0.12, linewidth=0), *look.series)
    tag(axes.axhline(m.value, color=look.colour, linewidth=1.5, linestyle=(0, (3, 1.2))), *look.series)


def _points(axes: Any, plot: Plot, line: Line, look: Look, categories: Sequence[str], shift: float) -> None:
    at = [categories.index(r.x) + shift if isinstance(r.x, str) else float(r.x or 0.0) for r in line.results]
    values = [r.measured.value for r in line.results]
    if not categories and len(at) > 1:
        # Families have no order along their distance: a line would only say which two are neighbours.
        faint = plot.figure.x == "seen_swd"
        width, alpha = (1.0, 0.3) if faint else (1.6, 1.0)
        drawn = axes.plot(at, values, color=look.colour, linestyle=look.dash, linewidth=width, alpha=alpha)
        tag(drawn, *look.series)
    for x, r in zip(at, line.results, strict=True):
        m = r.measured
        if math.isfinite(m.low) and math.isfinite(m.high):
            tag(axes.plot([x, x], [max(m.low, axes.get_ylim()[0]), m.high], color=look.colour, linewidth=1.4), r.series)
        dot = axes.plot(
            x,
            m.value,
            color=look.colour,
            marker=look.marker,
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.5,
        )
        tag(dot, r.series)


def _floor(axes: Any, panel: Panel, categories: Sequence[str]) -> None:
    """The sampling floor at each x, that of the most events; one band where it is the same everywhere."""
    known = [r for line in panel.lines for r in line.results if math.isfinite(r.measured.floor)]
    if not known:
        return
    best: dict[Any, Result] = {}
    for r in known:
        if r.x not in best or _n(r) > _n(best[r.x]):
            best[r.x] = r
    most = max(known, key=_n)
    along = {x: r.measured.floor for x, r in best.items() if x is not None}
    bottom = axes.get_ylim()[0]
    if len({r.family.name for r in known}) == 1 and len({r.problem for r in known}) == 1:
        axes.axhspan(bottom, most.measured.floor, color=FLOOR, alpha=0.25, linewidth=0)
        axes.axhline(most.measured.floor, color=FLOOR, linewidth=2.2)
    elif categories:
        for x, floor in along.items():
            at = categories.index(x)
            axes.plot([at - 0.38, at + 0.38], [floor, floor], color=FLOOR, linewidth=4, solid_capstyle="butt")
    else:
        x = sorted(along)
        axes.fill_between(x, bottom, [along[v] for v in x], color=FLOOR, alpha=0.25, linewidth=0)
        axes.plot(x, [along[v] for v in x], color=FLOOR, linewidth=2.2)


def _n(result: Result) -> float:
    return result.measured.n if math.isfinite(result.measured.n) else -1.0


def _alt(plot: Plot) -> str:
    lines = dict.fromkeys(line.label for panel in plot.panels for line in panel.lines)
    titles = [panel.title for panel in plot.panels if panel.title]
    where = f", on {', '.join(titles)}" if titles else ""
    return f"{words(plot.metric).title} against {plot.x_label or plot.figure.x} of {', '.join(lines)}{where}"


def _caption(plot: Plot, has_reference: bool, has_floor: bool, is_log: bool) -> str:
    text = words(plot.metric)
    arrow = text.direction or text.description
    said = [f"{text.title}{f' ({arrow})' if arrow else ''}. Bars are 95 % intervals"]
    if has_reference:
        said.append("dashed lines from end to end are methods that have no such quantity, with their interval")
    if has_floor:
        said.append("grey marks the sampling floor, what two independent sets of truth differ by")
    if any(panel.trained for panel in plot.panels):
        said.append("shaded ranges of the parameter were trained on")
    unread = plot.figure.log in ("y", "both") and not is_log
    return "; ".join(said) + "." + (" No logarithmic axis: values reach 0." if unread else "")
