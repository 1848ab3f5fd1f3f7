"""How outside gathers are cut into jobs, and what each job reads."""

import json
import os
import re
from pathlib import Path

import pytest

from pullback.readers.base import OutsideFile, ReadError
from pullback.readers.numpy_files import NumpyFiles
from pullback.study import StudyError, load_study
from pullback.study.job_params import Plan
from pullback.study.workflow_inputs import Graph

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow/scripts"
SHOTS = [f"$PULLBACK_DATA/shot{i}.segy" for i in range(5)]
ROCKS = [f"rock{i}.segy" for i in range(5)]


def plan(**families):
    families = {"flat": {"role": "seen", "params": {"geology": "flat"}}, **families}
    problem = {"kind": "fwi", "size": {"shard": 2}, "families": families, "methods": {"r": {"kind": "random-truth"}}}
    return Plan(load_study({"config_version": 2, "study": "s", "problems": {"waves": problem}}))


def line(role="unseen", kind="segy"):
    models = {"models": {"test": ROCKS}} if kind != "netcdf" else {}
    return {"role": role, "read": {"kind": kind, "files": {"test": SHOTS}, **models}}


def test_segy_files_are_events_and_others_shards(monkeypatch):
    monkeypatch.setenv("PULLBACK_DATA", "/data")
    p = plan(line=line(), pairs=line(kind="netcdf"))
    assert p.source("waves", "line") == p.source("waves", "pairs") == "read"
    assert p.splits("waves", "line") == ("test",)
    assert p.shards("waves", "line", "test") == 3
    assert p.shards("waves", "pairs", "test") == 5
    assert p.outside_files("waves", "line", "test", 1) == ["/data/shot2.segy", "/data/shot3.segy"]
    assert p.outside_models("waves", "line", "test", 2) == ["rock4.segy"]
    assert p.outside_files("waves", "pairs", "test", 3) == ["/data/shot3.segy"]
    assert p.outside_models("waves", "pairs", "test", 3) == []


def test_files_of_one_event_go_to_one_job(monkeypatch):
    monkeypatch.setenv("PULLBACK_DATA", "/data")
    family = line("observed")
    family["read"] = {"kind": "segy", "files": {"test": [SHOTS[0:2], SHOTS[2], SHOTS[3:5]]}}
    p = plan(line=family)
    assert p.shards("waves", "line", "test") == 2
    assert p.outside_files("waves", "line", "test", 0) == [f"/data/shot{i}.segy" for i in range(3)]
    assert p.outside_files("waves", "line", "test", 1) == [f"/data/shot{i}.segy" for i in (3, 4)]
    assert json.loads(p.shard_job("waves", "line", "test", 0))["files"] == [SHOTS[0:2], SHOTS[2]]
    pair = {"kind": "segy", "files": {"test": [SHOTS[0:2]]}, "models": {"test": ROCKS[:1]}, "scale": "fit"}
    p = plan(line={"role": "unseen", "read": pair})
    assert p.fitted_pairs("waves", "line") == [["/data/shot0.segy", "/data/shot1.segy"], ["rock0.segy"]]
    assert json.loads(p.shard_job("waves", "line", "test", 0))["pairs"] == [SHOTS[0:2], "rock0.segy"]
    family["read"] = {"kind": "netcdf", "files": {"test": [SHOTS[0:2]]}}
    with pytest.raises(StudyError, match="a list in the list, wanted files: kind 'netcdf' reads each alone"):
        plan(line=family)


def test_a_job_names_files_as_the_study_does(monkeypatch):
    """Another machine has its data elsewhere: nothing reruns for that."""
    jobs = set()
    for folder in ("/here", "/there"):
        monkeypatch.setenv("PULLBACK_DATA", folder)
        jobs.add(plan(line=line()).shard_job("waves", "line", "test", 1))
    (job,) = jobs
    job = json.loads(job)
    assert job["files"] == SHOTS[2:4]
    assert job["models"] == ROCKS[2:4]
    assert job["first_file"] == 2
    assert job["truth"] is True
    assert job["read"].items() >= {"kind": "segy", "units": None, "invalid": "refuse"}.items()


def test_an_observed_family_knows_nothing_of_models():
    p = plan(line=line("observed"))
    assert p.outside_models("waves", "line", "test", 0) == []
    assert json.loads(p.shard_job("waves", "line", "test", 0))["models"] == []


@pytest.mark.parametrize("missing", ["shot1.segy", "rock3.segy", None])
def test_what_stands_in_for_a_file_that_is_not_there(tmp_path, monkeypatch, missing):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PULLBACK_DATA", str(tmp_path))
    for i in range(5):
        for name in (f"shot{i}.segy", f"rock{i}.segy"):
            if name != missing:
                (tmp_path / name).touch()
    p = plan(line={**line(), "fallback": "flat"})
    assert p.source("waves", "line") == ("derive" if missing else "read")


@pytest.mark.parametrize(
    ("read", "words"),
    [
        ({"files": {"test": ["a.npz"], "train": ["./a.npz"]}}, "`files`: ./a.npz is in test and in train"),
        ({"files": {"test": ["a.npz", "x/../a.npz"]}}, "is twice in test: name it once"),
        (
            {"files": {"test": ["a.npz"], "train": ["a.npz"]}, "entries": {"train": [0, 0.8], "test": [0.7, 1.0]}},
            "give each split entries of its own",
        ),
        ({"files": {"test": ["a.npz"]}, "entries": {"test": [5, 2]}}, "found [5, 2], wanted 0 <= from < to"),
        ({"files": {"test": ["a.npz"]}, "entries": {"train": [0, 2]}}, "names train, of which there are no files"),
    ],
)
def test_a_file_is_read_once(read, words):
    """By path when the study is read; symbolic links are followed."""
    with pytest.raises(ValueError, match=re.escape(words)):
        NumpyFiles(kind="numpy", **read)


def test_entries_split_one_file():
    both = {"files": {"train": ["a.npz"], "test": ["a.npz"]}}
    reader = NumpyFiles(kind="numpy", **both, entries={"train": [0, 0.8], "test": [0.8, 1.0]})
    spans = {split: OutsideFile(Path("a.npz"), entries=span).span(10) for split, span in reader.entries.items()}
    assert spans == {"train": (0, 8), "test": (8, 10)}
    reader = NumpyFiles(kind="numpy", **both, entries={"train": [0, 3], "test": [3, 100]})
    assert OutsideFile(Path("a.npz"), entries=reader.entries["test"]).span(10) == (3, 10)
    with pytest.raises(ReadError, match=r"10 entries, none of them from 12 to 14: correct `entries`"):
        OutsideFile(Path("a.npz"), entries=(12, 14)).span(10)


def test_a_pattern_stands_for_the_files_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PULLBACK_DATA", str(tmp_path / "[data]"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[data]/a").mkdir(parents=True)
    for name in ("a/shot2", "a/shot10", "a/rock1", "shot1"):
        (tmp_path / f"[data]/{name}.segy").touch()
    (tmp_path / "odd*.segy").touch()
    files = ["$PULLBACK_DATA/*/shot*.segy", "odd*.segy", "none?.segy"]
    p = plan(line={"role": "observed", "read": {"kind": "segy", "files": {"test": files}}})
    assert p.family("waves", "line").read.files["test"] == [
        "$PULLBACK_DATA/a/shot10.segy",
        "$PULLBACK_DATA/a/shot2.segy",
        "odd*.segy",
        "none?.segy",
    ]
    with pytest.raises(StudyError, match=r"waves.families.line.read: no file matches 'none\?.segy'"):
        Graph(p, SCRIPTS)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("run{1}.segy", "'run{1}.segy' has {1} in it, Snakemake's mark of a wildcard: rename the file, or link to it"),
        ("${NOT_SET}/a.segy", "'${NOT_SET}/a.segy' has {NOT_SET} in it, a variable that is not set: set it"),
        ("new.segy", "new.segy is dated in the future (2033-"),
    ],
)
def test_what_snakemake_cannot_take_is_one_line(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.segy").touch()
    os.utime(tmp_path / "new.segy", (2e9, 2e9))
    with pytest.raises(StudyError) as caught:
        Graph(plan(line={"role": "observed", "read": {"kind": "segy", "files": {"test": [name]}}}), SCRIPTS)
    assert said in str(caught.value)
    Graph(plan(line={"role": "observed", "read": {"kind": "segy", "files": {"test": ["a{b-c}.segy"]}}}), SCRIPTS)
