"""A training that several processes share, started by torchrun on the CPU (gloo)."""

import json
import os
import signal
import stat
import time
from pathlib import Path

import pytest
import torch
from small import ended, start, train_arguments, wait_for

from pullback.core.stopping import Stopped
from pullback.diffusion.checkpoint import load_artifact
from pullback.diffusion.share import Noise, Share, ShareError
from pullback.methods.train import train

SETTINGS = {"steps": 60, "validate_every": 20}

TOLERANCE = 1e-5
"""Of a weight. A gradient is a mean over up to n = 4 x 32 members, which two processes add in another order: float32
sums differ by n 2^-24 of the sum of sizes, which is some sqrt(n) times the mean: 8e-6 x 11. Adam's step is the learning
rate times a ratio of gradients, and the rates of 60 steps add up to 0.03: 3e-6, and a factor of 3 because each step
starts from weights that differ already. (A mean of the processes' means instead, where ensembles are of unequal size,
moves weights by 4e-3.)"""


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Trained by one process."""
    folder = tmp_path_factory.mktemp("one")
    train(**train_arguments("ei-fm", folder, **SETTINGS))
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Trained by two processes."""
    folder = tmp_path_factory.mktemp("two")
    status, said = ended(start("train", "ei-fm", folder, "2", "1", json.dumps(SETTINGS)))
    assert status == 0, said
    return folder


def assert_close(one: Path, other: Path) -> None:
    wanted, found = (load_artifact(folder / "model.pt") for folder in (one, other))
    for name, weight in wanted[0].items():
        torch.testing.assert_close(found[0][name], weight, rtol=0, atol=TOLERANCE)
    for meta in (wanted[1], found[1]):
        # Curves and what is kept are of the same order as the weights' differences.
        meta["kept"] = {key: round(value, 4) for key, value in meta["kept"].items()}
    assert wanted[1]["kept"] == found[1]["kept"]


def test_two_processes_train_as_one(one, two):
    assert_close(one, two)
    log = (two / "log").read_text()
    assert log.count("step 20: ") == 1
    assert "starts 2 processes" in log
    assert not (two / "checkpoints").exists()


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as a training that one process goes on with")
def test_two_processes_stop_together_and_go_on(two, tmp_path):
    arguments = ("train", "ei-fm", tmp_path, "2", "1", json.dumps(SETTINGS))
    status, said = ended(start(*arguments, PULLBACK_TIME_LIMIT="1"))
    assert status == 75, said
    assert said.startswith("pullback: stopped at step 5 of 60, ")
    assert said.rstrip().endswith(" the limit of 1 s; run it again and it goes on")
    assert not (tmp_path / "model.pt").exists()
    status, said = ended(start(*arguments))
    assert status == 0, said
    assert "resumed after step 5 of 60" in (tmp_path / "log").read_text()
    # The sum of two numbers does not depend on their order: here even the bits are the same.
    assert (tmp_path / "model.pt").read_bytes() == (two / "model.pt").read_bytes()


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as two processes that train together")
def test_what_one_process_began_two_go_on_with(one, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("PULLBACK_TIME_LIMIT", "1")
        with pytest.raises(Stopped, match="at step 1 of 60"):
            train(**train_arguments("ei-fm", tmp_path, **SETTINGS))
    status, said = ended(start("train", "ei-fm", tmp_path, "2", "1", json.dumps(SETTINGS)))
    assert status == 0, said
    assert "resumed after step 1 of 60" in (tmp_path / "log").read_text()
    assert_close(one, tmp_path)


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoints/*/step-*.pt"))


def test_processes_end_with_their_driver_however_it_ends(tmp_path):
    arguments = ("train", "edm", tmp_path, "2", "1", json.dumps({"steps": 100_000}))
    for number in (signal.SIGTERM, signal.SIGKILL):
        before = checkpoints(tmp_path)
        child = start(*arguments)
        wait_for(child, lambda before=before: checkpoints(tmp_path) != before)
        child.send_signal(number)
        status, said = ended(child)
        if number == signal.SIGTERM:
            assert status == 75, said
            assert said.endswith(" of 100000, on SIGTERM; run it again and it goes on\n")
            last = int(checkpoints(tmp_path)[-1][5:-3])
            assert f"stopped at step {last} of" in said
    note = tmp_path / "checkpoints/launch/stopped.json"
    until = time.monotonic() + 120
    while not note.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    last = int(checkpoints(tmp_path)[-1][5:-3])
    assert json.loads(note.read_text()) == {"where": f"at step {last} of 100000", "reason": "as its driver has ended"}


def test_the_first_error_of_any_process_is_the_jobs(tmp_path):
    status, said = ended(start("train", "edm", tmp_path, "3", "1", json.dumps(SETTINGS)))
    assert status == 1
    assert said.splitlines()[0] == (
        "pullback: train.sets_per_step is 4 and there are 3 processes, which take equal shares of each step's sets: "
        "ask for 2 GPUs, or set train.sets_per_step to 6"
    )
    assert "Traceback" in (tmp_path / "log").read_text()


SRUN = """#!/bin/bash
# Starts as many copies as tasks are asked for, on this machine.
while [[ $1 == --* ]]; do [[ $1 == --ntasks=* ]] && tasks=${1#*=}; shift; done
for ((i = 0; i < tasks; i++)); do "$@" <&0 & done
code=0
for job in $(jobs -p); do wait $job || code=$?; done
exit $code
"""


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as two processes that train together")
def test_two_torchruns_that_meet_train_as_one_process(one, tmp_path):
    """As on two nodes, but both on this machine: what stands for SLURM starts the second beside the first."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/bash\nprintf 'localhost\\nlocalhost\\n'\n")):
        (tools / name).write_text(text)
        (tools / name).chmod((tools / name).stat().st_mode | stat.S_IEXEC)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    status, said = ended(start("train", "ei-fm", tmp_path, "1", "2", json.dumps(SETTINGS), PATH=path))
    assert status == 0, said + (tmp_path / "log").read_text()
    assert_close(one, tmp_path)
    assert "srun --overlap --nodes=2 --ntasks=2 --ntasks-per-node=1" in (tmp_path / "log").read_text()


def test_a_share_of_the_noise_is_that_of_the_whole():
    whole = Noise(3, Share(6))
    wanted = whole.normal((6, 5, 2)), whole.uniform((6, 5))
    for rank in range(3):
        share = Share(6, rank, 3)
        noise = Noise(3, share)
        found = noise.normal((2, 5, 2)), noise.uniform((2, 5))
        for some, all_of_it in zip(found, wanted, strict=True):
            assert torch.equal(some, all_of_it[share.rows])


@pytest.mark.parametrize(("sets", "processes", "advice"), [(8, 3, "ask for 2 GPUs"), (5, 4, "ask for 1 GPU, or")])
def test_sets_that_cannot_be_shared_are_an_error(sets, processes, advice):
    with pytest.raises(
        ShareError, match=f"train.sets_per_step is {sets} and there are {processes} processes.*{advice}"
    ):
        Share(sets, 0, processes)
