"""Weighted particles: normalised weights, effective sample size, log evidence and resampling.

A sample {x_i} with log weights {l_i} represents the distribution sum_i W_i delta(x - x_i), W_i = exp(l_i) / sum_j
exp(l_j). A log weight of -inf is a dead particle; a sample whose particles are all dead has weights 0, an effective
size of 0 and a log evidence of -inf. Particles are the last axis; leading axes are samples of their own.

The four resamplers return each particle N W_i times on average. They differ in the variance of that number, from
multinomial (largest) to systematic: Douc, Cappe and Moulines 2005, "Comparison of resampling schemes for particle
filtering"; Li, Bolic and Djuric 2015, IEEE Signal Processing Magazine 32(3).
"""

from typing import Literal

import numpy as np

Resampling = Literal["multinomial", "stratified", "systematic", "residual"]


def relative(log_weight: np.ndarray) -> np.ndarray:
    """Weights (..., particle) in units of each sample's largest, float64; 0 where all particles are dead."""
    log_weight = np.asarray(log_weight, np.float64)
    return np.exp(log_weight - _largest(log_weight))


def normalise(log_weight: np.ndarray) -> np.ndarray:
    """Weights W (..., particle) with sum 1, float64; 0 where all particles are dead."""
    weight = relative(log_weight)
    # The largest weight of a sample that is alive is 1, so that its sum is at least 1.
    return weight / np.maximum(weight.sum(axis=-1, keepdims=True), 1.0)


def log_evidence(log_weight: np.ndarray) -> np.ndarray:
    """log of the mean weight (...), the estimate of log Z where weights are target over proposal; -inf if all dead."""
    log_weight = np.asarray(log_weight, np.float64)
    largest = _largest(log_weight)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(log_weight - largest).mean(axis=-1)) + largest[..., 0]


def _largest(log_weight: np.ndarray) -> np.ndarray:
    # Where all are -inf a finite number in its place leaves them so.
    return np.maximum(log_weight.max(axis=-1, keepdims=True), np.finfo(np.float64).min)


def effective_size(weight: np.ndarray) -> np.ndarray:
    """Kish's effective sample size (sum W)^2 / sum W^2 (...) of weights (..., particle) that need no normalisation.

    In the precision of the weights; 0 where all are 0.
    """
    largest = weight.max(axis=-1, keepdims=True)
    # Squares of small numbers are 0 in single precision.
    weight = weight / np.where(largest > 0, largest, np.ones_like(largest))
    squares = np.vecdot(weight, weight)
    return weight.sum(axis=-1) ** 2 / np.where(squares > 0, squares, 1)


def freedom(weight: np.ndarray, axis: int = -1) -> np.ndarray:
    """1 - sum W^2 along an axis of weights with sum 1: a mean square from the mean over this is unbiased.

    1 - 1/N of N equal weights; 1 where one particle has all the weight, which has no spread.
    """
    rest = 1 - np.square(weight).sum(axis=axis)
    return np.where(rest > 1e-12, rest, 1.0)


def invert(edges: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Particles (..., draw) at the levels u of cumulated weights: the smallest i with u < edges_i / edges_last.

    Args:
        edges: cumulated weights (..., particle), which need no normalisation.
        u: levels in [0, 1], (..., draw).
    """
    level = u * edges[..., -1:]
    if edges.ndim == 1:
        found = np.searchsorted(edges, level, side="right")
    elif level.shape[-1] == 1:
        found = (edges <= level).sum(axis=-1, keepdims=True)
    else:
        rows = zip(edges.reshape(-1, edges.shape[-1]), level.reshape(-1, level.shape[-1]), strict=True)
        found = np.stack([np.searchsorted(*row, side="right") for row in rows]).reshape(level.shape)
    return np.minimum(found, edges.shape[-1] - 1)


def resample(weight: np.ndarray, draws: int, rng: np.random.Generator, kind: Resampling = "systematic") -> np.ndarray:
    """Indices (draw,) of particles drawn by their weights; particle i comes draws * W_i times on average.

    - ``multinomial``: independent draws.
    - ``stratified``: one draw in each of ``draws`` equal parts of the cumulated weight.
    - ``systematic``: the same with one uniform number for all parts: floor(N W_i) or ceil(N W_i) copies of each where
      weights of neighbouring particles are summed, too.
    - ``residual``: floor(N W_i) copies of each, the others multinomial from what is left.

    Args:
        weight: (particle,), not negative, at least one positive; they need no normalisation.
        draws: N.
        rng: for the uniform numbers.
        kind: of resampling.
    """
    if kind == "residual":
        expected = draws * np.asarray(weight, np.float64) / weight.sum(dtype=np.float64)
        copies = np.floor(expected).astype(np.int64)
        kept = np.repeat(np.arange(len(weight)), copies)
        if len(kept) == draws:
            return kept
        return np.concatenate([kept, resample(expected - copies, draws - len(kept), rng, "multinomial")])
    if kind == "multinomial":
        u = rng.random(draws)
    else:
        u = (rng.random(draws if kind == "stratified" else None) + np.arange(draws)) / draws
    return invert(np.cumsum(weight, dtype=np.float64), u)


def effective_copies(weight: np.ndarray) -> np.ndarray:
    """Copies (..., particle) float64 of the particles, as many as are effective (rounded down) and at least one.

    Systematic resampling at the middle of each part; the order of the particles should be random. None where all
    weights are 0.
    """
    edges = np.cumsum(weight, axis=-1, dtype=np.float64)
    total = edges[..., -1:]
    # A sum of equal weights is rounded: 1e-9 below a whole number is that number.
    number = np.maximum(np.floor(effective_size(weight) + 1e-9), 1.0)[..., None]
    return np.diff(np.floor(edges / np.where(total > 0, total, 1.0) * number + 0.5), axis=-1, prepend=0.0)
