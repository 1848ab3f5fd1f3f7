"""The mean distance between two draws of a posterior: what CRPS and energy score take off for a posterior's width."""

import numpy as np

from pullback.core.particles import effective_size, invert

ALL_PAIRS = 64
"""Up to so many draws all pairs are used."""

SHIFTS = 32
"""Of more draws of equal weight each is paired with so many others, spread over all of them."""

PAIRS = 1024
"""Pairs of more draws of unequal weights, at least 2 for each draw."""

LEAST_EFFECTIVE = 2.0
"""With a smaller effective number of draws no spread is known: the draws are scored as a point."""

MOST_DIFFERENCES = 16
"""With more components distances come from a matrix product instead of from differences."""

CACHED = 16_384
"""Draws of a block of events: small enough for the processor's cache."""

GRAM_VALUES = 4_000_000
"""Numbers in the products of a block of events."""

GOLDEN = (np.sqrt(5) - 1) / 2


def has_spread(vote: np.ndarray) -> np.ndarray:
    """Whether weights of draws (event, draw) with sum 1 leave at least two effective draws, (event,)."""
    # Two equal weights are two draws, whatever the last bit says.
    found: np.ndarray = effective_size(vote) > LEAST_EFFECTIVE - 1e-6
    return found


def pair_distance(x: np.ndarray, vote: np.ndarray, scale: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    """Mean distance of two different draws, E|X - X'|, (event,) float64; 0 where no spread is known.

    Pairs have the product of their weights, so that the mean is unbiased for equal weights and that of the weighted
    draws for others. All pairs up to `ALL_PAIRS` draws. Of more draws some pairs, evenly spread over all, so that the
    order of draws does not matter (sorted ones, a Markov chain); of unequal weights pairs are chosen by them, at the
    points of a lattice in the unit square.

    Args:
        x: (event, draw, component).
        vote: weights (event, draw) with sum 1, 0 for a draw that has no part.
        scale: what components are divided by, (component,).
        periodic: which components are angles in radians, (component,): their distance is that along the arc.
    """
    if x.shape[1] > ALL_PAIRS and not (vote == vote[:, :1]).all():
        found, step = _of_some_pairs, max(1, GRAM_VALUES // (_pairs(x.shape[1]) * x.shape[2]))
    elif x.shape[1] <= ALL_PAIRS and x.shape[2] > MOST_DIFFERENCES and not periodic.any():
        found, step = _by_product, max(1, GRAM_VALUES // (x.shape[1] * (x.shape[1] + x.shape[2])))
    else:
        found, step = _by_shifts, max(1, CACHED // x.shape[1])
    out = np.empty(len(x))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        out[rows] = found(x[rows], vote[rows], scale, periodic)
    return np.where(has_spread(vote), out, 0.0)


def _pairs(draws: int) -> int:
    return max(PAIRS, 2 * draws)


def _of_some_pairs(x: np.ndarray, vote: np.ndarray, scale: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    number = _pairs(x.shape[1])
    points = (np.arange(number) + 0.5) / number
    lattice = points, np.mod(number * points * GOLDEN, 1.0)
    edges = np.cumsum(vote, axis=1)
    i, j = (invert(edges, np.broadcast_to(level, (len(edges), number))) for level in lattice)
    event = np.arange(len(x))[:, None]
    gap = x[event, i].astype(np.float64)
    gap -= x[event, j]
    _shorten(gap, periodic)
    gap /= scale
    distance = np.sqrt(np.einsum("epd,epd->ep", gap, gap))
    different = i != j
    return (distance * different).sum(axis=1) / np.maximum(different.sum(axis=1), 1)


def _shorten(gap: np.ndarray, periodic: np.ndarray) -> None:
    """Differences of angles (..., component) to the nearest turn, in place."""
    if periodic.any():
        angle = gap[..., periodic]
        gap[..., periodic] = angle - 2 * np.pi * np.round(angle / (2 * np.pi))


def _by_shifts(x: np.ndarray, vote: np.ndarray, scale: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    draws = x.shape[1]
    # Twice each, so that a shift is a view; the component first, since long rows are quick.
    columns = [np.tile(x[..., j].astype(np.float64) / scale[j], 2) for j in range(x.shape[2])]
    twice = np.tile(vote, 2)
    sums, weights = np.zeros(len(x)), np.zeros(len(x))
    shifts = np.arange(1, draws // 2 + 1)
    if draws > ALL_PAIRS:
        shifts = shifts[((np.arange(SHIFTS) + 0.5) * len(shifts) / SHIFTS).astype(int)]
    for shift in shifts:
        squares = np.zeros(vote.shape)
        for j, column in enumerate(columns):
            gap = column[:, :draws] - column[:, shift : shift + draws]
            if periodic[j]:
                turn = 2 * np.pi / scale[j]
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


def _by_product(x: np.ndarray, vote: np.ndarray, scale: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    """The same for arrays: |a - b|^2 = |a|^2 + |b|^2 - 2 a b, of values about the event's mean."""
    values = x.astype(np.float64) / scale
    values -= values.mean(axis=1, keepdims=True)
    square = np.einsum("edf,edf->ed", values, values)
    gram = values @ values.transpose(0, 2, 1)
    distance = np.sqrt(np.maximum(square[:, :, None] + square[:, None] - 2 * gram, 0.0))
    pairs = 1 - (vote**2).sum(axis=1)
    itself = np.einsum("ed,ed->e", vote**2, np.einsum("edd->ed", distance))
    both = np.einsum("ed,edc,ec->e", vote, distance, vote) - itself
    return both / np.where(pairs > 1e-12, pairs, 1.0)
