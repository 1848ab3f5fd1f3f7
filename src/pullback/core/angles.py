"""Angles in radians."""

import numpy as np


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angles wrapped to [-pi, pi)."""
    wrapped = np.mod(angle + np.pi, 2 * np.pi) - np.pi
    # Of an angle just below -pi the remainder is rounded to a whole turn.
    return np.where(wrapped >= np.pi, -np.pi, wrapped)
