"""Angles in radians."""

import numpy as np


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angles wrapped to [-pi, pi)."""
    wrapped = np.mod(angle + np.pi, 2 * np.pi) - np.pi
    # Of an angle just below -pi the remainder is rounded to a whole turn.
    return np.where(wrapped >= np.pi, -np.pi, wrapped)


def circular_mean(angle: np.ndarray, axis: int = 0) -> np.ndarray:
    """Direction of the mean of unit vectors over an axis, float64."""
    angle = np.asarray(angle, np.float64)
    return np.arctan2(np.sin(angle).mean(axis=axis), np.cos(angle).mean(axis=axis))
