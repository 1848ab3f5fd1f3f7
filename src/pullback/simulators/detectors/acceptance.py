"""Level 1: the smearing of level 0 with efficiency, acceptance, migration over the truth cut, and fakes.

Everything is known in closed form. A truth jet x is found with probability ::

    found(x) = plateau(|eta|) Phi((pT - turn_on) / turn_on_width)

and is then smeared; it is reconstructed where the smeared jet passes pT' >= 5 GeV, |eta'| <= 4.5 and the selection of
the study. Each collision has a Poisson number of fakes (as jets of pile-up are), with pT' - 5 GeV exponential, eta' and
phi' uniform. Whether a jet is found does not depend on y: p(y|x) of a reconstructed jet is that of level 0.
"""

from typing import Any

import numpy as np
from pydantic import Field

from pullback.simulators import detector
from pullback.simulators.collider_settings import PT_MIN_TRUTH
from pullback.simulators.detectors.smearing import Smearing


class Acceptance(Smearing):
    """Smearing with efficiency, truth jets that migrate over the truth cut, and fakes, all known in closed form."""

    migration_pt_min: float = Field(
        default=PT_MIN_TRUTH,
        ge=PT_MIN_TRUTH,
        description="GeV; truth jets from here on are smeared, those below `truth_pt_min` can migrate in",
    )
    plateau: float = Field(default=0.98, gt=0, le=1, description="efficiency of central jets far above `turn_on`")
    forward_plateau: float = Field(default=0.9, gt=0, le=1, description="the same from |eta| = `forward_eta` on")
    forward_eta: float = Field(default=2.5, gt=0, description="|eta| at which the plateau changes")
    turn_on: float = Field(default=20.0, description="GeV, truth pT with half of the plateau's efficiency")
    turn_on_width: float = Field(default=10.0, gt=0, description="GeV, width of the normal turn-on")
    fake_rate: float = Field(default=0.5, ge=0, description="mean number of fakes in a collision, from 5 GeV on")
    fake_pt_scale: float = Field(default=8.0, gt=0, description="GeV, slope of the fakes' exponential spectrum")

    def truth_pt_min(self, fiducial: float) -> float:
        """GeV: truth jets from here on are made."""
        return min(self.migration_pt_min, fiducial)

    def found(self, x: np.ndarray) -> np.ndarray:
        """P(found | x) of truth jets x (..., 4), before smearing and cuts."""
        x = np.asarray(x, dtype=np.float64)
        plateau = np.where(np.abs(x[..., 1]) < self.forward_eta, self.plateau, self.forward_plateau)
        return plateau * detector.normal_cdf((x[..., 0] - self.turn_on) / self.turn_on_width)

    def efficiency(self, x: np.ndarray, pt_min: float) -> np.ndarray:
        """P(reconstructed with pT' >= pt_min | x) of truth jets x (..., 4)."""
        return self.found(x) * super().efficiency(x, pt_min)

    def smear(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Reconstructed jets (jet, 3) of x (jet, 4), and which are found and pass the cuts (jet,)."""
        normal = rng.standard_normal((len(x), 4))
        y = detector.smeared(x, normal[:, :3])
        return y, (detector.normal_cdf(normal[:, 3]) < self.found(x)) & detector.is_kept(y)

    def smear_kept(self, x: np.ndarray, rng: np.random.Generator, pt_min: float) -> tuple[np.ndarray, np.ndarray]:
        """As `Detector.smear_kept`, by the smearing alone: of a reconstructed jet, its law is that of level 0."""
        return Smearing(kind="smearing").smear_kept(x, rng, pt_min)

    def fakes(self, collisions: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Fakes (fake, 3) of some collisions, and the collision of each (fake,)."""
        numbers, uniform = np.zeros(collisions, int), []
        for collision in range(collisions):  # One at a time: those of a collision do not depend on how many follow.
            numbers[collision] = rng.poisson(self.fake_rate)
            uniform.append(rng.random((numbers[collision], 3)))
        u = np.concatenate(uniform) if uniform else np.empty((0, 3))
        pt = detector.PT_MIN - self.fake_pt_scale * np.log1p(-u[:, 0])
        y = np.column_stack([pt, detector.ETA_MAX * (2 * u[:, 1] - 1), np.pi * (2 * u[:, 2] - 1)])
        return y, np.repeat(np.arange(collisions), numbers)

    def fake_number(self, pt_min: float) -> float:
        """Mean number of fakes in a collision with pT' >= pt_min."""
        return float(self.fake_rate * np.exp(-max(pt_min - detector.PT_MIN, 0.0) / self.fake_pt_scale))

    def fake_density(self, y: np.ndarray) -> np.ndarray:
        """Mean number of fakes in a collision at y (..., 3), per GeV, per unit of eta and per rad."""
        y = np.asarray(y, dtype=np.float64)
        spectrum = np.exp(-(y[..., 0] - detector.PT_MIN) / self.fake_pt_scale) / self.fake_pt_scale
        flat = 1 / (2 * detector.ETA_MAX * 2 * np.pi)
        return np.where(detector.is_kept(y), self.fake_rate * spectrum * flat, 0.0)

    def describe(self, pt: np.ndarray, pt_min: float) -> dict[str, Any]:
        """As level 0, and the mean number of fakes."""
        fakes = {f"fakes in a collision (pT >= {pt_min:g} GeV)": round(self.fake_number(pt_min), 4)}
        return {**super().describe(pt, pt_min), **fakes}
