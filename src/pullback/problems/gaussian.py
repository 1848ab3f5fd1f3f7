"""The 2-D Gaussian problem: a prior family with one parameter, signal-dependent noise, and a known posterior.

x ~ N(0, [[1, gamma], [gamma, 1]]), y = x M + s |x| eps with M = [[2.2, .5], [.5, 3.2]], eps ~ N(0, I_2) and s = 0.5:
the synthetic experiment of "The Ensemble Inverse Problem" (arXiv 2601.22029), setting A. Its likelihood is

    log p(y|x) = -|y - x M|^2 / (2 s^2 |x|^2) - 2 log(s |x|) - log(2 pi).
"""

from typing import Any, ClassVar

import numpy as np

from pullback.ensembles.fields import Field
from pullback.study.base import Capability
from pullback.study.problems import GaussianProblem, GaussianSimulator

M = np.array([[2.2, 0.5], [0.5, 3.2]])
ROWS = 256


class Gaussian:
    """Prior, forward process, likelihood and posterior in closed form; see the module for the formulas.

    Args:
        options: the ``simulator`` block.
    """

    gives: ClassVar[frozenset[Capability]] = GaussianProblem.gives
    x = Field.vector("x", ("x1", "x2"), "1")
    y = Field.vector("y", ("y1", "y2"), "1")
    block = GaussianProblem.block
    fail = "error"

    def __init__(self, options: GaussianSimulator):
        self.noise = options.noise

    def sample_prior(self, rng: np.random.Generator, n: int, params: dict[str, Any]) -> np.ndarray:
        """Draws (n, 2)."""
        gamma = float(params["gamma"])
        if not -1 <= gamma <= 1:
            raise ValueError(f"gamma is a correlation: found {gamma}, wanted a value in [-1, 1]")
        z = rng.standard_normal((n, 2))
        return np.stack([z[:, 0], gamma * z[:, 0] + np.sqrt(1 - gamma**2) * z[:, 1]], axis=1)

    def forward(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Observations (event, 2); every simulation succeeds."""
        scale = self.noise * np.linalg.norm(x, axis=-1, keepdims=True)
        return x @ M + scale * rng.standard_normal(x.shape), np.ones(len(x), bool)

    def log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y|x), broadcast over the leading axes of y (..., 2) and x (..., 2)."""
        y, x = np.asarray(y, np.float64), np.asarray(x, np.float64)
        variance = self.noise**2 * (x**2).sum(-1)
        return -((y - x @ M) ** 2).sum(-1) / (2 * variance) - np.log(2 * np.pi * variance)

    def pairwise_log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y_i|x_p), (event, particle), of y (event, 2) and x (particle, 2).

        It is linear in (|y|^2, y_1, y_2, 1), so that all pairs are one matrix product.
        """
        y, x = np.asarray(y, np.float64), np.asarray(x, np.float64)
        mean = x @ M
        precision = 1 / (2 * self.noise**2 * (x**2).sum(-1))
        constant = np.log(precision / np.pi) - precision * (mean**2).sum(-1)
        features = np.column_stack([(y**2).sum(-1), y, np.ones(len(y))])
        return features @ np.stack([-precision, *(2 * precision * mean.T), constant])

    def exact_posterior(
        self, y: np.ndarray, params: dict[str, Any], draws: int, pool: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draws (event, draw, 2) by importance resampling from a pool of prior draws.

        Exact as the pool grows. The exponent is linear in (|y|^2, y_1, y_2, 1), so that all events against the whole
        pool are one matrix product.
        """
        x = self.sample_prior(rng, pool, params)
        mean = x @ M
        precision = 1 / (2 * self.noise**2 * (x**2).sum(-1))
        constant = np.log(precision) - precision * (mean**2).sum(-1)
        pooled = np.stack([-precision, 2 * precision * mean[:, 0], 2 * precision * mean[:, 1], constant])
        out = np.empty((len(y), draws, 2), np.float32)
        for start in range(0, len(y), ROWS):
            rows = np.asarray(y[start : start + ROWS], np.float64)
            features = np.column_stack([(rows**2).sum(-1), rows, np.ones(len(rows))])
            logw = features @ pooled
            cumulative = np.cumsum(np.exp(logw - logw.max(axis=1, keepdims=True)), axis=1)
            u = rng.random((len(rows), draws)) * cumulative[:, -1:]
            for row, (edges, values) in enumerate(zip(cumulative, u, strict=True)):
                chosen = np.minimum(np.searchsorted(edges, values, side="right"), pool - 1)
                out[start + row] = x[chosen]
        return out

    def preflight(self) -> dict[str, Any]:
        """The matrix and noise that are used."""
        return {"matrix": M.tolist(), "noise_fraction": self.noise}
