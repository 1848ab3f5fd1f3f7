"""SEG-Y files written: shot gathers and velocity models, as `pullback.readers.segy` reads them (by segyio)."""

import struct
from pathlib import Path

import numpy as np

from pullback.core.atomic import atomic
from pullback.core.optional import require
from pullback.readers.section import Section
from pullback.readers.segy_headers import EXACT_INTERVAL, SegyError
from pullback.simulators.acquisition import Acquisition

IEEE = 5
LARGEST_INTERVAL = 32_767
"""Many programs read the interval as a signed number of 16 bits."""
MILLIMETRE = 1e-3


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
        "offset": np.rint(groups[:, 1] - sources[:, 1]).astype(int),
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
    segyio = require("segyio", "segy")
    whole = round(interval)
    if not 1 <= whole <= LARGEST_INTERVAL:
        raise SegyError(
            f"{path}: a sample interval of {interval:g} does not fit the header, wanted 1 to {LARGEST_INTERVAL} "
            "(microseconds, millimetres): write netCDF"
        )
    fields, bins = segyio.TraceField, segyio.BinField
    spec = segyio.spec()
    spec.samples, spec.tracecount, spec.format = np.arange(values.shape[1]), len(values), IEEE
    same = {
        "SourceGroupScalar": -1000,
        "ElevationScalar": -1000,
        "CoordinateUnits": 1,
        "TraceIdentificationCode": 1,
        "TRACE_SAMPLE_COUNT": values.shape[1],
        "TRACE_SAMPLE_INTERVAL": whole,
    }
    said = ["WRITTEN BY PULLBACK, SEG-Y REV 1", *lines, "COORDINATES IN METRES / 1000, SCALAR -1000"]
    text = dict(enumerate((line.encode("ascii", "replace").decode()[:76] for line in said if line), start=1))
    with atomic(path) as temporary:
        with segyio.create(str(temporary), spec) as file:
            file.text[0] = segyio.tools.create_text_header({**text, 39: "SEG Y REV1", 40: "END TEXTUAL HEADER"})
            file.bin.update(
                {
                    bins.Interval: whole,
                    bins.Samples: values.shape[1],
                    bins.Format: IEEE,
                    bins.MeasurementSystem: 1,
                    bins.SEGYRevision: 1,
                    bins.TraceFlag: 1,
                    **{getattr(bins, name): value for name, value in binary.items()},
                }
            )
            for row in range(len(values)):
                own = {getattr(fields, name): int(column[row]) for name, column in trace.items()}
                number = {fields.TRACE_SEQUENCE_LINE: row + 1, fields.TRACE_SEQUENCE_FILE: row + 1}
                file.header[row] = {**{getattr(fields, n): v for n, v in same.items()}, **number, **own}
            file.trace.raw[:] = np.ascontiguousarray(values, np.float32)
        with temporary.open("r+b") as stream:
            stream.seek(EXACT_INTERVAL)
            stream.write(struct.pack(">d", interval))
