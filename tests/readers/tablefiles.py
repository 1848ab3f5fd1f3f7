"""Tables of events in each format, and the study's blocks that read them."""

import json

import awkward as ak
import numpy as np
import uproot

from pullback.ensembles.store import EnsembleReader
from pullback.problems.read import read

FEATURES = {
    "x": {
        "pt": {"units": "GeV", "transform": "log"},
        "eta": {},
        "phi": {"units": "rad", "transform": "periodic"},
        "mass": {"units": "GeV", "transform": "log1p"},
    },
    "y": {"pt": {"units": "GeV"}, "eta": {}, "phi": {"units": "rad", "transform": "periodic"}},
}


def job(reader, simulator=FEATURES, truth=True, split="train", kind="observables", number=0, **more):
    task = {"seed": 0, "problem": "p", "kind": kind, "simulator": simulator, "family": "f", "split": split}
    return json.dumps({**task, "read": {"kind": "table", **reader}, "first_file": number, "truth": truth, **more})


def events(tmp_path, reader, source, **more):
    """What a file gives: columns of all events, fakes, misses and attributes."""
    out = tmp_path / "read.h5"
    read(job(reader, **more), [source], [], out)
    with EnsembleReader(out) as ensemble:
        found = {name: ensemble.read(name) for name in ensemble.columns}
        found |= {"fake": ensemble.fake(), "missed": ensemble.missed, "attributes": dict(ensemble.attributes)}
    out.unlink()
    return found


def write(folder, columns, form, tree="Events", name="table"):
    """Columns, numbers (entry,) or lists (awkward), in a format."""
    if form in ("TTree", "RNTuple"):
        path = folder / f"{name}.{form}.root"
        with uproot.recreate(path) as file:
            (file.mktree if form == "TTree" else file.mkrntuple)(tree, columns)
        return path
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = folder / f"{name}.parquet"
        arrays = {key: ak.to_arrow(ak.Array(values), extensionarray=False) for key, values in columns.items()}
        pq.write_table(pa.table(arrays), path, row_group_size=17)
        return path
    path = folder / f"{name}.npz"
    (np.savez if form == "npz" else np.savez_compressed)(path, **{k: np.asarray(v) for k, v in columns.items()})
    return path
