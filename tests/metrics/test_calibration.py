from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from pullback.core.angles import wrap
from pullback.ensembles.fields import Field
from pullback.metrics.errors import squared
from pullback.metrics.metric import built_in, event_scores
from pullback.metrics.sample import Sample, Space, chosen, normalised

X = Field.vector("x", ("a", "b"), "m")
MIXED = Field.vector("x", ("pt", "phi"), ("GeV", "rad"), transforms=("log", "periodic"))


def prepare(x, truth, field=X, log_weight=None, ok=None, uniform=None):
    space = Space.of(field, truth)
    log_weight = np.zeros(x.shape[:2]) if log_weight is None else log_weight
    ok = np.ones(x.shape[:2], bool) if ok is None else ok
    uniform = np.zeros(len(x)) if uniform is None else uniform
    return replace(Sample.of(x, log_weight, ok, truth, space, uniform), field=field), space


def scores_of(ready, **more):
    return event_scores(built_in(), replace(ready, **more))


def test_crps_of_a_gaussian():
    """Gneiting and Raftery 2007, eq. 21: sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi))."""
    rng = np.random.default_rng(0)
    events, draws = 500, 40
    mu, sigma = rng.normal(size=(events, 2)), rng.uniform(0.5, 2, (events, 2))
    truth = mu + sigma * rng.normal(size=(events, 2))
    x = mu[:, None] + sigma[:, None] * rng.normal(size=(events, draws, 2))
    ready, _ = prepare(x, truth)
    found = ready.ordered.crps()
    z = (truth - mu) / sigma
    expected = sigma * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    difference = (found - expected).ravel()
    # Unbiased for any number of draws: the mean difference is zero within its own error.
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(difference.size)
    assert difference.std() < 0.3


def test_weighted_crps_equals_the_double_sum():
    rng = np.random.default_rng(1)
    x, truth = rng.normal(size=(6, 9, 2)), rng.normal(size=(6, 2))
    log_weight = rng.normal(size=(6, 9))
    ready, _ = prepare(x, truth, log_weight=log_weight)
    w = np.exp(log_weight) / np.exp(log_weight).sum(axis=1, keepdims=True)
    error = np.einsum("ed,edf->ef", w, np.abs(x - truth[:, None]))
    pairs = np.einsum("ei,ej,eijf->ef", w, w, np.abs(x[:, :, None] - x[:, None]))
    expected = error - 0.5 * pairs / (1 - (w**2).sum(axis=1, keepdims=True))
    assert ready.ordered.crps() == pytest.approx(expected)


@pytest.mark.parametrize("draws", [10, 32])
def test_coverage_of_an_exact_sampler(draws):
    rng = np.random.default_rng(2)
    events = 20_000
    mu = rng.normal(size=(events, 1))
    truth, x = mu + rng.normal(size=mu.shape), mu[:, None] + rng.normal(size=(events, draws, 1))
    ready, _ = prepare(x, truth, Field.vector("x", ("a",), "m"))
    for percent in (50, 90):
        p = percent / 100
        found = ready.ordered.coverage(percent).mean()
        assert found == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / events))
    narrow, _ = prepare(mu[:, None] + 0.5 * (x - mu[:, None]), truth, Field.vector("x", ("a",), "m"))
    # Half as wide: with many draws Phi(1.645/2) - Phi(-1.645/2) = 0.59, with 10 draws their ends scatter.
    assert 0.55 < narrow.ordered.coverage(90).mean() < 0.8


@pytest.mark.parametrize("alive", [4, 16])
def test_coverage_of_an_exact_sampler_with_dead_particles(alive):
    rng = np.random.default_rng(5)
    events = 20_000
    truth, x = rng.normal(size=(events, 1)), rng.normal(size=(events, 64, 1))
    log_weight = np.where(np.arange(64) < alive, 0.0, -np.inf) * np.ones((events, 1))
    ready, _ = prepare(x, truth, Field.vector("x", ("a",), "m"), log_weight)
    found = ready.ordered
    np.testing.assert_allclose(found.effective(), alive, rtol=1e-12)
    for p in (0.5, 0.9):
        covered = found.coverage(round(100 * p)).mean()
        assert covered == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / events))


def test_coverage_shares_ties():
    x, truth = np.zeros((1, 20, 1)), np.zeros((1, 1))
    ready, _ = prepare(x, truth, Field.vector("x", ("a",), "m"))
    assert ready.ordered.coverage(50)[0, 0] == pytest.approx(0.5)


def test_weighted_is_duplicated():
    rng = np.random.default_rng(3)
    x, truth = rng.normal(size=(8, 5, 2)), rng.normal(size=(8, 2))
    copies = rng.integers(1, 5, 5)
    weighted, _ = prepare(x, truth, log_weight=np.log(np.tile(copies, (8, 1))))
    repeated, _ = prepare(np.repeat(x, copies, axis=1), truth)
    a, b = weighted.ordered, repeated.ordered
    assert a.mean() == pytest.approx(b.mean())
    assert a.median() == pytest.approx(b.median())


def test_point_estimates_are_numpys():
    rng = np.random.default_rng(4)
    for draws in (32, 33):
        x, truth = rng.normal(size=(7, draws, 2)), rng.normal(size=(7, 2))
        ready, _ = prepare(x, truth)
        found = ready.ordered
        assert found.mean() == pytest.approx(x.mean(axis=1))
        assert found.median() == pytest.approx(np.median(x, axis=1))
        assert found.variance() == pytest.approx(x.var(axis=1, ddof=1))


def test_angles_know_no_edge():
    """Draws about +pi: turning everything by an angle changes no score."""
    rng = np.random.default_rng(5)
    x = np.stack([rng.exponential(1, (50, 32)), rng.normal(0, 0.3, (50, 32))], axis=-1)
    truth = np.stack([rng.exponential(1, 50), rng.normal(0, 0.3, 50)], axis=-1)
    turned_x, turned_truth = np.array(x), np.array(truth)
    turned_x[..., 1], turned_truth[:, 1] = wrap(x[..., 1] + np.pi), wrap(truth[:, 1] + np.pi)
    scores = []
    for draws, known in ((x, truth), (turned_x, turned_truth)):
        ready, _ = prepare(draws, known, MIXED)
        scores.append(scores_of(ready, space=Space.of(MIXED, truth)))
    assert scores[0].keys() == scores[1].keys()
    for name in scores[0]:
        assert scores[1][name][0] == pytest.approx(scores[0][name][0], abs=1e-6), name
    assert scores[0]["mae_point.phi"][0].max() < 1.5


def test_scores_are_the_plain_errors():
    rng = np.random.default_rng(6)
    x, truth = rng.normal(size=(20, 32, 2)), rng.normal(size=(20, 2))
    ready, _ = prepare(x, truth)
    found = {name: values for name, (values, _) in scores_of(ready, field=X).items()}
    assert found["mse_draw"] == pytest.approx(((x[:, 0] - truth) ** 2).mean(axis=1))
    assert found["mae_point"] == pytest.approx(np.abs(np.median(x, axis=1) - truth).mean(axis=1))
    assert found["mse_point.b"] == pytest.approx((x.mean(axis=1) - truth)[:, 1] ** 2)
    few, _ = prepare(x[:, :31], truth)
    names = scores_of(few)
    assert not [name for name in names if "point" in name]
    single, _ = prepare(x[:, :1], truth)
    names = scores_of(single, point_estimate=True)
    assert names["mse_point"][0] == pytest.approx(names["mse_draw"][0])
    assert "crps" not in names


def test_mixed_units_are_compared_on_the_scale_of_the_truth():
    rng = np.random.default_rng(7)
    truth = np.stack([rng.normal(0, 100, 500), rng.uniform(-0.1, 0.1, 500)], axis=-1)
    space = Space.of(MIXED, truth)
    assert space.unit == "1"
    assert space.scale == pytest.approx(truth.std(axis=0))
    ready, _ = prepare(truth[:, None] + [50.0, 0.0], truth, MIXED)
    found = scores_of(ready)
    assert found["mse_draw"][0] == pytest.approx(np.full(500, (50 / truth[:, 0].std()) ** 2 / 2))
    assert found["mse_draw.pt"][0] == pytest.approx(np.full(500, 2500.0))
    assert (found["mse_draw.pt"][1], found["mse_draw"][1]) == ("GeV^2", "1")
    assert squared("m/s") == "(m/s)^2"


def test_image_scores():
    field = Field.array("x", ("depth", "offset"), (12, 12), "m/s", low=(0.0,), high=(10.0,))
    rng = np.random.default_rng(8)
    truth = rng.uniform(1, 9, (4, 144))
    x = truth[:, None] + rng.normal(size=(4, 32, 144))
    ready, _ = prepare(x, truth, field)
    found = scores_of(ready, labels=(0, 10))
    expected = np.linalg.norm(x[:, 0] - truth, axis=1) / np.linalg.norm(truth, axis=1)
    assert found["relative_l2_draw"][0] == pytest.approx(expected)
    assert found["relative_l2_point"][0].mean() < 0.3 * expected.mean()
    assert found["ssim_point"][0].mean() > found["ssim_draw"][0].mean()
    assert found["mse_draw"][1] == "(m/s)^2"


# failures and weights


def test_a_failed_draw_becomes_the_farthest_corner():
    truth = np.array([[0.0, 0.0], [10.0, 1.0], [4.0, 0.5]])
    x, ok = np.zeros((3, 2, 2)), np.ones((3, 2), bool)
    x[:, 0], ok[:, 0] = np.nan, False
    ready, _ = prepare(x, truth, ok=ok)
    assert ready.one == pytest.approx(np.array([[10, 1], [0, 0], [10, 1]]))
    turned = Space.of(MIXED, truth).farthest(truth)
    assert np.abs(wrap(turned[:, 1] - truth[:, 1])) == pytest.approx(np.full(3, np.pi))
    assert not ready.one_ok.any()


def test_a_failure_never_improves_a_score():
    rng = np.random.default_rng(9)
    truth = rng.normal(size=(60, 2))
    space = Space.of(X, truth)
    x = np.clip(truth[:, None] + rng.normal(size=(60, 40, 2)), space.low, space.high)
    ok = np.ones((60, 40), bool)
    before = None
    for failures in (0, 1, 5, 20, 40):
        ok[:, :failures] = False
        ready = Sample.of(np.where(ok[..., None], x, np.nan), np.zeros((60, 40)), ok, truth, space, np.zeros(60))
        scores = scores_of(ready, field=X)
        values = {name: values for name, (values, _) in scores.items() if not name.startswith("spread")}
        if before is not None:
            for name in ("mse_draw", "mae_draw"):
                assert (values[name] >= before[name] - 1e-9).all()
            assert (values["coverage90"].mean()) < before["coverage90"].mean()
            for name in ("mse_point", "mae_point", "crps"):
                assert values[name].mean() > before[name].mean(), name
        before = values
    assert before["crps"].mean() == pytest.approx(np.abs(space.farthest(truth) - truth).mean())
    assert before["coverage90"].max() == 0


def test_weights_of_failed_draws():
    ok = np.array([[True, True, False, True], [False, False, False, False]])
    log_weight = np.array([[0.0, np.log(3), 5.0, -np.inf], [0.0, 1.0, 2.0, 3.0]])
    weight = normalised(log_weight, ok)
    assert weight == pytest.approx(np.array([[0.75 / 4, 0.75 * 3 / 4, 0.25, 0.0], [0.25] * 4]))
    assert normalised(np.full((2, 4), 7.0), ok) is None


def test_one_draw_is_chosen_by_weight():
    rng = np.random.default_rng(10)
    n = 20_000
    weight = np.tile([0.1, 0.2, 0.7], (n, 1))
    counts = np.bincount(chosen(weight, n, rng.random(n)), minlength=3) / n
    assert counts == pytest.approx([0.1, 0.2, 0.7], abs=4 * 0.5 / np.sqrt(n))
    assert (chosen(None, 5, rng.random(5)) == 0).all()


def test_equal_and_weighted_paths_agree():
    """Weights that are equal up to rounding give what no weights give."""
    rng = np.random.default_rng(11)
    x, truth = rng.normal(size=(9, 32, 2)), rng.normal(size=(9, 2))
    space = Space.of(X, truth)
    plain = Sample(x, None, np.ones((9, 32), bool), x[:, 0], np.ones(9, bool), truth, space, X)
    weighted = replace(plain, weight=np.full((9, 32), 1 / 32))
    for name, (values, _) in scores_of(plain).items():
        other = scores_of(weighted)[name][0]
        assert other == pytest.approx(values), name
