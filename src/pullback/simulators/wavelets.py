"""Source wavelets."""

import numpy as np

BANDWIDTH = 2.5
"""Highest frequency that matters, in units of the Ricker peak: there the amplitude spectrum u^2 exp(1 - u^2), u = f /
f_peak, has fallen to 3.3 percent of its maximum."""


def ricker_length(peak_frequency: float, time_step: float) -> int:
    """Samples of the truncated wavelet: odd, 2.2 periods of the peak frequency."""
    return 2 * int(2.2 / (peak_frequency * time_step) / 2) + 1


def ricker(peak_frequency: float, time_step: float, steps: int) -> np.ndarray:
    """Ricker wavelet (1 - 2 b) exp(-b), b = (pi f (t - t_0))^2, with its peak in the middle of ``ricker_length``
    samples.

    Args:
        peak_frequency: Hz.
        time_step: s.
        steps: samples to return; what lies behind the wavelet is zero.

    Returns:
        (steps,) float64, peak amplitude 1.
    """
    length = ricker_length(peak_frequency, time_step)
    t = (np.arange(length) - length // 2) * time_step
    b = (np.pi * peak_frequency * t) ** 2
    wavelet = np.zeros(max(steps, length))
    wavelet[:length] = (1 - 2 * b) * np.exp(-b)
    return wavelet[:steps]
