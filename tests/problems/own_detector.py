"""Detectors of two observables, as a user writes them."""

import numpy as np

from pullback.simulators.detectors.base import Detector

WIDTH = np.array([0.5, 0.2])
CUT = 1.0


class Blur(Detector):
    """Normal smearing; recorded from `CUT` of the first observable on."""

    width: float = 1.0

    def smear(self, x, rng):
        y = x + self.width * WIDTH * rng.standard_normal(x.shape)
        return y, y[:, 0] >= CUT


class KnownBlur(Blur):
    """The same with its density, of a recorded observation."""

    def log_likelihood(self, y, x):
        from scipy.stats import norm

        width = self.width * WIDTH
        return norm.logpdf(y, x, width).sum(axis=-1) - norm.logsf(CUT, x[..., 0], width[0])


class Wrong(Blur):
    """Gives one component too many."""

    def smear(self, x, rng):
        y, kept = super().smear(x, rng)
        return np.concatenate([y, y[:, :1]], axis=1), kept
