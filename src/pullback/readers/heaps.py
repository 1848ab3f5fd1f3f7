"""Damage of HDF5 files that the HDF5 library never returns from."""

import mmap
import struct
from pathlib import Path

_SIGNATURE = b"GCOL\1\0\0\0"
"""With the version, the only one that there is."""
_HEADER = 16
"""Bytes of the header of a heap, and of that of each of its objects."""


def has_endless_heap(path: Path) -> bool:
    """Whether a global heap, which holds texts and references to coordinates, has free space of size 0.

    The library goes from object to object by their sizes; at such a one (HDF5 2.0) it stays for ever.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(_SIGNATURE)
        while at >= 0:
            end, place = len(data), at + _HEADER
            if place <= end:
                end = min(end, at + struct.unpack_from("<Q", data, at + 8)[0])
            while place + _HEADER <= end:
                number, size = struct.unpack_from("<H6xQ", data, place)
                # The size of free space, object 0, counts its header; that of others does not, and is rounded up.
                step = size if number == 0 else _HEADER + -(-size // 8) * 8
                if step == 0:
                    return True
                place += step
            at = data.find(_SIGNATURE, at + 1)
    return False
