"""Traces of a SEG-Y or Seismic Unix file: their headers in the field's units, and their samples as float32."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pullback.readers.segy_layout import FORMATS, Layout, Order, SegyError, layout_of
from pullback.readers.segy_samples import decoded, looks_like

log = logging.getLogger("pullback")

FIELDS = {
    "TraceIdentificationCode": (29, "i2"),
    "ReceiverGroupElevation": (41, "i4"),
    "SourceSurfaceElevation": (45, "i4"),
    "SourceDepth": (49, "i4"),
    "ElevationScalar": (69, "i2"),
    "SourceGroupScalar": (71, "i2"),
    "SourceX": (73, "i4"),
    "SourceY": (77, "i4"),
    "GroupX": (81, "i4"),
    "GroupY": (85, "i4"),
    "CoordinateUnits": (89, "i2"),
    "DelayRecordingTime": (109, "i2"),
    "SampleCount": (115, "u2"),
    "SampleInterval": (117, "u2"),
    "WeightingFactor": (169, "i2"),
}
"""First byte, counted from 1, and type; the standard's names."""
SEGY_FIELDS = {
    "CDP_X": (181, "i4"),
    "CDP_Y": (185, "i4"),
    "Inline": (189, "i4"),
    "Crossline": (193, "i4"),
    "TimeScalar": (215, "i2"),
}
SU_FIELDS = {"d1": (181, "f4"), "f1": (185, "f4"), "d2": (189, "f4"), "f2": (193, "f4")}
"""Of Seismic Unix: distance and place of samples (1) and traces (2) that are not a record in time."""
ELEVATIONS = ("ReceiverGroupElevation", "SourceSurfaceElevation", "SourceDepth")

DEAD, DUMMY = 2, 3
AUXILIARY = range(4, 11)
"""Time breaks, sweeps, timing marks, signatures: no records of a receiver."""
FOOT = 0.3048
MOST_WEIGHT = 64
BLOCK = 2**20
"""Bytes read at once."""
SAMPLED = 2**20
"""Words of a file that its format is judged by."""


@dataclass(frozen=True)
class Traces:
    """The traces of a file but auxiliary ones.

    Attributes:
        path: of the file.
        layout: of the file.
        headers: fields of each trace (trace,).
        number: of each trace in the file, from 0 (trace,).
        dead: which are dead or dummies; their samples are 0 (trace,).
        values: samples (trace, sample), float32.
        words: some of the samples as they are stored, if they have 4 bytes.
    """

    path: Path
    layout: Layout
    headers: np.ndarray
    number: np.ndarray
    dead: np.ndarray
    values: np.ndarray
    words: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.headers)

    def select(self, keep: np.ndarray) -> "Traces":
        """Some of the traces."""
        own = (self.headers[keep], self.number[keep], self.dead[keep], self.values[keep])
        return Traces(self.path, self.layout, *own, self.words)

    def has(self, name: str) -> bool:
        """Whether the format has a field."""
        return name in (self.headers.dtype.names or ())

    def scalar(self, name: str) -> np.ndarray:
        """What lengths of each trace are multiplied with (trace,)."""
        value = self.headers[name].astype(np.float64) if self.has(name) else np.zeros(len(self))
        return np.where(value < 0, -1 / np.where(value < 0, value, 1), np.where(value == 0, 1, value))

    def lengths(self, name: str) -> np.ndarray:
        """A coordinate of every trace, m (trace,); 0 where the format does not have it."""
        if not self.has(name):
            return np.zeros(len(self))
        scalar = self.scalar("ElevationScalar" if name in ELEVATIONS else "SourceGroupScalar")
        return self.headers[name] * scalar * (FOOT if self.layout.feet else 1)

    def places(self, name: str) -> np.ndarray:
        """X and Y of every trace, m (trace, 2); ``name`` is Source, Group or CDP_."""
        return np.stack([self.lengths(f"{name}X"), self.lengths(f"{name}Y")], axis=1)

    def delays(self) -> np.ndarray:
        """Where samples of each trace begin, ms; of a section in depth m."""
        delays: np.ndarray = self.headers["DelayRecordingTime"] * self.scalar("TimeScalar")
        return delays

    def looks_like(self, velocities: bool = False) -> str:
        """The format of samples where it is not what the file says (`segy_samples.looks_like`)."""
        return looks_like(self.words, self.layout.code, self.layout.order, velocities)


def load(path: Path | str) -> Traces:
    """All traces of a file; weighting factors of integers are applied, dead traces are 0.

    Raises:
        SegyError: its headers make no sense, or it is longer or shorter than they say.
    """
    path, layout = Path(path), layout_of(path)
    stored = np.dtype(FORMATS[layout.code][0]).newbyteorder(layout.order)
    trace = np.dtype([("header", f"V{layout.header}"), ("samples", stored, (layout.samples,))])
    values = np.empty((layout.traces, layout.samples), np.float32)
    headers = np.empty(layout.traces, f"V{layout.header}")
    at_once = max(1, BLOCK // trace.itemsize)
    # Odd, as traces mostly have an even number of samples: not the same sample of each.
    every = values.size // SAMPLED | 1
    words = []
    with path.open("rb") as stream:
        stream.seek(layout.start)
        for start in range(0, layout.traces, at_once):
            block = np.fromfile(stream, trace, min(at_once, layout.traces - start))
            if len(block) < min(at_once, layout.traces - start):
                raise SegyError(f"{path}: became shorter while it was read: fetch it again")
            headers[start : start + len(block)] = block["header"]
            values[start : start + len(block)] = decoded(block["samples"], layout.code)
            if stored.itemsize == 4:
                words.append(block["samples"].reshape(-1)[::every].view(f"{layout.order}u4").astype(np.uint32))
    fields = FIELDS | (SU_FIELDS if layout.is_su else SEGY_FIELDS)
    found = headers.view(header_type(fields, layout.order, layout.header))
    _weigh(path, layout, found["WeightingFactor"], values)
    code = found["TraceIdentificationCode"]
    dead = np.isin(code, (DEAD, DUMMY))
    values[dead] = 0
    traces = Traces(
        path,
        layout,
        found,
        np.arange(layout.traces),
        dead,
        values,
        np.concatenate(words) if words else np.empty(0, np.uint32),
    )
    auxiliary = np.isin(code, AUXILIARY)
    if not auxiliary.any():
        return traces
    if auxiliary.all():
        raise SegyError(f"{path}: no trace is a record of a receiver (4 to 10 in bytes 29-30 are others): correct it")
    log.info("%s: %d auxiliary traces (codes 4 to 10 in bytes 29-30) are left out", path, auxiliary.sum())
    return traces.select(~auxiliary)


def header_type(fields: dict[str, tuple[int, str]], order: Order, size: int) -> np.dtype:
    """NumPy's type of trace headers: fields by their first byte, counted from 1, and type."""
    return np.dtype(
        {
            "names": list(fields),
            "formats": [np.dtype(kind).newbyteorder(order) for _, kind in fields.values()],
            "offsets": [place - 1 for place, _ in fields.values()],
            "itemsize": size,
        }
    )


def _weigh(path: Path, layout: Layout, weight: np.ndarray, values: np.ndarray) -> None:
    """Multiply samples by 2^-N of each trace: N says what the last bit of an integer is worth."""
    if not weight.any():
        return
    if FORMATS[layout.code][0][0] == "f" or "float" in FORMATS[layout.code][1]:
        log.warning("%s: weighting factors (bytes 169-170) are not applied: its samples are floats", path)
        return
    if (wrong := np.flatnonzero(np.abs(weight.astype(int)) > MOST_WEIGHT)).size:
        raise SegyError(
            f"{path}: trace {wrong[0]} has a weighting factor of 2^{-int(weight[wrong[0]])} (bytes 169-170), wanted "
            f"2^-{MOST_WEIGHT} to 2^{MOST_WEIGHT}: correct it"
        )
    with np.errstate(over="ignore"):
        values *= np.ldexp(np.float32(1), -weight.astype(np.int32))[:, None]


def refuse_contradictions(traces: Traces, velocities: bool = False) -> None:
    """Refuse traces of other lengths, angles, no live trace, and samples of another format.

    Args:
        traces: of a file.
        velocities: whether they are a section of velocities.

    Raises:
        SegyError: with the trace and its bytes.
    """
    path, layout, headers = traces.path, traces.layout, traces.headers
    counts = headers["SampleCount"].astype(int)
    if (different := np.flatnonzero((counts != 0) & (counts != layout.samples) & (layout.samples < 2**16))).size:
        raise SegyError(
            f"{path}: trace {traces.number[different[0]]} says {counts[different[0]]} samples (bytes 115-116), the "
            f"file {layout.samples}: wanted traces of one length"
        )
    if units := set(headers["CoordinateUnits"].tolist()) - {0, 1}:
        raise SegyError(
            f"{path}: coordinates are angles (bytes 89-90 hold {min(units)}), wanted lengths (1): project them to "
            "metres"
        )
    if traces.dead.all():
        raise SegyError(f"{path}: no trace is live (2 and 3 in bytes 29-30 are dead and dummy traces): correct it")
    if other := traces.looks_like(velocities):
        said = f"the format code in bytes 3225-3226 is {layout.code} ({FORMATS[layout.code][1]})"
        remedy = "write the right code there, or write the file again"
        if layout.is_su:
            said, remedy = f"Seismic Unix holds {FORMATS[layout.code][1]}", "convert the samples"
        raise SegyError(f"{path}: {said}, and its samples look like {other}: {remedy}")


def refuse_not_finite(traces: Traces) -> None:
    """Refuse NaN and infinity.

    Raises:
        SegyError: with the first trace and sample.
    """
    finite = np.isfinite(traces.values)
    if not finite.all():
        row, sample = np.argwhere(~finite)[0]
        raise SegyError(
            f"{traces.path}: {np.count_nonzero(~finite)} samples are not finite, the first is sample {sample} of trace "
            f"{traces.number[row]}: repair the file"
        )


def interval(traces: Traces) -> float:
    """The sample interval as the headers have it: microseconds, or of a section millimetres.

    Raises:
        SegyError: there is none, or headers contradict each other.
    """
    path, layout = traces.path, traces.layout
    own = traces.headers["SampleInterval"].astype(int)
    said = (own != 0) & ~traces.dead
    found = layout.interval or (float(own[said][0]) if said.any() else 0.0)
    place = "bytes 117-118" if layout.is_su else "bytes 3217-3218"
    if found == 0:
        raise SegyError(f"{path}: the sample interval ({place}) is 0: write it there")
    # The field holds no more than 65,535, and no fractions.
    different = np.flatnonzero(said & (np.abs(own - found) > 1) & (found < 2**16))
    if different.size:
        first = different[0]
        raise SegyError(
            f"{path}: the sample interval is {found:g} by the {'first trace' if layout.is_su else 'binary header'} "
            f"({place}) and {own[first]} by trace {traces.number[first]} (bytes 117-118): correct the wrong one"
        )
    return found


def along_line(places: np.ndarray) -> tuple[np.ndarray, float]:
    """Offsets (place,) along the straight line closest to X and Y (place, 2), and the farthest any lies beside it, m.

    X where Y is the same everywhere; else eastward, or northward.
    """
    if not np.ptp(places[:, 1]):
        return places[:, 0], 0.0
    middle = places.mean(axis=0)
    from_middle = places - middle
    direction = np.linalg.eigh(from_middle.T @ from_middle)[1][:, -1]
    direction = direction if tuple(direction.round(9)) > (0.0, 0.0) else -direction
    along = from_middle @ direction
    aside = np.abs(from_middle @ np.array([-direction[1], direction[0]]))
    return along + middle @ direction, float(aside.max())
