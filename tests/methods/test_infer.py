"""The inference driver, and one stand-in for each shape of method that is still to come."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from pullback.core.context import Context
from pullback.core.seeding import event_normals, generator
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.ensembles.unfolded import Unfolded
from pullback.methods import base
from pullback.methods.base import Method, PosteriorSamples
from pullback.methods.classical import random_truth
from pullback.methods.classical.oracle import OracleSpec
from pullback.methods.classical.random_truth import RandomTruthSpec
from pullback.methods.infer import answer, blocks, infer
from pullback.methods.loading import Inputs
from pullback.methods.states import conditioning_sets
from pullback.problems.base import simulate
from pullback.problems.gaussian import Gaussian, GaussianSimulator
from pullback.study.kinds import Infer

PROBLEM = Gaussian(GaussianSimulator())
CONTEXT = Context((1, "toy", "double", 0))


def write(path: Path, n: int = 2500, gamma: float = 0.5, truth: bool = True) -> Path:
    rng = np.random.default_rng(3)
    x = PROBLEM.sample_prior(rng, n, {"gamma": gamma})
    y, _ = simulate(PROBLEM, x, rng)
    with EnsembleWriter(path, x=PROBLEM.x if truth else None, y=PROBLEM.y, spec="{}") as writer:
        writer.append(y, np.arange(n), x=x if truth else None)
    return path


@pytest.mark.parametrize("set_size", ["all", 700, 64])
@pytest.mark.parametrize("events", [2500, 1300])
def test_pieces_cover_every_event_once_and_hold_its_set(set_size, events):
    found = list(blocks(events, 2500, set_size, 256))
    assert [i for block in found for i in range(block.first, block.last)] == list(range(events))
    for block in found:
        assert block.set_first <= block.first < block.last <= block.set_last <= 2500
        assert block.last - block.first <= 256
        if set_size == "all":
            assert (block.set_first, block.set_last) == (0, 2500)


@pytest.mark.parametrize(
    ("observed", "set_size", "sizes"),
    [(537, 512, [269, 268]), (1024, 512, [512, 512]), (513, 512, [257, 256]), (3, 512, [3]), (7, 3, [3, 2, 2])],
)
def test_sets_are_even(observed, set_size, sizes):
    found = list(conditioning_sets(observed, observed, set_size))
    assert [last - first for first, last in found] == sizes
    assert [first for first, _ in found] == [sum(sizes[:i]) for i in range(len(sizes))]
    # Of the first events only: the sets that hold one of them.
    assert list(conditioning_sets(1, observed, set_size)) == found[:1]


def job(method: dict, part: int = 0, parts: int = 1, **more) -> str:
    settings = {"draws": 4, "max_events": None, "set_size": "all"} | more.pop("infer", {})
    return json.dumps(
        {
            "address": [1, "toy", "m", 0],
            "problem": {"kind": "gaussian", "simulator": {"noise": 0.5}},
            "threads": 1,
            "accelerator": "cpu",
            "method": method,
            "infer_name": "default",
            "infer": settings,
            "family": "half",
            "part": part,
            "parts": parts,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ({"kind": "oracle"}, {"params": {"gamma": 0.5}, "infer": {"pool": 32}}),
        ({"kind": "random-truth"}, {}),
    ],
)
def test_draws_do_not_depend_on_the_number_of_parts(tmp_path, method, more):
    family = write(tmp_path / "family.h5")
    drawn = []
    for parts in (1, 3):
        rows = []
        for part in range(parts):
            out = tmp_path / f"{parts}-{part}.h5"
            infer(job(method, part, parts, **json.loads(json.dumps(more))), Inputs(family, seen=[family]), out)
            rows.append(PosteriorReader(out).read("x"))
        drawn.append(np.concatenate(rows))
    np.testing.assert_array_equal(*drawn)
    assert drawn[0].shape == (2500, 4, 2)


def test_the_oracle_is_calibrated(tmp_path):
    """Ranks of the truth among exact posterior draws are uniform (simulation-based calibration)."""
    family = write(tmp_path / "family.h5")
    infer(
        job({"kind": "oracle"}, params={"gamma": 0.5}, infer={"draws": 9, "pool": 64}),
        Inputs(family),
        tmp_path / "p.h5",
    )
    x, draws = EnsembleReader(family).read("x"), PosteriorReader(tmp_path / "p.h5").read("x")
    ranks = (draws < x[:, None]).sum(axis=1)
    for feature in range(2):
        counts = np.bincount(ranks[:, feature], minlength=10)
        chi2 = ((counts - 250) ** 2 / 250).sum()
        assert chi2 < 27.9  # 99.9 % point of chi2 with 9 degrees of freedom


def test_max_events_takes_the_first_and_keeps_the_whole_set(tmp_path):
    family = write(tmp_path / "family.h5")
    infer(job({"kind": "random-truth"}, infer={"max_events": 7}), Inputs(family, seen=[family]), tmp_path / "p.h5")
    posterior = PosteriorReader(tmp_path / "p.h5")
    np.testing.assert_array_equal(posterior.read("event_id"), np.arange(7))
    assert posterior.attributes["observations"] == 2500
    assert posterior.cost["events"] == 7


# Shapes of methods to come


class OmniFoldLike(Method[np.ndarray]):
    """Own loop for each data set in `condition`; a weighted sample of simulated truth as its result."""

    def load(self, artifact, prior, seen):
        with EnsembleReader(seen[0]) as reader:
            self.x, self.y = reader.read("x"), reader.read("y")

    def condition(self, ensemble, workdir=None):
        # One iteration of binned reweighting of the simulation to the data stands for the classifier.
        edges = np.quantile(self.y[:, 0], np.linspace(0, 1, 21)[1:-1])
        data = np.bincount(np.searchsorted(edges, ensemble.read("y")[:, 0]), minlength=20) / ensemble.n
        simulated = np.bincount(np.searchsorted(edges, self.y[:, 0]), minlength=20) / len(self.y)
        return (data / simulated)[np.searchsorted(edges, self.y[:, 0])]

    def unfold(self, state, ensemble):
        rng = generator(*self.context.address, "bootstrap")
        replicas = [state, *(state * rng.poisson(1, len(state)) for _ in range(3))]
        return Unfolded(self.x, np.stack(replicas, axis=1))


def test_a_reweighting_method_with_its_own_loop_gives_an_unfolded_sample(tmp_path):
    simulation, data = write(tmp_path / "mc.h5", gamma=0.0), write(tmp_path / "data.h5", gamma=0.9, truth=False)
    method = OmniFoldLike(RandomTruthSpec(kind="random-truth"), PROBLEM, CONTEXT)
    method.load(None, None, [simulation])
    with EnsembleReader(data) as ensemble:
        result = method.unfold(method.condition(ensemble), ensemble)
        wanted = ensemble.read("y")[:, 0].var()
    assert result.weight.shape == (2500, 4)
    reweighted = np.average(method.y[:, 0] ** 2, weights=result.weight[:, 0])
    assert abs(reweighted - wanted) < 0.3 * abs(method.y[:, 0].var() - wanted)


class NpeLike(Method[None]):
    """Brings its own training and its own artifact: here a linear regression with Gaussian residuals."""

    def train(self, data, job):
        x, y = data
        coefficients, *_ = np.linalg.lstsq(np.c_[y, np.ones(len(y))], x, rcond=None)
        np.savez(job.artifact, coefficients=coefficients, spread=(x - np.c_[y, np.ones(len(y))] @ coefficients).std(0))

    def load(self, artifact, prior, seen):
        self.model = np.load(artifact)

    def sample(self, state, y, event_id):
        mean = np.c_[y, np.ones(len(y))] @ self.model["coefficients"]
        z = event_normals((*self.context.address, "draw"), event_id, (self.settings.draws, 2))
        shape = (len(y), self.settings.draws)
        return PosteriorSamples(mean[:, None] + self.model["spread"] * z, np.zeros(shape), np.ones(shape, bool))


def test_a_method_with_its_own_training(tmp_path):
    family = write(tmp_path / "family.h5")
    method = NpeLike(RandomTruthSpec(kind="random-truth"), PROBLEM, CONTEXT)
    with EnsembleReader(family) as reader:
        pairs = reader.read("x"), reader.read("y")
        method.train(pairs, TrainPaths(tmp_path / "m.npz", tmp_path / "c.csv", tmp_path / "ckpt"))
        method.load(tmp_path / "m.npz", None, [])
        answer(method.using(Infer(draws=3)), reader, tmp_path / "p.h5", "{}")
    draws = PosteriorReader(tmp_path / "p.h5").read("x")
    assert ((draws[:, 0] - pairs[0]) ** 2).mean() < ((pairs[0] - pairs[0][::-1]) ** 2).mean()


class AfdpsLike(Method[None]):
    """Weighted particles from a prior's artifact and the likelihood; some particles may die."""

    def load(self, artifact, prior, seen):
        self.particles = np.load(prior)["x"]

    def sample(self, state, y, event_id):
        x = np.broadcast_to(self.particles[: self.settings.draws], (len(y), self.settings.draws, 2))
        log_weight = self.problem.log_likelihood(y[:, None], x)
        self.cost.simulator_calls += log_weight.size
        ok = log_weight > -500
        return PosteriorSamples(x, log_weight, ok)


def test_a_weighted_method_with_a_prior_and_dead_particles(tmp_path):
    family = write(tmp_path / "family.h5", n=50)
    np.savez(tmp_path / "prior.npz", x=PROBLEM.sample_prior(np.random.default_rng(0), 400, {"gamma": 0.5}))
    method = AfdpsLike(RandomTruthSpec(kind="random-truth"), PROBLEM, CONTEXT)
    method.load(None, tmp_path / "prior.npz", [])
    with EnsembleReader(family) as reader:
        answer(method.using(Infer(draws=400)), reader, tmp_path / "p.h5", "{}")
        truth = reader.read("x")
    posterior = PosteriorReader(tmp_path / "p.h5")
    ok, x = posterior.read("ok"), posterior.read("x")
    assert 0 < ok.mean() < 1
    assert np.isnan(x[~ok]).all()
    weight = np.exp(posterior.read("log_weight")) * ok
    mean = (np.nan_to_num(x) * weight[..., None]).sum(1) / weight.sum(1)[:, None]
    assert ((mean - truth) ** 2).mean() < 0.5 * truth.var()
    assert posterior.cost["simulator_calls"] == 50 * 400
    assert posterior.draw_weights(None).sum() == pytest.approx(50)
    few = posterior.draw_weights(np.arange(10, 20), 10, 20, draws=100)
    own = weight[10:20, :100]
    np.testing.assert_allclose(few, np.arange(10, 20)[:, None] * own / own.sum(axis=1, keepdims=True))


class State(NamedTuple):
    mean: np.ndarray


class TruthFree(Method[State]):
    """Anything that answers field data: it is shown observations and never asks for truth."""

    block = 16

    def condition(self, ensemble, workdir=None):
        assert ensemble.x is None
        return State(ensemble.read("y").mean(0))

    def sample(self, state, y, event_id):
        x = np.repeat((y - state.mean)[:, None], self.settings.draws, axis=1)
        x[0, 0, 0] = np.inf
        return PosteriorSamples(x, np.zeros(x.shape[:2]), np.ones(x.shape[:2], bool))

    def diagnostics(self, state):
        return {"mean": float(state.mean[0])}


def test_field_data_without_truth_and_a_draw_that_is_not_finite(tmp_path):
    family = write(tmp_path / "family.h5", n=40, truth=False)
    method = TruthFree(OracleSpec(kind="oracle"), PROBLEM, CONTEXT)
    with EnsembleReader(family) as reader:
        answer(method.using(Infer(draws=2, set_size=25)), reader, tmp_path / "p.h5", "{}")
    posterior = PosteriorReader(tmp_path / "p.h5")
    # Pieces: 16 + 4 of each of two sets of 20: four first draws are infinite, marked and kept.
    assert (~posterior.read("ok")).sum() == 4
    assert posterior.n == 40
    assert list(posterior.diagnostics) == ["mean"]


def test_blocks_of_large_events_have_fewer(tmp_path, monkeypatch):
    """An event of 2 + 3 x 2 numbers: at most 20 of them in 160."""
    method = random_truth.RandomTruth(None, PROBLEM, CONTEXT)
    assert method.events_at_once(3) == method.block == 1024
    monkeypatch.setattr(base, "BLOCK_VALUES", 160)
    assert method.events_at_once(3) == 20
    assert method.events_at_once(1000) == 1
    with EnsembleReader(write(tmp_path / "family.h5", n=50)) as reader:
        method.load(None, None, [reader.path])
        sizes = []
        method = method.using(Infer(draws=3))
        sample = method.sample
        monkeypatch.setattr(method, "sample", lambda state, y, ids: (sizes.append(len(y)), sample(state, y, ids))[1])
        answer(method, reader, tmp_path / "p.h5", "{}")
    assert sizes == [20, 20, 10]


def test_random_truths_are_bounded_by_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(random_truth, "POOL_VALUES", 2 * 300)
    method = random_truth.RandomTruth(None, PROBLEM, CONTEXT)
    method.load(None, None, [write(tmp_path / "family.h5")])
    # Windows are rounded up to whole rows, one of each of at most `WINDOWS`.
    assert 300 <= len(method.truths[0]) < 600


def random_truth_of(path, x, weight):
    columns = {"weight": "<f8"}
    with EnsembleWriter(path, x=PROBLEM.x, y=PROBLEM.y, spec="{}", columns=columns) as writer:
        writer.append(np.zeros((len(x), 2), np.float32), np.arange(len(x)), x=x, weight=weight)
    method = random_truth.RandomTruth(None, PROBLEM, CONTEXT)
    method.load(None, None, [path])
    return method


def test_random_truths_are_drawn_by_weight(tmp_path):
    """Weights 1, 3 and -2: the third counts as 0, so the second is three quarters of the draws."""
    x = np.repeat([[0.0], [1.0], [2.0]], 2, axis=1)
    method = random_truth_of(tmp_path / "w.h5", x, np.array([1.0, 3.0, -2.0]))
    drawn = method.using(Infer(draws=100)).sample(None, np.zeros((50, 2)), np.arange(50)).x[..., 0]
    assert not (drawn == 2).any()
    # Four standard errors of 5000 draws.
    assert (drawn == 1).mean() == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 5000))


def test_truths_without_a_positive_weight_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none of 2 event weights is positive.* leave the family or the method out"):
        random_truth_of(tmp_path / "w.h5", np.zeros((2, 2)), np.array([0.0, -1.0]))


def test_random_truths_are_of_all_priors_of_a_sweep(tmp_path):
    n = random_truth.POOL + 5000
    x = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    with EnsembleWriter(tmp_path / "s.h5", x=PROBLEM.x, y=PROBLEM.y, spec="{}") as writer:
        writer.append(np.zeros((n, 2), np.float32), np.arange(n), x=x)
    method = random_truth.RandomTruth(None, PROBLEM, Context((0, "toy", "random", 0)))
    method.load(None, None, [tmp_path / "s.h5"])
    (truths,) = method.truths
    assert abs(len(truths) - random_truth.POOL) < 1000
    parts = np.histogram(truths[:, 0] / (2 * n), bins=10, range=(0, 1))[0]
    assert parts.min() > 0.9 * random_truth.POOL / 10
