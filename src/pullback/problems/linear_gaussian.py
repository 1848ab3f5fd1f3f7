"""Linear observations of a Gaussian in d dimensions: posterior and evidence in closed form.

    x ~ N(m, C),    y = A x + s eps,    eps ~ N(0, I)

The formulas are in `pullback.problems.closed_form`.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import AfterValidator, model_validator
from pydantic import Field as Option

from pullback.core.arrays import as_float64
from pullback.core.seeding import generator
from pullback.ensembles.fields import Field
from pullback.problems.closed_form import GaussianMixture
from pullback.problems.linear import Matrix
from pullback.study.base import Closed, Number, ends
from pullback.study.kinds import Message, Parameters, SimulatorSettings

if TYPE_CHECKING:
    from pullback.study.model import Problem as StudyProblem


def _positive(noise: float) -> float:
    if not noise > 0:
        raise ValueError(
            f"noise is {noise:g}: the likelihood of exact data has no density, and posteriors divide by it; give a "
            "small positive number"
        )
    return noise


Noise = Annotated[float, AfterValidator(_positive), Option(json_schema_extra={"exclusiveMinimum": 0})]
"""Standard deviation of noise, which is not 0."""


class Drawn(Closed):
    """A prior and an observation matrix drawn once, from a seed."""

    dimension: int = Option(ge=1, le=1000, description="components of x")
    outputs: int | None = Option(default=None, ge=1, description="components of y; as many as of x when not given")
    condition: float = Option(default=1.0, ge=1, description="largest over least singular value of A; the largest is 1")
    spread: float = Option(default=1.0, gt=0, description="standard deviation of the drawn means")
    deviation: float = Option(default=1.0, gt=0, description="largest standard deviation of a Gaussian of the prior")
    elongation: float = Option(
        default=1.0, ge=1, description="largest over least standard deviation of it, in random directions; 1: round"
    )
    seed: int = Option(default=0, ge=0, description="another one draws others")

    @model_validator(mode="after")
    def _fewer(self) -> "Drawn":
        if (self.outputs or 1) > self.dimension:
            raise ValueError(f"outputs ({self.outputs}) is above dimension ({self.dimension}): no more is seen of x")
        return self

    def matrix(self) -> np.ndarray:
        """A (component of y, component of x)."""
        rng = generator("linear observations", "matrix", self.seed)
        outputs = self.outputs or self.dimension
        u, v = _rotation(rng, outputs), _rotation(rng, self.dimension)
        return (u * np.geomspace(1, 1 / self.condition, outputs)) @ v[:outputs]

    def prior(self, components: int = 1) -> GaussianMixture:
        """So many Gaussians of equal weight."""
        rng, d = generator("linear observations", "prior", self.seed), self.dimension
        mean = self.spread * rng.standard_normal((components, d))
        root = self.deviation * np.geomspace(1, 1 / self.elongation, d)
        axes = np.stack([_rotation(rng, d) for _ in range(components)])
        covariance = (axes * root**2) @ np.swapaxes(axes, 1, 2)
        # Symmetric to the last digit.
        covariance = (covariance + np.swapaxes(covariance, 1, 2)) / 2
        return GaussianMixture(np.full(components, 1 / components), mean, covariance)


def _rotation(rng: np.random.Generator, d: int) -> np.ndarray:
    """An orthogonal matrix (d, d), uniformly distributed: Mezzadri 2007, arXiv math-ph/0609050."""
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    return q * np.sign(np.diagonal(r))


class LinearSettings(SimulatorSettings):
    """y = A x + noise eps, eps ~ N(0, I)."""

    matrix: list[list[float]] = Option(
        default=[[1.0, 0.5]], min_length=1, description="A, row by row: one row for each component of y"
    )
    noise: Noise = Option(default=0.4, description="standard deviation of the noise of each component of y")
    drawn: Drawn | None = Option(default=None, description="prior and A drawn from a seed, in place of those given")

    GIVEN: ClassVar[tuple[str, ...]] = ("matrix",)
    """Options that `drawn` replaces."""

    @property
    def unused(self) -> dict[str, str]:
        """Options that have no effect beside the others -> why."""
        return dict.fromkeys(self.GIVEN, "`drawn` makes it") if self.drawn else {}

    @property
    def operator(self) -> np.ndarray:
        """A (component of y, component of x)."""
        return self.drawn.matrix() if self.drawn else np.asarray(self.matrix, np.float64)

    @property
    def dimension(self) -> int:
        """Components of x."""
        return self.drawn.dimension if self.drawn else len(self.matrix[0])

    def prior(self) -> GaussianMixture:
        """The prior of a family without parameters."""
        raise NotImplementedError

    def refuse_given(self) -> None:
        """Raise ValueError for an option that `drawn` replaces and that is not at its default."""
        for name in self.GIVEN:
            if self.drawn and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"`drawn` makes prior and matrix: leave out {name}, or drawn")

    def refuse_rows(self, d: int) -> None:
        """Raise ValueError for an observation matrix whose rows do not fit x."""
        if [len(row) for row in self.matrix] != [d] * len(self.matrix):
            raise ValueError(f"matrix: rows of {[len(row) for row in self.matrix]} numbers, wanted {d}, one for each x")


class LinearSimulator(LinearSettings):
    """y = A x + noise eps, eps ~ N(0, I), of x ~ N(mean, covariance)."""

    mean: list[float] = Option(default=[0.5, -1.0], min_length=1, description="of the prior, one for each component")
    covariance: list[list[float]] = Option(default=[[1.0, 0.6], [0.6, 2.0]], description="of the prior, row by row")

    GIVEN = ("mean", "covariance", "matrix")

    @model_validator(mode="after")
    def _fit(self) -> "LinearSimulator":
        self.refuse_given()
        d = len(self.mean)
        refuse_covariance("covariance", self.covariance, d)
        self.refuse_rows(d)
        return self

    def prior(self) -> GaussianMixture:
        """N(mean, covariance)."""
        if self.drawn:
            return self.drawn.prior()
        return GaussianMixture(np.ones(1), np.array([self.mean]), np.array([self.covariance]))


def refuse_covariance(name: str, covariance: list[list[float]], d: int) -> None:
    """Raise ValueError for what is no covariance of d components."""
    if [len(row) for row in covariance] != [d] * d:
        raise ValueError(f"{name}: rows of {[len(row) for row in covariance]} numbers, wanted {d} rows of {d}")
    if not np.allclose(covariance, np.transpose(covariance)) or np.linalg.eigvalsh(covariance).min() <= 0:
        raise ValueError(f"{name} {covariance}: wanted a symmetric matrix with positive eigenvalues")


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
    """Noisy linear observations of a Gaussian x: prior, likelihood, posterior and evidence are in closed form.

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
        self.matrix, self.unmoved = options.operator, options.prior()
        outputs, self.dimension = self.matrix.shape
        self.noise = options.noise
        self.x = Field.vector("x", [f"x{i}" for i in range(1, self.dimension + 1)], "1")
        self.y = Field.vector("y", [f"y{i}" for i in range(1, outputs + 1)], "1")

    @staticmethod
    def check(problem: "StudyProblem") -> Iterator[Message]:
        """One dimension has no x2."""
        for name, family in problem.families.items():
            if problem.simulator.dimension == 1 and "shift2" in family.params:
                yield f"families.{name}.params", "shift2 moves the mean of x2, and x has one component"

    @cached_property
    def linear(self) -> Matrix:
        """A."""
        return Matrix(self.matrix)

    @property
    def noise_covariance(self) -> float:
        """s^2, of each component of y."""
        return float(self.noise**2)

    def mixture_prior(self, params: dict[str, Any]) -> GaussianMixture:
        """The prior with these parameters: moved and stretched."""
        shift = np.zeros(max(2, self.dimension))
        shift[:2] = float(params.get("shift1", 0.0)), float(params.get("shift2", 0.0))
        scale = float(params.get("scale", 1.0))
        weight, mean, covariance = self.unmoved
        return GaussianMixture(weight, mean + shift[: self.dimension], scale**2 * covariance)

    def sample_prior(self, rng: np.random.Generator, n: int, params: dict[str, Any]) -> np.ndarray:
        """Draws (n, d)."""
        return self.mixture_prior(params).sample(rng, n)

    def log_prior(self, x: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        """log p(x) (...,) of x (..., d)."""
        density: np.ndarray = self.mixture_prior(params).log_density(*as_float64(x))
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
        return self.mixture_prior(params).posterior(np.asarray(y, np.float64), self.matrix, self.noise)

    def mode_weights(self, y: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        """Probability p(k|y) of each Gaussian of the prior (event, component)."""
        return self.posterior(y, params).weight

    def log_evidence(self, y: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        """log p(y) (event,) under the prior with these parameters."""
        evidence = self.mixture_prior(params).observed_through(self.matrix, self.noise)
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
