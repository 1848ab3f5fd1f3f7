"""Truth particles and anti-kt jets of Pythia's event records.

Jets are anti-kt jets (Cacciari, Salam, Soyez, 0802.1189). Truth jets are of all visible final particles; prompt
electrons and muons, photons radiated from them, and all neutrinos are excluded.
"""

from typing import Any

import numpy as np

from pullback.core.optional import require

ETA_MAX = 4.5
"""|eta| of truth jets; reconstructed jets have the same limit."""


def visible(particles: Any) -> Any:
    """Which particles (event, particle) of Pythia's event records enter truth jets, as a jagged mask.

    Final particles without neutrinos, prompt electrons and muons (those not from a hadron or a photon), and photons
    radiated by prompt leptons. A lepton from a tau is prompt when the tau is.
    """
    ak = require("awkward", "hep")
    counts = ak.to_numpy(ak.num(particles.id))
    start = np.repeat(np.cumsum(counts) - counts, counts)
    flat = ak.flatten(particles[["id", "status", "mother1"]])
    identity = np.abs(ak.to_numpy(flat.id))
    status = ak.to_numpy(flat.status)
    mother = start + ak.to_numpy(flat.mother1)
    final = status > 0

    lepton = final & np.isin(identity, (11, 13))
    photon = final & (identity == 22) & (status < 80)  # 81 and above: hadronisation and decays
    suspects = np.flatnonzero(lepton | photon)
    ancestor = mother[suspects]
    while (same := (identity[ancestor] == identity[suspects]) | (identity[ancestor] == 15)).any():
        ancestor = np.where(same, mother[ancestor], ancestor)
    origin = identity[ancestor]
    from_hadron_or_photon = ((origin > 100) & (origin < 1_000_000)) | (origin == 22)
    prompt = np.where(identity[suspects] == 22, np.isin(origin, (11, 13)), ~from_hadron_or_photon)

    keep = final & ~np.isin(identity, (12, 14, 16))
    keep[suspects[prompt]] = False
    return ak.unflatten(keep, counts)


def cluster(particles: Any, radius: float, pt_min: float) -> Any:
    """Anti-kt jets: pt, eta, phi, mass (event, jet), pT falling, of momenta px, py, pz, e (event, particle).

    Jets beyond |eta| = 4.5 are left out. Masses of single particles that rounding made negative are zero.
    """
    ak = require("awkward", "hep")
    fastjet = require("fastjet", "collider")
    momenta = ak.zip({"px": particles.px, "py": particles.py, "pz": particles.pz, "E": particles.e})
    momenta = ak.with_name(momenta, "Momentum4D")
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    jets = fastjet.ClusterSequence(momenta, definition).inclusive_jets(min_pt=pt_min)
    transverse = np.hypot(jets.px, jets.py)
    jets = ak.zip(
        {
            "pt": transverse,
            "eta": np.arcsinh(jets.pz / transverse),
            "phi": np.arctan2(jets.py, jets.px),
            "mass": np.sqrt(np.maximum(jets.E**2 - transverse**2 - jets.pz**2, 0.0)),
        }
    )
    jets = jets[(jets.pt >= pt_min) & (np.abs(jets.eta) <= ETA_MAX)]
    return jets[ak.argsort(jets.pt, ascending=False)]


def with_charge(pythia: Any, particles: Any) -> Any:
    """Momenta px, py, pz, e, the PDG id and the charge of particles (collision, particle)."""
    ak = require("awkward", "hep")
    identity = ak.to_numpy(ak.flatten(particles.id))
    known, which = np.unique(identity, return_inverse=True)
    charges = np.array([pythia.particleData.charge(int(each)) for each in known], np.float64)
    charge = ak.unflatten(charges[which], ak.num(particles.id))
    momenta = {name: particles.p[name] for name in ("px", "py", "pz", "e")}
    return ak.zip({**momenta, "id": particles.id, "charge": charge})
