"""Damaged studies: an answer, or one clear message; no traceback, nothing written, no waiting."""

import os
import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from damaged import REPOSITORY, damage

from pullback.cli import cli
from pullback.study import StudyError
from pullback.study.opening import plan_of
from pullback.study.workflow_inputs import Graph

SECONDS = 10
MORE = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: 300 damaged studies, some minutes")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with the users' own files that the studies name."""
    monkeypatch.chdir(tmp_path)
    for file in [*REPOSITORY.glob("config/studies/*.py"), *REPOSITORY.glob("tests/workflow/studies/*.py")]:
        shutil.copy(file, tmp_path)
    return tmp_path


def answer(name, content):
    """What is said of a study with this content; nothing where all its jobs can be planned."""
    Path(name).write_bytes(content)
    try:
        plan = plan_of(name)
        graph = Graph(plan, REPOSITORY / "workflow/scripts")
        plan.report_job(), plan.receipt_job(), graph.all_posteriors(), graph.ensembles()
    except StudyError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("seeds", [range(15), pytest.param(range(15, 300), marks=MORE)], ids=["15", "300"])
def test_a_damaged_study_is_planned_or_refused(seeds, folder):
    refused = 0
    for seed in seeds:
        name, content = damage(seed)
        there, started = set(os.listdir()) | {name}, time.monotonic()
        said = answer(name, content)
        assert time.monotonic() - started < SECONDS, seed
        assert set(os.listdir()) == there, seed
        assert said.isprintable() or "\n" in said, seed
        assert "Traceback" not in said, seed
        assert all(line.isprintable() and len(line) < 1000 for line in said.splitlines()), seed
        assert len(said.splitlines()) < 30, seed
        refused += bool(said)
    assert refused > len(seeds) / 2


@MORE
def test_the_check_of_a_damaged_study_says_what_is_wrong(folder):
    """Of the studies that can be planned; Snakemake keeps its records of a dry run."""
    for seed in range(300):
        name, content = damage(seed)
        if answer(name, content):
            continue
        before, started = set(os.listdir()), time.monotonic()
        ran = CliRunner().invoke(cli, ["check", name], catch_exceptions=False)
        assert time.monotonic() - started < 3 * SECONDS, seed
        assert ran.exit_code in (0, 1), (seed, ran.output)
        assert "Traceback" not in ran.output, seed
        assert set(os.listdir()) - before <= {".snakemake"}, seed
