"""Example posteriors of vectors: spectra with their ratio to the truth, and clouds of points."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback.report.drawing import (
    WIDTH,
    Drawing,
    axes_at,
    entry,
    finish,
    handle,
    legend,
    limits,
    log_axis,
    new_figure,
    style,
    tag,
)
from pullback.report.examples import Answer, Spectrum
from pullback.report.style import OBSERVED, TRUTH, with_unit

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
        whole = [s.label for s, e in answers if any(part.truths == "all" for part in e.spectra)]
        what = ["of one draw for each event"] if len(whole) < len(answers) else []
        if whole:
            what.append(
                f"of the truth before the detector ({', '.join(whole)}: pairs and misses, weighted with purity and "
                "efficiency, or unfolded)"
            )
        caption = f"Spectra {' and '.join(what)}, as shares per bin width. " + (
            "Dashed: what was observed (detector level); black: the truth. A method that unfolds well lies at 1 in the "
            "ratio to its truth; the grey band is the statistical uncertainty of the truth, coloured bands that of "
            f"each answer. Bins with fewer than {_LEAST_EVENTS} true events have no ratio."
            if has_truth
            else "Without truth: the ratio shows the change with respect to the observations."
        )
        return finish(figure, key, alt, caption)


def _reference_handles(truth: bool, observed: bool) -> list[Any]:
    handles = [entry("truth", TRUTH)] if truth else []
    return handles + ([entry("observed", OBSERVED, 1.4, linestyle="--")] if observed else [])


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
        log_axis(upper, "y", lowest / 3, highest * 3)
    else:
        upper.set_ylim(0, 1.25 * highest if highest else None)
    if edges[0] > 0 and np.allclose(np.diff(np.log(edges)), np.log(edges[1] / edges[0]), rtol=1e-3):
        upper.set_xscale("log")
        log_axis(lower, "x", edges[0], edges[-1])
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
            tag(drawn, series)
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
    levels = sorted({float(ordered[min(int(np.searchsorted(share, p)), ordered.size - 1)]) for p in (0.86, 0.39)})
    if levels[0] <= 0:
        return None
    middle = (edges[:-1] + edges[1:]) / 2
    return axes.contour(middle, middle, height.T, levels=levels, colors=[colour], linewidths=width)
