"""What values of jets cannot be: which units, or which other quantity, they look like."""

from collections.abc import Iterator

import numpy as np

PT_MEDIAN_MAX, PT_MEDIAN_MIN = 5e3, 0.1
"""GeV; a larger median pT means that the file is in a smaller unit, a smaller one that it is in a larger one."""
MASS_MAX, MASS_MIN = 10.0, 2e-3
"""In units of pT; most masses above it, or most of those that are not zero below it, are in another unit than pT."""
MOMENTUM_MAX = 1e5
"""GeV; no beam has more, so that no jet has a larger pT, momentum or mass."""
ETA_MAX = 20.0
"""No jet has a larger |eta|."""
ANGLE_MAX = 2 * np.pi + 0.01
"""No azimuth in radians is larger."""
MASS_ROUNDING = 0.01
"""Rounding makes masses of single particles negative, by at most this fraction of the momentum."""
MANY = 50
"""So many azimuths are spread over the circle, and so many jets over both sides of the detector."""
NONE = (-1.0, -9.0, -10.0)
"""Stand for a missing value where no jet has them: as a pT or a mass, the larger two also as eta or phi."""


def momentum_unit(size: float) -> str:
    """The unit that pT of such a size is in, or masses in units of pT times a usual pT of 100 GeV."""
    return next((unit for unit, top in (("MeV", 5e6), ("keV", 5e9)) if size <= top), "eV")


def angle_unit(size: float) -> tuple[str, str]:
    """The unit that angles up to such a size are in, where it is not the radian, and its name."""
    return ("deg", "degrees") if size < 400 else ("mrad", "milliradians")


def not_a_jets(quantity: str, values: np.ndarray) -> np.ndarray:
    """Where hardly a jet has such a value (jet,): numbers that stand for a missing one are known there."""
    if quantity == "eta":
        return np.abs(values) > 5
    if quantity == "phi":
        return (values < -np.pi - 0.01) | (values > ANGLE_MAX)
    return values < 0


def out_of_range(features: np.ndarray) -> dict[str, np.ndarray]:
    """Quantity -> where no jet (jet, 4), in GeV and radians, has such a one (jet,); nothing where all have."""
    pt, eta, phi, mass = features.T
    if not len(pt):
        return {}
    with np.errstate(invalid="ignore", over="ignore"):
        rise, turn = max(-eta.min(), eta.max()), max(-phi.min(), phi.max())
        most = max(pt.max() * np.cosh(min(rise, ETA_MAX)), mass.max())
        if rise <= ETA_MAX and turn <= ANGLE_MAX and most <= MOMENTUM_MAX and min(pt.min(), mass.min()) >= 0:
            return {}
        momentum = pt * np.cosh(np.clip(eta, -ETA_MAX, ETA_MAX))
        return {
            "pt": (pt < 0) | (pt > MOMENTUM_MAX),
            "eta": (np.abs(eta) > ETA_MAX) | (momentum > MOMENTUM_MAX),
            "phi": np.abs(phi) > ANGLE_MAX,
            "mass": (mass < -MASS_ROUNDING * momentum) | (mass > MOMENTUM_MAX),
        }


def suspicions(features: np.ndarray) -> Iterator[tuple[str, str]]:
    """What jets (jet, 4) look like that may be right: quantity, and what is unusual about it."""
    if not len(features):
        return
    pt, eta, phi, mass = features.T
    ratio = mass[mass > 0] / pt[mass > 0]
    if len(ratio) >= MANY and np.median(ratio) < MASS_MIN:
        yield "mass", f"is below {MASS_MIN:g} of pT for most jets: give `units: {{mass: TeV}}` if it is in TeV"
    if (share := float((mass > pt).mean())) > 0.25:
        yield "mass", f"is above pT for {share:.0%} of the jets: is it a mass squared, or an energy?"
    low, high = float(phi.min()), float(phi.max())
    if high > np.pi + 0.01 and low < -0.01:
        yield "phi", f"runs from {low:.4g} to {high:.4g}, neither -pi to pi nor 0 to 2 pi: is it an azimuth?"
    if len(features) < MANY:
        return
    if (most := float(np.abs(phi).max())) < 1.1:
        yield "phi", f"is nowhere beyond {most:.4g} in {len(phi)} jets: give `units: {{phi: turn}}` if it is in turns"
    low, high = float(eta.min()), float(eta.max())
    if max(-low, high) <= 1 and (np.abs(eta) > 0.9).mean() > 0.25:
        yield "eta", f"runs from {low:.4g} to {high:.4g}, most near the ends: is it the cosine of an angle?"
    if low >= 0 and high <= np.pi:
        yield "eta", f"runs from {low:.4g} to {high:.4g}, nowhere negative: is it an angle theta, or |eta|?"
