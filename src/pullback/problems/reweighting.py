"""Posterior draws from an independent sample of the truth: it is the prior, the likelihood weights it.

Exact as the sample grows. What it is worth for one event is the effective number of truths, (sum w)^2 / sum w^2: near
one, the answer is a single truth that happens to lie near.
"""

from collections.abc import Callable

import numpy as np

PAIRS = 2_000_000
"""(event, truth) pairs that are weighted together."""


def choose(
    log_likelihood: Callable[[np.ndarray], np.ndarray],
    y: np.ndarray,
    log_weight: np.ndarray,
    draws: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Which truths answer each event.

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
        largest = log_w.max(axis=1, keepdims=True)
        possible = np.isfinite(largest[:, 0])
        weight = np.exp(log_w - np.where(possible[:, None], largest, 0.0))
        edges = np.cumsum(weight, axis=1)
        rows = start + np.flatnonzero(possible)
        ess[rows] = (weight.sum(1) ** 2 / np.maximum((weight**2).sum(1), np.finfo(float).tiny))[possible]
        u = rng.random((len(log_w), draws)) * edges[:, -1:]
        for row in np.flatnonzero(possible):
            index[start + row] = np.searchsorted(edges[row], u[row], side="right")
    return np.minimum(index, len(log_weight) - 1), ess
