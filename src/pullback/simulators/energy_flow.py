"""Tracks, towers and energy flow of the particles of collisions: a parametrisation after the Delphes CMS card.

The numbers are those of the card ``delphes_card_CMS.tcl`` (de Favereau et al., 1307.6346; its sources are 1405.6569,
1502.02701 and 1306.2016), the rules those of its modules: charged particles follow a helix from the beam line to the
calorimeter; tracks have an efficiency and a relative resolution of pT; towers collect energies, which are smeared; a
tower's energy in excess of its tracks is a neutral object, and without a significant excess the tracks are scaled to
the mean of tracks and tower, each weighted by its inverse variance. All smearing is log-normal.

Everything is flat: particles of many collisions in order, with the collision of each.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pullback.core.angles import wrap

RADIUS, HALF_LENGTH, FIELD = 1.29, 3.00, 3.8
"""Of the tracker, m, and its magnetic field along the beam, T."""
_CURVATURE = 0.299792458
"""pT in GeV of a particle of unit charge is this times its radius in m times the field in T."""

ELECTRON, MUON, PHOTON, PI_ZERO = 11, 13, 22, 111
LONG_LIVED = (310, 3122)
"""K0s and Lambda, which leave 30 % of their energy in the electromagnetic calorimeter."""

TRACKER_ETA = 2.5


class Particles(NamedTuple):
    """Particles of collisions, flat (particle,): pT, mass in GeV, eta, phi, |PDG id|, charge, and the collision."""

    collision: np.ndarray
    pt: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    mass: np.ndarray
    identity: np.ndarray
    charge: np.ndarray

    @property
    def energy(self) -> np.ndarray:
        """GeV."""
        return np.hypot(self.pt * np.cosh(self.eta), self.mass)


class Objects(NamedTuple):
    """Massless energies at a place: the collision of each, energy in GeV, eta and phi (object,)."""

    collision: np.ndarray
    energy: np.ndarray
    eta: np.ndarray
    phi: np.ndarray


def at_calorimeter(particles: Particles) -> tuple[np.ndarray, np.ndarray]:
    """eta and phi (particle,) where each particle leaves the tracker, seen from the centre.

    A neutral particle goes straight. A charged one turns through an angle t on a circle of radius r = pT / (0.3 B q)
    and is then 2 r sin(t / 2) from the beam in the direction phi - q t / 2, at z = r t sinh(eta). It leaves through the
    barrel where it reaches its radius before its end, and through an end otherwise; one that curls up always does.
    """
    steep = np.sinh(particles.eta)
    charged = particles.charge != 0
    size = np.where(charged, np.abs(particles.charge), 1.0)
    r = particles.pt / (_CURVATURE * FIELD * size)
    turn_barrel = 2 * np.arcsin(np.minimum(RADIUS / (2 * r), 1.0))
    with np.errstate(divide="ignore"):
        turn_end = HALF_LENGTH / (r * np.abs(steep))
    barrel = (2 * r >= RADIUS) & (turn_barrel <= turn_end)
    turn = np.where(barrel, turn_barrel, np.where(np.isfinite(turn_end), turn_end, np.pi))
    across = 2 * r * np.sin(turn / 2)
    along = np.where(barrel, r * turn * steep, np.sign(steep) * HALF_LENGTH)
    eta = np.arcsinh(along / np.maximum(np.abs(across), 1e-6))
    phi = wrap(particles.phi - np.sign(particles.charge) * turn / 2 + np.where(across < 0, np.pi, 0.0))
    return np.where(charged, eta, particles.eta), np.where(charged, phi, particles.phi)


def tracking_efficiency(particles: Particles) -> np.ndarray:
    """Probability of a track (particle,): 0 of neutral ones, up to pT = 0.1 GeV and beyond |eta| = 2.5."""
    pt, forward = particles.pt, np.abs(particles.eta) > 1.5
    soft, hard = pt <= 1.0, pt > 100.0

    def value(low: tuple[float, float], middle: tuple[float, float], high: tuple[float, float]) -> np.ndarray:
        barrel = np.where(soft, low[0], np.where(hard, high[0], middle[0]))
        return np.where(forward, np.where(soft, low[1], np.where(hard, high[1], middle[1])), barrel)

    muon = value((0.75, 0.70), (0.99, 0.98), (0.99, 0.98)) * np.exp(np.minimum(0.5 - 5e-4 * pt, 0.0))
    found = np.select(
        [particles.identity == ELECTRON, particles.identity == MUON],
        [value((0.73, 0.50), (0.95, 0.83), (0.99, 0.90)), muon],
        value((0.70, 0.60), (0.95, 0.85), (0.95, 0.85)),
    )
    seen = (particles.charge != 0) & (pt > 0.1) & (np.abs(particles.eta) <= TRACKER_ETA)
    return np.where(seen, found, 0.0)


def track_resolution(particles: Particles) -> np.ndarray:
    """Relative resolution of a track's pT (particle,), at most 1."""
    ring = np.digitize(np.abs(particles.eta), (0.5, 1.5), right=True)
    electron, muon = particles.identity == ELECTRON, particles.identity == MUON
    hadrons, electrons, muons = (0.06, 0.10, 0.25), (0.03, 0.05, 0.15), (0.01, 0.015, 0.025)
    constant = np.select([electron, muon], [np.take(electrons, ring), np.take(muons, ring)], np.take(hadrons, ring))
    slope = np.where(muon, np.take((1.0e-4, 1.5e-4, 3.5e-4), ring), np.take((1.3e-3, 1.7e-3, 3.1e-3), ring))
    return np.minimum(np.hypot(constant, slope * particles.pt), 1.0)


def log_normal(mean: np.ndarray, width: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Log-normal numbers with this mean and standard deviation, from standard normal ones; 0 where the mean is 0."""
    safe = np.where(mean > 0, mean, 1.0)
    square = np.log1p((width / safe) ** 2)
    return np.where(mean > 0, safe * np.exp(np.sqrt(square) * normal - square / 2), 0.0)


class Calorimeter(NamedTuple):
    """A calorimeter of towers.

    Attributes:
        edges: of the rings in eta (ring + 1,).
        cells: towers of each ring, equal in phi (ring,).
        resolution: sigma of the energy, (eta, energy in GeV) -> GeV.
        energy_min: GeV; less is not seen.
        significance: energies below so many sigma are not seen.
    """

    edges: np.ndarray
    cells: np.ndarray
    resolution: Callable[[np.ndarray, np.ndarray], np.ndarray]
    energy_min: float
    significance: float

    def tower(self, eta: np.ndarray, phi: np.ndarray) -> np.ndarray:
        """The tower at eta, phi; -1 beyond the last ring."""
        ring = np.searchsorted(self.edges, eta) - 1
        inside = (ring >= 0) & (ring < len(self.cells))
        ring = np.clip(ring, 0, len(self.cells) - 1)
        cells = self.cells[ring]
        column = np.minimum(((phi + np.pi) / (2 * np.pi) * cells).astype(int), cells - 1)
        return np.where(inside, self._first[ring] + column, -1)

    @property
    def _first(self) -> np.ndarray:
        return np.cumsum(self.cells) - self.cells

    @property
    def towers(self) -> int:
        """Number of towers."""
        return int(self.cells.sum())

    def bounds(self, tower: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Lower eta, upper eta, lower phi and width in phi of towers."""
        ring = np.searchsorted(self._first, tower, side="right") - 1
        width = 2 * np.pi / self.cells[ring]
        return self.edges[ring], self.edges[ring + 1], (tower - self._first[ring]) * width - np.pi, width


def _rings(positive: np.ndarray) -> np.ndarray:
    """Edges on both sides of zero from those on one."""
    return np.concatenate([-positive[::-1], [0.0], positive])


def _ecal_resolution(eta: np.ndarray, energy: np.ndarray) -> np.ndarray:
    eta = np.abs(eta)
    near = np.sqrt((0.008 * energy) ** 2 + 0.11**2 * energy + 0.40**2)
    shape = np.where(eta <= 1.5, 1 + 0.64 * eta**2, 2.16 + 5.6 * (eta - 2) ** 2)
    return np.where(eta <= 2.5, shape * near, np.sqrt((0.107 * energy) ** 2 + 2.08**2 * energy))


def _hcal_resolution(eta: np.ndarray, energy: np.ndarray) -> np.ndarray:
    near = np.sqrt((0.050 * energy) ** 2 + 1.50**2 * energy)
    return np.where(np.abs(eta) <= 3, near, np.sqrt((0.130 * energy) ** 2 + 2.70**2 * energy))


_FORWARD = np.array([3.125, 3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525, 4.7, 5.0])
_ECAL_EDGES = _rings(np.concatenate([0.0174 * np.arange(1, 171), _FORWARD]))
_ENDCAP = np.array([1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95])
_HCAL_EDGES = _rings(np.concatenate([0.087 * np.arange(1, 20), _ENDCAP, _FORWARD]))


def _cells(edges: np.ndarray, numbers: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return numbers(np.abs(edges[1:] + edges[:-1]) / 2)


ECAL = Calorimeter(
    _ECAL_EDGES, _cells(_ECAL_EDGES, lambda eta: np.where(eta < 2.958, 360, 36)), _ecal_resolution, 0.5, 2.0
)
HCAL = Calorimeter(
    _HCAL_EDGES,
    _cells(_HCAL_EDGES, lambda eta: np.select([eta < 1.653, eta < 4.525], [72, 36], 18)),
    _hcal_resolution,
    1.0,
    1.0,
)
"""Electromagnetic and hadronic calorimeter of the card."""


def ecal_fraction(identity: np.ndarray) -> np.ndarray:
    """Fraction of a particle's energy in the electromagnetic calorimeter, by |PDG id|."""
    return np.select([np.isin(identity, (ELECTRON, PHOTON, PI_ZERO)), np.isin(identity, LONG_LIVED)], [1.0, 0.3], 0.0)


def hcal_fraction(identity: np.ndarray) -> np.ndarray:
    """Fraction in the hadronic calorimeter; muons leave none."""
    return np.where(identity == MUON, 0.0, 1.0 - ecal_fraction(identity))


def energy_flow(
    calorimeter: Calorimeter,
    collision: np.ndarray,
    place: tuple[np.ndarray, np.ndarray],
    deposit: np.ndarray,
    track: np.ndarray,
    track_sigma: np.ndarray,
    smearing: np.random.Generator,
    positions: np.random.Generator,
) -> tuple[Objects, np.ndarray]:
    """Neutral objects of a calorimeter, and the factor on the momentum of each particle's track.

    Args:
        calorimeter: ECAL or HCAL.
        collision: of each particle (particle,), in order.
        place: eta and phi of each particle at the calorimeter.
        deposit: energy of each particle here, GeV.
        track: energy of each particle's track that belongs here, GeV; 0 where there is none.
        track_sigma: its uncertainty, GeV.
        smearing, positions: generators, of energies and of the place of a neutral object within its tower.
    """
    tower = calorimeter.tower(*place)
    rows = np.flatnonzero((tower >= 0) & ((deposit > 0) | (track > 0)))
    keys, where = np.unique(collision[rows].astype(np.int64) * calorimeter.towers + tower[rows], return_inverse=True)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(where, values[rows], len(keys))

    low, high, start, width = calorimeter.bounds(keys % calorimeter.towers)
    centre = (low + high) / 2
    true, charged, variance = total(deposit), total(track), total(track_sigma**2)
    energy = log_normal(true, calorimeter.resolution(centre, true), smearing.standard_normal(len(keys)))
    sigma = calorimeter.resolution(centre, energy)
    energy = np.where((energy < calorimeter.energy_min) | (energy < calorimeter.significance * sigma), 0.0, energy)

    excess = np.maximum(energy - charged, 0.0)
    spread = np.sqrt(variance + sigma**2)
    neutral = (excess > calorimeter.energy_min) & (excess > calorimeter.significance * spread)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight_track = np.where(variance > 0, 1 / variance, 0.0)
        weight_tower = np.where(sigma > 0, 1 / sigma**2, 0.0)
        best = (weight_track * charged + weight_tower * energy) / (weight_track + weight_tower)
        factor = np.where(neutral | (charged <= 0) | ~np.isfinite(best), 1.0, best / charged)

    at = positions.random((len(keys), 2))
    eta, phi = low + at[:, 0] * (high - low), start + at[:, 1] * width
    found = Objects(keys[neutral] // calorimeter.towers, excess[neutral], eta[neutral], phi[neutral])
    factors = np.ones(len(collision))
    factors[rows] = np.where(track[rows] > 0, factor[where], 1.0)
    return found, factors
