"""A small training and a small inference, for tests that stop them: the real drivers on files made here.

As a program it is one job, as a script of the workflow runs it: ``python small.py train cfm <folder>``.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pullback.ensembles.store import EnsembleWriter
from pullback.problems.gaussian import Gaussian
from pullback.study.base import canonical
from pullback.study.problems import GaussianSimulator

PROBLEM = Gaussian(GaussianSimulator())
STEPS = 1500
TRAIN = {"steps": STEPS, "sets": 4, "set_size": [8, 32], "validate_every": 300, "checkpoint_every": 100}
NETWORK = {"kind": "mlp", "width": 16, "depth": 2}
ENCODER = {"hidden": 8, "heads": 2, "inducing": 4}
METHODS: dict[str, dict[str, Any]] = {
    "cfm": {"kind": "cfm", "network": NETWORK},
    "ei-fm": {"kind": "ei-fm", "network": NETWORK, "k": 2, "set_encoder": ENCODER},
    "edm": {"kind": "edm", "network": NETWORK},
}


def write(path: Path, events: int, seed: int, ensembles: int = 0) -> Path:
    """Events of the Gaussian problem; a sweep of unequal ensembles when their number is given."""
    rng = np.random.default_rng(seed)
    x = PROBLEM.sample_prior(rng, events, {"gamma": 0.5})
    y, _ = PROBLEM.forward(x, rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    with EnsembleWriter(path, x=PROBLEM.x, y=PROBLEM.y, spec="{}") as writer:
        writer.append(y, np.arange(events), x=x)
        if ensembles:
            # The first ones are smaller than the largest set: sets of one step have unequal numbers of members.
            edges = np.unique([0, *(10 * np.arange(1, ensembles)), events])
            writer.ensembles(edges, np.zeros((len(edges) - 1, 1)), ["gamma"])
    return path


def train_job(kind: str, **settings: Any) -> str:
    """As `Plan.train_job` gives it."""
    return canonical(
        {
            "address": [0, "line", kind, 0],
            "problem": {"kind": "gaussian", "simulator": {"noise": 0.5}},
            "threads": 1,
            "accelerator": "cpu",
            "method": {**METHODS[kind], "train": {**TRAIN, **settings}},
        }
    )


def train_arguments(kind: str, folder: Path, **settings: Any) -> dict[str, Any]:
    """Arguments of `run.train` for a folder that holds everything."""
    for name, events, seed in (("train", 600, 1), ("validation", 200, 2)):
        if not (folder / f"{name}.h5").exists():
            write(folder / f"{name}.h5", events, seed, ensembles=4)
    return {
        "job": train_job(kind, **settings),
        "train": [folder / "train.h5"],
        "validation": [folder / "validation.h5"],
        "artifact": folder / "model.pt",
        "curves": folder / "model.curves.csv",
        "checkpoints": folder / "checkpoints",
        "code": "abc",
    }


def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """This program as a child."""
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def main(what: str, kind: str, folder: Path, *more: str) -> None:
    from pullback.joblog import job_log
    from pullback.methods.run import train

    with job_log(str(folder / "log")):
        train(**train_arguments(kind, folder), processes=int(more[0]) if more else 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
