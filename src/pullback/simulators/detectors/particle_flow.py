"""Level 2: tracks, towers and energy flow of particles, and jets of them: a parametrisation after the Delphes CMS card.

Its response depends on what a jet is made of, so p(y|x) is no function of the four features of a truth jet: it differs
between priors, and there is no likelihood.
"""

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from pullback.core.optional import require
from pullback.core.pairing import all_pairs, distance, pair_one_to_one
from pullback.simulators import energy_flow
from pullback.simulators.detector import PT_MIN
from pullback.simulators.detectors.base import Collisions, Detector, Reconstructed, Streams
from pullback.simulators.jets import cluster

_CLUSTER_PT_MIN = 2.0
"""GeV; the energy scale brings jets from 2.7 GeV on above 5 GeV."""


class ParticleFlow(Detector):
    """Tracks, calorimeter towers, energy flow and anti-kt jets, a parametrisation after the Delphes CMS card.

    Truth and reconstructed jets are paired one to one, the nearest in Delta R (rapidity and phi) first.
    """

    needs_particles: ClassVar[bool] = True

    migration_pt_min: float = Field(
        default=10.0, ge=5, description="GeV; truth jets from here on are recorded, those below `truth_pt_min` migrate"
    )
    match_radius: float = Field(default=0.4, gt=0, description="largest Delta R of a jet and its truth jet")
    jet_energy_scale: bool = Field(default=True, description="the card's factor sqrt((2.5 - 0.15 |eta|)^2 / pT + 1)")

    def truth_pt_min(self, fiducial: float) -> float:
        """GeV: truth jets from here on are made."""
        return min(self.migration_pt_min, fiducial)

    def reconstruct(self, collisions: Collisions, streams: Streams) -> Reconstructed:
        """The jets of tracks and neutral energies, with the truth jet of each."""
        particles = flat_particles(collisions.particles)
        place = energy_flow.at_calorimeter(particles)
        n, number = len(particles.pt), len(collisions.truth)
        track = streams("tracking efficiency").random(n) < energy_flow.tracking_efficiency(particles)
        relative = energy_flow.track_resolution(particles)
        smeared = energy_flow.log_normal(particles.pt, relative * particles.pt, streams("tracking").standard_normal(n))
        tracks = particles._replace(pt=smeared)
        objects = []
        for name, calorimeter, share in (
            ("ecal", energy_flow.ECAL, energy_flow.ecal_fraction(particles.identity)),
            ("hcal", energy_flow.HCAL, energy_flow.hcal_fraction(particles.identity)),
        ):
            here = np.where(track, tracks.energy * share, 0.0)
            neutral, factor = energy_flow.energy_flow(
                calorimeter,
                particles.collision,
                place,
                particles.energy * share,
                here,
                relative * here,
                streams(name),
                streams(f"{name} positions"),
            )
            objects.append(neutral)
            tracks = tracks._replace(pt=tracks.pt * factor)
        jets = self._jets(number, energy_flow.Particles(*(values[track] for values in tracks)), objects, collisions)
        return Reconstructed(*jets, self._match(number, *jets, collisions.truth))

    def _jets(
        self,
        number: int,
        tracks: energy_flow.Particles,
        objects: list[energy_flow.Objects],
        collisions: Collisions,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Collision (jet,) and pt, eta, phi, mass (jet, 4) of the jets, from pT = 5 GeV on."""
        ak = require("awkward", "hep")
        pt = np.concatenate([tracks.pt, *(each.energy / np.cosh(each.eta) for each in objects)])
        eta, phi, collision = (
            np.concatenate([getattr(tracks, name), *(getattr(each, name) for each in objects)])
            for name in ("eta", "phi", "collision")
        )
        energy = np.concatenate([tracks.energy, *(each.energy for each in objects)])
        order = np.argsort(collision, kind="stable")
        momenta = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta), "e": energy}
        flat = ak.zip({name: values[order] for name, values in momenta.items()})
        jets = cluster(ak.unflatten(flat, np.bincount(collision, minlength=number)), collisions.radius, _CLUSTER_PT_MIN)
        of = np.repeat(np.arange(number), ak.to_numpy(ak.num(jets)))
        found = np.stack([ak.to_numpy(ak.flatten(jets[name])) for name in ("pt", "eta", "phi", "mass")], axis=1)
        if self.jet_energy_scale:
            scale = np.sqrt((2.5 - 0.15 * np.abs(found[:, 1])) ** 2 / found[:, 0] + 1)
            found[:, 0] *= scale
            found[:, 3] *= scale
        keep = found[:, 0] >= PT_MIN
        return of[keep], found[keep]

    def _match(self, number: int, collision: np.ndarray, jets: np.ndarray, truth: Any) -> np.ndarray:
        """The truth jet of each reconstructed one within its collision (jet,), -1 for none."""
        ak = require("awkward", "hep")
        counts = ak.to_numpy(ak.num(truth))
        x = np.stack([ak.to_numpy(ak.flatten(truth[name])) for name in ("pt", "eta", "phi", "mass")], axis=1)
        a, b = all_pairs(np.bincount(collision, minlength=number), counts)
        apart = distance(jets[a], x.reshape(-1, 4)[b])
        near = apart < self.match_radius
        a, b = a[near], b[near]
        taken = pair_one_to_one(a, b, apart[near])
        index = np.full(len(jets), -1)
        index[a[taken]] = b[taken] - (np.cumsum(counts) - counts)[collision[a[taken]]]
        return index


def flat_particles(particles: Any) -> energy_flow.Particles:
    """Flat particles of an awkward array (collision, particle) with px, py, pz, e, id and charge."""
    ak = require("awkward", "hep")
    px, py, pz, e, identity, charge = (
        ak.to_numpy(ak.flatten(particles[name])).astype(np.float64) for name in ("px", "py", "pz", "e", "id", "charge")
    )
    pt = np.maximum(np.hypot(px, py), 1e-9)
    return energy_flow.Particles(
        np.repeat(np.arange(len(particles)), ak.to_numpy(ak.num(particles.px))),
        pt,
        np.arcsinh(pz / pt),
        np.arctan2(py, px),
        np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 0.0)),
        np.abs(identity).astype(np.int64),
        charge,
    )
