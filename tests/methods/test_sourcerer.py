"""Sourcerer: known sources recovered, and of sources that explain the data the one of most entropy."""

import math

import numpy as np
import pytest
import torch

from pullback.core.context import Context
from pullback.core.stopping import Stopped
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.acceptance import Missed
from pullback.ensembles.arrays import ArrayEnsemble
from pullback.ensembles.fields import Field
from pullback.ensembles.sets import TrainingData
from pullback.methods.amortised import acceptance
from pullback.methods.unfolding.sourcerer import SourceError, Sourcerer
from pullback.methods.unfolding.sourcerer_spec import SourcererInfer, SourcererSpec
from pullback.networks.settings import Mlp
from pullback.problems.linear_gaussian import LinearGaussian, LinearSimulator

torch.set_num_threads(1)

NETWORK = Mlp(width=16, depth=1)
FIT = SourcererInfer(network=NETWORK, steps=150, batch=256, slices=6, learning_rate=5e-3, samples=20_000)
LINE = LinearGaussian(LinearSimulator(mean=[0, 0], covariance=[[1, 0], [0, 1]], matrix=[[1, 0.5], [0, 1]], noise=0.5))
MEAN, COVARIANCE = np.array([0.6, -0.4]), np.array([[0.64, -0.3], [-0.3, 0.5]])


class Magnitude:
    """y = |x| + 0.2 eps, which does not tell x from -x; written in torch."""

    x = Field.vector("x", ["a"], "1")
    y = Field.vector("y", ["b"], "1")
    autograd = True
    noise_covariance = 0.04

    def apply(self, x):
        return abs(x), np.ones(len(x), bool)

    def observe(self, signal, x, rng):
        return signal + 0.2 * rng.standard_normal(signal.shape)


def events(problem, x, seed, **more):
    y = problem.observe(problem.apply(x)[0], x, np.random.default_rng(1000 + seed))
    return ArrayEnsemble(y, x, x_field=problem.x, y_field=problem.y, **more)


def normals(n, seed, mean=(0, 0), covariance=((1, 0), (0, 1))):
    return np.random.default_rng(seed).multivariate_normal(mean, covariance, n)


def trained(problem, seen, settings=FIT, spec=None, **context):
    spec = spec or SourcererSpec(kind="sourcerer")
    method = Sourcerer(spec, problem, Context(("study", "toy", "sourcerer", 0), accelerator="cpu", **context), settings)
    method.use(method.train(TrainingData([seen], [seen], 100), TrainPaths()))
    return method


def test_a_gaussian_source_is_recovered():
    """By the problem's own derivative, from seen truths N(0, I)."""
    method = trained(LINE, events(LINE, normals(5000, 0), 0))
    assert method.own_simulator
    observed = events(LINE, normals(4000, 1, MEAN, COVARIANCE), 1)
    state = method.condition(observed)
    found = method.unfold(state, observed)
    assert found.weight.shape == (20_000, 1)
    assert found.weight.sum() == pytest.approx(4000)
    # y = A x + 0.5 eps: the errors of A^-1 of observed mean and covariance; a batch of 256 shrinks by some per cent.
    inverse = np.linalg.inv(LINE.matrix)
    of_y = LINE.matrix @ COVARIANCE @ LINE.matrix.T + 0.25 * np.eye(2)
    error = np.sqrt(np.diag(inverse @ of_y @ inverse.T))
    assert (np.abs(found.x.mean(axis=0) - MEAN) < 4 * error / np.sqrt(4000) + 0.02).all()
    tolerance = 4 * np.outer(error, error) * np.sqrt(2 / 4000) + 0.05 * np.sqrt(np.outer(*[np.diag(COVARIANCE)] * 2))
    assert (np.abs(np.cov(found.x.T) - COVARIANCE) < tolerance).all()
    noticed = method.diagnostics(state)
    assert 0.5 < noticed["source_misfit"] < 2
    exact = 0.5 * np.log(np.linalg.det(2 * np.pi * np.e * COVARIANCE))
    assert noticed["source_entropy"] == pytest.approx(exact, abs=0.15)
    assert method.cost.simulator_calls >= 150 * 256
    assert method.cost.failed_simulations == 0


def test_of_sources_with_equal_push_forward_the_one_of_most_entropy_is_found():
    """The observations are |x| of N(0, 1.5^2), and seen truths lie mostly right of 0."""
    rng = np.random.default_rng(0)
    seen = events(Magnitude(), 1 + 1.5 * rng.standard_normal((5000, 1)), 0)
    observed = events(Magnitude(), 1.5 * rng.standard_normal((4000, 1)), 1)
    right, spread, information = [], [], []
    for weights in ((0.0, 0.0), (0.5, 1e-3)):
        method = trained(Magnitude(), seen, FIT.model_copy(update={"entropy": weights, "slices": 2, "steps": 100}))
        state = method.condition(observed)
        right.append((state["x"] > 0).mean())
        spread.append(np.abs(state["x"]).mean())
        information.append(state["diagnostics"]["source_entropy"])
    # Both explain the data: E |x| = 1.5 sqrt(2 / pi).
    np.testing.assert_allclose(spread, 1.5 * math.sqrt(2 / math.pi), rtol=0.04)
    # Without entropy the first source's share stays about as it was, Phi(1 / 1.5) = 0.75; with it x and -x are alike.
    assert right[0] > 0.7
    assert right[1] == pytest.approx(0.5, abs=0.08)
    assert information[1] > information[0] + 0.1


def test_a_stopped_fit_goes_on_bit_for_bit(tmp_path):
    observed = events(LINE, normals(400, 1, MEAN, COVARIANCE), 1)
    settings = FIT.model_copy(update={"steps": 12, "batch": 32, "samples": 50, "checkpoint_every": 3, "replicas": 1})
    seen = events(LINE, normals(500, 0), 0)
    whole = trained(LINE, seen, settings).condition(observed, tmp_path / "whole")
    calls = []

    def stop(next_s=0.0):
        calls.append(next_s)
        return "as the test wants" if len(calls) in (5, 14) else None

    for where in ("replica 0 at step 5 of 12", "replica 1 at step 3 of 12"):
        with pytest.raises(Stopped, match=where):
            trained(LINE, seen, settings, stop=stop).condition(observed, tmp_path / "parts")
    again = trained(LINE, seen, settings).condition(observed, tmp_path / "parts")
    np.testing.assert_array_equal(again["x"], whole["x"])
    assert again["diagnostics"] == whole["diagnostics"]
    # Each replica's truths weigh in its own column only, and are others.
    weight = whole["weight"]
    assert weight.shape == (100, 2)
    assert (weight[:50, 0] > 0).all()
    assert (weight[50:, 0] == 0).all()
    assert (weight[:50, 1] == 0).all()
    np.testing.assert_allclose(weight.sum(axis=0), 400)
    assert not np.array_equal(whole["x"][:50], whole["x"][50:])


def test_fakes_and_misses_are_corrected(monkeypatch):
    """A fifth of what was recorded are fakes at y = 6; truths are recorded with log-odds 0.5 + 1.5 x1."""
    rng = np.random.default_rng(0)

    def make(mean, n, seed):
        x = normals(n, seed, mean)
        kept = rng.random(n) < 1 / (1 + np.exp(-0.5 - 1.5 * x[:, 0]))
        y = LINE.observe(LINE.apply(x[kept])[0], x[kept], rng)
        fakes = round(0.25 * len(y))
        y = np.concatenate([y, 6 + 0.1 * rng.standard_normal((fakes, 2))])
        fake = np.arange(len(y)) >= len(y) - fakes
        misses = Missed(x[~kept].astype(np.float32), np.ones((~kept).sum()), np.zeros((~kept).sum(), np.int64))
        seen = np.concatenate([x[kept], np.zeros((fakes, 2))])
        return x, ArrayEnsemble(y, seen, x_field=LINE.x, y_field=LINE.y, fake=fake, missed=misses)

    monkeypatch.setattr(acceptance, "STEPS", 300)
    method = trained(LINE, make((0, 0), 6000, 0)[1], FIT.model_copy(update={"steps": 250}))
    assert method.fake_share == pytest.approx(0.2, abs=1e-3)
    truth, observed = make((0.5, 0.0), 6000, 1)
    found = method.unfold(method.condition(observed), observed)
    weight = found.weight[:, 0]
    # 6000 truths: 2 % of their number; a short fit of the tail that is seldom recorded leaves a few per cent.
    assert weight.sum() == pytest.approx(6000, rel=0.06)
    assert np.average(found.x[:, 0], weights=weight) == pytest.approx(truth[:, 0].mean(), abs=0.08)
    assert found.x[:, 0].mean() > truth[:, 0].mean() + 0.1


def test_what_has_no_source_is_refused():
    image = Field.array("x", ("row", "column"), (4, 4), "1")
    with pytest.raises(SourceError, match=r"x is an array \(4, 4\): 'sourcerer' compares distributions of vectors"):
        SourcererSpec(kind="sourcerer").check_fields(image, LINE.y)
    seen = events(LINE, normals(500, 0), 0)
    with pytest.raises(SourceError, match=r"the sum of the event weights is -500, wanted a positive one"):
        trained(LINE, seen).condition(events(LINE, normals(500, 1), 1, weight=-np.ones(500)))
    with pytest.raises(ValueError, match="entropy needs 0 <= last <= first < 1"):
        SourcererInfer(entropy=(0.1, 0.2))
