"""GPUs that were asked for and those that are here: each case is a process of its own with its environment."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys, logging
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from pullback.diffusion.devices import DeviceError, check_devices
try:
    print("uses", check_devices(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
except DeviceError as error:
    print("refused:", error)
"""


def check(requested: int, accelerator: str = "cpu", nodes: int = 1, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES" and not k.startswith("SLURM")}
    ran = subprocess.run(
        [sys.executable, "-c", CODE, str(requested), accelerator, str(nodes)],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.strip()


JOB = {"SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(
    ("requested", "visible", "said"),
    [
        (0, None, "gpus: 0 requested, 0 granted (CUDA_VISIBLE_DEVICES is not set)\nuses 0"),
        (0, "NoDevFiles", "gpus: 0 requested, 0 granted (CUDA_VISIBLE_DEVICES=NoDevFiles)\nuses 0"),
        (1, "0", "gpus: 1 requested, 1 granted (CUDA_VISIBLE_DEVICES=0)\nuses 0"),
        (2, "GPU-1a,GPU-2b", "gpus: 2 requested, 2 granted (CUDA_VISIBLE_DEVICES=GPU-1a,GPU-2b)\nuses 0"),
        (1, None, "refused: gpus: 1 requested, 0 granted (CUDA_VISIBLE_DEVICES is not set): set gpu=0 for this rule"),
        (1, "0,1", "refused: gpus: 1 requested, 2 granted (CUDA_VISIBLE_DEVICES=0,1): set gpu=2 for this rule"),
        (0, "3", "gpus: 0 requested, 1 granted (CUDA_VISIBLE_DEVICES=3)\nuses 0"),
    ],
)
def test_in_a_slurm_job_the_numbers_must_agree(requested, visible, said):
    given = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = check(requested, **JOB, **given)
    assert found.startswith(said)
    assert len(found.splitlines()) == (1 if "refused" in said else 2)


def test_on_several_nodes_each_has_its_part():
    assert check(4, nodes=2, CUDA_VISIBLE_DEVICES="0,1", **JOB).startswith("gpus: 2 requested, 2 granted")
    assert "refused: gpus: 3 requested on 2 nodes" in check(3, nodes=2, **JOB)


def no_gpu() -> bool:
    import torch

    return torch.cuda.device_count() == 0


@pytest.mark.skipif(not no_gpu(), reason="this machine has GPUs")
def test_torch_must_find_them_too():
    found = check(1, "auto", CUDA_VISIBLE_DEVICES="0", **JOB)
    assert "refused: gpus: 1 requested and granted (CUDA_VISIBLE_DEVICES=0), 0 found by torch: install" in found
    assert check(0, "auto", **JOB).endswith("uses 0")
    # Elsewhere nobody grants GPUs: the request is the most that is used.
    assert check(2, "auto") == "gpus: 2 requested, 0 found (CUDA_VISIBLE_DEVICES is not set)\nuses 0"
    assert check(2, "gpu").startswith("refused: gpus: 2 requested, 0 found by torch")
    assert check(2, "cpu") == "uses 0"
    assert check(0, "auto") == "uses 0"
