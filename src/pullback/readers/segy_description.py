"""What a SEG-Y or Seismic Unix file holds, in words and numbers."""

import numpy as np

from pullback.readers.segy_headers import Traces, along_line
from pullback.readers.segy_layout import FORMATS

NUMBER = 1e-30
"""What is smaller is no float, but bytes of SEG-Y that are left there."""
SPECTRA = 1000
"""Traces that the spectrum is a mean of."""


def is_section(traces: Traces) -> bool:
    """Whether samples are velocities, as far as they say: of one sign, whatever float they are."""
    return not traces.dead.all() and bool((traces.values[~traces.dead] > 0).all())


def is_crooked(traces: Traces) -> bool:
    """Whether sources and receivers lie beside a straight line by more than the unit of the headers."""
    places = np.concatenate([traces.places("Source"), traces.places("Group")])
    return along_line(places)[1] > max(1e-3, float(traces.scalar("SourceGroupScalar").max()) / 2)


def described(traces: Traces) -> dict[str, str | float]:
    """What a file holds, in order, by the words of its headers; of gathers and of sections."""
    layout, headers = traces.layout, traces.headers
    look = traces.looks_like(velocities=is_section(traces))
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
    if not traces.dead.all():
        found["first sample"] = f"{_range(traces.delays()[~traces.dead])} (ms of a record, m of a section in depth)"
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
