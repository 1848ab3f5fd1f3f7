"""SEG-Y and Seismic Unix files read: shot gathers of an acquisition, and velocity models as sections in depth.

A name that ends in ``.su`` is Seismic Unix. Bytes are counted as in the standard (SEG-Y rev 1): 3201 is the first of
the binary header, 1 the first of a trace's.
Offsets are SourceX (73-76), GroupX (81-84) and CDP_X (181-184), of a line that does not run along X also the Y that
follows each, with the coordinate scalar (71-72: negative divides, positive multiplies, 0 is 1); depths are SourceDepth
(49-52) below SourceSurfaceElevation (45-48) and minus ReceiverGroupElevation (41-44) with the scalar of 69-70. The
first sample is at DelayRecordingTime (109-110) with the scalar of 215-216: milliseconds, of a section in depth metres.
The sample interval (3217-3218) is in microseconds, of a section in depth in millimetres, as is common. An integer
number of microseconds is rarely exact: files of `pullback.report.segy` also hold the interval as the double of rev 2
(3273-3280), which is read where the two agree.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Option

from pullback.readers.base import OutsideFile
from pullback.readers.gathers import GathersAndModels, Opened, compare_coordinate, compare_shape, rows
from pullback.readers.segy_gathers import read_gathers
from pullback.readers.segy_headers import Traces, load
from pullback.readers.segy_layout import FORMATS
from pullback.readers.segy_sections import read_model

__all__ = ["SegyFiles", "describe", "read_gathers", "read_model"]


class SegyFiles(GathersAndModels):
    """SEG-Y or Seismic Unix: the shot gathers of an event in a file, or in several, and sections in depth as models."""

    joins_files: ClassVar[bool] = True

    kind: Literal["segy"] = Option(
        description="SEG-Y, or Seismic Unix (.su): the gathers of one event in each file, or list of files"
    )
    project: Literal["x", "line"] | None = Option(
        default=None,
        description="of sources and receivers that do not lie on a straight line: x leaves out their Y, line projects "
        "them onto the closest straight line; how far is in the log. Refused when not given",
    )

    def files_per_shard(self, events: int) -> int:
        """An entry is one event."""
        return events

    def opened(self, stack: ExitStack, problem: Any, file: OutsideFile) -> Opened:
        """Read the gathers of the event, and compare its section with the nodes of x."""
        paths = (file.path, *file.others)
        y = read_gathers(paths, problem.acquisition, self.project, finite=self.invalid == "refuse")[None]
        if not file.model:
            return 1, rows(y), None
        section = read_model(file.model)
        compare_shape(file.model, "a section", section.velocity.shape, problem.x)
        of = f"{file.model}: the section's"
        for name, length, step, first in zip(
            problem.x.dims, section.velocity.shape, section.spacing, section.origin, strict=True
        ):
            compare_coordinate(of, problem.x, name, first + np.arange(length) * step, "interpolate, cut or shift it")
        return 1, rows(y), rows(section.velocity[None])


def describe(path: Path | str) -> dict[str, str | float]:
    """What a file holds, in order, by the words of its headers; of gathers and of sections.

    Raises:
        pullback.readers.segy_layout.SegyError: its headers make no sense, or it is longer or shorter than they say.
    """
    traces = load(path)
    layout, headers = traces.layout, traces.headers
    # Of one sign are velocities, whatever float they are.
    look = traces.looks_like(velocities=bool((traces.values > 0).all()))
    found: dict[str, str | float] = {
        "format": "Seismic Unix" if layout.is_su else "SEG-Y",
        "byte order": "big-endian" if layout.order == ">" else "little-endian",
        "revision": "none" if layout.is_su else "{}.{}".format(*layout.revision),
        "sample format": f"{FORMATS[layout.code][1]} ({layout.code})"
        + (f"; the samples look like {look}" if look else ""),
        "traces": len(traces),
        "dead traces": int(np.count_nonzero(traces.dead)),
    }
    shots, counts = np.unique(traces.places("Source"), axis=0, return_counts=True)
    found |= {"shots": len(shots), "receivers per shot": _range(counts), "samples": layout.samples}
    own = headers["SampleInterval"][headers["SampleInterval"] != 0]
    step = layout.interval or (float(own[0]) if len(own) else 0.0)
    found["sample interval"] = f"{step:g} (us of a record, mm of a section in depth)"
    if len(own) and (np.ptp(own.astype(int)) or abs(step - own[0]) > 1):
        found["sample interval of traces"] = _range(own)
    for name in ("d1", "f1", "d2", "f2"):
        if traces.has(name) and (np.abs(headers[name]) > NUMBER).any():
            found[name] = _range(headers[name])
    if len(traces.delays()):
        found["first sample"] = f"{_range(traces.delays())} (ms of a record, m of a section in depth)"
    found |= {
        "coordinate scalar": _range(headers["SourceGroupScalar"]),
        "depth scalar": _range(headers["ElevationScalar"]),
    }
    unit = "m, from feet" if layout.feet else "m"
    for what, name in (("source", "Source"), ("receiver", "Group"), ("midpoint", "CDP_")):
        for axis in "XY":
            values = traces.lengths(name + axis)
            if values.any() or name != "CDP_":
                found[f"{what} {axis} ({unit})"] = _range(values)
    found[f"source depth ({unit})"] = _range(traces.lengths("SourceDepth") - traces.lengths("SourceSurfaceElevation"))
    found[f"receiver depth ({unit})"] = _range(-traces.lengths("ReceiverGroupElevation"))
    if traces.has("Inline") and headers["Inline"].any():
        found |= {"inlines": _range(headers["Inline"]), "crosslines": _range(headers["Crossline"])}
    return found | _amplitudes(traces, step * 1e-6)


def _range(values: np.ndarray) -> str:
    low, high = values.min() + 0, values.max() + 0  # 0, not -0
    return f"{low:.9g}" if low == high else f"{low:.9g} to {high:.9g}"


NUMBER = 1e-30
"""What is smaller is no float, but bytes of SEG-Y that are left there."""
SPECTRA = 1000
"""Traces that the spectrum is a mean of."""


def _amplitudes(traces: Traces, interval: float) -> dict[str, str | float]:
    """Range of the samples and the frequency at which the mean spectrum of a record peaks."""
    live = traces.values[~traces.dead]
    bad = int(np.count_nonzero(~np.isfinite(live)))
    found: dict[str, str | float] = {"samples that are not finite": bad} if bad else {}
    if bad == live.size:
        return found
    found["amplitude"] = _range(live[np.isfinite(live)])
    some = live[:: max(1, len(live) // SPECTRA)]
    some = some[np.isfinite(some).all(axis=1)].astype(np.float64)
    if interval > 0 and traces.layout.samples > 2 and len(some):
        power = (np.abs(np.fft.rfft(some - some.mean(axis=1, keepdims=True), axis=1)) ** 2).sum(axis=0)
        peak = np.fft.rfftfreq(traces.layout.samples, interval)[power.argmax()]
        found["peak of the spectrum (Hz, of a record)"] = float(f"{peak:.4g}")
    return found
