"""Efficiency P(recorded | x): a logistic regression on recorded truths and misses of the seen families."""

import numpy as np

ITERATIONS = 50
RIDGE = 1e-3
"""Penalty of the squared coefficients, as of so many events: those of a quantity that decides alone stay finite."""


def features(z: np.ndarray) -> np.ndarray:
    """1, the standardised quantities z (event, d), and all their products, (event, feature)."""
    z = np.asarray(z, np.float64)
    a, b = np.triu_indices(z.shape[1])
    return np.concatenate([np.ones((len(z), 1)), z, z[:, a] * z[:, b]], axis=1)


def fit_efficiency(recorded: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """Coefficients of log-odds quadratic in z, by Newton's method on the likelihood (iteratively reweighted squares).

    Events count equally: their weights say how often x occurs, not how often it is recorded.

    Args:
        recorded, missed: standardised truths (event, d).
    """
    f = features(np.concatenate([recorded, missed]))
    found = np.concatenate([np.ones(len(recorded)), np.zeros(len(missed))])
    beta = np.zeros(f.shape[1])
    for _ in range(ITERATIONS):
        p = _logistic(f @ beta)
        gradient = f.T @ (found - p) - RIDGE * beta
        curvature = (f * (p * (1 - p))[:, None]).T @ f + RIDGE * np.eye(len(beta))
        step = np.linalg.solve(curvature, gradient)
        # Newton's step is too long where nearly all events lie on one side: it is bounded.
        beta = beta + step / max(1.0, np.abs(step).max() / 2)
        if np.abs(step).max() < 1e-8:
            break
    return beta


def efficiency(z: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """P(recorded | x) (event,) at standardised truths z (event, d)."""
    return _logistic(features(z) @ beta)


def _logistic(value: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * value))
