"""Files that are whole or not there; a sealed one also tells whether a bit of it has changed since."""

import hashlib
import os
from pathlib import Path

from pullback.ensembles.hdf5 import atomic

DIGEST_BYTES = 32


class DamagedError(ValueError):
    """A sealed file that is cut short or changed."""


def write_whole(path: Path, content: bytes) -> None:
    """Write under a temporary name in the same folder, flush to disk, rename."""
    with atomic(path) as temporary, temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def write_sealed(path: Path, content: bytes) -> None:
    """Write the SHA-256 of some content, then the content."""
    write_whole(path, hashlib.sha256(content).digest() + content)


def read_sealed(path: Path) -> bytes:
    """The content of a sealed file.

    Raises:
        DamagedError: it is cut short or changed.
    """
    found = path.read_bytes()
    if hashlib.sha256(found[DIGEST_BYTES:]).digest() != found[:DIGEST_BYTES]:
        raise DamagedError(f"{path} is damaged ({len(found)} bytes)")
    return found[DIGEST_BYTES:]
