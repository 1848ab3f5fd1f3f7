"""Shards from simulators: the same data however they are cut; failures; shifts; the user's own simulators."""

import json
import sys

import numpy as np
import pytest

from pullback.core.seeding import generator
from pullback.ensembles.fields import Field
from pullback.ensembles.store import EnsembleReader, StoreError, index_ensemble
from pullback.problems import derive as derive_module
from pullback.problems.base import SimulationError
from pullback.problems.command import CommandError
from pullback.problems.derive import Resimulation, apply_shift, derive
from pullback.problems.noise import with_noise
from pullback.problems.preflight import preflight
from pullback.problems.simulate import simulate
from pullback.study import load_study
from pullback.study.job_params import Plan
from pullback.study.problem_kind import problem_kind
from pullback.study.shifts import MissingShift, NoiseShift, ScaleShift

SWEEP = {
    "role": "seen",
    "params": {"gamma": {"uniform": [-0.5, 0.5]}},
    "sweep": {"ensembles": 7, "events": 40, "validation_ensembles": 2},
}
GAUSSIAN = {
    "kind": "gaussian",
    "families": {
        "sweep": SWEEP,
        "fixed": {"role": "unseen", "params": {"gamma": 0.5}},
        "data": {"role": "observed", "events_from": "fixed"},
        "noisy": {"role": "unseen", "events_from": "fixed", "shift": {"kind": "noise", "relative": 0.1}},
    },
    "methods": {"cfm": {"kind": "cfm"}},
}


def plan(problem, folder=".", **size):
    config = {"config_version": 2, "study": "s", "problems": {"toy": {**problem, "size": size}}}
    return Plan(load_study(config, folder), folder)


def make_split(study_plan, family, split, folder):
    shards = []
    for i in range(study_plan.shards("toy", family, split)):
        shards.append(folder / split / f"shard-{i:03d}.h5")
        simulate(study_plan.simulate_job("toy", family, split, i), shards[-1])
    out = folder / f"{split}.h5"
    index_ensemble(study_plan.index_job("toy", family, split), shards, out)
    return out


@pytest.mark.parametrize(("family", "split"), [("fixed", "test"), ("sweep", "train")])
def test_data_do_not_depend_on_the_number_of_shards(tmp_path, family, split):
    digests = set()
    for shard in (100, 1000, 5000):
        out = make_split(plan(GAUSSIAN, test=2500, shard=shard), family, split, tmp_path / str(shard))
        digests.add(EnsembleReader(out).digest)
    assert len(digests) == 1


def test_splits_families_and_seeds_differ(tmp_path):
    first = plan(GAUSSIAN, test=50, reference=50)
    a = EnsembleReader(make_split(first, "fixed", "test", tmp_path / "a")).read("x")
    b = EnsembleReader(make_split(first, "fixed", "reference", tmp_path / "b")).read("x")
    assert not np.isin(a, b).any()


def test_a_sweep_has_ensembles_with_their_parameters(tmp_path):
    reader = EnsembleReader(make_split(plan(GAUSSIAN), "sweep", "train", tmp_path))
    assert (len(reader.offsets), reader.n) == (8, 280)
    assert len(np.unique(reader.theta)) == 7
    assert (np.abs(reader.theta) <= 0.5).all()
    other = EnsembleReader(make_split(plan(GAUSSIAN), "sweep", "validation", tmp_path))
    assert not np.isin(reader.theta, other.theta).any()


def test_a_family_taken_from_another(tmp_path):
    study_plan = plan(GAUSSIAN, test=50)
    base = make_split(study_plan, "fixed", "test", tmp_path)
    derive(study_plan.derive_job("toy", "data"), base, tmp_path / "data.h5")
    derive(study_plan.derive_job("toy", "noisy"), base, tmp_path / "noisy.h5")
    original, data, noisy = (EnsembleReader(p) for p in (base, tmp_path / "data.h5", tmp_path / "noisy.h5"))
    assert data.x is None
    np.testing.assert_array_equal(data.read("y"), original.read("y"))
    np.testing.assert_array_equal(noisy.read("x"), original.read("x"))
    rms = np.sqrt((original.read("y") ** 2).mean(1, keepdims=True))
    change = (noisy.read("y") - original.read("y")) / rms
    assert change.std() == pytest.approx(0.1, rel=5 / np.sqrt(2 * change.size))


def test_noise_is_that_of_all_events_at_once():
    y = np.random.default_rng(0).normal(size=(7, 3, 50)).astype(np.float32)
    rms = np.sqrt((y.reshape(7, -1) ** 2).mean(axis=1)).reshape(7, 1, 1)
    whole = y + 0.3 * rms * np.random.default_rng(1).standard_normal(y.shape)
    found = with_noise(y, 0.3, np.random.default_rng(1))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, whole.astype(np.float32))


@pytest.mark.parametrize(
    "shift", [{"kind": "noise", "relative": 0.1}, {"kind": "missing", "dimension": "y_feature", "fraction": 0.5}]
)
def test_a_shift_does_not_depend_on_what_is_read_at_once(tmp_path, monkeypatch, shift):
    """Two blocks of random numbers, the second short; 24 bytes an event."""
    families = GAUSSIAN["families"] | {"noisy": {"role": "unseen", "events_from": "fixed", "shift": shift}}
    study_plan = plan({**GAUSSIAN, "simulator": {"dimension": 3}, "families": families}, test=1300)
    base = make_split(study_plan, "fixed", "test", tmp_path)
    seen, read = [], EnsembleReader.read

    def counted(self, name, start=0, stop=None):
        found = read(self, name, start, stop)
        seen.append(len(found))
        return found

    monkeypatch.setattr(EnsembleReader, "read", counted)
    digests = set()
    for index, size in enumerate((64 << 20, 24 * 77)):
        monkeypatch.setattr(derive_module, "SHIFT_BYTES", size)
        seen.clear()
        derive(study_plan.derive_job("toy", "noisy"), base, tmp_path / f"{index}.h5")
        assert max(seen) == (1000, 77)[index]
        digests.add(EnsembleReader(tmp_path / f"{index}.h5").digest)
    assert len(digests) == 1


def test_shifts_do_what_they_say():
    rng = np.random.default_rng(0)
    field = Field.array("y", ("source", "receiver"), (3, 10), "1")
    y = rng.normal(size=(20, 3, 10)) + 5
    gone = apply_shift(MissingShift(kind="missing", dimension="receiver", fraction=0.3), y, field, rng) == 0
    assert (gone.all(axis=1).sum(axis=1) == 3).all()
    assert (gone.any(axis=1) == gone.all(axis=1)).all()
    np.testing.assert_allclose(apply_shift(ScaleShift(kind="scale", factor=2), y, field, rng), 2 * y)
    jets = Field.vector("y", ("pt", "eta"), ("GeV", "1"))
    scaled = apply_shift(ScaleShift(kind="scale", factor=2, feature="pt"), y[:, 0, :2], jets, rng)
    np.testing.assert_allclose(scaled / y[:, 0, :2], np.tile([2.0, 1.0], (20, 1)))
    noisy = apply_shift(NoiseShift(kind="noise", relative=0.5), y, field, rng)
    assert noisy.shape == y.shape
    for whole in (ScaleShift(kind="scale", factor=2), NoiseShift(kind="noise", relative=0.1)):
        with pytest.raises(SimulationError, match="changes all of y alike, and its units are GeV, 1: scale one"):
            apply_shift(whole, y[:, 0, :2], jets, rng)
    for fraction, gone in ((0.04, 0), (0.96, 10)):
        with pytest.raises(
            SimulationError, match=rf"fraction: {fraction} of 10 along receiver is {gone}, wanted at least"
        ):
            apply_shift(MissingShift(kind="missing", dimension="receiver", fraction=fraction), y, field, rng)
    with pytest.raises(SimulationError, match="y has source, receiver"):
        apply_shift(MissingShift(kind="missing", dimension="reciever", fraction=0.3), y, field, rng)


def changed(change: dict, **more) -> dict:
    return {"role": "unseen", "events_from": "fixed", "shift": {"kind": "simulator", "change": change}, **more}


# Two shots of .32 s over 20 x 24 nodes, x on 10 x 12 of them; 25 events are a block of 20 and one of 5.
WAVES = {
    "kind": "fwi",
    "simulator": {
        "depth_cells": 19,
        "offset_cells": 23,
        "x_cells": [10, 12],
        "absorbing_cells": 20,
        "sources": 2,
        "receivers": 6,
        "record_length": 0.32,
        "output_interval": 0.02,
    },
    "families": {
        "seen": {"role": "seen", "params": {"geology": "flat"}},
        "fixed": {"role": "unseen", "params": {"geology": "curved-fault", "sorted": False}},
        "wavelet": changed({"peak_frequency": 6.0}),
        "fine": changed({"x_cells": None}),
        "blind": changed({"peak_frequency": 6.0}, role="observed"),
        "longer": changed({"record_length": 0.4}),
    },
    "methods": {"random": {"kind": "random-truth"}},
}


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """A plan with its base family's test ensemble."""
    study_plan = plan(WAVES, test=25)
    return study_plan, make_split(study_plan, "fixed", "test", tmp_path_factory.mktemp("waves"))


def derived(waves, family, tmp_path):
    derive(waves[0].derive_job("toy", family), waves[1], tmp_path / "derived.h5")
    return EnsembleReader(waves[1]), EnsembleReader(tmp_path / "derived.h5")


def test_truth_simulated_with_another_wavelet(waves, tmp_path):
    """The truth stays, and the observations are those of a problem that has this wavelet from the start."""
    base, shifted = derived(waves, "wavelet", tmp_path)
    for column in ("x", "event_id"):
        np.testing.assert_array_equal(shifted.read(column), base.read(column))
    wrong = problem_kind("fwi").build({**WAVES["simulator"], "peak_frequency": 6.0})
    np.testing.assert_array_equal(shifted.read("y"), wrong.apply(base.read("x"))[0])
    gap = np.linalg.norm(shifted.read("y") - base.read("y")) / np.linalg.norm(base.read("y"))
    assert gap > 0.1
    _, blind = derived(waves, "blind", tmp_path)
    assert blind.x is None
    np.testing.assert_array_equal(blind.read("y"), shifted.read("y"))


def test_truth_simulated_in_finer_rock(waves, tmp_path):
    """The truth that is judged keeps its nodes; the waves have gone through the same rock on all nodes."""
    base, shifted = derived(waves, "fine", tmp_path)
    np.testing.assert_array_equal(shifted.read("x"), base.read("x"))
    fine = problem_kind("fwi").build({**WAVES["simulator"], "x_cells": None})
    rock = [
        fine.sample_prior(generator(0, "toy", "fixed", "test", block), n, WAVES["families"]["fixed"]["params"])
        for block, n in ((0, 20), (1, 5))
    ]
    rock = np.concatenate(rock)
    np.testing.assert_allclose(rock[:, ::2, ::2], base.read("x"), rtol=2e-6)
    np.testing.assert_array_equal(shifted.read("y"), fine.apply(rock)[0])
    assert np.abs(shifted.read("y") - base.read("y")).max() > 0


def test_finer_nodes_are_no_weaker_source(waves):
    """Half the spacing over the same section: the same waves, to what 10 nodes per wavelength leave of them."""
    simulator = WAVES["simulator"] | {"receivers": [0, 80, 180, 260, 360, 440]}
    spec = json.loads(waves[0].derive_job("toy", "wavelet")) | {"simulator": simulator}
    finer = {"spacing": 10, "depth_cells": 37, "offset_cells": 45, "absorbing_cells": 40, "time_step": 0.001}
    x = EnsembleReader(waves[1]).read("x", 0, 2)
    y, _ = problem_kind("fwi").build(simulator).apply(x)
    found = Resimulation(spec, finer).observations(x, 0, np.random.default_rng(0))
    assert found.dtype == np.float32
    # Not at the sources themselves, where a wave is as large as its grid is fine.
    away = np.ones((2, 6), bool)
    away[0, 0] = away[1, 5] = False
    found, y = (np.moveaxis(gathers, 2, -1)[:, away] for gathers in (found, y))
    assert np.linalg.norm(found - y) < 0.1 * np.linalg.norm(y)


def test_a_change_that_gives_y_another_shape_is_refused(waves, tmp_path):
    said = r"gives y of shape \(2, 20, 6\), methods know \(2, 16, 6\): leave what y is made of as it is"
    with pytest.raises(SimulationError, match=said):
        derived(waves, "longer", tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"spacing": 10.0},
            r"puts depth of x from 0 to 180 m, methods know 0 to 360: change the number",
        ),
        ({"depth_cells": 37, "x_cells": [19, 12]}, "puts depth of x from 0 to 720 m, methods know 0 to 360"),
        (
            {"x_cells": None, "velocity_max": 4000.0},
            r"draws x between \[1500.0\] and \[4000.0\] m/s, methods know \[1500.0\] and \[4500.0\] m/s: leave",
        ),
    ],
)
def test_a_change_that_judges_against_another_rock_is_refused(waves, change, says):
    spec = json.loads(waves[0].derive_job("toy", "wavelet"))
    with pytest.raises(SimulationError, match=says):
        Resimulation(spec, change)
    # The truth itself stays as it is where it is not drawn again.
    Resimulation(spec, {"velocity_max": 4600.0})


def test_a_change_under_which_a_truth_fails_is_refused(tmp_path):
    """With the user's own class: of its truths those with small b fail once the change says so."""
    lists = "return y.tolist(), (x[:, 1] > self.spec.least).tolist()"
    code = (OWN % "error").replace("return y, x[:, 0] > 0", lists)
    code = code.replace("noise: float = 0.1", "noise: float = 0.1\n        least: float = -100.0")
    (tmp_path / "decay.py").write_text(code)
    families = {
        "fixed": {"role": "seen", "params": {"a": 0.5}},
        "less": changed({"noise": 0.01}),
        "none": changed({"least": 1.0}),
    }
    own_plan = plan({**DECAY, "families": families}, tmp_path, test=80)
    base = make_split(own_plan, "fixed", "test", tmp_path)
    derive(own_plan.derive_job("toy", "less"), base, tmp_path / "less.h5")
    x, y = (EnsembleReader(tmp_path / "less.h5").read(name) for name in ("x", "y"))
    np.testing.assert_array_equal(x, EnsembleReader(base).read("x"))
    noise = y - x[:, :1] * np.exp(-x[:, 1:] * np.linspace(0, 1, 6))
    assert noise.std() == pytest.approx(0.01, rel=5 / np.sqrt(2 * noise.size))
    with pytest.raises(SimulationError, match=r"\d+ of 50 truths cannot be simulated with the shift's settings"):
        derive(own_plan.derive_job("toy", "none"), base, tmp_path / "none.h5")


OWN = '''
import numpy as np
from pydantic import BaseModel
from pullback.problems import Field


class Decay:
    """y_t = a exp(-b t) + noise; a simulation with negative a fails."""

    x = Field.vector("x", ("a", "b"), ("V", "1/s"))
    y = Field.array("y", ("time",), (6,), "V")
    block = 50
    fail = "%s"

    class Settings(BaseModel, extra="forbid"):
        noise: float = 0.1

    def __init__(self, spec):
        self.spec = spec

    def sample_prior(self, rng, n, params):
        return rng.normal([params["a"], 1.0], 0.5, (n, 2))

    def simulate(self, x, rng):
        y = x[:, :1] * np.exp(-x[:, 1:] * np.linspace(0, 1, 6)) + self.spec.noise * rng.normal(size=(len(x), 6))
        return y, x[:, 0] > 0
'''


DECAY = {"kind": "./decay.py:Decay", "methods": {"random": {"kind": "random-truth"}}}


def own(tmp_path, fail="redraw", kind="./decay.py:Decay", **simulator):
    (tmp_path / "decay.py").write_text(OWN % fail)
    families = {"one": {"role": "seen", "params": {"a": 0.5}}}
    problem = {"kind": kind, "simulator": simulator, "families": families, "methods": {"cfm": {"kind": "cfm"}}}
    return plan(problem, tmp_path, train=220, shard=100)


def test_a_users_own_class(tmp_path):
    reader = EnsembleReader(make_split(own(tmp_path), "one", "train", tmp_path / "out"))
    assert (reader.n, reader.x.features, reader.y.dims) == (220, ("a", "b"), ("time",))
    x = reader.read("x")
    assert (x[:, 0] > 0).all()
    failed = sum(EnsembleReader(p).attributes["failed_simulations"] for p in (tmp_path / "out/train").iterdir())
    # P(a <= 0) = P(z < -1) = 0.159; redraws fail likewise: expected failures are n p / (1 - p).
    expected = 220 * 0.1587 / 0.8413
    assert abs(failed - expected) < 5 * np.sqrt(expected / 0.8413)


def test_a_failed_simulation_is_an_error_where_the_problem_says_so(tmp_path):
    with pytest.raises(SimulationError, match=r"simulations failed in block .*fail = 'redraw'"):
        make_split(own(tmp_path, fail="error"), "one", "train", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.h5"))


def test_options_of_an_own_class_are_closed(tmp_path):
    with pytest.raises(ValueError, match=r"problems\.toy\.simulator\.nois"):
        own(tmp_path, nois=3)


def test_an_own_class_that_is_not_there_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"problems\.toy\.kind: .*no file .*other\.py"):
        own(tmp_path, kind="./other.py:Decay")
    with pytest.raises(ValueError, match=r"problems\.toy\.kind: .*'Decai'"):
        own(tmp_path, kind="./decay.py:Decai")


@pytest.mark.parametrize(
    ("family", "says"),
    [
        ({"params": {"a": {"uniform": [0, 1]}}}, r"params\.a: a distribution of priors needs a `sweep`"),
        (
            {"params": {"a": {"uniform": [1, 0]}}, "sweep": {"ensembles": 3, "events": 9}},
            "an interval needs low < high",
        ),
        ({"params": {"a": 1.0}, "sweep": {"ensembles": 3, "events": 9}}, "no parameter is a distribution"),
    ],
)
def test_priors_of_an_own_class_are_looked_at(tmp_path, family, says):
    (tmp_path / "decay.py").write_text(OWN % "redraw")
    with pytest.raises(ValueError, match=says):
        plan({**DECAY, "families": {"one": {"role": "seen", **family}}}, tmp_path)


def test_a_block_of_options_is_no_parameter_of_the_prior(tmp_path):
    (tmp_path / "decay.py").write_text(OWN % "redraw")
    params = {"a": {"uniform": [0.5, 1]}, "shape": {"kind": "round"}}
    one = {"role": "seen", "params": params, "sweep": {"ensembles": 3, "events": 20, "validation_ensembles": 1}}
    study_plan = plan({**DECAY, "families": {"one": one}}, tmp_path)
    reader = EnsembleReader(make_split(study_plan, "one", "train", tmp_path / "out"))
    assert reader.theta_names == ["a"]
    assert reader.theta.shape == (3, 1)


def test_an_own_class_may_make_its_fields_from_its_options_and_say_ok_in_numbers(tmp_path):
    text = (OWN % "redraw").replace("self.spec = spec", "self.spec, self.x = spec, Field.vector('x', ('a', 'b'), 'V')")
    text = text.replace('    x = Field.vector("x", ("a", "b"), ("V", "1/s"))\n', "")
    (tmp_path / "decay.py").write_text(text.replace("return y, x[:, 0] > 0", "return y, [int(a > 0) for a in x[:, 0]]"))
    study_plan = plan({**DECAY, "families": {"one": {"role": "seen", "params": {"a": 0.5}}}}, tmp_path, train=60)
    reader = EnsembleReader(make_split(study_plan, "one", "train", tmp_path / "out"))
    assert reader.x.units == ("V", "V")
    assert (reader.read("x")[:, 0] > 0).all()


def test_whatever_an_own_file_raises_is_one_line(tmp_path):
    (tmp_path / "decay.py").write_text("raise ValueError('two units for three features')")
    with pytest.raises(ValueError, match=r"toy\.kind: .*decay\.py cannot be imported: ValueError: two units for three"):
        plan({**DECAY, "families": {"one": {"role": "seen", "params": {"a": 0.5}}}}, tmp_path)


TOOL = """
import sys, json, numpy as np
what, n, seed, params, x, y = sys.argv[1:]
rng = np.random.default_rng(int(seed))
if what == "prior":
    np.save(x, rng.normal(json.load(open(params))["mean"], 1, (int(n), 2)))
elif what == "forward":
    values = np.load(x)
    np.save(y, values.cumsum(1) + rng.normal(size=values.shape))
elif what == "short":
    np.save(y, np.zeros((1, 2)))
else:
    sys.exit("no licence found")
"""


def command(tmp_path, forward="forward"):
    (tmp_path / "tool.py").write_text(TOOL)
    call = f"{sys.executable} tool.py %s {{n}} {{seed}} {{params}} {{x}} {{y}}"
    fields = {"x": {"features": ["a", "b"], "units": "1"}, "y": {"features": ["c", "d"], "units": ["m", "s"]}}
    simulator = {"prior": call % "prior", "forward": call % forward, "block": 30, "files": ["tool.py"], **fields}
    families = {"one": {"role": "seen", "params": {"mean": 3.0}}}
    return plan(
        {"kind": "command", "simulator": simulator, "families": families, "methods": {"cfm": {"kind": "cfm"}}},
        tmp_path,
        train=70,
        shard=40,
    )


def test_a_users_own_command(tmp_path):
    reader = EnsembleReader(make_split(command(tmp_path), "one", "train", tmp_path / "out"))
    x, y = reader.read("x"), reader.read("y")
    assert abs(x.mean() - 3) < 5 / np.sqrt(140)
    noise = y - x.cumsum(1)
    assert abs(noise.std() - 1) < 5 / np.sqrt(2 * 140)
    assert reader.y.units == ("m", "s")


@pytest.mark.parametrize(
    ("forward", "says"), [("bad", "(?s)exit code 1.*no licence found"), ("short", r"shape \(1, 2\), wanted \(30, 2\)")]
)
def test_a_command_that_fails_says_why(tmp_path, forward, says):
    with pytest.raises(CommandError, match=says):
        make_split(command(tmp_path, forward), "one", "train", tmp_path / "out")


def test_nan_from_a_simulator_is_an_error(tmp_path):
    (tmp_path / "decay.py").write_text((OWN % "error").replace("x[:, 0] > 0", "np.ones(len(x), bool)").replace(
        "return y", "y[3] = np.nan\n        return y"))  # fmt: skip
    families = {"one": {"role": "seen", "params": {"a": 0.5}}}
    problem = {"kind": "./decay.py:Decay", "families": families, "methods": {"cfm": {"kind": "cfm"}}}
    with pytest.raises(StoreError, match="y has 6 values that are not finite, the first in event 3"):
        make_split(plan(problem, tmp_path, train=100), "one", "train", tmp_path / "out")


def test_preflight_writes_the_numbers(tmp_path):
    preflight(plan(GAUSSIAN).preflight_job("toy"), tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text())["noise_fraction"] == 0.5
