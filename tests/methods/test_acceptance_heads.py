"""Purity and efficiency of an amortised model against their closed forms, and what evaluation says of them."""

import json

import h5py
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from pullback import EIFM, open_ensemble
from pullback.ensembles.acceptance import FAKE, Missed
from pullback.ensembles.fields import Field
from pullback.ensembles.posterior_store import PosteriorReader, PosteriorWriter, index_posterior
from pullback.ensembles.store import EnsembleWriter
from pullback.methods.amortised.acceptance import Efficiency
from pullback.metrics.acceptance import judge
from pullback.metrics.case import Case

X = Field.vector("x", ("a",), "GeV")
Y = Field.vector("y", ("b",), "GeV")
NOISE, FAKES, FAKE_WIDTH = 0.6, 0.4, 3.0
SEEN = (-1.2, -0.8, -0.4, 0.0, 0.4, 0.8, 1.2)
UNSEEN = 0.6


def efficiency(x):
    """P(recorded | x)."""
    return expit(x - 9.0)


def purity(y, mean):
    """P(real | y): x ~ N(10 + mean, 1) recorded with its efficiency, beside FAKES fakes for each truth."""
    x = np.linspace(2, 18, 4001)
    recorded = (norm.pdf(x, 10 + mean) * efficiency(x))[None] * norm.pdf(y[:, None], x, NOISE)
    real = recorded.sum(axis=1) * (x[1] - x[0])
    return real / (real + FAKES * norm.pdf(y, 10, FAKE_WIDTH))


def write(path, mean, truths, seed):
    """Ensemble of a family; two truths or fakes are a group."""
    rng = np.random.default_rng(seed)
    x = 10 + mean + rng.standard_normal(truths)
    recorded = rng.random(truths) < efficiency(x)
    y = (x + NOISE * rng.standard_normal(truths))[recorded]
    fakes = 10 + FAKE_WIDTH * rng.standard_normal(rng.poisson(FAKES * truths))
    group = np.arange(truths) // 2
    fake = np.repeat([False, True], [len(y), len(fakes)])
    order = rng.permutation(len(fake))
    y = np.concatenate([y, fakes])
    values = np.concatenate([x[recorded], np.full(len(fakes), np.nan)])
    groups = np.concatenate([group[recorded], truths + np.arange(len(fakes))])
    with EnsembleWriter(path, x=X, y=Y, spec="{}", columns={FAKE: "int8"}) as writer:
        writer.append(y[order, None], np.arange(len(y)), x=values[order, None], group=groups[order], fake=fake[order])
        missed = x[~recorded]
        writer.append_missed(Missed(missed[:, None], np.ones(len(missed)), group[~recorded]))
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("acceptance")
    train, held = (
        [write(folder / f"{split}{i}.h5", mean, n, i + 10 * n) for i, mean in enumerate(SEEN)]
        for split, n in (("train", 4000), ("validation", 800))
    )
    model = EIFM(
        k=4,
        network={"kind": "mlp", "width": 32, "depth": 2},
        set_encoder={"kind": "set-transformer", "hidden": 16, "heads": 2, "inducing": 8, "layers": 1},
        train={"steps": 400, "sets_per_step": 8, "set_size": [256, 512], "loss_members": 64, "learning_rate": 3e-3},
    )
    model.fit(train, held, progress=False)
    return model, folder


def test_purity_and_efficiency_are_those_of_an_unseen_prior(fitted):
    model, folder = fitted
    with open_ensemble(write(folder / "test.h5", UNSEEN, 6000, 99)).reader as test:
        y, fake = test.read("y"), test.fake()
        found = model.posterior(y, draws=8, set_size=512)
    wanted = purity(y[:, 0].astype(float), UNSEEN)
    # The mean of the true purities is the true share of real ones within its binomial error.
    assert abs(wanted.mean() - (~fake).mean()) < 4 * 0.5 / np.sqrt(len(y))
    # 0.03: the network's error; under the wrong prior (the mean of the seen ones) it is more than that.
    assert np.abs(found.purity - wanted).mean() < 0.03
    assert np.abs(purity(y[:, 0].astype(float), -UNSEEN) - wanted).mean() > 0.05
    assert np.abs(found.efficiency - efficiency(found.x[..., 0].astype(float)))[~fake].mean() < 0.02


def test_evaluation_counts_the_truths_before_the_detector(fitted):
    model, folder = fitted
    path, reference = (write(folder / f"{name}.h5", UNSEEN, 6000, seed) for name, seed in (("t", 7), ("r", 8)))
    ensemble = open_ensemble(path).reader
    found = model.posterior(ensemble.read("y"), draws=8, set_size=512)
    with PosteriorWriter(
        folder / "part.h5",
        x=X,
        draws=8,
        ensemble=ensemble,
        ensemble_name="t",
        spec="{}",
        acceptance=("purity", "efficiency"),
    ) as writer:
        writer.append(found, ensemble.read("event_id"))
        writer.finish({}, {})
    index_posterior(json.dumps({}), [folder / "part.h5"], folder / "all.h5")
    evaluation = {
        "swd_events": 10_000,
        "bootstrap": 50,
        "directions": 20,
        "direction_seeds": 1,
        "metrics": [],
        "bins": {},
        "exact_events": 0,
        "c2st_events": 0,
        "exact_families": None,
    }
    entry = {"role": "unseen", "title": "", "shift": "none", "base": "f"}
    job = {"families": {"f": entry}, "evaluation": evaluation, "seed": 1, "problem_name": "p"}
    case = Case("f", job, path, reference, None)
    with PosteriorReader(folder / "all.h5") as posterior, h5py.File(folder / "examples.h5", "w") as file:
        rows = {row.metric: row for row in judge(case, posterior, ("t",), file)}
        assert case.pairs_of(posterior).n == case.reader.n < case.recorded.n
    for name in ("purity_ratio", "efficiency_ratio", "truths_ratio"):
        row = rows[name]
        # 0.04: the network's error beside the bootstrap interval.
        assert row.low - 0.04 < 1 < row.high + 0.04, row
        assert 0 < row.high - row.low < 0.1
    share = case.recorded.fake().mean()
    assert abs(rows["fake_fraction"].value - share) < 0.02
    with h5py.File(folder / "examples.h5") as file:
        assert file["a"].attrs["truths"] == "all"
        ratio = file["a/unfolded"][()].sum() / file["a/truth"][()].sum()
        assert ratio == pytest.approx(1, abs=0.02)
        assert file["correlation"].shape == (10, 10)
    # Without the correction means differ by 0.17 of a standard deviation, and 6000 * 0.17^2 / 9 is 19; the network's
    # error of 3 % moves shares of 10 % by 0.003, which is about their statistics sqrt(0.09 / 6000): twice 1 and more.
    assert rows["chi2_unfolded.a"].value < 19 / 3
    assert rows["chi2_counts_dof_unfolded.a"].value == 10
    distance = rows["w1_unfolded.a"]
    # Without the correction the distribution of the pairs lies 0.17 higher than that of all truths.
    assert distance.value < 0.05
    assert distance.floor is not None
    assert case.distances(case.reader.n).truth.mean() - case.truths(case.reader.n).x.mean() > 0.1
    case.recorded.close()


def test_beyond_the_truths_that_it_was_fitted_to_the_efficiency_is_that_at_the_edge(fitted):
    """Draws leak over the cut on the truth; extrapolated, few of them would stand for most truths."""
    found = Efficiency.unpack(fitted[0].artifact.meta["efficiency"])
    inside = found.of(np.array([[found.low[0]], [10.0], [found.high[0]]]))
    np.testing.assert_array_equal(found.of(np.array([[-50.0], [10.0], [70.0]])), inside)
    assert found.low[0] < 7.5 < 12.5 < found.high[0]
    assert np.isnan(found.of(np.array([[np.nan]]))).all()


def test_a_family_whose_misses_are_none_is_evaluated(tmp_path):
    none = Missed(np.empty((0, 1), np.float32), np.empty(0), np.empty(0, np.int64))
    y = np.random.default_rng(0).standard_normal((50, 1))
    with EnsembleWriter(tmp_path / "t.h5", x=X, y=Y, spec="{}", columns={FAKE: "int8"}) as writer:
        writer.append(y, np.arange(50), x=y, fake=np.zeros(50))
        writer.append_missed(none)
    entry = {"role": "unseen", "title": "", "shift": "none", "base": "f"}
    evaluation = {"swd_events": 50, "bootstrap": 10, "directions": 5, "direction_seeds": 1}
    job = {"families": {"f": entry}, "evaluation": evaluation, "seed": 1, "problem_name": "p"}
    case = Case("f", job, tmp_path / "t.h5", tmp_path / "t.h5", None)
    assert len(case.truths(50).x) == 50
    assert case.distances_to_truths(50).floors
    case.recorded.close()
