"""A reader of the user's own goes the way of the built-in ones; and no reader imports in a circle."""

import ast
import json
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

import pullback.readers
from pullback.ensembles.store import EnsembleReader
from pullback.problems.read import read
from pullback.study import StudyError, load_study
from pullback.study.job_params import Plan
from pullback.study.workflow_inputs import Graph

OWN = """
from contextlib import contextmanager
from typing import ClassVar

import numpy as np

from pullback.problems import Field
from pullback.readers.base import Block, Events, ReadError
from pullback.study.reader_spec import ReaderSpec


class Scale:
    gives = {"pairs", "prior", "forward"}
    reads = {"numbers"}

    def __init__(self):
        self.x = Field.vector("x", ["a", "b"], "1")
        self.y = Field.vector("y", ["c"], "1")


class Table(ReaderSpec):
    records: ClassVar[str] = "numbers"
    separator: str = ","

    @property
    def columns(self):
        return {"line": "int32"}

    def files_per_shard(self, events):
        return 2

    def check(self, problem):
        if self.separator == "x":
            yield "separator", "found 'x', wanted another"

    @contextmanager
    def open(self, problem, file):
        rows = np.loadtxt(file.path, delimiter=self.separator, ndmin=2)
        if rows.shape[1] != 3:
            raise ReadError(f"{file.path}: {rows.shape[1]} columns, wanted 3")
        line = np.arange(len(rows))
        x = rows[:, :2] if file.has_truth else None
        yield Events([Block(rows[:, 2:], x, file.number << 32 | line, columns={"line": line})], f"{len(rows)} lines")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(**read):
    return {
        "config_version": 2,
        "study": "own",
        "problems": {
            "toy": {
                "kind": "./own.py:Scale",
                "families": {
                    "table": {"role": "observed", "read": {"kind": "./own.py:Table", **read}},
                    "drawn": {"role": "seen"},
                },
                "methods": {"random": {"kind": "random-truth"}},
            }
        },
    }


FILES = {"files": {"test": ["a.txt", "b.txt", "c.txt"]}}


def test_it_reads_through_the_same_rule(folder):
    plan = Plan(load_study(study(**FILES, separator=";"), folder), folder)
    assert plan.source("toy", "table") == "read"
    assert plan.shards("toy", "table", "test") == 2
    rows = np.random.default_rng(1).normal(size=(3, 4, 3)).astype(np.float32)
    for name, values in zip("abc", rows, strict=True):
        np.savetxt(f"{name}.txt", values, delimiter=";", fmt="%.9g")
    graph = Graph(plan, Path(__file__).parents[2] / "workflow/scripts")
    assert graph.files_to_read("toy", "table", "test", 1) == {"files": ["c.txt"], "models": [], "pairs": []}
    assert "own.py" in graph.code_to_read("toy", "table")
    found = []
    for shard in range(2):
        files = graph.files_to_read("toy", "table", "test", shard)
        read(plan.shard_job("toy", "table", "test", shard), files["files"], files["models"], f"{shard}.h5")
        with EnsembleReader(f"{shard}.h5") as reader:
            assert reader.x is None
            found.append({name: reader.read(name) for name in reader.columns})
    joined = {name: np.concatenate([piece[name] for piece in found]) for name in found[0]}
    np.testing.assert_array_equal(joined["y"], rows.reshape(12, 3)[:, 2:])
    assert joined["event_id"].tolist() == [file << 32 | line for file in range(3) for line in range(4)]
    assert joined["line"].tolist() == [0, 1, 2, 3] * 3


@pytest.mark.parametrize(
    ("read", "words"),
    [
        ({**FILES, "separator": 1}, "toy.families.table.read.separator: Input should be a valid string"),
        (
            {**FILES, "seperator": ";"},
            "toy.families.table.read.seperator: unknown key; did you mean 'separator'?",
        ),
        ({**FILES, "separator": "x"}, "toy.families.table.read.separator: found 'x', wanted another"),
        ({**FILES, "kind": "./own.py:Scale"}, "wanted a class made from pullback.study.reader_spec.ReaderSpec"),
        ({**FILES, "kind": "./none.py:Table"}, "toy.families.table.read.kind: there is no file"),
        (
            {**FILES, "kind": "segy"},
            "the files hold gathers, and problems of kind './own.py:Scale' read arrays, numbers",
        ),
    ],
)
def test_what_is_wrong_with_it_is_one_line(folder, read, words):
    with pytest.raises(StudyError) as caught:
        load_study(study(**read), folder)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_its_options_are_in_the_job(folder):
    plan = Plan(load_study(study(**FILES), folder), folder)
    job = json.loads(plan.shard_job("toy", "table", "test", 0))
    assert job["read"].items() >= {"kind": "./own.py:Table", "separator": ","}.items()
    assert (job["files"], job["folder"]) == (["a.txt", "b.txt"], str(folder))


def test_readers_do_not_import_in_a_circle():
    """Also not by imports inside functions."""
    package = Path(pullback.readers.__file__).parent
    files = {file.stem: file for file in package.glob("*.py")}
    imports = {}
    for name, file in files.items():
        nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
        origins = [f"{node.module}.{alias.name}".split(".") for node in nodes for alias in node.names]
        imports[name] = {parts[2] for parts in origins if parts[:2] == ["pullback", "readers"]} & files.keys()
    assert {"base", "root_table", "root_jets"} <= imports["root"]
    assert set(TopologicalSorter(imports).static_order()) == files.keys()
