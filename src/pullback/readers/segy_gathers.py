"""Shot gathers in SEG-Y or Seismic Unix files, compared with an acquisition."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from pullback.readers.segy_headers import (
    FOOT,
    Traces,
    along_line,
    interval,
    load,
    refuse_contradictions,
    refuse_not_finite,
)
from pullback.readers.segy_layout import MILLIMETRE, SegyError
from pullback.simulators.acquisition import Acquisition

log = logging.getLogger("pullback")


Projection = Literal["x", "line"]


def read_gathers(
    path: Path | str | Sequence[Path | str],
    acquisition: Acquisition,
    project: Projection | None = None,
    finite: bool = True,
) -> np.ndarray:
    """Shot gathers (source, time, receiver), float32, in the order of the acquisition's sources and receivers.

    The time of the first sample is DelayRecordingTime. A file that begins earlier than the
    acquisition, at time 0 for one, has the samples before it left out; one with as many samples as the acquisition and
    a delay of 0 is taken sample by sample, with a warning. Dead traces and dummies are 0.

    Args:
        path: the file, or the files, of shots for one, that hold the event together.
        acquisition: what its gathers must be of.
        project: of sources and receivers that do not lie on one straight line: ``x`` leaves out their Y, ``line``
            takes the closest straight line.
        finite: whether samples that are not are refused.

    Raises:
        SegyError: it is damaged, holds NaN, or does not match the acquisition; the message has the first difference.
    """
    each = [load(one) for one in ([path] if isinstance(path, Path | str) else path)]
    for one in each:
        refuse_contradictions(one)
        if finite:
            refuse_not_finite(one)
    traces = _joined(each)
    path = traces.path
    if traces.dead.any():
        log.warning(
            "%s: %d of %d traces are dead or dummies (2 and 3 in bytes 29-30): zero, as missing ones",
            path,
            np.count_nonzero(traces.dead),
            len(traces),
        )
    first = _first_sample(traces, acquisition)
    # The header's unit rounds positions; a millimetre is what files written here are good for.
    tolerance, depth_tolerance = (
        max(MILLIMETRE, min(float(traces.scalar(name).max()) / 2, 0.05 * acquisition.spacing))
        for name in ("SourceGroupScalar", "ElevationScalar")
    )
    wanted = {
        name: np.array([offset for _, offset in places])
        for name, places in (("source", acquisition.sources), ("receiver", acquisition.receivers))
    }
    has_places = any(traces.headers[name].any() for name in ("SourceX", "SourceY", "GroupX", "GroupY"))
    if not has_places and any(offsets.any() for offsets in wanted.values()):
        raise SegyError(
            f"{path}: SourceX and GroupX (bytes 73 and 81) are zero in every trace: write the offsets of sources and "
            "receivers there, in m with the scalar of bytes 71-72"
        )
    source, group = (np.round(offsets, 3) for offsets in _offsets(traces, project, tolerance))
    rows, source, group = _with_dead_in_gaps(traces.dead, source, group, wanted, tolerance)
    traces, first = traces.select(rows), first[rows]
    order = np.lexsort((group, source))
    shots, counts = np.unique(source, return_counts=True)
    if len(shots) != len(wanted["source"]):
        raise SegyError(
            f"{path}: {len(shots)} shots, with sources from {source.min():g} to {source.max():g} m; wanted "
            f"{len(wanted['source'])} from {wanted['source'].min():g} to {wanted['source'].max():g} m: give the "
            "gathers of one event, or correct `sources` of the simulator"
        )
    if (counts != len(wanted["receiver"])).any():
        bad = int(np.argmax(counts != len(wanted["receiver"])))
        raise SegyError(
            f"{path}: the shot at {shots[bad]:g} m has {counts[bad]} traces, wanted "
            f"{len(wanted['receiver'])}: repair the file, or correct `receivers` of the simulator"
        )
    shape = len(shots), len(wanted["receiver"])
    found = {"source": source[order].reshape(shape)[:, 0], "receiver": group[order].reshape(shape)}
    for name in ("source", "receiver"):
        _compare(traces, f"{name} offsets", found[name], np.sort(wanted[name]), tolerance)
        below = _depths(traces, name)[~traces.dead]
        if below.any():
            depths = np.array([d for d, _ in getattr(acquisition, f"{name}s")])
            _compare(traces, f"{name} depths", below, np.full(len(below), depths[0]), depth_tolerance)
    shot, receiver = (np.argsort(np.argsort(wanted[name], kind="stable"), kind="stable") for name in wanted)
    rows = order.reshape(shape)[shot][:, receiver]
    gathers = np.empty(acquisition.data_shape, np.float32)
    for gather, row in zip(gathers, rows, strict=True):
        gather[:] = traces.values[row[:, None], first[row, None] + np.arange(acquisition.samples)].T
    return gathers


def _with_dead_in_gaps(
    dead: np.ndarray, source: np.ndarray, group: np.ndarray, wanted: dict[str, np.ndarray], tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of traces, and offsets of source and receiver: dead traces lie where a trace is missing.

    The headers of dead traces and dummies often hold no place, and there may be more of them than traces are missing.
    All stay as they are where live traces lie elsewhere than wanted, or too few are dead.
    """
    as_they_are = np.arange(len(dead)), source, group
    away = [np.abs(of[~dead, None] - wanted[name]) for name, of in (("source", source), ("receiver", group))]
    if not dead.any() or any((each.min(axis=1) > tolerance).any() for each in away):
        return as_they_are
    missing = np.ones([len(offsets) for offsets in wanted.values()], bool)
    missing[away[0].argmin(axis=1), away[1].argmin(axis=1)] = False
    shots, receivers = np.nonzero(missing)
    if len(shots) > dead.sum():
        return as_they_are
    live, spare = np.flatnonzero(~dead), np.flatnonzero(dead)[: len(shots)]
    return (
        np.concatenate([live, spare]),
        np.concatenate([source[live], wanted["source"][shots]]),
        np.concatenate([group[live], wanted["receiver"][receivers]]),
    )


def _joined(each: list[Traces]) -> Traces:
    """The traces of several files, which must be recorded alike."""
    first = each[0]
    if len(each) == 1:
        return first
    for other in each[1:]:
        for what, here, there in (
            ("the format", *("Seismic Unix" if t.layout.is_su else "SEG-Y" for t in (first, other))),
            ("samples of a trace", first.layout.samples, other.layout.samples),
            ("the sample interval", interval(first), interval(other)),
            ("the unit of lengths (bytes 3255-3256)", first.layout.feet, other.layout.feet),
        ):
            if here != there:
                raise SegyError(
                    f"{other.path}: {what}: found {there}, in {first.path} of the same event {here}: give files that "
                    "are recorded alike"
                )
    return Traces(
        path=Path(f"{first.path} and {len(each) - 1} more"),
        layout=first.layout,
        headers=np.concatenate([traces.headers for traces in each]),
        number=np.concatenate([traces.number for traces in each]),
        dead=np.concatenate([traces.dead for traces in each]),
        values=np.concatenate([traces.values for traces in each]),
        words=first.words,
    )


def _depths(traces: Traces, name: str) -> np.ndarray:
    """Depths of sources or receivers (trace,), m."""
    if name == "source":
        return traces.lengths("SourceDepth") - traces.lengths("SourceSurfaceElevation")
    return -traces.lengths("ReceiverGroupElevation")


def _offsets(traces: Traces, project: Projection | None, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of source and receiver of every trace (trace,), m: along the straight line on which all of them lie."""
    source, group = traces.places("Source"), traces.places("Group")
    blank = traces.dead & ~np.hstack([source, group]).any(axis=1)
    for of in (source, group):
        of[blank] = of[~traces.dead][0]
    places = np.concatenate([source, group])
    across = float(np.ptp(places[:, 1]))
    along, aside = along_line(places)
    if aside > tolerance and project is None:
        said = (
            f"{name} at Y from {v[:, 1].min():g} to {v[:, 1].max():g} m"
            for name, v in (("sources", source), ("receivers", group))
        )
        raise SegyError(
            f"{traces.path}: {' and '.join(said)} (bytes 77-80 and 85-88) lie up to {aside:.4g} m beside a straight "
            "line, wanted a line in 2-D: say read.project: x to leave out Y, or read.project: line to take the closest "
            "straight line"
        )
    if project and aside > tolerance:
        beside = across if project == "x" else aside
        log.warning("%s: sources and receivers up to %.4g m beside the line are projected onto it", traces.path, beside)
    if project == "x":
        return source[:, 0], group[:, 0]
    return along[: len(source)], along[len(source) :]


def _first_sample(traces: Traces, a: Acquisition) -> np.ndarray:
    """The sample of each trace (trace,) at the time of the acquisition's first; traces may begin at other times."""
    path, samples, step = traces.path, traces.layout.samples, interval(traces)
    if abs(step - 1e6 * a.output_interval) > 0.5 + 1e-9 * step:
        remedy = "resample it, or set output_interval of the simulator"
        if abs(1e3 * step - 1e6 * a.output_interval) <= 0.5e3:
            remedy = "these look like milliseconds: write microseconds into the headers"
        raise SegyError(f"{path}: a sample every {step:g} microseconds, wanted {1e6 * a.output_interval:g}: {remedy}")
    delays = traces.delays() * 1e-3
    delays = np.where(traces.dead, delays[~traces.dead][0], delays)
    early = np.clip(np.rint((a.output_interval - delays) / a.output_interval), 0, None).astype(int)
    delay, last = float(delays.min()), float(delays.max())
    if np.abs(delays + (early - 1) * a.output_interval).max() > 0.5e-3 + 1e-9:
        found = f"{delay:g} s" if delay == last else f"{delay:g} to {last:g} s"
        raise SegyError(
            f"{path}: samples begin at {found} (DelayRecordingTime, bytes 109-110), wanted {a.output_interval:g} s or "
            "whole intervals earlier, in all traces: cut or fill them up to one time, or correct it"
        )
    if delay == last == 0 and samples == a.samples:
        log.warning("%s: no delay in its headers: its first sample is taken as that at %g s", path, a.output_interval)
        return np.zeros_like(early)
    if samples - early.max() != a.samples:
        raise SegyError(
            f"{path}: {samples - early.max()} samples from {a.output_interval:g} s on, wanted {a.samples}: cut it, or "
            "set record_length of the simulator"
        )
    return early


def _compare(traces: Traces, what: str, found: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    """Refuse positions (..., place) that are not the wanted ones (place,), in m."""
    wanted = np.broadcast_to(wanted, found.shape)
    away = np.abs(found - wanted)
    if away.max() <= tolerance:
        return
    remedy = "correct the headers, or the positions in the simulator's settings"
    factor = float((found * wanted).sum() / max((wanted**2).sum(), 1e-300))
    power = 10.0 ** round(np.log10(factor)) if factor > 0 else 1.0
    if traces.layout.feet and np.allclose(found, FOOT * wanted, rtol=1e-4, atol=tolerance):
        remedy = "by the header lengths are in feet (bytes 3255-3256 hold 2), wanted 1 (metres), as they seem to be"
    elif np.allclose(FOOT * found, wanted, rtol=1e-4, atol=tolerance):
        remedy = "these look like feet: convert them to metres, or write 2 into bytes 3255-3256"
    elif power != 1 and np.allclose(found, power * wanted, rtol=1e-6, atol=tolerance):
        remedy = f"all are {power:g} times too large: the scalar (bytes 69-70, 71-72) was forgotten or is another"
    elif np.ptp(found - wanted) <= 2 * tolerance:
        remedy = f"all lie {(found - wanted).flat[0]:+g} m off: shift them"
    worst = np.unravel_index(away.argmax(), away.shape)
    raise SegyError(
        f"{traces.path}: {what} from {found.min():g} to {found.max():g} m, wanted {wanted.min():g} to "
        f"{wanted.max():g} m (number {worst[-1]} is {found[worst]:g}, wanted {wanted[worst]:g}); {remedy}"
    )
