"""Figures of calibration: rank histograms and expected coverage, small multiples over methods and families."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback.report.drawing import WIDTH, Drawing, axes_at, entry, finish, handle, legend, new_figure, style, tag
from pullback.report.examples import Example
from pullback.report.figures import shorten
from pullback.report.style import INK, Series
from pullback.report.tables import Family

MOST_FAMILIES = 8
BAND = "#dfe3e8"
_LINES: tuple[Any, ...] = ("-", "--", ":", "-.")
_LEFT, _GAP = 1.5, 0.16


def drawings(
    key: str, families: Sequence[Family], series: Sequence[Series], examples: Sequence[Example]
) -> list[Drawing]:
    """Rank histograms of every method on every family, and coverage curves; none where there are no ranks.

    Of many families some are drawn, evenly spaced in their order; the tables hold all.
    """
    found = {(e.method, e.infer, e.family): e for e in examples if e.ranks is not None}
    shown = [f for f in families if any(name == f.name for _, _, name in found)]
    methods = [s for s in series if any((s.method, s.infer) == (m, i) for m, i, _ in found)]
    if not shown:
        return []
    left_out = len(shown) - MOST_FAMILIES
    if left_out > 0:
        shown = [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, MOST_FAMILIES).round().astype(int))]
    grid = [[found.get((s.method, s.infer, f.name)) for f in shown] for s in methods]
    said = f" {len(shown)} families of {len(shown) + left_out}." if left_out > 0 else ""
    with style():
        return [_ranks(f"{key}h", shown, methods, grid, said), _coverage(f"{key}t", shown, methods, grid, said)]


def _ranks(
    key: str,
    families: Sequence[Family],
    methods: Sequence[Series],
    grid: Sequence[Sequence[Example | None]],
    said: str,
) -> Drawing:
    """Shares of truths by rank, relative to uniform: rows are methods, columns families."""
    wide, tall = min(2.0, (WIDTH - _LEFT - 0.15) / len(families) - _GAP), 0.72
    figure = new_figure(_LEFT + len(families) * (wide + _GAP) + 0.15, len(methods) * (tall + _GAP) + 0.95)
    names = list(dict.fromkeys(name for row in grid for e in row if e for name in e.quantities))
    few = len(names) <= len(_LINES)
    many = entry(f"each of {len(names)} quantities", "#57606a", 1.2)
    legend(figure, _line_handles(names) if few else [many], 0.05, _LEFT)
    top = max(float((e.ranks * e.ranks.shape[1]).max()) for row in grid for e in row if e and e.ranks is not None)
    top = min(max(1.6, 1.05 * top), 4.0)
    for line, (method, row) in enumerate(zip(methods, grid, strict=True)):
        bottom = 0.42 + (len(methods) - 1 - line) * (tall + _GAP)
        for column, (family, example) in enumerate(zip(families, row, strict=True)):
            axes = axes_at(figure, _LEFT + column * (wide + _GAP), bottom, wide, tall)
            axes.set(xlim=(0, 1), ylim=(0, top), yticks=[0, 1])
            axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            axes.tick_params(labelbottom=line == len(methods) - 1, labelleft=column == 0)
            if line == 0:
                axes.set_title(shorten(family.title, int(9 * wide)), loc="left", fontsize=8.5)
            if column == 0:
                place = {"rotation": 0, "ha": "right", "va": "center", "labelpad": 8}
                axes.set_ylabel(shorten(method.label, 20), color=method.colour, fontweight="bold", **place)
            if line == len(methods) - 1:
                axes.set_xlabel("rank")
            if example is None or example.ranks is None:
                continue
            bins = example.ranks.shape[1]
            # A binomial count over its mean n/bins.
            half = 1.96 * np.sqrt((bins - 1) / max(example.ranked, 1))
            axes.axhspan(1 - half, 1 + half, color=BAND, linewidth=0)
            axes.axhline(1, color=INK, linewidth=0.6)
            edges = np.linspace(0, 1, bins + 1)
            for name, shares in zip(example.quantities, example.ranks, strict=True):
                drawn = axes.stairs(
                    bins * shares,
                    edges,
                    baseline=None,
                    color=method.colour,
                    linewidth=1.1 if few else 0.7,
                    linestyle=_LINES[names.index(name)] if few else "-",
                )
                tag(drawn, method)
    alt = f"Rank histograms of {', '.join(m.label for m in methods)} on {', '.join(f.title for f in families)}"
    caption = (
        "Simulation-based calibration (Talts et al. 2018): how often the truth has which rank among the draws of its "
        "event, relative to an exact posterior (1); first seed. The grey band holds 95 % of an exact method's bins, "
        "events of a group counted as fewer. A hill says that draws are too wide, a valley that they are too narrow, a "
        "slope that they are shifted."
        + ("" if few else " The rows sbc_ks of the tables tell the quantities apart.")
        + said
    )
    return finish(figure, key, alt, caption)


def _coverage(
    key: str,
    families: Sequence[Family],
    methods: Sequence[Series],
    grid: Sequence[Sequence[Example | None]],
    said: str,
) -> Drawing:
    """Expected coverage minus its level: panels are families, lines methods and kinds of references."""
    columns = min(len(families), 4)
    lines = -(-len(families) // columns)
    wide, tall = min(3.2, (WIDTH - 0.8) / columns - 0.25), 1.5
    figure = new_figure(0.8 + columns * (wide + 0.25), lines * (tall + 0.75) + 0.45)
    names = list(dict.fromkeys(name for row in grid for e in row if e for name in e.references))
    legend(figure, [*(handle(m, marker=False) for m in methods), *_line_handles(names)], 0.05)
    # A baseline is far off by design: it may leave the panel, so that the methods can be told apart.
    compared = [row for m, row in zip(methods, grid, strict=True) if not m.spec.baseline] or grid
    gaps = [e.coverage - _levels(e.coverage) for row in compared for e in row if e and e.coverage is not None]
    span = min(max(0.05, 1.1 * max(float(np.abs(gap).max()) for gap in gaps)), 1.0)
    for place, family in enumerate(families):
        row, column = divmod(place, columns)
        axes = axes_at(figure, 0.7 + column * (wide + 0.25), (lines - 1 - row) * (tall + 0.75) + 0.5, wide, tall)
        answers = [(m, cells[place]) for m, cells in zip(methods, grid, strict=True)]
        most = max((e.covered for _, e in answers if e), default=0.0)
        _coverage_panel(axes, answers, most, names)
        axes.set(xlim=(0, 1), ylim=(-span, span))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        axes.set_title(shorten(family.title, int(9 * wide)), loc="left", fontsize=9)
        axes.set_xlabel("credibility level")
        axes.tick_params(labelleft=column == 0)
        if column == 0:
            axes.set_ylabel("coverage − level")
    alt = f"Expected coverage of {', '.join(m.label for m in methods)} on {', '.join(f.title for f in families)}"
    caption = (
        "TARP (Lemos et al. 2023): expected coverage of posteriors minus the credibility level, by distance to "
        "random references; first seed. Uniform references are those of the paper; local ones, truths of other events "
        "with a similar observation, also detect draws that ignore the observation. An exact posterior lies at 0, at "
        "each level within the grey band with 95 % probability." + said
    )
    return finish(figure, key, alt, caption)


def _coverage_panel(
    axes: Any, answers: Sequence[tuple[Series, Example | None]], events: float, names: Sequence[str]
) -> None:
    level = np.linspace(0, 1, 101)
    half = 1.96 * np.sqrt(level * (1 - level) / max(events, 1))
    axes.fill_between(level, -half, half, color=BAND, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.6)
    for method, example in answers:
        if example is None or example.coverage is None:
            continue
        levels = _levels(example.coverage)
        for name, curve in zip(example.references, example.coverage, strict=True):
            dash = _LINES[names.index(name) % len(_LINES)]
            tag(axes.plot(levels, curve - levels, color=method.colour, linewidth=1.3, linestyle=dash), method)


def _levels(coverage: np.ndarray) -> np.ndarray:
    return np.linspace(0, 1, coverage.shape[-1])


def _line_handles(names: Sequence[str]) -> list[Any]:
    return [entry(name, "#57606a", 1.2, linestyle=_LINES[i % len(_LINES)]) for i, name in enumerate(names)]
