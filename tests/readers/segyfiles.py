"""SEG-Y written byte by byte from the standard (rev 1), without what the package writes it with."""

import struct
from pathlib import Path

import numpy as np

SHORT, LONG = "h", "i"
FIELDS = {
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
    "cdp": (181, LONG),
    "cdp_y": (185, LONG),
    "time_scalar": (215, SHORT),
}
"""First byte, counted from 1, and type."""


def write(path: Path, traces, *, interval, order=">", code=5, samples=None, system=1, extended=0, **columns) -> Path:
    """Traces (trace, sample), or bytes for each; columns (trace,) or one number by the names of FIELDS."""
    length = len(traces[0]) if samples is None else samples
    binary = bytearray(400)
    for place, value in ((3217, interval), (3221, length), (3225, code), (3255, system), (3505, extended)):
        struct.pack_into(f"{order}H", binary, place - 3201, value)
    content = bytearray(b"\x40" * 3200) + binary + bytearray(b"\x40" * 3200 * extended)
    for number, trace in enumerate(traces):
        header = bytearray(240)
        for name, values in columns.items():
            place, kind = FIELDS[name]
            struct.pack_into(f"{order}{kind}", header, place - 1, int(np.broadcast_to(values, len(traces))[number]))
        content += header + (trace if isinstance(trace, bytes) else np.asarray(trace, f"{order}f4").tobytes())
    path.write_bytes(content)
    return path


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
