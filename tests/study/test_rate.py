"""Snakemake's limit of the rate of jobs: what it costs; its default goes, the user's own stays."""

import re
import subprocess
import sys

import pytest

RULES = """
from pullback.study.running import choose_when_jobs_end

onstart:
    choose_when_jobs_end(workflow.scheduler)

onsuccess:
    limiter = workflow.scheduler.job_rate_limiter
    print("THE LIMIT:", limiter and (limiter.max_jobs, limiter.timespan))

rule all:
    input: expand("{i}", i=range(3))

rule one:
    output: "{i}"
    shell: "touch {output}"
"""


@pytest.mark.parametrize(
    ("asked", "left"), [([], "None"), (["--max-jobs-per-timespan", "50/2s"], "(50, 2.0)")], ids=["default", "own"]
)
def test_the_limit_of_a_run(tmp_path, asked, left):
    """In a run of Snakemake itself: what its scheduler is left with, and that it still runs every job."""
    (tmp_path / "Snakefile").write_text(RULES)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *asked]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"THE LIMIT: {left}" in done.stdout + done.stderr
    assert all((tmp_path / str(i)).exists() for i in range(3))


LOOKS = """
from pullback.study.running import choose_when_jobs_end

looks = []

onstart:
    select = workflow.scheduler.job_selector
    workflow.scheduler.job_selector = lambda jobs: looks.append(len(jobs)) or select(jobs)
    if config["limit"] == "none":
        choose_when_jobs_end(workflow.scheduler)

onsuccess:
    print("LOOKS:", len(looks))

rule all:
    input: expand("{i}", i=range(5))

rule one:
    output: "{i}"
    shell: "sleep 1.2; touch {output}"
"""


def _looks(folder, limit):
    """How often a run of five jobs, one after the other, looks at the ready ones."""
    folder.mkdir()
    (folder / "Snakefile").write_text(LOOKS)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", f"limit={limit}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(re.search(r"LOOKS: (\d+)", done.stdout + done.stderr)[1])


def test_a_limit_looks_at_all_ready_jobs_again_and_again(tmp_path):
    """Without one, once for each job that is ready when another ends; under any limit every second besides."""
    assert _looks(tmp_path / "without", "none") <= 6
    assert _looks(tmp_path / "with", "default") >= 10
