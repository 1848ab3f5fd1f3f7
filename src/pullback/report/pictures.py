"""Example posteriors as the field looks at them: spectra with ratios, clouds of points, maps with a gather."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback.report.drawing import (
    WIDTH,
    Drawing,
    axes_at,
    finish,
    handle,
    legend,
    limits,
    log_axis,
    new_figure,
    style,
    tag,
)
from pullback.report.examples import Axis, Example, Spectrum
from pullback.report.style import OBSERVED, TRUTH, Series, with_unit

Answer = tuple[Series, Example]
_WORDS = {"pt": "pT", "eta": "η", "phi": "φ", "mass": "mass", "e": "E", "energy": "E"}
_LEAST_EVENTS = 5
_MOMENTUM = ("eV", "keV", "MeV", "GeV", "TeV")


def spectra(key: str, answers: Sequence[Answer]) -> Drawing | None:
    """Truth, observations and unfolded spectra of each feature, above their ratio to the truth.

    Without a truth (an observed family) the ratio is to the observations.
    """
    first = answers[0][1]
    names = list(dict.fromkeys(s.name for _, e in answers for s in e.spectra))
    if not names:
        return None
    columns = min(len(names), 4)
    lines = math.ceil(len(names) / columns)
    gap = 0.68
    wide = min(3.4, (WIDTH - 0.1 - gap * columns) / columns)
    tall = 3.35
    with style():
        figure = new_figure(columns * (wide + gap) + 0.15, tall * lines + 0.3)
        has_truth = any(s.truth is not None for s in first.spectra)
        has_observed = any(s.observed is not None for s in first.spectra)
        legend(
            figure, [*_reference_handles(has_truth, has_observed), *(handle(s, marker=False) for s, _ in answers)], 0.04
        )
        for place, name in enumerate(names):
            row, column = divmod(place, columns)
            left, bottom = 0.66 + column * (wide + gap), tall * (lines - 1 - row) + 0.5
            upper = axes_at(figure, left, bottom + 0.95, wide, 1.7)
            lower = axes_at(figure, left, bottom, wide, 0.85)
            _spectrum(upper, lower, name, answers)
            if column == 0:
                upper.set_ylabel("1/N dN/dx")
                lower.set_ylabel("ratio to truth" if has_truth else "to observed")
        methods = ", ".join(s.label for s, _ in answers)
        against = "truth and observations" if has_truth else "the observations"
        alt = f"Spectra of {', '.join(names)} for {first.title}: {methods} against {against}"
        caption = "Spectra of one draw for each event, as shares of the events per bin width. " + (
            "Dashed: what was observed (detector level); black: the truth. A method that unfolds well lies at 1 in the "
            "ratio; the grey band is the statistical uncertainty of the truth, coloured bands that of each answer. "
            f"Bins with fewer than {_LEAST_EVENTS} true events have no ratio."
            if has_truth
            else "There is no truth: the ratio shows how each method changes what was observed."
        )
        return finish(figure, key, alt, caption)


def _reference_handles(truth: bool, observed: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=TRUTH, linewidth=1.6, label="truth")] if truth else []
    return (
        [*handles, Line2D([], [], color=OBSERVED, linewidth=1.4, linestyle="--", label="observed")]
        if observed
        else handles
    )


def _scale(part: Spectrum) -> float:
    """What counts are multiplied by: one over the truth's total where it is known, else the observed, else its own."""
    base = next(v for v in (part.truth, part.observed, part.unfolded) if v is not None)
    total = float(np.nansum(base))
    return 1 / total if total > 0 else math.nan


def _spectrum(upper: Any, lower: Any, name: str, answers: Sequence[Answer]) -> None:
    """One feature. Every answer is compared with the truth of its own events: an expensive method may have fewer."""
    found = [(s, p) for s, e in answers for p in e.spectra if p.name == name]
    first = max((p for _, p in found), key=lambda p: float(np.nansum(p.unfolded)))
    edges, width = first.edges, np.diff(first.edges)
    base = first.truth if first.truth is not None else first.observed
    colour = TRUTH if first.truth is not None else OBSERVED
    highest = lowest = None
    if base is not None:
        relative = _ratio(np.sqrt(base), base, base)
        lower.stairs(1 + relative, edges, baseline=1 - relative, fill=True, color="#dfe3e8", linewidth=0)
        lower.axhline(1, color=colour, linewidth=1.2)
        level = base * _scale(first) / width
        highest, lowest = level.max(), level[level > 0].min(initial=math.inf)
    if first.observed is not None:
        upper.stairs(
            first.observed * _scale(first) / width, edges, baseline=None, color=OBSERVED, linewidth=1.3, linestyle="--"
        )
        if first.truth is not None:
            lower.stairs(
                _ratio(first.observed, first.truth, first.truth),
                edges,
                baseline=None,
                color=OBSERVED,
                linewidth=1.1,
                linestyle="--",
            )
    if first.truth is not None:
        upper.stairs(first.truth * _scale(first) / width, edges, baseline=0, fill=True, color="#eef0f2", linewidth=0)
        upper.stairs(first.truth * _scale(first) / width, edges, baseline=None, color=TRUTH, linewidth=1.6)
    off: list[float] = []
    for series, part in found:
        drawn, own = [], part.truth if part.truth is not None else part.observed
        level = part.unfolded * _scale(part) / np.diff(part.edges)
        drawn.append(upper.stairs(level, part.edges, baseline=None, color=series.colour, linewidth=1.2))
        if highest is None:
            highest, lowest = level.max(), level[level > 0].min(initial=math.inf)
        if own is not None:
            ratio = _ratio(part.unfolded, own, own)
            error = part.ratio_error
            if error is None and part.unfolded_error is not None:
                error = _ratio(part.unfolded_error, own, own)
            drawn.append(lower.stairs(ratio, part.edges, baseline=None, color=series.colour, linewidth=1.2))
            if error is not None:
                sides = ratio - error, ratio + error
                band = lower.stairs(
                    sides[1], part.edges, baseline=sides[0], fill=True, color=series.colour, alpha=0.18, linewidth=0
                )
                drawn.append(band)
            off += [abs(r - 1) for r, n in zip(ratio, own, strict=True) if n >= 20 and np.isfinite(r)]
        tag(drawn, series)
    high = next((v for v in (0.1, 0.2, 0.5, 1.0) if np.quantile(off, 0.85) < 0.8 * v), 1.0) if off else 0.5
    lower.set_ylim(1 - high, 1 + high)
    lower.set_yticks([1 - high / 2, 1, 1 + high / 2])
    if first.unit in _MOMENTUM and highest and lowest and math.isfinite(lowest):
        upper.set_yscale("log")
        log_axis(upper.yaxis, lowest / 3, highest * 3)
        upper.set_ylim(lowest / 3, highest * 3)
    else:
        upper.set_ylim(0, 1.25 * highest if highest else None)
    if edges[0] > 0 and np.allclose(np.diff(np.log(edges)), np.log(edges[1] / edges[0]), rtol=1e-3):
        upper.set_xscale("log")
        lower.set_xscale("log")
        log_axis(lower.xaxis, edges[0], edges[-1])
    upper.set_xlim(edges[0], edges[-1])
    lower.set_xlim(edges[0], edges[-1])
    upper.xaxis.set_visible(False)
    lower.set_xlabel(with_unit(_WORDS.get(name, name), first.unit))
    lower.grid(axis="y")


def _ratio(above: np.ndarray, below: np.ndarray, events: np.ndarray) -> np.ndarray:
    """above / below in bins with enough events for a ratio to mean anything, NaN elsewhere."""
    return np.where(events >= _LEAST_EVENTS, above / np.where(events >= _LEAST_EVENTS, below, 1), np.nan)


def clouds(key: str, answers: Sequence[Answer]) -> Drawing | None:
    """Draws of the two features of x as points with contours, over the truth's; one panel for each method."""
    answers = [(s, e) for s, e in answers if e.points_draws is not None and len(e.points_draws) > 1]
    if not answers:
        return None
    first = answers[0][1]
    names = [s.name for s in first.spectra][:2] if len(first.spectra) >= 2 else ["x1", "x2"]
    both = [p for _, e in answers for p in (e.points_truth, e.points_draws) if p is not None]
    span = max(abs(v) for v in limits(both, 0.2, 99.8)) * 1.1
    columns = min(len(answers), 4)
    lines = math.ceil(len(answers) / columns)
    side = 2.05
    with style():
        figure = new_figure(columns * (side + 0.35) + 0.5, lines * (side + 0.55) + 0.3)
        for place, (series, example) in enumerate(answers):
            row, column = divmod(place, columns)
            axes = axes_at(figure, 0.55 + column * (side + 0.35), (lines - 1 - row) * (side + 0.55) + 0.5, side, side)
            points = example.points_draws
            assert points is not None
            dots = axes.plot(
                points[:1500, 0], points[:1500, 1], ".", color=series.colour, markersize=2, alpha=0.25, rasterized=True,
                markeredgewidth=0,
            )  # fmt: skip
            drawn = [*dots, _contour(axes, points, span, series.colour, 1.6)]
            if example.points_truth is not None:
                _contour(axes, example.points_truth, span, TRUTH, 1.1)
            tag(drawn[:1], series)
            axes.set_title(series.label, loc="left", color=series.colour, fontweight="bold")
            axes.set(xlim=(-span, span), ylim=(-span, span), xlabel=names[0])
            axes.set_aspect("equal")
            if column == 0:
                axes.set_ylabel(names[1])
            else:
                axes.tick_params(labelleft=False)
        alt = f"Draws of {names[0]} and {names[1]} for {first.title}: {', '.join(s.label for s, _ in answers)}"
        caption = (
            "One draw for each of many events: dots and coloured contours; black contours are the truth. Contours hold "
            "39 % and 86 % of the points (one and two standard deviations of a Gaussian). A method that has found the "
            "prior has the black contours' tilt and width."
        )
        return finish(figure, key, alt, caption)


def _contour(axes: Any, points: np.ndarray, span: float, colour: str, width: float) -> Any:
    """Highest-density contours with 39 % and 86 % of the points, from a smoothed histogram."""
    from scipy.ndimage import gaussian_filter

    bins = 48
    height, edges, _ = np.histogram2d(points[:, 0], points[:, 1], bins=bins, range=[[-span, span]] * 2)
    height = gaussian_filter(height, bins / 30)
    ordered = np.sort(height.ravel())[::-1]
    share = np.cumsum(ordered) / max(ordered.sum(), 1e-12)
    levels = sorted({float(ordered[min(np.searchsorted(share, p), ordered.size - 1)]) for p in (0.86, 0.39)})
    if levels[0] <= 0:
        return None
    middle = (edges[:-1] + edges[1:]) / 2
    return axes.contour(middle, middle, height.T, levels=levels, colors=[colour], linewidths=width)


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
            "observed gather" if len(first.y_axes) > 1 else "observed",
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
