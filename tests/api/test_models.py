"""Methods on arrays: what they learn, the code and the files that they share with a study, what they refuse."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import pullback
from pullback import CFM, EIFM, DiffusionPrior, Regression
from pullback.api.models import NotFittedError
from pullback.core.context import Context
from pullback.diffusion.checkpoint import ArtifactError
from pullback.ensembles.arrays import ArrayEnsemble, ArrayError, field_of
from pullback.ensembles.family_events import SetsError
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.methods.guided.priors import load_prior
from pullback.methods.infer import answer

NOISE = 0.6
GAIN = 1 / (1 + NOISE**2)
"""x ~ N(mean, 1), y = x + NOISE eps: p(x|y) = N(mean + GAIN (y - mean), 1 - GAIN)."""

NETWORK = {"kind": "mlp", "width": 32, "depth": 2}
ENCODER = {"kind": "set-transformer", "hidden": 8, "heads": 2, "inducing": 4}
QUICK = {"steps": 20, "validate_every": 10, "sets_per_step": 2, "set_size": (8, 16), "network": NETWORK}


def pairs(mean: float, events: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((seed, round(1000 * (mean + 10))))
    x = mean + rng.standard_normal((events, 1))
    return x, x + NOISE * rng.standard_normal(x.shape)


@pytest.fixture(scope="module")
def eifm() -> EIFM:
    """Of 60 priors with means in [-2, 2]."""
    model = EIFM(
        k=2,
        network=NETWORK,
        set_encoder=ENCODER,
        train={"sets_per_step": 8, "set_size": (16, 64), "validate_every": 100, "ema": 0.98},
        steps=500,
        learning_rate=3e-3,
    )
    return model.fit([pairs(mean, 200) for mean in np.linspace(-2, 2, 60)], progress=False)


def test_ei_fm_finds_the_prior_of_a_set_that_it_was_not_trained_on(eifm):
    _, y = pairs(1.1, 400, seed=1)
    found = eifm.posterior(y, 200, solver="heun", steps=8)
    assert found.x.shape == (400, 200, 1)
    assert found.ok.all()
    assert (found.log_weight == 0).all()
    assert found.diagnostics["embedding_distance"] < 1
    draws, std = found.x[..., 0], np.sqrt(1 - GAIN)
    # Tolerances as in test_amortised: Monte Carlo of 200 draws, and 0.15 std (15 % of the variance) of short training.
    error = draws.mean(axis=1) - (1.1 + GAIN * (y[:, 0] - 1.1))
    assert np.sqrt(np.mean(error**2)) < np.hypot(std / np.sqrt(200), 0.15 * std)
    assert draws.var(axis=1).mean() == pytest.approx(1 - GAIN, rel=0.15)


def test_draws_are_addressed_by_the_event(eifm):
    """The same for a tensor, after loading, and of each block as if it were alone; others with another seed."""
    _, y = pairs(0.0, 30)
    draws = eifm.sample(y, 4, set_size=10)
    np.testing.assert_array_equal(eifm.sample(torch.from_numpy(y), 4, set_size=10), draws)
    alone = eifm.sample(y[10:20], 4, event_id=np.arange(10, 20))
    np.testing.assert_array_equal(alone, draws[10:20])
    assert (eifm.sample(y, 4, seed=1, set_size=10) != draws).all()


def test_a_file_holds_the_model(eifm, tmp_path):
    _, y = pairs(0.5, 20)
    eifm.save(tmp_path / "m.pt")
    loaded = EIFM.load(tmp_path / "m.pt")
    assert loaded.spec.model_dump(exclude={"infer"}) == eifm.spec.model_dump(exclude={"infer"})
    np.testing.assert_array_equal(loaded.sample(y, 3), eifm.sample(y, 3))
    with pytest.raises(ValueError, match="holds a model of kind 'ei-fm', and CFM is 'cfm'"):
        CFM.load(tmp_path / "m.pt")
    with pytest.raises(ArtifactError, match="there is no such model"):
        EIFM.load(tmp_path / "none.pt")


def write(path, means, events, weight=False):
    x, y = (np.concatenate(parts) for parts in zip(*(pairs(mean, events) for mean in means), strict=True))
    columns = {"weight": np.linspace(0.5, 1.5, len(x))} if weight else {}
    fields = {"x": field_of("x", x), "y": field_of("y", y)}
    with EnsembleWriter(path, **fields, spec="{}", columns=dict.fromkeys(columns, "f8")) as writer:
        writer.append(y, np.arange(len(x)), x=x, **columns)
    return path


@pytest.mark.parametrize("weight", [False, True])
def test_arrays_train_as_their_files_do(tmp_path, weight):
    """The same digest, the same weights, the same draws, of which the study's driver makes the file."""
    files = [write(tmp_path / f"{i}.h5", [mean], 50, weight) for i, mean in enumerate((-1.0, 1.0, 0.3))]
    readers = [EnsembleReader(path) for path in files]
    arrays = [tuple(r.read(name) for name in ("x", "y", *(["weight"] if weight else []))) for r in readers]
    of_files = EIFM(k=2, set_encoder=ENCODER, **QUICK).fit(files[:2], files[2:], progress=False)
    model = EIFM(k=2, set_encoder=ENCODER, **QUICK).fit(arrays[:2], arrays[2:], progress=False)
    assert model.artifact.meta["trained_on"] == {
        "train": [reader.digest for reader in readers[:2]],
        "validation": [readers[2].digest],
    }
    for name, value in of_files.artifact.weights.items():
        assert torch.equal(value, model.artifact.weights[name])
    draws = model.sample(files[2], 3)
    np.testing.assert_array_equal(model.sample(arrays[2][1], 3, weight=arrays[2][2] if weight else None), draws)

    # Through the driver of the rule `infer`, with a model file that the method reads itself.
    model.save(tmp_path / "m.pt")
    context = Context(("python", "ei-fm", "sample", 0), 1, "auto")
    method = model.spec.build(TrainingData(readers, readers, 100), context).using(
        model.spec.infer_settings({"draws": 3})
    )
    method.load(tmp_path / "m.pt", None, [])
    answer(method, readers[2], tmp_path / "p.h5", "{}")
    with PosteriorReader(tmp_path / "p.h5") as posterior:
        np.testing.assert_array_equal(posterior.read("x"), draws)


def test_a_training_goes_on_from_its_checkpoints(tmp_path, monkeypatch):
    """An interrupted call, made again, ends with the weights of an uninterrupted one."""
    data = [pairs(mean, 40) for mean in (-1, 0, 1)]
    settings = {**QUICK, "checkpoint_every": 5}
    wanted = CFM(**settings).fit(data, progress=False).artifact

    def broken(iterable, total, label):
        for step in iterable:
            if step == 12:
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr("pullback.api.models.bar", broken)
    with pytest.raises(KeyboardInterrupt):
        CFM(**settings).fit(data, checkpoints=tmp_path / "state")
    assert list((tmp_path / "state").glob("*/step-000000010.pt"))
    again = CFM(**settings).fit(data, checkpoints=tmp_path / "state", curves=tmp_path / "curves.csv", progress=False)
    for name, value in wanted.weights.items():
        assert torch.equal(value, again.artifact.weights[name])
    assert len((tmp_path / "curves.csv").read_text().splitlines()) == 3
    assert not list((tmp_path / "state").glob("*/step-*"))


def test_true_parameters_are_given_to_a_model_that_wants_them():
    means = np.linspace(-2, 2, 5)
    model = CFM(parameters=True, **QUICK)
    with pytest.raises(SetsError, match="states the parameters none"):
        model.fit([pairs(mean, 40) for mean in means], progress=False)
    model.fit([pairs(mean, 40) for mean in means], parameters=means[:, None], progress=False)
    _, y = pairs(1.0, 5)
    low, high = (model.sample(y, 2, parameters=[mean]) for mean in (-2.0, 2.0))
    assert (low != high).all()
    with pytest.raises(ArrayError, match="found 0 parameters of the prior, wanted 1: parameter_0"):
        model.sample(y)


def test_a_point_estimate_of_images():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 8, 8))
    model = Regression(network={"kind": "unet", "width": 4, "levels": 1}, steps=2, set_size=(4, 8)).fit(
        [(x, x + 1)], progress=False
    )
    assert model.sample(x).shape == (30, 1, 8, 8)
    assert model.label == "point estimate"
    with pytest.raises(ValueError, match="draws"):
        model.sample(x, draws=2)


def test_a_diffusion_prior_of_arrays(tmp_path):
    """Draws have the mean and spread of the truths, and the file is one that a study's guided methods read."""
    x = 5 + 2 * np.random.default_rng(0).standard_normal(2000)
    prior = DiffusionPrior(network=NETWORK, steps=300, set_size=(256, 256), learning_rate=3e-3, ema=0.98)
    draws = prior.fit(x, progress=False).sample(1000)
    assert draws.shape == (1000, 1)
    # Monte Carlo of 1000 draws, 0.06 and 0.04, and a tenth of the spread for a short training.
    assert abs(draws.mean() - 5) < 3 * 0.06 + 0.2
    assert abs(draws.std() - 2) < 3 * 0.04 + 0.2
    prior.save(tmp_path / "prior.pt")
    denoiser, _ = load_prior(tmp_path / "prior.pt")
    noisy = torch.randn(5, 1)
    assert torch.equal(denoiser(noisy, 0.5), prior.denoiser()[0](noisy, 0.5))
    np.testing.assert_array_equal(DiffusionPrior.load(tmp_path / "prior.pt").sample(10), prior.sample(10))
    np.testing.assert_allclose(prior.sample(20)[:10], prior.sample(10), rtol=1e-4)


def test_an_angle_comes_back_wrapped():
    rng = np.random.default_rng(0)
    phi = rng.uniform(-np.pi, np.pi, (60, 1))
    x, y = np.hstack([phi, phi**2]), (phi + 0.1 + np.pi) % (2 * np.pi) - np.pi
    model = CFM(**QUICK).fit(
        [(x, y)],
        x_names=["phi", "square"],
        y_names=["phi"],
        x_transforms=["periodic", "linear"],
        y_transforms="periodic",
        progress=False,
    )
    draws = model.sample(y, 8)
    assert draws.shape == (60, 8, 2)
    assert (np.abs(draws[..., 0]) <= np.pi).all()


def test_what_is_held_out(caplog):
    caplog.set_level("INFO", "pullback")
    CFM(**QUICK).fit([pairs(mean, 40) for mean in np.arange(20)], 0.2, progress=False)
    assert "4 of 20 ensembles are held out" in caplog.text
    x, y = pairs(0.0, 100)
    model = CFM(**{**QUICK, "set_size": (128, 512)}).fit((x, y), progress=False)
    assert "10 of 100 events are held out" in caplog.text
    train, validation = (digests[0] for digests in model.artifact.meta["trained_on"].values())
    assert train != validation
    CFM(**{name: value for name, value in QUICK.items() if name != "set_size"}).fit((x, y), progress=False)
    assert "sets of 90 to 90 events: the smallest ensemble has 90" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kk": 3}, "EIFM: there is no option 'kk'; did you mean 'k'?"),
        ({"lerning_rate": 3}, "there is no option 'lerning_rate'; did you mean 'learning_rate'?"),
        ({"infer": {}}, "there is no option 'infer'"),
        ({"k": 0}, "EIFM: k: Input should be greater than or equal to 1"),
        ({"steps": -1}, "EIFM: train.steps: Input should be greater than or equal to 1"),
        ({"network": "resnet"}, "EIFM: network: .*'resnet'.*'mlp', 'unet'"),
        ({"set_size": (5, 2)}, "EIFM: train: set_size needs 1 <= least <= most"),
    ],
)
def test_options_that_there_are_not(options, message):
    with pytest.raises(ValueError, match=message):
        EIFM(**options)


X, Y = pairs(0.0, 10)


@pytest.mark.parametrize(
    ("ensembles", "message"),
    [
        ([], "found no ensemble"),
        ([(X, Y[:5])], "ensemble 0: x has 10 events and y has 5"),
        ([(X, Y), (X, np.where(Y > 0, np.nan, Y))], r"ensemble 1: y has \d values that are not finite"),
        ([(X, Y * 1e300)], "not finite as float32"),
        ([(X, Y.astype(str))], "ensemble 0: y has the type <U32, wanted real numbers"),
        ([(X, Y, np.ones((10, 2)))], r"weight has shape \(10, 2\), wanted one number for each event"),
        ([(X, Y), (np.hstack([X, X]), Y)], r"ensemble 1: x is .*, wanted .* as in ensemble 0"),
        ([X], "ensemble 0 is ndarray: wanted"),
        ((X[:1], Y[:1]), "ensemble 0: holds 1 event, of which none can be held out"),
    ],
)
def test_data_that_cannot_be_trained_on(ensembles, message):
    with pytest.raises((ArrayError, SetsError), match=message):
        CFM(**QUICK).fit(ensembles, progress=False)


def test_what_cannot_be_sampled(eifm):
    with pytest.raises(NotFittedError, match=r"call fit, or CFM\.load"):
        CFM().sample(Y)
    with pytest.raises(NotFittedError):
        CFM().save("never.pt")
    with pytest.raises(ArrayError, match=r"y of each event has shape \(2,\); trained on \(1,\)"):
        eifm.sample(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="no option 'stepz'; did you mean 'steps'"):
        eifm.sample(Y, stepz=3)
    with pytest.raises(ValueError, match="there is no option 'refine'"):
        eifm.sample(Y, refine={})


def test_an_ensemble_in_memory_is_a_file_in_memory(tmp_path):
    reader = EnsembleReader(write(tmp_path / "e.h5", [0.0, 1.0], 20, weight=True))
    memory = ArrayEnsemble(*(reader.read(name) for name in ("y", "x")), weight=reader.read("weight"))
    assert memory.digest == reader.digest
    assert set(memory.columns) == set(reader.columns)
    part = memory.window(3, 9)
    for name in memory.columns:
        np.testing.assert_array_equal(part.read(name, 1, 4), reader.window(3, 9).read(name, 1, 4))
    assert part.digest != memory.digest


def test_import_is_light():
    heavy = "{'torch', 'numpy', 'h5py', 'scipy', 'xarray', 'pandas', 'pydantic', 'devito', 'matplotlib', 'sklearn'}"
    code = f"import pullback, sys; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "from pullback import *; import sys; EIFM(k=3); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_is_there():
    assert set(pullback.__all__) <= set(dir(pullback))
    for name in pullback.__all__:
        assert getattr(pullback, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'EIFN'"):
        pullback.EIFN


def test_the_version_has_one_source():
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert f"version: {pullback.__version__}\n" in (root / "CITATION.cff").read_text()
