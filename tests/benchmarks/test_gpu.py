"""The check of a GPU, at its tiny size on the CPU."""

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    import gpu

    yield gpu
    sys.modules.pop("gpu")


def test_a_tiny_run_on_the_cpu_passes_its_own_checks(gpu_check, tmp_path, capsys):
    assert gpu_check.main(["--tiny", "--out", str(tmp_path / "gpu.json")]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["task"] for row in found["rows"]] == ["EI-FM", "EI-FM, U-Net"]
    assert all(row["steps_per_s"] > 0 and row["draws_per_s"] > 0 for row in found["rows"])
    assert len(found["checks"]) == 6
    # The same operations on the same device: any difference is a mistake of the comparison.
    assert all(check["found"] == 0 for check in found["checks"])
    assert "6 checks, 0 failed" in capsys.readouterr().out


def test_the_work_of_a_step_is_counted(gpu_check):
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    with gpu_check.FlopCounterMode(display=False) as flops, gpu_check.Traffic() as traffic:
        (a @ b).T.add_(1)
    assert flops.get_total_flops() == 2 * 3 * 5 * 7
    # The product reads both matrices and writes one; the transpose is a view; the addition reads and writes in place.
    assert traffic.total == 4 * (15 + 35 + 21 + 2 * 21)
