"""Binned estimates and their covariances: against pyunfold, closed forms, numerical derivatives and toys."""

import numpy as np
import pytest
from pyunfold import iterative_unfold
from pyunfold.mix import Mixer

from pullback.methods.unfolding import binned, tikhonov
from pullback.methods.unfolding.response import (
    Entries,
    Response,
    UnfoldingError,
    bin_of,
    quantile_edges,
    response_of,
)

TRUTH, OBSERVED, TOYS = 8, 10, 1000


def response(seed=0, truth=TRUTH, observed=OBSERVED):
    """A response with migration over a bin width, efficiency .4 to .9, and a simulation of thousands in each bin."""
    rng = np.random.default_rng(seed)
    centres = np.linspace(0, truth - 1, observed)
    matrix = np.exp(-0.5 * ((centres[:, None] - np.arange(truth)) / 0.8) ** 2) * rng.uniform(
        0.9, 1.1, (observed, truth)
    )
    matrix *= rng.uniform(0.4, 0.9, truth) / matrix.sum(axis=0)
    number = rng.integers(2000, 8000, truth).astype(float)
    return Response(matrix, number, number, np.sqrt(matrix / number), np.zeros(observed))


def contents(seed=1, bins=TRUTH, scale=1.0):
    return scale * np.random.default_rng(seed).uniform(1000, 5000, bins)


PRIORS = {"flat": np.full(TRUTH, 1 / TRUTH), "falling": np.exp(-0.3 * np.arange(TRUTH))}


def mixer(made, data, form="multinomial"):
    efficiency = made.efficiency
    return Mixer(
        data=data,
        data_err=np.sqrt(data),
        efficiencies=efficiency,
        efficiencies_err=efficiency / np.sqrt(made.simulated),
        response=made.matrix,
        response_err=made.error,
        cov_type=form,
    )


def smeared(made, data, prior, iterations, form="multinomial"):
    """pyunfold's contents, and its mixer after the last iteration."""
    mix, content = mixer(made, data, form), data.sum() * prior / prior.sum()
    for _ in range(iterations):
        content = mix.smear(content)
    return content, mix


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(2).poisson(response().matrix @ contents()).astype(float)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("iterations", [1, 2, 4, 10])
@pytest.mark.parametrize("form", ["multinomial", "poisson"])
def test_iterative_bayes_is_pyunfold(data, prior, iterations, form):
    made, prior = response(), PRIORS[prior]
    theirs, mix = smeared(made, data, prior, iterations, form)
    ours = binned.bayes(made.matrix, data, prior, iterations)
    np.testing.assert_allclose(ours.content, theirs, rtol=1e-6)
    np.testing.assert_allclose(binned.bayes_contents(made.matrix, data[None], prior, iterations)[0], theirs, rtol=1e-6)
    simulation = binned.response_covariance(ours, made, form)
    np.testing.assert_allclose(simulation, mix.cov.getVc1(), rtol=1e-6, atol=1e-6 * simulation.max())
    np.testing.assert_allclose(ours.by_response.reshape(TRUTH, -1), mix.cov.dcdP, rtol=1e-6, atol=1e-6)
    # The derivative of pyunfold's own contents by its data.
    step = 1e-2
    slope = np.array(
        [
            (smeared(made, data + e, prior, iterations)[0] - smeared(made, data - e, prior, iterations)[0]) / (2 * step)
            for e in step * np.eye(OBSERVED)
        ]
    )
    statistics = binned.data_covariance(ours, data)
    np.testing.assert_allclose(statistics, slope.T @ np.diag(data) @ slope, rtol=1e-6, atol=1e-6 * statistics.max())
    if iterations == 1:
        np.testing.assert_allclose(statistics + simulation, mix.get_cov(), rtol=1e-6, atol=1e-6 * statistics.max())


def test_pyunfold_has_two_factors_of_the_data_derivative_in_the_other_order(data):
    """From the second iteration on its statistical covariance is not that of its own contents; ours is (above)."""
    made, prior = response(), PRIORS["falling"]
    _, first = smeared(made, data, prior, 1)
    content, second = smeared(made, data, prior, 2)
    before, _ = smeared(made, data, prior, 1)
    ours = binned.bayes(made.matrix, data, prior, 2).by_data.T
    # mix.py, `_adye_propagation_corrections`: M3 = M2 @ dcdn_prev; dcdn += Mij @ M3.
    last = second.Mij
    between = -(last * made.efficiency / before).T * data
    written = last + first.cov.dcdn * (content / before) + last @ (between @ first.cov.dcdn)
    meant = last + first.cov.dcdn * (content / before) + first.cov.dcdn @ (between @ last)
    np.testing.assert_allclose(second.cov.dcdn, written, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours, meant, rtol=1e-9, atol=1e-9)
    errors = np.sqrt(np.diag(ours.T @ np.diag(data) @ ours) / np.diag(second.cov.getVc0()))
    assert 1e-3 < np.abs(errors - 1).max() < 0.1


@pytest.mark.parametrize("statistic", ["ks", "chi2", "rmd"])
def test_the_iteration_stops_where_pyunfold_stops(data, statistic):
    made, tolerance = response(), {"ks": 1e-3, "chi2": 0.05, "rmd": 3e-3}[statistic]
    theirs = iterative_unfold(
        data=data,
        data_err=np.sqrt(data),
        response=made.matrix,
        response_err=made.error,
        efficiencies=made.efficiency,
        efficiencies_err=made.efficiency / np.sqrt(made.simulated),
        prior=PRIORS["flat"],
        ts=statistic,
        ts_stopping=tolerance,
    )
    ours = binned.bayes(made.matrix, data, PRIORS["flat"], 100, statistic, tolerance)
    assert 2 < ours.diagnostics["unfolding_iterations"] == theirs["num_iterations"] < 100
    np.testing.assert_allclose(ours.content, theirs["unfolded"], rtol=1e-6)
    simulation = np.diag(binned.response_covariance(ours, made))
    np.testing.assert_allclose(simulation, theirs["sys_err"] ** 2, rtol=1e-6)


def inverted(matrix, data, prior=None):
    prior = np.ones(matrix.shape[1]) if prior is None else prior
    prior = prior * (data.sum() / (matrix @ prior).sum())
    return tikhonov.tikhonov(matrix, data, matrix @ prior, prior, 0.0)


@pytest.mark.parametrize("observed", [TRUTH, OBSERVED])
def test_inversion_of_expected_data_gives_the_truth(observed):
    made, truth = response(observed=observed), contents()
    found = inverted(made.matrix, made.matrix @ truth, PRIORS["falling"])
    np.testing.assert_allclose(found.content, truth, rtol=1e-9)
    if observed == TRUTH:
        np.testing.assert_allclose(found.by_data, np.linalg.inv(made.matrix), rtol=1e-8, atol=1e-8)


def test_least_squares_is_the_best_linear_unbiased_estimate(data):
    """Gauss and Markov: (P^T V^-1 P)^-1 P^T V^-1 d, with that covariance."""
    made, prior = response(), contents(3)
    variance = made.matrix @ prior
    found = tikhonov.tikhonov(made.matrix, data, variance, prior, 0.0)
    covariance = np.linalg.inv(made.matrix.T @ np.diag(1 / variance) @ made.matrix)
    np.testing.assert_allclose(found.content, covariance @ made.matrix.T @ (data / variance), rtol=1e-8)
    spread = binned.data_covariance(found, variance)
    np.testing.assert_allclose(spread, covariance, rtol=1e-8, atol=1e-8 * covariance.max())


def svd_unfolding(matrix, data, variance, prior, rank=None, strength=None, shift=1e-7):
    """Hoecker and Kartvelishvili's steps as they write them: C made invertible by a small shift, SVD of A C^-1."""
    bins = len(prior)
    bent = np.diag(np.ones(bins - 1), 1) + np.diag(np.ones(bins - 1), -1) - 2 * np.eye(bins)
    bent[0, 0] = bent[-1, -1] = -1
    back = np.linalg.inv(bent + shift * np.eye(bins))
    u, s, vt = np.linalg.svd(matrix * prior / np.sqrt(variance)[:, None] @ back, full_matrices=False)
    strength = s[rank - 1] ** 2 if rank else strength
    z = (u.T @ (data / np.sqrt(variance))) * s / (s**2 + strength)
    return prior * (back @ vt.T @ z), strength


def test_tikhonov_is_svd_unfolding(data):
    made, prior = response(), contents(3)
    variance = made.matrix @ prior
    parts = tikhonov.spectrum(made.matrix, variance, prior)
    for rank in (2, 4, TRUTH):
        theirs, strength = svd_unfolding(made.matrix, data, variance, prior, rank)
        ours = tikhonov.strength_of_rank(parts, rank)
        assert ours == pytest.approx(strength, rel=1e-4)
        found = tikhonov.tikhonov(made.matrix, data, variance, prior, ours).content
        # The shift bends equal numbers by 1e-7, and is divided by in the inverse.
        np.testing.assert_allclose(found, theirs, rtol=1e-4)


def test_tikhonov_between_inversion_and_the_shape_of_the_prior(data):
    made, prior = response(), contents(3)
    variance = made.matrix @ prior
    strong = tikhonov.tikhonov(made.matrix, data, variance, prior, 1e15).content
    folded = made.matrix @ prior
    np.testing.assert_allclose(strong, prior * (folded @ (data / variance)) / (folded @ (folded / variance)), rtol=1e-6)
    weak = tikhonov.tikhonov(made.matrix, data, variance, prior, 1e-9).content
    np.testing.assert_allclose(weak, inverted(made.matrix, data, prior).content, rtol=1e-6)


def test_the_chosen_strength_has_the_least_mean_global_correlation():
    made, prior = response(), contents(3, scale=100)
    variance = made.matrix @ prior
    parts = tikhonov.spectrum(made.matrix, variance, prior)

    def correlation(strength):
        by_data = tikhonov.tikhonov(made.matrix, made.matrix @ prior, variance, prior, strength).by_data
        spread = (by_data * variance) @ by_data.T
        return np.sqrt(1 - 1 / (np.diag(spread) * np.diag(np.linalg.inv(spread)))).mean()

    chosen = tikhonov.strength_of_least_correlation(parts)
    least = correlation(chosen)
    assert parts.strengths[-1] < chosen < parts.strengths[1]
    assert all(least <= correlation(chosen * factor) for factor in (0, 0.1, 0.5, 2, 10))
    assert least < correlation(0) - 0.05


def test_every_method_with_an_identical_response_gives_the_data():
    data, prior = contents(4), contents(5)
    one = np.eye(TRUTH)
    np.testing.assert_allclose(binned.bayes(one, data, prior, 1).content, data)
    np.testing.assert_allclose(binned.bin_by_bin(one, data, prior).content, data)
    np.testing.assert_allclose(inverted(one, data, prior).content, data)


def test_bin_by_bin_is_exact_where_data_are_the_simulation():
    made, truth = response(observed=TRUTH), contents()
    np.testing.assert_allclose(binned.bin_by_bin(made.matrix, made.matrix @ truth, truth).content, truth)
    # And pulled to the simulation where they are not.
    other = binned.bin_by_bin(made.matrix, made.matrix @ truth, np.ones(TRUTH)).content
    assert np.abs(other / truth - 1).max() > 0.05


METHODS = {
    "bayes": lambda matrix, data, prior: binned.bayes(matrix, data, prior, 4),
    "bin by bin": binned.bin_by_bin,
    "inversion": lambda matrix, data, prior: inverted(matrix, data, prior),
    "tikhonov": lambda matrix, data, prior: tikhonov.tikhonov(matrix, data, contents(6), prior, 1.0),
}


@pytest.mark.parametrize("name", METHODS)
def test_covariance_is_that_of_toys(name):
    """Data and simulation scatter; both are large, so that the first order holds."""
    made, rng = response(observed=TRUTH), np.random.default_rng(7)
    method, prior, expected = METHODS[name], contents(3, scale=100), made.matrix @ contents(scale=100)
    number = (100 * made.simulated).astype(int)
    made = made._replace(simulated=number.astype(float))
    nominal = method(made.matrix, expected, prior)
    if name == "inversion":
        # Weights of the fit and the prior are held fixed; of as many bins the inverse depends on neither.
        np.testing.assert_allclose(nominal.content, np.linalg.solve(made.matrix, expected))
    toys = np.array([method(made.matrix, rng.poisson(expected).astype(float), prior).content for _ in range(TOYS)])
    _same_covariance(binned.data_covariance(nominal, expected), toys)
    shares = np.vstack([made.matrix, 1 - made.efficiency]).T
    drawn = [
        (rng.multinomial(number, shares)[:, :-1] / number[:, None]).T  # (observed, truth)
        for _ in range(TOYS)
    ]
    toys = np.array([method(matrix, expected, prior).content for matrix in drawn])
    _same_covariance(binned.response_covariance(nominal, made), toys)


def _same_covariance(stated, toys):
    """Within 5 standard errors: sqrt(2/n) of a variance, at most 1/sqrt(n) of a correlation; 1 % for curvature."""
    found = np.cov(toys.T)
    np.testing.assert_allclose(np.diag(found), np.diag(stated), rtol=5 * np.sqrt(2 / TOYS) + 0.01)
    scale = np.sqrt(np.outer(np.diag(stated), np.diag(stated)))
    np.testing.assert_allclose(found / scale, stated / scale, atol=5 * np.sqrt(2 / TOYS) + 0.01)


def test_poisson_errors_are_those_of_independent_entries():
    made, rng = response(observed=TRUTH), np.random.default_rng(8)
    data, prior = made.matrix @ contents(), contents(3)
    nominal = inverted(made.matrix, data, prior)
    error = 1e-3 * made.matrix
    toys = [inverted(made.matrix + error * rng.standard_normal(error.shape), data, prior).content for _ in range(TOYS)]
    _same_covariance(binned.response_covariance(nominal, made._replace(error=error), "poisson"), np.array(toys))


def test_a_response_from_objects():
    rng = np.random.default_rng(9)
    edges = np.array([0.0, 1.0, 2.0, 4.0])
    x, weight = rng.uniform(-1, 5, 2000), rng.choice([1.0, 1.0, -0.5], 2000)
    y, kept, fake = x + 0.3 * rng.standard_normal(2000), rng.random(2000) < 0.7, rng.uniform(-1, 5, 300)
    cause, effect = bin_of(x, edges), bin_of(y, edges)
    entries = Entries(
        effect[kept], cause[kept], weight[kept], cause[~kept], weight[~kept], bin_of(fake, edges), np.full(300, 2.0)
    )
    made = response_of(entries, (5, 5))
    # Nothing is lost: underflow and overflow are bins.
    assert made.truth.sum() == pytest.approx(weight.sum())
    inf = np.array([-np.inf, *edges, np.inf])
    pairs = np.histogram2d(y[kept], x[kept], (inf, inf), weights=weight[kept])[0]
    every = np.histogram(x, inf, weights=weight)[0]
    np.testing.assert_allclose(made.matrix, pairs / every)
    np.testing.assert_allclose(made.efficiency, np.histogram(x[kept], inf, weights=weight[kept])[0] / every)
    np.testing.assert_allclose(made.simulated, every**2 / np.histogram(x, inf, weights=weight**2)[0])
    fakes, real = np.histogram(fake, inf)[0] * 2.0, pairs.sum(axis=1)
    np.testing.assert_allclose(made.fakes, fakes / (fakes + real))


def test_edges():
    assert bin_of(np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 2.1]), np.array([0.0, 1.0, 2.0])).tolist() == [0, 1, 1, 2, 2, 3]
    values = np.random.default_rng(0).exponential(size=20_000)
    index = bin_of(values, quantile_edges(values, 10))
    np.testing.assert_allclose(np.bincount(index) / 20_000, [0.005, *[0.099] * 10, 0.005], atol=1e-3)
    with pytest.raises(UnfoldingError, match="2 different edges: give the edges"):
        quantile_edges(np.repeat([0.0, 1.0], [400, 600]), 10)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p, d: inverted(np.column_stack([p[:, :-1], p[:, 0]]), d), "condition number .*cannot be inverted"),
        (lambda p, d: inverted(p[:4], d[:4]), "4 observed bins for 8 truth bins"),
        (lambda p, d: binned.bayes(p, d - 2000, np.ones(TRUTH), 2), "data: bin 0 holds -.*matrix-inversion"),
        (lambda p, d: binned.bayes(p - 0.1, d, np.ones(TRUTH), 2), "folded contents: bin .* holds -"),
        (lambda p, d: binned.bayes(p, 0 * d, np.ones(TRUTH), 2), "the data are empty"),
        (lambda p, d: binned.bayes(p * (np.arange(TRUTH) > 2), d, np.ones(TRUTH), 2), "bin 0 is never reconstructed"),
        (lambda p, d: binned.bin_by_bin(p, d, np.ones(TRUTH)), "10 observed and 8 truth bins"),
        (lambda p, d: binned.bin_by_bin(np.diag([1, 0]), d[:2], np.ones(2)), "nothing is simulated in observed bin 1"),
        (lambda p, d: tikhonov.spectrum(p, d, np.arange(TRUTH)), "the prior of bin 0 is not positive"),
    ],
)
def test_what_cannot_be_unfolded_is_said(data, call, said):
    with pytest.raises(UnfoldingError, match=said):
        call(response().matrix, data)


def test_inversion_takes_negative_numbers():
    made, truth = response(observed=TRUTH), contents() * np.where(np.arange(TRUTH) == 3, -1, 1)
    np.testing.assert_allclose(inverted(made.matrix, made.matrix @ truth).content, truth, rtol=1e-9)


def test_truth_bins_without_truth_stay_empty():
    made, prior = response(), contents(3)
    data = made.matrix @ contents()
    without = np.hstack([np.zeros((OBSERVED, 1)), made.matrix])
    found = binned.bayes(without, data, np.append(0.0, prior), 3)
    np.testing.assert_allclose(found.content, np.append(0.0, binned.bayes(made.matrix, data, prior, 3).content))
    assert np.isfinite(found.by_response).all()
