"""Example posteriors of arrays: truth and observation beside mean, draws and standard deviation of every method."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback.report.drawing import Drawing, axes_at, finish, limits, new_figure, style, tag
from pullback.report.examples import Answer, Axis, Example
from pullback.report.style import TRUTH, Series, with_unit


def cases(answers: Sequence[Answer]) -> list[list[tuple[Answer, int]]]:
    """Answers to the same observation side by side: groups of (answer, event), in the order of observations."""
    groups: dict[bytes, list[tuple[Answer, int]]] = {}
    for series, example in answers:
        if example.y is None:
            continue
        for event in range(len(example.y)):
            groups.setdefault(example.y[event].tobytes(), []).append(((series, example), event))
    return list(groups.values())


_SIDE = 1.42
_STEP_ACROSS, _STEP_UP = _SIDE + 0.14, _SIDE + 0.14
_GAP_BAR = 0.74


def panels(key: str, case: Sequence[tuple[Answer, int]]) -> Drawing:
    """One observation: truth and gather, then mean, two draws and standard deviation of every method."""
    (_, first), event = case[0]
    assert first.y is not None
    gather, gather_axes = _slice(first.y[event], first.y_axes)
    fields = [v[i] for (_, e), i in case for v in (e.truth, e.mean, e.draws) if v is not None]
    colour = limits(fields)
    spread = (0.0, limits([e.std[i] for (_, e), i in case if e.std is not None], 0, 99)[1])
    has_truth = first.truth is not None
    stack = len(case) > 1 and has_truth
    lead = 0.68 + (1 if stack or not has_truth else 2) * _STEP_ACROSS + (0.0 if stack or not has_truth else 0.55)
    left = lead + 0.5
    most = max(e.draws.shape[1] for (_, e), _ in case if e.draws is not None)
    std_left = left + (1 + min(most, 2)) * _STEP_ACROSS + _GAP_BAR
    body = max(len(case) * _STEP_UP - 0.14, (2 * _SIDE + 0.78 if stack else _SIDE) + 0.45)
    with style():
        figure = new_figure(std_left + _SIDE + _GAP_BAR, body + 0.37)
        top = body + 0.07 - _SIDE
        if first.truth is not None:
            _panel(figure, 0.68, top, "truth", first.truth[event], first.x_axes, colour, "viridis")
        place = (0.68, top - _SIDE - 0.78) if stack else (lead - _STEP_ACROSS, top)
        clip = limits([np.abs(gather)], 0, 98)[1]
        _panel(
            figure,
            *place,
            "observed gather" if any(a.name == "time" for a in gather_axes) else "observed",
            gather,
            gather_axes,
            (-clip, clip),
            "gray",
        )
        sheet = axes_at(figure, 0, 0, *figure.get_size_inches())
        sheet.set(xlim=(0, figure.get_size_inches()[0]), ylim=(0, figure.get_size_inches()[1]))
        sheet.set_axis_off()
        for line, ((series, example), index) in enumerate(case):
            _answer(sheet, (left, std_left), top - line * _STEP_UP, series, example, index, (colour, spread), line == 0)
        if len(first.x_axes) > 1:
            height = len(case) * _STEP_UP - 0.14
            bottom = top + _SIDE - height
            _bar(figure, std_left - _GAP_BAR, bottom, height, colour, "viridis", first.x_unit)
            _bar(figure, std_left + _SIDE + 0.1, bottom, height, spread, "magma", first.x_unit)
        methods = ", ".join(s.label for (s, _), _ in case)
        given = "truth, observation" if has_truth else "observation"
        alt = f"{first.title}: {given}, and mean, draws and standard deviation of {methods}"
        caption = (
            f"One observation and what each method makes of it. {'Truth, means' if has_truth else 'Means'} and draws "
            "share one colour scale, standard deviations another; all maps have the same axes. Look for draws that "
            "differ where the standard deviation is large and agree where it is small."
        )
        if len(first.y_axes) > 2:
            shots = first.y.shape[1 + _shots(first.y_axes)]
            caption += f" Of {shots} shots the middle one is drawn, clipped at its 98 % quantile."
        return finish(figure, key, alt, caption)


def _panel(
    figure: Any,
    left: float,
    bottom: float,
    title: str,
    values: np.ndarray,
    dims: Sequence[Axis],
    span: tuple[float, float],
    cmap: str,
) -> None:
    """A map with its first dimension downwards and labelled axes, or a line for one dimension."""
    axes = axes_at(figure, left, bottom, _SIDE, _SIDE)
    axes.set_title(title, loc="left", fontweight="bold")
    values, shown = _slice(values, dims)
    if values.ndim == 1:
        axes.plot(np.linspace(shown[0].low, shown[0].high, len(values)), values, color=TRUTH, linewidth=1.2)
        axes.set_xlabel(with_unit(shown[0].name, shown[0].unit))
        axes.set_ylim(*span)
        return
    down, across = shown
    extent = (across.low, across.high, down.high, down.low)
    axes.imshow(values, extent=extent, aspect="auto", vmin=span[0], vmax=span[1], cmap=cmap)
    axes.set_xlabel(with_unit(across.name, across.unit), labelpad=1)
    axes.set_ylabel(with_unit(down.name, down.unit), labelpad=2)
    axes.locator_params(nbins=4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)


def _answer(
    sheet: Any,
    lefts: tuple[float, float],
    bottom: float,
    series: Series,
    example: Example,
    event: int,
    spans: tuple[tuple[float, float], tuple[float, float]],
    is_first: bool,
) -> None:
    """One method's maps, put on the sheet as images: axes for each would be most of the time of the report."""
    from matplotlib.patches import Rectangle

    assert example.mean is not None
    assert example.draws is not None
    assert example.std is not None
    shown = [("mean", example.mean[event]), *((f"draw {i + 1}", d) for i, d in enumerate(example.draws[event][:2]))]
    drawn = []
    for column, (title, values) in enumerate([*shown, ("standard deviation", example.std[event])]):
        is_std = column == len(shown)
        left = lefts[1] if is_std else lefts[0] + column * _STEP_ACROSS
        low, high = spans[1] if is_std else spans[0]
        values, _ = _slice(values, example.x_axes)
        if values.ndim == 1:
            x = np.linspace(left, left + _SIDE, len(values))
            drawn += sheet.plot(x, bottom + _SIDE * (values - low) / (high - low), color=series.colour, linewidth=1.2)
        else:
            extent = (left, left + _SIDE, bottom, bottom + _SIDE)
            cmap = "magma" if is_std else "viridis"
            drawn.append(sheet.imshow(values, extent=extent, aspect="auto", vmin=low, vmax=high, cmap=cmap))
        drawn.append(
            sheet.add_patch(Rectangle((left, bottom), _SIDE, _SIDE, fill=False, edgecolor="#8b949e", linewidth=0.7))
        )
        if is_first:
            sheet.text(left, bottom + _SIDE + 0.08, title, fontsize=9.5)
    place = {"rotation": 90, "rotation_mode": "anchor", "ha": "center"}
    misfit = example.misfit[event] if example.misfit is not None and event < len(example.misfit) else math.nan
    known = math.isfinite(misfit)
    name = sheet.text(
        lefts[0] - (0.26 if known else 0.12),
        bottom + _SIDE / 2,
        series.label,
        color=series.colour,
        fontweight="bold",
        **place,
    )
    drawn.append(name)
    if known:
        drawn.append(
            sheet.text(lefts[0] - 0.1, bottom + _SIDE / 2, f"misfit {misfit:.3g}", fontsize=8, color="#57606a", **place)
        )
    tag(drawn, series)


def _shots(dims: Sequence[Axis]) -> int:
    """The dimension that is left out first: shots where there are some."""
    return next((i for i, a in enumerate(dims) if a.name in ("source", "shot")), 0)


def _slice(values: np.ndarray, axes: Sequence[Axis]) -> tuple[np.ndarray, tuple[Axis, ...]]:
    """At most two dimensions of an array, time downwards: the middle entry of the others (shots first)."""
    dims = list(axes)
    while values.ndim > 2:
        drop = _shots(dims)
        values = values.take(values.shape[drop] // 2, axis=drop)
        dims.pop(drop)
    if values.ndim == 2 and dims[1].name == "time":
        values, dims = values.T, dims[::-1]
    return values, tuple(dims)


def _bar(
    figure: Any, left: float, bottom: float, height: float, span: tuple[float, float], cmap: str, unit: str
) -> None:
    """A colour bar no longer than two maps, its unit above it."""
    shown = min(height, 2 * _SIDE + 0.14)
    axes = axes_at(figure, left, bottom + height - shown, 0.11, shown)
    axes.imshow(np.linspace(1, 0, 64)[:, None], extent=(0, 1, *span), aspect="auto", cmap=cmap)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.locator_params(axis="y", nbins=5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    axes.set_title(unit if unit not in ("", "1") else "", loc="left", fontsize=8.5)
