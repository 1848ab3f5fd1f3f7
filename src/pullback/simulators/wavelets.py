"""Source wavelets: Ricker, and wavelets from files (recorded or estimated)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

BANDWIDTH = 2.5
"""Highest frequency of a Ricker wavelet that matters, in units of its peak: there the amplitude spectrum u^2 exp(1 -
u^2), u = f / f_peak, has fallen to 3.3 percent of its maximum."""

FAINT = BANDWIDTH**2 * np.exp(1 - BANDWIDTH**2)
"""The same bound for any wavelet: what lies below this share of the largest amplitude does not matter."""


class WaveletError(ValueError):
    """An invalid wavelet."""


@dataclass(frozen=True)
class Ricker:
    """Ricker wavelet (1 - 2 b) exp(-b), b = (pi f (t - t_0))^2, cut after 2.2 periods with its peak in their middle.

    Attributes:
        frequency: of the peak of its spectrum, Hz.
    """

    frequency: float

    @property
    def frequency_max(self) -> float:
        """Highest frequency with significant amplitude, Hz."""
        return BANDWIDTH * self.frequency

    def length(self, time_step: float) -> int:
        """Samples of the cut wavelet: odd."""
        return 2 * int(2.2 / (self.frequency * time_step) / 2) + 1

    def delay(self, time_step: float) -> float:
        """Time of the peak, s."""
        return self.length(time_step) // 2 * time_step

    def sampled(self, time_step: float, steps: int) -> np.ndarray:
        """The wavelet at times 0, time_step, ...: (steps,) float64, peak 1; zero after its end."""
        length = self.length(time_step)
        t = (np.arange(length) - length // 2) * time_step
        b = (np.pi * self.frequency * t) ** 2
        wavelet = np.zeros(max(steps, length))
        wavelet[:length] = (1 - 2 * b) * np.exp(-b)
        return wavelet[:steps]


@dataclass(frozen=True)
class Recorded:
    """A wavelet given by its samples.

    Attributes:
        values: samples from time 0 on; they should start and end near zero.
        interval: s between them.
    """

    values: tuple[float, ...]
    interval: float

    @staticmethod
    def read(path: Path | str, interval: float) -> "Recorded":
        """From a .npy file (sample,), or a text file with one number in each line.

        Raises:
            WaveletError: the file is not there or holds something else.
        """
        try:
            values = np.load(path) if str(path).endswith(".npy") else np.loadtxt(path)
            if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
                raise ValueError("wanted one array of real numbers")
        except (OSError, ValueError, EOFError) as error:
            raise WaveletError(
                f"{path}: not a wavelet ({error}); give a .npy file or one number in each line"
            ) from error
        return Recorded.of(values, interval, str(path))

    @staticmethod
    def of(values: np.ndarray, interval: float, name: str = "wavelet") -> "Recorded":
        """From samples (sample,) that are ``interval`` s apart.

        Raises:
            WaveletError: they are fewer than 4, not finite, or all zero; ``name`` is theirs in the message.
        """
        values = np.asarray(values)
        if values.ndim != 1 or len(values) < 4 or not np.isfinite(values).all() or not values.any():
            raise WaveletError(
                f"{name}: an array of shape {values.shape}, {np.count_nonzero(~np.isfinite(values))} of its values "
                "not finite; wanted at least 4 samples along one axis, not all zero"
            )
        return Recorded(tuple(map(float, values)), interval)

    @cached_property
    def _spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        padded = 8 * len(self.values)
        return np.fft.rfftfreq(padded, self.interval), np.abs(np.fft.rfft(self.values, padded))

    @property
    def frequency(self) -> float:
        """Where the amplitude spectrum is largest, Hz."""
        frequencies, amplitudes = self._spectrum
        return float(frequencies[1:][amplitudes[1:].argmax()])

    @property
    def frequency_max(self) -> float:
        """Highest frequency with significant amplitude, Hz."""
        frequencies, amplitudes = self._spectrum
        return float(frequencies[np.flatnonzero(amplitudes >= FAINT * amplitudes.max())[-1]])

    def delay(self, time_step: float) -> float:
        """Time of the largest sample, s."""
        return float(np.abs(self.values).argmax()) * self.interval

    def sampled(self, time_step: float, steps: int) -> np.ndarray:
        """The wavelet at times 0, time_step, ...: (steps,) float64, by a cubic spline; zero behind its samples."""
        from scipy.interpolate import CubicSpline

        times = np.arange(len(self.values)) * self.interval
        wanted = np.arange(steps) * time_step
        spline = CubicSpline(times, self.values, bc_type="natural")
        return np.where(wanted <= times[-1], spline(np.minimum(wanted, times[-1])), 0.0)


Wavelet = Ricker | Recorded
