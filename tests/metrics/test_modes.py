"""Probabilities of the modes of a posterior: exact draws reach the closed form, others miss by what they lost."""

from types import SimpleNamespace

import numpy as np
import pytest

from pullback.metrics.bootstrap import Replicas
from pullback.metrics.modes import mode_rows, mode_weights
from pullback.metrics.sample import Sample
from pullback.problems.base import simulate
from pullback.study.problem_kind import problem_kind

PROBLEM = problem_kind("gaussian-mixture").build({})
EVENTS, DRAWS = 60, 400


def test_the_probability_of_a_mode_is_the_share_of_draws_where_modes_are_apart():
    prior = problem_kind("gaussian-mixture").build({"means": [[-50], [0], [50]]}).mixture_prior({})
    draws = np.repeat([[[-50.1]], [[0.2]], [[49.0]]], [1, 2, 1], axis=0).reshape(1, 4, 1)
    for weights, wanted in ((None, [0.25, 0.5, 0.25]), ([[0.5, 0.1, 0.4, 0.0]], [0.5, 0.5, 0.0])):
        found = mode_weights(prior, Sample.of_arrays(draws, np.zeros((1, 1)), weights))
        np.testing.assert_allclose(found, [wanted], atol=1e-12)


def row_of(draws):
    """The row for draws (event, draw, 1) of observations of the lecture's problem."""
    exact = SimpleNamespace(n=EVENTS, y=Y, sample=lambda n, m, name: of(posterior(m, 7)[:n]))
    case = SimpleNamespace(params={}, replicas=lambda n: Replicas(np.arange(n), 200, np.random.default_rng(0)))
    answers = SimpleNamespace(
        exact=exact, problem=PROBLEM, case=case, posterior=SimpleNamespace(n=EVENTS, draws=draws.shape[1]),
        sample=lambda start, stop, uniform: of(draws[start:stop]),
    )  # fmt: skip
    (row,) = mode_rows(answers)
    return row


def of(x):
    return Sample.of_arrays(x, np.zeros((len(x), 1)))


def posterior(draws, seed):
    return PROBLEM.exact_posterior(Y, {}, draws, 1, np.random.default_rng(seed))[0]


_RNG = np.random.default_rng(0)
Y = simulate(PROBLEM, PROBLEM.sample_prior(_RNG, EVENTS, {}), _RNG)[0]


def test_exact_draws_have_the_error_of_their_floor():
    row = row_of(posterior(DRAWS, 1))
    # Half the sum of three absolute errors, each at most sqrt(1/4 / DRAWS) = 0.025 in standard deviation.
    assert row.low < row.value < row.high < 1.5 * 0.025
    assert row.value == pytest.approx(row.floor, rel=0.3)


def test_a_sampler_that_stays_in_the_likeliest_mode_misses_the_others():
    weights = PROBLEM.mode_weights(Y, {})
    found = PROBLEM.posterior(Y, {})
    best = weights.argmax(axis=1)
    mean, rng = found.mean[np.arange(EVENTS), best], np.random.default_rng(2)
    deviation = np.sqrt(found.covariance[best, 0])
    draws = (mean + deviation * rng.standard_normal((EVENTS, DRAWS)))[..., None]
    # Total variation from one mode is the weight of the others, up to how far modes overlap.
    wanted = (1 - weights.max(axis=1)).mean()
    row = row_of(draws)
    assert row.low > row.floor
    assert row.value == pytest.approx(wanted, rel=0.3)
