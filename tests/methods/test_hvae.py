"""The hierarchical VAE: its bound against closed forms, and posteriors that it learns."""

import numpy as np
import pytest
import torch
from small import PROBLEM
from torch.distributions import Normal, kl_divergence

from pullback.core.context import Context
from pullback.diffusion.checkpoint import load_artifact
from pullback.diffusion.settings import Train
from pullback.diffusion.share import Noise, Share
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.fields import Field
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.methods.amortised import hvae as module
from pullback.methods.amortised.acceptance import Purity
from pullback.methods.amortised.hvae import SET_LOG_STD, Hvae, HvaeNet, kl, kl_terms, log_normal, negative_elbo, split
from pullback.methods.amortised.hvae_spec import HvaeSpec as Spec
from pullback.methods.amortised.spec import AmortisedInfer as Infer
from pullback.networks.settings import Mlp, SetTransformer
from pullback.problems.base import simulate

TRAIN = Train(
    steps=600, sets_per_step=8, set_size=(16, 64), loss_members=32, learning_rate=5e-3, ema=0.98, validate_every=100
)
SPEC = Spec(
    kind="hvae",
    k=2,
    latent=2,
    network=Mlp(width=32, depth=2),
    set_encoder=SetTransformer(hidden=8, heads=2, inducing=4),
    train=TRAIN,
)
NOISE = 0.6


def write(path, means, events, seed):
    """The 2-D Gaussian problem, one ensemble for each mean of x1."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([PROBLEM.sample_prior(rng, events, prior(mean)) for mean in means])
    y, _ = simulate(PROBLEM, x, rng)
    with EnsembleWriter(path, x=PROBLEM.x, y=PROBLEM.y, spec="{}") as writer:
        writer.append(y, np.arange(len(x)), x=x)
        if len(means) > 1:
            writer.ensembles(np.arange(len(means) + 1) * events, np.array(means)[:, None], ["mu1"])
    return EnsembleReader(path)


def prior(mean):
    return {"gamma": 0.5, "mu1": mean}


def write_linear(path, events, seed):
    """x ~ N(0, 1), y = x + NOISE eps: p(x|y) is a Gaussian with variance NOISE^2 / (1 + NOISE^2)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((events, 1))
    fields = {"x": Field.vector("x", ["a"], "1"), "y": Field.vector("y", ["b"], "1")}
    with EnsembleWriter(path, **fields, spec="{}") as writer:
        writer.append(x + NOISE * rng.standard_normal(x.shape), np.arange(events), x=x)
    return EnsembleReader(path)


def model_of(artifact=None, spec=SPEC, problem=PROBLEM):
    model = Hvae(spec, problem, Context(("study", "toy", "hvae", 0), threads=1, accelerator="cpu"))
    if artifact:
        model.load(artifact, None, [])
    return model


def trained(folder, train, validation, spec=SPEC):
    job = TrainPaths(folder / "model.pt", folder / "curves.csv", folder / "checkpoints")
    model_of(spec=spec).train(TrainingData([train], [validation], 100), job)
    return job.artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """Trained on 60 ensembles with a mean of x1 in [-2, 2]."""
    folder = tmp_path_factory.mktemp("hvae")
    means = np.linspace(-2, 2, 60)
    return trained(
        folder, write(folder / "train.h5", means, 200, 0), write(folder / "validation.h5", means[::4], 100, 1)
    )


def test_kl_and_density_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    one, log_one, other, log_other = torch.randn((4, 5, 3), generator=generator, dtype=torch.float64)
    p, q = Normal(one, log_one.exp()), Normal(other, log_other.exp())
    torch.testing.assert_close(kl(one, log_one, other, log_other), kl_divergence(p, q).sum(-1))
    torch.testing.assert_close(kl_terms(one, log_one).sum(-1), kl_divergence(p, Normal(0.0, 1.0)).sum(-1))
    torch.testing.assert_close(log_normal(other, one, log_one), p.log_prob(other).sum(-1))


class LinearGaussian:
    """x = z + S e, z ~ N(0, 1) whatever y and c are; q(z|x) as told; q(c|Y) one Gaussian."""

    S = 0.5
    purity = None
    of_set = torch.tensor([[0.3, -0.4]])

    def __init__(self, shift=0.0):
        self.shift = shift

    def context(self, sets):
        return self.of_set.expand(len(sets["y"]), -1)

    def prior(self, y, c):
        return torch.zeros(len(y), 1), torch.zeros(len(y), 1)

    def posterior(self, x, y, c):
        variance = self.S**2 / (1 + self.S**2)
        return x / (1 + self.S**2) + self.shift, torch.full_like(x, 0.5 * np.log(variance))

    def decode(self, z, y, c):
        return z, torch.full_like(z, np.log(self.S))


def test_bound_is_the_likelihood_where_q_is_the_posterior_and_below_it_elsewhere(monkeypatch):
    monkeypatch.setattr(module, "FREE_NATS", 0.0)
    members = 40_000
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((1, members, 1), generator=generator) * np.sqrt(1 + LinearGaussian.S**2)
    mask = torch.ones((1, members), dtype=torch.bool)
    mask[0, -100:] = False
    sets = {"x": x, "y": x, "mask": mask}
    exact = Normal(0.0, np.sqrt(1 + LinearGaussian.S**2)).log_prob(x[mask]).mean()
    mean, log_std = split(LinearGaussian.of_set, SET_LOG_STD)
    of_set = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum() / mask.sum()
    found = {}
    for shift in (0.0, 0.4):
        total, count = negative_elbo(LinearGaussian(shift), sets, Noise(2, Share(1)), 1, None)
        assert count == mask.sum()
        found[shift] = -total / count
    # Given x, log p(x|z) under q has a standard deviation below 1.5 (S = 0.5, q's variance 0.2).
    error = 5 * 1.5 / np.sqrt(members)
    assert found[0.0] == pytest.approx(float(exact - of_set), abs=error)
    # A q that is off by d in units of its standard deviation loses d^2 / 2: its divergence from the posterior.
    lost = 0.5 * 0.4**2 / (LinearGaussian.S**2 / (1 + LinearGaussian.S**2))
    assert found[0.0] - found[0.4] == pytest.approx(lost, abs=error)


def test_targets_are_a_share_of_the_bound_of_the_whole_set(monkeypatch):
    """The divergence of the set's latent is shared by all its members, also where some of them are targets."""
    monkeypatch.setattr(module, "FREE_NATS", 0.0)
    model, scaling = LinearGaussian(), torch.zeros((2, 10, 1))
    sets = {"x": scaling, "y": scaling, "mask": torch.ones((2, 10), dtype=torch.bool)}
    _, n = negative_elbo(model, sets, Noise(0, Share(2)), 1, None)
    some, few = negative_elbo(model, sets, Noise(0, Share(2)), 1, 4)
    assert (int(n), int(few)) == (20, 8)
    of_set = float(kl_terms(*split(LinearGaussian.of_set, SET_LOG_STD)).sum()) / 10
    without = LinearGaussian()
    # A set's latent that says nothing: N(0, 1).
    without.of_set = torch.tensor([[0.0, -SET_LOG_STD]])
    some_without, _ = negative_elbo(without, sets, Noise(0, Share(2)), 1, 4)
    assert float(some - some_without) == pytest.approx(8 * of_set, rel=1e-4)
    monkeypatch.setattr(module, "FREE_NATS", 5.0)
    less, _ = negative_elbo(model, sets, Noise(0, Share(2)), 1, 4)
    # One component, below 5 nats: it counts as 5, and the bound is a lower one.
    assert float(less - some) == pytest.approx(8 * (5 / 10 - of_set), rel=1e-4)


@torch.no_grad()
def test_purity_is_learned_beside_the_bound():
    """Fakes have no bound, and are members of the cross entropy as all others."""
    model = LinearGaussian()
    x, y = torch.randn(2, 1, 40, 1, generator=torch.Generator().manual_seed(3))
    real = torch.arange(40)[None] % 4 > 0
    sets = {"x": x, "y": y, "mask": torch.ones((1, 40), dtype=torch.bool), "real": real}
    bound, pairs = negative_elbo(model, sets, Noise(0, Share(1)), 1, 20)
    model.purity = Purity((1,), 2)
    both, members = negative_elbo(model, sets, Noise(0, Share(1)), 1, 20)
    assert (int(pairs), int(members)) == (15, 20)
    chance = torch.sigmoid(model.purity(y, model.of_set))[0, :20]
    wanted = -torch.log(torch.where(real[0, :20], chance, 1 - chance)).sum()
    assert float(both - bound) == pytest.approx(float(wanted), rel=1e-4)


def test_trained_bound_approaches_the_likelihood_of_a_gaussian_posterior(tmp_path):
    """E log p(x|y) = -(log(2 pi v) + 1) / 2 in units of the scaled x; a trained bound lies just below."""
    spec = SPEC.model_copy(update={"train": TRAIN.model_copy(update={"steps": 200})})
    train = write_linear(tmp_path / "train.h5", 20_000, 0)
    artifact = trained(tmp_path, train, write_linear(tmp_path / "validation.h5", 2000, 1), spec)
    weights, meta = load_artifact(artifact)
    scaling = Scaling.from_dict(meta["scaling"])
    model = HvaeNet(spec, scaling).eval()
    model.load_state_dict(weights)
    test = write_linear(tmp_path / "test.h5", 20_000, 2)
    x, y = test.read("x"), test.read("y")
    sets = {
        "x": torch.from_numpy(scaling.encode_x(x, y))[None],
        "y": torch.from_numpy(scaling.encode_y(y))[None],
        "mask": torch.ones((1, len(x)), dtype=torch.bool),
    }
    with torch.no_grad():
        total, count = negative_elbo(model, sets, Noise(3, Share(1)), spec.latent, None)
    variance = NOISE**2 / (1 + NOISE**2) / x.var()
    exact = -0.5 * (np.log(2 * np.pi * variance) + 1)
    found = -float(total / count)
    # log p(x|y) has a standard deviation of sqrt(1/2): 5 errors of its mean over these events above; below, what a
    # short training leaves.
    error = 5 * np.sqrt(0.5 / len(x))
    assert exact - 0.05 < found < exact + error


def test_draws_know_the_observation_and_the_set(artifact, tmp_path):
    infer = Infer(draws=50)
    probe = np.tile(np.float32([5.0, 5.0]), (200, 1))
    found, exact = {}, {}
    for mean in (-1.5, 1.5):
        reader = write(tmp_path / f"{mean}.h5", [mean], 500, 5)
        model = model_of(artifact)
        # As large as the largest set of the training.
        state = model.using(infer).condition(reader.window(0, 64))
        y, x = reader.read("y"), reader.read("x")
        chunk = model.using(infer).sample(state, y, reader.read("event_id"))
        assert chunk.x.shape == (500, 50, 2)
        assert chunk.ok.all()
        best, _ = PROBLEM.exact_posterior(y, prior(mean), 1, 64, np.random.default_rng(1))
        blind = PROBLEM.sample_prior(np.random.default_rng(2), 500, prior(mean))
        error = [((draw - x) ** 2).mean() for draw in (best[:, 0], chunk.x[:, 0], blind)]
        # Far better than not looking, within half as much again of the best there is (a short training).
        assert error[1] < 1.5 * error[0] < 0.5 * error[2]
        # The same observation, answered under each set.
        found[mean] = model.using(infer).sample(state, probe, np.arange(200)).x[..., 0].mean()
        exact[mean] = PROBLEM.exact_posterior(probe, prior(mean), 50, 64, np.random.default_rng(3))[0][..., 0].mean()
        assert model.cost.network_calls == 2 * 50 * 700
        assert model.diagnostics(state)["embedding_distance"] >= 0
    # Who does not look at the set finds no difference; a short training finds part of it.
    wanted = exact[1.5] - exact[-1.5]
    assert 0.25 * wanted < found[1.5] - found[-1.5] < 1.25 * wanted


def test_draws_are_addressed_and_training_repeats(artifact, tmp_path):
    reader = write(tmp_path / "test.h5", [0.5], 300, 3)
    infer = Infer(draws=3)
    y, ids = reader.read("y"), reader.read("event_id")
    model = model_of(artifact)
    state = model.using(infer).condition(reader)
    whole = [model.using(infer).sample(state, y[i : i + 100], ids[i : i + 100]).x for i in (0, 100, 200)]
    again = model_of(artifact)
    part = again.using(infer).sample(again.using(infer).condition(reader), y[200:], ids[200:]).x
    np.testing.assert_array_equal(part, whole[2])
    assert (part[:, 0] != part[:, 1]).all()
    spec = SPEC.model_copy(update={"train": TRAIN.model_copy(update={"steps": 5})})
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        data = write(tmp_path / name / "train.h5", [0.1, 0.5], 200, 0), write(tmp_path / name / "v.h5", [0.5], 200, 1)
        found.append(load_artifact(trained(tmp_path / name, *data, spec))[0])
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_arrays_are_refused():
    scaling = Scaling.fit(
        Field.array("x", ("depth", "offset"), (4, 4), "m/s"), PROBLEM.y, np.ones((2, 4, 4)), np.ones((2, 2))
    )
    with pytest.raises(ValueError, match=r"'hvae' models x that is a vector, found shape \(4, 4\); use ei-fm"):
        HvaeNet(SPEC, scaling)
