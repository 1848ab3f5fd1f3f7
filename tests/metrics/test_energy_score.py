import numpy as np
import pytest

from pullback.core.angles import wrap
from pullback.ensembles.fields import Field
from pullback.metrics import pairs
from pullback.metrics.energy import energy_scores
from pullback.metrics.sample import Sample, Space

PLANE = Field.vector("x", ("a", "b"), "m")
MIXED = Field.vector("x", ("pt", "phi"), ("GeV", "rad"), transforms=("log", "periodic"))
IMAGE = Field.array("x", ("row", "column"), (6, 5), "m")


def prepare(x, truth, field, log_weight=None, ok=None):
    space = Space.of(field, truth)
    log_weight = np.zeros(x.shape[:2]) if log_weight is None else log_weight
    ok = np.ones(x.shape[:2], bool) if ok is None else ok
    return Sample.of(x, log_weight, ok, truth, space, np.zeros(len(x))), space


def double_sum(x, truth, space, weight):
    """The definition, event by event and pair by pair; without a spread below two effective draws."""

    def distance(a, b):
        gap = a - b
        gap = np.where(space.periodic, np.arctan2(np.sin(gap), np.cos(gap)), gap)
        return np.sqrt(((gap / space.scale) ** 2).sum())

    scores = []
    for draws, true, w in zip(x, truth, weight, strict=True):
        m = len(draws)
        error = sum(w[i] * distance(draws[i], true) for i in range(m))
        each = [(w[i] * w[j], distance(draws[i], draws[j])) for i in range(m) for j in range(m) if i != j]
        total = sum(share for share, _ in each)
        spread = sum(share * d for share, d in each) / total if 1 / sum(w**2) > 2 - 1e-6 else 0.0
        scores.append(error - 0.5 * spread)
    return np.array(scores)


@pytest.mark.parametrize("field", [PLANE, MIXED, IMAGE])
@pytest.mark.parametrize("draws", [2, 7, 8])
@pytest.mark.parametrize("weighted", [False, True])
def test_score_is_the_double_sum(field, draws, weighted):
    rng = np.random.default_rng(0)
    size = int(np.prod(field.shape))
    truth, x = rng.normal(size=(5, size)), rng.normal(size=(5, draws, size))
    if field is MIXED:
        truth[:, 1], x[..., 1] = wrap(3 * truth[:, 1]), wrap(3 * x[..., 1])
    log_weight = rng.normal(size=x.shape[:2]) if weighted else np.zeros(x.shape[:2])
    ready, space = prepare(x, truth, field, log_weight)
    weight = np.exp(log_weight) / np.exp(log_weight).sum(axis=1, keepdims=True)
    assert energy_scores(ready) == pytest.approx(double_sum(x, truth, space, weight), rel=1e-9)


def test_in_one_dimension_it_is_the_crps():
    field = Field.vector("x", ("a",), "m")
    rng = np.random.default_rng(1)
    truth, x = rng.normal(size=(40, 1)), rng.normal(size=(40, 31, 1))
    ok = rng.random((40, 31)) > 0.2
    ready, _ = prepare(x, truth, field, rng.normal(size=(40, 31)), ok)
    crps = ready.ordered.crps()[:, 0]
    assert energy_scores(ready) == pytest.approx(crps)


def test_score_of_a_gaussian():
    """x, X ~ N(0, I_2): E|X - x| = E|X - X'| = sqrt(pi), a mean score of sqrt(pi) / 2 whatever the number of draws."""
    rng = np.random.default_rng(2)
    for draws in (2, 20, 200):
        truth, x = rng.normal(size=(4000, 2)), rng.normal(size=(4000, draws, 2))
        ready, _ = prepare(x, truth, PLANE)
        score = energy_scores(ready)
        assert score.mean() == pytest.approx(np.sqrt(np.pi) / 2, abs=4 * score.std() / np.sqrt(4000))


def test_no_posterior_has_a_lower_score_than_the_exact_one():
    rng = np.random.default_rng(3)
    y = rng.normal(size=(4000, 2))
    covariance = [[1, 0.9], [0.9, 1]]
    truth = y + rng.multivariate_normal([0, 0], covariance, 4000)
    means = {}
    for name, other in (("exact", covariance), ("independent", np.eye(2)), ("narrow", 0.3 * np.array(covariance))):
        x = y[:, None] + rng.multivariate_normal([0, 0], other, (4000, 40))
        ready, _ = prepare(x, truth, PLANE)
        means[name] = energy_scores(ready).mean()
    assert means["exact"] < 0.985 * min(means["independent"], means["narrow"])


def test_many_draws_use_a_part_of_the_pairs_without_bias(monkeypatch):
    rng = np.random.default_rng(4)
    truth, x = rng.normal(size=(500, 2)), rng.normal(size=(500, pairs.ALL_PAIRS + 10, 2))
    ready, _ = prepare(x, truth, PLANE)
    part = energy_scores(ready)
    monkeypatch.setattr(pairs, "ALL_PAIRS", 1000)
    difference = part - energy_scores(ready)
    assert 0 < np.abs(difference).max() < 0.1
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(500)


def test_arrays_and_vectors_are_treated_alike(monkeypatch):
    rng = np.random.default_rng(5)
    truth, x = rng.normal(size=(50, 30)) + 100, rng.normal(size=(50, 24, 30)) + 100
    ready, _ = prepare(x.astype("f4"), truth, IMAGE)
    product = energy_scores(ready)
    monkeypatch.setattr(pairs, "MOST_DIFFERENCES", 1000)
    assert product == pytest.approx(energy_scores(ready), rel=1e-9)


def test_a_failed_draw_is_the_farthest_corner():
    rng = np.random.default_rng(6)
    truth, x = rng.normal(size=(60, 2)), 0.1 * rng.normal(size=(60, 10, 2))
    ok = np.ones((60, 10), bool)
    before = None
    for failures in (0, 3, 9, 10):
        ok[:, :failures] = False
        ready, space = prepare(np.where(ok[..., None], x, np.nan), truth, PLANE, ok=ok)
        score = energy_scores(ready)
        assert np.isfinite(score).all()
        assert before is None or score.mean() > before.mean()
        before = score
    assert before == pytest.approx(np.linalg.norm(space.farthest(truth) - truth, axis=1))
