"""Traces of a record that recorded nothing: no observation of anything, least of all of silence."""

import numpy as np

from pullback.ensembles.fields import Field


def live(field: Field, y: np.ndarray) -> np.ndarray:
    """Where one observation (*y,) is data: False along a receiver's trace that is zero at all times.

    Only of gathers: elsewhere a quantity that is zero at all times may well have been measured.

    Returns:
        bool, the shape of y with 1 in place of time; all True for a field without time and receivers.
    """
    if not {"time", "receiver"} <= set(field.dims):
        return np.ones(y.shape, bool)
    found: np.ndarray = (y != 0).any(axis=field.dims.index("time"), keepdims=True)
    return found
