"""Guided methods with exact priors, for tests: the method as a job makes it, without files."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.core.context import Context
from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from pullback.diffusion.schedule import VarianceExploding
from pullback.ensembles.scaling import Column, Scaling
from pullback.methods.guided.base import Counted
from pullback.study.problem_kind import problem_kind

SCHEDULE = VarianceExploding(0.002, 160.0)
"""Down from alpha = 0.00657, where the variance-preserving SDE ends."""


def f64(values: Any) -> Tensor:
    return torch.as_tensor(np.asarray(values, np.float64))


def made(cls: Any, problem: Any, prior: Denoiser, mean: Any = 0.0, std: Any = 1.0) -> Any:
    """A method with a prior of z = (x - mean) / std."""
    method = cls(None, problem, Context(("study", "problem", "method", 0)))
    method.prior = Counted(prior, method.cost)
    size = problem.x.shape[0]
    mean, std = np.broadcast_to(mean, size), np.broadcast_to(std, size)
    x = [Column(i, f"x{i}", "linear", float(mean[i]), float(std[i])) for i in range(size)]
    y = [Column(i, f"y{i}", "linear", 0.0, 1.0) for i in range(problem.y.shape[0])]
    method.scaling = Scaling((size,), problem.y.shape, x, y)
    return method


def drawn(method: Any, infer: Any, y: Any, event: int = 0) -> np.ndarray:
    """Draws (draw, *x) for one observation."""
    found: np.ndarray = method.using(infer).sample(None, np.float32([y]), np.array([event])).x[0]
    return found


def moments(method: Any, infer: Any, y: Any) -> tuple[float, float]:
    """Mean and variance of a component x without sampling error, where a draw is linear in its random numbers.

    One draw has none; each of the others has a single 1, and its difference from the first is a coefficient.
    """

    def normals(event_id: int) -> Iterator[Tensor]:
        yield from torch.eye(infer.levels + 2, infer.levels + 1).T[:, :, None]

    method.normals = normals
    x = drawn(method, infer.model_copy(update={"draws": infer.levels + 2}), y)[:, 0].astype(np.float64)
    # The row of zeros is the last.
    return float(x[-1]), float(((x[:-1] - x[-1]) ** 2).sum())


def lecture() -> tuple[Any, MixtureDenoiser]:
    """The mixture of L. Ruthotto's lectures and its prior, z = x."""
    problem = problem_kind("gaussian-mixture").build({})
    variances = f64([0.3, 0.4, 0.3]).square()[:, None, None]
    return problem, MixtureDenoiser(f64([0.3, 0.5, 0.2]), f64([[-2.5], [0.0], [1.5]]), variances, SCHEDULE)


def unit(noise: float = 0.5) -> tuple[Any, GaussianDenoiser]:
    """y = x + noise eps of x ~ N(0, 1)."""
    options = {"mean": [0.0], "covariance": [[1.0]], "matrix": [[1.0]], "noise": noise}
    return problem_kind("linear-gaussian").build(options), GaussianDenoiser(f64([0.0]), f64([[1.0]]), SCHEDULE)
