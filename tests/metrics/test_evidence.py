"""The error of an estimated evidence: small for a Monte Carlo sum over the prior, infinite where nothing was left."""

from types import SimpleNamespace

import numpy as np
import pytest

from pullback.metrics.bootstrap import Replicas
from pullback.metrics.evidence import evidence_rows
from pullback.problems.base import simulate
from pullback.study.problem_kind import problem_kind

PROBLEM = problem_kind("gaussian-mixture").build({})
EVENTS, TRUTHS = 40, 50_000
_RNG = np.random.default_rng(0)
Y = simulate(PROBLEM, PROBLEM.sample_prior(_RNG, EVENTS, {}), _RNG)[0]


def rows_of(estimates, problem=PROBLEM):
    answers = SimpleNamespace(
        exact=SimpleNamespace(n=EVENTS, y=Y), problem=problem,
        case=SimpleNamespace(params={}, replicas=lambda n: Replicas(np.arange(n), 200, np.random.default_rng(0))),
        posterior=SimpleNamespace(n=EVENTS, diagnostic_values={"log_evidence": estimates}),
    )  # fmt: skip
    return list(evidence_rows(answers))


def monte_carlo():
    """log of the mean over truths of the density N(y; x, 0.8^2)."""
    x = PROBLEM.sample_prior(np.random.default_rng(1), TRUTHS, {})[:, 0]
    density = np.exp(-((Y[:, :1] - x) ** 2) / (2 * 0.8**2)) / np.sqrt(2 * np.pi * 0.8**2)
    return np.log(density.mean(axis=1))


def test_a_sum_over_the_prior_finds_the_evidence():
    log_z = monte_carlo()
    (row,) = rows_of(dict(enumerate(log_z)))
    # The relative variance of the density is below 20 for every y here: sqrt(20 / TRUTHS) = .02.
    assert 0 < row.low < row.value < row.high < 0.02
    (moved,) = rows_of(dict(enumerate(log_z + 1.5)))
    assert moved.value == pytest.approx(1.5, abs=0.02)


def test_an_event_without_particles_left_counts():
    (row,) = rows_of({**dict(enumerate(monte_carlo())), 3: -np.inf})
    assert row.value == np.inf


def test_there_is_no_row_without_an_estimate_of_each_event_or_an_exact_one():
    assert not rows_of({})
    assert not rows_of(dict(enumerate(monte_carlo()[:-1])))
    assert not rows_of(dict(enumerate(monte_carlo())), problem=object())
