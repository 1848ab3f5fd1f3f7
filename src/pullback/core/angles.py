"""Angles in radians, for every floor of the package."""

import numpy as np


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angles brought to [-pi, pi)."""
    wrapped = np.mod(angle + np.pi, 2 * np.pi) - np.pi
    # Of an angle just below -pi the remainder is rounded to a whole turn.
    return np.where(wrapped >= np.pi, -np.pi, wrapped)
