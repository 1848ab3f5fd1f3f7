"""Reading jets of ROOT files into an ensemble, beside plain uproot + awkward reading of the same columns."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

COLLISIONS, STEP = 100_000, 20_000
FEATURES = ("pt", "eta", "phi", "mass")
READ = {"kind": "root", "preset": "nanoaod", "y_pt_min": 15.0}


def collisions(n: int, rng: np.random.Generator) -> dict[str, object]:
    """Branches of n collisions with 4 truth jets on average, of which 9 in 10 are reconstructed."""
    import awkward as ak

    counts = rng.poisson(4, n)
    jets = int(counts.sum())
    pt = rng.exponential(40, jets).clip(0, 500) + 25
    truth = np.stack([pt, rng.normal(0, 1.5, jets).clip(-4, 4), rng.uniform(-3, 3, jets), rng.exponential(6, jets)])
    found = rng.random(jets) < 0.9
    reco = truth[:, found] + rng.normal(0, 0.03, (4, int(found.sum()))) * [[0], [1], [1], [0]]
    reco[0] *= rng.normal(0.95, 0.1, reco.shape[1]).clip(0.3)
    entry = np.repeat(np.arange(n), counts)
    place = np.arange(jets) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.bincount(entry[found], minlength=n)
    return {
        **{f"GenJet_{name}": ak.unflatten(v.astype("f4"), counts) for name, v in zip(FEATURES, truth, strict=True)},
        **{f"Jet_{name}": ak.unflatten(v.astype("f4"), kept) for name, v in zip(FEATURES, reco, strict=True)},
        "Jet_genJetIdx": ak.unflatten(place[found].astype("i4"), kept),
        "genWeight": rng.normal(1, 0.1, n),
    }


def write(path: Path, kind: str, compression: object, n: int = COLLISIONS, step: int = STEP) -> None:
    """The same collisions as a TTree or an RNTuple, in baskets or clusters of some entries."""
    import uproot

    rng = np.random.default_rng(0)
    with uproot.recreate(path, compression=compression) as file:
        tree = None
        for _ in range(0, n, step):
            branches = collisions(step, rng)
            if tree is None:
                tree = (file.mktree if kind == "TTree" else file.mkrntuple)("Events", branches)
            else:
                tree.extend(branches)


def job() -> str:
    """The text of a job that reads such a file."""
    task = {"seed": 0, "problem": "jets", "kind": "unfolding", "simulator": {}, "family": "f", "split": "train"}
    return json.dumps({**task, "read": READ, "first_file": 0, "truth": True})


def write_plainly(found: Path, out: Path) -> Callable[[], None]:
    """What writes the arrays of a file again, in one call each, with HDF5's checksums and the digest of the content."""
    import h5py

    with h5py.File(found) as file:
        kept = {name: data for name, data in file.items() if data.ndim and not data.is_scale and data.chunks}
        arrays = {name: (data[()], data.chunks) for name, data in kept.items()}

    def write_again() -> None:
        with h5py.File(out, "w") as file:
            for name, (array, chunks) in arrays.items():
                file.create_dataset(name, data=array, chunks=chunks, fletcher32=True)
                hashlib.sha256(array)

    return write_again


def root_files(best: Callable[..., list[float]], say: Callable[..., None]) -> None:
    """ROOT to HDF5 against plain reading: files compressed as NanoAOD is (LZMA), and by fast zlib."""
    import uproot

    from pullback.problems.read import read
    from pullback.readers.presets import PRESETS

    preset = PRESETS["nanoaod"]
    columns = [*preset["y"].values(), *preset["x"].values(), preset["match"], preset["weight"]]
    with tempfile.TemporaryDirectory() as folder:
        for kind, name, compression in (
            ("TTree", "LZMA", uproot.LZMA(6)),
            ("RNTuple", "LZMA", uproot.LZMA(6)),
            ("TTree", "zlib", uproot.ZLIB(1)),
        ):
            path = Path(folder) / f"{kind}-{name}.root"
            write(path, kind, compression)

            def plain(path: Path = path) -> None:
                with uproot.open(path) as file:
                    for column in columns:
                        file["Events"][column].array()

            def ours(path: Path = path) -> None:
                out = path.with_suffix(".h5")
                out.unlink(missing_ok=True)
                read(job(), [path], [], out)

            ours()
            write_again = write_plainly(path.with_suffix(".h5"), path.with_suffix(".plain.h5"))
            theirs, written, found = best(plain, write_again, ours, rounds=3)
            say(f"ROOT to HDF5: {kind}, {name}", found, theirs, "s", "uproot + awkward, same columns")
            # No selection, matching, units or check: what the ratio cannot be below.
            say("  the same columns read, and written as HDF5", theirs + written, theirs, "s", "the same")
