"""Level 0: smearing of each jet, p(y|x) in closed form (`pullback.simulators.detector`)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pullback.simulators import detector
from pullback.simulators.detectors.base import Detector


class Smearing(Detector):
    """ATLAS-style smearing of each truth jet: exact likelihood, no fakes, and nothing below the truth cut."""

    def in_domain(self, x: np.ndarray) -> np.ndarray:
        """Whether the formulas hold for x (..., 4): pT >= 20 GeV, |eta| <= 4.5, everything finite."""
        return detector.in_domain(x)

    def smear(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Reconstructed jets (jet, 3) of x (jet, 4), and which are kept (jet,): pT' >= 5 GeV, |eta'| <= 4.5."""
        y = detector.smear(x, rng)
        return y, detector.is_kept(y)

    def log_likelihood(self, y: np.ndarray, x: np.ndarray, pt_min: float) -> np.ndarray:
        """log p(y|x) of a kept jet, y (..., 3) and x (..., 4) broadcast over leading axes, float64."""
        return detector.log_likelihood(y, x, pt_min)

    def efficiency(self, x: np.ndarray, pt_min: float) -> np.ndarray:
        """P(kept with pT' >= pt_min | x) of truth jets x (..., 4)."""
        return np.exp(detector.log_kept(x, pt_min))

    def beside_phi(self, x: np.ndarray, pt_min: float) -> Callable[[np.ndarray], np.ndarray]:
        """log p(pT', eta'|x) of kept jets y (event, 3) given each of x (jet, 4), as a function y -> (event, jet)."""
        return detector.likelihood_beside_phi(x, pt_min)

    def phi_width(self, x: np.ndarray) -> np.ndarray:
        """Standard deviation of phi' about phi, rad, for truth jets x (..., 4)."""
        return detector.response(x[..., 0])[3]

    def describe(self, pt: np.ndarray, pt_min: float) -> dict[str, Any]:
        """Response and widths of central jets, and the fraction of them that is reconstructed."""
        mean, width, width_eta, width_phi = detector.response(pt)
        central = np.stack([pt, *np.zeros((3, len(pt)))], axis=1)
        return {
            "truth pT (GeV)": pt.tolist(),
            "response": np.round(mean / pt, 4).tolist(),
            "relative width of pT": np.round(width / pt, 4).tolist(),
            "width of eta": np.round(width_eta, 4).tolist(),
            "width of phi (rad)": np.round(width_phi, 4).tolist(),
            f"fraction kept (pT >= {pt_min:g} GeV)": np.round(self.efficiency(central, pt_min), 4).tolist(),
        }
