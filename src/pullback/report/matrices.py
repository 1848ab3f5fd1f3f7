"""Matrices of unfolding: migration of each feature between bins, and correlation of unfolded bins."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pullback.report.drawing import WIDTH, Drawing, axes_at, entry, finish, legend, new_figure, style, tag
from pullback.report.examples import Answer, Example, Spectrum
from pullback.report.style import FAINT, INK, PALETTE, with_unit

SIDE = 2.05
MOST_NUMBERS = 12
"""Most bins of a matrix whose cells have their numbers printed."""

_CURVES = {
    "stability": ("stability: pairs of a truth bin that are observed in it", PALETTE[0], "o"),
    "bin_purity": ("bin purity: pairs of an observed bin that come from it", PALETTE[1], "s"),
    "efficiency": ("efficiency: truths that are observed", PALETTE[2], "^"),
}


def migration(key: str, examples: Sequence[Example]) -> Drawing | None:
    """The migration of each feature of a seen family, column by column normalised, above stability and bin purity.

    Args:
        key: unique name of the figure.
        examples: the first seen family that has migrations is drawn: those of all methods are the same.
    """
    found = next((e for e in examples if any(s.migration is not None for s in e.spectra)), None)
    if found is None:
        return None
    parts = [s for s in found.spectra if s.migration is not None][:8]
    gap = 0.72
    columns = max(1, min(len(parts), int((WIDTH - 0.15) / (SIDE + gap))))
    lines = -(-len(parts) // columns)
    tall = SIDE + 1.75
    with style():
        figure = new_figure(columns * (SIDE + gap) + 0.15, lines * tall + 0.35)
        shown = [name for name in _CURVES if any(getattr(s, name) is not None for s in parts)]
        handles = [
            entry(label.partition(":")[0], colour, marker=marker, markersize=4)
            for label, colour, marker in (_CURVES[name] for name in shown)
        ]
        legend(figure, handles, 0.04)
        for place, part in enumerate(parts):
            row, column = divmod(place, columns)
            left, bottom = 0.62 + column * (SIDE + gap), (lines - 1 - row) * tall + 0.48
            _migration(axes_at(figure, left, bottom + 1.0, SIDE, SIDE), axes_at(figure, left, bottom, SIDE, 0.85), part)
        names = ", ".join(s.name for s in parts)
        alt = f"Migration of {names} between bins of truth and observation in {found.title}"
        meanings = "; ".join(label for label, *_ in (_CURVES[name] for name in shown))
        caption = (
            f"Response of {found.title}, a seen family: percentage of the pairs of each truth bin (column) that are "
            "observed in each bin (row); columns sum to less than 100 where pairs are observed outside. Below, "
            f"{meanings}. Bins with a stability or purity far below one half ask more of an unfolding than the data "
            "hold: make them wider."
        )
        return finish(figure, key, alt, caption)


def _migration(upper: Any, lower: Any, part: Spectrum) -> None:
    matrix, edges = part.migration, part.migration_edges
    assert matrix is not None
    assert edges is not None
    bins, percent = len(edges) - 1, 100 * matrix
    upper.imshow(percent, origin="lower", aspect="auto", cmap="Blues", vmin=0, vmax=100, extent=(0, bins, 0, bins))
    if bins <= MOST_NUMBERS:
        for i, j in zip(*np.nonzero(percent >= 0.5), strict=True):
            upper.text(
                j + 0.5, i + 0.5, f"{percent[i, j]:.0f}", ha="center", va="center", fontsize=6.5,
                color="white" if percent[i, j] > 55 else INK,
            )  # fmt: skip
    upper.plot([0, bins], [0, bins], color=FAINT, linewidth=0.5)
    places, labels = _edge_ticks(edges)
    upper.set_xticks(places, [])
    upper.set_yticks(places, labels)
    name = with_unit(part.name, part.unit)
    upper.set_ylabel(f"observed {name}")
    upper.set_title(part.name, loc="left")
    middle = np.arange(bins) + 0.5
    for which, (_, colour, marker) in _CURVES.items():
        values = getattr(part, which)
        if values is not None:
            lower.plot(middle, values, color=colour, marker=marker, markersize=3.5, linewidth=1.2)
    lower.set(xlim=(0, bins), ylim=(0, 1.05), xlabel=f"true {name}")
    lower.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    lower.set_xticks(places, labels)
    lower.grid(axis="y")


def _edge_ticks(edges: np.ndarray, most: int = 4) -> tuple[np.ndarray, list[str]]:
    """Some edges of bins that are drawn equally wide: their places, and their values with three digits."""
    places = np.unique(np.linspace(0, len(edges) - 1, min(most, len(edges))).round().astype(int))
    return places, [f"{edges[i]:.3g}" for i in places]


def correlations(key: str, answers: Sequence[Answer]) -> Drawing | None:
    """Correlation of the unfolded bins of all features, a panel for each method that knows it."""
    found = [(s, e) for s, e in answers if e.correlation is not None]
    if not found:
        return None
    side, gap = 2.3, 0.75
    columns = min(len(found), int((WIDTH - 0.9) / (side + gap)))
    lines = -(-len(found) // columns)
    with style():
        figure = new_figure(columns * (side + gap) + 0.9, lines * (side + 0.75) + 0.1)
        for place, (series, example) in enumerate(found):
            row, column = divmod(place, columns)
            bottom = (lines - 1 - row) * (side + 0.75) + 0.45
            axes = axes_at(figure, 0.7 + column * (side + gap), bottom, side, side)
            assert example.correlation is not None
            image = axes.imshow(example.correlation, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="none")
            tag(image, series)
            axes.set_facecolor(FAINT)
            _blocks(axes, example)
            axes.set_title(series.label, loc="left", color=series.colour, fontweight="bold")
        bar = axes_at(figure, 0.7 + columns * (side + gap) - 0.45, 0.45, 0.12, side)
        bar.imshow(np.linspace(1, -1, 64)[:, None], extent=(0, 1, -1, 1), aspect="auto", cmap="RdBu_r")
        bar.set(xticks=[], yticks=[-1, 0, 1])
        bar.yaxis.tick_right()
        labels = ", ".join(s.label for s, _ in found)
        alt = f"Correlation of unfolded bins for {found[0][1].title}: {labels}"
        caption = (
            "Statistical correlation of the unfolded bins, one feature after the other: red bins rise together, blue "
            "ones against each other; grey where it is not known. Neighbours that are strongly anticorrelated say "
            "that noise is amplified, strongly correlated ones that the regularisation ties them together."
        )
        return finish(figure, key, alt, caption)


def _blocks(axes: Any, example: Example) -> None:
    """Names of the features at their bins, and lines between them."""
    edges = np.cumsum([0, *(count for _, count in example.correlated)])
    middles = (edges[:-1] + edges[1:] - 1) / 2
    names = [name for name, _ in example.correlated]
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names)
    axes.tick_params(length=0)
    for edge in edges[1:-1]:
        axes.axhline(edge - 0.5, color=INK, linewidth=0.5)
        axes.axvline(edge - 0.5, color=INK, linewidth=0.5)
