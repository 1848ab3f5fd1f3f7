"""States in files, conditioning that resumes, and what training gets beside sets."""

import json

import numpy as np
import pytest
import small

from pullback.core.atomic import StoreError
from pullback.diffusion.checkpoint import load_artifact
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader
from pullback.ensembles.unfolded import Bins, Unfolded, UnfoldedReader, write_unfolded
from pullback.methods.condition import condition
from pullback.methods.infer import infer
from pullback.methods.loading import Inputs
from pullback.methods.simulator import CountedSimulator
from pullback.methods.states import States, load_states, save_states
from pullback.methods.train import train
from pullback.study.base import job_digest


def test_a_state_comes_back(tmp_path):
    packed = {"a": np.arange(6.0).reshape(2, 3), "none": None, "more": [1, "two", {"b": np.float32(3)}]}
    save_states(tmp_path / "s.pt", States({(0, 4): packed, (4, 6): {}}, {"seconds": 1.5}))
    found = load_states(tmp_path / "s.pt")
    assert found.cost == {"seconds": 1.5}
    assert list(found.packed) == [(0, 4), (4, 6)]
    back = found.of((0, 4))
    np.testing.assert_array_equal(back["a"], packed["a"])
    assert back["more"] == [1, "two", {"b": 3.0}]
    assert back["none"] is None


@pytest.fixture(scope="module")
def refined(tmp_path_factory):
    """A trained model, test events, and a job of a refined inference on sets of 40."""
    folder = tmp_path_factory.mktemp("refined")
    train(**{**small.train_arguments("ei-fm", folder, steps=10, sets_per_step=1), "artifact": folder / "model.pt"})
    test = small.write(folder / "test.h5", 100, 3)

    def job(**more):
        settings = {"draws": 3, "set_size": 40, "bootstrap": 2, "refine": {"particles": 200}}
        frame = {"infer_name": "refined", "infer": settings, "family": "plus"}
        return small.job("ei-fm", method=small.METHODS["ei-fm"], **frame, **more)

    return job, Inputs(test, artifact=folder / "model.pt")


def test_a_state_in_a_file_gives_the_same_draws(refined, tmp_path):
    job, inputs = refined
    infer(job(part=0, parts=1), inputs, tmp_path / "alone.h5")
    text = job()
    condition(text, inputs, tmp_path / "state.pt", tmp_path / "checkpoints", "{}")
    shared = inputs._replace(state=tmp_path / "state.pt")
    wanted, cost = PosteriorReader(tmp_path / "alone.h5"), []
    for part in (0, 1):
        more = {"inputs": {"state": [job_digest(text)]}}
        infer(job(part=part, parts=2, **more), shared, tmp_path / f"{part}.h5")
    found = [PosteriorReader(tmp_path / f"{part}.h5") for part in (0, 1)]
    np.testing.assert_array_equal(np.concatenate([part.read("x") for part in found]), wanted.read("x"))
    cost = [part.cost["network_calls"] for part in found]
    # Events that no particle explains call the network in their own part; the fit is counted once.
    assert sum(cost) == wanted.cost["network_calls"]
    noticed = found[0].diagnostic_values["refine_gain"] | found[1].diagnostic_values["refine_gain"]
    assert noticed == wanted.diagnostic_values["refine_gain"]
    assert not (tmp_path / "checkpoints").exists()


def test_finished_sets_are_taken_up(refined, tmp_path, monkeypatch, caplog):
    job, inputs = refined
    condition(job(), inputs, tmp_path / "whole.pt", tmp_path / "checkpoints", "{}")
    from pullback.methods.refinement import refine

    calls, choose = [], refine.choose

    def stops(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return choose(*arguments)

    monkeypatch.setattr(refine, "choose", stops)
    with pytest.raises(KeyboardInterrupt):
        condition(job(), inputs, tmp_path / "state.pt", tmp_path / "checkpoints", "{}")
    assert not (tmp_path / "state.pt").exists()
    calls.append(1)
    condition(job(), inputs, tmp_path / "state.pt", tmp_path / "checkpoints", "{}")
    # Three sets: one before the stop, the second begun twice, the third.
    assert len(calls) == 2 + 1 + 2
    whole, again = load_states(tmp_path / "whole.pt"), load_states(tmp_path / "state.pt")
    assert list(again.packed) == [(0, 34), (34, 67), (67, 100)]
    for members, packed in whole.packed.items():
        np.testing.assert_array_equal(packed["x"], again.of(members)["x"])
    assert again.cost["network_calls"] == whole.cost["network_calls"]


def test_plain_pairs_are_all_events_in_order(tmp_path):
    paths = [small.write(tmp_path / f"{seed}.h5", 90, seed) for seed in (1, 2)]
    readers = [EnsembleReader(path) for path in paths]
    data = TrainingData(readers, readers[:1], 100)
    blocks = list(data.pairs("train", block=40))
    assert [len(block.x) for block in blocks] == [40, 40, 10] * 2
    for name in ("x", "y"):
        wanted = np.concatenate([reader.read(name) for reader in readers])
        np.testing.assert_array_equal(np.concatenate([getattr(block, name) for block in blocks]), wanted)
    assert all((block.weight == 1).all() for block in blocks)
    assert sum(len(block.x) for block in data.pairs("validation")) == 90


def test_simulations_of_killed_attempts_count(tmp_path):
    x, rng = np.ones((7, 2), np.float32), np.random.default_rng(0)
    CountedSimulator(small.PROBLEM, tmp_path)(x, rng)
    again = CountedSimulator(small.PROBLEM, tmp_path)
    y, ok = again(x[:3], rng)
    assert y.shape == (3, 2)
    assert ok.all()
    assert again.cost == {"simulator_calls": 10, "failed_simulations": 0}


def test_an_unfolded_distribution_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(50, 2)).astype(np.float32), rng.random((50, 3))
    bins = Bins(np.linspace(-1, 1, 5), np.arange(4.0), np.eye(4))
    given = Unfolded(x, weight, {small.PROBLEM.x.features[1]: bins}, {"rounds": 2.0})
    with EnsembleReader(small.write(tmp_path / "e.h5", 30, 1)) as ensemble:
        arguments = (small.PROBLEM.x, ensemble, json.dumps({}), {"seconds": 1.0}, {"distance": 0.5})
        write_unfolded(tmp_path / "u.h5", given, *arguments)
        with pytest.raises(StoreError, match="neither a weighted sample nor bins"):
            write_unfolded(tmp_path / "v.h5", Unfolded(), *arguments)
        with pytest.raises(StoreError, match="correct what `unfold` returns"):
            write_unfolded(tmp_path / "v.h5", Unfolded(x, weight[:40]), *arguments)
        assert not (tmp_path / "v.h5").exists()
        digest = ensemble.digest
    reader = UnfoldedReader(tmp_path / "u.h5")
    np.testing.assert_array_equal(reader.unfolded.x, x)
    np.testing.assert_array_equal(reader.unfolded.weight, weight)
    np.testing.assert_array_equal(reader.unfolded.bins[small.PROBLEM.x.features[1]].content, np.arange(4.0))
    assert reader.ensemble_digest == digest
    assert reader.diagnostics == {"distance": 0.5, "rounds": 2.0}


SIMULATES = """
from typing import ClassVar

import numpy as np

from pullback.diffusion.checkpoint import save_artifact
from pullback.diffusion.settings import Train
from pullback.methods.base import Method
from pullback.study.kinds import MethodSpec


class Rounds(Method):
    def train(self, data, job):
        rng = np.random.default_rng(0)
        for x in (next(data.pairs()).x[:5], next(data.pairs()).x[:3]):
            data.simulator(x, rng)
        save_artifact(job.artifact, {}, {"job": job.job_digest})


class RoundsSpec(MethodSpec):
    returns: ClassVar = "approximate"
    trains: ClassVar[bool] = True
    code: ClassVar = Rounds

    train: Train = Train()
"""


def test_a_training_that_simulates_has_its_calls_in_the_artifact(tmp_path):
    (tmp_path / "rounds.py").write_text(SIMULATES)
    arguments = small.train_arguments("cfm", tmp_path)
    kind = {"kind": "./rounds.py:RoundsSpec"}
    arguments["job"] = small.job("rounds", method=kind, folder=str(tmp_path))
    train(**arguments)
    meta = load_artifact(arguments["artifact"])[1]
    assert meta["cost"] == {"simulator_calls": 8, "failed_simulations": 0}
    assert meta["job"] == job_digest(arguments["job"])
