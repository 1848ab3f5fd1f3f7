"""Metrics on plain arrays beside scipy, POT, brute force and closed forms."""

import subprocess
import sys

import numpy as np
import ot
import pytest
from scipy import stats

from pullback import metrics
from pullback.metrics import (
    c2st,
    coverage,
    crps,
    energy_score,
    ks_distance,
    sbc_ranks,
    sliced_wasserstein,
    spread_skill,
    tarp,
    wasserstein_1d,
)


@pytest.fixture
def exact():
    """Draws of N(mean, 1) beside a truth of the same law: (400, 40, 3) and (400, 3)."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(400, 3))
    return mean[:, None] + rng.normal(size=(400, 40, 3)), mean + rng.normal(size=(400, 3))


def double_sum(draws, truth, weights):
    """Energy score of one event over all pairs of different draws."""
    error = weights @ np.linalg.norm(draws - truth, axis=-1)
    pair = np.outer(weights, weights) * (1 - np.eye(len(draws)))
    gaps = np.linalg.norm(draws[:, None] - draws[None], axis=-1)
    return error - 0.5 * (pair * gaps).sum() / pair.sum()


@pytest.mark.parametrize("weighted", [False, True])
def test_energy_score_is_the_double_sum(exact, weighted):
    draws, truth = exact
    weights = np.random.default_rng(1).exponential(size=draws.shape[:2]) if weighted else np.ones(draws.shape[:2])
    share = weights / weights.sum(axis=1, keepdims=True)
    expected = [double_sum(*event) for event in zip(draws, truth, share, strict=True)]
    assert energy_score(draws, truth, weights if weighted else None) == pytest.approx(np.array(expected))


def test_in_one_dimension_the_two_scores_agree_and_shapes_are_those_of_truth(exact):
    draws, truth = exact[0][..., 0], exact[1][:, 0]
    assert crps(draws, truth) == pytest.approx(energy_score(draws, truth))
    assert crps(draws, truth).shape == (400,)
    assert crps(*exact).shape == (400, 3)
    assert crps(exact[0].reshape(400, 40, 3, 1), exact[1].reshape(400, 3, 1)).shape == (400, 3, 1)


def test_crps_of_a_gaussian():
    """Gneiting and Raftery 2007, eq. 21."""
    rng = np.random.default_rng(2)
    truth = rng.normal(size=2000)
    found = crps(rng.normal(size=(2000, 50)), truth)
    expected = truth * (2 * stats.norm.cdf(truth) - 1) + 2 * stats.norm.pdf(truth) - 1 / np.sqrt(np.pi)
    assert (found - expected).mean() == pytest.approx(0, abs=4 * (found - expected).std() / np.sqrt(2000))


def test_angles_are_compared_on_the_circle(exact):
    draws, truth = 0.3 * exact[0][..., :1], 0.3 * exact[1][:, :1]
    turned = (np.mod(values + 2 * np.pi, 2 * np.pi) - np.pi for values in (draws, truth))
    assert energy_score(*turned, periodic=[0]) == pytest.approx(energy_score(draws, truth), abs=1e-9)


def test_a_failed_draw_counts(exact):
    draws, truth = exact
    failed = draws.copy()
    failed[:, :5] = np.nan
    assert energy_score(failed, truth).mean() > energy_score(draws, truth).mean()
    assert coverage(failed, truth).max() <= 35 / 40


def test_exact_draws_are_calibrated(exact):
    draws, truth = exact
    assert coverage(draws, truth, 50).mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(1200))
    assert spread_skill(draws, truth) == pytest.approx(1, abs=0.1)
    assert spread_skill(truth[:, None] + 2 * (draws - truth[:, None]), truth) == pytest.approx(1, abs=0.1)
    for u in (*sbc_ranks(draws, truth).T, tarp(draws, truth), tarp(draws, truth, references=np.zeros((400, 3)))):
        assert stats.kstest(u, "uniform").pvalue > 1e-3
        assert ks_distance(u) == pytest.approx(stats.kstest(u, "uniform").statistic)
    narrow = draws.mean(axis=1, keepdims=True) + 0.4 * (draws - draws.mean(axis=1, keepdims=True))
    assert ks_distance(tarp(narrow, truth)) > 3 * 0.87 / np.sqrt(400)


def test_ranks_count_the_draws_below():
    draws = np.tile(np.arange(9.0), (200, 1))
    u = sbc_ranks(draws, np.full(200, 3.5))
    assert (np.floor(10 * u) == 4).all()
    assert np.unique(u).size == 200


def test_distances_are_those_of_pot():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(300, 4)), rng.normal(0.3, 1.4, size=(300, 4))
    wa, wb = rng.exponential(size=300), rng.exponential(size=300)
    share = wa / wa.sum(), wb / wb.sum()
    assert wasserstein_1d(a[:, 0], b[:, 0]) == pytest.approx(stats.wasserstein_distance(a[:, 0], b[:, 0]))
    weighted = wasserstein_1d(a[:, 0], b[:, 0], a_weights=wa, b_weights=wb)
    assert weighted == pytest.approx(stats.wasserstein_distance(a[:, 0], b[:, 0], wa, wb))
    assert wasserstein_1d(a[:, 0], b[:, 0], 2) == pytest.approx(ot.wasserstein_1d(a[:, 0], b[:, 0], p=2) ** 0.5)
    theta = np.random.default_rng(4).normal(size=(4, 4000))
    theirs = ot.sliced_wasserstein_distance(a, b, *share, projections=theta / np.linalg.norm(theta, axis=0))
    assert sliced_wasserstein(a, b, 4000, a_weights=wa, b_weights=wb) == pytest.approx(theirs, rel=0.03)
    assert sliced_wasserstein(a, b, seed=1) == sliced_wasserstein(a, b, seed=1) != sliced_wasserstein(a, b, seed=2)


def test_a_classifier_tells_shifted_samples_apart():
    """The best classifier of N(0, 1) and N(s, 1) is right in Phi(s / 2) of cases."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(1500, 1)), rng.normal(2, 1, size=(1500, 1))
    assert c2st(a, b) == pytest.approx(stats.norm.cdf(1), abs=0.04)
    assert c2st(a, rng.normal(size=(1500, 1))) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: energy_score(np.zeros((4, 3, 2)), np.zeros((4, 3))), "wanted .event, draw"),
        (lambda: energy_score(np.zeros((4, 1, 2)), np.zeros((4, 2))), "at least two"),
        (lambda: crps(np.zeros((4, 3)), np.full(4, np.nan)), "finite"),
        (lambda: crps(np.zeros((4, 3)), np.zeros(4), weights=-np.ones((4, 3))), "none negative"),
        (lambda: coverage(np.zeros((4, 3)), np.zeros(4), 100), "percent is 100"),
        (lambda: tarp(np.zeros((4, 3, 2)), np.zeros((4, 2)), np.zeros((4, 3))), "references have shape"),
        (lambda: wasserstein_1d(np.zeros((4, 2)), np.zeros((4, 2))), "wanted numbers"),
        (lambda: sliced_wasserstein(np.zeros((4, 2)), np.zeros((4, 3))), "differ in size"),
        (lambda: c2st(np.zeros((4, 2)), np.zeros((5, 2))), "the same shape"),
    ],
)
def test_arrays_that_do_not_fit_are_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_name_is_there_and_nothing_is_imported_before_it_is_used():
    assert {name for name in metrics.__all__ if callable(getattr(metrics, name))} == set(metrics.__all__)
    code = "import sys, pullback.metrics; assert 'numpy' not in sys.modules; pullback.metrics.Metric"
    subprocess.run([sys.executable, "-c", code + "; assert 'numpy' not in sys.modules"], check=True)
    torch = "import sys; from pullback.metrics import energy_score, tarp; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", torch], check=True)
