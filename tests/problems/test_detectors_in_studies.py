"""Detectors as kinds: what a problem gives with each, refusals with their reason, a user's own, and its files."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from pullback.problems.base import can_simulate
from pullback.study import StudyError, load_study
from pullback.study.job_params import Plan
from pullback.study.problem_kind import ProblemKind, problem_kind
from pullback.study.workflow_inputs import Graph

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow/scripts"

OUTSIDE = Path(__file__).resolve().parents[1] / "outside"
GENERATED = {"role": "seen", "params": {"process": "ttbar"}}
READ = {
    "role": "seen",
    "read": {
        "kind": "root",
        "files": {"train": ["a.root"], "validation": ["b.root"], "test": ["c.root"]},
        "y": {"pt": "Jet_pt", "eta": "Jet_eta", "phi": "Jet_phi"},
        "x": {"pt": "G_pt", "eta": "G_eta", "phi": "G_phi", "mass": "G_mass"},
    },
}


def study(folder, detector, family=GENERATED, method=None, **more):
    """A study of one family and one method, read."""
    problem = {
        "kind": "unfolding",
        "simulator": {"detector": detector, "multi_parton_interactions": False},
        "families": {"f": family},
        "methods": {"m": method or {"kind": "cfm"}},
        **more,
    }
    shutil.copy(OUTSIDE / "loses.py", folder)
    return load_study({"config_version": 2, "study": "d", "problems": {"jets": problem}}, folder)


@pytest.mark.parametrize(
    ("detector", "gives"),
    [
        ("smearing", {"pairs", "forward", "likelihood"}),
        ({"kind": "acceptance", "fake_rate": 1}, {"pairs", "forward", "likelihood"}),
        ("particle-flow", {"pairs"}),
        ("learned", {"pairs"}),
        ("./loses.py:Loses", {"pairs", "forward"}),
    ],
)
def test_a_problem_gives_what_its_detector_has(tmp_path, detector, gives):
    family = READ if detector == "learned" else GENERATED
    problem = study(tmp_path, detector, family).problems["jets"]
    assert problem.capabilities == gives
    made = problem_kind("unfolding").build(problem.simulator_values, tmp_path)
    assert can_simulate(made) == ("forward" in gives)
    assert hasattr(made, "log_likelihood") == hasattr(made, "posterior_from_truth") == ("likelihood" in gives)
    made.preflight()
    # Without settings, what the class has methods for.
    assert ProblemKind(type(made)).capabilities() == {"pairs", "forward", "likelihood"}


@pytest.mark.parametrize(
    ("detector", "more", "words"),
    [
        ("particle-flow", {"method": {"kind": "oracle"}}, "of detector 'particle-flow' no likelihood is known"),
        ("./loses.py:Loses", {"method": {"kind": "oracle"}}, "'./loses.py:Loses' no likelihood is known"),
        (
            "particle-flow",
            {
                "method": {
                    "kind": "cfm",
                    "infer": {"em": {"refine": {"likelihood": "exact"}}},
                }
            },
            "no likelihood is known",
        ),
        ("particle-flow", {"evaluation": {"exact_events": 10}}, "no likelihood is known"),
        (
            "particle-flow",
            {"evaluation": {"resimulate_events": 10}},
            "resimulate_events: draws cannot be simulated again; detector 'particle-flow' does not simulate",
        ),
        ("learned", {}, "families.f: detector 'learned' makes no events"),
        ("particle_flow", {}, "there is no kind 'particle_flow'; did you mean 'particle-flow'"),
        ({"kind": "acceptance", "fake_rat": 1}, {}, "did you mean 'fake_rate'"),
        ("./loses.py:Missing", {}, "holds no 'Missing'"),
        ("./other.py:Loses", {}, "there is no file"),
    ],
)
def test_what_a_detector_does_not_have_is_refused(tmp_path, detector, more, words):
    with pytest.raises(StudyError) as error:
        study(tmp_path, detector, **more)
    assert words in str(error.value)


def test_vincia_gives_no_weights(tmp_path):
    simulator = {"shower_variations": {"up": {"fsr_mu_r": 2}}}
    family = {"role": "seen", "params": {"process": "ttbar", "shower": "vincia"}}
    with pytest.raises(StudyError, match=r"families.f.params.shower: Vincia gives no weights"):
        study(tmp_path, "smearing", family, simulator=simulator)


def test_a_name_alone_is_a_kind_with_its_defaults(tmp_path):
    by_name, block = (study(tmp_path, d).problems["jets"].simulator for d in ("smearing", {"kind": "smearing"}))
    assert by_name == block
    assert by_name.model_dump(mode="json")["detector"] == {"kind": "smearing"}


def test_jobs_follow_the_users_detector(tmp_path):
    plan = Plan(study(tmp_path, "./loses.py:Loses"), folder=str(tmp_path))
    assert json.loads(plan.simulate_job("jets", "f", "train", 0))["folder"] == str(tmp_path)
    plan = Plan(study(tmp_path, "smearing"), folder=str(tmp_path))
    assert "folder" not in json.loads(plan.simulate_job("jets", "f", "train", 0))


def test_collisions_are_made_again_after_an_edit_of_their_detector(tmp_path):
    def code(detector):
        graph = Graph(Plan(study(tmp_path, detector), folder=str(tmp_path)), SCRIPTS)
        return json.loads(graph.code("collide", collides="jets"))

    level_1 = code("acceptance")
    assert {f"pullback.simulators.detectors.{name}" for name in ("acceptance", "smearing")} <= set(level_1)
    assert "pullback.simulators.detectors.acceptance" not in code("smearing")
    assert "pullback.problems.unfolding" not in level_1
    assert any(name.endswith("loses.py") for name in code("./loses.py:Loses"))


def test_a_users_detector_makes_events(tmp_path):
    pytest.importorskip("pythia8mc", reason="pip install 'pullback[collider]'")
    pytest.importorskip("fastjet", reason="pip install 'pullback[collider]'")
    uproot = pytest.importorskip("uproot", reason="pip install 'pullback[hep]'")
    from pullback.problems.read import read
    from pullback.simulators.collider import collide

    size = {"train": 20, "validation": 20, "test": 20, "reference": 20}
    simulator = {
        "detector": {"kind": "./loses.py:Loses", "factor": 0.9},
        "multi_parton_interactions": False,
        "format": "rntuple",
    }
    plan = Plan(study(tmp_path, "", size=size, simulator=simulator), folder=str(tmp_path))
    collide(plan.simulate_job("jets", "f", "train", 0), tmp_path / "a.root")
    with uproot.open(tmp_path / "a.root") as file:
        assert file["Events"].classname == "ROOT::RNTuple"
    read(plan.read_job("jets", "f", "train", 0), [tmp_path / "a.root"], [], tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        x, y = file["x"][()], file["y"][()]
        real = np.isfinite(x).all(axis=1)
        assert abs(np.mean(y[real, 0] / x[real, 0]) - 0.9) < 5 * 0.09 / np.sqrt(real.sum())
        assert (abs(y[:, 1]) < 2).all()
        assert file.attrs["collisions"] == file.attrs["sum_of_weights"] == 20
        assert 3e-7 < file.attrs["cross_section_mb"] < 1e-6
