"""Proton collisions by Pythia 8, jets by fastjet and a detector, written as a ROOT file like NanoAOD.

Collisions come in random blocks. One Pythia instance makes all blocks of a shard: its generator is re-seeded from the
block's address before each block, and its other state does not depend on earlier collisions
(``PhaseSpace:increaseMaximum`` is off), so that a block is reproducible in any shard.
"""

import json
import logging
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pullback.core.atomic import atomic
from pullback.core.joblog import progress
from pullback.core.optional import require
from pullback.core.seeding import generator, integer_seed
from pullback.simulators.collider_settings import JETS, UnfoldingParams, UnfoldingSimulator
from pullback.simulators.detectors.base import Collisions, Reconstructed
from pullback.simulators.generator import ColliderError, settings, start_pythia, variation_rows
from pullback.simulators.jets import cluster, visible, with_charge
from pullback.study.base import draw_parameters, numeric_parameters

log = logging.getLogger("pullback")

TREE = "Events"
EVENT_BITS = 20
"""The event number is ``block << EVENT_BITS | number in the block``."""
WRITE_COLLISIONS = 20_000


def make_block(
    pythia: Any, simulator: UnfoldingSimulator, address: tuple[str | int, ...], block: int, collisions: int
) -> dict[str, Any]:
    """The first ``collisions`` collisions of one random block, as branches of the ROOT file.

    Args:
        pythia: from `pullback.simulators.generator.start_pythia`.
        simulator: jet and detector settings.
        address: (study seed, problem, family, split).
        block: number of the block within the split.
        collisions: at most ``2**20``.
    """
    ak = require("awkward", "hep")
    pythia.rndm.init(1 + integer_seed(*address, "pythia", block, bits=29))  # Pythia takes seeds 1 to 900,000,000
    record = pythia.nextBatch(collisions)
    seen = record.prt[visible(record.prt)]
    detector = simulator.detector
    truth = cluster(seen.p, simulator.jet_radius, detector.truth_pt_min(simulator.truth_pt_min))
    particles = with_charge(pythia, seen) if detector.needs_particles else None
    found = detector.reconstruct(
        Collisions(truth, particles, simulator.jet_radius), lambda stage: generator(*address, stage, block)
    )

    number = np.arange(len(truth), dtype=np.int64) | (np.int64(block) << EVENT_BITS)
    weights = ak.to_numpy(record.info.weights)
    return {
        "event": number,
        "genWeight": weights[:, 0].astype(np.float32),
        **{
            f"weight_{name}": weights[:, row].astype(np.float32)
            for name, row in zip(simulator.shower_variations, variation_rows(pythia, simulator), strict=True)
        },
        "GenJet": ak.values_astype(truth, np.float32),
        "Jet": _by_pt(found, len(truth)),
    }


def _by_pt(found: Reconstructed, collisions: int) -> Any:
    """Reconstructed jets (collision, jet), pT falling."""
    ak = require("awkward", "hep")
    features = found.features.astype(np.float32)
    order = np.lexsort((-features[:, 0], found.collision))
    columns = dict(zip(("pt", "eta", "phi", "mass"), features[order].T, strict=True))
    flat = ak.zip({**columns, "genJetIdx": found.truth[order].astype(np.int32)})
    return ak.unflatten(flat, np.bincount(found.collision, minlength=collisions))


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


class _Table:
    """The table of collisions of a ROOT file that is being written.

    Args:
        file: of uproot.
        simulator: with the format and the shower variations.

    Attributes:
        tally: collisions and the sum of their weights, truth and reconstructed jets, and fakes.
    """

    def __init__(self, file: Any, simulator: UnfoldingSimulator):
        self.flat = simulator.format == "rntuple"
        scalars = simulator.scalars
        self.names = [*scalars, *JETS]
        jets: dict[str, str] = {name: f"var * {{{_fields(types)}}}" for name, types in JETS.items()}
        if self.flat:
            jets = {f"{name}_{key}": f"var * {kind}" for name, types in JETS.items() for key, kind in types.items()}
        self.table = (file.mkrntuple if self.flat else file.mktree)(TREE, {**scalars, **jets})
        self.waiting: list[dict[str, Any]] = []
        self.tally: dict[str, float] = defaultdict(float)

    def add(self, block: dict[str, Any]) -> None:
        """Add the collisions of a block; they are written when there are many."""
        ak = require("awkward", "hep")
        self.waiting.append(block)
        index = ak.flatten(block["Jet"].genJetIdx)
        self.tally["collisions"] += len(block["event"])
        self.tally["sum_of_weights"] += float(block["genWeight"].sum(dtype=np.float64))
        self.tally["truth"] += int(ak.sum(ak.num(block["GenJet"])))
        self.tally["reconstructed"] += int(ak.sum(index >= 0))
        self.tally["fakes"] += int(ak.sum(index < 0))
        if sum(len(each["event"]) for each in self.waiting) >= WRITE_COLLISIONS:
            self.flush()

    def flush(self) -> None:
        """Write the collisions that wait."""
        ak = require("awkward", "hep")
        if not self.waiting:
            return
        columns = {name: ak.concatenate([each[name] for each in self.waiting]) for name in self.names}
        if self.flat:  # An RNTuple of records names its fields otherwise than a TTree does.
            jets = {name: columns.pop(name) for name in JETS}
            columns |= {f"{name}_{key}": jets[name][key] for name, types in JETS.items() for key in types}
        self.table.extend(columns)
        self.waiting = []


def _fields(types: dict[str, str]) -> str:
    return ", ".join(f"{key}: {kind}" for key, kind in types.items())


def collide(job: str, out: Path) -> None:
    """Make the collisions of one shard and write them as a ROOT file (TTree or RNTuple ``Events``).

    Branches: ``event`` (unique), ``genWeight``, ``weight_<name>`` of each shower variation,
    ``GenJet_pt/eta/phi/mass`` (truth, from the detector's lowest pT on), ``Jet_pt/eta/phi/mass`` (reconstructed),
    ``Jet_genJetIdx`` (the truth jet of each reconstructed one, -1: a fake). GeV and radians. The object ``settings``
    holds the job, Pythia's settings, the cross-section with its error, and the number and sum of weights of the
    collisions, as JSON; of a sweep, in which each block is an ensemble, the parameters and cross-section of each.

    Args:
        job: JSON of `Plan.simulate_job`; ``events`` and ``block`` count collisions.
        out: the ROOT file; it appears when it is complete.

    Raises:
        ColliderError: settings that Pythia does not take.
        pullback.core.optional.MissingExtraError: pythia8mc, fastjet, awkward or uproot is not installed.
    """
    for package in ("pythia8mc", "fastjet", "awkward", "uproot"):
        require(package, "collider")
    import uproot

    task = json.loads(job)
    simulator = UnfoldingSimulator.model_validate(task["simulator"], context={"folder": task.get("folder", ".")})
    size, collisions = task["block"], task["events"]
    if size > 1 << EVENT_BITS:
        raise ColliderError(f"block: found {size}, wanted at most {1 << EVENT_BITS}; make it smaller")
    address = (task["seed"], task["problem"], task["family"], task["split"])
    blocks = [(task["first_block"] + i, min(size, collisions - i * size)) for i in range(-(-collisions // size))]
    started = time.monotonic()
    made: list[dict[str, Any]] = []
    with atomic(Path(out)) as temporary, _quiet(), uproot.recreate(temporary) as file:
        table = _Table(file, simulator)
        pythia, params = None, task["params"]
        for block, count in progress(blocks, len(blocks), f"collide {task['family']} {task['split']} (blocks)"):
            if task["sweep"]:  # Each block is an ensemble of its own prior.
                params = draw_parameters(task["params"], generator(*address, block, "theta"))
            if pythia is None or task["sweep"]:
                prior = UnfoldingParams.model_validate(params)
                pythia = start_pythia(simulator, prior)
                made.append({"params": params, "pythia": settings(simulator, prior), "first": block << EVENT_BITS})
                log.info("collide: %s", "; ".join(made[-1]["pythia"]))
            table.add(make_block(pythia, simulator, address, block, count))
            info = pythia.infoPython()
            made[-1] |= {"cross_section_mb": float(info.sigmaGen()), "cross_section_error_mb": float(info.sigmaErr())}
        table.flush()
        tally = {"collisions": int(table.tally["collisions"]), "sum_of_weights": table.tally["sum_of_weights"]}
        how = _sweep(task["params"], made) if task["sweep"] else made[0]
        file["settings"] = json.dumps({"job": task, **tally, **how}, sort_keys=True)
    seconds, found = time.monotonic() - started, table.tally
    log.info(
        "%s: %d collisions (%d asked), %d truth jets (%.3f per collision), %d reconstructed (%.4f of them), %d fakes; "
        "cross-section %s mb; %.0f collisions/s, %.0f jets/s",
        Path(out).name,
        found["collisions"],
        collisions,
        found["truth"],
        found["truth"] / max(found["collisions"], 1),
        found["reconstructed"],
        found["reconstructed"] / max(found["truth"], 1),
        found["fakes"],
        ", ".join(f"{each['cross_section_mb']:.4g}" for each in made[:3]) + (", ..." if made[3:] else ""),
        found["collisions"] / seconds,
        (found["reconstructed"] + found["fakes"]) / seconds,
    )


def _sweep(params: dict[str, Any], made: list[dict[str, Any]]) -> dict[str, Any]:
    """How the ensembles of a sweep were made: the names of parameters, and their values and cross-section of each."""
    names = numeric_parameters(params)
    columns = {key: [each[key] for each in made] for key in ("first", "cross_section_mb", "cross_section_error_mb")}
    return {"sweep": {"names": names, "theta": [[each["params"][name] for name in names] for each in made], **columns}}
