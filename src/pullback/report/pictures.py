"""Example posteriors as people of the field look at them: spectra with ratio, clouds of points, velocity panels with a gather."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback.report.drawing import WIDTH, Drawing, axes_at, finish, handle, legend, limits, new_figure, style, tag
from pullback.report.examples import Axis, Example, Spectrum
from pullback.report.style import OBSERVED, TRUTH, Series, with_unit

Answer = tuple[Series, Example]
_WORDS = {"pt": "pT", "eta": "η", "phi": "φ", "mass": "mass", "e": "E", "energy": "E"}
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
        legend(figure, [*_reference_handles(has_truth, has_observed), *(handle(s, line=False) for s, _ in answers)], 0.04)
        for place, name in enumerate(names):
            row, column = divmod(place, columns)
            left, bottom = 0.66 + column * (wide + gap), tall * (lines - 1 - row) + 0.5
            upper = axes_at(figure, left, bottom + 0.95, wide, 1.7)
            lower = axes_at(figure, left, bottom, wide, 0.85, sharex=upper)
            _spectrum(upper, lower, name, answers)
            if column == 0:
                upper.set_ylabel("events, normalised\nper bin width")
                lower.set_ylabel("ratio to truth" if has_truth else "ratio to\nobserved")
        methods = ", ".join(s.label for s, _ in answers)
        against = "truth and observations" if has_truth else "the observations"
        alt = f"Spectra of {', '.join(names)} for {first.title}: {methods} against {against}"
        caption = "Spectra, each normalised to its own events. " + (
            "Grey: what was observed; black: the truth. A method that unfolds well lies at 1 in the ratio, where the band is the "
            "statistical uncertainty of the truth and bars are those of the answer."
            if has_truth
            else "There is no truth: the ratio shows how each method changes what was observed."
        )
        return finish(figure, key, alt, caption)


def _reference_handles(truth: bool, observed: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=TRUTH, linewidth=1.6, label="truth")] if truth else []
    return [*handles, Line2D([], [], color=OBSERVED, linewidth=1.4, linestyle="--", label="observed")] if observed else handles


def _density(values: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, float]:
    """Counts as a density, and the factor per unit width that made it."""
    total = float(np.nansum(values))
    factor = 1 / total if total > 0 else math.nan
    return values * factor / np.diff(edges), factor


def _spectrum(upper: Any, lower: Any, name: str, answers: Sequence[Answer]) -> None:
    found: list[tuple[Series, Spectrum]] = [(s, p) for s, e in answers for p in e.spectra if p.name == name]
    first = found[0][1]
    edges, width = first.edges, np.diff(first.edges)
    base = next((p.truth for _, p in found if p.truth is not None), None)
    is_truth = base is not None
    if base is None:
        base = first.observed
    reference, factor = _density(base, edges) if base is not None else (None, math.nan)
    if base is not None and reference is not None:
        relative = np.sqrt(base) / np.where(base > 0, base, np.nan)
        lower.stairs(1 + relative, edges, baseline=1 - relative, fill=True, color="#d0d7de", linewidth=0)
        lower.axhline(1, color=TRUTH if is_truth else OBSERVED, linewidth=1)
    if first.observed is not None:
        level = _density(first.observed, edges)[0]
        upper.stairs(level, edges, baseline=None, color=OBSERVED, linewidth=1.3, linestyle="--")
        if is_truth and reference is not None:
            lower.stairs(_ratio(level, reference), edges, baseline=None, color=OBSERVED, linewidth=1.1, linestyle="--")
    if is_truth:
        upper.stairs(reference, edges, baseline=None, color=TRUTH, linewidth=1.5)
    off: list[float] = []
    for rank, (series, part) in enumerate(found):
        x = edges[:-1] + width * (0.5 + 0.6 * ((rank + 0.5) / len(found) - 0.5))
        total = float(np.nansum(part.unfolded))
        value, error = (v / total / width if total > 0 else v * np.nan for v in (part.unfolded, part.unfolded_error))
        drawn = [_points(upper, x, value, error, series)]
        if reference is not None and base is not None:
            ratio = _ratio(value, reference)
            drawn.append(_points(lower, x, ratio, _ratio(error, reference), series))
            off += [abs(r - 1) for r, n in zip(ratio, base, strict=True) if n >= 10 and np.isfinite(r)]
        tag(drawn, series)
    high = next((v for v in (0.1, 0.25, 0.5, 1.0) if np.quantile(off, 0.9) < 0.9 * v), 1.0) if off else 0.5
    lower.set_ylim(1 - high, 1 + high)
    if first.unit in _MOMENTUM:
        upper.set_yscale("log")
        shown = reference[reference > 0] if reference is not None else np.array([])
        if shown.size:
            upper.set_ylim(shown.min() / 3, shown.max() * 3)
    else:
        upper.set_ylim(bottom=0)
    filled = np.flatnonzero(np.nan_to_num(base)) if base is not None else np.arange(len(width))
    if len(filled):
        upper.set_xlim(edges[filled[0]], edges[filled[-1] + 1])
    upper.tick_params(labelbottom=False)
    upper.set_title(_WORDS.get(name, name), loc="left")
    lower.set_xlabel(with_unit(_WORDS.get(name, name), first.unit))
    lower.grid(axis="y")


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return above / np.where(below > 0, below, np.nan)


def _points(axes: Any, x: np.ndarray, value: np.ndarray, error: np.ndarray, series: Series) -> list[Any]:
    axes_artists = axes.plot(x, value, color=series.colour, marker=series.marker, markersize=3.2, linewidth=0)
    bars = axes.vlines(x, value - error, value + error, color=series.colour, linewidth=1)
    return [*axes_artists, bars]


def clouds(key: str, answers: Sequence[Answer]) -> Drawing | None:
    """Draws of the two features of x as points with contours, over the contours of the truth; one panel for each method."""
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
            axes = axes_at(
                figure, 0.55 + column * (side + 0.35), (lines - 1 - row) * (side + 0.55) + 0.5, side, side
            )
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
            "One draw for each of many events: dots and coloured contours; black contours are the truth. Contours hold 39 % and 86 % of "
            "the points (one and two standard deviations of a Gaussian). A method that knows the prior has the black contours' tilt."
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
    """Answers to the same observation side by side: (answer, event) groups in the order in which observations appear."""
    groups: dict[bytes, list[tuple[Answer, int]]] = {}
    for series, example in answers:
        if example.y is None:
            continue
        for event in range(len(example.y)):
            groups.setdefault(example.y[event].tobytes(), []).append(((series, example), event))
    return list(groups.values())


_SIDE = 1.42


def panels(key: str, case: Sequence[tuple[Answer, int]]) -> Drawing:
    """One observation: truth and gather, then mean, two draws and standard deviation of every method."""
    (_, first), event = case[0]
    assert first.y is not None
    references = [("truth", first.truth[event], first.x_axes)] if first.truth is not None else []
    gather, gather_axes = _slice(first.y[event], first.y_axes)
    name = next((a.name for a in first.x_axes), "x")
    stack = len(case) >= 2 and bool(references)
    fields = [a for (_, e), i in case for a in (e.mean[i], *e.draws[i]) if e.mean is not None and e.draws is not None]
    colour = limits([*(r[1] for r in references), *fields])
    spread = limits([np.concatenate([[0.0], e.std[i].ravel()]) for (_, e), i in case if e.std is not None], 0, 99)
    lead = 1 if stack or not references else 2
    step_across, step_up = _SIDE + 0.16, _SIDE + 0.3
    start = 0.62 + lead * step_across + (0.5 * (lead - 1)) + 0.42
    lines = max(len(case), 2 if stack else 1)
    with style():
        figure = new_figure(start + 4 * step_across + 1.75, lines * step_up + 0.68)
        top = lines * step_up + 0.68 - 0.3 - _SIDE
        places = [(0.62, top), (0.62, top - step_up - 0.12)] if stack else [(0.62, top), (0.62 + step_across + 0.5, top)]
        for (title, values, dims), place in zip(references, places, strict=False):
            axes = axes_at(figure, *place, _SIDE, _SIDE)
            _show(axes, values, dims, vmin=colour[0], vmax=colour[1], cmap="viridis")
            axes.set_title(title, loc="left", fontweight="bold")
            axes.tick_params(labelbottom=not stack)
            if stack:
                axes.set_xlabel("")
        axes = axes_at(figure, *places[len(references)], _SIDE, _SIDE)
        clip = limits([np.abs(gather)], 0, 98)[1]
        _show(axes, gather, gather_axes, vmin=-clip, vmax=clip, cmap="gray")
        axes.set_title("observed", loc="left", fontweight="bold")
        for line, ((series, example), index) in enumerate(case):
            _answer(figure, start, top - line * step_up, step_across, series, example, index, colour, spread, line, len(case))
        height = len(case) * step_up - 0.3
        for left, (low, high), cmap, title in (
            (start + 3 * step_across, *[colour], "viridis", ""),
            (start + 4 * step_across + 0.72, *[spread], "magma", ""),
        ):
            if len(first.x_axes) == 2:
                _bar(figure, left, top + _SIDE - height, height, low, high, cmap, with_unit(title, first.x_unit))
        alt = f"{first.title}: truth, observation, and mean, draws and standard deviation of {', '.join(s.label for (s, _), _ in case)}"
        caption = (
            "One observation and what each method makes of it. All maps of x share one colour scale, standard deviations another. "
            "A good posterior has draws that differ where its standard deviation is large, and a mean that is blurred only there."
        )
        if len(first.y_axes) > 2:
            caption += " Of several shots the middle one is drawn."
        _ = name
        return finish(figure, key, alt, caption)


def _answer(
    figure: Any,
    start: float,
    bottom: float,
    step: float,
    series: Series,
    example: Example,
    event: int,
    colour: tuple[float, float],
    spread: tuple[float, float],
    line: int,
    lines: int,
) -> None:
    assert example.mean is not None
    assert example.draws is not None
    assert example.std is not None
    shown = [("mean", example.mean[event]), *((f"draw {i + 1}", d) for i, d in enumerate(example.draws[event][:2]))]
    shown.append(("standard deviation", example.std[event]))
    for column, (title, values) in enumerate(shown):
        is_std = column == len(shown) - 1
        left = start + column * step + (0.72 if is_std else 0)
        axes = axes_at(figure, left, bottom, _SIDE, _SIDE)
        low, high = spread if is_std else colour
        _show(axes, values, example.x_axes, vmin=low, vmax=high, cmap="magma" if is_std else "viridis")
        axes.set_ylabel("")
        axes.tick_params(labelleft=False, labelbottom=line == lines - 1)
        if line < lines - 1:
            axes.set_xlabel("")
        if line == 0:
            axes.set_title(title, loc="left")
        if column == 0:
            label = series.label
            if example.misfit is not None and np.isfinite(example.misfit[event]):
                label += f"\nmisfit {example.misfit[event]:.3g}"
            axes.set_ylabel(label, color=series.colour, fontweight="bold")


def _slice(values: np.ndarray, axes: Sequence[Axis]) -> tuple[np.ndarray, tuple[Axis, ...]]:
    """At most two dimensions of an array, time downwards: the middle entry of the others (shots first)."""
    dims = list(axes)
    while values.ndim > 2:
        drop = next((i for i, a in enumerate(dims) if a.name in ("source", "shot")), 0)
        values = values.take(values.shape[drop] // 2, axis=drop)
        dims.pop(drop)
    if values.ndim == 2 and dims[1].name == "time":
        values, dims = values.T, dims[::-1]
    return values, tuple(dims)


def _show(axes: Any, values: np.ndarray, dims: Sequence[Axis], **colours: Any) -> None:
    """An image with its first dimension downwards, or a line for one dimension."""
    values, shown = _slice(values, dims)
    if values.ndim == 1:
        axes.plot(np.linspace(shown[0].low, shown[0].high, len(values)), values, color=TRUTH, linewidth=1.2)
        axes.set_xlabel(with_unit(shown[0].name, shown[0].unit))
        axes.set_ylim(colours["vmin"], colours["vmax"])
        return
    down, across = shown
    extent = (across.low, across.high, down.high, down.low)
    axes.imshow(values, extent=extent, aspect="auto", **colours)
    axes.set_xlabel(with_unit(across.name, across.unit))
    axes.set_ylabel(with_unit(down.name, down.unit))
    axes.locator_params(nbins=4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)


def _bar(figure: Any, left: float, bottom: float, height: float, low: float, high: float, cmap: str, title: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = axes_at(figure, left, bottom, 0.11, height)
    figure.colorbar(ScalarMappable(Normalize(low, high), cmap), cax=axes)
    axes.locator_params(axis="y", nbins=5)
    axes.set_title(title, loc="left", fontsize=8)
