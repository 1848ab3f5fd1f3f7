"""SEG-Y files written: shot gathers and velocity models, as `pullback.readers.segy` reads them."""

import struct
from pathlib import Path

import numpy as np

from pullback.core.atomic import atomic
from pullback.readers.section import Section
from pullback.readers.segy_headers import FIELDS, SEGY_FIELDS, header_type
from pullback.readers.segy_layout import FILE_HEADER, IEEE, MILLIMETRE, TEXT_HEADER, TRACE_HEADER, SegyError
from pullback.simulators.acquisition import Acquisition

BINARY = {
    "Traces": 3213,
    "Interval": 3217,
    "Samples": 3221,
    "Format": 3225,
    "SortingCode": 3229,
    "MeasurementSystem": 3255,
    "Revision": 3501,
    "FixedLength": 3503,
}
"""Fields of the binary header, int16: first byte, counted from 1."""
EXACT_INTERVAL = 3273
"""Where the file holds the interval as a double, as rev 2 does."""
WRITTEN = {
    "TraceInLine": (1, "i4"),
    "TraceInFile": (5, "i4"),
    "FieldRecord": (9, "i4"),
    "TraceNumber": (13, "i4"),
    "EnergySourcePoint": (17, "i4"),
    "CDP": (21, "i4"),
    "Offset": (37, "i4"),
}
"""Fields of a trace's header that are written and never read."""
LARGEST_INTERVAL = LARGEST_COUNT = 32_767
"""Many programs read them as a signed number of 16 bits."""


def write_model(path: Path | str, section: Section, title: str = "") -> None:
    """Write a section in depth atomically, one trace for each offset.

    Raises:
        SegyError: nodes are so far apart in depth that the header cannot say it.
        pullback.core.atomic.StoreError: the folder cannot be written.
    """
    depth, offset = section.spacing
    places = np.arange(section.velocity.shape[1]) * offset
    trace = {
        "CDP": 1 + np.arange(len(places)),
        "CDP_X": _millimetres(places),
        "SourceX": _millimetres(places),
        "GroupX": _millimetres(places),
    }
    lines = ["SECTION IN DEPTH, METRES PER SECOND", f"TRACES EVERY {offset:.9g} M, SAMPLES EVERY {depth:.9g} M"]
    lines.append("THE SAMPLE INTERVAL IS IN MILLIMETRES")
    _write(path, section.velocity.T, depth / MILLIMETRE, [*lines, title], trace, {"SortingCode": 4})


def write_gathers(path: Path | str, gathers: np.ndarray, acquisition: Acquisition, title: str = "") -> None:
    """Write shot gathers (source, time, receiver) of an acquisition atomically.

    Raises:
        SegyError: they have another shape, or samples are so far apart that the header cannot say it.
        pullback.core.atomic.StoreError: the folder cannot be written.
    """
    a = acquisition
    if gathers.shape != a.data_shape:
        raise SegyError(f"{path}: gathers of shape {gathers.shape}, the acquisition records {a.data_shape}")
    receivers = len(a.receivers)
    sources = np.repeat(np.array(a.sources), receivers, axis=0)
    groups = np.tile(np.array(a.receivers), (len(a.sources), 1))
    shot = 1 + np.repeat(np.arange(len(a.sources)), receivers)
    trace = {
        "FieldRecord": shot,
        "EnergySourcePoint": shot,
        "TraceNumber": np.tile(1 + np.arange(receivers), len(a.sources)),
        "Offset": np.rint(groups[:, 1] - sources[:, 1]).astype(int),
        "SourceX": _millimetres(sources[:, 1]),
        "GroupX": _millimetres(groups[:, 1]),
        "CDP_X": _millimetres((sources[:, 1] + groups[:, 1]) / 2),
        "SourceDepth": _millimetres(sources[:, 0]),
        "ReceiverGroupElevation": -_millimetres(groups[:, 0]),
        "DelayRecordingTime": np.full(len(shot), round(1e3 * a.output_interval)),
    }
    lines = [
        f"SHOT GATHERS: {len(a.sources)} SHOTS OF {receivers} RECEIVERS",
        f"{a.samples} SAMPLES EVERY {a.output_interval:.9g} S, THE FIRST AT {a.output_interval:.9g} S",
        "PRESSURE RELATIVE TO THE SOURCE",
    ]
    values = gathers.transpose(0, 2, 1).reshape(-1, a.samples)
    _write(path, values, 1e6 * a.output_interval, [*lines, title], trace, {"SortingCode": 5, "Traces": receivers})


def _millimetres(lengths: np.ndarray) -> np.ndarray:
    return np.rint(lengths / MILLIMETRE).astype(np.int64)


def _write(
    path: Path | str,
    values: np.ndarray,
    interval: float,
    lines: list[str],
    trace: dict[str, np.ndarray],
    binary: dict[str, int],
) -> None:
    """Traces (trace, sample) with fields of their headers (trace,), and the interval in its unit."""
    whole = round(interval)
    if not 1 <= whole <= LARGEST_INTERVAL:
        raise SegyError(
            f"{path}: a sample interval of {interval:g} does not fit the header, wanted 1 to {LARGEST_INTERVAL} "
            "(microseconds, millimetres): write netCDF"
        )
    count, samples = values.shape
    if samples > LARGEST_COUNT:
        raise SegyError(f"{path}: {samples} samples of a trace, wanted {LARGEST_COUNT} at most: write netCDF")
    said = ["WRITTEN BY PULLBACK, SEG-Y REV 1", *lines, "COORDINATES IN METRES / 1000, SCALAR -1000"]
    text = dict(enumerate((line for line in said if line), start=1)) | {39: "SEG Y REV1", 40: "END TEXTUAL HEADER"}
    # 40 lines of 80 characters in EBCDIC, as the standard has them.
    card = "".join(f"C{n:2d} {text.get(n, '').encode('ascii', 'replace').decode()[:76]:<76}" for n in range(1, 41))
    fields = {
        "Interval": whole,
        "Samples": samples,
        "Format": IEEE,
        "MeasurementSystem": 1,
        "Revision": 0x0100,
        "FixedLength": 1,
        **binary,
    }
    head = bytearray(FILE_HEADER - TEXT_HEADER)
    for name, value in fields.items():
        struct.pack_into(">h", head, BINARY[name] - TEXT_HEADER - 1, value)
    struct.pack_into(">d", head, EXACT_INTERVAL - TEXT_HEADER - 1, interval)
    headers = np.zeros(count, header_type(FIELDS | SEGY_FIELDS | WRITTEN, ">", TRACE_HEADER))
    number = 1 + np.arange(count)
    same = {
        "SourceGroupScalar": -1000,
        "ElevationScalar": -1000,
        "CoordinateUnits": 1,
        "TraceIdentificationCode": 1,
        "SampleCount": samples,
        "SampleInterval": whole,
    }
    for name, column in {**same, "TraceInLine": number, "TraceInFile": number, **trace}.items():
        headers[name] = column
    traces = np.empty(count, [("header", f"V{TRACE_HEADER}"), ("samples", ">f4", (samples,))])
    traces["header"], traces["samples"] = headers.view(f"V{TRACE_HEADER}"), values
    with atomic(path) as temporary, temporary.open("wb") as stream:
        stream.write(card.encode("cp500") + head)
        traces.tofile(stream)
