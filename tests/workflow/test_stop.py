"""A training that stops before its limit in a real run, and goes on in the next."""

import os
import shutil
from pathlib import Path

import pytest
from dag import STUDIES, snakemake

pytestmark = pytest.mark.xdist_group("stop")

MODEL = "results/stop/models/line/cfm/seed-0.pt"
CHECKPOINTS = "results/.checkpoints/stop/models/line/cfm/seed-0"


def run(folder: Path, **environment: str):
    folder.mkdir(exist_ok=True)
    shutil.copy(STUDIES / "stop.yaml", folder)
    return snakemake("--configfile", "stop.yaml", "--", MODEL, folder=folder, **environment)


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as tests/methods/test_stopped.py by hand")
def test_a_stopped_training_goes_on_in_the_next_run(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    ran = run(whole)
    assert ran.returncode == 0, ran.stderr
    # Over at once: the training stops after one step. Simulations do not look at the limit.
    ran = run(folder, PULLBACK_TIME_LIMIT="1")
    assert ran.returncode == 1
    said = [line for line in ran.stderr.splitlines() if line.startswith("pullback: ")]
    assert len(said) == 1
    assert said[0].startswith("pullback: stopped at step 1 of 60, ")
    assert said[0].endswith(" the limit of 1 s; run it again and it goes on")
    assert "returned non-zero exit status 75" in ran.stderr
    assert not (folder / MODEL).exists()
    assert not (folder / MODEL).with_suffix(".curves.csv").exists()
    log = folder / "results/stop/logs/models/line/cfm/seed-0.log"
    assert said[0].removeprefix("pullback: ") in log.read_text()
    assert [path.name for path in (folder / CHECKPOINTS).glob("*/step-*.pt")] == ["step-000000001.pt"]
    ran = run(folder)
    assert ran.returncode == 0, ran.stderr
    assert "resumed after step 1 of 60" in log.read_text()
    assert (folder / MODEL).read_bytes() == (whole / MODEL).read_bytes()
    assert not (folder / CHECKPOINTS).exists()
