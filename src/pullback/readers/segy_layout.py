"""Where the traces of a SEG-Y or Seismic Unix file lie: byte order, revision, headers, length and format of traces.

Bytes are counted as in the standard: 3201 is the first of the binary header, 1 the first of a trace's. Fields of
revision 2 count only where the revision says 2: before it these bytes were free for anything.
"""

import logging
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from pullback.readers.base import ReadError

log = logging.getLogger("pullback")

FILE_HEADER, TRACE_HEADER, TEXT_HEADER = 3600, 240, 3200
FORMATS = {
    1: ("u4", "IBM float"),
    2: ("i4", "int32"),
    3: ("i2", "int16"),
    5: ("f4", "IEEE float"),
    6: ("f8", "IEEE double"),
    8: ("i1", "int8"),
    9: ("i8", "int64"),
    10: ("u4", "uint32"),
    11: ("u2", "uint16"),
    12: ("u8", "uint64"),
    16: ("u1", "uint8"),
}
"""Format code -> NumPy's type of the stored numbers, and name."""
IBM, IEEE = 1, 5
REVISIONS = ((1, 0), (2, 0), (2, 1))
END_TEXT = "((SEG:ENDTEXT))"
INTERVALS = (1e-3, 1e9)
"""Microseconds of a record, or what a section has in their place: what else the double of rev 2 holds is none."""
TAPE_BLOCK = 2**20
"""Bytes: no tape pads a file with more zeros."""
MILLIMETRE = 1e-3
LARGEST_TRACE = 2**31 - 1

Order = Literal[">", "<"]
ORDERS: tuple[Order, Order] = (">", "<")


class SegyError(ReadError):
    """An unusable SEG-Y or Seismic Unix file; the message says what was found, what was expected and the remedy."""


@dataclass(frozen=True)
class Layout:
    """What a file says before its first trace, and where its traces are.

    Attributes:
        is_su: whether it is Seismic Unix: traces without a file header.
        order: of bytes.
        revision: of SEG-Y, (0, 0) where the file does not say it.
        code: of the sample format.
        samples: of a trace.
        interval: of samples as the binary header has it, 0 where it does not.
        feet: whether lengths are in feet.
        start: first byte of the first trace.
        header: bytes of a trace before its samples.
        traces: that are there.
    """

    is_su: bool
    order: Order
    revision: tuple[int, int]
    code: int
    samples: int
    interval: float
    feet: bool
    start: int
    header: int
    traces: int

    @property
    def trace(self) -> int:
        """Bytes of a trace."""
        return self.header + np.dtype(FORMATS[self.code][0]).itemsize * self.samples


def layout_of(path: Path | str) -> Layout:
    """The layout of a file, of which every trace is there; a name that ends in ``.su`` is Seismic Unix.

    Raises:
        SegyError: its headers make no sense, or it is longer or shorter than they say.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            return _seismic_unix(path, stream, size) if path.suffix.lower() == ".su" else _segy(path, stream, size)
    except OSError as error:
        raise SegyError(f"{path}: cannot be read ({error.strerror}); give the path of a SEG-Y file") from None


def _segy(path: Path, stream: BinaryIO, size: int) -> Layout:
    head = stream.read(FILE_HEADER)
    if len(head) < FILE_HEADER:
        raise SegyError(f"{path}: {size} bytes, shorter than the {FILE_HEADER} of SEG-Y's headers; fetch it again")
    codes = [_number(head, order, "H", 3225) for order in ORDERS]
    if not set(codes) & set(FORMATS):
        order, samples = _su_order(stream, size)
        hint = ", or name it .su: its length is that of Seismic Unix" if samples and len(head) < size else ""
        raise SegyError(
            f"{path}: format code {codes[0]} in bytes 3225-3226, wanted 1, 2, 3, 5, 8 or, of rev 2, 6, 9, 10, 11, 12, "
            f"16 (5 is IEEE float): convert it, or give a SEG-Y file{hint}"
        )
    order, code = next((o, c) for o, c in zip(ORDERS, codes, strict=True) if c in FORMATS)
    found = head[3500], head[3501]
    # The two bytes were one number in rev 1, which some programs swap with the others.
    revision = next((r for r in (found, found[::-1]) if r in REVISIONS), (0, 0))
    samples, said = _number(head, order, "H", 3221), _number(head, order, "h", 3505)
    start = FILE_HEADER + TEXT_HEADER * max(0, _more_text(stream, said, revision))
    interval, exact = float(_number(head, order, "H", 3217)), _number(head, order, "d", 3273)
    extra = stated = trailers = 0
    if revision >= (2, 0):
        samples = _number(head, order, "I", 3269) or samples
        interval = exact if INTERVALS[0] <= exact <= INTERVALS[1] else interval
        extra, stated = _number(head, order, "i", 3507), _number(head, order, "Q", 3513)
        start, trailers = _number(head, order, "Q", 3521) or start, _number(head, order, "i", 3529)
    elif abs(exact - interval) <= 0.5:  # files of `pullback.report.segy` hold it so
        interval = exact
    if samples == 0 and start + TRACE_HEADER <= size:
        stream.seek(start)
        samples = _number(stream.read(TRACE_HEADER), order, "H", 115)
    if samples == 0 or (revision > (0, 0) and said < -1) or extra < 0 or start < FILE_HEADER:
        raise SegyError(
            f"{path}: {samples} samples in a trace (bytes 3221-3222), {said} more textual headers (3505-3506), {extra} "
            f"more headers of a trace (3507-3510), the first trace at {start} (3521-3528): wanted at least 1, 0, 0 and "
            f"{FILE_HEADER}; correct the binary header"
        )
    layout = Layout(
        is_su=False,
        order=order,
        revision=revision,
        code=code,
        samples=samples,
        interval=interval,
        feet=_number(head, order, "h", 3255) == 2,
        start=start,
        header=TRACE_HEADER * (1 + extra),
        traces=0,
    )
    return _counted(path, stream, size, layout, stated, trailers)


def _number(content: bytes, order: Order, kind: str, place: int) -> Any:
    """One number of a header; ``place`` is its first byte, counted from 1."""
    return struct.unpack_from(order + kind, content, place - 1)[0]


def _more_text(stream: BinaryIO, said: int, revision: tuple[int, int]) -> int:
    """Textual headers after the binary one; -1 is as many as there are up to the end stanza.

    In revision 0, which has none, a number counts where so many are there.
    """
    if said == 0 or said < -1 or (said > 0 and revision > (0, 0)):
        return said
    count = 0
    stream.seek(FILE_HEADER)
    while count != said and (text := _text(stream.read(TEXT_HEADER))):
        count += 1
        if END_TEXT in "".join(text.upper().split()):
            break
    return count if said in (-1, count) else 0


def _text(record: bytes) -> str:
    """A textual header in EBCDIC or ASCII, empty where it is none."""
    for encoding in ("cp500", "latin-1"):
        text = record.decode(encoding)
        if len(record) == TEXT_HEADER and all(" " <= c <= "~" or c.isspace() for c in text):
            return text
    return ""


def _counted(path: Path, stream: BinaryIO, size: int, layout: Layout, stated: int = 0, trailers: int = 0) -> Layout:
    """A layout with its number of traces, without trailers and the zeros that pad a tape.

    Args:
        path, stream, size: the file.
        layout: without its traces.
        stated: traces by the binary header (rev 2), 0 where it does not say.
        trailers: records of text after the last trace, -1 for any number.
    """
    trace, start = layout.trace, layout.start
    room = max(0, size - start - TEXT_HEADER * max(0, trailers))
    whole, left = divmod(room, trace)
    traces, zeros = stated or whole, 0
    if whole:
        zeros = _zeros(stream, start, start + room)
        stream.seek(start)
        # What follows the last byte that is not zero pads a tape, but for the rest of its own trace.
        if not stated and (left or any(stream.read(layout.header))):
            traces = -(-(room - zeros) // trace)
    rest = room - traces * trace
    is_padding = 0 < rest <= min(zeros, TAPE_BLOCK)
    if traces < 1 or trace > LARGEST_TRACE or rest < 0 or (rest and not is_padding and trailers != -1):
        width = np.dtype(FORMATS[layout.code][0]).itemsize
        of = f", {stated} of them by bytes 3513-3520" if stated else ""
        raise SegyError(
            f"{path}: {size} bytes, wanted {start} + traces x {trace} ({layout.header} + {width} x {layout.samples} "
            f"samples){of}: {whole} whole traces and {left} bytes more; truncated, fetch it again, or its traces "
            "differ in length"
        )
    if is_padding:
        log.warning("%s: %d zero bytes after its last trace are taken as the padding of a tape", path, rest)
    return replace(layout, traces=traces)


def _zeros(stream: BinaryIO, start: int, end: int) -> int:
    """Zero bytes right before ``end``."""
    at = end
    while at > start:
        block = min(TAPE_BLOCK, at - start)
        stream.seek(at - block)
        filled = stream.read(block).rstrip(b"\0")
        if filled:
            return end - (at - block + len(filled))
        at -= block
    return end - at


def _seismic_unix(path: Path, stream: BinaryIO, size: int) -> Layout:
    order, samples = _su_order(stream, size)
    if samples == 0:
        stream.seek(0)
        head = stream.read(TRACE_HEADER)
        said = " or ".join(f"{_number(head, o, 'H', 115)}" for o in ORDERS) if len(head) == TRACE_HEADER else "no"
        raise SegyError(
            f"{path}: {size} bytes; as Seismic Unix its first trace has {said} samples (bytes 115-116, big- or "
            f"little-endian), and traces of {TRACE_HEADER} + 4 x that do not fill it: truncated, fetch it again, or it "
            "is SEG-Y and its name ends in .segy"
        )
    return Layout(
        is_su=True,
        order=order,
        revision=(0, 0),
        code=IEEE,
        samples=samples,
        interval=0.0,
        feet=False,
        start=0,
        header=TRACE_HEADER,
        traces=size // (TRACE_HEADER + 4 * samples),
    )


def _su_order(stream: BinaryIO, size: int) -> tuple[Order, int]:
    """Byte order and samples of a trace with which Seismic Unix fills a file; 0 samples where neither does.

    Where both do (257 samples are the same both ways) headers are smaller numbers in the right one.
    """
    stream.seek(0)
    head = stream.read(TRACE_HEADER)
    found: list[tuple[float, Order, int]] = []
    for order in ORDERS if len(head) == TRACE_HEADER else ():
        samples = _number(head, order, "H", 115)
        if samples and size % (TRACE_HEADER + 4 * samples) == 0:
            longs, shorts = (np.frombuffer(head[a:b], order + kind) for a, b, kind in ((0, 28, "i4"), (68, 180, "i2")))
            found.append((sum(np.log1p(np.abs(v.astype(float))).sum() for v in (longs, shorts)), order, samples))
    return min(found)[1:] if found else (">", 0)
