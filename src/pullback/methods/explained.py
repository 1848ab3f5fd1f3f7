"""Whether an inversion explains its observation at all: data of another scale or sign cannot have been inverted."""

import logging

import numpy as np

from pullback.ensembles.fields import Field

log = logging.getLogger("pullback")

UNEXPLAINED = 0.9
"""Relative misfit above which an answer explains next to nothing."""
FACTOR = 100.0
"""No source is off by more: a factor beyond is one of units."""


def explains(field: Field, observed: np.ndarray, signal: np.ndarray, label: str) -> bool:
    """Whether an answer's simulation explains its observation better than a simulation of zero does.

    Of a vector nothing is said: its noise may be larger than its signal.

    Args:
        field: y.
        observed: y of live traces, in any shape.
        signal: F(x) of the answer there, of the same shape; of several draws, their mean.
        label: the method and the event, for the warning.
    """
    if field.is_vector:
        return True
    # In single precision squares of 1e-30 are 0, and those of 1e30 infinite.
    observed, signal = np.asarray(observed, np.float64), np.asarray(signal, np.float64)
    size, power = float(np.linalg.norm(observed)), float((signal**2).sum())
    if not size > 0:
        log.warning("%s: no trace is live, y is zero everywhere: there is nothing to invert", label)
        return False
    misfit = float(np.linalg.norm(signal - observed)) / size
    factor = float((signal * observed).sum()) / power if power > 0 else 0.0
    if misfit > UNEXPLAINED or factor < 0 or not 1 / FACTOR < factor < FACTOR:
        is_scaled = factor != 0 and not 0.5 < factor < 2
        remedy = f"; y is {factor:.4g} times the simulation: set read.scale: {1 / factor:.4g}" if is_scaled else ""
        log.warning(
            "%s: the answer leaves a relative misfit of %.3g, it explains next to nothing%s", label, misfit, remedy
        )
    return misfit <= 1
