"""Samples of SEG-Y as float32, and whether they are of the format that the file says."""

import numpy as np

from pullback.readers.segy_layout import FORMATS, IBM, IEEE, Order

INT32 = 2
FEWEST, FEWEST_DISTINCT = 50, 200
"""Words that are not zero, and different ones in a record, below which nothing is said of their format."""
USUAL = (0x20, 0x60)
"""The first byte, without its sign, of floats from 1e-19 to 1e19 (IEEE) or 1e-39 to 1e38 (IBM)."""
VELOCITIES = (300.0, 12_000.0)
TYPICAL_VELOCITIES = (1000.0, 8000.0)
"""m/s, and as km/s: what rocks of a section have, and what their median is."""

_SCALE = np.ldexp(1.0, 4 * (np.arange(128) - 64) - 24)
with np.errstate(over="ignore", under="ignore"):
    _IBM_SCALE = np.concatenate([_SCALE, -_SCALE]).astype(np.float32)
"""What the fraction of an IBM float is multiplied by, for each value of its first byte: sign and power of 16."""


def decoded(stored: np.ndarray, code: int) -> np.ndarray:
    """Stored numbers of a format code as float32; what float32 cannot hold is infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if code != IBM:
            return stored.astype(np.float32)
        words = stored.astype(np.uint32)
        fraction = (words & 0xFFFFFF).astype(np.float32)
        values: np.ndarray = _IBM_SCALE[words >> 24] * fraction
        # A zero may have any power of 16.
        values[fraction == 0] = 0
        return values


def looks_like(words: np.ndarray, code: int, order: Order, velocities: bool = False) -> str:
    """What samples of 4 bytes look like, where that is not what the file says: ``IEEE float (5)``; else empty.

    IBM floats are normalised: the first hexadecimal digit of their fraction is not 0. Of IEEE floats of many sizes it
    is 0 in 1 of 12, and all floats of a usual size have first bytes in a narrow range.

    Args:
        words: of samples, as uint32 in the byte order of the headers (sample,).
        code: the format code.
        order: of bytes.
        velocities: whether they are a section of velocities, whose size is known.
    """
    words = words[(words & 0x7FFFFFFF) != 0]
    if code not in (IBM, IEEE, INT32) or len(words) < FEWEST:
        return ""
    usual = _share_usual(words)
    if code == INT32:
        return _named(IBM if _is_normalised(words) else IEEE) if usual > 0.99 else ""
    if usual < 0.9 and _share_usual(words.byteswap()) > 0.95:
        return f"floats in {'little' if order == '>' else 'big'}-endian order, unlike the headers"
    if usual < 0.5:
        first = words >> 24
        return _named(INT32) if np.isin(first, (0x00, 0xFF)).mean() > 0.99 else ""
    if code == IBM and _zero_digit(words) >= 0.02:
        return _named(IEEE)
    if velocities:
        return _other_of_velocities(words, code)
    if code == IBM:
        return ""
    return _named(IBM) if _is_normalised(words) and _is_record(words) else ""


def _named(code: int) -> str:
    return f"{FORMATS[code][1]} ({code})"


def _share_usual(words: np.ndarray) -> float:
    first = (words >> 24) & 0x7F
    return float(((first >= USUAL[0]) & (first < USUAL[1])).mean())


def _zero_digit(words: np.ndarray) -> float:
    """Share of words whose fraction begins with the digit 0, were they IBM floats."""
    return float((words & 0xF00000 == 0).mean())


def _is_normalised(words: np.ndarray) -> bool:
    return _zero_digit(words) < 0.002


def _is_record(words: np.ndarray) -> bool:
    """Whether values are many, of both signs and of sizes in more than one power of 16 (IBM) or 4 (IEEE)."""
    counts = np.sort(np.bincount((words >> 24) & 0x7F))
    negative = float((words >> 31).mean())
    return 0.1 < negative < 0.9 and counts[-2] > 0.02 * len(words) and len(np.unique(words)) >= FEWEST_DISTINCT


def _other_of_velocities(words: np.ndarray, code: int) -> str:
    """The other float where velocities are those of rocks in it alone, in m/s or km/s."""
    other = IBM if code == IEEE else IEEE
    if other == IBM and not _is_normalised(words):
        return ""
    as_said, as_other = (decoded(words if c == IBM else words.view(np.float32), c) for c in (code, other))
    return _named(other) if _are_typical(as_other) and not _are_typical(as_said) else ""


def _are_typical(values: np.ndarray) -> bool:
    if not np.isfinite(values).all():
        return False
    low, middle, high = (float(v) for v in np.percentile(values, [0, 50, 100]))
    return any(
        TYPICAL_VELOCITIES[0] <= unit * middle <= TYPICAL_VELOCITIES[1]
        and VELOCITIES[0] < unit * low
        and unit * high < VELOCITIES[1]
        for unit in (1.0, 1000.0)
    )
