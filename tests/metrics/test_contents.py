"""Triangular discriminator and chi-squared of bins against closed forms, explicit sums and simulations."""

import numpy as np
import pytest
from scipy import stats

from pullback.metrics.bootstrap import Replicas
from pullback.metrics.contents import (
    Compared,
    Contents,
    beside,
    cells,
    chi_squared,
    counts_of,
    group_sums,
    paired,
    quantile_edges,
    shares_of,
)

EDGES = {"a": np.linspace(0, 1, 6), "b": np.array([0.0, 0.2, 0.7, 1.0])}


def sums(rng, groups, each=2, tilt=0.0):
    """Sums (group, bin) of events with two independent features, ``each`` events to a group."""
    n = groups * each
    values = {"a": rng.beta(2 + tilt, 2, n), "b": rng.random(n)}
    return group_sums(values, EDGES, None, np.repeat(np.arange(groups), each), groups)


def test_group_sums_are_histograms():
    rng = np.random.default_rng(0)
    values = {"a": rng.uniform(-0.1, 1.1, 500), "b": rng.random(500)}
    weight, group = rng.random(500), rng.integers(7, size=500)
    found = group_sums(values, EDGES, weight, group, 7)
    for g in range(7):
        mine = group == g
        wanted = [np.histogram(values[name][mine], each, weights=weight[mine])[0] for name, each in EDGES.items()]
        np.testing.assert_allclose(found[g], np.concatenate(wanted))
    assert cells(np.array([-1, 0, 1, 1.1, np.nan]), EDGES["a"]).tolist() == [-1, 0, 4, -1, -1]


def test_quantile_edges_hold_equal_shares_and_merge_repeats():
    rng = np.random.default_rng(1)
    x = rng.exponential(size=1000)
    np.testing.assert_array_equal(np.histogram(x, quantile_edges(x))[0], 100)
    weight = np.where(x > 1, 3.0, 1.0)
    share = np.histogram(x, quantile_edges(x, weight), weights=weight)[0] / weight.sum()
    assert np.abs(share - 0.1).max() < 2 * 3 / weight.sum()  # one event at each edge
    assert quantile_edges(np.array([1, 1, 1, 1, 2, 3] * 10)).tolist() == [1, 2, 3]


def test_triangular_discriminator_of_densities():
    width = np.array([0.5, 1.0, 2.0])
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.25, 0.25, 0.5])
    edges = {"a": np.cumsum(np.append(0.0, width))}
    found = Compared(edges, p, q, None)
    dp, dq = p / width, q / width
    assert float(found.triangular()) == pytest.approx(0.5 * np.sum(width * (dp - dq) ** 2 / (dp + dq)))
    assert float(Compared(edges, p, p, None).triangular()) == 0
    assert float(Compared(edges, np.array([1.0, 0, 0]), np.array([0, 0.5, 0.5]), None).triangular()) == 1


def test_covariance_of_shares_is_that_of_the_bootstrap_by_group():
    """Rows of a group are the same event twice: the covariance is twice that of as many independent events."""
    rng = np.random.default_rng(2)
    x = rng.random(400)
    values = {name: np.repeat(x, 2) for name in EDGES}
    found = shares_of(group_sums(values, EDGES, None, np.repeat(np.arange(400), 2), 400), EDGES, 400.0)
    p = found.of("b").value
    np.testing.assert_allclose(found.of("b").covariance, (np.diag(p) - np.outer(p, p)) / 399, rtol=1e-12, atol=1e-18)
    replicas = Replicas(np.arange(400), 4000, np.random.default_rng(3))
    each = group_sums(dict.fromkeys(EDGES, x), EDGES, None, np.arange(400), 400)
    drawn = replicas.counts @ each
    drawn[:, :5] /= drawn[:, :5].sum(axis=1, keepdims=True)
    drawn[:, 5:] /= drawn[:, 5:].sum(axis=1, keepdims=True)
    scale = np.sqrt(np.outer(*2 * [np.diag(found.covariance)]))
    # A correlation from R replicas is known to 1 / sqrt(R), a variance to sqrt(2 / R).
    assert np.abs(np.cov(drawn.T) - found.covariance).max() < 5 * np.sqrt(2 / 4000) * scale.max()


def test_shares_of_stated_contents_are_those_of_counts():
    rng = np.random.default_rng(4)
    counted = sums(rng, 300)
    by_contents = counts_of(counted, EDGES, 300.0).shares()
    by_groups = shares_of(counted, EDGES, 300.0)
    np.testing.assert_allclose(by_contents.value, by_groups.value)
    np.testing.assert_allclose(by_contents.covariance * 300 / 299, by_groups.covariance, atol=1e-15)


def test_chi_squared_of_one_feature_is_pearsons():
    """Of n events against known shares q, with the covariance of q, chi^2 is sum (n p - n q)^2 / (n q)."""
    rng = np.random.default_rng(5)
    q, n = np.array([0.1, 0.2, 0.3, 0.4]), 500
    counts = rng.multinomial(n, q)
    edges = {"a": np.arange(5.0)}
    known = Contents(edges, q, np.zeros((4, 4)))
    found = chi_squared(beside(Contents(edges, counts / n, (np.diag(q) - np.outer(q, q)) / n), known))
    assert found.rank == 3
    assert found.value == pytest.approx(stats.chisquare(counts, n * q).statistic, rel=1e-9)


@pytest.mark.parametrize("how", ["independent", "paired"])
def test_chi_squared_of_equal_distributions_follows_its_law(how):
    """All bins of two features together; a Kolmogorov-Smirnov distance above 1.95 / sqrt(n) has probability 0.001."""
    rng = np.random.default_rng(6)
    found, repeats = [], 400
    for _ in range(repeats):
        ours, theirs = sums(rng, 1000), sums(rng, 1000)
        if how == "paired":
            # One of two events of each group in common.
            both = sums(rng, 1000, each=1)
            ours, theirs = sums(rng, 1000, each=1) + both, sums(rng, 1000, each=1) + both
            compared = paired(ours, theirs, EDGES, 1000.0)
        else:
            compared = beside(shares_of(ours, EDGES, 1000.0), shares_of(theirs, EDGES, 1000.0))
        each = chi_squared(compared)
        assert each.rank == 4 + 2
        found.append(each.value)
    distance = stats.kstest(found, stats.chi2(6).cdf).statistic
    # 0.01: covariances of 1000 groups are known to a few per cent.
    assert distance < 1.95 / np.sqrt(repeats) + 0.01
    far = beside(shares_of(sums(rng, 1000, tilt=1.0), EDGES, 1000.0), shares_of(theirs, EDGES, 1000.0))
    assert stats.chi2(6).sf(chi_squared(far).value) < 1e-6


def test_chi_squared_with_a_covariance_from_replicas_has_the_right_mean():
    rng = np.random.default_rng(7)
    bins, replicas, repeats = 5, 20, 3000
    edges = {"a": np.arange(bins + 1.0)}
    found = []
    for _ in range(repeats):
        covariance = np.cov(rng.standard_normal((bins, replicas)))
        ours = Contents(edges, rng.standard_normal(bins), covariance, replicas)
        known = Contents(edges, np.zeros(bins), np.zeros((bins, bins)))
        found.append(chi_squared(beside(ours, known)).value)
    # With R replicas chi^2 is k (R - 1) / (R - k) F(k, R - k) times (R - k - 2) / (R - 1): mean k.
    law = stats.f(bins, replicas - bins)
    scale = bins * (replicas - bins - 2) / (replicas - bins)
    assert scale * law.mean() == pytest.approx(bins)
    assert np.mean(found) == pytest.approx(bins, abs=4 * scale * law.std() / np.sqrt(repeats))
    few = Contents(edges, np.zeros(bins), covariance, 2 * bins - 1)
    assert chi_squared(beside(few, known)) is None


def test_chi_squared_does_not_change_when_bins_are_transformed():
    """An invertible linear map of contents, as unfolding by the inverse response, keeps chi^2."""
    rng = np.random.default_rng(8)
    root = rng.standard_normal((4, 4))
    d, covariance = rng.standard_normal(4), root @ root.T
    matrix = rng.standard_normal((4, 4)) + 3 * np.eye(4)
    edges, zero = {"a": np.arange(5.0)}, np.zeros(4)
    first = chi_squared(Compared(edges, d, zero, covariance))
    second = chi_squared(Compared(edges, matrix @ d, zero, matrix @ covariance @ matrix.T))
    assert second.value == pytest.approx(first.value, rel=1e-8)
    assert first.value == pytest.approx(d @ np.linalg.solve(covariance, d), rel=1e-9)


def test_bins_are_summed_to_the_edges_that_a_study_names():
    edges = {"a": np.arange(5.0), "b": np.array([0.0, 1.0, 2.0])}
    covariance = np.diag(np.arange(1.0, 7.0))
    found = Contents(edges, np.arange(6.0), covariance).rebinned({"a": np.array([1.0, 3.0, 4.0]), "b": np.arange(4.0)})
    assert found.edges["a"].tolist() == [1, 3, 4]
    assert found.edges["b"].tolist() == [0, 1, 2]  # 3 is no edge of its own
    assert found.value.tolist() == [3, 3, 4, 5]
    np.testing.assert_allclose(np.diag(found.covariance), [5, 4, 5, 6])


def test_replicas_of_the_difference_have_its_covariance():
    rng = np.random.default_rng(9)
    root = np.array([[1.0, 0.0], [0.8, 0.3]])
    compared = Compared({"a": np.arange(3.0)}, np.array([1.0, 2.0]), np.zeros(2), root @ root.T)
    drawn = compared.draws(20_000, rng)
    np.testing.assert_allclose(drawn.mean(axis=0), [1, 2], atol=5 / np.sqrt(20_000))
    np.testing.assert_allclose(np.cov(drawn.T), root @ root.T, atol=5 * np.sqrt(2 / 20_000))
