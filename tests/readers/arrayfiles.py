"""Jobs that read arrays into a small problem of one's own, or into waves."""

import json
from pathlib import Path

import pytest

from pullback.ensembles.store import EnsembleReader
from pullback.problems.base import problem_of
from pullback.problems.read import read
from pullback.readers.base import OutsideFile, ReadError
from pullback.study.kinds import parse

OWN = """
import numpy as np

from pullback.problems import Field
from pullback.ensembles.fields import Coordinate


class Decay:
    def __init__(self):
        self.x = Field.vector("x", ["amplitude", "rate"], ["V", "1/s"], low=(0.0, 0.0), high=(10.0, 100.0))
        times = Coordinate(np.arange(5) * 0.5, "s")
        self.y = Field.array("y", ("time",), (5,), "V", coordinates={"time": times})

    def sample_prior(self, rng, n, params):
        return rng.uniform(1, 5, (n, 2))

    def apply(self, x):
        return x[:, :1] * np.exp(-x[:, 1:] * np.arange(5) * 0.5), np.ones(len(x), bool)
"""


def ensemble(path):
    with EnsembleReader(path) as found:
        return {name: found.read(name) for name in found.columns}


def job(kind="netcdf", simulator=None, truth=True, **options):
    """A job of the own class, or of waves where a simulator is given."""
    problem = {"kind": "./own.py:Decay", "simulator": {}, "folder": "."}
    problem = problem if simulator is None else {"kind": "fwi", "simulator": simulator}
    names = {"problem": "toy", "family": "f", "split": "test", "first_file": 0, "truth": truth}
    return json.dumps({**problem, **names, "read": {"kind": kind, **options}})


def told(text, path, model=None):
    """The summary of a file, which `pullback check` prints."""
    task = json.loads(text)
    reader = parse("readers", {**task["read"], "files": {}})
    with reader.open(problem_of(task), OutsideFile(Path(path), model, has_truth=task["truth"])) as events:
        return events.summary


def refused(words, text, path, models=()):
    with pytest.raises(ReadError, match=words) as caught:
        read(text, [path], models, "out/bad.h5")
    assert "\n" not in str(caught.value)
