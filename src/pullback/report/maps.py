"""Example posteriors of arrays: truth and observation beside mean, draws, spread and error of every method."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pullback.report.drawing import Drawing, axes_at, finish, limits, new_figure, sheet_of, style, tag
from pullback.report.examples import Answer, Axis, Example
from pullback.report.style import TRUTH, Series, with_unit


def cases(answers: Sequence[Answer]) -> list[list[tuple[Answer, int]]]:
    """Examples of all methods for the same observation: groups of (example, event), in the order of observations."""
    groups: dict[bytes, list[tuple[Answer, int]]] = {}
    for series, example in answers:
        if example.y is None:
            continue
        for event in range(len(example.y)):
            groups.setdefault(example.y[event].tobytes(), []).append(((series, example), event))
    return list(groups.values())


Span = tuple[float, float]


class _Column(NamedTuple):
    """One map of a line: its title, values (*x), left edge in inches, colour limits and colours."""

    title: str
    values: np.ndarray
    left: float
    span: Span
    cmap: str


_SIDE = 1.22
_STEP = _SIDE + 0.14
_GAP_BAR = 0.74
_LEFT = 0.68


def panels(key: str, case: Sequence[tuple[Answer, int]]) -> Drawing:
    """One observation: truth and gather, then mean, two draws, standard deviation and error of every method."""
    (_, first), event = case[0]
    assert first.y is not None
    gather, gather_axes = middle_slice(first.y[event], first.y_axes)
    tame = _tame(case)
    fields = [v[i] for (_, e), i in tame for v in (e.truth, e.mean, e.draws) if v is not None]
    colour = limits(fields)
    spread = (0.0, limits([e.std[i] for (_, e), i in tame if e.std is not None], 0, 99)[1])
    error = _error_limits(tame)
    has_truth = first.truth is not None
    left = _LEFT + _STEP + 0.5
    most = max(e.draws.shape[1] for (_, e), _ in case if e.draws is not None)
    std_left = left + (1 + min(most, 2)) * _STEP + _GAP_BAR
    error_left = std_left + _SIDE + _GAP_BAR
    body = max(len(case) * _STEP - 0.14, (2 * _SIDE + 0.78 if has_truth else _SIDE) + 0.45)
    with style():
        figure = new_figure((error_left if error else std_left) + _SIDE + _GAP_BAR, body + 0.37)
        top = body + 0.07 - _SIDE
        if first.truth is not None:
            truth = axes_at(figure, _LEFT, top, _SIDE, _SIDE)
            line_or_map(truth, *middle_slice(first.truth[event], first.x_axes), colour, "viridis", "truth")
        clip = limits([np.abs(gather)], 0, 98)[1]
        seen = axes_at(figure, _LEFT, top - _SIDE - 0.78 if has_truth else top, _SIDE, _SIDE)
        title = "observed gather" if of_waves(first.y_axes) else "observed"
        line_or_map(seen, gather, gather_axes, (-clip, clip), "gray", title)
        sheet = sheet_of(figure)
        for line, ((series, example), index) in enumerate(case):
            columns = _columns(example, index, left, (std_left, spread), (error_left, error), colour)
            _answer(sheet, left, columns, top - line * _STEP, series, example, index, line == 0)
        if len(first.x_axes) > 1:
            height = len(case) * _STEP - 0.14
            bottom = top + _SIDE - height
            colour_bar(figure, std_left - _GAP_BAR, bottom, height, colour, "viridis", first.x_unit)
            colour_bar(figure, std_left + _SIDE + 0.1, bottom, height, spread, "magma", first.x_unit)
            if error:
                colour_bar(figure, error_left + _SIDE + 0.1, bottom, height, error, _ERROR, first.x_unit)
        methods = ", ".join(s.label for (s, _), _ in case)
        given = "truth, observation" if has_truth else "observation"
        kept = "mean, draws, standard deviation and error" if has_truth else "mean, draws and standard deviation"
        alt = f"{first.title}: {given}, and {kept} of {methods}"
        caption = (
            f"One observation and what each method makes of it. {'Truth, means' if has_truth else 'Means'} and draws "
            "share one colour scale, standard deviations another; all maps have the same axes. Look for draws that "
            "differ where the standard deviation is large and agree where it is small."
        )
        if has_truth:
            caption += " Errors (mean − truth; red is too high) should be large only where the standard deviation is."
        if wild := ", ".join(s.label for (s, e), i in case if not any(e is other for (_, other), _ in tame)):
            caption += f" Values of {wild} are far beyond the colour scales."
        if len(first.y_axes) > 2:
            dropped = shots_axis(first.y_axes)
            what = "shots" if of_waves(first.y_axes) else f"entries along {first.y_axes[dropped].name}"
            caption += f" Of {first.y.shape[1 + dropped]} {what} the middle one is drawn, clipped at its 98 % quantile."
        return finish(figure, key, alt, caption)


_ERROR = "RdBu_r"
_FAR = 20
"""Widths of the truth's range beyond which a method sets no colour scale: one that diverged would leave no colours."""


def _tame(case: Sequence[tuple[Answer, int]]) -> Sequence[tuple[Answer, int]]:
    """Answers near the range of the truth, or of most means where that has none; all where no answer is."""
    (_, first), event = case[0]
    spans = [limits([e.mean[i]]) for (_, e), i in case if e.mean is not None and np.isfinite(e.mean[i]).any()]
    if first.truth is not None and np.ptp(first.truth[event]) > 0:
        spans = [limits([first.truth[event]])]
    low, high = np.median(spans or [(-np.inf, np.inf)], axis=0)
    room = _FAR * (high - low)
    near = []
    for (series, example), i in case:
        shown = [v[i] for v in (example.mean, example.draws) if v is not None and np.isfinite(v[i]).any()]
        if all(low - room <= bottom and top <= high + room for bottom, top in (limits([v]) for v in shown)):
            near.append(((series, example), i))
    return near or case


def _error_limits(case: Sequence[tuple[Answer, int]]) -> Span | None:
    """Symmetric limits of mean - truth, of methods that look at y where there are any; None without a truth."""
    errors = {s: np.abs(e.mean[i] - e.truth[i]) for (s, e), i in case if e.mean is not None and e.truth is not None}
    looked = [v for s, v in errors.items() if not s.spec.baseline] or list(errors.values())
    return (-(high := limits(looked, 0, 99)[1]), high) if looked else None


def _columns(
    example: Example, event: int, left: float, std: tuple[float, Span], error: tuple[float, Span | None], colour: Span
) -> list[_Column]:
    """What stands in one line, from left to right."""
    assert example.mean is not None
    assert example.draws is not None
    assert example.std is not None
    mean = example.mean[event]
    shown = [("mean", mean), *((f"draw {i + 1}", d) for i, d in enumerate(example.draws[event][:2]))]
    columns = [_Column(title, v, left + i * _STEP, colour, "viridis") for i, (title, v) in enumerate(shown)]
    columns.append(_Column("standard deviation", example.std[event], *std, "magma"))
    if example.truth is not None and error[1] is not None:
        columns.append(_Column("mean − truth", mean - example.truth[event], error[0], error[1], _ERROR))
    return columns


def line_or_map(axes: Any, values: np.ndarray, dims: Sequence[Axis], span: Span, cmap: str, title: str) -> None:
    """A map with its first dimension downwards and labelled axes, or a line for one dimension."""
    axes.set_title(title, loc="left", fontweight="bold")
    if values.ndim == 1:
        axes.plot(np.linspace(dims[0].low, dims[0].high, len(values)), values, color=TRUTH, linewidth=1.2)
        axes.set_xlabel(with_unit(dims[0].name, dims[0].unit))
        axes.set_ylim(*span)
        return
    down, across = dims
    extent = (across.low, across.high, down.high, down.low)
    axes.imshow(values, extent=extent, aspect="auto", vmin=span[0], vmax=span[1], cmap=cmap)
    axes.set_xlabel(with_unit(across.name, across.unit), labelpad=1)
    axes.set_ylabel(with_unit(down.name, down.unit), labelpad=2)
    axes.locator_params(nbins=4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)


def _answer(
    sheet: Any,
    left: float,
    columns: Sequence[_Column],
    bottom: float,
    series: Series,
    example: Example,
    event: int,
    is_first: bool,
) -> None:
    """One method's maps, put on the sheet as images: axes for each would be most of the time of the report."""
    from matplotlib.patches import Rectangle

    drawn = []
    for title, values, place, (low, high), cmap in columns:
        values, _ = middle_slice(values, example.x_axes)
        if values.ndim == 1:
            x = np.linspace(place, place + _SIDE, len(values))
            drawn += sheet.plot(x, bottom + _SIDE * (values - low) / (high - low), color=series.colour, linewidth=1.2)
        else:
            extent = (place, place + _SIDE, bottom, bottom + _SIDE)
            drawn.append(sheet.imshow(values, extent=extent, aspect="auto", vmin=low, vmax=high, cmap=cmap))
        drawn.append(
            sheet.add_patch(Rectangle((place, bottom), _SIDE, _SIDE, fill=False, edgecolor="#8b949e", linewidth=0.7))
        )
        if is_first:
            sheet.text(place, bottom + _SIDE + 0.08, title, fontsize=9.5)
    upright = {"rotation": 90, "rotation_mode": "anchor", "ha": "center"}
    misfit = example.misfit[event] if example.misfit is not None and event < len(example.misfit) else math.nan
    known = math.isfinite(misfit)
    name = sheet.text(
        left - (0.26 if known else 0.12),
        bottom + _SIDE / 2,
        series.label,
        color=series.colour,
        fontweight="bold",
        **upright,
    )
    drawn.append(name)
    if known:
        drawn.append(
            sheet.text(left - 0.1, bottom + _SIDE / 2, f"misfit {misfit:.3g}", fontsize=8, color="#57606a", **upright)
        )
    tag(drawn, series)


def of_waves(dims: Sequence[Axis]) -> bool:
    """Whether an array is a gather: other recordings in time have no shots or receivers."""
    return any(axis.name in ("source", "shot", "receiver") for axis in dims)


def shots_axis(dims: Sequence[Axis]) -> int:
    """The dimension that is left out first: shots where there are some."""
    return next((i for i, a in enumerate(dims) if a.name in ("source", "shot")), 0)


def middle_slice(values: np.ndarray, axes: Sequence[Axis]) -> tuple[np.ndarray, tuple[Axis, ...]]:
    """At most two dimensions of an array, time downwards: the middle entry of the others (shots first)."""
    dims = list(axes)
    while values.ndim > 2:
        drop = shots_axis(dims)
        values = values.take(values.shape[drop] // 2, axis=drop)
        dims.pop(drop)
    if values.ndim == 2 and dims[1].name == "time":
        values, dims = values.T, dims[::-1]
    return values, tuple(dims)


def colour_bar(
    figure: Any, left: float, bottom: float, height: float, span: tuple[float, float], cmap: str, unit: str
) -> None:
    """A colour bar no longer than three maps, its unit above it."""
    shown = min(height, 3 * _SIDE)
    axes = axes_at(figure, left, bottom + height - shown, 0.11, shown)
    axes.imshow(np.linspace(1, 0, 64)[:, None], extent=(0, 1, *span), aspect="auto", cmap=cmap)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.locator_params(axis="y", nbins=5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    axes.set_title(unit if unit not in ("", "1") else "", loc="left", fontsize=8.5)
