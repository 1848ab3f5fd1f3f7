"""The chain collide -> read -> likelihood, with a real Pythia run; and the problem's forward."""

import json
import sys

import numpy as np
import pytest

pytest.importorskip("uproot", reason="pip install 'pullback[hep]'")
pytest.importorskip("pythia8mc", reason="pip install 'pullback[collider]'")
pytest.importorskip("fastjet", reason="pip install 'pullback[collider]'")

from pullback.ensembles.store import EnsembleReader
from pullback.problems.base import Problem
from pullback.problems.read import read
from pullback.problems.unfolding import Unfolding
from pullback.readers.base import ReadError
from pullback.simulators.collider import collide
from pullback.simulators.collider_settings import UnfoldingSimulator
from pullback.study.problem_kind import ProblemKind, problem_kind

SIMULATOR = {"multi_parton_interactions": False, "truth_pt_min": 25.0, "block": 20}


def task(**more):
    base = {
        "seed": 3,
        "problem": "jets",
        "kind": "unfolding",
        "simulator": SIMULATOR,
        "family": "ttbar",
        "split": "test",
    }
    return json.dumps(base | more)


def made(folder, name, first_block, events, **more):
    """One shard, by the two jobs that make it."""
    params = {"process": "ttbar", "pt_hat_min": 40.0}
    what = {"params": params, "sweep": False, "block": 20, "first_block": first_block, "events": events}
    collide(task(**what, **more), folder / f"{name}.root")
    reader = Unfolding.own_files(UnfoldingSimulator(**more.get("simulator", SIMULATOR)))
    job = task(read=reader.model_dump(mode="json"), first_file=first_block, truth=True, **more)
    read(job, [folder / f"{name}.root"], [], folder / f"{name}.h5")
    with EnsembleReader(folder / f"{name}.h5") as reader:
        assert not reader.fake().any()  # every reconstructed jet is a smeared truth jet
        assert reader.missed is not None
        return {column: reader.read(column) for column in reader.columns}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return made(tmp_path_factory.mktemp("whole"), "whole", 0, 80)


@pytest.fixture
def problem():
    return problem_kind("unfolding").build(SIMULATOR)


def test_same_events_however_collisions_are_cut(pairs, tmp_path):
    first, second = made(tmp_path, "a", 0, 60), made(tmp_path, "b", 3, 20)
    assert set(pairs) == {"x", "y", "event_id", "group", "weight", "fake"}
    for name, values in pairs.items():
        np.testing.assert_array_equal(np.concatenate([first[name], second[name]]), values)
    assert len(np.unique(pairs["event_id"])) == len(pairs["event_id"])
    assert np.array_equal(pairs["event_id"] >> 6, pairs["group"])
    assert len(np.unique(pairs["group"])) <= 80
    assert pairs["x"][:, 0].min() >= 25
    assert (pairs["weight"] == 1).all()


def test_weights_of_shower_variations_are_columns(pairs, tmp_path):
    varied = made(tmp_path, "v", 0, 20, simulator={**SIMULATOR, "shower_variations": {"fsr_up": {"fsr_mu_r": 2}}})
    assert set(varied) == {*pairs, "weight_fsr_up"}
    assert varied["weight_fsr_up"].std() > 0.1
    _, first = np.unique(varied["group"], return_index=True)
    of_collision = varied["weight_fsr_up"][first]
    np.testing.assert_array_equal(
        varied["weight_fsr_up"], of_collision[np.searchsorted(varied["group"][first], varied["group"])]
    )


def test_a_sweep_is_many_ensembles_of_their_own_priors(tmp_path):
    params = {"process": "leptoquarks", "mass": {"uniform": [300.0, 1500.0]}, "fsr_mu_r": 0.7}
    reader = Unfolding.own_files(UnfoldingSimulator(**SIMULATOR)).model_dump(mode="json")
    whole = []
    for name, first, events in (("all", 0, 60), ("last", 2, 20)):
        what = {"params": params, "sweep": True, "block": 20, "first_block": first, "events": events}
        collide(task(**what), tmp_path / f"{name}.root")
        job = task(read=reader, first_file=first, truth=True)
        read(job, [tmp_path / f"{name}.root"], [], tmp_path / f"{name}.h5")
        whole.append(EnsembleReader(tmp_path / f"{name}.h5"))
    found, last = whole
    assert found.theta_names == ["fsr_mu_r", "mass"]
    assert found.theta[:, 0].tolist() == [0.7] * 3
    assert len(set(found.theta[:, 1])) == 3
    assert ((found.theta[:, 1] > 300) & (found.theta[:, 1] < 1500)).all()
    ensemble = np.searchsorted(found.offsets, np.arange(found.n), side="right") - 1
    assert ((found.read("group") >> 20) == ensemble).all()
    np.testing.assert_array_equal(last.theta, found.theta[2:])
    np.testing.assert_array_equal(last.read("x"), found.read("x")[ensemble == 2])
    # Two leptoquarks of mass m give a quark each, of pT near m / 2.
    heaviest, lightest = found.theta[:, 1].argmax(), found.theta[:, 1].argmin()
    pt = found.read("x")[:, 0]
    assert np.quantile(pt[ensemble == heaviest], 0.8) > np.quantile(pt[ensemble == lightest], 0.8)


def test_an_ensemble_without_jets_is_refused(tmp_path):
    simulator = {**SIMULATOR, "truth_pt_min": 200.0}
    params = {"process": "dijets", "pt_hat_min": {"uniform": [20.0, 21.0]}}
    what = {"params": params, "sweep": True, "block": 2, "first_block": 0, "events": 4}
    collide(task(simulator=simulator, **what), tmp_path / "a.root")
    reader = Unfolding.own_files(UnfoldingSimulator(**SIMULATOR)).model_dump(mode="json")
    job = task(read=reader | {"x_pt_min": 200.0}, first_file=0, truth=True)
    with pytest.raises(ReadError, match=r"no jets are left|ensembles of this sweep have no events"):
        read(job, [tmp_path / "a.root"], [], tmp_path / "a.h5")


def test_a_higher_cut_keeps_those_jets_above_it(pairs, tmp_path):
    fewer = made(tmp_path, "cut", 0, 20, simulator={**SIMULATOR, "reco_pt_min": 40.0})
    there = np.isin(pairs["event_id"], fewer["event_id"])
    first = pairs["group"] <= fewer["group"].max()
    assert there[first].tolist() == (pairs["y"][first, 0] >= 40).tolist()
    np.testing.assert_array_equal(pairs["y"][there], fewer["y"])


def test_pairs_follow_the_problems_own_likelihood(problem, pairs):
    again, ok = problem.simulate(pairs["x"], np.random.default_rng(0))
    assert ok.all()
    assert again.dtype == np.float32
    found = problem.log_likelihood(pairs["y"], pairs["x"])
    wanted = problem.log_likelihood(again, pairs["x"])
    assert np.isfinite(found).all()
    n = len(found)
    assert n > 200
    assert abs(found.mean() - wanted.mean()) < 5 * np.hypot(found.std(), wanted.std()) / np.sqrt(n)
    # and not the law of other jets: shuffled truths are far less likely
    shuffled = problem.log_likelihood(pairs["y"], np.roll(pairs["x"], 1, axis=0))
    assert np.median(shuffled) < np.median(found) - 10


def test_likelihood_weights_a_pool_of_truths(problem, pairs):
    table = problem.log_likelihood(pairs["y"][:5, None], pairs["x"][None])
    assert table.shape == (5, len(pairs["x"]))
    assert table.dtype == np.float64
    assert np.argmax(table[np.arange(5), :5], axis=1).tolist() == [0, 1, 2, 3, 4]


def test_what_the_problem_declares(problem):
    assert ProblemKind(type(problem)).capabilities(problem.options) == {"pairs", "forward", "likelihood"}
    assert problem.block == 20
    assert problem.x.features == ("pt", "eta", "phi", "mass")
    assert problem.y.features == ("pt", "eta", "phi")
    assert all(hasattr(problem, name) for name in ("simulate", "log_likelihood", "preflight", *Problem.__annotations__))


def test_truths_outside_the_detectors_formulas_fail(problem):
    x = np.array([[15.0, 0, 0, 1], [50.0, 0, 0, 1]], dtype=np.float32)
    y, ok = problem.simulate(x, np.random.default_rng(0))
    assert ok.tolist() == [False, True]
    assert np.isnan(y).all(axis=1).tolist() == [True, False]
    projected, changed = problem.x.project(x)
    assert changed.tolist() == [True, False]
    assert problem.simulate(projected, np.random.default_rng(0))[1].all()


def test_preflight_says_what_will_be_made(problem, monkeypatch):
    report = problem.preflight()
    assert report["pythia8mc version"] == "8.317.2"
    assert report["multi-parton interactions"] is False
    assert report["response"][2] == pytest.approx(0.6572, abs=1e-4)
    json.dumps(report)
    monkeypatch.setitem(sys.modules, "pythia8mc", None)
    assert problem.preflight()["pythia8mc version"] == "not installed"
