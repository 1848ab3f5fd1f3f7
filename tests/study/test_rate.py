"""Snakemake's limit of the rate of jobs: its default goes, the user's own stays."""

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
