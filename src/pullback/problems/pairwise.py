"""The likelihood of every pair of an observation and a truth."""

import math
from collections.abc import Callable

import numpy as np

from pullback.problems.base import Problem

VALUES = 1 << 24
"""Numbers that a likelihood without a fast form broadcasts at once: 128 MB in float64."""

LogLikelihood = Callable[[np.ndarray], np.ndarray]
"""Observations y (event, *y) -> log p(y_i|x_p) (event, particle), of particles that it was made for."""


def exact(problem: Problem, x: np.ndarray) -> LogLikelihood:
    """The problem's own likelihood of particles x (particle, *x), by `pairwise_log_likelihood` where it has one."""
    pairwise = getattr(problem, "pairwise_log_likelihood", None)
    if pairwise is not None:
        return lambda y: pairwise(y, x)

    def of(y: np.ndarray) -> np.ndarray:
        rows = max(1, VALUES // max(x.size, len(x) * math.prod(y.shape[1:])))
        starts = range(0, max(1, len(y)), rows)
        return np.concatenate([problem.log_likelihood(y[i : i + rows, None], x[None]) for i in starts])

    return of
