"""OmniFold with trained classifiers: its Gaussian example, the choice of the simulation, interruptions, replicas."""

import logging
from dataclasses import replace

import h5py
import numpy as np
import pytest

from pullback.core.context import Context
from pullback.core.stopping import Stopped
from pullback.ensembles.acceptance import Missed
from pullback.ensembles.arrays import ArrayEnsemble
from pullback.ensembles.fields import Field
from pullback.ensembles.store import EnsembleWriter
from pullback.ensembles.unfolded import UnfoldedReader, write_unfolded
from pullback.methods.unfolding import omnifold_classifiers
from pullback.methods.unfolding.omnifold import Omnifold
from pullback.methods.unfolding.omnifold_classifiers import Perceptrons, Trees
from pullback.methods.unfolding.omnifold_iterations import OmnifoldError, Sample, Simulation, omnifold
from pullback.methods.unfolding.omnifold_simulation import chosen, encoder, read_family, union, wasserstein
from pullback.methods.unfolding.omnifold_spec import LightgbmClassifier, MlpClassifier, OmnifoldInfer, OmnifoldSpec
from pullback.problems.gaussian import Gaussian, GaussianSimulator
from pullback.study import StudyError, load_study

PROBLEM = Gaussian(GaussianSimulator(dimension=1, noise=0.2))
SMALL = {"width": 16, "depth": 2, "epochs": 4, "batch": 200, "learning_rate": 1e-2, "patience": 6}
NEVER = Context(("omnifold",), 1, "cpu")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Most tests are about bookkeeping: classifiers may be poor where data are few."""
    monkeypatch.setattr(omnifold_classifiers, "LEAST_STEPS", 4)


def example(n, mean=0.0, seed=0):
    """Truths and observations of OmniFold's Gaussian example: x ~ N(mean, 1), y = x + 0.5 eps."""
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, 1.0, (n, 1))
    return x, x + 0.5 * rng.normal(size=x.shape)


def moments(values, weight):
    mean = np.average(values, weights=weight)
    return np.array([mean, np.sqrt(np.average((values - mean) ** 2, weights=weight))])


def classifiers(kind):
    if kind == "mlp":
        return Perceptrons(MlpClassifier(**SMALL), 1, False, NEVER, ("test",))
    pytest.importorskip("lightgbm")
    return Trees(LightgbmClassifier(kind="lightgbm", leaves=6, learning_rate=0.2), 1, NEVER, ("test",))


@pytest.mark.parametrize("kind", ["mlp", "lightgbm"])
def test_the_gaussian_example(kind):
    """Mean 0 -> 1. With weights exp(x - 1/2) the error of the weighted mean is sqrt(2 e / n)."""
    n = 6000
    x, y = example(n)
    _, data = example(n, 1.0, seed=1)
    both = np.ones(n, bool)
    *_, last = omnifold(Simulation(x, y, both, both, np.ones(n)), data, None, classifiers(kind), 3)
    error = np.sqrt(2 * np.e / n)
    # What three iterations leave of a shift is (1/5)^3. Trees are steps: they resolve the tails less.
    tolerance = 0.2**3 + (3 if kind == "mlp" else 4) * error
    np.testing.assert_allclose(moments(x[:, 0], last.push), 1.0, atol=tolerance)
    # E[w]^2 / E[w^2] = 1 / e.
    assert last.diagnostics["ess"] == pytest.approx(n / np.e, rel=0.25)
    assert last.diagnostics["auc"] < 0.56


def test_generator_weights_are_the_prior_of_both_steps():
    """A third of the weights is negative: of events x > 0 twice as many, half of the excess taken away again."""
    n = 6000
    x, y = example(n)
    twin = x[:, 0] > 0
    x, y = np.concatenate([x, x[twin], x[twin]]), np.concatenate([y, y[twin], y[twin]])
    weight = np.concatenate([np.ones(n), np.ones(twin.sum()), -np.ones(twin.sum())])
    _, data = example(n, 1.0, seed=1)
    both = np.ones(len(x), bool)
    simulation = Simulation(x, y, both, both, weight)
    *_, last = omnifold(simulation, data, None, classifiers("mlp"), 2)
    total = weight * last.push
    assert total.sum() == pytest.approx(n, rel=0.02)
    np.testing.assert_allclose(moments(x[:, 0], total), 1.0, atol=0.2**2 + 4 * np.sqrt(2 * np.e / n))


def test_trees_refuse_negative_weights():
    x, y = example(200)
    weight = np.where(np.arange(200) % 10 == 0, -1.0, 1.0)
    both = np.ones(200, bool)
    with pytest.raises(OmnifoldError, match="negative event weights, which LightGBM cannot train with"):
        list(omnifold(Simulation(x, y, both, both, weight), y, None, classifiers("lightgbm"), 1))


def test_a_training_that_diverges_is_refused():
    x, y = example(500)
    both = np.ones(500, bool)
    wild = Perceptrons(MlpClassifier(**{**SMALL, "learning_rate": 1e30}), 1, False, NEVER, ("test",))
    with pytest.raises(OmnifoldError, match=r"lower `classifier.learning_rate`"):
        list(omnifold(Simulation(x, y, both, both, np.ones(500)), y + 1, None, wild, 1))


def test_one_event_is_too_few():
    x, y = example(50)
    both = np.ones(50, bool)
    with pytest.raises(OmnifoldError, match="1 and 50 events, wanted at least 2 of each"):
        list(omnifold(Simulation(x, y, both, both, np.ones(50)), y[:1], None, classifiers("mlp"), 1))


def write(path, family, mean=0.0, n=600, seed=0, **acceptance):
    """A seen family of the Gaussian problem, x ~ N(mean, 1)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, 1.0, (n, 1))
    y = PROBLEM.observe(PROBLEM.apply(x)[0], x, rng)
    columns = {"weight": np.full(n, acceptance.get("weight", 1.0))}
    kinds = {"weight": "f8"}
    if "fakes" in acceptance:
        columns["fake"] = (np.arange(n) < acceptance["fakes"]).astype(np.int8)
        x[: acceptance["fakes"]] = np.nan
        kinds["fake"] = "i1"
    attributes = {"family": family}
    with EnsembleWriter(path, x=PROBLEM.x, y=PROBLEM.y, spec="{}", attributes=attributes, columns=kinds) as writer:
        writer.append(y, np.arange(n), x=x, **columns)
        if misses := acceptance.get("misses", 0):
            missed = rng.normal(mean, 1.0, (misses, 1)).astype(np.float32)
            writer.append_missed(Missed(missed, np.full(misses, 2.0), np.arange(misses)))
    return path


def observations(n=500, mean=0.5, seed=9):
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, 1.0, (n, 1))
    group = np.arange(n) // 2
    return ArrayEnsemble(PROBLEM.observe(PROBLEM.apply(x)[0], x, rng), y_field=PROBLEM.y, group=group)


def method(seen, context=NEVER, **settings):
    settings = {"iterations": 2, "classifiers": 1, "classifier": MlpClassifier(**{**SMALL, "epochs": 2}), **settings}
    made = Omnifold(OmnifoldSpec(kind="omnifold"), PROBLEM, context, OmnifoldInfer(**settings))
    made.load(None, None, seen)
    return made


def test_truths_of_pairs_and_misses_have_weights(tmp_path):
    seen = [write(tmp_path / "a.h5", "a", fakes=60, misses=200)]
    made = method(seen, replicas=2)
    data = observations()
    state = made.unpack(made.pack(made.condition(data)))
    found = made.unfold(state, data)
    assert found.x.shape == (540 + 200, 1)
    assert found.weight.shape == (740, 3)
    assert np.isfinite(found.x).all()
    assert np.isfinite(found.weight).all()
    purity, efficiency = (found.diagnostics[f"{name}_iteration_2"] for name in ("purity", "efficiency"))
    # A tenth of the records are fakes, and 540 of 540 + 2 x 200 truths are recorded.
    assert purity == pytest.approx(0.9, abs=0.03)
    assert efficiency == pytest.approx(540 / 940, abs=0.05)
    assert found.weight[:, 0].sum() == pytest.approx(500 * purity / efficiency)
    names = {f"{name}_iteration_{i}" for i in (1, 2) for name in ("ess", "max_over_mean", "change", "clipped")}
    assert names | {f"auc_iteration_{i}" for i in (0, 1, 2)} <= found.diagnostics.keys()
    assert np.std(found.weight, axis=1).max() > 0
    write_unfolded(tmp_path / "u.h5", found, PROBLEM.x, data, "{}", {}, {})
    with h5py.File(tmp_path / "u.h5") as file:
        assert file.attrs["weights"] == "truth"
    np.testing.assert_array_equal(UnfoldedReader(tmp_path / "u.h5").unfolded.weight, found.weight)


def stopping_after(polls):
    left = [polls]

    def stop(next_s=0.0):
        left[0] -= 1
        return "now" if left[0] < 0 else None

    return replace(NEVER, stop=stop)


@pytest.mark.parametrize("warm_start", [False, True])
def test_an_interrupted_unfolding_is_the_uninterrupted_one_bit_for_bit(tmp_path, caplog, warm_start):
    seen, data = [write(tmp_path / "a.h5", "a", fakes=30, misses=50)], observations()
    settings = {"iterations": 3, "replicas": 1, "warm_start": warm_start, "classifiers": 2}
    whole = method(seen, **settings).condition(data)
    folder = tmp_path / "work"
    # An iteration polls 2 steps x 2 classifiers x 2 epochs: stopped in iterations 2, 3 and in the closure.
    with caplog.at_level(logging.INFO, "pullback"):
        for polls in (11, 11, 9, 11):
            with pytest.raises(Stopped):
                method(seen, stopping_after(polls), **settings).condition(data, folder)
        again = method(seen, **settings).condition(data, folder)
    assert "resumed: replica 0 after iteration 2" in caplog.text
    np.testing.assert_array_equal(again.weight, whole.weight)
    np.testing.assert_array_equal(again.x, whole.x)
    assert again.diagnostics == whole.diagnostics


def test_a_damaged_iteration_is_made_again(tmp_path, caplog):
    seen, data, folder = [write(tmp_path / "a.h5", "a")], observations(), tmp_path / "work"
    whole = method(seen).condition(data, folder)
    kept = folder / "omnifold-0000-0002.npz"
    kept.write_bytes(kept.read_bytes()[:-10])
    again = method(seen).condition(data, folder)
    assert "the iteration is made again" in caplog.text
    np.testing.assert_array_equal(again.weight, whole.weight)


def test_the_union_gives_each_family_the_same_sum(tmp_path):
    pair = [
        read_family(write(tmp_path / f"{name}.h5", name, n=n, weight=w), 10_000, np.random.default_rng(0))
        for name, n, w in (("a", 300, 1e-5), ("b", 500, 2.0))
    ]
    both = union(dict(pair))
    assert both.weight[:300].sum() == pytest.approx(400)
    assert both.weight[300:].sum() == pytest.approx(400)


def test_of_a_large_family_a_part_is_read(tmp_path):
    path = write(tmp_path / "a.h5", "a", n=3000, fakes=300, misses=1000)
    name, part = read_family(path, 1000, np.random.default_rng(0))
    assert name == "a"
    assert len(part.weight) == pytest.approx(1000, abs=40)
    assert (~part.has_y).sum() == pytest.approx(250, abs=20)
    assert np.isnan(part.x[~part.has_x]).all()
    assert np.isnan(part.y[~part.has_y]).all()
    assert (part.weight[~part.has_y] == 2.0).all()


def test_a_bootstrap_sample_of_the_simulation(tmp_path):
    path = write(tmp_path / "a.h5", "a", fakes=100, misses=300)
    drawn = read_family(path, 10_000, np.random.default_rng(0), bootstrap=True)[1]
    x = drawn.x[drawn.has_x & drawn.has_y]
    # Of n events drawn n times, 1 - 1/e are different ones.
    assert len(np.unique(x)) / len(x) == pytest.approx(1 - 1 / np.e, abs=0.06)
    assert (~drawn.has_y).sum() == pytest.approx(300, abs=70)
    assert (drawn.weight[~drawn.has_y] == 2.0).all()


def test_the_best_family_is_the_nearest_one(tmp_path):
    seen = [write(tmp_path / f"{mean}.h5", f"at_{mean}", mean) for mean in (-1.0, 0.4, 2.0)]
    found = method(seen, simulation="best").condition(observations()).diagnostics
    distances = {name: value for name, value in found.items() if name.startswith("distance_")}
    assert min(distances, key=distances.get) == "distance_at_0.4"
    assert method(seen, simulation="best").condition(observations()).x.shape == (600, 1)
    named = method(seen, simulation="at_2.0").condition(observations())
    assert named.x.mean() == pytest.approx(2.0, abs=0.2)


def test_a_family_without_weight_is_named(tmp_path):
    seen = [write(tmp_path / "a.h5", "a"), write(tmp_path / "b.h5", "b", weight=0.0)]
    with pytest.raises(OmnifoldError, match="family 'b': 600 event weights sum to 0"):
        method(seen).condition(observations())


def test_the_distance_is_scipys_for_positive_weights():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    u, v, a, b = rng.normal(size=50), rng.normal(1, 2, 70), rng.random(50), rng.random(70)
    assert wasserstein(u, v, a, b) == pytest.approx(stats.wasserstein_distance(u, v, a, b))
    # A pair of weights w and -w at one place is not there.
    more = np.append(u, [3.0, 3.0]), np.append(a, [0.7, -0.7])
    assert wasserstein(more[0], v, more[1], b) == pytest.approx(wasserstein(u, v, a, b))


def test_angles_are_seen_as_sine_and_cosine():
    field = Field.vector("x", ("pt", "phi"), ("GeV", "rad"), transforms=("log", "periodic"))
    values = np.array([[1.0, -3.1], [2.0, 3.1], [8.0, 0.0]])
    seen = encoder(field, values)(values)
    assert seen.shape == (3, 3)
    # 3.1 and -3.1 are neighbours.
    assert np.abs(seen[0, 2] - seen[1, 2]) < 1e-6
    assert seen[:, 0] == pytest.approx((np.log([1, 2, 8]) - np.log(16) / 3) / np.std(np.log([1, 2, 8])), rel=1e-5)


def test_an_unknown_family_is_named():
    families = {"a": Simulation(*(np.ones((3, 1)),) * 2, *(np.ones(3, bool),) * 2, np.ones(3))}
    with pytest.raises(OmnifoldError, match="there is no seen family 'c', wanted one of a"):
        chosen(families, "c", Sample(np.ones((3, 1)), np.ones(3)), PROBLEM.y, ("test",))


def study(**infer):
    return {
        "config_version": 2,
        "study": "unfold",
        "problems": {
            "line": {
                "kind": "gaussian",
                "simulator": {"dimension": 1},
                "size": {"train": 100, "validation": 100, "test": 100},
                "families": {"zero": {"role": "seen", "params": {"gamma": 0.0}}},
                "methods": {"omnifold": {"kind": "omnifold", "infer": {"default": infer}}},
            }
        },
    }


def test_settings_are_checked():
    assert load_study(study(simulation="zero", classifier={"kind": "lightgbm"}))
    for infer, message in (
        ({"simulation": "zer"}, "found 'zer', wanted union, best or a seen family .*did you mean 'zero'"),
        ({"classifier": {"kind": "lightgbm"}, "warm_start": True}, "trees cannot go on from others"),
        ({"set_size": 10}, "wanted all"),
    ):
        with pytest.raises(StudyError, match=message):
            load_study(study(**infer))


def test_arrays_are_refused():
    image = Field.array("x", ("z", "x"), (4, 4), "1")
    with pytest.raises(ValueError, match="x is an array of shape"):
        OmnifoldSpec(kind="omnifold").check_fields(image, PROBLEM.y)
