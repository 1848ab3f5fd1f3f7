"""The table of interruptions in docs/reruns.md, on this machine and for real: trainings are stopped, and go on.

What stops jobs under SLURM is tested in tests/slurm.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from dag import STUDIES, ask, planned, rules, snakemake, start
from reruns_page import rows

pytestmark = pytest.mark.xdist_group("interruptions")

CTRL_C = "Ctrl-C"
JOB_KILLED = "`kill -9` of a job's process"
ALL_KILLED = "the machine is lost, or `kill -9` of Snakemake and its jobs"
MAIN_STOPPED = "`kill` of Snakemake (SIGTERM)"
MAIN_KILLED = "`kill -9` of Snakemake alone"
HERE = {CTRL_C, JOB_KILLED, ALL_KILLED, MAIN_STOPPED, MAIN_KILLED}

STUDY = ("--configfile", "training.yaml")
MODEL = Path("results/training/models/line/cfm/seed-0.pt")
CURVES = MODEL.with_suffix(".curves.csv")
LOG = Path("results/training/logs/models/line/cfm/seed-0.log")
CHECKPOINTS = Path("results/.checkpoints/training/models/line/cfm/seed-0")
PATIENCE_S = 120


def wait_for(what: Callable[[], bool], main: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until
        assert main is None or main.poll() is None, "the run has ended"
        time.sleep(0.01)


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / CHECKPOINTS).glob("*/step-*.pt"))


def training(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A run that has just written another checkpoint. It has a process group of its own, as in a terminal."""
    before = steps(folder)
    main = start(*STUDY, *arguments, "--", "models", folder=folder)
    wait_for(lambda: set(steps(folder)) - set(before) != set(), main)
    return main


def job_of(main: subprocess.Popen[str]) -> psutil.Process:
    """The Python process of the job."""
    found = psutil.Process(main.pid).children(recursive=True)
    return next(
        child for child in found if child.name().startswith("python") and child.cmdline()[-1].endswith("train.py")
    )


def answer(folder: Path) -> tuple[bytes, bytes]:
    return (folder / MODEL).read_bytes(), (folder / CURVES).read_bytes()


def assert_unfinished(folder: Path) -> None:
    """No declared output, and a state to go on from."""
    assert not (folder / MODEL).exists()
    assert not (folder / CURVES).exists()
    assert steps(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder in which the ensembles are made."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copy(STUDIES / "training.yaml", folder)
    ran = snakemake(*STUDY, "--", "ensembles", folder=folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("uninterrupted") / "study"
    shutil.copytree(data, folder, symlinks=True)
    ran = snakemake(*STUDY, "--", "models", folder=folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "resumed" not in (folder / LOG).read_text()
    assert not list((folder / CHECKPOINTS).glob("*")), "checkpoints are removed on success"
    return answer(folder)


def test_every_row_is_tested_here_or_under_slurm():
    assert {row for row in rows("what happens") if "SLURM" not in row} == HERE


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: tests/methods stops trainings by hand; a minute")
def test_a_training_that_is_stopped_four_times_ends_as_if_it_never_was(data, uninterrupted, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(data, folder, symlinks=True)

    # Ctrl-C: a terminal sends it to Snakemake and to its jobs.
    main = training(folder)
    os.killpg(main.pid, signal.SIGINT)
    assert main.wait(PATIENCE_S) == 1
    assert_unfinished(folder)

    # The job is killed, as by the kernel when memory runs out. `-R train` does not start from scratch either.
    main = training(folder, "-R", "train")
    job_of(main).kill()
    assert main.wait(PATIENCE_S) == 1
    assert_unfinished(folder)
    assert "resumed after step" in (folder / LOG).read_text()

    # Everything is killed.
    main = training(folder)
    os.killpg(main.pid, signal.SIGKILL)
    main.wait(PATIENCE_S)
    assert_unfinished(folder)
    ran = snakemake(*STUDY, "--", "models", folder=folder)
    assert ran.returncode != 0
    assert "--unlock" in ran.stderr
    assert snakemake(*STUDY, "--unlock", folder=folder).returncode == 0

    # Snakemake is asked to stop: it lets the job end.
    main = training(folder)
    main.terminate()
    assert main.wait(PATIENCE_S) == 1
    assert planned(folder, Path("training.yaml"), "--", "models") == []
    resumed = re.search(r"resumed after step (\d+) of 400", (folder / LOG).read_text())
    assert resumed
    assert int(resumed[1]) >= 60
    assert answer(folder) == uninterrupted


def test_a_job_outlives_a_killed_main_process(data, uninterrupted, tmp_path):
    """Its files are whole, but Snakemake cannot know, and asks."""
    folder = tmp_path / "study"
    shutil.copytree(data, folder, symlinks=True)
    main = training(folder)
    job = job_of(main)
    main.kill()
    main.wait(PATIENCE_S)
    wait_for(lambda: not job.is_running())
    assert answer(folder) == uninterrupted
    status, said = ask("-n", *STUDY, "--", "models", folder=folder)
    assert status != 0
    assert "--rerun-incomplete" in said
    assert str(MODEL) in said
    assert snakemake(*STUDY, "--unlock", folder=folder).returncode == 0
    assert rules(planned(folder, Path("training.yaml"), "--rerun-incomplete", "--", "models")) == {"train", "models"}
    status, said = ask("--touch", "--rerun-incomplete", *STUDY, "--", "models", folder=folder)
    assert status == 0, said
    assert answer(folder) == uninterrupted
    assert planned(folder, Path("training.yaml"), "--", "models") == []
