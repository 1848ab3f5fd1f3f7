"""SEG-Y headers and their validation (by segyio); see `segy` for the byte positions."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pullback.core.optional import require
from pullback.readers.base import ReadError

FILE_HEADER, TRACE_HEADER, TEXT_HEADER = 3600, 240, 3200
FORMATS = {1: 4, 2: 4, 3: 2, 5: 4, 8: 1}
"""Bytes of a sample by format code: IBM float, int32, int16, IEEE float, int8."""
EXACT_INTERVAL = 3272
"""Where the file holds the interval as a double (byte 3273)."""


class SegyError(ReadError):
    """An unusable SEG-Y file; the message says what was found, what was expected and the remedy."""


@contextmanager
def opened(path: Path | str) -> Iterator[Any]:
    """The file as segyio has it, of which every trace is there.

    Raises:
        SegyError: its binary header makes no sense, or it is longer or shorter than that says.
        pullback.core.optional.MissingExtraError: segyio is not installed.
    """
    segyio = require("segyio", "segy")
    _check_layout(Path(path))
    with segyio.open(str(path), ignore_geometry=True) as file:
        yield file


def _check_layout(path: Path) -> None:
    """Whether a file is as long as its header says; segyio says of all that is wrong the same."""
    try:
        with path.open("rb") as stream:
            head = stream.read(FILE_HEADER)
        size = path.stat().st_size
    except OSError as error:
        raise SegyError(f"{path}: cannot be read ({error.strerror}); give the path of a SEG-Y file") from None
    if len(head) < FILE_HEADER:
        raise SegyError(f"{path}: {size} bytes, shorter than the {FILE_HEADER} of SEG-Y's headers; fetch it again")
    (samples,), (code,) = struct.unpack_from(">H", head, 3220), struct.unpack_from(">H", head, 3224)
    (swapped,) = struct.unpack_from("<H", head, 3224)
    if code not in FORMATS and swapped in FORMATS:
        raise SegyError(
            f"{path}: little-endian (the format code reads {code}, the other way {swapped}); wanted big-endian, "
            "SEG-Y's own order: write it again so"
        )
    if code not in FORMATS:
        raise SegyError(
            f"{path}: format code {code} in bytes 3225-3226, wanted {', '.join(map(str, FORMATS))} (5 is IEEE float): "
            "convert it, or give a SEG-Y file"
        )
    extended = struct.unpack_from(">h", head, 3504)[0]
    if samples == 0 or extended < 0:
        raise SegyError(
            f"{path}: {samples} samples in a trace (bytes 3221-3222), {extended} more textual headers (3505-3506): "
            "wanted at least 1 and 0; correct the binary header"
        )
    start, trace = FILE_HEADER + TEXT_HEADER * extended, TRACE_HEADER + FORMATS[code] * samples
    traces, left = divmod(size - start, trace)
    if traces < 1 or left:
        raise SegyError(
            f"{path}: {size} bytes, wanted {start} + traces x {trace} ({TRACE_HEADER} + {FORMATS[code]} x {samples} "
            f"samples): {max(traces, 0)} whole traces and {left if traces >= 0 else 0} bytes more; truncated, fetch it "
            "again, or its traces differ in length"
        )


def field(file: Any, name: str) -> np.ndarray:
    """One field of every trace header, (trace,)."""
    return np.asarray(file.attributes(getattr(require("segyio", "segy").TraceField, name))[:])


def samples(path: Path | str, file: Any) -> np.ndarray:
    """Samples (trace, sample), float32, of a file whose headers make sense."""
    segyio = require("segyio", "segy")
    counts = field(file, "TRACE_SAMPLE_COUNT") % 2**16
    if (different := np.flatnonzero((counts != 0) & (counts != len(file.samples)))).size:
        raise SegyError(
            f"{path}: trace {different[0]} says {counts[different[0]]} samples (bytes 115-116), the file "
            f"{len(file.samples)}: wanted traces of one length"
        )
    if file.bin[segyio.BinField.MeasurementSystem] == 2:
        raise SegyError(f"{path}: its lengths are in feet (bytes 3255-3256 hold 2), wanted metres: convert them")
    if units := set(field(file, "CoordinateUnits").tolist()) - {0, 1}:
        raise SegyError(
            f"{path}: coordinates are angles (bytes 89-90 hold {min(units)}), wanted lengths (1): project them to "
            "metres"
        )
    values = np.asarray(file.trace.raw[:], np.float32)
    if (bad := np.argwhere(~np.isfinite(values))).size:
        raise SegyError(
            f"{path}: {len(bad)} samples are not finite, the first is sample {bad[0][1]} of trace {bad[0][0]}: repair "
            "the file"
        )
    return values


def interval(path: Path | str, file: Any) -> float:
    """The sample interval as the header has it: microseconds, or millimetres."""
    segyio = require("segyio", "segy")
    whole = file.bin[segyio.BinField.Interval] % 2**16 or int(field(file, "TRACE_SAMPLE_INTERVAL")[0]) % 2**16
    if whole == 0:
        raise SegyError(f"{path}: the sample interval (bytes 3217-3218) is 0: write it there")
    with Path(path).open("rb") as stream:
        stream.seek(EXACT_INTERVAL)
        (exact,) = struct.unpack(">d", stream.read(8))
    return exact if abs(exact - whole) <= 0.5 else float(whole)


def scalar(file: Any, name: str) -> np.ndarray:
    """What lengths of each trace are multiplied with, (trace,)."""
    scalar = field(file, name).astype(np.float64)
    return np.where(scalar < 0, -1 / np.where(scalar < 0, scalar, 1), np.where(scalar == 0, 1, scalar))


def lengths(file: Any, name: str) -> np.ndarray:
    """A coordinate of every trace, (trace,), m."""
    heights = ("SourceDepth", "SourceSurfaceElevation", "ReceiverGroupElevation")
    return field(file, name) * scalar(file, "ElevationScalar" if name in heights else "SourceGroupScalar")


def delays(file: Any) -> np.ndarray:
    """Where samples of each trace begin, (trace,), ms; of a section in depth m."""
    return field(file, "DelayRecordingTime") * scalar(file, "ScalarTraceHeader")
