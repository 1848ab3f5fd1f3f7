"""A detector of a user: halves pT, with a resolution of 10 %, and loses every jet beyond |eta| = 2."""

import numpy as np
from pydantic import Field

from pullback.simulators.detectors.base import Detector


class Loses(Detector):
    """Halves pT and loses every jet beyond |eta| = 2."""

    factor: float = Field(default=0.5, gt=0, description="of pT")

    def smear(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Reconstructed jets (pt, eta, phi) of truth jets x (pt, eta, phi, mass), and which of them there are."""
        y = x[:, :3].copy()
        y[:, 0] *= self.factor * (1 + 0.1 * rng.standard_normal(len(x)))
        return y, np.abs(y[:, 1]) < 2
