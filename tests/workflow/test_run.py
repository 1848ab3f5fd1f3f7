"""The smallest study, run for real from the simulator to the page."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from dag import STUDIES, copy_repository, planned, snakemake

from pullback.ensembles.store import EnsembleReader

pytestmark = pytest.mark.xdist_group("run")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder in which the study has run; the code is beside it."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copy(STUDIES / "tiny.yaml", folder)
    ran = snakemake("--configfile", "tiny.yaml", folder=folder, repository=copy_repository(folder / "code"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"\nThe report: {folder}/results/tiny/report/index.html\n" in "\n" + ran.stdout
    return folder


def again(folder: Path, *arguments: str) -> str:
    ran = snakemake("--configfile", "tiny.yaml", *arguments, folder=folder, repository=folder / "code")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_everything_is_there_with_its_log_and_benchmark(done):
    results = done / "results/tiny"
    made = {path.relative_to(results) for path in results.rglob("*") if path.is_file()}
    data = {path for path in made if path.parts[0] not in ("logs", "benchmarks")}
    jobs = {str(path.with_suffix("")) for path in data} - {
        # Second outputs of a job.
        "report/metrics",
        "report/seeds",
        "report/figures",
        "metrics/line/random.cost",
        "metrics/line/random.examples",
    }
    assert len(jobs) == 1 + 5 + 4 + 1 + 1 + 3
    for job in jobs:
        assert Path("logs", f"{job}.log") in made
        assert Path("benchmarks", f"{job}.jsonl") in made
    assert json.loads((results / "receipt.json").read_text())


def test_a_second_run_and_a_touch_do_nothing(done):
    assert "Nothing to be done" in again(done)
    for path in (done / "code").rglob("*.py"):
        os.utime(path)
    assert "Nothing to be done" in again(done)


def test_the_report_of_snakemake_builds(done):
    assert "Report created" in again(done, "--report", "report.html")
    page = (done / "report.html").read_text()
    categories = json.loads(page.split("var categories = ")[1].split(";\n")[0])
    assert {name for group in categories["Study"].values() for name in group} == {
        "results/tiny/report/index.html",
        "results/tiny/report/metrics.csv",
        "results/tiny/report/seeds.csv",
        "results/tiny/report/figures.csv",
        "results/tiny/receipt.json",
    }
    assert set(categories["Metrics"]["line"]) == {
        "results/tiny/metrics/line/random.csv",
        "results/tiny/metrics/line/random.cost.csv",
    }
    assert "seen and unseen apart" in page, "the caption of the page"


def test_a_job_that_fails_says_why_and_leaves_nothing(done):
    """A shard is cut short: the job that reads it next refuses it, and its output is not there. Then it heals."""
    shard = done / "results/tiny/ensembles/line/plus/train/shard-001.h5"
    index = shard.parents[1] / "train.h5"
    whole = shard.read_bytes()
    with EnsembleReader(index) as reader:
        before = reader.digest
    try:
        shard.write_bytes(whole[:1000])
        ran = snakemake("--configfile", "tiny.yaml", folder=done, repository=done / "code")
    finally:
        shard.write_bytes(whole)
    assert ran.returncode != 0
    assert "pullback: " in ran.stderr
    assert "shard-001.h5" in ran.stderr
    assert not index.exists()
    again(done)
    with EnsembleReader(index) as healed:
        assert healed.digest == before


def test_the_data_do_not_depend_on_the_shards(done, tmp_path):
    study = (STUDIES / "tiny.yaml").read_text()
    assert "shard: 1000" in study
    (tmp_path / "tiny.yaml").write_text(study.replace("shard: 1000", "shard: 5000"))
    assert len([job for job in planned(tmp_path, Path("tiny.yaml"), "--", "ensembles") if job.rule == "simulate"]) == 4
    name = "results/tiny/ensembles/line/plus/train.h5"
    ran = snakemake("--configfile", "tiny.yaml", "--cores", "2", "--", name, folder=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    with EnsembleReader(done / name) as two, EnsembleReader(tmp_path / name) as one:
        assert two.n == one.n == 2000
        assert two.digest == one.digest
        for column in ("x", "y", "event_id"):
            np.testing.assert_array_equal(two.read(column), one.read(column))
