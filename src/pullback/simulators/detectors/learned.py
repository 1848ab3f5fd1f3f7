"""A detector that only its files know."""

from pullback.simulators.detectors.base import Detector


class Learned(Detector):
    """No formulas: every family is read from files, and methods learn the detector from the simulated ones."""
