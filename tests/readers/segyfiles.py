"""SEG-Y written byte by byte from the standard (rev 1), without what the package writes it with."""

import struct
from pathlib import Path

import numpy as np

SHORT, LONG = "h", "i"
FIELDS = {
    "identification": (29, SHORT),
    "elevation": (41, LONG),
    "source_depth": (49, LONG),
    "elevation_scalar": (69, SHORT),
    "scalar": (71, SHORT),
    "source": (73, LONG),
    "source_y": (77, LONG),
    "group": (81, LONG),
    "group_y": (85, LONG),
    "units": (89, SHORT),
    "delay": (109, SHORT),
    "count": (115, SHORT),
    "own_interval": (117, SHORT),
    "weight": (169, SHORT),
    "cdp": (181, LONG),
    "cdp_y": (185, LONG),
    "inline": (189, LONG),
    "crossline": (193, LONG),
    "time_scalar": (215, SHORT),
    "d1": (181, "f"),
    "f1": (185, "f"),
    "d2": (189, "f"),
    "f2": (193, "f"),
}
"""First byte, counted from 1, and type."""


def write(
    path: Path,
    traces,
    *,
    interval=0,
    order=">",
    code=5,
    samples=None,
    system=1,
    extended=0,
    revision=b"\0\0",
    binary=(),
    text=None,
    tail=b"",
    **columns,
) -> Path:
    """Traces (trace, sample), or bytes for each; columns (trace,) or one number by the names of FIELDS.

    A path that ends in .su has no headers of the file, and the count of samples and their interval in its traces.

    Args:
        binary: further fields of the binary header: first byte, type, value.
        text: bytes of the extended textual headers, where they are not blank.
        tail: bytes after the last trace.
    """
    length = len(traces[0]) if samples is None else samples
    content = bytearray()
    if path.suffix == ".su":
        columns = {"count": length, "own_interval": interval, **columns}
    else:
        head = bytearray(400)
        fields = [(3217, interval), (3221, length), (3225, code), (3255, system), (3505, extended % 2**16)]
        for place, kind, value in [*((place, "H", value) for place, value in fields), *binary]:
            struct.pack_into(f"{order}{kind}", head, place - 3201, value)
        head[300:302] = revision
        content += b"\x40" * 3200 + head + (b"\x40" * 3200 * max(0, extended) if text is None else text)
    for number, trace in enumerate(traces):
        header = bytearray(240)
        for name, values in columns.items():
            place, kind = FIELDS[name]
            value = np.broadcast_to(values, len(traces))[number]
            struct.pack_into(f"{order}{kind}", header, place - 1, float(value) if kind == "f" else int(value))
        content += header + (trace if isinstance(trace, bytes) else np.asarray(trace, f"{order}f4").tobytes())
    path.write_bytes(content + tail)
    return path


def ibm(values, order=">") -> bytes:
    """Values as IBM floats: sign, power of 16 in excess of 64, fraction from 1/16 to 1."""
    values = np.asarray(values, np.float64)
    power = np.ceil(np.log2(np.where(values == 0, 1, np.abs(values))) / 4 + 1e-12)
    fraction = np.floor(np.abs(values) / 16.0**power * 2**24).astype(np.uint32)
    words = (values < 0).astype(np.uint32) << 31 | (power + 64).astype(np.uint32) << 24 | fraction
    return np.where(values == 0, 0, words).astype(f"{order}u4").tobytes()


def read(path: Path):
    """The numbers of a file: of the binary header, the fields of each trace, and its samples, IEEE big-endian."""
    content = path.read_bytes()
    names = {"interval": 3217, "samples": 3221, "code": 3225, "system": 3255}
    binary = {name: struct.unpack_from(">h", content, place - 1)[0] for name, place in names.items()}
    binary["revision"] = content[3500]
    step = 240 + 4 * binary["samples"]
    assert (len(content) - 3600) % step == 0
    starts = range(3600, len(content), step)
    fields = {
        name: np.array([struct.unpack_from(f">{kind}", content, start + place - 1)[0] for start in starts])
        for name, (place, kind) in FIELDS.items()
    }
    values = np.array([np.frombuffer(content, ">f4", binary["samples"], start + 240) for start in starts])
    return content[:3200].decode("cp500"), binary, fields, values
