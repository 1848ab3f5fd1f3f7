"""Proton collisions by Pythia 8, jets by fastjet, a smearing detector, written as a ROOT file like NanoAOD.

Collisions come in random blocks. One Pythia instance makes all blocks of a shard: its generator is re-seeded from the
block's address before each block, and its other state does not depend on earlier collisions
(``PhaseSpace:increaseMaximum`` is off), so that a block is reproducible in any shard. Truth jets are anti-kt jets
(Cacciari, Salam, Soyez,
0802.1189) of all visible final particles; prompt electrons and muons, photons radiated from them, and all neutrinos
are excluded.
"""

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pullback.core.atomic import atomic
from pullback.core.joblog import progress
from pullback.core.optional import require
from pullback.core.seeding import generator, integer_seed
from pullback.simulators import detector
from pullback.simulators.collider_settings import UnfoldingParams, UnfoldingSimulator

log = logging.getLogger("pullback")

ETA_MAX = 4.5
"""|eta| of truth jets; reconstructed jets have the same limit."""
TREE = "Events"
EVENT_BITS = 20
"""The event number is ``block << EVENT_BITS | number in the block``."""
WRITE_COLLISIONS = 20_000

_TAU0_MAX = 10.0
PROCESSES: dict[str, tuple[str, ...]] = {
    "ttbar": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
    "wjets": (
        "WeakBosonAndParton:qqbar2Wg = on",
        "WeakBosonAndParton:qg2Wq = on",
        "24:onMode = off",
        "24:onIfMatch = 13 14",
    ),
    "zjets": (
        "WeakBosonAndParton:qqbar2gmZg = on",
        "WeakBosonAndParton:qg2gmZq = on",
        "23:onMode = off",
        "23:onIfMatch = 13 13",
        "PhaseSpace:mHatMin = 40",
    ),
    "dijets": ("HardQCD:all = on",),
    "leptoquarks": ("LeptoQuark:gg2LQLQbar = on", "LeptoQuark:qqbar2LQLQbar = on"),
}
"""Pythia switches of each hard process (W -> mu nu, Z/gamma* -> mu mu with a mass of at least 40 GeV)."""


class ColliderError(ValueError):
    """Settings with which Pythia cannot run, or a job whose collisions cannot be numbered."""


def settings(simulator: UnfoldingSimulator, params: UnfoldingParams) -> list[str]:
    """Every Pythia setting of one prior, in the order in which Pythia reads them."""
    lines = [
        "Print:quiet = on",
        "Beams:idA = 2212",
        "Beams:idB = 2212",
        f"Beams:eCM = {simulator.energy:g}",
        f"Tune:pp = {simulator.tune}",
        f"PartonLevel:MPI = {'on' if simulator.multi_parton_interactions else 'off'}",
        f"PhaseSpace:pTHatMin = {params.pt_hat_min:g}",
        "PhaseSpace:increaseMaximum = off",
        "ParticleDecays:limitTau0 = on",
        f"ParticleDecays:tau0Max = {_TAU0_MAX:g}",
        # The search for the maximal cross-section uses random numbers too: the same in every job.
        "Random:setSeed = on",
        "Random:seed = 1",
    ]
    if params.process == "leptoquarks":
        lines.append(f"42:m0 = {params.mass:g}")
    return lines + list(PROCESSES[params.process])


def start_pythia(simulator: UnfoldingSimulator, params: UnfoldingParams) -> Any:
    """An initialised Pythia instance for one prior.

    Raises:
        ColliderError: Pythia does not take a setting, or finds no phase space for it.
    """
    pythia8mc = require("pythia8mc", "collider")
    pythia = pythia8mc.Pythia("", False)
    for line in settings(simulator, params):
        if not pythia.readString(line):
            raise ColliderError(
                f"Pythia does not take the setting '{line}'; correct it in the study's simulator or params"
            )
    if not pythia.init():
        mass = f" and mass {params.mass:g} GeV" if params.process == "leptoquarks" else ""
        raise ColliderError(
            f"Pythia could not start {params.process} at {simulator.energy:g} GeV with pt_hat_min {params.pt_hat_min:g}"
            f" GeV{mass}; the cuts may leave no phase space: lower them or raise the energy (its own words are logged)"
        )
    return pythia


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


def make_block(
    pythia: Any, simulator: UnfoldingSimulator, address: tuple[str | int, ...], block: int, collisions: int
) -> dict[str, Any]:
    """The first ``collisions`` collisions of one random block, as branches of the ROOT file.

    Args:
        pythia: from :func:`start_pythia`.
        simulator: jet and detector settings.
        address: (study seed, problem, family, split).
        block: number of the block within the split.
        collisions: at most ``2**20``.
    """
    ak = require("awkward", "hep")
    pythia.rndm.init(1 + integer_seed(*address, "pythia", block, bits=29))  # Pythia takes seeds 1 to 900,000,000
    record = pythia.nextBatch(collisions)
    particles = record.prt
    truth = cluster(particles.p[visible(particles)], simulator.jet_radius, simulator.truth_pt_min)

    counts = ak.to_numpy(ak.num(truth))
    x = np.stack([ak.to_numpy(ak.flatten(truth[name])) for name in detector.TRUTH_FEATURES], axis=1)
    x = x.reshape(-1, 4).astype(np.float64)
    y = detector.smear(x, generator(*address, "detector", block))
    kept = detector.is_kept(y)
    jagged_kept = ak.unflatten(kept, counts)
    pt, eta, phi = (ak.unflatten(y[:, i], counts)[jagged_kept] for i in range(3))
    reco = ak.zip(
        {
            "pt": ak.values_astype(pt, np.float32),
            "eta": ak.values_astype(eta, np.float32),
            "phi": ak.values_astype(phi, np.float32),
            "mass": ak.values_astype(ak.zeros_like(pt), np.float32),
            "genJetIdx": ak.values_astype(ak.local_index(truth.pt)[jagged_kept], np.int32),
        }
    )
    reco = reco[ak.argsort(reco.pt, ascending=False)]
    number = np.arange(len(counts), dtype=np.int64) | (np.int64(block) << EVENT_BITS)
    return {
        "event": number,
        "genWeight": ak.to_numpy(record.info.weights[:, 0]).astype(np.float32),
        "GenJet": ak.values_astype(truth, np.float32),
        "Jet": reco,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """What C++ prints goes to the log instead of the terminal."""
    sys.stdout.flush()
    saved = os.dup(1)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 1)
        try:
            yield
        finally:
            sys.stdout.flush()
            os.dup2(saved, 1)
            os.close(saved)
            heard.seek(0)
            for line in heard.read().decode(errors="replace").splitlines():
                if line.strip(" #-|*"):
                    log.info("  %s", line.rstrip())


def collide(job: str, out: Path) -> None:
    """Make the collisions of one shard and write them as a ROOT file (TTree ``Events``).

    Branches: ``event`` (unique), ``genWeight``, ``GenJet_pt/eta/phi/mass`` (truth), ``Jet_pt/eta/phi/mass``
    (reconstructed, massless), ``Jet_genJetIdx`` (the truth jet of each reconstructed one). GeV and radians.

    Args:
        job: JSON of `Plan.simulate_job`; ``events`` and ``block`` count collisions.
        out: the ROOT file; it appears when it is complete.

    Raises:
        ColliderError: settings that Pythia does not take.
        pullback.core.optional.MissingExtraError: pythia8mc, fastjet, awkward or uproot is not installed.
    """
    for package in ("pythia8mc", "fastjet", "awkward", "uproot"):
        require(package, "collider")
    import awkward as ak
    import uproot

    task = json.loads(job)
    simulator = UnfoldingSimulator.model_validate(task["simulator"])
    params = UnfoldingParams.model_validate(task["params"])
    size, collisions = task["block"], task["events"]
    if size > 1 << EVENT_BITS:
        raise ColliderError(f"block: found {size}, wanted at most {1 << EVENT_BITS}; make it smaller")
    address = (task["seed"], task["problem"], task["family"], task["split"])
    blocks = [(task["first_block"] + i, min(size, collisions - i * size)) for i in range(-(-collisions // size))]

    log.info(
        "collide: %d collisions of %s, settings: %s", collisions, params.process, "; ".join(settings(simulator, params))
    )
    started = time.monotonic()
    truth_jets = reco_jets = made = 0
    with atomic(Path(out)) as temporary, _quiet(), uproot.recreate(temporary) as file:
        pythia = start_pythia(simulator, params)
        log.info("Pythia started in %.2f s", time.monotonic() - started)
        tree = file.mktree(TREE, _BRANCHES)
        waiting: list[dict[str, Any]] = []
        for block, count in progress(blocks, len(blocks), f"collide {task['family']} {task['split']} (blocks)"):
            waiting.append(make_block(pythia, simulator, address, block, count))
            if sum(len(part["event"]) for part in waiting) >= WRITE_COLLISIONS or block == blocks[-1][0]:
                joined = {name: ak.concatenate([part[name] for part in waiting]) for name in _BRANCHES}
                tree.extend(joined)
                made += len(joined["event"])
                truth_jets += int(ak.sum(ak.num(joined["GenJet"])))
                reco_jets += int(ak.sum(ak.num(joined["Jet"])))
                waiting = []
        cross_section = float(pythia.infoPython().sigmaGen())
        file["settings"] = json.dumps(
            {"pythia": settings(simulator, params), "job": task, "cross_section_mb": cross_section}, sort_keys=True
        )
    seconds = time.monotonic() - started
    log.info(
        "%s: %d collisions (%d asked), %d truth jets (%.3f per collision), %d reconstructed (%.4f of them); "
        "cross-section %.4g mb; %.0f collisions/s, %.0f jets/s",
        Path(out).name,
        made,
        collisions,
        truth_jets,
        truth_jets / max(made, 1),
        reco_jets,
        reco_jets / max(truth_jets, 1),
        cross_section,
        made / seconds,
        reco_jets / seconds,
    )


_BRANCHES = {
    "event": "int64",
    "genWeight": "float32",
    "GenJet": "var * {pt: float32, eta: float32, phi: float32, mass: float32}",
    "Jet": "var * {pt: float32, eta: float32, phi: float32, mass: float32, genJetIdx: int32}",
}
