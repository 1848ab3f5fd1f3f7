"""The width of the central 90 % interval of the draws: sharpness, beside calibration."""

import numpy as np

from pullback.metrics import Metric


def width(sample):
    """The mean over components of each event's width, in units of the truth's spread (event,)."""
    low, high = np.quantile(sample.x / sample.space.scale, (0.05, 0.95), axis=1)
    return (high - low).mean(axis=1)


WIDTH = Metric(
    "interval_width",
    title="Width of the central 90 % interval",
    description="mean over components, in units of the spread of the truth",
    better="lower",
    compute=width,
)
