"""Importance sampling with an independent sample of the truth as the prior, weighted by the likelihood.

Exact as the sample grows. Its quality for one event is the effective sample size, (sum w)^2 / sum w^2; near one, all
draws are copies of a single truth.
"""

import math
from collections.abc import Callable

import numpy as np

from pullback.core.particles import effective_size, invert, relative
from pullback.problems.base import Problem

VALUES = 1 << 24
"""Numbers that a likelihood without a fast form broadcasts at once: 128 MB in float64."""

PAIRS = 250_000
"""(event, truth) pairs that are weighted together: what fits into a cache."""

NEGLIGIBLE = -50.0
"""A log weight this far below the largest counts as none; computing such small numbers is slow."""

LogLikelihood = Callable[[np.ndarray], np.ndarray]
"""Observations y (event, *y) -> log p(y_i|x_p) (event, particle), of particles that it was made for."""


def pairwise(problem: Problem, x: np.ndarray) -> LogLikelihood:
    """The problem's own likelihood of particles x (particle, *x), by `pairwise_log_likelihood` where it has one."""
    own = getattr(problem, "pairwise_log_likelihood", None)
    if own is not None:
        return lambda y: own(y, x)

    def of(y: np.ndarray) -> np.ndarray:
        rows = max(1, VALUES // max(x.size, len(x) * math.prod(y.shape[1:])))
        starts = range(0, max(1, len(y)), rows)
        return np.concatenate([problem.log_likelihood(y[i : i + rows, None], x[None]) for i in starts])

    return of


def choose(
    log_likelihood: LogLikelihood,
    y: np.ndarray,
    log_weight: np.ndarray,
    draws: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw truths for each event by weight.

    Args:
        log_likelihood: of some observations (event, *y) for all truths, (event, truth).
        y: observations (event, *y).
        log_weight: of each truth (truth,); minus infinity takes one out.
        draws: of each event, with replacement.
        rng: for the choice.

    Returns:
        Indices of truths (event, draw), -1 where no truth can have made the observation; the effective number of truths
        of each event (event,).
    """
    index = np.full((len(y), draws), -1)
    ess = np.zeros(len(y))
    step = max(1, PAIRS // len(log_weight))
    for start in range(0, len(y), step):
        log_w = log_likelihood(y[start : start + step]) + log_weight
        largest = log_w.max(axis=1)
        u = rng.random((len(log_w), draws))
        for row in np.flatnonzero(np.isfinite(largest)):
            near = np.flatnonzero(log_w[row] > largest[row] + NEGLIGIBLE)
            weight = relative(log_w[row, near])
            ess[start + row] = effective_size(weight)
            index[start + row] = near[invert(np.cumsum(weight), u[row])]
    return index, ess
