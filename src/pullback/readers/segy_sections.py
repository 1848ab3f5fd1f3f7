"""Velocity models as sections in depth in SEG-Y or Seismic Unix files."""

import logging
from pathlib import Path

import numpy as np

from pullback.readers.section import Section
from pullback.readers.segy_headers import Traces, along_line, interval, load, refuse_contradictions, refuse_not_finite
from pullback.readers.segy_layout import MILLIMETRE, SegyError

log = logging.getLogger("pullback")

IN_METRES = 1000.0
"""Rev 2 has the sample interval of depths in metres; from this on it is millimetres, as before it."""
PLAUSIBLE = (1e-3, 1e6)
"""m: nodes of a section are this far apart."""
LEAST = 0.1
"""m: samples that are closer are in time, or in another unit."""
REGULAR = 0.01
"""Traces may lie this far from where a constant distance puts them, as a fraction of it."""


def read_model(path: Path | str, spacing: tuple[float, float] | None = None, inline: int | None = None) -> Section:
    """A section in depth: one trace for each offset, samples along depth, values as they are in the file.

    Traces are sorted by their coordinates, where there are some.

    Args:
        path: the file.
        spacing: m between nodes (depth, offset), of a file that does not say it.
        inline: of a cube, the number of the line to read (bytes 189-192).

    Raises:
        SegyError: it is damaged, holds NaN, is a cube, or its headers contain no valid distances or contradict
            ``spacing``.
    """
    traces = load(path)
    refuse_contradictions(traces, velocities=True)
    refuse_not_finite(traces)
    if traces.layout.feet:
        raise SegyError(f"{path}: its lengths are in feet (bytes 3255-3256 hold 2), wanted metres: convert them")
    if traces.dead.any():
        raise SegyError(
            f"{path}: trace {traces.number[traces.dead][0]} is dead or a dummy (bytes 29-30), wanted a section without "
            "gaps: fill it"
        )
    traces = _one_line(traces, inline)
    if min(traces.values.shape) < 2:
        raise SegyError(
            f"{path}: {len(traces)} traces of {traces.values.shape[1]} samples, wanted a section: 2 or more"
        )
    depth, top = _depths(traces, spacing and spacing[0])
    offset, step = _offsets(traces, spacing and spacing[1])
    values = traces.values[np.argsort(offset, kind="stable")]
    return Section(np.ascontiguousarray(values.T), (depth, step), (top, float(offset.min())))


def _one_line(traces: Traces, inline: int | None) -> Traces:
    """The traces of one line of a cube, of a section all traces."""
    if not traces.has("Inline"):
        if inline is not None:
            raise SegyError(f"{traces.path}: Seismic Unix has no numbers of inlines: leave tiles.inline out")
        return traces
    lines = traces.headers["Inline"].astype(int)
    numbers, of = np.unique(lines), np.unique(traces.headers["Crossline"])
    if inline is not None:
        if inline not in numbers:
            raise SegyError(
                f"{traces.path}: no inline {inline} (bytes 189-192), found {numbers[0]} to {numbers[-1]}: correct "
                "tiles.inline"
            )
        return traces.select(lines == inline)
    # A line through a grid has no more traces than rows and columns.
    if min(len(numbers), len(of)) > 1 and len(traces) > len(numbers) + len(of):
        raise SegyError(
            f"{traces.path}: a cube of {len(numbers)} inlines ({numbers[0]} to {numbers[-1]}, bytes 189-192) x "
            f"{len(of)} crosslines ({of[0]} to {of[-1]}, 193-196), wanted one section: cut a line out, or name it in "
            "tiles.inline where tiles are cut from it"
        )
    return traces


def _depths(traces: Traces, spacing: float | None) -> tuple[float, float]:
    """m between samples, and the depth of the first."""
    path, own = traces.path, _distance(traces, "d1") > 0
    first = np.unique(traces.headers["f1"] if own else traces.delays())
    if not np.isfinite(first).all() or len(first) > 1:
        raise SegyError(
            f"{path}: traces begin at {first[0]:g} to {first[-1]:g} m (bytes {'185-188' if own else '109-110'}), "
            "wanted one depth: fill them up"
        )
    if own and _distance(traces, "d1") < LEAST:
        raise SegyError(
            f"{path}: samples lie {_distance(traces, 'd1'):.3g} m apart (bytes 181-184), wanted a section in depth: is "
            "it one in time, or in km?"
        )
    if own:
        depth, place = _distance(traces, "d1"), "bytes 181-184"
        if spacing is not None and abs(spacing - depth) > REGULAR * depth:
            raise SegyError(
                f"{path}: samples lie {depth:g} m apart ({place}), and tiles.spacing is {spacing:g}: {_ONE}"
            )
        return depth, float(first[0])
    if spacing is not None and not (traces.layout.interval or traces.headers["SampleInterval"].any()):
        return spacing, float(first[0])
    depth = interval(traces)
    if spacing is None and depth * MILLIMETRE < LEAST and traces.layout.revision < (2, 0):
        raise SegyError(
            f"{path}: samples lie {depth:g} mm apart by the headers (bytes 3217-3218), wanted a section in depth: give "
            "tiles.spacing where tiles are cut from it, or write millimetres"
        )
    depth *= 1.0 if traces.layout.revision >= (2, 0) and depth < IN_METRES else MILLIMETRE
    if spacing is None or abs(spacing - depth) <= REGULAR * depth:
        return depth, float(first[0])
    # No revision before 2 has a unit for depths.
    log.warning(
        "%s: samples lie %g m apart by the headers, as is common in mm (bytes 3217-3218), and %g by tiles.spacing, "
        "which is taken",
        path,
        depth,
        spacing,
    )
    return spacing, float(first[0])


def _distance(traces: Traces, name: str) -> float:
    """m between samples or traces in Seismic Unix; 0 where it is none, as where bytes of SEG-Y are left there."""
    value = float(traces.headers[name][0]) if traces.has(name) else 0.0
    return value if PLAUSIBLE[0] < value < PLAUSIBLE[1] else 0.0


_ONE = "correct the one that is wrong, or leave tiles.spacing out"


def _offsets(traces: Traces, spacing: float | None) -> tuple[np.ndarray, float]:
    """Offsets of traces (trace,) and the distance between neighbours, m."""
    path = traces.path
    name = next((n for n in ("CDP_", "Group", "Source") if np.ptp(traces.places(n), axis=0).any()), None)
    if name is None and (step := _distance(traces, "d2")) > 0:
        first = float(traces.headers["f2"][0])
        offset, what = (first if abs(first) < PLAUSIBLE[1] else 0.0) + step * np.arange(len(traces)), "bytes 189-192"
    elif name is None:
        if spacing is not None:
            return spacing * np.arange(len(traces)), spacing
        where = (
            "GroupX and SourceX (bytes 81, 73)"
            if traces.layout.is_su
            else "CDP_X, GroupX and SourceX (bytes 181, 81, 73)"
        )
        raise SegyError(
            f"{path}: {where} are {traces.lengths('GroupX')[0]:g} m in every trace: write offsets there, or give "
            "tiles.spacing where tiles are cut from it"
        )
    else:
        what = f"{name}X"
        offset, aside = along_line(traces.places(name))
        if aside > REGULAR * np.ptp(offset) / (len(offset) - 1):
            raise SegyError(
                f"{path}: traces lie up to {aside:.3g} m beside a straight line by {what} and the Y that follows it: "
                "cut one straight line out, of a cube by tiles.inline"
            )
    steps = np.diff(np.sort(offset))
    step = float(steps.mean())
    if not np.isfinite(step) or np.abs(steps - step).max() > REGULAR * step:
        raise SegyError(
            f"{path}: traces lie {steps.min():g} to {steps.max():g} m apart by {what}, wanted one distance: "
            "interpolate the section to regular offsets"
        )
    if spacing is not None and abs(spacing - step) > REGULAR * step:
        raise SegyError(f"{path}: traces lie {step:g} m apart by {what}, and tiles.spacing is {spacing:g}: {_ONE}")
    return offset, step
