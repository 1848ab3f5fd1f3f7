import numpy as np
import pytest
import torch

from pullback.core.context import Context
from pullback.diffusion.checkpoint import ArtifactError, load_artifact, save_artifact
from pullback.diffusion.settings import Train
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.fields import Field
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.methods.guided.edm import EdmPrior
from pullback.methods.guided.prior_draws import PriorDraws
from pullback.methods.guided.prior_spec import EdmPriorSpec
from pullback.methods.guided.priors import PriorError, load_prior
from pullback.methods.guided.spec import DiffusionInfer
from pullback.networks.settings import Mlp

torch.set_num_threads(1)

X = Field.vector("x", ["a", "b"], "m")
Y = Field.vector("y", ["u"], "m")
MEAN = np.array([300.0, -2.0])
COVARIANCE = np.array([[100.0, 3.0], [3.0, 0.25]])
CONTEXT = Context((0, "problem", "edm", 0), accelerator="cpu")
SPEC = EdmPriorSpec(
    kind="edm",
    network=Mlp(width=32, depth=2),
    train=Train(steps=300, sets_per_step=4, set_size=(64, 64), learning_rate=5e-3, ema=0.98, validate_every=100),
)


class Problem:
    x, y = X, Y


def write(path, x_field, n, seed):
    rng = np.random.default_rng(seed)
    with EnsembleWriter(path, x=x_field, y=Y, spec="{}", attributes={"family": "one"}) as writer:
        x = rng.multivariate_normal(MEAN, COVARIANCE, size=n).astype(np.float32)
        writer.append(x[:, :1], np.arange(n), x=x)
    return path


def data(folder, x_field=X):
    train, validation = write(folder / "train.h5", x_field, 4000, 0), write(folder / "valid.h5", x_field, 500, 1)
    return TrainingData([EnsembleReader(train)], [EnsembleReader(validation)], 100)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior")
    job = TrainPaths(folder / "prior.pt", folder / "curves.csv", folder / "checkpoints" / "one")
    EdmPrior(SPEC, Problem(), CONTEXT).train(data(folder), job)
    return job.artifact


def test_a_trained_prior_draws_from_what_it_was_trained_on(artifact):
    method = PriorDraws(None, Problem(), CONTEXT)
    method.load(None, artifact, [])
    infer = DiffusionInfer(levels=40, draws=2000)
    x = method.using(infer).sample(None, np.zeros((1, 1), np.float32), np.array([7])).x[0]
    scale = np.sqrt(np.diag(COVARIANCE))
    np.testing.assert_allclose((x.mean(axis=0) - MEAN) / scale, 0, atol=0.15)
    # Correlation 0.6. Euler's error at 40 levels widens a unit Gaussian's variance by some 5 %, 2000 draws give 3 %.
    np.testing.assert_allclose(np.cov(x.T) / np.outer(scale, scale), [[1, 0.6], [0.6, 1]], atol=0.2)


def test_the_artifact_says_what_a_sampler_must_know(artifact):
    _, meta = load_artifact(artifact)
    assert (meta["kind"], meta["prior"]) == ("diffusion-prior", "edm")
    assert (meta["sigma_min"], meta["sigma_max"]) == (0.002, 80.0)
    assert meta["x_units"] == ["m", "m"]
    assert {split: len(digests) for split, digests in meta["trained_on"].items()} == {"train": 1, "validation": 1}
    prior, scaling = load_prior(artifact)
    z = scaling.encode_x(MEAN[None].astype(np.float32), np.zeros((1, 1), np.float32))
    np.testing.assert_allclose(z, 0, atol=0.1)
    assert (prior.schedule.sigma_min, prior.schedule.sigma_max) == (0.002, 80.0)


def test_a_trained_prior_is_differentiable_in_x_and_its_weights_are_fixed(artifact):
    prior, _ = load_prior(artifact)
    prior.double()
    x, h = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 1e-5
    v = torch.tensor([1.0, -2.0], dtype=torch.float64)
    _, pull = prior.vjp(x, 0.5)
    # J^T v by central differences, one direction after the other.
    wanted = [
        ((prior(x + h * e, 0.5) - prior(x - h * e, 0.5)) @ v) / (2 * h) for e in torch.eye(2, dtype=torch.float64)
    ]
    torch.testing.assert_close(pull(v.expand(5, 2)), torch.stack(wanted, dim=1), rtol=1e-5, atol=1e-7)
    assert not any(weight.requires_grad for weight in prior.parameters())


def test_other_files_are_refused(artifact, tmp_path):
    with pytest.raises(ArtifactError, match="no such model"):
        load_prior(tmp_path / "none.pt")
    weights, meta = load_artifact(artifact)
    for name, other, says in (
        ("flow", {"spec": {"kind": "cfm"}}, "kind None, wanted 'diffusion-prior'"),
        ("mine", {**meta, "prior": "./my.py:Mine"}, "only methods of your own read"),
        ("none", {**meta, "prior": "edn"}, "no kind 'edn'; did you mean 'edm'"),
    ):
        save_artifact(tmp_path / f"{name}.pt", weights, other)
        with pytest.raises(PriorError, match=says):
            load_prior(tmp_path / f"{name}.pt")

    class Wider:
        x, y = Field.vector("x", "abc", "m"), Y

    with pytest.raises(PriorError, match=r"shape \(2,\), wanted \(3,\)"):
        PriorDraws(None, Wider(), CONTEXT).load(None, artifact, [])


def test_no_prior_of_an_angle_that_is_learnt_relative_to_y(tmp_path):
    angle = Field.vector("x", ["a", "b"], "m", transforms=("linear", "periodic"))
    with pytest.raises(PriorError, match="periodic"):
        EdmPrior(SPEC, Problem(), CONTEXT).train(data(tmp_path, angle), TrainPaths(*[tmp_path / "x"] * 3))
