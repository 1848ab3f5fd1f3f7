"""The Gaussian problem in d dimensions: a prior family of few parameters, signal-dependent noise, a known posterior.

    x ~ N(mu, Sigma), Sigma_ij = gamma^|i-j|,    y = x M + s_d |x| eps, eps ~ N(0, I_d), s_d = s sqrt(2 / d)

In two dimensions this is the synthetic experiment of "The Ensemble Inverse Problem" (arXiv 2601.22029): Sigma = [[1,
gamma], [gamma, 1]], M = [[2.2, .5], [.5, 3.2]], s = 0.5; setting A has mu = 0, setting C draws (gamma, mu1, mu2). Other
d are ours: Sigma is that of an autoregression x_i = gamma x_{i-1} + ..., a covariance for every gamma in [-1, 1]; M is
banded, 2.2 and 3.2 by turns on the diagonal and 0.5 beside it (its eigenvalues lie within [1.58, 3.82] for every d);
s_d keeps the noise of one component as large as in two dimensions, for |x|^2 grows as d. The likelihood is

    log p(y|x) = -|y - x M|^2 / (2 v) - d/2 log(2 pi v),    v = s_d^2 |x|^2.

Exact posterior
    With the variance of the noise held at v_k = s_d^2 r_k^2 the posterior would be a Gaussian G_k. Candidates come from
    a mixture of these over radii r_k, and are weighted by posterior / mixture. G_k(x) = p(x) N(y; x M, v_k I) / Z_k(y),
    so the prior cancels: weight = N(y; x M, v) / sum_k (w_k / Z_k) N(y; x M, v_k), a function of |x| and |y - x M|
    only; the proposal stays efficient near |gamma| = 1 and in ten dimensions. Written in coordinates w with
    x = mu + w B and B M (B M)^T = diag(lambda), all G_k are diagonal and need no decomposition of their own.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field as Option
from pydantic import model_validator

from pullback.core.arrays import as_float64, log
from pullback.core.particles import effective_size, invert, relative
from pullback.ensembles.fields import Field
from pullback.problems.closed_form import GaussianMixture
from pullback.problems.linear import Matrix
from pullback.study.base import Number, ends
from pullback.study.kinds import Message, Parameters, SimulatorSettings

if TYPE_CHECKING:
    from pullback.study.model import Problem as StudyProblem

DIAGONAL = (2.2, 3.2)
NEIGHBOUR = 0.5

RADII = 12
PRIOR_SHARE = 0.05
"""Share of the candidates that come from the prior itself: no weight grows without bound far from every radius."""

CANDIDATES = 400_000
"""Candidates that are weighted together."""


def matrix(dimension: int) -> np.ndarray:
    """The symmetric matrix M (d, d)."""
    beside = NEIGHBOUR * (np.eye(dimension, k=1) + np.eye(dimension, k=-1))
    return np.diag(np.resize(DIAGONAL, dimension)) + beside


class GaussianSimulator(SimulatorSettings):
    """y = x M + noise |x| sqrt(2 / d) eps, eps ~ N(0, I_d): signal-dependent noise in d dimensions.

    M is banded: 2.2 and 3.2 by turns on the diagonal, 0.5 beside it; [[2.2, .5], [.5, 3.2]] in two dimensions.
    """

    dimension: int = Option(default=2, ge=1, description="components of x and of y")
    noise: float = Option(
        default=0.5, gt=0, description="noise standard deviation of one component as a fraction of |x| sqrt(2 / d)"
    )


class GaussianParams(Parameters):
    """x ~ N(mu, Sigma), Sigma_ij = gamma^|i-j|. theta of a sweep holds what its `params` give: gamma, mu1, mu2."""

    gamma: Number = Option(description="correlation of neighbouring components, in [-1, 1]")
    mu1: Number = Option(default=0.0, description="mean of x1")
    mu2: Number = Option(default=0.0, description="mean of x2; components from the third on have mean 0")

    @model_validator(mode="after")
    def _is_correlation(self) -> "GaussianParams":
        if not all(-1 <= end <= 1 for end in ends(self.gamma)):
            raise ValueError(f"gamma is a correlation: found {ends(self.gamma)}, wanted values in [-1, 1]")
        return self


class Gaussian:
    """The Gaussian problem with a known posterior; in two dimensions that of the ensemble inverse problem paper.

    Prior, forward process, likelihood and posterior in closed form; see the module for the formulas.

    Args:
        options: the ``simulator`` block.
    """

    Settings = GaussianSimulator
    Params = GaussianParams
    arrays: frozenset[str] = frozenset()
    block = 1000
    fail = "error"
    autograd = True

    def __init__(self, options: GaussianSimulator):
        d = options.dimension
        self.dimension = d
        self.matrix = matrix(d)
        self.noise = options.noise * np.sqrt(2 / d)
        """s_d: standard deviation of the noise of one component as a fraction of |x|."""
        self.x = Field.vector("x", [f"x{i}" for i in range(1, d + 1)], "1")
        self.y = Field.vector("y", [f"y{i}" for i in range(1, d + 1)], "1")

    @cached_property
    def linear(self) -> Matrix:
        """y = x M without its noise."""
        return Matrix(self.matrix.T)

    @staticmethod
    def check(problem: "StudyProblem") -> Iterator[Message]:
        """One dimension has no mu2."""
        for name, family in problem.families.items():
            if problem.simulator.dimension == 1 and "mu2" in family.params:
                yield f"families.{name}.params", "mu2 is the mean of x2, and dimension is 1"

    def mean(self, params: dict[str, Any]) -> np.ndarray:
        """The prior's mean (d,): mu1, mu2, and 0 for further components."""
        mean = np.zeros(max(2, self.dimension))
        mean[:2] = float(params.get("mu1", 0.0)), float(params.get("mu2", 0.0))
        if mean[self.dimension :].any():
            raise ValueError(f"mu2 is the mean of x2: found {mean[1]:g} in {self.dimension} dimension, wanted 0")
        return mean[: self.dimension]

    def from_normals(self, z: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        """The prior's x - mu (..., d) made of standard normals z (..., d): a linear map."""
        gamma = float(params["gamma"])
        if not -1 <= gamma <= 1:
            raise ValueError(f"gamma is a correlation: found {gamma}, wanted a value in [-1, 1]")
        x = np.array(z, np.float64)
        for i in range(1, self.dimension):
            x[..., i] = gamma * x[..., i - 1] + np.sqrt(1 - gamma**2) * x[..., i]
        return x

    def sample_prior(self, rng: np.random.Generator, n: int, params: dict[str, Any]) -> np.ndarray:
        """Draws (n, d)."""
        return self.mean(params) + self.from_normals(rng.standard_normal((n, self.dimension)), params)

    def log_prior(self, x: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        """log p(x) (...,) of x (..., d), by the autoregression; none where |gamma| = 1."""
        (x,) = as_float64(x)
        gamma, off = float(params["gamma"]), x - as_float64(self.mean(params), x)[0]
        step, variance = off[..., 1:] - gamma * off[..., :-1], 1 - gamma**2
        if not variance > 0:
            raise ValueError(f"the prior has a density for |gamma| < 1, found {gamma:g}")
        squared = off[..., 0] ** 2 + (step**2).sum(-1) / variance
        return -squared / 2 - 0.5 * self.dimension * np.log(2 * np.pi) - 0.5 * (self.dimension - 1) * np.log(variance)

    def mixture_prior(self, params: dict[str, Any]) -> GaussianMixture:
        """The prior with these parameters: one Gaussian."""
        root = self.from_normals(np.eye(self.dimension), params)
        return GaussianMixture(np.ones(1), self.mean(params)[None], (root.T @ root)[None])

    def apply(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean x M of the observations (event, d)."""
        return self.linear.apply(x), np.ones(len(x), bool)

    def observe(self, signal: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Observations (event, d). The noise grows with |x|: it has no one covariance, the likelihood knows it."""
        scale = self.noise * np.linalg.norm(x, axis=-1, keepdims=True)
        return signal + scale * rng.standard_normal(x.shape)

    def log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y|x), broadcast over the leading axes of y (..., d) and x (..., d)."""
        y, x = as_float64(y, x)
        variance = self.noise**2 * (x**2).sum(-1)
        squared = ((y - self.linear.apply(x)) ** 2).sum(-1)
        return -squared / (2 * variance) - 0.5 * self.dimension * log(2 * np.pi * variance)

    def pairwise_log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y_i|x_p), (event, particle), of y (event, d) and x (particle, d).

        It is linear in (|y|^2, y, 1), so that all pairs are one matrix product.
        """
        y, x = np.asarray(y, np.float64), np.asarray(x, np.float64)
        mean = x @ self.matrix
        precision = 1 / (2 * self.noise**2 * (x**2).sum(-1))
        constant = 0.5 * self.dimension * np.log(precision / np.pi) - precision * (mean**2).sum(-1)
        features = np.column_stack([(y**2).sum(-1), y, np.ones(len(y))])
        return features @ np.stack([-precision, *(2 * precision * mean.T), constant])

    def exact_posterior(
        self, y: np.ndarray, params: dict[str, Any], draws: int, pool: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws (event, draw, d) and the effective size of one draw's pool (event,); see the module.

        Each draw is chosen by weight from ``pool`` candidates of its own, so that no two are copies. Exact as the pool
        grows.
        """
        mean, root = self.mean(params), self.from_normals(np.eye(self.dimension), params)
        seen = root @ self.matrix
        spectrum, rotation = np.linalg.eigh(seen @ seen.T)
        proposal = (mean, rotation.T @ root, np.maximum(spectrum, 0.0))
        x = np.empty((len(y), draws, self.dimension), np.float32)
        ess = np.empty(len(y))
        step = max(1, CANDIDATES // (draws * pool))
        for start in range(0, len(y), step):
            rows = slice(start, start + step)
            mixture = _Mixture(self, np.asarray(y[rows], np.float64), *proposal)
            candidates, log_weight = mixture.candidates(draws * pool, rng)
            log_weight = log_weight.reshape(-1, draws, pool)
            weight = relative(log_weight)
            ess[rows] = effective_size(weight).mean(axis=1)
            chosen = invert(np.cumsum(weight, axis=-1), rng.random((*weight.shape[:2], 1)))
            pools = candidates.reshape(*weight.shape, self.dimension)
            x[rows] = np.take_along_axis(pools, chosen[..., None], axis=2)[:, :, 0]
        return x, ess

    def preflight(self) -> dict[str, Any]:
        """The matrix and noise that are used."""
        return {"matrix": self.matrix.tolist(), "noise_fraction": self.noise}


class _Mixture:
    """The proposal for some events: posteriors G_k with the noise held at radius r_k, and the prior.

    Args:
        problem: its matrix and noise.
        y: observations (event, d).
        mean: of the prior, (d,).
        basis: B (d, d).
        spectrum: lambda (d,).
    """

    def __init__(self, problem: Gaussian, y: np.ndarray, mean: np.ndarray, basis: np.ndarray, spectrum: np.ndarray):
        self.noise, self.mean, self.basis, self.spectrum = problem.noise, mean, basis, spectrum
        residual = y - mean @ problem.matrix
        self.squared = (residual**2).sum(-1, keepdims=True)
        self.projected = residual @ (basis @ problem.matrix).T
        # |y| / |x| lies between the least and the largest eigenvalue of M, give or take the noise. What is far outside
        # is left to the end points and to the prior.
        eigenvalues = np.linalg.eigvalsh(problem.matrix)
        ratio = np.geomspace(1 / (eigenvalues[-1] + 3 * self.noise * len(mean) ** 0.5), 3 / eigenvalues[0], RADII)
        radius = np.maximum(np.linalg.norm(y, axis=-1, keepdims=True), np.finfo(np.float32).tiny) * ratio
        self.precision = 1 / (self.noise * radius) ** 2
        # log Z_k(y) by Woodbury's formula, (event, radius).
        shrunk = 1 / (1 + self.precision[..., None] * spectrum)
        centre = self.precision[..., None] * self.projected[:, None] * shrunk
        squared = self.squared - (self.projected[:, None] * centre).sum(-1)
        log_evidence = 0.5 * (np.log(self.precision[..., None] * shrunk).sum(-1) - self.precision * squared)
        self.log_share = self._log_density_of_radius(radius, ratio, centre, shrunk)
        share = self.log_share + log_evidence
        largest = share.max(axis=1, keepdims=True)
        self.log_total = largest + np.log(np.exp(share - largest).sum(axis=1, keepdims=True))
        # The prior is the component of precision 0.
        share = np.c_[(1 - PRIOR_SHARE) * np.exp(share - self.log_total), np.full(len(y), PRIOR_SHARE)]
        self.edges = np.cumsum(share, axis=1)
        self.precision_or_none = np.c_[self.precision, np.zeros(len(y))]

    def _log_density_of_radius(
        self, radius: np.ndarray, ratio: np.ndarray, centre: np.ndarray, shrunk: np.ndarray
    ) -> np.ndarray:
        """log of the density of log |x| under G_k at r_k (event, radius), without a constant.

        |x|^2 has a mean and a variance in closed form and is taken as log-normal; widened by the spacing of the radii.
        """
        middle = self.mean + centre @ self.basis
        overlap = self.basis @ self.basis.T
        mean = (middle**2).sum(-1) + shrunk @ np.diag(overlap)
        variance = 4 * (shrunk * (middle @ self.basis.T) ** 2).sum(-1) + 2 * ((shrunk @ overlap**2) * shrunk).sum(-1)
        spread = np.log1p(variance / mean**2)
        offset = np.log(radius**2 / mean) + spread / 2
        spread = spread + (2 * np.log(ratio[1] / ratio[0])) ** 2
        return -0.5 * (offset**2 / spread + np.log(spread))

    def candidates(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Candidates x (event, count, d) and their log weights (event, count), without a constant."""
        events, dimension = self.projected.shape
        # One stratum of the mixture for each candidate, then in random order: pools are alike.
        u = (rng.permuted(np.tile(np.arange(count), (events, 1)), axis=1) + rng.random((events, count))) / count
        component = (u[..., None] > self.edges[:, None, :-1]).sum(-1)
        precision = np.take_along_axis(self.precision_or_none, component, axis=1)[..., None]
        shrunk = 1 / (1 + precision * self.spectrum)
        w = np.sqrt(shrunk) * rng.standard_normal((events, count, dimension))
        w += precision * self.projected[:, None] * shrunk
        x = self.mean + w @ self.basis
        squared = self.squared + np.einsum("eci,eci->ec", w, w * self.spectrum - 2 * self.projected[:, None])
        own = 1 / (self.noise**2 * np.einsum("eci,eci->ec", x, x))
        log_likelihood = 0.5 * (dimension * np.log(own) - own * squared)
        log_components = self.log_share + 0.5 * dimension * np.log(self.precision) - self.log_total
        log_components += np.log1p(-PRIOR_SHARE)
        of_prior = np.log(PRIOR_SHARE)
        terms = [(a[:, None], b[:, None]) for a, b in zip(log_components.T, -0.5 * self.precision.T, strict=True)]
        largest = np.full(squared.shape, of_prior)
        for constant, slope in terms:
            np.maximum(largest, constant + slope * squared, out=largest)
        total = np.exp(of_prior - largest)
        for constant, slope in terms:
            total += np.exp(constant + slope * squared - largest)
        return x, log_likelihood - largest - np.log(total)
