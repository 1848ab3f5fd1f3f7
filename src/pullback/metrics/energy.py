"""The energy score of draws, the multivariate CRPS (Gneiting and Raftery 2007, eq. 22).

    ES = E|X - x| - E|X - X'| / 2

for a truth x and independent draws X, X', in the Euclidean norm on the common scale of `pullback.metrics.sample.Space`.
It is a proper scoring rule: the exact posterior minimises its expectation, so the excess of a method is a distance
between posteriors, not between marginals.

The second mean is over pairs of different draws and so unbiased for a finite number of them: all pairs, or above
`ALL_PAIRS` draws those that stand at most `SHIFTS` places apart in the (independent) draws, which is also unbiased and
keeps the work of an event proportional to its draws.
"""

import numpy as np

from pullback.metrics.metric import Metric, Scores
from pullback.metrics.sample import Sample, Space

ALL_PAIRS = 64
SHIFTS = 32

MOST_DIFFERENCES = 16
"""With more components distances come from a matrix product instead of from differences."""

CACHED = 16_384
"""Draws of a block of events: small enough for the processor's cache."""

GRAM_VALUES = 4_000_000
"""Numbers in the products of a block of events."""


def energy_scores(sample: Sample) -> np.ndarray:
    """Energy score of each event of a sample with at least two draws, (event,), in the unit of its space.

    Each failed draw's share of the score is the distance from the truth to the farthest corner of the range, as in the
    CRPS.
    """
    truth, space = sample.known
    error = np.einsum("ed,ed->e", sample.vote, _norm(space.difference(sample.x, truth[:, None]), space))
    spread = _spread(sample.x, sample.vote, space)
    success = sample.ok.mean(axis=1)
    worst = _norm(space.difference(space.farthest(truth), truth), space)
    return success * (error - 0.5 * spread) + (1 - success) * worst


def _rows(sample: Sample) -> Scores:
    if sample.point_estimate or sample.x.shape[1] < 2:
        return {}
    return {"energy_score": (energy_scores(sample), sample.known[1].unit)}


ENERGY_SCORE = Metric(
    "energy_score",
    "Energy score",
    "distance of all draws of an event from its truth, components together",
    "lower",
    compute=_rows,
)


def _norm(difference: np.ndarray, space: Space) -> np.ndarray:
    return np.linalg.norm(difference.astype(np.float64) / space.scale, axis=-1)


def _spread(x: np.ndarray, vote: np.ndarray, space: Space) -> np.ndarray:
    """Weighted mean distance between different draws, (event,)."""
    if x.shape[1] <= ALL_PAIRS and x.shape[2] > MOST_DIFFERENCES and not space.periodic.any():
        return _spread_by_product(x, vote, space)
    found = np.empty(len(x))
    step = max(1, CACHED // x.shape[1])
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        found[rows] = _spread_by_shifts(x[rows], vote[rows], space)
    return found


def _spread_by_shifts(x: np.ndarray, vote: np.ndarray, space: Space) -> np.ndarray:
    draws = x.shape[1]
    # Twice each, so that a shift is a view; the component first, since long rows are quick.
    columns = [np.tile(x[..., j].astype(np.float64) / space.scale[j], 2) for j in range(x.shape[2])]
    twice = np.tile(vote, 2)
    sums, weights = np.zeros(len(x)), np.zeros(len(x))
    for shift in range(1, (draws // 2 if draws <= ALL_PAIRS else SHIFTS) + 1):
        squares = np.zeros(vote.shape)
        for j, column in enumerate(columns):
            gap = column[:, :draws] - column[:, shift : shift + draws]
            if space.periodic[j]:
                turn = 2 * np.pi / space.scale[j]
                gap -= turn * np.round(gap / turn)
            gap *= gap
            squares += gap
        pair = vote * twice[:, shift : shift + draws]
        # Half-way round, every pair comes twice.
        share = 0.5 if 2 * shift == draws else 1.0
        np.sqrt(squares, out=squares)
        sums += share * np.einsum("ed,ed->e", pair, squares)
        weights += share * pair.sum(axis=1)
    return sums / np.where(weights > 0, weights, 1.0)


def _spread_by_product(x: np.ndarray, vote: np.ndarray, space: Space) -> np.ndarray:
    """The same for arrays: |a - b|^2 = |a|^2 + |b|^2 - 2 a b, of values about the event's mean."""
    found = np.empty(len(x))
    step = max(1, GRAM_VALUES // (x.shape[1] * (x.shape[1] + x.shape[2])))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        values = x[rows].astype(np.float64) / space.scale
        values -= values.mean(axis=1, keepdims=True)
        square = np.einsum("edf,edf->ed", values, values)
        gram = values @ values.transpose(0, 2, 1)
        distance = np.sqrt(np.maximum(square[:, :, None] + square[:, None] - 2 * gram, 0.0))
        share = vote[rows]
        pairs = 1 - (share**2).sum(axis=1)
        itself = np.einsum("ed,ed->e", share**2, np.einsum("edd->ed", distance))
        both = np.einsum("ed,edc,ec->e", share, distance, share) - itself
        found[rows] = both / np.where(pairs > 1e-12, pairs, 1.0)
    return found
