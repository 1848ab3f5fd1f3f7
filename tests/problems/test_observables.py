"""The kind `observables`: fields and capabilities from the study, collisions as events, and a chain to the metrics."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pullback.ensembles.store import EnsembleReader, index_ensemble
from pullback.methods.infer import infer
from pullback.methods.loading import Inputs
from pullback.methods.train import train
from pullback.metrics.evaluate import evaluate
from pullback.metrics.examples import bin_edges
from pullback.problems.base import can_simulate
from pullback.problems.read import read
from pullback.study import StudyError, load_study, read_study
from pullback.study.job_params import Plan
from pullback.study.problem_kind import problem_kind
from pullback.study.workflow_inputs import Graph

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"
FILES = {split: [f"{split}.npz"] for split in ("train", "validation", "test", "reference")}
TWO = {"a": {"units": "GeV"}, "b": {}}
READ = {"kind": "table", "files": FILES, "x": {"a": "xa", "b": "xb"}, "y": {"a": "ya", "b": "yb"}}
RANDOM = {"random": {"kind": "random-truth"}}
GENERATED = {
    "generator": {"multi_parton_interactions": False, "detector": "acceptance", "block": 20},
    "pass_x": "count(GenJet_pt > 30) >= 2",
    "pass_y": "count(Jet_pt > 20) >= 2",
    "x": {
        "n": {"expression": "count(GenJet_pt > 30)"},
        "ht": {"units": "GeV", "transform": "log", "expression": "sum(GenJet_pt[GenJet_pt > 30])"},
        "phi": {"units": "rad", "transform": "periodic", "expression": "nth(GenJet_phi, 0)"},
    },
    "y": {
        "n": {"expression": "count(Jet_pt > 20)"},
        "ht": {"units": "GeV", "transform": "log", "expression": "sum(Jet_pt[Jet_pt > 20])"},
        "phi": {"units": "rad", "transform": "periodic", "expression": "nth(Jet_phi, 0)"},
    },
}
DIJETS = {"role": "seen", "params": {"process": "dijets", "pt_hat_min": 40}}


def study(simulator, family=None, methods=None, folder=".", **more):
    families = {"f": family or {"role": "seen", "read": READ}}
    problem = {"kind": "observables", "simulator": simulator, "families": families, "methods": methods or RANDOM}
    return load_study({"config_version": 2, "study": "s", "problems": {"p": {**problem, **more}}}, folder)


def changed(values, *path, to):
    """A copy of nested values with one changed; None takes it away."""
    copy = json.loads(json.dumps(values))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    if to is None:
        del inner[path[-1]]
    return copy


def test_fields_are_those_of_the_study():
    made = problem_kind("observables").build(
        {
            "x": {
                "a": {"units": "GeV", "transform": "log", "low": 30},
                "phi": {"units": "rad", "transform": "periodic"},
            },
            "y": {"phi": {"units": "rad", "transform": "periodic"}},
        }
    )
    assert (made.x.features, made.x.units, made.x.transforms) == (("a", "phi"), ("GeV", "rad"), ("log", "periodic"))
    assert (made.x.low, made.x.high) == ((30, -np.inf), (np.inf, np.inf))
    assert (made.y.name, made.y.dims, made.y.shape) == ("y", ("y_feature",), (1,))


ANGLE = {"units": "rad", "transform": "periodic"}


@pytest.mark.parametrize(
    ("simulator", "words"),
    [
        (changed({"x": TWO, "y": TWO}, "x", "a", "transform", to="sqrt"), "simulator.x.a.transform: Input should be"),
        (changed({"x": TWO, "y": TWO}, "x", "a", "unit", to="GeV"), "unknown key; did you mean 'units'"),
        ({"x": {"a": {"units": "deg", "transform": "periodic"}}, "y": TWO}, "found deg of a periodic quantity"),
        ({"x": {"a": {"low": 2, "high": 1}}, "y": TWO}, "low: found 2 and high 1"),
        ({"x": {"a b": {}}, "y": TWO}, "a b"),
        ({"x": [{"name": "a"}, {"name": "a"}], "y": TWO}, "'a' is there twice"),
        ({"x": ["a", "b"], "y": TWO}, "wanted a block of observables by name"),
        (
            changed({"x": TWO, "y": TWO}, "y", "a", "units", to="MeV"),
            "y.a.units: found MeV, and a of x is in GeV",
        ),
        ({"x": {**TWO, "phi": ANGLE}, "y": TWO}, r"simulator.x.phi.transform: .*phi of y is not there"),
        ({"x": {**TWO, "phi": ANGLE}, "y": {**TWO, "phi": {}}}, "phi of y is not periodic"),
        ({"x": TWO, "y": TWO, "pass_y": "ya > 0"}, "simulator.pass_y: is of generated collisions"),
        ({"x": TWO, "y": changed(TWO, "a", "expression", to="ya")}, "simulator.y.a.expression: is of generated"),
        ({"x": TWO, "y": TWO, "detector": "smearing"}, "'smearing' is of jets' pt, eta, phi and mass"),
        ({"x": TWO, "y": TWO, "detector": "smering"}, "did you mean 'smearing'"),
    ],
)
def test_what_a_study_may_not_say(simulator, words):
    with pytest.raises(StudyError, match=words):
        study(simulator)


def test_a_name_stands_once_in_a_file(tmp_path):
    (tmp_path / "a.yaml").write_text("problems:\n  p:\n    simulator:\n      x: {a: {}, b: {}, a: {}}\n")
    with pytest.raises(StudyError, match="the key 'a' stands twice"):
        read_study(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("path", "to", "words"),
    [
        (("y", "ht", "expression"), "sum(Jet_pT)", "no branch 'Jet_pT'; did you mean 'Jet_pt'"),
        (("y", "ht", "expression"), "sum(Jet_pt", "is no expression"),
        (("y", "ht", "expression"), "sum(GenJet_pt)", "'GenJet_pt' is of true jets, and y is computed from Jet_pt"),
        (("x", "ht", "expression"), "sum(Jet_pt)", "'Jet_pt' is of reconstructed jets"),
        (("x", "ht", "expression"), None, r"simulator.x.ht.expression: with `generator`, ht is computed"),
        (("pass_x",), "count(Jet_pt) > 1", "simulator.pass_x: 'Jet_pt' is of reconstructed jets"),
        (("generator", "reco_pt_min"), 20, "cut in the expressions"),
        (("generator", "detector"), "learned", "detector 'learned' makes no events"),
        (("generator", "engery"), 1, "did you mean 'energy'"),
        (("detector",), "own_detector.py:Blur", "and no other detector describes it"),
    ],
)
def test_what_a_generator_may_not_be_told(path, to, words):
    with pytest.raises(StudyError, match=words):
        study(changed(GENERATED, *path, to=to), DIJETS, folder=Path(__file__).parent)


def test_without_a_generator_families_are_read():
    with pytest.raises(StudyError, match=r"families.f: there is no `simulator.generator` to make its events"):
        study({"x": TWO, "y": TWO}, DIJETS)


def test_angles_of_x_are_in_no_prior_and_no_likelihood():
    both = {"x": {**TWO, "phi": ANGLE}, "y": {**TWO, "phi": ANGLE}}
    names = {"x": {"a": "xa", "b": "xb", "phi": "xp"}, "y": {"a": "ya", "b": "yb", "phi": "yp"}}
    family = {"role": "seen", "read": {**READ, **names}}
    network = {"kind": "mlp"}
    for more, words in (
        (
            {"priors": {"d": {"kind": "edm", "network": network}}},
            "networks see phi of x of problem kind 'observables' relative to y",
        ),
        ({"likelihoods": {"g": {"kind": "gmm"}}}, "none can be learned: networks see phi of x relative"),
    ):
        with pytest.raises(StudyError, match=words):
            study(both, family, **more)
        study({"x": TWO, "y": TWO}, **more)


def test_capabilities_follow_from_the_detector():
    kind, here = problem_kind("observables"), Path(__file__).parent
    for name, has in (
        ("learned", {"pairs"}),
        ("own_detector.py:Blur", {"pairs", "forward"}),
        ("own_detector.py:KnownBlur", {"pairs", "forward", "likelihood"}),
    ):
        simulator = {"x": TWO, "y": TWO, "detector": name}
        assert kind.capabilities(kind.settings(simulator, {"folder": here})) == has
        made = kind.build(simulator, here)
        assert can_simulate(made) == ("forward" in has)
        assert hasattr(made, "log_likelihood") == ("likelihood" in has)
    oracle = {"oracle": {"kind": "oracle"}}
    with pytest.raises(StudyError, match="of detector 'learned' no likelihood is known"):
        study({"x": TWO, "y": TWO}, methods=oracle)
    with pytest.raises(StudyError, match=r"of detector 'own_detector.py:Blur' no likelihood is known"):
        study({"x": TWO, "y": TWO, "detector": "own_detector.py:Blur"}, methods=oracle, folder=here)
    again = {"evaluation": {"resimulate_events": 10}}
    with pytest.raises(StudyError, match="detector 'learned' does not simulate observations from a truth"):
        study({"x": TWO, "y": TWO}, **again)
    study({"x": TWO, "y": TWO, "detector": "own_detector.py:KnownBlur"}, methods=oracle, folder=here, **again)


def test_jobs_follow_the_file_of_an_own_detector(tmp_path):
    shutil.copy(Path(__file__).parent / "own_detector.py", tmp_path)
    detector = {"kind": "./own_detector.py:Blur", "width": 2.0}
    plan = Plan(study({"x": TWO, "y": TWO, "detector": detector}, folder=tmp_path), tmp_path)
    job = json.loads(plan.preflight_job("p"))
    assert job["folder"] == str(tmp_path)
    assert problem_kind("observables").build(job["simulator"], job["folder"]).detector.width == 2.0
    for script in ("evaluate", "read"):
        assert "own_detector.py" in json.loads(Graph(plan, SCRIPTS).code(script, "p"))


def test_an_own_detector_gives_recorded_observations():
    """Given that they are recorded, the first observable is a truncated normal."""
    here = Path(__file__).parent
    made = problem_kind("observables").build({"x": TWO, "y": TWO, "detector": "own_detector.py:KnownBlur"}, here)
    n, x = 4000, np.array([0.8, 2.0])
    y, ok = made.simulate(np.tile(x, (n, 1)), np.random.default_rng(1))
    assert ok.all()
    law = stats.truncnorm((1.0 - 0.8) / 0.5, np.inf, 0.8, 0.5)
    # A Kolmogorov-Smirnov p-value is uniform where the law is right.
    assert stats.kstest(y[:, 0], law.cdf).pvalue > 1e-3
    assert stats.kstest(y[:, 1], stats.norm(2.0, 0.2).cdf).pvalue > 1e-3
    expected = law.logpdf(y[:, 0]) + stats.norm(2.0, 0.2).logpdf(y[:, 1])
    np.testing.assert_allclose(made.log_likelihood(y.astype(float), x[None]), expected, rtol=1e-6, atol=1e-6)
    x = np.array([[np.nan, 0.0], [5.0, 0.0]])
    y, ok = made.simulate(x, np.random.default_rng(1))
    assert ok.tolist() == [False, True]
    assert np.isnan(y[0]).all()
    wrong = problem_kind("observables").build({"x": TWO, "y": TWO, "detector": "own_detector.py:Wrong"}, here)
    with pytest.raises(ValueError, match=r"smear gave y of shape \(1, 3\) .* wanted \(1, 2\)"):
        wrong.simulate(np.ones((1, 2)), np.random.default_rng(1))


def test_collisions_do_not_depend_on_the_observables():
    """An edit of an expression reads the files again, and makes no collisions."""
    plan = Plan(study(GENERATED, DIJETS))
    other = Plan(study(changed(GENERATED, "y", "ht", "expression", to="sum(Jet_pt)"), DIJETS))
    assert plan.source("p", "f") == "collide"
    assert plan.simulate_job("p", "f", "test", 0) == other.simulate_job("p", "f", "test", 0)
    assert plan.read_job("p", "f", "test", 0) != other.read_job("p", "f", "test", 0)
    job = json.loads(plan.simulate_job("p", "f", "test", 0))
    assert job["simulator"]["detector"]["kind"] == "acceptance"
    assert job["block"] == 20


def test_collisions_are_read_as_events(tmp_path):
    """Observables, misses and fakes of each collision, computed a second time from the branches."""
    pytest.importorskip("pythia8mc", reason="pip install 'pullback[collider]'")
    uproot = pytest.importorskip("uproot", reason="pip install 'pullback[hep]'")
    from pullback.simulators.collider import collide

    plan = Plan(study(GENERATED, DIJETS, size={"test": 100}))
    collide(plan.simulate_job("p", "f", "test", 0), tmp_path / "a.root")
    read(plan.read_job("p", "f", "test", 0), [tmp_path / "a.root"], [], tmp_path / "a.h5")
    with uproot.open(tmp_path / "a.root") as file:
        table = file["Events"].arrays(library="np")
    truth, seen, recorded = {}, {}, {}
    branches = ("event", "GenJet_pt", "GenJet_phi", "Jet_pt", "Jet_phi")
    for number, *jets in zip(*(table[name] for name in branches), strict=True):
        for into, (pt, phi), cut in ((truth, jets[:2], 30), (seen, jets[2:], 20)):
            hard = pt > cut
            if hard.sum() >= 2:
                into[number] = [hard.sum(), pt[hard].sum(dtype=float), phi[0]]
    with EnsembleReader(tmp_path / "a.h5") as found:
        recorded = {name: found.read(name) for name in found.columns}
        missed, fake = found.missed, found.fake()
        assert found.attributes["collisions"] == 100
    assert set(recorded["event_id"].tolist()) == set(seen)
    assert 0 < len(missed.x) < 60
    assert 0 < fake.sum() < len(fake)
    for number, y, x, is_fake in zip(*(recorded[name] for name in ("event_id", "y", "x")), fake, strict=True):
        np.testing.assert_allclose(y, seen[number], rtol=1e-6)
        assert is_fake == (number not in truth)
        if not is_fake:
            np.testing.assert_allclose(x, truth[number], rtol=1e-6)
    np.testing.assert_array_equal(recorded["group"], recorded["event_id"])
    assert set(missed.group.tolist()) == set(truth) - set(seen)
    for number, x in zip(missed.group.tolist(), missed.x, strict=True):
        np.testing.assert_allclose(x, truth[number], rtol=1e-6)


# ---- ten observables of events from .npz files, from reader to metrics

NAMES = tuple(f"f{i}" for i in range(9))
TEN = {**{name: {"units": "GeV", "transform": "log"} for name in NAMES}, "phi": ANGLE}
COLUMNS = {
    "x": {**{name: f"x[{i}]" for i, name in enumerate(NAMES)}, "phi": "x[9]"},
    "y": {**{name: f"y[{i}]" for i, name in enumerate(NAMES)}, "phi": "y[9]"},
    "group": "group",
}
FAST = {"steps": 30, "sets_per_step": 2, "set_size": [32, 64], "loss_members": 16}
EI_FM = {
    "kind": "ei-fm",
    "k": 2,
    "network": {"kind": "mlp", "width": 16, "depth": 2},
    "set_encoder": {"kind": "moments", "hidden": 8},
    "train": FAST,
    "infer": {"fast": {"solver": "euler", "steps": 2, "draws": 12, "set_size": 64}},
}


def collisions(path, n, seed):
    rng = np.random.default_rng(seed)
    x = np.exp(rng.normal(3, 0.5, (n, 10)))
    x[:, 9] = rng.uniform(-np.pi, np.pi, n)
    y = x * np.exp(rng.normal(0, 0.1, x.shape))
    y[:, 9] = np.angle(np.exp(1j * (x[:, 9] + rng.normal(0, 0.1, n))))
    np.savez(path, x=x, y=y, group=np.arange(n) // 2)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The drivers, one after the other, on one family."""
    folder = tmp_path_factory.mktemp("ten")
    for seed, split in enumerate(FILES):
        collisions(folder / f"{split}.npz", 150, seed)
    files = {split: [str(folder / name) for name in names] for split, names in FILES.items()}
    family = {"role": "seen", "read": {"kind": "table", "files": files, **COLUMNS}}
    plan = Plan(study({"x": TEN, "y": TEN}, family, {"m": EI_FM}, evaluation={"bootstrap": 20}))
    index = {}
    for split in FILES:
        shard, index[split] = folder / f"{split}.shard.h5", folder / f"{split}.h5"
        read(plan.read_job("p", "f", split, 0), [folder / f"{split}.npz"], [], shard)
        index_ensemble(plan.index_job("p", "f", split), [shard], index[split])
    train(
        plan.train_job("p", "methods", "m", 0),
        train=[index["train"]],
        validation=[index["validation"]],
        artifact=folder / "m.pt",
        curves=folder / "m.csv",
        checkpoints=folder / "checkpoints",
        code="{}",
    )
    infer(
        plan.infer_job("p", "m", "fast", 0, "f", 0),
        Inputs(index["test"], artifact=folder / "m.pt"),
        out=folder / "draws.h5",
        checkpoints=folder / "more",
        code="{}",
    )
    evaluate(
        plan.evaluate_job("p", "m"),
        posteriors=[folder / "draws.h5"],
        unfolded=[],
        ensembles={"f": index["test"]},
        references={"f": index["reference"]},
        seen=[index["train"]],
        metrics=folder / "metrics.csv",
        cost=folder / "cost.csv",
        examples=folder / "m.examples",
    )
    return folder


def test_metrics_of_ten_observables(evaluated):
    import pandas as pd

    table = pd.read_csv(evaluated / "metrics.csv").set_index("metric")
    for name in (*NAMES, "phi"):
        assert table.loc[f"w1_draw.{name}", "unit"] == ("rad" if name == "phi" else "GeV")
        assert table.loc[f"sbc_ks.{name}", "n"] == 150
        assert table.loc[f"w1_draw.{name}", "groups"] == 75
    assert table.loc["w1_draw.phi", "value"] < np.pi / 2
    assert table.loc["swd_draw", "unit"] == "1"


def test_the_report_draws_ten_spectra(evaluated):
    """In the order of the study, in rows of four, with units."""
    from pullback.report.calibration import drawings
    from pullback.report.examples import read_examples
    from pullback.report.pictures import spectra
    from pullback.report.style import make_series
    from pullback.report.tables import Family

    (example,) = read_examples([evaluated / "m.examples"])
    assert [(s.name, s.unit) for s in example.spectra] == [*((name, "GeV") for name in NAMES), ("phi", "rad")]
    (series,) = make_series([("m", "fast", "ei-fm", "approximate")])
    drawing = spectra("ten", [(series, example)])
    assert "Spectra of f0, f1, f2" in drawing.alt
    assert drawing.svg.count("ratio to truth") == 3
    ranks, _ = drawings("ten", [Family("f", "f", "seen")], [series], [example])
    assert "each of 10 quantities" in ranks.svg


@pytest.mark.parametrize("step", [1, 4])
def test_bins_of_whole_numbers_hold_as_many_each(step):
    edges = bin_edges(np.arange(2.0, 2 + 25 * step).repeat(3), logarithmic=False)
    inside = np.histogram(np.arange(2, 2 + 25 * step), edges)[0]
    assert (inside == step).all()
    assert inside.sum() == 25 * step
