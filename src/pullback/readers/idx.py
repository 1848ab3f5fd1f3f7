"""The idx format in which MNIST and its kin are distributed: a header, then unsigned bytes; possibly gzipped.

Header, big endian: two zero bytes, the code of the type (8: unsigned byte), the number of axes, and the length of each
axis in four bytes (LeCun, Cortes, Burges: "The MNIST database of handwritten digits").
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

UNSIGNED_BYTE = 8
GZIP = b"\x1f\x8b"


class IdxError(ValueError):
    """A file that is not a complete idx file of the expected kind."""


def read_idx(path: Path | str, axes: int) -> np.ndarray:
    """The array of an idx file, uint8.

    Args:
        path: an idx file, or one compressed with gzip (detected by content, not by name).
        axes: wanted number of axes: 3 for images (image, row, column), 1 for labels.

    Raises:
        IdxError: it cannot be read, is no idx file, holds something else, or is cut short.
    """
    try:
        content = Path(path).read_bytes()
        if content.startswith(GZIP):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        said = getattr(error, "strerror", None) or error
        raise IdxError(f"{path}: cannot be read ({said}); give a complete idx file, gzipped or not") from None
    if len(content) < 4 or content[:2] != b"\0\0" or not content[3]:
        raise IdxError(f"{path}: is no idx file (begins with {content[:4].hex(' ') or 'nothing'}); give one of MNIST's")
    if content[2] != UNSIGNED_BYTE or content[3] != axes:
        raise IdxError(
            f"{path}: holds type {content[2]} with {content[3]} axes, wanted unsigned bytes (type 8) with {axes}; "
            "are `images` and `labels` swapped?"
        )
    start = 4 + 4 * axes
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4", len(content[4:start]) // 4))
    wanted = int(np.prod(shape, dtype=object)) if len(shape) == axes else None
    if wanted is None or len(content) != start + wanted:
        raise IdxError(
            f"{path}: {len(content)} bytes, wanted {'a whole header' if wanted is None else start + wanted}; "
            "the file is cut short or damaged: copy it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
