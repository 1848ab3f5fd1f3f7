import json
import logging

import numpy as np
import pytest
import torch

from pullback.core.context import Context
from pullback.core.seeding import event_normals
from pullback.diffusion.checkpoint import load_artifact
from pullback.diffusion.settings import Train
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.arrays import ArrayEnsemble
from pullback.ensembles.fields import Field
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.methods.amortised import conditioning
from pullback.methods.amortised import model as module
from pullback.methods.amortised.conditioning import bootstrap, distance_to_training, read_members, signature
from pullback.methods.amortised.model import AmortisedModel, ModelError
from pullback.methods.amortised.spec import CddpmSpec, CfmSpec, DdpmInfer, EiFmSpec, FlowInfer, RegressionSpec
from pullback.methods.train import checkpoint_folder, train
from pullback.networks.settings import Mlp, SetTransformer
from pullback.study.base import canonical
from pullback.study.kinds import PointInfer

X = Field.vector("x", ["a"], "m")
Y = Field.vector("y", ["b"], "m")
NOISE = 0.6


def write(path, means, events, seed=0):
    """x ~ N(10 + mean, 1), y = x + NOISE eps; one ensemble for each mean."""
    rng = np.random.default_rng(seed)
    x = 10 + np.repeat(means, events)[:, None] + rng.standard_normal((len(means) * events, 1))
    y = x + NOISE * rng.standard_normal(x.shape)
    with EnsembleWriter(path, x=X, y=Y, spec="{}") as writer:
        writer.append(y, np.arange(len(x)), x=x)
        if len(means) > 1:
            writer.ensembles(np.arange(len(means) + 1) * events, np.array(means)[:, None], ["mean"])
    return EnsembleReader(path)


def spec(kind, **settings):
    settings = {
        "steps": 500,
        "sets_per_step": 8,
        "set_size": (16, 64),
        "loss_members": 16,
        "learning_rate": 3e-3,
        "ema": 0.98,
    } | settings
    more = {"network": Mlp(width=32, depth=2), "train": Train(**settings, validate_every=100)}
    if kind == "cfm":
        return CfmSpec(kind="cfm", **more)
    if kind == "cfm-told":
        return CfmSpec(kind="cfm", parameters=True, **more)
    if kind == "cddpm":
        return CddpmSpec(kind="cddpm", **more)
    if kind == "regression":
        return RegressionSpec(kind="regression", **more)
    return EiFmSpec(kind="ei-fm", k=2, set_encoder=SetTransformer(hidden=8, heads=2, inducing=4), **more)


def model_of(spec, artifact=None, seed=0):
    model = AmortisedModel(spec, None, Context(("study", "toy", spec.kind, seed), threads=1, accelerator="cpu"))
    if artifact:
        model.load(artifact, None, [])
    return model


def trained(folder, kind, means, **settings):
    folder.mkdir(exist_ok=True)
    events = 200 if len(means) > 1 else 20_000
    data = TrainingData(
        [write(folder / "train.h5", means, events)], [write(folder / "validation.h5", means, 200, seed=1)], 100
    )
    job = TrainPaths(folder / "model.pt", folder / "curves.csv", folder / "checkpoints")
    model_of(spec(kind, **settings)).train(data, job)
    return job.artifact


@pytest.fixture(scope="module")
def cfm(tmp_path_factory):
    """A cFM trained on one ensemble with mean 0."""
    return trained(tmp_path_factory.mktemp("cfm"), "cfm", [0.0])


@pytest.fixture(scope="module")
def eifm(tmp_path_factory):
    """An EI-FM trained on 60 ensembles with means in [-2, 2]."""
    return trained(tmp_path_factory.mktemp("eifm"), "ei-fm", np.linspace(-2, 2, 60))


def answer(model, reader, infer):
    state = model.using(infer).condition(reader)
    return state, model.using(infer).sample(state, reader.read("y"), reader.read("event_id"))


GAIN = 1 / (1 + NOISE**2)
"""Posterior of x - prior mean given y - prior mean, unit prior variance: mean GAIN (y - mean), variance 1 - GAIN."""


def test_cfm_learns_a_linear_gaussian_posterior(cfm, tmp_path):
    reader = write(tmp_path / "test.h5", [0.0], 400, seed=2)
    _, chunk = answer(model_of(spec("cfm"), cfm), reader, FlowInfer(draws=200, solver="heun", steps=8))
    y = reader.read("y")[:, 0]
    assert chunk.x.shape == (400, 200, 1)
    assert chunk.ok.all()
    assert (chunk.log_weight == 0).all()
    draws = chunk.x[..., 0]
    std = np.sqrt(1 - GAIN)
    # Monte Carlo errors of 200 draws: std / 14 = 0.036 of one mean, 7 % of one variance, and 0.4 % after averaging over
    # 400 events. The rest is what a short training leaves: a tenth of the posterior's standard deviation, 15 % of its
    # variance.
    error = draws.mean(axis=1) - (10 + GAIN * (y - 10))
    assert np.sqrt(np.mean(error**2)) < np.hypot(std / np.sqrt(200), 0.15 * std)
    assert draws.var(axis=1).mean() == pytest.approx(1 - GAIN, rel=0.15)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_cddpm_learns_the_same_posterior(cddpm, tmp_path, sampler):
    reader = write(tmp_path / "test.h5", [0.0], 200, seed=2)
    model = model_of(spec("cddpm"), cddpm)
    _, chunk = answer(model, reader, DdpmInfer(draws=100, sampler=sampler, steps=40))
    assert model.cost.network_calls == 200 * 100 * 40
    y, draws, std = reader.read("y")[:, 0], chunk.x[..., 0], np.sqrt(1 - GAIN)
    error = draws.mean(axis=1) - (10 + GAIN * (y - 10))
    # As for the flow; 40 of 1000 steps leave a few per cent more in the variance.
    assert np.sqrt(np.mean(error**2)) < np.hypot(std / np.sqrt(100), 0.15 * std)
    assert draws.var(axis=1).mean() == pytest.approx(1 - GAIN, rel=0.2)


@pytest.fixture(scope="module")
def cddpm(tmp_path_factory):
    """A cDDPM trained on one ensemble with mean 0."""
    return trained(tmp_path_factory.mktemp("cddpm"), "cddpm", [0.0])


def test_regression_is_the_posterior_mean_and_one_draw(tmp_path):
    artifact = trained(tmp_path / "model", "regression", [0.0], steps=300)
    reader = write(tmp_path / "test.h5", [0.0], 400, seed=2)
    _, chunk = answer(model_of(spec("regression"), artifact), reader, PointInfer())
    assert chunk.x.shape == (400, 1, 1)
    y = reader.read("y")[:, 0]
    error = chunk.x[:, 0, 0] - (10 + GAIN * (y - 10))
    assert np.sqrt(np.mean(error**2)) < 0.15 * np.sqrt(1 - GAIN)


def test_a_model_told_the_parameters_uses_them(tmp_path):
    artifact = trained(tmp_path / "model", "cfm-told", np.linspace(-2, 2, 60))
    model = model_of(spec("cfm-told"), artifact)
    reader = write(tmp_path / "test.h5", [0.0], 64, seed=5)
    infer, middle, found = FlowInfer(draws=100), np.full((64, 1), 10.0, dtype=np.float32), []
    for mean in (-1.5, 1.5):
        model.set_prior_params({"mean": mean})
        found.append(model.using(infer).sample(model.using(infer).condition(reader), middle, np.arange(64)).x.mean())
    assert (found[1] - found[0]) / 3 == pytest.approx(1 - GAIN, abs=0.05)


def test_bootstrap_shows_how_uncertain_a_small_set_leaves_the_prior(eifm, tmp_path):
    """The mean of N members has variance (1 + NOISE^2) / N, which the posterior's mean follows times (1 - GAIN)^2."""
    middle, resamples = np.full((50, 1), 10.0, dtype=np.float32), 100
    model, spread = model_of(spec("ei-fm"), eifm), {}
    for n in (16, 64):
        reader = write(tmp_path / f"{n}.h5", [0.5], n, seed=6)
        infer = FlowInfer(draws=resamples, bootstrap=resamples)
        state = model.using(infer).condition(reader)
        assert state.context.shape == (resamples, 2)
        draws = model.using(infer).sample(state, middle, np.arange(50)).x[..., 0]
        # Noise is shared by no two draws: of the variance between means over 50 events the 50th part is theirs.
        spread[n] = draws.mean(axis=0).var() - draws.var(axis=0).mean() / 50
    assert spread[16] > 2 * spread[64] > 0
    plain = model.using(FlowInfer(draws=2)).sample(
        model.using(FlowInfer(draws=2)).condition(reader), middle, np.arange(50)
    )
    assert plain.x.shape == (50, 2, 1)


def test_more_resamples_than_draws(eifm, tmp_path):
    model, reader = model_of(spec("ei-fm"), eifm), write(tmp_path / "a.h5", [0.5], 16, seed=6)
    y, ids = np.full((3, 1), 10.0, dtype=np.float32), np.arange(3)
    few, many = (FlowInfer(draws=2, bootstrap=b) for b in (2, 5))
    drawn = [model.using(infer).sample(model.using(infer).condition(reader), y, ids).x for infer in (few, many)]
    np.testing.assert_array_equal(*drawn)


def test_a_bootstrap_draws_whole_groups():
    group, event_id = np.array([2, 0, 1, 0, 2, 2]) + 7, np.array([5, 1, 3, 9, 2, 4])
    ensemble = ArrayEnsemble(np.zeros((6, 1)), group=group, event_id=event_id)
    found, times = bootstrap(ensemble, [np.random.default_rng(seed) for seed in range(20)])
    np.testing.assert_array_equal(found.of(event_id), times)
    assert (found.of(np.array([0, 7, 10])) == 1).all()
    for each in times.T:
        by_group = [each[group == g] for g in (7, 8, 9)]
        assert all(len(set(some)) == 1 for some in by_group)
        assert sum(int(some[0]) for some in by_group) == 3
    assert len({tuple(each) for each in times.T}) > 3


def test_draws_say_how_often_their_resamples_hold_an_event(eifm, tmp_path):
    """The embedding of a resample is that of a set with its events as often as the draws say."""
    reader = write(tmp_path / "a.h5", [0.5], 30, seed=6)
    model = model_of(spec("ei-fm"), eifm).using(FlowInfer(draws=6, bootstrap=3))
    state = model.unpack(model.pack(model.condition(reader)))
    y, ids = reader.read("y"), reader.read("event_id")
    found = model.sample(state, y[10:20], ids[10:20])
    assert found.times.shape == (10, 3)
    times = model.sample(state, y, ids).times
    np.testing.assert_array_equal(times[10:20], found.times)
    assert (times.sum(axis=0) == 30).all()
    plain = model_of(spec("ei-fm"), eifm)
    for embedding, each in zip(state.context, times.T, strict=True):
        rows = np.random.default_rng(0).permutation(np.repeat(np.arange(30), each))
        again = plain.using(FlowInfer()).condition(ArrayEnsemble(y[rows], y_field=reader.y))
        np.testing.assert_allclose(again.context[0], embedding, atol=1e-5)


def test_a_set_of_one_group_says_that_it_cannot_be_resampled(eifm, tmp_path, caplog):
    with EnsembleWriter(tmp_path / "one.h5", x=X, y=Y, spec="{}") as writer:
        writer.append(np.zeros((20, 1)), np.arange(20), x=np.zeros((20, 1)), group=np.full(20, 3))
    with caplog.at_level(logging.WARNING, logger="pullback"):
        model_of(spec("ei-fm"), eifm).using(FlowInfer(bootstrap=2)).condition(EnsembleReader(tmp_path / "one.h5"))
    assert "all 20 members are of one group" in caplog.text


def test_weights_of_members_are_relative_as_in_training(eifm, tmp_path, monkeypatch):
    """Raw weights may be cross sections of any unit: their mean magnitude in the set is what training divides by."""
    weight = 1e-12 * np.array([1.0, -3.0] * 50)
    with EnsembleWriter(tmp_path / "w.h5", x=X, y=Y, spec="{}", columns={"weight": "<f8"}) as writer:
        writer.append(np.zeros((100, 1)), np.arange(100), x=np.zeros((100, 1)), weight=weight)
    reader, scaling = EnsembleReader(tmp_path / "w.h5"), model_of(spec("ei-fm"), eifm).scaling
    members = read_members(reader, scaling, np.random.default_rng(0))
    np.testing.assert_allclose(members.weight, [0.5, -1.5] * 50, rtol=1e-6)
    training = TrainingData([reader], [reader], 100).sets(np.random.default_rng(0), 1, (100, 100))
    np.testing.assert_allclose(np.sort(members.weight), np.sort(training.weight[0]), rtol=1e-6)
    # What some members are divided by is the mean of all.
    monkeypatch.setattr(conditioning, "MAX_MEMBERS", 30)
    some = read_members(reader, scaling, np.random.default_rng(0))
    assert set(np.round(some.weight, 5)) == {0.5, -1.5}


def test_a_small_set_is_resampled_before_it_is_repeated(eifm, tmp_path, monkeypatch):
    """Of 5 members a resample has at most 5 different ones, each as often as the others but for the cut copy."""
    reader = write(tmp_path / "small.h5", [0.5], 5, seed=6)
    model, seen = model_of(spec("ei-fm"), eifm), []
    context = model.model.context
    monkeypatch.setattr(model.model, "context", lambda sets: (seen.append(sets["y"][0, :, 0]), context(sets))[1])
    state = model.using(FlowInfer(bootstrap=3, duplicate_to=20)).condition(reader)
    assert state.size == 20
    assert len(seen) == 3
    for y in seen:
        np.testing.assert_array_equal(y.reshape(4, 5), np.tile(y[:5], (4, 1)))


def test_repeating_a_set_is_said_to_the_encoder_as_its_size(eifm, tmp_path):
    reader = write(tmp_path / "small.h5", [0.5], 20, seed=6)
    model = model_of(spec("ei-fm"), eifm)
    assert model.using(FlowInfer()).condition(reader).size == 20
    assert model.using(FlowInfer(duplicate_to=64)).condition(reader).size == 64


def test_eifm_learns_the_prior_of_each_set(eifm, tmp_path):
    """The posterior's mean follows the set's own prior: for y at the middle, GAIN (y - m) + m = 10 + (1 - GAIN) m."""
    middle = np.full((64, 1), 10.0, dtype=np.float32)
    infer = FlowInfer(draws=100)
    found = {}
    for mean in (-1.5, 0.0, 1.5):
        reader = write(tmp_path / f"{mean}.h5", [mean], 64, seed=5)
        model = model_of(spec("ei-fm"), eifm)
        state = model.using(infer).condition(reader)
        found[mean] = model.using(infer).sample(state, middle, np.arange(64)).x.mean()
    slope = (found[1.5] - found[-1.5]) / 3
    # The mean of a set of 64 is known to 0.15: the slope to 0.15 * sqrt(2) / 3 * (1 - GAIN) = 0.02. A model that does
    # not look at the set has slope 0.
    assert slope == pytest.approx(1 - GAIN, abs=0.08)


def test_draws_do_not_depend_on_parts(eifm, tmp_path):
    reader = write(tmp_path / "test.h5", [0.5], 300, seed=3)
    infer = FlowInfer(draws=3)
    y, ids = reader.read("y"), reader.read("event_id")
    whole = model_of(spec("ei-fm"), eifm)
    whole.block = 100
    state = whole.using(infer).condition(reader)
    chunks = [whole.using(infer).sample(state, y[i : i + 100], ids[i : i + 100]) for i in (0, 100, 200)]
    # Another job, with another seed for the weights before they are loaded, that answers the last block only.
    part = model_of(spec("ei-fm"), eifm)
    alone = part.using(infer).sample(part.using(infer).condition(reader), y[200:], ids[200:])
    np.testing.assert_array_equal(alone.x, chunks[2].x)
    assert (chunks[0].x[:, 0] != chunks[0].x[:, 1]).all()
    other_seed = model_of(spec("ei-fm"), eifm, seed=1)
    other = other_seed.using(infer).sample(other_seed.using(infer).condition(reader), y[200:], ids[200:])
    assert (other.x != alone.x).all()


def test_the_cut_into_chunks_within_a_block_changes_rounding_only(cfm, tmp_path, monkeypatch):
    reader = write(tmp_path / "test.h5", [0.0], 50, seed=3)
    model = model_of(spec("cfm"), cfm)
    _, one = answer(model, reader, FlowInfer(draws=4))
    assert model.cost.network_calls == 50 * 4 * 8
    monkeypatch.setattr(module, "VECTOR_ROWS", 28)
    _, many = answer(model, reader, FlowInfer(draws=4))
    np.testing.assert_allclose(many.x, one.x, rtol=1e-5)


def test_a_draw_that_is_not_finite_leaves_the_others_alone(cfm, tmp_path, monkeypatch):
    def normals(*arguments):
        noise = event_normals(*arguments)
        noise[3, 1] = np.inf
        return noise

    monkeypatch.setattr(module, "event_normals", normals)
    reader = write(tmp_path / "test.h5", [0.0], 5, seed=3)
    _, chunk = answer(model_of(spec("cfm"), cfm), reader, FlowInfer(draws=2))
    # The driver marks it (test_infer.py).
    assert [tuple(place) for place in np.argwhere(~np.isfinite(chunk.x[..., 0]))] == [(3, 1)]


def test_diagnostics_tell_a_set_unlike_the_training_sets(eifm, tmp_path, caplog):
    infer = FlowInfer()
    model = model_of(spec("ei-fm"), eifm)
    inside = model.diagnostics(model.using(infer).condition(write(tmp_path / "in.h5", [1.0], 64, seed=7)))
    far = model.diagnostics(model.using(infer).condition(write(tmp_path / "far.h5", [40.0], 64, seed=7)))
    assert inside["embedding_distance"] < 2 < far["embedding_distance"]
    assert inside["set_size"] == 64
    assert inside["set_size_outside"] == 0
    with caplog.at_level(logging.WARNING, logger="pullback"):
        large = model.diagnostics(model.using(infer).condition(write(tmp_path / "large.h5", [1.0], 65, seed=7)))
    assert large["set_size_outside"] == 1
    assert "a set of 65 members; trained on sets of 16 to 64" in caplog.text


def test_one_in_twenty_sets_like_the_training_ones_lies_above_1():
    """Of signatures of one law: by leave-one-out 1 in 20, whatever their number from the least on."""
    rng = torch.Generator().manual_seed(0)
    for count in (conditioning.LEAST_TRAINING_SETS, 64, 512):
        above = []
        for _ in range(400 if count < 100 else 40):
            sets = torch.randn(count + 10, 4, generator=rng)
            above += [distance_to_training(one, sets[:count]) > 1 for one in sets[count:]]
        # The quantile of 30 distances scatters by 4 %, 10 sets share it: so the mean of 400 by 0.3 %, that of 40 with
        # 512 distances by 1 %. Interpolation between 30 distances adds up to 1.5 / 30.
        assert np.mean(above) == pytest.approx(0.05, abs=0.03 + 1.5 / count)


def test_no_distance_to_few_training_sets_or_to_copies():
    sets = torch.randn(conditioning.LEAST_TRAINING_SETS, 4, generator=torch.Generator().manual_seed(0))
    assert distance_to_training(sets[0] + 1, sets) is not None
    assert distance_to_training(sets[0] + 1, sets[1:]) is None
    assert distance_to_training(sets[0] + 1, sets[:1].repeat(64, 1)) is None


def test_distance_to_training_is_in_units_of_the_training_sets_own():
    # A grid with spacing 1 in one coordinate: every nearest neighbour is 1 away; the distance 3 beyond its end is 3.
    training = torch.stack([torch.arange(50.0), torch.zeros(50)], dim=1)
    assert distance_to_training(torch.tensor([52.0, 0.0]), training) == pytest.approx(3, rel=1e-5)
    assert distance_to_training(torch.tensor([7.0, 0.0]), training) == 0


def test_a_signature_is_of_the_weighted_law():
    """Members of y > 0 count three times: mean and spread are those of a set in which they stand three times."""
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.standard_normal((1, 200, 1)).astype(np.float32))
    copies = torch.where(y[0, :, 0] > 0, 3, 1)
    copied = y[:, torch.repeat_interleave(copies)]
    here = torch.zeros(1, 2)
    wanted = signature(here, copied, torch.ones(copied.shape[:2], dtype=torch.bool))
    # A padded place may hold any weight.
    padded, weight = torch.cat([y, y], dim=1), torch.cat([copies, copies])[None].float() / 7
    mask = torch.arange(400)[None] < 200
    torch.testing.assert_close(signature(here, padded, mask, weight), wanted)
    signed = torch.where(y[:, :, 0].abs() > 2, -5.0, 1.0)
    assert signature(here, y, mask[:, :200], signed).isfinite().all()


def test_a_weighted_set_that_follows_the_training_law_is_near(eifm, tmp_path):
    """Truths about 40, of which those weigh that a training prior would have made: the set is one of its draws."""
    rng = np.random.default_rng(1)
    y = np.concatenate([10.5 + np.hypot(1, NOISE) * rng.standard_normal(64), 50 + rng.standard_normal(640)])[:, None]
    weight = np.repeat([2.0, 1e-9], [64, 640])
    columns = {"weight": "<f8"}
    with EnsembleWriter(tmp_path / "w.h5", x=X, y=Y, spec="{}", columns=columns) as writer:
        writer.append(y, np.arange(len(y)), x=y, weight=weight)
    model = model_of(spec("ei-fm"), eifm)
    found = model.diagnostics(model.using(FlowInfer()).condition(EnsembleReader(tmp_path / "w.h5")))
    assert found["embedding_distance"] < 2


def test_a_large_set_is_represented_by_some_members(eifm, tmp_path, caplog, monkeypatch):
    reader = write(tmp_path / "large.h5", [1.0], 500, seed=8)
    model = model_of(spec("ei-fm"), eifm)
    seen = []
    context = model.model.context
    monkeypatch.setattr(model.model, "context", lambda sets: (seen.append(sets["y"]), context(sets))[1])
    monkeypatch.setattr(conditioning, "MAX_MEMBERS", 90)
    with caplog.at_level(logging.WARNING, logger="pullback"):
        state = model.using(FlowInfer()).condition(reader)
    assert "500 members is represented by 90" in caplog.text
    assert state.size == 500
    members = seen[0][0, :, 0].numpy()
    assert len(members) == 90
    assert len(np.unique(members)) == 90
    assert np.isin(members, model.scaling.encode_y(reader.read("y"))).all()


def test_the_artifact_says_what_it_is(eifm, tmp_path):
    weights, meta = load_artifact(eifm)
    assert meta["spec"]["kind"] == "ei-fm"
    assert meta["label"] == "approximate"
    assert meta["set_size"] == [16, 64]
    assert meta["trained_on"]["train"] == [EnsembleReader(eifm.parent / "train.h5").digest]
    assert meta["signatures"].shape == (512, 4)
    assert all(np.isfinite(tensor.numpy()).all() for tensor in weights.values())
    with pytest.raises(ModelError, match=r"holds the model .*'kind': 'ei-fm'.* wanted .*'kind': 'cfm'"):
        model_of(spec("cfm"), eifm)


GAUSSIAN = {"kind": "gaussian", "simulator": {"noise": 0.5}}


def job_of(**settings):
    method = spec("ei-fm", **settings).model_dump(mode="json", exclude={"infer"})
    plan = {"address": [0, "toy", "m", 0], "problem": GAUSSIAN, "threads": 1, "accelerator": "cpu", "method": method}
    return canonical(plan)


def test_the_train_driver_writes_model_and_curves_and_removes_checkpoints(tmp_path, caplog):
    means = np.linspace(-1, 1, 6)
    for name in ("train", "validation"):
        write(tmp_path / f"{name}.h5", means, 50).close()
    arguments = {
        "train": [tmp_path / "train.h5"],
        "validation": [tmp_path / "validation.h5"],
        "artifact": tmp_path / "model.pt",
        "curves": tmp_path / "model.curves.csv",
        "checkpoints": tmp_path / "checkpoints",
        "code": '{"a":"1","b":"2"}',
    }
    old = json.loads(job_of(steps=7))
    code = {"a": "1", "b": "3"}
    checkpoint_folder(tmp_path / "checkpoints", {"job": old, "data": {}, "code": code, "threads": 1})
    with caplog.at_level(logging.INFO, logger="pullback"):
        train(job_of(steps=5), **arguments)
    assert "job.method.train.steps: 7 -> 5" in caplog.text
    assert 'code.b: "3" -> "2"' in caplog.text
    assert "code.a" not in caplog.text
    assert (tmp_path / "model.pt").exists()
    assert (tmp_path / "model.curves.csv").exists()
    assert not (tmp_path / "checkpoints").exists()
    first = (tmp_path / "model.pt").read_bytes()
    train(job_of(steps=5), **arguments)
    assert (tmp_path / "model.pt").read_bytes() == first


def test_every_part_of_the_fingerprint_names_another_folder(tmp_path):
    parts = {"job": json.loads(job_of()), "data": {"train": ["d1"]}, "code": "abc", "threads": 1}
    changed = [
        {**parts, "job": json.loads(job_of(steps=501))},
        {**parts, "data": {"train": ["d2"]}},
        {**parts, "code": "abd"},
        {**parts, "threads": 2},
    ]
    folders = {checkpoint_folder(tmp_path, each) for each in [parts, *changed, parts]}
    assert len(folders) == 5


def test_a_record_that_disagrees_with_its_folder_is_an_error(tmp_path):
    parts = {"job": {}, "data": {}, "code": "abc", "threads": 1}
    folder = checkpoint_folder(tmp_path, parts)
    (folder / "fingerprint.json").write_text(canonical({**parts, "code": "other"}))
    with pytest.raises(ValueError, match="another job than the name of its folder"):
        checkpoint_folder(tmp_path, parts)
