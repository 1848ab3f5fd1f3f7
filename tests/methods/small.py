"""A small training and a small inference, for tests that stop them: the real drivers on files made here.

As a program it is one job, as a script of the workflow runs it: ``python small.py train cfm <folder>``, with the number
of processes and nodes and settings of the training in JSON, or ``python small.py infer enkg <folder>``.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pullback.core.joblog import job_log
from pullback.ensembles.store import EnsembleWriter
from pullback.methods import resume
from pullback.methods.infer import infer
from pullback.methods.loading import Inputs
from pullback.methods.train import train
from pullback.problems.base import simulate
from pullback.problems.gaussian import Gaussian, GaussianSimulator
from pullback.study.base import canonical

PROBLEM = Gaussian(GaussianSimulator())
TRAIN = {"steps": 600, "sets_per_step": 4, "set_size": [8, 32], "validate_every": 150, "checkpoint_every": 20}
NETWORK = {"kind": "mlp", "width": 16, "depth": 2}
EVENTS = 40
ENCODER = {"kind": "set-transformer", "hidden": 8, "heads": 2, "inducing": 4}
METHODS: dict[str, dict[str, Any]] = {
    "cfm": {"kind": "cfm", "network": NETWORK},
    "ei-fm": {"kind": "ei-fm", "network": NETWORK, "k": 2, "set_encoder": ENCODER},
    "edm": {"kind": "edm", "network": NETWORK},
    "gmm": {"kind": "gmm", "components": 2, "width": 16, "depth": 1},
}


def write(path: Path, events: int, seed: int, ensembles: int = 0) -> Path:
    """Events of the Gaussian problem; a sweep of unequal ensembles when their number is given."""
    rng = np.random.default_rng(seed)
    x = PROBLEM.sample_prior(rng, events, {"gamma": 0.5})
    y, _ = simulate(PROBLEM, x, rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    with EnsembleWriter(path, x=PROBLEM.x, y=PROBLEM.y, spec="{}") as writer:
        writer.append(y, np.arange(events), x=x)
        if ensembles:
            # The first ones are smaller than the largest set: sets of one step have unequal numbers of members.
            edges = np.unique([0, *(10 * np.arange(1, ensembles)), events])
            writer.ensembles(edges, np.zeros((len(edges) - 1, 1)), ["gamma"])
    return path


def job(kind: str, **more: Any) -> str:
    """As `Plan` gives it."""
    problem = {"kind": "gaussian", "simulator": {"noise": 0.5}}
    group = {"edm": "priors", "gmm": "likelihoods"}.get(kind, "methods")
    frame = {"address": [0, "line", kind, 0], "threads": 1, "accelerator": "cpu", "group": group}
    return canonical({**frame, "problem": problem, **more})


def train_arguments(kind: str, folder: Path, **settings: Any) -> dict[str, Any]:
    """Arguments of `run.train` for a folder that holds everything."""
    for name, events, seed in (("train", 600, 1), ("validation", 200, 2)):
        if not (folder / f"{name}.h5").exists():
            write(folder / f"{name}.h5", events, seed, ensembles=4)
    return {
        "job": job(kind, method={**METHODS[kind], "train": {**TRAIN, **settings}}),
        "train": [folder / "train.h5"],
        "validation": [folder / "validation.h5"],
        "artifact": folder / "model.pt",
        "curves": folder / "model.curves.csv",
        "checkpoints": folder / "checkpoints",
        "code": "{}",
    }


def infer_arguments(folder: Path) -> dict[str, Any]:
    """Arguments of `infer.infer` for EnKG with a prior that was hardly trained: one block is one event."""
    if not (folder / "prior.pt").exists():
        settings = train_arguments("edm", folder, steps=5)
        train(**{**settings, "artifact": folder / "prior.pt", "curves": folder / "prior.csv"})
        write(folder / "test.h5", EVENTS, 3)
    infer = {"draws": 8, "levels": 6, "updates": 1}
    more = {"infer_name": "default", "infer": infer, "family": "plus", "part": 0, "parts": 1}
    return {
        "job": job("enkg", method={"kind": "enkg", "prior": "edm"}, **more),
        "inputs": Inputs(folder / "test.h5", prior=folder / "prior.pt"),
        "out": folder / "part.h5",
        "checkpoints": folder / "checkpoints-of-part",
        "code": "{}",
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


def ended(child: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and standard error of a child, once it has ended."""
    _, said = child.communicate(timeout=300)
    return child.returncode, said


def wait_for(child: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Wait until something holds while a child runs."""
    while not condition():
        assert child.poll() is None, child.communicate()
        time.sleep(0.005)


def main(what: str, kind: str, folder: Path, processes: str = "0", nodes: str = "1", settings: str = "{}") -> None:
    """One job."""
    with job_log(str(folder / "log")):
        if what == "train":
            arguments = train_arguments(kind, folder, **json.loads(settings))
            train(**arguments, processes=int(processes), nodes=int(nodes))
        else:
            # Every block is kept at once.
            resume.SAVE_EVERY_S = 0.0
            infer(**infer_arguments(folder))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
