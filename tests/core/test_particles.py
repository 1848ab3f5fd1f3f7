"""Weights and resampling against closed forms: expected counts, bounds of counts, known evidence."""

import math

import numpy as np
import pytest
from scipy import stats

from pullback.core.particles import (
    effective_copies,
    effective_size,
    invert,
    log_evidence,
    normalise,
    relative,
    resample,
)

KINDS = ["multinomial", "stratified", "systematic", "residual"]
WEIGHT = np.array([0.02, 0.5, 0.0, 0.13, 0.2, 0.15])


def test_weights_are_normalised_whatever_their_scale():
    log_weight = np.log(np.array([[1.0, 3.0], [2.0, 2.0]]))
    for shift in (0.0, 5e3, -5e3):
        np.testing.assert_allclose(normalise(log_weight + shift), [[0.25, 0.75], [0.5, 0.5]])
    assert normalise(log_weight.astype(np.float32)).dtype == np.float64
    np.testing.assert_allclose(relative(log_weight), [[1 / 3, 1], [1, 1]])


def test_the_dead_stay_dead():
    log_weight = np.array([[-np.inf, 0.0, 0.0], [-np.inf] * 3])
    np.testing.assert_array_equal(normalise(log_weight), [[0, 0.5, 0.5], [0, 0, 0]])
    np.testing.assert_array_equal(effective_size(normalise(log_weight)), [2, 0])
    found = log_evidence(log_weight)
    assert found[0] == pytest.approx(math.log(2 / 3))
    assert found[1] == -np.inf
    for kind in KINDS:
        assert set(resample(np.array([0.0, 1.0, 0.0]), 50, np.random.default_rng(0), kind)) == {1}


def test_as_many_copies_as_are_effective():
    weight = np.array([[0.1] * 10, [1.0] + [0.0] * 9, [0.25, 0.25, 0.5] + [0.0] * 7, [0.0] * 10])
    copies = effective_copies(weight)
    np.testing.assert_array_equal(copies.sum(axis=1), [10, 1, 2, 0])
    np.testing.assert_array_equal(copies[:2], [[1] * 10, [1] + [0] * 9])
    # Systematic: never further than 1 from the expected number, and by their weights on average.
    weight = np.random.default_rng(0).dirichlet(np.full(40, 0.3), 5000)
    copies = effective_copies(weight)
    expected = weight * copies.sum(axis=1, keepdims=True)
    assert np.abs(copies - expected).max() < 1
    # An error below 1 that has no sign: its mean over 5000 samples is below 4 / sqrt(5000).
    assert np.abs((copies - expected).mean(axis=0)).max() < 4 / np.sqrt(5000)


def test_effective_size_of_small_weights_in_single_precision():
    assert effective_size(np.full(2, 1e-30, np.float32)) == pytest.approx(2)
    assert effective_size(np.array([3e-30, 1e-30], np.float32)) == pytest.approx(1.6)


@pytest.mark.parametrize("n", [1, 7, 100])
def test_effective_size_of_equal_and_of_geometric_weights(n):
    assert effective_size(np.full(n, 0.3)) == pytest.approx(n)
    q = 0.8
    # Geometric series: (1 - q^n)^2 / (1 - q)^2 * (1 - q^2) / (1 - q^2n).
    wanted = (1 - q**n) * (1 + q) / ((1 - q) * (1 + q**n))
    assert effective_size(q ** np.arange(n)) == pytest.approx(wanted)


def test_evidence_of_a_gaussian_by_importance_sampling():
    # Target exp(-x^2 / 2 s^2), whose integral is s sqrt(2 pi); proposal N(0, 1).
    s, n = 0.7, 200_000
    x = np.random.default_rng(0).standard_normal((2, n))
    log_weight = -(x**2) / (2 * s**2) - stats.norm.logpdf(x)
    wanted = s * math.sqrt(2 * math.pi)
    error = np.exp(log_weight).std(axis=1) / math.sqrt(n) / wanted
    np.testing.assert_allclose(log_evidence(log_weight), math.log(wanted), atol=4 * error.max())
    assert log_evidence(np.full(3, 1e4)) == 1e4


@pytest.mark.parametrize("kind", KINDS)
def test_resampling_is_unbiased(kind):
    rng, draws, repeats = np.random.default_rng(1), 10, 20_000
    counts = np.array([np.bincount(resample(3 * WEIGHT, draws, rng, kind), minlength=6) for _ in range(repeats)])
    assert (counts.sum(axis=1) == draws).all()
    error = np.maximum(counts.std(axis=0), 1e-12) / math.sqrt(repeats)
    assert (np.abs(counts.mean(axis=0) - draws * WEIGHT) <= 4.5 * error + 1e-12).all()


def test_counts_are_within_their_bounds_and_variances_in_their_order():
    rng, draws = np.random.default_rng(2), 10
    expected = draws * WEIGHT
    variance = {}
    for kind in KINDS:
        counts = np.array([np.bincount(resample(WEIGHT, draws, rng, kind), minlength=6) for _ in range(4000)])
        variance[kind] = counts.var(axis=0).sum()
        if kind == "systematic":
            assert (counts >= np.floor(expected)).all()
            assert (counts <= np.ceil(expected)).all()
        if kind == "stratified":
            assert (np.abs(counts - expected) < 2).all()
        if kind == "residual":
            assert (counts >= np.floor(expected)).all()
    assert variance["multinomial"] == pytest.approx((expected * (1 - WEIGHT)).sum(), rel=0.05)
    assert variance["multinomial"] > variance["residual"]
    assert variance["multinomial"] > variance["stratified"] > variance["systematic"] * 0.99


def test_draws_of_many_samples_are_those_of_each():
    rng = np.random.default_rng(3)
    edges, u = np.cumsum(rng.random((5, 4, 9)), axis=-1), rng.random((5, 4, 6))
    found = invert(edges, u)
    for row in np.ndindex(5, 4):
        wanted = [int(np.argmax(edges[row] / edges[row][-1] > level)) for level in u[row]]
        assert found[row].tolist() == wanted
    np.testing.assert_array_equal(invert(edges, u[..., :1]), found[..., :1])
    assert invert(np.array([1.0, 2.0, 2.0]), np.array([1.0])) == 2
