"""Linear observations of Gaussian mixtures in d dimensions: everything is known in closed form.

    x ~ sum_k w_k N(m_k, C_k),    y = A x + s eps,    eps ~ N(0, I)

With S_k = A C_k A^T + s^2 I and K_k = C_k A^T S_k^-1 the posterior is a mixture again, with

    weights proportional to w_k N(y; A m_k, S_k),  means m_k + K_k (y - A m_k),  covariances (I - K_k A) C_k,

and log p(y) = log sum_k w_k N(y; A m_k, S_k). The problem kind `linear-gaussian` has one component; `mixture`
(`pullback.problems.mixture`) has several.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field as Option
from pydantic import model_validator

from pullback.core.arrays import as_float64, like, logsumexp
from pullback.ensembles.fields import Field
from pullback.problems.linear import Matrix
from pullback.study.base import Number, ends
from pullback.study.kinds import Message, Parameters, SimulatorSettings

if TYPE_CHECKING:
    from pullback.study.model import Problem as StudyProblem


class GaussianMixture(NamedTuple):
    """sum_k w_k N(m_k, C_k): weights (..., component), means (..., component, d), covariances (component, d, d)."""

    weight: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray

    def log_components(self, x: Any) -> Any:
        """log w_k N(x; m_k, C_k) (..., component) of x (..., d), array or tensor, float64."""
        root = np.linalg.cholesky(self.covariance)
        whiten = np.linalg.inv(root)
        with np.errstate(divide="ignore"):
            constant = np.log(self.weight) - np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(-1)
        white = (like(whiten, x) @ (x[..., None, :] - like(self.mean, x))[..., None])[..., 0]
        return like(constant - 0.5 * x.shape[-1] * np.log(2 * np.pi), x) - (white**2).sum(-1) / 2

    def log_density(self, x: Any) -> Any:
        """log p(x) (...,)."""
        return logsumexp(self.log_components(x))

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draws (..., n, d), n of each mixture."""
        edges = np.cumsum(self.weight, axis=-1)[..., None, :-1]
        component = (rng.random((*self.weight.shape[:-1], n, 1)) > edges).sum(-1)
        z = rng.standard_normal((*component.shape, self.mean.shape[-1]))
        # In this form a covariance may be singular.
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0))[..., None, :]
        mean = np.take_along_axis(self.mean, component[..., None], axis=-2)
        return mean + (root[component] @ z[..., None])[..., 0]

    def observed_through(self, matrix: np.ndarray, noise: float) -> "GaussianMixture":
        """The mixture of y = A x + noise eps."""
        covariance = matrix @ self.covariance @ matrix.T + noise**2 * np.eye(len(matrix))
        return GaussianMixture(self.weight, self.mean @ matrix.T, covariance)

    def posterior(self, y: np.ndarray, matrix: np.ndarray, noise: float) -> "GaussianMixture":
        """p(x|y) for each y (event, component of y): a mixture with a leading event axis."""
        evidence = self.observed_through(matrix, noise)
        log_share = evidence.log_components(y)
        gain = np.swapaxes(np.linalg.solve(evidence.covariance, matrix @ self.covariance), -1, -2)
        mean = self.mean + (gain @ (y[:, None] - evidence.mean)[..., None])[..., 0]
        covariance = self.covariance - gain @ matrix @ self.covariance
        return GaussianMixture(np.exp(log_share - logsumexp(log_share)[:, None]), mean, covariance)


class LinearSimulator(SimulatorSettings):
    """y = A x + noise eps, eps ~ N(0, I), of x ~ N(mean, covariance)."""

    mean: list[float] = Option(default=[0.5, -1.0], min_length=1, description="of the prior, one for each component")
    covariance: list[list[float]] = Option(default=[[1.0, 0.6], [0.6, 2.0]], description="of the prior, row by row")
    matrix: list[list[float]] = Option(
        default=[[1.0, 0.5]], min_length=1, description="A, row by row: one row for each component of y"
    )
    noise: float = Option(default=0.4, gt=0, description="standard deviation of the noise of each component of y")

    @model_validator(mode="after")
    def _fit(self) -> "LinearSimulator":
        d, covariance = len(self.mean), self.covariance
        if [len(row) for row in covariance] != [d] * d:
            raise ValueError(f"covariance: rows of {[len(row) for row in covariance]} numbers, wanted {d} rows of {d}")
        if not np.allclose(covariance, np.transpose(covariance)) or np.linalg.eigvalsh(covariance).min() <= 0:
            raise ValueError(f"covariance {covariance}: wanted a symmetric matrix with positive eigenvalues")
        refuse_rows(self.matrix, d)
        return self


class LinearParams(Parameters):
    """How the prior of a family differs from that of the simulator; theta of a sweep holds what its `params` give."""

    shift1: Number = Option(default=0.0, description="added to the mean of x1")
    shift2: Number = Option(default=0.0, description="added to the mean of x2")
    scale: Number = Option(default=1.0, description="factor of every standard deviation, positive")

    @model_validator(mode="after")
    def _positive(self) -> "LinearParams":
        if min(ends(self.scale)) <= 0:
            raise ValueError(
                f"scale is a factor of standard deviations: found {ends(self.scale)}, wanted positive ones"
            )
        return self


class LinearGaussian:
    """Prior, likelihood, posterior and evidence in closed form; see the module for the formulas.

    Args:
        options: the ``simulator`` block.
    """

    Settings: Any = LinearSimulator
    Params: Any = LinearParams
    arrays: frozenset[str] = frozenset()
    block = 1000
    fail = "error"
    autograd = True

    def __init__(self, options: Any):
        self.options = options
        self.matrix = np.asarray(options.matrix, np.float64)
        outputs, self.dimension = self.matrix.shape
        self.noise = options.noise
        self.x = Field.vector("x", [f"x{i}" for i in range(1, self.dimension + 1)], "1")
        self.y = Field.vector("y", [f"y{i}" for i in range(1, outputs + 1)], "1")

    @staticmethod
    def check(problem: "StudyProblem") -> Iterator[Message]:
        """One dimension has no x2."""
        for name, family in problem.families.items():
            if len(problem.simulator.matrix[0]) == 1 and "shift2" in family.params:
                yield f"families.{name}.params", "shift2 moves the mean of x2, and x has one component"

    @cached_property
    def linear(self) -> Matrix:
        """A."""
        return Matrix(self.matrix)

    @property
    def noise_covariance(self) -> float:
        """s^2, of each component of y."""
        return float(self.noise**2)

    def prior(self, params: dict[str, Any]) -> GaussianMixture:
        """The prior with these parameters."""
        return self._moved(np.ones(1), np.array([self.options.mean]), np.array([self.options.covariance]), params)

    def _moved(
        self, weight: np.ndarray, mean: np.ndarray, covariance: np.ndarray, params: dict[str, Any]
    ) -> GaussianMixture:
        """A mixture moved and stretched by a family's parameters."""
        shift = np.zeros(max(2, self.dimension))
        shift[:2] = float(params.get("shift1", 0.0)), float(params.get("shift2", 0.0))
        return GaussianMixture(
            weight, mean + shift[: self.dimension], float(params.get("scale", 1.0)) ** 2 * covariance
        )

    def sample_prior(self, rng: np.random.Generator, n: int, params: dict[str, Any]) -> np.ndarray:
        """Draws (n, d)."""
        return self.prior(params).sample(rng, n)

    def log_prior(self, x: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        """log p(x) (...,) of x (..., d)."""
        density: np.ndarray = self.prior(params).log_density(*as_float64(x))
        return density

    def apply(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A x (event, component of y)."""
        return self.linear.apply(x), np.ones(len(x), bool)

    def observe(self, signal: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Observations (event, component of y)."""
        return signal + self.noise * rng.standard_normal(signal.shape)

    def log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y|x), broadcast over the leading axes of y (..., component) and x (..., d)."""
        y, x = as_float64(y, x)
        squared = ((y - self.linear.apply(x)) ** 2).sum(-1) / self.noise**2
        return -squared / 2 - 0.5 * len(self.matrix) * np.log(2 * np.pi * self.noise**2)

    def posterior(self, y: np.ndarray, params: dict[str, Any]) -> GaussianMixture:
        """p(x|y) of each y (event, component) under the prior with these parameters."""
        return self.prior(params).posterior(np.asarray(y, np.float64), self.matrix, self.noise)

    def log_evidence(self, y: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        """log p(y) (event,) under the prior with these parameters."""
        evidence = self.prior(params).observed_through(self.matrix, self.noise)
        density: np.ndarray = evidence.log_density(np.asarray(y, np.float64))
        return density

    def exact_posterior(
        self, y: np.ndarray, params: dict[str, Any], draws: int, pool: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws (event, draw, d) from the closed form, exact: the effective number of candidates is inf."""
        return self.posterior(y, params).sample(rng, draws).astype(np.float32), np.full(len(y), np.inf)

    def preflight(self) -> dict[str, Any]:
        """The matrix and noise that are used."""
        return {"matrix": self.matrix.tolist(), "noise": self.noise}


def refuse_rows(matrix: list[list[float]], dimension: int) -> None:
    """Raise ValueError for an observation matrix whose rows do not fit x."""
    if [len(row) for row in matrix] != [dimension] * len(matrix):
        raise ValueError(f"matrix: rows of {[len(row) for row in matrix]} numbers, wanted {dimension}, one for each x")
