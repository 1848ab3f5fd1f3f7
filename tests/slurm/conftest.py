"""The private SLURM, started once for all tests of this folder, and a training for them to interrupt."""

import os
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


SHORT = 310


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
    """A folder with a training of a second or two to be done, whose ensembles were made without SLURM."""
    folder = tmp_path_factory.mktemp("data")
    write_study(folder, gaussian(60))
    run_here(folder, "models", "--until", "index_ensemble")
    return folder


def trained(start: Path, steps: int, folder: Path) -> tuple[Training, float]:
    """A training of so many steps, and the processor's seconds that it took, with all that is around it."""
    write_study(start, gaussian(steps))
    copy(start, folder)
    before = os.times()
    run_here(folder, "models")
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Training(start, folder), spent


@pytest.fixture(scope="session")
def trial(tmp_path_factory, data):
    """Hardly a training: what is around one."""
    return trained(copy(data, tmp_path_factory.mktemp("start-trial")), 10, tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="session")
def some(tmp_path_factory, data):
    return trained(copy(data, tmp_path_factory.mktemp("start-short")), SHORT, tmp_path_factory.mktemp("short"))


@pytest.fixture(scope="session")
def short(some):
    """A training of some seconds."""
    return some[0]


@pytest.fixture(scope="session")
def long(tmp_path_factory, data, trial, some):
    """A training of 40 s of this machine's processor, however busy that is; the others tell how many steps that are."""
    step = (some[1] - trial[1]) / (SHORT - 10)
    start = copy(data, tmp_path_factory.mktemp("start-long"))
    return trained(start, max(SHORT, int(40 / step)), tmp_path_factory.mktemp("long"))[0]
