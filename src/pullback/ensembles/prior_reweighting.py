"""Prior augmentation: training ensembles reweighted in x.

Reweighting the pairs (x, y) of one ensemble by any w(x) gives pairs of the prior p(x) w(x) with the same p(y|x): a new
training prior at no cost in simulations, also one beyond the seen families. Here w is a Gaussian window along a random
direction,

    w(x) = exp(-(u.z - m)^2 / (2 tau^2)),   z = x standardised in its ensemble,

which is bounded by 1, so that weights are not concentrated on a few events. It narrows the ensemble along u (and shifts
it for m other than 0); its width is set by the relative effective sample size, (sum w)^2 / (n sum w^2).
"""

import numpy as np

from pullback.core.particles import effective_size, normalise

LEAST_EFFECTIVE = 0.2
"""Least fraction of effective members that a window leaves."""

BISECTIONS = 20


def window(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weights (event,) of a random window over an ensemble, adding up to 1.

    The direction is uniform, the centre at the mean in half of the cases and otherwise a standard normal along u, the
    relative effective sample size log-uniform between `LEAST_EFFECTIVE` and 1.

    Args:
        x: truths of one ensemble (event, feature).
        rng: of the direction, the centre and the fraction.
    """
    spread = x.std(axis=0, dtype=np.float64)
    z = (x - x.mean(axis=0, dtype=np.float64)) / np.where(spread > 0, spread, 1.0)
    u = rng.standard_normal(z.shape[1])
    along = z @ (u / np.linalg.norm(u))
    centre = rng.standard_normal() * rng.integers(2)
    wanted = float(np.exp(rng.uniform(np.log(LEAST_EFFECTIVE), 0.0)))
    squares = (along - centre * along.std()) ** 2
    low, high = -6.0, 6.0  # of log tau: a wider window leaves more
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        left = effective_size(_weights(squares, middle)) / len(squares)
        low, high = (low, middle) if left > wanted else (middle, high)
    return _weights(squares, high)


def _weights(squares: np.ndarray, log_tau: float) -> np.ndarray:
    return normalise(-0.5 * (squares - squares.min()) * np.exp(-2 * log_tau))
