"""The bridge from y to x: its marginals and ends in closed form, and a posterior that it learns."""

import numpy as np
import pytest
import torch

from pullback.core.context import Context
from pullback.diffusion.settings import Train
from pullback.diffusion.share import Noise, Share
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.arrays import ArrayEnsemble
from pullback.ensembles.fields import Field
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import TrainingData
from pullback.methods.amortised.model import ModelError
from pullback.methods.unfolding.sbunfold import (
    DIFFERENCE,
    NOISE,
    BridgePath,
    BridgeSchedule,
    SbUnfold,
    StartError,
    bridge,
    start_columns,
)
from pullback.methods.unfolding.sbunfold_spec import BridgeInfer, SbUnfoldSpec
from pullback.networks.settings import Mlp
from pullback.readers.jets import X_FIELD, Y_FIELD

torch.set_num_threads(1)

X = Field.vector("x", ["a", "b"], "1")
Y = Field.vector("y", ["a"], "1")
COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])
MEAN = np.array([10.0, -3.0])
SIGMA = 0.6
"""y = a + SIGMA eps."""
GAIN = COVARIANCE[:, 0] / (COVARIANCE[0, 0] + SIGMA**2)
POSTERIOR = COVARIANCE - np.outer(GAIN, COVARIANCE[0])

TRAIN = Train(steps=500, sets_per_step=8, set_size=(128, 128), learning_rate=6e-3, ema=0.98, validate_every=250)
SPEC = SbUnfoldSpec(kind="sbunfold", network=Mlp(width=32, depth=2), train=TRAIN)


def events(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.multivariate_normal(MEAN, COVARIANCE, n)
    y = x[:, :1] + SIGMA * rng.standard_normal((n, 1))
    return ArrayEnsemble(y, x, x_field=X, y_field=Y)


def model_of(spec=SPEC, artifact=None):
    model = SbUnfold(spec, None, Context(("study", "toy", "sbunfold", 0), threads=1, accelerator="cpu"))
    if artifact is not None:
        model.load(artifact, None, [])
    return model


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sbunfold")
    job = TrainPaths(folder / "model.pt", folder / "curves.csv", folder / "checkpoints")
    model_of().train(TrainingData([events(20_000, 0)], [events(1000, 1)], 100), job)
    return job.artifact


def test_variance_of_the_schedule_is_the_integral_of_beta():
    schedule, t = BridgeSchedule((0.1, 0.3), 1000), np.linspace(0, 1, 1001)
    rate = (np.sqrt(0.1) + (np.sqrt(0.3) - np.sqrt(0.1)) * (1 - np.abs(2 * t - 1))) ** 2
    integral = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 / 1000)])
    np.testing.assert_allclose(schedule.variance, integral, atol=1e-6)
    assert schedule.total == pytest.approx((0.1 + 0.3 + np.sqrt(0.1 * 0.3)) / 3, rel=1e-5)
    # Symmetric: what is still to come at 1 - t has come by t.
    np.testing.assert_allclose(schedule.variance, schedule.total - schedule.variance[::-1], atol=1e-12)
    assert schedule.times(3) == [1.0, 0.667, 0.333, 0.0]
    assert schedule.times(5000) == schedule.times(1000)


def test_points_of_the_path_have_the_marginals_of_brownian_motion_between_its_ends():
    """Simulated: Brownian motion from x_0, conditioned on its end by subtraction of the line to where it ended."""
    scaling = Scaling.fit(X, Y, events(1000, 0).read("x"), events(1000, 0).read("y"))
    path = bridge(SPEC.model_copy(update={"bridge_steps": 40, "beta": (0.5, 3.0)}), scaling)
    x, start, n = torch.tensor([0.3, -1.0]), torch.tensor([1.5, 0.4]), 20_000
    rng = np.random.default_rng(1)
    walk = np.cumsum(rng.standard_normal((n, 40)) * np.sqrt(np.diff(path.schedule.variance)), axis=1)
    share = path.schedule.variance[1:] / path.schedule.total
    pinned = 0.3 + walk + share * (1.5 - (0.3 + walk[:, -1:]))
    normal = torch.randn((n, 2), generator=torch.Generator().manual_seed(0))
    for step in (1, 7, 20, 33, 40):
        t = torch.full((n,), step / 40)
        found = path.between(x.expand(n, 2), start.expand(n, 2), t, normal)[:, 0].double().numpy()
        walked = pinned[:, step - 1]
        spread = max(walked.std(), 1e-9)
        # Two independent samples: errors of means and, of variances, sqrt(2 / n).
        assert found.mean() == pytest.approx(walked.mean(), abs=5 * spread * np.sqrt(2 / n) + 1e-6)
        assert found.var() == pytest.approx(walked.var(), rel=5 * np.sqrt(4 / n), abs=1e-9)


def test_targets_are_those_that_the_sampler_inverts():
    scaling = Scaling.fit(X, Y, events(1000, 0).read("x"), events(1000, 0).read("y"))
    path = bridge(SPEC, scaling)
    x = torch.randn((4, 100, 2), generator=torch.Generator().manual_seed(0))
    y = torch.randn((4, 100, 1), generator=torch.Generator().manual_seed(1))
    x_t, t, target = path.point(x, y, Noise(0, Share(4)))
    torch.testing.assert_close(x_t - path.schedule(t[..., None])[1] * target, x, atol=1e-5, rtol=0)
    # Near the start x_t is the observation in the quantity that y has, and noise in the other.
    late = t > 0.995
    assert (x_t[..., 0] - y[..., 0])[late].abs().max() < 0.2
    one = x[:1, 0]

    def perfect(z, t):
        return (z - one) / path.schedule(t)[1]

    normals = torch.Generator().manual_seed(2)
    for steps in (1, 7, 2000):
        infer = BridgeInfer(steps=steps)
        found = path.sample(perfect, torch.randn(6, 2), y[0, :3], infer, lambda i: torch.randn(6, 2, generator=normals))
        torch.testing.assert_close(found, one.expand(6, 2), atol=1e-5, rtol=0)


def test_almost_without_noise_the_bridge_is_the_line_between_its_ends():
    scaling = Scaling.fit(X, Y, events(1000, 0).read("x"), events(1000, 0).read("y"))
    path = bridge(SPEC.model_copy(update={"beta": (1e-12, 1e-12)}), scaling)
    x = torch.randn((2, 50, 2), generator=torch.Generator().manual_seed(0))
    y = torch.randn((2, 50, 1), generator=torch.Generator().manual_seed(1))
    start, t = path.start(y, x + 1), torch.full((2, 50), 0.25)
    torch.testing.assert_close(start, torch.stack([y[..., 0], x[..., 1] + 1], -1))
    line = 0.75 * x + 0.25 * start
    torch.testing.assert_close(path.between(x, start, t, torch.randn(2, 50, 2)), line, atol=1e-5, rtol=0)
    slow = [x[0, :1] * 0.5, torch.zeros(1, 2)]

    def draw(seed):
        normals = torch.Generator().manual_seed(seed)

        def network(z, t):
            return (z - (slow[0] + 0.5 * z)) / path.schedule(t)[1]

        return path.sample(network, x[0], y[0], BridgeInfer(steps=20), lambda i: torch.randn(50, 2, generator=normals))

    torch.testing.assert_close(draw(0), draw(1), atol=1e-5, rtol=0)


def test_with_the_exact_network_draws_are_the_posterior():
    """Truth N(0, 1) given y, start at 0.5: E[x_0 | x_t] is linear, and 1000 steps lose 0.4 % of the variance."""
    path, n = BridgePath(BridgeSchedule((0.1, 0.3), 1000), [0], [0.0]), 20_000

    def network(x, t):
        passed = path.schedule(t)[1] ** 2
        left = 1 - passed / path.schedule.total
        mean = left * (x - (1 - left) * 0.5) / (left**2 + passed * left).clamp_min(1e-12)
        return (x - torch.where(left > 1e-6, mean, 0.0)) / passed.sqrt()

    normals = torch.Generator().manual_seed(0)
    start, y = torch.zeros(n, 1), torch.full((1, 1), 0.5)
    found = {}
    for steps in (100, 1000):
        infer = BridgeInfer(steps=steps)
        found[steps] = path.sample(network, start, y, infer, lambda i: torch.randn(n, 1, generator=normals))
    error = 4 / np.sqrt(n)
    assert float(found[1000].mean()) == pytest.approx(0.0, abs=error)
    assert float(found[1000].var()) == pytest.approx(0.996, abs=error * np.sqrt(2))
    # First order: ten times fewer steps lose ten times as much.
    assert float(found[100].var()) == pytest.approx(0.96, abs=0.01 + error * np.sqrt(2))


def test_a_linear_gaussian_posterior_is_learnt(artifact):
    """Under the training prior: mean MEAN + GAIN (y - 10), covariance POSTERIOR."""
    events_, draws = 200, 50
    test = events(events_, 2)
    y = test.read("y")
    model = model_of(artifact=artifact).using(BridgeInfer(draws=draws, steps=200))
    found = model.sample(model.condition(test), y, test.read("event_id")).x.astype(np.float64)
    assert found.shape == (events_, draws, 2)
    assert model.cost.network_calls == events_ * draws * 200
    spread = np.sqrt(np.diag(POSTERIOR))
    error = found.mean(axis=1) - (MEAN + (y - 10) * GAIN)
    # The error of a mean of the draws, and a tenth of the posterior's width that a short training leaves.
    assert (np.sqrt(np.mean(error**2, axis=0)) < spread * np.hypot(1 / np.sqrt(draws), 0.1)).all()
    assert (np.abs(error.mean(axis=0)) < 0.1 * spread).all()
    within = found - found.mean(axis=1, keepdims=True)
    covariance = np.einsum("edi,edj->ij", within, within) / (events_ * (draws - 1))
    # 4 sqrt(2 / 10 000) = 6 % of the variances is of the draws, 2 % of 200 steps, the rest of the training.
    assert (np.abs(covariance - POSTERIOR) < 0.12 * spread[:, None] * spread).all()


def test_draws_are_addressed_and_a_loaded_model_is_the_trained_one(artifact):
    infer, test = BridgeInfer(draws=3, steps=5), events(60, 3)
    y, ids = test.read("y"), test.read("event_id")
    found = []
    for some in (slice(0, 60), slice(20, 60)):
        model = model_of(artifact=artifact).using(infer)
        found.append(model.sample(model.condition(test), y[some], ids[some]).x)
    np.testing.assert_allclose(found[0][20:], found[1], atol=1e-5)
    assert (found[0][:, 0] != found[0][:, 1]).all()
    with pytest.raises(ModelError, match="train it again"):
        model_of(SPEC.model_copy(update={"beta": (0.1, 0.1)}), artifact)


def test_what_starts_where():
    """Columns of y: pt, eta, sin phi, cos phi."""
    assert start_columns(X_FIELD, Y_FIELD, None) == [0, DIFFERENCE, DIFFERENCE, NOISE]
    assert start_columns(X, Y, {"b": "a"}) == [NOISE, 0]
    image = Field.array("x", ("row", "column"), (4, 4), "1")
    assert start_columns(image, Field.array("y", ("row", "column"), (4, 4), "1"), None) is None
    rng = np.random.default_rng(0)
    jets = np.stack([rng.uniform(30, 90, 500), rng.normal(0, 1, 500), rng.uniform(-3, 3, 500), np.ones(500)], 1)
    scaling = Scaling.fit(X_FIELD, Y_FIELD, jets, jets[:, :3] * [0.6, 1, 1])
    path = bridge(SPEC, scaling)
    y = torch.from_numpy(scaling.encode_y(jets[:, :3] * [0.6, 1, 1]))
    start = path.start(y, torch.full((500, 4), 0.7)).numpy()
    # A gain of 0.6 is taken out; the angle starts at y's own.
    np.testing.assert_allclose(scaling.decode_x(start, jets[:, :3])[:, :3], jets[:, :3], rtol=1e-4, atol=1e-4)
    assert (start[:, 3] == np.float32(0.7)).all()


@pytest.mark.parametrize(
    ("x", "y", "start", "message"),
    [
        (X, Field.vector("y", ["c"], "1"), None, r"no quantity of x \(a, b\) has its name in y \(c\).*start: \{a: "),
        (X, Y, {"a": "c"}, r"start: found 'a: c', wanted quantities of x \(a, b\) and of y \(a\)"),
        (Field.array("x", ("row",), (4,), "1"), Y, None, r"x is an array \(4,\), and y is a vector \(1,\); use cfm"),
    ],
)
def test_what_has_no_start_is_refused(x, y, start, message):
    with pytest.raises(StartError, match=message):
        start_columns(x, y, start)


def test_rates_are_checked():
    with pytest.raises(ValueError, match="beta needs 0 < ends <= middle"):
        SbUnfoldSpec(kind="sbunfold", beta=(0.3, 0.1))
