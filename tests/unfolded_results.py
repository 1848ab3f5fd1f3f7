"""Results of a made-up study for the tests of exports: jets in collisions, a posterior, unfolded distributions."""

import json
from pathlib import Path

import h5py
import numpy as np

from pullback.ensembles.acceptance import Missed
from pullback.ensembles.fields import Field
from pullback.ensembles.posterior_store import PosteriorWriter
from pullback.ensembles.store import EnsembleReader, EnsembleWriter, index_ensemble
from pullback.ensembles.unfolded import Bins, Unfolded, write_unfolded
from pullback.methods.base import PosteriorSamples

X = Field.vector("x", ("pt", "eta"), ("GeV", "1"))
Y = Field.vector("y", ("pt",), ("GeV",))
ENSEMBLE = "results/jets/ensembles/hep/data/test.h5"
POSTERIOR = "results/jets/posteriors/hep/ei-fm/default/seed-1/data.h5"
PLAIN = "results/jets/posteriors/hep/cfm/default/seed-1/data.h5"
"""The same without purity and efficiency."""
DISTRIBUTION = "results/jets/unfolded/hep/omnifold/default/seed-1/data.h5"
BINNED = "results/jets/unfolded/hep/ibu/default/seed-1/data.h5"
BUDGET = "results/jets/uncertainties/hep.h5"
BUDGET_EDGES = {"pt": np.array([30.0, 50.0, 80.0, 200.0]), "eta": np.array([-3.0, 0.0, 3.0])}
EVENTS, DRAWS, TRUTHS, REPLICAS = 40, 3, 500, 30
READ = {"kind": "root", "y": {"pt": "Jet_pt"}, "weight": "genWeight", "y_pt_min": 5}
EDGES = np.array([30.0, 50.0, 80.0, 120.0, 200.0])


def job(method: str) -> str:
    """The job of an inference, as far as exports read it."""
    made = {"address": [2026, "hep", method, 1], "infer_name": "default", "infer": {"draws": DRAWS}, "family": "data"}
    return json.dumps({**made, "method": {"kind": method}, "inputs": {}})


def write_results(folder: Path) -> None:
    """Write them below a folder, which must be the working directory."""
    rng = np.random.default_rng(3)
    x = np.column_stack([rng.exponential(40, EVENTS) + 30, rng.normal(size=EVENTS)]).astype(np.float32)
    y = x[:, :1] * 0.9
    # Collisions of one to three jets, from two files.
    group = np.sort(rng.integers(0, 20, EVENTS))
    shards = []
    for i, rows in enumerate((slice(0, 25), slice(25, EVENTS))):
        shards.append(folder / f"results/jets/ensembles/hep/data/test/{i}.h5")
        made = {"spec": json.dumps({"read": READ, "files": [f"run{i}.root"], "simulator": {}})}
        generated = {"cross_section_mb": 1e-6, "cross_section_error_mb": 1e-8, "collisions": 30, "sum_of_weights": 33.0}
        made |= {"attributes": {"source_files": json.dumps([f"run{i}.root"]), **generated}}
        kinds = {"weight": "float64", "source_entry": "int64", "source_index": "int32"}
        with EnsembleWriter(shards[-1], x=X, y=Y, columns=kinds, **made) as writer:
            number = np.arange(EVENTS)[rows]
            columns = {
                "weight": rng.uniform(0.5, 2, len(number)),
                "source_entry": group[rows],
                "source_index": number % 3,
            }
            writer.append(y[rows], number + 100, x=x[rows], group=group[rows], **columns)
            writer.append_missed(Missed(x[rows][:3] + 1, np.ones(3), group[rows][:3]))
    names = {"study": "jets", "problem": "hep", "family": "data", "split": "test"}
    index_ensemble(json.dumps(names), shards, folder / ENSEMBLE)
    with EnsembleReader(ENSEMBLE) as events:
        made = {"ensemble": events, "ensemble_name": ENSEMBLE, "attributes": {"returns": "approximate"}}
        draws = np.repeat(x[:, None], DRAWS, axis=1) + rng.normal(size=(EVENTS, DRAWS, 2)).astype(np.float32)
        ok = np.ones((EVENTS, DRAWS), bool)
        ok[3, 1] = ok[30] = False
        draws[~ok] = np.nan
        chances = rng.uniform(0.3, 1, EVENTS), np.where(ok, rng.uniform(0.3, 1, ok.shape), np.nan)
        samples = PosteriorSamples(draws, rng.normal(size=ok.shape), ok, {}, *chances)
        for path, acceptance in ((POSTERIOR, ("purity", "efficiency")), (PLAIN, ())):
            kept = {"x": X, "draws": DRAWS, "spec": job("ei-fm"), "acceptance": acceptance}
            with PosteriorWriter(folder / path, **kept, **made) as writer:
                writer.append(samples, events.read("event_id"))
                writer.finish({}, {})
        truths = np.column_stack([rng.exponential(40, TRUTHS) + 30, rng.normal(size=TRUTHS)]).astype(np.float32)
        weight = rng.uniform(0, 2, TRUTHS)[:, None] * rng.poisson(1.0, (TRUTHS, REPLICAS + 1))
        weight[::7, 0] *= -0.1
        kept = [events, job("omnifold"), {}, {}, {"returns": "approximate"}]
        write_unfolded(folder / DISTRIBUTION, Unfolded(truths, weight), X, *kept)
        spread = rng.normal(size=(4, 4))
        bins = {"pt": Bins(EDGES, np.array([90.0, 70.0, 40.0, 5.0]), spread @ spread.T)}
        kept[1] = job("ibu")
        write_unfolded(folder / BINNED, Unfolded(bins=bins), X, *kept)
    spread = rng.normal(size=(3, 9, 5))
    (folder / BUDGET).parent.mkdir()
    with h5py.File(folder / BUDGET, "w") as file:
        file.attrs.update(study="jets", problem="hep", method="omnifold", infer="default")
        group = file.create_group("data")
        group.attrs["features"] = list(BUDGET_EDGES)
        for name, edges in BUDGET_EDGES.items():
            group[f"edges/{name}"] = edges
        group["content"] = np.ones(5)
        for name, each in zip(("data", "process", "seeds"), spread, strict=True):
            group[f"covariance/{name}"] = each.T @ each
        group["covariance/total"] = np.einsum("sri,srj->ij", spread, spread)
