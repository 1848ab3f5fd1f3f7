"""All pairs of observations and truths: the fast form where there is one, else in pieces of bounded size."""

import numpy as np
import pytest

from pullback.problems import reweighting
from pullback.problems.base import simulate
from pullback.problems.gaussian import Gaussian, GaussianSimulator
from pullback.problems.true_prior import ByTruth


class Images:
    """y = x + eps, pixel by pixel; it counts the numbers that one call broadcasts."""

    most = 0

    def log_likelihood(self, y, x):
        error = (y - x) ** 2
        self.most = max(self.most, error.size)
        return -0.5 * error.sum((-2, -1))


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.standard_normal((30, 8, 8)), rng.standard_normal((40, 8, 8))


def test_pairs_of_arrays_are_computed_in_pieces(images, monkeypatch):
    y, x = images
    wanted = Images().log_likelihood(y[:, None], x)
    monkeypatch.setattr(reweighting, "VALUES", 3 * x.size)
    problem = Images()
    np.testing.assert_array_equal(reweighting.pairwise(problem, x)(y), wanted)
    assert problem.most == 3 * x.size
    assert reweighting.pairwise(problem, x)(y[:0]).shape == (0, 40)
    # At least one event at a time, whatever its size.
    monkeypatch.setattr(reweighting, "VALUES", 1)
    np.testing.assert_array_equal(reweighting.pairwise(problem, x)(y), wanted)


def test_truth_that_stands_for_a_prior_is_weighed_in_pieces(images, monkeypatch):
    y, x = images
    problem = Images()
    drawn = [ByTruth(problem, x, np.zeros(40)).draw(y, 5, np.random.default_rng(1))[0]]
    assert problem.most == 30 * x.size
    monkeypatch.setattr(reweighting, "VALUES", 3 * x.size)
    problem = Images()
    drawn.append(ByTruth(problem, x, np.zeros(40)).draw(y, 5, np.random.default_rng(1))[0])
    assert problem.most == 3 * x.size
    np.testing.assert_array_equal(*drawn)


def test_a_fast_form_is_used():
    problem = Gaussian(GaussianSimulator())
    x = problem.sample_prior(np.random.default_rng(0), 5, {"gamma": 0.5})
    y, _ = simulate(problem, x, np.random.default_rng(1))
    np.testing.assert_array_equal(reweighting.pairwise(problem, x)(y), problem.pairwise_log_likelihood(y, x))
