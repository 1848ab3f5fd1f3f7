"""Data fit: the observed gather, the re-simulated gather of one draw of each method, and the residual."""

import textwrap
from collections.abc import Sequence

import numpy as np

from pullback.report.drawing import WIDTH, Drawing, axes_at, finish, limits, new_figure, sheet_of, style, tag
from pullback.report.examples import Answer
from pullback.report.maps import colour_bar, line_or_map, middle_slice, of_waves, shots_axis

SIDE, GAP = 1.42, 0.14
LEFT, RIGHT = 0.68, 0.74
MOST_SAMPLES = 256
"""Samples along an axis of a drawn gather: more would weigh on the page and not be seen."""


def data_fit(key: str, case: Sequence[tuple[Answer, int]]) -> Drawing | None:
    """One observation, and below each other the simulation of one draw of every method and its difference from it.

    None where no method's draws of this event were simulated again.
    """
    shown = [
        (series, example, event)
        for (series, example), event in case
        if example.again is not None and event < len(example.again) and np.isfinite(example.again[event]).any()
    ]
    if not shown:
        return None
    _, first, event = shown[0]
    assert first.y is not None
    observed, axes = _thinned(*middle_slice(first.y[event], first.y_axes))
    clip = limits([np.abs(observed)], 0, 98)[1]
    side = min(SIDE, (WIDTH - LEFT - RIGHT) / (1 + len(shown)) - GAP)
    with style():
        figure = new_figure(LEFT + (1 + len(shown)) * (side + GAP) + RIGHT, 2 * side + GAP + 1.0)
        upper = side + GAP + 0.52
        line_or_map(axes_at(figure, LEFT, upper, side, side), observed, axes, (-clip, clip), "gray", "observed")
        sheet = sheet_of(figure)
        sheet.text(
            LEFT + side - 0.02, upper - GAP - side / 2, "simulated\n− observed", ha="right", va="center", fontsize=9
        )
        for column, (series, example, index) in enumerate(shown, 1):
            assert example.again is not None
            assert example.y is not None
            left = LEFT + column * (side + GAP)
            again, y = example.again[index].astype(np.float64), example.y[index]
            drawn = []
            for bottom, values in ((upper, again), (upper - GAP - side, again - y)):
                image, _ = _thinned(*middle_slice(values, example.y_axes))
                if image.ndim == 1:
                    x = np.linspace(left, left + side, len(image))
                    height = np.clip((image + clip) / (2 * clip), 0, 1)
                    drawn += sheet.plot(x, bottom + side * height, color=series.colour, linewidth=1)
                else:
                    place = (left, left + side, bottom, bottom + side)
                    drawn.append(sheet.imshow(image, extent=place, aspect="auto", vmin=-clip, vmax=clip, cmap="gray"))
            share = np.linalg.norm(again - y) / max(float(np.linalg.norm(y)), np.finfo(float).tiny)
            name = "\n".join(textwrap.wrap(series.label, max(8, int(side / 0.085)), break_long_words=True)[:2])
            drawn.append(
                sheet.text(
                    left, upper + side + 0.06, name, color=series.colour, fontweight="bold", fontsize=9, va="bottom"
                )
            )
            drawn.append(sheet.text(left, upper - 2 * GAP - side, f"misfit {share:.3g}", fontsize=8.5, va="top"))
            tag(drawn, series)
        if observed.ndim == 2:
            right = LEFT + (1 + len(shown)) * (side + GAP)
            colour_bar(figure, right, upper - GAP - side, 2 * side + GAP, (-clip, clip), "gray", first.y_unit)
        methods = ", ".join(series.label for series, _, _ in shown)
        alt = f"{first.title}: the observation, and what one draw of {methods} would have been observed as"
        caption = (
            "The same observation beside that of one draw of each method, sent through the simulator again, and what "
            "is left; one colour scale for all. Noise is left by the truth too."
        )
        if of_waves(first.y_axes):
            caption += (
                " Arrivals that are left say what the answer lacks: a pair of opposite signs is an arrival at the "
                "wrong time."
            )
        if len(first.y_axes) > 2:
            dropped = shots_axis(first.y_axes)
            what = "shots" if of_waves(first.y_axes) else f"entries along {first.y_axes[dropped].name}"
            caption += f" Misfits are of all {first.y.shape[1 + dropped]} {what}, of which the middle one is drawn."
        return finish(figure, key, alt, caption)


def _thinned(values: np.ndarray, axes: tuple) -> tuple[np.ndarray, tuple]:
    """Every n-th sample along each axis, so that at most `MOST_SAMPLES` are left."""
    every = tuple(slice(None, None, -(-n // MOST_SAMPLES)) for n in values.shape)
    return values[every], axes
