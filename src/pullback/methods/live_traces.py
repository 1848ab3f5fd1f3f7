"""Mask of live traces: all-zero (dead) traces are excluded from the data."""

import numpy as np

from pullback.ensembles.fields import Field


def live(field: Field, y: np.ndarray) -> np.ndarray:
    """Mask of live samples of one observation (*y,): False along traces that are zero at all times.

    Applies to shot gathers only: in other data a quantity can be zero at all times.

    Returns:
        bool, the shape of y with 1 in place of time; all True for a field without time and receivers.
    """
    if not {"time", "receiver"} <= set(field.dims):
        return np.ones(y.shape, bool)
    found: np.ndarray = (y != 0).any(axis=field.dims.index("time"), keepdims=True)
    return found
