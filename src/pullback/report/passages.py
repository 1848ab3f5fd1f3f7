"""Figures of samplers on their way from noise to data: densities of particles over noise level and x."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback.report.drawing import WIDTH, Drawing, axes_at, finish, new_figure, style, tag
from pullback.report.examples import Answer, Passage
from pullback.report.style import FAINT, with_unit

EXACT = "#cf222e"
LEVELS = (20.0, 0.02)
"""Noise levels that are shown: above, noise alone is seen, and below, what the last one shows."""

_COLUMNS = 160
_WIDE, _TALL, _GAP = 1.95, 1.4, 0.14
_CONTOURS = (0.03, 0.2, 0.5, 0.8)
"""Of the exact density, in units of the scale's largest."""


def passages(key: str, answers: Sequence[Answer]) -> Drawing | None:
    """A panel for each sampler that goes from noise to few unknowns: all of the first one's observation."""
    found = [(s, e.marginals) for s, e in answers if e.marginals is not None]
    if not found:
        return None
    event, quantity, unit = found[0][1].event, found[0][1].quantity, found[0][1].unit
    found = [(s, p) for s, p in found if p.event == event]
    columns = min(len(found), int((WIDTH - 0.8) / (_WIDE + _GAP)))
    lines = -(-len(found) // columns)
    last = [p.exact[-1] if p.exact is not None else p.density[-1] for _, p in found]
    top = float(np.median([values.max() for values in last]))
    with style():
        figure = new_figure(0.8 + columns * (_WIDE + _GAP), lines * (_TALL + 0.34) + 0.6)
        for place, (series, passage) in enumerate(found):
            row, column = divmod(place, columns)
            bottom = 0.45 + (lines - 1 - row) * (_TALL + 0.34)
            axes = axes_at(figure, 0.65 + column * (_WIDE + _GAP), bottom, _WIDE, _TALL)
            _panel(axes, series, passage, top)
            axes.set_title(series.label, loc="left", color=series.colour, fontweight="bold", fontsize=8.5)
            axes.tick_params(labelleft=column == 0, labelbottom=place >= len(found) - columns)
            if column == 0:
                axes.set_ylabel(with_unit(quantity, unit))
            if place >= len(found) - columns:
                axes.set_xlabel("noise level")
        known = any(p.exact is not None for _, p in found)
        alt = f"Particles from noise to data for one observation: {', '.join(s.label for s, _ in found)}"
        caption = (
            f"Observation {event}: where the particles are (blue, with their weights) on their way from noise, left, "
            f"to draws of {quantity}, right. Noise levels t are in units of the standard deviation of {quantity}, and "
            f"states are divided by √(1 + t²) about its mean, so that they are {quantity} at the end."
            + (" Red: contours of the exact posterior with the noise of each level." if known else "")
        )
        return finish(figure, key, alt, caption)


def _panel(axes: Any, series: Any, passage: Passage, top: float) -> None:
    first, last = (math.log10(t) for t in LEVELS)
    place = np.linspace(first, last, _COLUMNS)
    # The level that holds at each place: the last one not below it.
    rows = np.clip(np.searchsorted(-np.log10(passage.level), -place, side="right") - 1, 0, None)
    box = (0, 1, float(passage.edges[0]), float(passage.edges[-1]))
    tag(
        axes.imshow(
            passage.density[rows].T, origin="lower", aspect="auto", cmap="Blues", vmin=0, vmax=top, extent=box,
            interpolation="none",
        ),
        series,
    )  # fmt: skip
    if passage.exact is not None:
        middle = (passage.edges[1:] + passage.edges[:-1]) / 2
        across = (np.arange(_COLUMNS) + 0.5) / _COLUMNS
        heights = [share * top for share in _CONTOURS]
        axes.contour(across, middle, passage.exact[rows].T, levels=heights, colors=EXACT, linewidths=0.6)
    axes.set_facecolor(FAINT)
    ticks = [10.0, 1.0, 0.1]
    axes.set_xticks([(first - math.log10(t)) / (first - last) for t in ticks], [f"{t:g}" for t in ticks])
    axes.set(xlim=(0, 1), ylim=box[2:])
