"""Shared parts of the report's figures: style, axes at fixed positions, conversion to inline SVG."""

import html
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.core.optional import require
from pullback.report.style import FAINT, FLOOR, INK, Series

WIDTH = 11.2
"""Inches (at 96 pixels each) of a figure that fills the page."""

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pullback",
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titley": 1.0,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.edgecolor": "#8b949e",
    "axes.linewidth": 0.7,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "image.interpolation": "none",
    "image.composite_image": False,
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure: inline SVG, alternative text, and caption."""

    svg: str
    alt: str
    caption: str


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings of the report, without touching anybody else's."""
    matplotlib = require("matplotlib", extra="evaluate")
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Any:
    """A figure of a size in inches, outside pyplot: nothing stays in memory and no display is needed."""
    require("matplotlib", extra="evaluate")
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure


def axes_at(figure: Any, left: float, bottom: float, width: float, height: float, **more: Any) -> Any:
    """Axes whose frame has a position in inches from the lower left corner."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up), **more)


def tag(artists: Any, *series: Series) -> None:
    """Mark what belongs to one series, or to several together, so that the page can hide it with (all of) them."""
    for artist in artists if isinstance(artists, Iterable) else (artists,):
        if isinstance(artist, Iterable) and not hasattr(artist, "set_gid"):
            tag(artist, *series)
        elif artist is not None:
            indices = "-".join(str(one.index) for one in series)
            artist.set_gid(f"{'series' if len(series) == 1 else 'several'}-{indices}")


def legend_columns(labels: Sequence[str], width: float) -> tuple[int, int]:
    """Most columns of a legend that fit into a width in inches, and how many lines it then has."""
    count = len(labels)
    for lines in range(1, count + 1):
        filled = [labels[i : i + lines] for i in range(0, count, lines)]
        if sum(0.5 + 0.078 * max(map(len, column)) for column in filled) <= width:
            return len(filled), lines
    return 1, max(count, 1)


def legend(figure: Any, handles: Sequence[Any], top: float, left: float = 0.62, columns: int | None = None) -> None:
    """A legend with its upper edge ``top`` inches below the figure's: one line, or filled column by column."""
    across, up = figure.get_size_inches()
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left / across, 1 - top / up),
        ncols=columns or max(len(handles), 1),
        borderaxespad=0,
        columnspacing=1.6,
        handletextpad=0.5,
        handlelength=1.4,
    )


def entry(label: str, colour: str, linewidth: float = 1.6, **style: Any) -> Any:
    """A legend entry."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, linewidth=linewidth, label=label, **style)


def handle(series: Series, marker: bool = True) -> Any:
    """The legend entry of a series."""
    shape = series.marker if marker else ""
    return entry(series.label, series.colour, marker=shape, markersize=5, gid=f"series-{series.index}")


def floor_handle() -> Any:
    """The legend entry of the sampling floor."""
    return entry("sampling floor", FLOOR, 4)


def sheet_of(figure: Any) -> Any:
    """Axes over the whole figure, in inches: images put on it cost a fraction of axes for each."""
    across, up = figure.get_size_inches()
    sheet = axes_at(figure, 0, 0, across, up)
    sheet.set(xlim=(0, across), ylim=(0, up))
    sheet.set_axis_off()
    return sheet


def finish(figure: Any, key: str, alt: str, caption: str) -> Drawing:
    """The figure as SVG for the page.

    Names of SVG elements are prefixed with ``key`` (unique in the page); tags of series become ``data-series``.
    """
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", dpi=130, facecolor="none", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'id="(series|several)-([\d-]+)"', r'data-\1="\2"', svg)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{key}-", svg)
    svg = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*", lambda m: f"font: {m[1]}{FONTS}", svg)
    pixels = figure.get_size_inches()[0] * 96
    head = f'<svg role="img" aria-label="{html.escape(alt)}" style="width:{pixels:.0f}px"'
    svg = re.sub(r'<svg (.*?)width="[\d.]+pt"', rf"{head.replace(chr(92), chr(92) * 2)} \1", svg, count=1, flags=re.S)
    svg = re.sub(r'(<svg [^>]*?)height="[\d.]+pt"', r"\1", svg, count=1, flags=re.S)
    return Drawing(re.sub(r"\n\s*", "\n", svg), alt, caption)


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def log_axis(axes: Any, which: str, low: float, high: float) -> None:
    """Make an axis, x or y, logarithmic from low to high: ticks at powers of ten, or 1, 2, 5 times them if few."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = math.log10(high / low)
    wide = decades > 2.2
    steps = (1.0,) if wide else (1.0, 2.0, 5.0) if decades > 0.9 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
    if wide and len(ticks) > 6:
        ticks = ticks[:: math.ceil(len(ticks) / 6)]

    def words(value: float, _: int) -> str:
        exponent = math.floor(math.log10(value) + 1e-9)
        if -4 < exponent < 4:
            return f"{value:g}"
        digit = round(value / 10.0**exponent)
        return ("" if digit == 1 else f"{digit}·") + "10" + str(exponent).translate(_SUPERSCRIPTS)

    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(words))
    axes.set(**{f"{which}lim": (low, high)})


def limits(arrays: Sequence[np.ndarray], low: float = 0.5, high: float = 99.5) -> tuple[float, float]:
    """Colour limits that hold nearly all finite values of some arrays; never empty."""
    values = np.concatenate([a[np.isfinite(a)].ravel() for a in arrays])
    if not values.size:
        return 0.0, 1.0
    lower, upper = (float(v) for v in np.percentile(values, (low, high)))
    return (lower, upper) if upper > lower else (lower - 0.5, upper + 0.5)
