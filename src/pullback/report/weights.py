"""Diagnostics of weights by iteration (OmniFold) or noise level (particles), from rows of the metrics table.

The rows are ``<name>_iteration_<number>`` and ``<name>_level_<number>``.
"""

import math
import re
from collections.abc import Mapping, Sequence

from pullback.report.drawing import (
    WIDTH,
    Drawing,
    axes_at,
    entry,
    finish,
    legend,
    legend_columns,
    log_axis,
    new_figure,
    style,
    tag,
)
from pullback.report.figures import shorten
from pullback.report.style import MARKERS, PALETTE, Series
from pullback.report.tables import Family, Rows, collect

MOST_FAMILIES = 8

PANELS = {
    "iteration": {
        "ess": "effective number of truths",
        "max_over_mean": "largest weight over the mean",
        "change": "change in the iteration",
        "auc": "AUC, data and simulation",
        "spread": "spread among classifiers",
    },
    "level": {"ess": "effective share of particles"},
}
"""What is drawn by each kind of step, in this order, and what it is called."""

CAPTIONS = {
    "iteration": "A small effective number, or a large weight, says that the simulation hardly covers the "
    "observations; a change that does not fall, that the noise of training is more than what is left to learn; an area "
    "above 1/2, that the weights do not describe the observations yet.",
    "level": "From the first noise level to the data, median over events; it rises where particles are resampled. "
    "Where it falls steeply, few particles lead to the posterior: more levels there, or more particles.",
}

_ROW = re.compile(r"(\w+)_(iteration|level)_(\d+)")

Curves = Mapping[str, Mapping[int, float]]
"""Name of a diagnostic -> iteration or level -> value."""


def are_drawn(metric: str) -> bool:
    """Whether a metric is a point of these curves, which needs no table of its own."""
    match = _ROW.fullmatch(metric)
    return match is not None and match[1] in PANELS[match[2]]


def drawings(key: str, rows: Rows, series: Sequence[Series], families: Sequence[Family]) -> list[Drawing]:
    """A figure for each method and kind of step with such rows; panels are diagnostics, lines families.

    Args:
        key: start of the figures' names.
        rows: metrics of one problem.
        series, families: as in the tables.
    """
    named = {name: match for name in rows if are_drawn(name) and (match := _ROW.fullmatch(name))}
    found: dict[tuple[str, int], dict[int, dict[str, dict[int, float]]]] = {}
    for name, match in named.items():
        for place, row in enumerate(collect(rows[name], series, families)):
            for position, measured in enumerate(row):
                if measured is not None and math.isfinite(measured.value):
                    curves = found.setdefault((match[2], position), {}).setdefault(place, {})
                    curves.setdefault(match[1], {})[int(match[3])] = measured.value
    return [
        _of_method(f"{key}{step[0]}{i}", step, series[i], [(families[j], curves[j]) for j in sorted(curves)])
        for (step, i), curves in found.items()
    ]


def _of_method(key: str, step: str, series: Series, curves: Sequence[tuple[Family, Curves]]) -> Drawing:
    shown = curves[:MOST_FAMILIES]
    names = [name for name in PANELS[step] if any(name in each for _, each in shown)]
    wide = min(2.6, (WIDTH - 0.15) / len(names) - 0.62)
    with style():
        across = len(names) * (wide + 0.62) + 0.15
        styles, titles = list(zip(PALETTE, MARKERS, strict=True)), [shorten(family.title, 24) for family, _ in shown]
        columns, lines = legend_columns(titles, across - 0.62)
        figure = new_figure(across, 2.3 + 0.2 * lines)
        handles = [
            entry(title, colour, marker=marker, markersize=4)
            for title, (colour, marker) in zip(titles, styles, strict=False)
        ]
        legend(figure, handles, 0.04, columns=columns)
        for column, name in enumerate(names):
            axes = axes_at(figure, 0.55 + column * (wide + 0.62), 0.45, wide, 1.5)
            values = []
            for (_, each), (colour, marker) in zip(shown, styles, strict=False):
                line = sorted(each.get(name, {}).items())
                values += [value for _, value in line]
                steps, heights = [step for step, _ in line], [value for _, value in line]
                tag(axes.plot(steps, heights, color=colour, marker=marker, markersize=4, linewidth=1.2), series)
            if min(values) > 0 and max(values) > 10 * min(values):
                log_axis(axes, "y", min(values) / 1.3, max(values) * 1.3)
            if name == "auc":
                axes.axhline(0.5, color="#57606a", linewidth=0.7, linestyle=":")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_title(PANELS[step][name], loc="left", fontsize=8.5)
            axes.set_xlabel(step)
            axes.grid(axis="y")
        alt = f"Weights of {series.label} by {step} on {', '.join(family.title for family, _ in shown)}"
        caption = f"Weights of {series.label} by {step}. {CAPTIONS[step]}"
        if len(curves) > len(shown):
            caption += f" {len(shown)} of {len(curves)} families."
        return finish(figure, key, alt, caption)
