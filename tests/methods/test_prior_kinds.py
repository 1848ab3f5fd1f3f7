"""Priors without a training: the problem's own, and a network from a file."""

import hashlib
import math

import numpy as np
import pytest
import torch

from pullback.core.context import Context
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.arrays import ArrayEnsemble
from pullback.ensembles.fields import Field
from pullback.ensembles.sets import TrainingData
from pullback.methods.guided.exact_prior import ExactPrior
from pullback.methods.guided.file_prior import FilePrior
from pullback.methods.guided.file_spec import FilePriorSpec
from pullback.methods.guided.prior_draws import PriorDraws
from pullback.methods.guided.prior_spec import ExactPriorSpec
from pullback.methods.guided.priors import PriorError, load_prior
from pullback.methods.guided.spec import DiffusionInfer
from pullback.networks.build import build_network
from pullback.networks.settings import Mlp
from pullback.study import StudyError, load_study
from pullback.study.job_params import Plan
from pullback.study.problem_kind import problem_kind

torch.set_num_threads(1)

CONTEXT = Context((0, "p", "prior", 0), accelerator="cpu")
PLANE = {
    "weights": [0.4, 0.6], "means": [[3, 0], [-1, 2]], "covariances": [[[1, 0.3], [0.3, 0.5]], [[0.2, 0], [0, 0.4]]],
    "matrix": [[1, 0.5]],
}  # fmt: skip
FAMILIES = {"a": {}, "b": {"shift1": 2.0, "scale": 0.5}}


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """The artifact of the exact prior of two families, and their problem."""
    problem, rng = problem_kind("gaussian-mixture").build(PLANE), np.random.default_rng(0)
    ensembles = []
    for params in FAMILIES.values():
        x = problem.sample_prior(rng, 3000, params).astype(np.float32)
        y = problem.observe(problem.apply(x)[0], x, rng).astype(np.float32)
        ensembles.append(ArrayEnsemble(y, x, x_field=problem.x, y_field=problem.y))
    data = TrainingData(ensembles, ensembles, 100)
    prior = ExactPrior(ExactPriorSpec(kind="exact"), problem, CONTEXT)
    prior.set_prior_params(FAMILIES)
    path = tmp_path_factory.mktemp("exact") / "prior.pt"
    prior.train(data, TrainPaths(path, path.with_suffix(".csv")))
    return path, problem


def test_the_exact_prior_is_the_mean_by_importance_sampling(exact):
    """E[z_0 | z_t] of draws of both families, weighted by N(z_t; z_0, t^2): no formula of the mixture."""
    path, problem = exact
    denoiser, scaling = load_prior(path)
    assert (denoiser.schedule.sigma_min, denoiser.schedule.sigma_max) == (0.002, 80.0)
    rng, n = np.random.default_rng(1), 200_000
    x = np.concatenate([problem.sample_prior(rng, n, params) for params in FAMILIES.values()])
    z = scaling.encode_x(x, np.zeros((len(x), 1))).astype(np.float64)
    for z_t, t in (([0.5, 0.2], 0.5), ([-1.0, 1.0], 1.0), ([4.0, -3.0], 6.0)):
        weight = np.exp(-((z - z_t) ** 2).sum(1) / (2 * t**2))
        wanted = weight @ z / weight.sum()
        error = np.sqrt(weight**2 @ (z - wanted) ** 2) / weight.sum()
        found = denoiser(torch.tensor([z_t]), t)[0].numpy()
        assert (np.abs(found - wanted) < 5 * error + 1e-5).all()


def test_unguided_draws_of_the_exact_prior_are_of_the_families(exact):
    path, problem = exact
    method = PriorDraws(None, problem, CONTEXT)
    method.load(None, path, [])
    draws = method.using(DiffusionInfer(levels=60, draws=4000)).sample(None, np.zeros((1, 1)), np.array([0])).x[0]
    rng = np.random.default_rng(2)
    x = np.concatenate([problem.sample_prior(rng, 20_000, params) for params in FAMILIES.values()])
    # Five standard errors; Euler's 60 levels widen by a few per cent.
    np.testing.assert_allclose(draws.mean(0), x.mean(0), atol=5 * x.std() / math.sqrt(4000) + 0.03)
    np.testing.assert_allclose(draws.std(0), x.std(0), rtol=0.08)
    assert method.cost.network_calls == 60 * 4000


def study(prior, kind="gaussian-mixture", **families):
    families = families or {"a": {"role": "seen"}, "b": {"role": "seen", "params": {"scale": 2.0}}}
    methods = {"m": {"kind": "prior-draws", "prior": "p"}}
    problem = {"kind": kind, "families": families, "priors": {"p": prior}, "methods": methods}
    return load_study({"config_version": 2, "study": "s", "problems": {"q": problem}})


SWEEP = {"role": "seen", "params": {"scale": {"uniform": [1, 2]}}, "sweep": {"ensembles": 4, "events": 8}}


@pytest.mark.parametrize(
    ("more", "kind", "families", "says"),
    [
        ({"family": "c"}, "gaussian-mixture", {}, "priors.p.family: 'c' is no seen family"),
        ({}, "digits", {"a": {"role": "seen"}}, "gives no prior in closed form"),
        ({}, "gaussian-mixture", {"a": {"role": "seen"}, "s": SWEEP}, "'s' is a distribution over priors"),
        ({"sigma_min": 90.0}, "gaussian-mixture", {}, "must be below sigma_max"),
    ],
)
def test_no_exact_prior_of_what_has_no_closed_form(more, kind, families, says):
    with pytest.raises(StudyError, match=says):
        study({"kind": "exact", **more}, kind, **families)


def test_the_job_of_an_exact_prior_holds_the_parameters_of_the_families():
    plan = Plan(study({"kind": "exact", "family": "b"}))
    assert '"params":{"a":{},"b":{"scale":2.0}}' in plan.train_job("q", "priors", "p", 0)
    # A sweep beside the named family is no obstacle.
    assert study({"kind": "exact", "family": "a"}, a={"role": "seen"}, s=SWEEP)


# A network from a file


class Image:
    x, y = Field.array("x", ("row", "column"), (8, 8), "1", low=(0.0,), high=(1.0,)), Field.vector("y", ["u"], "1")


class Plane:
    x, y = Field.vector("x", ["a", "b"], "m"), Field.vector("y", ["u"], "1")


NETWORK = Mlp(width=8, depth=1)


def weights_file(folder, value=None):
    if value is None:
        torch.manual_seed(0)
        network = build_network(NETWORK, (2,), None, 0)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        value = network.state_dict()
    torch.save(value, folder / "net.pt")
    return folder / "net.pt", value


def spec(file, **more):
    given = {"prediction": "noise", "schedule": {"kind": "vp-linear"}, "x_shape": [2], **more}
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    frame = {"kind": "file", "path": str(file), "sha256": digest, "licence": "CC0", "network": NETWORK}
    return FilePriorSpec.model_validate({**frame, **given})


def test_a_file_becomes_a_denoiser_of_the_exploding_process(tmp_path):
    path, weights = weights_file(tmp_path)
    of_file = spec(path, x_range=[[0, 10], [-4, 4]], network_range=[-1, 1], time_factor=999.0)
    artifact = FilePrior(of_file, Plane(), CONTEXT).train(None, TrainPaths(tmp_path / "prior.pt"))
    assert (artifact.meta["licence"], artifact.meta["sha256"]) == ("CC0", of_file.sha256)
    denoiser, scaling = load_prior(tmp_path / "prior.pt")
    np.testing.assert_allclose(scaling.decode_x(np.array([[-1.0, 1.0]]), np.zeros((1, 1))), [[0, 4]])
    # By hand: x_t = alpha z at the time with sigma / alpha = level, and z_0 = (x_t - sigma noise) / alpha.
    network = build_network(NETWORK, (2,), None, 0)
    network.load_state_dict(weights)
    z, level = torch.tensor([[0.3, -2.0], [1.0, 0.5]]), 1.5
    total = math.log(1 + level**2)
    time = (-0.1 + math.sqrt(0.01 + 2 * 19.9 * total)) / 19.9
    alpha = math.exp(-total / 2)
    with torch.no_grad():
        noise = network(alpha * z, torch.full((2,), 999 * time), None, None)
    torch.testing.assert_close(denoiser(z, level), z - level * noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("prediction", "schedule"),
    [("edm", {"kind": "ve"}), ("mean", {"kind": "ve"}), ("velocity", {"kind": "flow"}), ("v", {"kind": "ddpm"})],
)
def test_every_prediction_loads_and_has_a_derivative(tmp_path, prediction, schedule):
    path, _ = weights_file(tmp_path)
    of_file = spec(path, prediction=prediction, schedule=schedule, sigma_min=0.02)
    artifact = FilePrior(of_file, Plane(), CONTEXT).train(None, TrainPaths())
    denoiser, _ = load_prior(artifact)
    z = torch.tensor([[0.3, -2.0], [1.0, 0.5]])
    mean, pull = denoiser.vjp(z, 0.7)
    assert mean.isfinite().all()
    assert pull(torch.ones_like(z)).isfinite().all()
    torch.testing.assert_close(denoiser(z, torch.tensor([0.7, 0.7])), mean)


def test_files_that_are_not_what_the_study_says(tmp_path):
    path, weights = weights_file(tmp_path)

    def refused(says, problem=Plane, **more):
        with pytest.raises(PriorError, match=says):
            FilePrior(spec(path, **more), problem(), CONTEXT).train(None, TrainPaths())

    refused("wanted " + 64 * "0", sha256=64 * "0")
    refused("there is no such file", path=str(tmp_path / "none.pt"))
    refused(r"shape \[3\], wanted \[2\]", x_shape=[3])
    refused("weights of another network", network=Mlp(width=8, depth=2))
    refused("has shape", network=Mlp(width=9, depth=1))
    refused("x_range: its upper ends", Image, x_shape=[8, 8], x_range=[0, 255])
    first = next(iter(weights))
    weights_file(tmp_path, {**weights, first: weights[first] * float("nan")})
    refused("not finite")
    weights_file(tmp_path, {"model": weights})
    refused("no weights by name")
    torch.save(torch.nn.Linear(2, 2), path)
    refused("may run code")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"prediction": "edm"}, "has the schedule ve"),
        ({"prediction": "velocity", "schedule": {"kind": "ddpm"}}, "a table does not have"),
        ({"schedule": {"kind": "ddpm"}}, "levels sigma / alpha from 0.01 to 157"),
        ({"x_range": [1, 0]}, "needs low < high"),
        ({"sha256": "abc"}, "pattern"),
    ],
)
def test_settings_of_a_file_that_do_not_fit(tmp_path, more, says):
    path, _ = weights_file(tmp_path)
    with pytest.raises(ValueError, match=says):
        spec(path, **more)


def test_a_file_needs_no_seen_family(tmp_path):
    path, _ = weights_file(tmp_path)
    prior = spec(path, x_shape=[1]).model_dump(mode="json")
    plan = Plan(study(prior, a={"role": "unseen"}))
    assert plan.learned_from("q", "priors", "p", "train") == []
