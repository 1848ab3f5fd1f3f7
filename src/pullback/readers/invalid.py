"""Values that are none: NaN, infinity, and numbers that stand for a missing value."""

from collections import Counter
from pathlib import Path

import numpy as np

from pullback.readers.base import ReadError

FAR = 10.0
"""A placeholder lies outside the other values by this many times their range between the quartiles."""


NETCDF_FILL = 9.969209968386869e36
"""What netCDF fills values with that were never written."""


def is_listed(values: np.ndarray, listed: list[float]) -> np.ndarray:
    """Where a value is one of some numbers (value,)."""
    found = np.zeros(len(values), bool)
    if len(values):
        low, high = values.min(), values.max()
        if low != low:  # NaN
            low, high = np.fmin.reduce(values), np.fmax.reduce(values)
        for number in listed:
            if low <= number <= high:
                found |= values == number
    return found


def placeholders(values: np.ndarray, listed: list[float]) -> np.ndarray:
    """Where a column holds a number that stands for a missing value (value,).

    Only a number that lies far outside of the other values is one: -99 may be a temperature.

    Args:
        values: one quantity (value,).
        listed: the numbers (`ReaderSpec.placeholders`).
    """
    found = is_listed(values, listed)
    if not found.any():
        return found
    others = values[~found & np.isfinite(values)]
    if not len(others):
        return found
    low, middle, high = np.percentile(others, [25, 50, 75])
    reach = FAR * max(high - low, 1e-6 * abs(middle), np.finfo(float).tiny)
    return found & ((values < min(low - reach, others.min())) | (values > max(high + reach, others.max())))


def invalid_events(values: np.ndarray, listed: list[float], is_vector: bool) -> dict[str, np.ndarray]:
    """Which events (event,) of values (event, ...) are not valid, by reason; each has one reason at most.

    Each feature of a vector (event, feature) has a range of its own; in an array a placeholder is far larger than all
    other values.
    """
    missing = np.zeros(len(values), bool)
    if is_vector:
        wrong = np.zeros(len(values), bool)
        for column in values.T if len(values) else ():
            if not (np.isfinite(column.min()) and np.isfinite(column.max())):
                wrong |= ~np.isfinite(column)
            missing |= placeholders(column, listed)
    else:
        wrong = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        found = np.isin(values, [*listed, NETCDF_FILL])
        if found.any():
            others = np.abs(values[~found & np.isfinite(values)])
            if np.abs(values[found]).min() > FAR * others.max(initial=0):
                missing |= found.reshape(len(values), -1).any(axis=1)
    return {"not finite": wrong, "a placeholder": missing & ~wrong}


def refuse_too_many(path: Path, left_out: Counter[str], kept: int, fraction: float) -> None:
    """Raise a ReadError where more than a fraction of a file's events is left out.

    Args:
        path: of the file.
        left_out: events, by reason.
        kept: the other events.
        fraction: `ReaderSpec.invalid_fraction`.
    """
    lost = left_out.total()
    if lost > fraction * (lost + kept):
        said = ", ".join(f"{count} because {reason}" for reason, count in left_out.items())
        raise ReadError(
            f"{path}: {lost} of {lost + kept} events are not valid ({said}), wanted at most {fraction:.0%}: check the "
            "file, or raise read.invalid_fraction"
        )
