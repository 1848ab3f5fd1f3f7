"""The uncertainty budget of unfolded spectra: relative uncertainty of the bin contents by source, and correlations."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pullback.metrics.budget import Budget, chi2
from pullback.report.drawing import WIDTH, Drawing, axes_at, entry, finish, legend, new_figure, style
from pullback.report.pictures import _WORDS
from pullback.report.style import FAINT, INK, PALETTE, with_unit

_COLUMNS = 4


def drawings(
    key: str, budgets: Mapping[str, Budget], units: Mapping[str, str], titles: Mapping[str, str]
) -> list[Drawing]:
    """For each family the relative uncertainties by feature.

    Args:
        key: unique beginning of the figures' names in the page.
        budgets: by family.
        units: of each feature.
        titles: of each family.
    """
    return [
        _relative(f"{key}{place}", found, units, titles.get(family, family))
        for place, (family, found) in enumerate(budgets.items())
    ]


def _relative(key: str, found: Budget, units: Mapping[str, str], title: str) -> Drawing:
    names = list(found.edges)
    columns = min(len(names), _COLUMNS)
    lines = math.ceil(len(names) / columns)
    gap, tall = 0.55, 2.35
    wide = min(3.2, (WIDTH - 0.2 - gap * columns) / columns)
    sources = [name for name in found.covariance if name != "total"]
    colours = dict(zip(sources, (PALETTE * len(sources))[: len(sources)], strict=True)) | {"total": INK}
    with style():
        figure = new_figure(columns * (wide + gap) + 0.2, tall * lines + 0.35)
        legend(figure, [entry(name, colours[name], 2.2 if name == "total" else 1.4) for name in found.covariance], 0.05)
        for place, feature in enumerate(names):
            row, column = divmod(place, columns)
            axes = axes_at(figure, 0.62 + column * (wide + gap), tall * (lines - 1 - row) + 0.5, wide, tall - 0.75)
            _panel(axes, found, feature, colours)
            axes.set_xlabel(with_unit(_WORDS.get(feature, feature), units.get(feature, "1")))
            if column == 0:
                axes.set_ylabel("relative uncertainty")
        caption = f"{title}: relative standard deviation of the unfolded bin contents by source of uncertainty."
        if found.truth is not None:
            whole = found.covariance["total"] + np.diag(found.truth[1])
            values = {name: chi2(found, name, whole) for name in names}
            said = ", ".join(f"{name} {value:.2g}" for name, value in values.items() if value is not None)
            caption += f" χ² per degree of freedom beside the truth, with the total and its own covariance: {said}."
        alt = f"Relative uncertainties of {', '.join(names)} for {title}: {', '.join(found.covariance)}"
        return finish(figure, key, alt, caption)


def _panel(axes: Any, found: Budget, feature: str, colours: Mapping[str, str]) -> None:
    bins, edges = found.of(feature), found.edges[feature]
    content = found.content[bins]
    highest = 0.0
    for name, covariance in found.covariance.items():
        spread = np.sqrt(np.maximum(np.diag(covariance)[bins], 0.0))
        relative = np.where(content > 0, spread / np.where(content > 0, content, 1.0), np.nan)
        axes.stairs(
            relative, edges, baseline=None, color=colours[name], linewidth=2.0 if name == "total" else 1.2, fill=False
        )
        highest = max(highest, float(np.nanmax(relative, initial=0.0)))
    axes.set_ylim(0, 1.15 * highest if highest > 0 else 1)
    if edges[0] > 0 and edges[-1] / edges[0] > 20:
        axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.grid(axis="y", color=FAINT)
