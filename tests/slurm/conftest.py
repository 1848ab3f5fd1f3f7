"""The private SLURM, started once for all tests of this folder, and a training for them to interrupt."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, missing
from running import copy, default_study, run_here, write_study


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A running SLURM; it is stopped whatever happens to the tests."""
    if lacking := missing():
        pytest.skip(f"needs SLURM on this machine: no {lacking[0]} (Debian, Ubuntu: apt install slurm-wlm)")
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@dataclass(frozen=True)
class Training:
    """One training of the default study, on little data.

    ``start``: a folder with its ensembles and the study. ``done``: one in which it has run without SLURM.
    """

    start: Path
    done: Path

    model = Path("results/study/models/gaussian/cfm/seed-0.pt")
    log = Path("results/study/logs/models/gaussian/cfm/seed-0.log")

    def checkpoints(self, folder: Path) -> list[Path]:
        found = (folder / "results/.checkpoints/study/models/gaussian/cfm/seed-0").rglob("*.pt")
        return [path for path in found if not path.name.startswith(".")]

    @property
    def model_bytes(self) -> bytes:
        return (self.done / self.model).read_bytes()


def gaussian(steps: int) -> dict[str, Any]:
    study = default_study("gaussian")
    problem = study["problems"]["gaussian"]
    problem["methods"] = {"cfm": problem["methods"]["cfm"]}
    problem["families"]["sweep"]["sweep"] |= {"ensembles": 16, "validation_ensembles": 4, "events": 600}
    problem["methods"]["cfm"]["train"] |= {"steps": steps, "validate_every": 100, "checkpoint_every": 20}
    return study


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with a training of some seconds to be done, whose ensembles were made without SLURM."""
    folder = tmp_path_factory.mktemp("data")
    write_study(folder, gaussian(300))
    run_here(folder, "models", "--until", "index_ensemble")
    return folder


@pytest.fixture(scope="session")
def short(tmp_path_factory, data):
    """That training."""
    done = copy(data, tmp_path_factory.mktemp("short"))
    run_here(done, "models")
    return Training(data, done)


@pytest.fixture(scope="session")
def long(tmp_path_factory, short):
    """A training of about a minute on this machine: how many steps that is comes from the short one."""
    start = copy(short.start, tmp_path_factory.mktemp("start"))
    rate = float(re.search(r"([\d.e+]+) steps/s", (short.done / Training.log).read_text())[1])
    write_study(start, gaussian(max(300, int(60 * rate))))
    done = copy(start, tmp_path_factory.mktemp("long"))
    run_here(done, "models")
    return Training(start, done)
