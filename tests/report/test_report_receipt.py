import hashlib
import json
import subprocess

import h5py
import pytest
from report_inputs import study_config

from pullback.ensembles.store import StoreError
from pullback.report.files import ReportError
from pullback.report.receipt import git_state, write_receipt
from pullback.study import load_study
from pullback.study.job_params import Plan

IGNORED = "machine"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Arguments of a receipt in a folder of its own, outside git."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    folder = tmp_path / "results" / "config"
    (folder / "models" / "gaussian").mkdir(parents=True)
    data = []
    for kind, name in (("ensemble-index", "test.h5"), ("posterior-index", "salt.h5")):
        path = folder / name
        with h5py.File(path, "w") as file:
            file.attrs.update(kind=kind, content_digest=f"digest of {name}")
        data.append(path)
    model = folder / "models" / "gaussian" / "seed-0.pt"
    model.write_bytes(b"weights")
    lock = hashlib.sha256(b"torch==2.13.0\n").hexdigest()
    job = Plan(load_study(study_config())).resolved()
    return {"job": job, "data": data, "models": [model], "lock": lock, "out": folder / "receipt.json"}


def test_the_receipt_says_what_a_rerun_must_reproduce(run):
    write_receipt(**run)
    receipt = json.loads(run["out"].read_text())
    assert receipt["study"] == json.loads(run["job"])["study"]
    assert receipt["data"] == {
        "results/config/test.h5": "digest of test.h5",
        "results/config/salt.h5": "digest of salt.h5",
    }
    assert receipt["models"] == {"results/config/models/gaussian/seed-0.pt": hashlib.sha256(b"weights").hexdigest()}
    assert receipt["lock"] == {"file": "requirements.lock", "sha256": hashlib.sha256(b"torch==2.13.0\n").hexdigest()}
    assert receipt["seeds"] == {"root": 0, "repeats": [0]}
    assert receipt["git"] is None
    assert receipt["versions"]["python"].count(".") == 2
    assert receipt["versions"]["h5py"] == h5py.__version__
    assert receipt[IGNORED]["cores"] >= 1
    assert set(receipt) - {IGNORED} == {
        "receipt_version", "study", "threads", "seeds", "lock", "git", "versions", "data", "models",
    }  # fmt: skip


def test_two_receipts_differ_only_in_the_machine_part(run):
    texts = []
    for _ in range(2):
        write_receipt(**run)
        receipt = json.loads(run["out"].read_text())
        assert run["out"].read_text() == json.dumps(receipt, indent=1, sort_keys=True) + "\n"
        receipt.pop(IGNORED)
        texts.append(json.dumps(receipt))
    assert texts[0] == texts[1]
    run["models"][0].write_bytes(b"other weights")
    write_receipt(**run)
    other = json.loads(run["out"].read_text())
    assert other["models"] != json.loads(texts[0])["models"]


def test_git_state_knows_commit_and_changes(tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    state = git_state(tmp_path)
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    (tmp_path / "file").write_text("2")
    assert git_state(tmp_path) == {"commit": state["commit"], "dirty": True}


def test_data_without_a_digest_and_missing_files_are_errors(run):
    with h5py.File(run["data"][1], "a") as file:
        del file.attrs["content_digest"]
    with pytest.raises(ReportError, match=r"salt\.h5.*content_digest"):
        write_receipt(**run)
    run["data"].pop()
    run["models"][0].unlink()
    with pytest.raises(ReportError, match=r"seed-0\.pt"):
        write_receipt(**run)
    assert not run["out"].exists()


def test_a_folder_that_is_a_file_cannot_be_written(run, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_receipt(**run | {"out": tmp_path / "taken" / "receipt.json"})
