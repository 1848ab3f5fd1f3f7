"""SEG-Y files read: shot gathers of an acquisition, and velocity models as sections in depth (by segyio).

Bytes are counted as in the standard (SEG-Y rev 1): 3201 is the first of the binary header, 1 the first of a trace's.
Offsets are SourceX (73-76), GroupX (81-84) and CDP_X (181-184), of a section that does not run along X also the Y that
follows each, with the coordinate scalar (71-72: negative divides, positive multiplies, 0 is 1); depths are SourceDepth
(49-52) below SourceSurfaceElevation (45-48) and minus ReceiverGroupElevation (41-44) with the scalar of 69-70. The
first sample is at DelayRecordingTime (109-110) with the scalar of 215-216: milliseconds, of a section in depth metres.
The sample interval (3217-3218) is in microseconds, of a section in depth in millimetres, as is common. An integer
number of microseconds is rarely exact: files of `pullback.report.segy` also hold the interval as the double of rev 2
(3273-3280), which is read where the two agree.
"""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Option

from pullback.readers import segy_headers as headers
from pullback.readers.base import OutsideFile
from pullback.readers.gathers import GathersAndModels, Opened, compare_coordinate, compare_shape, rows
from pullback.readers.section import Section
from pullback.readers.segy_headers import SegyError
from pullback.simulators.acquisition import Acquisition
from pullback.study.kinds import Package

log = logging.getLogger("pullback")

MILLIMETRE = 1e-3
FEET_IN_METRE = 3.28084
REGULAR = 0.01
"""Traces may lie this far from where a constant distance puts them, as a fraction of it."""


class SegyFiles(GathersAndModels):
    """SEG-Y files: the shot gathers of one event in each, and sections in depth as models."""

    requires: ClassVar[tuple[Package, ...]] = (Package("segyio", "segyio", "segy", "SEG-Y files"),)

    kind: Literal["segy"] = Option(description="the gathers of one event in each file")

    def files_per_shard(self, events: int) -> int:
        """A file is one event."""
        return events

    def opened(self, stack: ExitStack, problem: Any, file: OutsideFile) -> Opened:
        """Read the gathers of the event, and compare its section with the nodes of x."""
        y = read_gathers(file.path, problem.acquisition)[None]
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


def read_model(path: Path | str, spacing: tuple[float, float] | None = None) -> Section:
    """A section in depth: one trace for each offset, samples along depth, values as they are in the file.

    Args:
        path: the file.
        spacing: m between nodes (depth, offset), in place of what the headers say.

    Raises:
        SegyError: it is damaged, holds NaN, or its headers contain no valid distances.
        pullback.core.optional.MissingExtraError: segyio is not installed.
    """
    lines = (("CDP_X", "CDP_Y"), ("GroupX", "GroupY"), ("SourceX", "SourceY"))
    with headers.opened(path) as file:
        values = headers.samples(path, file)
        if spacing is not None:
            return Section(values.T, spacing)
        if min(values.shape) < 2:
            raise SegyError(f"{path}: {len(values)} traces of {values.shape[1]} samples, wanted a section: 2 or more")
        places = {x: np.stack([headers.lengths(file, x), headers.lengths(file, y)], axis=1) for x, y in lines}
        depth, first = headers.interval(path, file) * MILLIMETRE, np.unique(headers.delays(file))
    if len(first) > 1:
        raise SegyError(
            f"{path}: traces begin at {first[0]:g} to {first[-1]:g} m (bytes 109-110), wanted one depth: fill them up"
        )
    name, along = next(((n, v) for n, v in places.items() if np.ptp(v, axis=0).any()), ("CDP_X", places["CDP_X"]))
    offset = _offsets(path, name, along)
    order = np.argsort(offset, kind="stable")
    steps = np.diff(offset[order])
    mean = float(steps.mean())
    if mean == 0:
        raise SegyError(
            f"{path}: CDP_X, GroupX and SourceX (bytes 181, 81, 73) are {offset[0]:g} m in every trace: write offsets "
            "there, or give tiles.spacing where tiles are cut from it"
        )
    if np.abs(steps - mean).max() > REGULAR * mean:
        raise SegyError(
            f"{path}: traces lie {steps.min():g} to {steps.max():g} m apart by {name}, wanted one distance: "
            "interpolate the section to regular offsets"
        )
    return Section(np.ascontiguousarray(values[order].T), (depth, mean), (float(first[0]), float(offset[order[0]])))


def _offsets(path: Path | str, name: str, places: np.ndarray) -> np.ndarray:
    """Offsets (trace,) along the straight line that traces at X and Y (trace, 2) lie on, m; X where Y is the same."""
    if not np.ptp(places[:, 1]):
        return places[:, 0]
    from_middle = places - places.mean(axis=0)
    direction = np.linalg.svd(from_middle, full_matrices=False)[2][0]
    # Eastward, or northward.
    direction = direction if tuple(direction.round(9)) > (0.0, 0.0) else -direction
    along = from_middle @ direction
    aside = np.linalg.norm(from_middle - along[:, None] * direction, axis=1)
    if aside.max() > REGULAR * np.ptp(along) / (len(along) - 1):
        raise SegyError(
            f"{path}: traces lie up to {aside.max():.3g} m beside a straight line by {name} and the Y that follows it: "
            "project them onto one, or give tiles.spacing where tiles are cut from it"
        )
    return along + places.mean(axis=0) @ direction


def read_gathers(path: Path | str, acquisition: Acquisition) -> np.ndarray:
    """Shot gathers (source, time, receiver), float32, in the order of the acquisition's sources and receivers.

    The time of the first sample is DelayRecordingTime. A file that begins earlier than the
    acquisition, at time 0 for one, has the samples before it left out; one with as many samples as the acquisition and
    a delay of 0 is taken sample by sample, with a warning.

    Raises:
        SegyError: it is damaged, holds NaN, or does not match the acquisition; the message has the first difference.
        pullback.core.optional.MissingExtraError: segyio is not installed.
    """
    with headers.opened(path) as file:
        values = headers.samples(path, file)
        first = _first_sample(path, file, values.shape[1], acquisition)
        source, group = (np.round(headers.lengths(file, name), 3) for name in ("SourceX", "GroupX"))
        below = {
            "source": headers.lengths(file, "SourceDepth") - headers.lengths(file, "SourceSurfaceElevation"),
            "receiver": -headers.lengths(file, "ReceiverGroupElevation"),
        }
        # The header's unit rounds positions; a millimetre is what files written here are good for.
        tolerance, depth_tolerance = (
            max(MILLIMETRE, min(float(headers.scalar(file, name).max()) / 2, 0.05 * acquisition.spacing))
            for name in ("SourceGroupScalar", "ElevationScalar")
        )
    wanted = {
        name: np.array([offset for _, offset in places])
        for name, places in (("source", acquisition.sources), ("receiver", acquisition.receivers))
    }
    if not source.any() and not group.any() and (wanted["source"].any() or wanted["receiver"].any()):
        raise SegyError(
            f"{path}: SourceX and GroupX (bytes 73 and 81) are zero in every trace: write the offsets of sources and "
            "receivers there, in m with the scalar of bytes 71-72"
        )
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
        _compare(path, f"{name} offsets", found[name], np.sort(wanted[name]), tolerance)
        if below[name].any():
            depths = np.array([d for d, _ in getattr(acquisition, f"{name}s")])
            _compare(path, f"{name} depths", below[name], np.full(len(source), depths[0]), depth_tolerance)
    cut = values[order, first : first + acquisition.samples].reshape(*shape, acquisition.samples)
    place = [np.argsort(np.argsort(wanted[name], kind="stable"), kind="stable") for name in ("source", "receiver")]
    return np.ascontiguousarray(cut[place[0]][:, place[1]].transpose(0, 2, 1))


def _first_sample(path: Path | str, file: Any, samples: int, a: Acquisition) -> int:
    """The sample at the time of the acquisition's first."""
    interval = headers.interval(path, file)
    if abs(interval - 1e6 * a.output_interval) > 0.5 + 1e-9 * interval:
        raise SegyError(
            f"{path}: a sample every {interval:g} microseconds, wanted {1e6 * a.output_interval:g}: resample it, or "
            "set output_interval of the simulator"
        )
    delays = np.unique(headers.delays(file))
    delay = float(delays[0]) * 1e-3
    early = max(0, round((a.output_interval - delay) / a.output_interval))
    if len(delays) > 1 or abs(delay + (early - 1) * a.output_interval) > 0.5e-3 + 1e-9:
        raise SegyError(
            f"{path}: samples begin at {delay:g} to {delays[-1] * 1e-3:g} s (DelayRecordingTime, bytes 109-110), "
            f"wanted {a.output_interval:g} s or whole intervals earlier, in all traces: correct it"
        )
    if delay == 0 and samples == a.samples:
        log.warning("%s: no delay in its headers: its first sample is taken as that at %g s", path, a.output_interval)
        return 0
    if samples - early != a.samples:
        raise SegyError(
            f"{path}: {samples - early} samples from {a.output_interval:g} s on, wanted {a.samples}: cut it, or set "
            "record_length of the simulator"
        )
    return early


def _compare(path: Path | str, what: str, found: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    """Refuse positions (..., place) that are not the wanted ones (place,), in m."""
    wanted = np.broadcast_to(wanted, found.shape)
    away = np.abs(found - wanted)
    if away.max() <= tolerance:
        return
    remedy = "correct the headers, or the positions in the simulator's settings"
    factor = float((found * wanted).sum() / max((wanted**2).sum(), 1e-300))
    power = 10.0 ** round(np.log10(factor)) if factor > 0 else 1.0
    if np.allclose(found, FEET_IN_METRE * wanted, rtol=1e-4, atol=tolerance):
        remedy = "these look like feet: convert them to metres"
    elif power != 1 and np.allclose(found, power * wanted, rtol=1e-6, atol=tolerance):
        remedy = f"all are {power:g} times too large: the scalar (bytes 69-70, 71-72) was forgotten or is another"
    elif np.ptp(found - wanted) <= 2 * tolerance:
        remedy = f"all lie {(found - wanted).flat[0]:+g} m off: shift them"
    worst = np.unravel_index(away.argmax(), away.shape)
    raise SegyError(
        f"{path}: {what} from {found.min():g} to {found.max():g} m, wanted {wanted.min():g} to {wanted.max():g} m "
        f"(number {worst[-1]} is {found[worst]:g}, wanted {wanted[worst]:g}); {remedy}"
    )
