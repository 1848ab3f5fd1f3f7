"""The learned likelihood: against the exact density of the Gaussian problem, and against zuko pair by pair."""

import numpy as np
import pytest
import small
import torch

from pullback.core.context import Context
from pullback.diffusion.checkpoint import save_artifact
from pullback.diffusion.settings import Train
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.fields import Field
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.methods.infer import infer
from pullback.methods.likelihood import GmmLikelihood, LikelihoodError, load_likelihood
from pullback.methods.likelihood_spec import GmmLikelihoodSpec
from pullback.methods.loading import Inputs
from pullback.methods.train import train
from pullback.problems.base import simulate
from pullback.problems.gaussian import Gaussian, GaussianSimulator

torch.set_num_threads(1)

PROBLEM = Gaussian(GaussianSimulator())
CONTEXT = Context((0, "toy", "gmm", 0), accelerator="cpu")
SPEC = GmmLikelihoodSpec(
    kind="gmm",
    components=1,
    width=32,
    depth=2,
    train=Train(steps=600, sets_per_step=1, set_size=(384, 384), learning_rate=5e-3, ema=0.98, validate_every=300),
)


def write(path, n, gamma, seed):
    rng = np.random.default_rng(seed)
    x = PROBLEM.sample_prior(rng, n, {"gamma": gamma}).astype(np.float32)
    with EnsembleWriter(path, x=PROBLEM.x, y=PROBLEM.y, spec="{}", attributes={"family": path.stem}) as writer:
        writer.append(simulate(PROBLEM, x, rng)[0], np.arange(n), x=x)
    return EnsembleReader(path)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("likelihood")
    families = [("minus", -0.5), ("plus", 0.5)]
    train = [write(folder / f"{name}.h5", 6000, gamma, 1) for name, gamma in families]
    validation = [write(folder / f"{name}-v.h5", 500, gamma, 2) for name, gamma in families]
    job = TrainPaths(folder / "gmm.pt", folder / "curves.csv", folder / "checkpoints" / "one")
    GmmLikelihood(SPEC, PROBLEM, CONTEXT).train(TrainingData(train, validation, 100), job)
    return job.artifact


def test_it_is_the_exact_density_also_under_another_prior(artifact):
    """KL(p || q) of y given x, mean over x of an unseen prior: E log p - log q, in nats.

    q is per unit of the scaled y: a standard deviation of y each.
    """
    rng = np.random.default_rng(7)
    x = PROBLEM.sample_prior(rng, 1500, {"gamma": 0.8})
    y, _ = simulate(PROBLEM, x, rng)
    loaded = load_likelihood(artifact, CONTEXT)
    units = np.log([column["std"] for column in loaded.scaling.to_dict()["y"]]).sum()
    ours = np.diagonal(loaded.at(x)(y)) - units
    kl = (PROBLEM.log_likelihood(y, x) - ours).mean()
    # The exact mean and one width for all x would be off by log E|x|^2 - E log|x|^2 = .8.
    assert -0.01 < kl < 0.15


def test_pairs_are_zukos(artifact):
    rng = np.random.default_rng(8)
    x = PROBLEM.sample_prior(rng, 30, {"gamma": 0.3})
    y, _ = simulate(PROBLEM, x[:20], rng)
    loaded = load_likelihood(artifact, CONTEXT)
    z = torch.from_numpy(loaded.scaling.encode_x(x, y[:1]))
    with torch.no_grad():
        wanted = loaded.model(z).log_prob(torch.from_numpy(loaded.scaling.encode_y(y))[:, None])
    assert wanted.shape == (20, 30)
    np.testing.assert_allclose(loaded.at(x)(y), wanted, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize(
    ("x_field", "y_field", "says"),
    [
        (
            Field.vector("x", "ab", "1", transforms=("linear", "periodic")),
            PROBLEM.y,
            "b of x: networks see it relative",
        ),
        (Field.array("x", ("depth",), (2,), "m"), PROBLEM.y, "x is an array"),
        (PROBLEM.x, Field.array("y", ("time",), (2,), "s"), "y is an array"),
    ],
)
def test_what_has_no_density_of_vectors_is_refused(tmp_path, x_field, y_field, says):
    path = tmp_path / "e.h5"
    with EnsembleWriter(path, x=x_field, y=y_field, spec="{}") as writer:
        writer.append(np.zeros((9, 2)), np.arange(9), x=np.zeros((9, 2)))
    data = TrainingData([EnsembleReader(path)], [EnsembleReader(path)], 100)
    with pytest.raises(LikelihoodError, match=says):
        GmmLikelihood(SPEC, PROBLEM, CONTEXT).train(data, TrainPaths(*[tmp_path / "x"] * 3))


def test_another_model_is_refused(tmp_path):
    save_artifact(tmp_path / "flow.pt", {}, {"spec": {"kind": "cfm"}})
    with pytest.raises(LikelihoodError, match="wanted 'likelihood'"):
        load_likelihood(tmp_path / "flow.pt", CONTEXT)


def test_the_drivers_train_it_and_refine_with_it(tmp_path):
    """As the rules `likelihood`, `train` and `infer` call them, with a job of each."""
    for kind in ("gmm", "cfm"):
        arguments = small.train_arguments(kind, tmp_path, steps=10, sets_per_step=1)
        train(**{**arguments, "artifact": tmp_path / f"{kind}.pt", "curves": tmp_path / f"{kind}.curves.csv"})
    test = small.write(tmp_path / "test.h5", 100, 3)
    drawn = []
    for number, refine in enumerate((None, {"likelihood": "gmm", "particles": 300}, {"particles": 300})):
        more = {"infer_name": "refined", "infer": {"draws": 3, "refine": refine}, "family": "plus"}
        text = small.job("cfm", method=small.METHODS["cfm"], part=0, parts=1, **more)
        out = tmp_path / f"part-{number}.h5"
        learned = {"likelihood": tmp_path / "gmm.pt"} if refine and "likelihood" in refine else {}
        inputs = Inputs(test, artifact=tmp_path / "cfm.pt", **learned)
        infer(text, inputs, out)
        posterior = PosteriorReader(out)
        assert ("refine_iterations" in posterior.diagnostics) == (refine is not None)
        drawn.append(posterior.read("x"))
    assert all(x.shape == (100, 3, 2) and np.isfinite(x).all() for x in drawn)
    assert not np.array_equal(drawn[1], drawn[2])
