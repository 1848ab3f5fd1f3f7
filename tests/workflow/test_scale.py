"""A large study is planned with little memory; how long it takes is for `make bench` to say."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from dag import REPOSITORY, _arguments, _environment

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
from dry_run import FAMILIES, METHODS, PROBLEMS, SEEDS, large_study

GIGABYTE_KB = 1_000_000


def most_memory(process: subprocess.Popen) -> int:
    """Kilobytes that a process held at most, looked at until it ends: what wait4 says begins with its parent's."""
    most = 0
    while process.poll() is None:
        with suppress(OSError):
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            most = int(found[1]) if found else most
        time.sleep(0.05)
    return most


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: half a minute of planning")
def test_a_study_of_six_thousand_jobs_is_planned_within_a_gigabyte(tmp_path):
    """Ten problems-by-methods, ten seeds, fifty families: one inference each, and nothing more for it."""
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(large_study(), sort_keys=False))
    arguments = [*_arguments(REPOSITORY), "--configfile", "large.yaml", "-n", "-q", "rules"]
    said = tmp_path / "said.txt"
    with said.open("w") as out:
        done = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=tmp_path,
            env=_environment(REPOSITORY),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        most = most_memory(done)
    assert done.returncode == 0, said.read_text()
    words = (line.split() for line in said.read_text().splitlines())
    jobs = Counter({pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()})
    families = PROBLEMS * FAMILIES
    # Each family has a test and a reference split, the two seen ones train and validation too.
    assert jobs["simulate"] == jobs["index_ensemble"] == 2 * families + 2 * 2 * PROBLEMS
    assert jobs["infer"] == PROBLEMS * METHODS * SEEDS * FAMILIES == 5000
    assert jobs["train"] == PROBLEMS * SEEDS
    assert "index_posterior" not in jobs
    assert jobs["total"] > 6000
    assert 0 < most < GIGABYTE_KB
