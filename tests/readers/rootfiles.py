"""Self-made NanoAOD-like files: the same collisions as TTree and as RNTuple, and what a reader must find in them."""

import json
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

MAP = {
    "kind": "root",
    "tree": "Events",
    "y": {"pt": "Jet_pt", "eta": "Jet_eta", "phi": "Jet_phi", "mass": "Jet_mass"},
    "x": {"pt": "GenJet_pt", "eta": "GenJet_eta", "phi": "GenJet_phi", "mass": "GenJet_mass"},
    "match": "Jet_genJetIdx",
    "weight": "genWeight",
    "x_pt_min": 30.0,
    "y_pt_min": 15.0,
}


def read_job(read=MAP, truth=True, shard=0, simulator=None, split="train"):
    return json.dumps(
        {
            "seed": 0,
            "problem": "jets",
            "kind": "unfolding",
            "simulator": simulator or {},
            "family": "f",
            "split": split,
            "read": read,
            "first_file": shard,
            "truth": truth,
        }
    )


def collisions(n=60, seed=4):
    """Branches of n collisions with 0 to 6 truth jets; most have a reconstructed jet near, a few jets are noise."""
    rng = np.random.default_rng(seed)
    truth, reco = [], []
    for _ in range(n):
        k = rng.integers(0, 7)
        x = np.column_stack(
            [rng.exponential(40, k) + 12, rng.normal(0, 1.5, k), rng.uniform(-3.14, 3.14, k), rng.exponential(6, k)]
        )
        found = [
            (
                pt * rng.normal(0.95, 0.1),
                eta + rng.normal(0, 0.05),
                np.angle(np.exp(1j * (phi + rng.normal(0, 0.05)))),
                m,
                i,
            )
            for i, (pt, eta, phi, m) in enumerate(x)
            if rng.random() < 0.9
        ]
        found += [(rng.exponential(15) + 10, rng.normal(0, 2), rng.uniform(-3.14, 3.14), 2.0, -1)] * int(
            rng.integers(0, 2)
        )
        truth.append(x)
        reco.append(sorted(found, key=lambda jet: -jet[0]))

    def column(events, i, dtype=np.float32):
        return ak.values_astype(ak.Array([[float(jet[i]) for jet in event] for event in events]), dtype)

    names = ("pt", "eta", "phi", "mass")
    return {
        **{f"GenJet_{name}": column(truth, i) for i, name in enumerate(names)},
        **{f"Jet_{name}": column(reco, i) for i, name in enumerate(names)},
        "Jet_genJetIdx": column(reco, 4, np.int32),
        "genWeight": rng.normal(1, 0.2, n).astype(np.float32),
    }


def write(path: Path, branches: dict, kind: str = "TTree", tree: str = "Events") -> Path:
    """Branches as a TTree or an RNTuple. Each list has its own counter, as readers must allow."""
    with uproot.recreate(path) as file:
        (file.mktree if kind == "TTree" else file.mkrntuple)(tree, branches)
    return path


def wanted_pairs(branches: dict, radius: float | None, x_pt_min=30.0, y_pt_min=15.0):
    """(entry, reconstructed, truth) of each event, by plain loops: by index when radius is None, else nearest first."""
    b = {name: values.tolist() for name, values in branches.items()}
    pairs = []
    for entry, reco_pt in enumerate(b["Jet_pt"]):
        mine = []
        if radius is None:
            mine = [(j, t) for j, t in enumerate(b["Jet_genJetIdx"][entry]) if t >= 0]
            mine = [(j, t) for j, t in mine if reco_pt[j] >= y_pt_min and b["GenJet_pt"][entry][t] >= x_pt_min]
        else:
            candidates = []
            for j in range(len(reco_pt)):
                for t in range(len(b["GenJet_pt"][entry])):
                    if reco_pt[j] >= y_pt_min and b["GenJet_pt"][entry][t] >= x_pt_min:
                        d = _delta_r(b, entry, j, t)
                        if d < radius:
                            candidates.append((d, j, t))
            used_j, used_t = set(), set()
            for _, j, t in sorted(candidates):
                if j not in used_j and t not in used_t:
                    mine.append((j, t))
                    used_j.add(j)
                    used_t.add(t)
        pairs += [(entry, j, t) for j, t in sorted(mine)]
    return pairs


def _rapidity(pt, eta, mass):
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    pz = pt * np.sinh(eta)
    return 0.5 * np.log((energy + pz) / (energy - pz))


def _delta_r(b, entry, j, t):
    a = _rapidity(*(b[f"Jet_{name}"][entry][j] for name in ("pt", "eta", "mass")))
    c = _rapidity(*(b[f"GenJet_{name}"][entry][t] for name in ("pt", "eta", "mass")))
    turn = abs(b["Jet_phi"][entry][j] - b["GenJet_phi"][entry][t])
    return np.hypot(a - c, min(turn, 2 * np.pi - turn))
