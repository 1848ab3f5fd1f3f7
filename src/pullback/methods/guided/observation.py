"""The likelihood of one observation as a function of z, x as networks see it: what guidance follows.

With residuals r(z) in units of the noise, whitened by the covariance of the noise,

    p(y|x) = exp(constant - mu(z)),    mu(z) = |r(z)|^2 / 2.

A linear problem has r(z) = target - H z with H = W A diag(std): A of the problem, std of the scaling, W the whitening;
its noisy states z_t, which lie outside the problem's bounds, are not clipped. Where the noise depends on x, mu is
-log p(y|x), and there is no whitened form.
"""

import math
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pullback.ensembles.scaling import Scaling
from pullback.methods.base import ADJOINT, Cost
from pullback.methods.live_traces import live
from pullback.problems.adapter import Differentiable
from pullback.problems.base import Problem
from pullback.problems.whitening import Whitening

POWER_STEPS = 30
"""Steps of the power iteration for the largest singular value, which needs two digits."""

DENSE = 4096
"""Most components of x, and of y, for which singular vectors are computed from the matrix."""


class LikelihoodError(ValueError):
    """A likelihood that cannot guide; the message says what was found and what to do."""


class TensorSvd(NamedTuple):
    """H = U diag(s) V^T: U (m, rank), s (rank,), V (d, rank), float64."""

    u: Tensor
    s: Tensor
    v: Tensor


class Operator:
    """H = W A diag(std): a linear problem on x as networks see it, in units of the noise of y.

    Args:
        problem: has ``linear``.
        scaling: affine in x.
        noise: gives W.
    """

    def __init__(self, problem: Any, scaling: Scaling, noise: Whitening):
        self.scaling, self.noise = scaling, noise
        self._operator, self._shape = problem.linear, tuple(problem.x.shape)
        self._y_shape = tuple(problem.y.shape)
        columns = scaling.x_columns
        std, mean = (np.array([getattr(column, name) for column in columns]) for name in ("std", "mean"))
        self._std = np.array(np.broadcast_to(std if columns[0].name else std[0], self._shape))
        self._mean = np.broadcast_to(mean if columns[0].name else mean[0], self._shape).astype(np.float64)

    def apply(self, z: Tensor) -> Tensor:
        """H z (B, m)."""
        x = z * torch.as_tensor(self._std).to(z)
        return self.noise.apply(self._operator.apply(x).flatten(1))

    def transpose(self, u: Tensor) -> Tensor:
        """H^T u (B, *x) of u (B, m)."""
        x: Tensor = self._operator.transpose(self.noise.transpose(u).reshape(-1, *self._y_shape))
        return x * torch.as_tensor(self._std).to(u)

    def target(self, y: np.ndarray) -> Tensor:
        """W (y - A mean) (m,), float64, of y (*y,): y = F(x) is target = H z."""
        gap = np.asarray(y, np.float64).ravel() - np.asarray(self._operator.apply(self._mean[None])).ravel()
        return self.noise.apply(torch.as_tensor(gap[None]))[0]

    @cached_property
    def matrix(self) -> Tensor:
        """H (m, d), float64."""
        unit = torch.eye(math.prod(self._shape), dtype=torch.float64).reshape(-1, *self._shape)
        return self.apply(unit).T

    @cached_property
    def svd(self) -> TensorSvd | None:
        """Of H, largest singular value first; None where it is too large to have.

        The operator's own decomposition where the noise, the scaling and what is observed leave it one.
        """
        own, seen, root = getattr(self._operator, "svd", None), self.noise.seen, self.noise.root
        alike = np.ptp(self._std) == 0 and root.ndim == 1 and np.ptp(root) == 0
        if own is not None and alike and (seen.all() or _is_identity(own.u)):
            factor = float(self._std.flat[0] / root[0])
            # Where left vectors are unit vectors, each component of y has a singular value of its own.
            parts = (own.u, own.s, own.v) if seen.all() else (np.eye(seen.sum()), own.s[seen], own.v[:, seen])
            return TensorSvd(*(torch.as_tensor(part) for part in (parts[0], factor * parts[1], parts[2])))
        if max(math.prod(self._shape), int(seen.sum())) > DENSE:
            return None
        u, s, vt = torch.linalg.svd(self.matrix, full_matrices=False)
        return TensorSvd(u, s, vt.T)

    @cached_property
    def largest(self) -> float:
        """Largest singular value of H, to about 1 %: by power iteration, which needs no singular vectors."""
        z, square = torch.ones((1, *self._shape), dtype=torch.float64), 0.0
        # A direction in which H^T H has a component: a constant one may be none of an operator that takes differences.
        z = z + torch.linspace(-0.5, 0.5, z.numel(), dtype=z.dtype).reshape(z.shape)
        for _ in range(POWER_STEPS):
            z = self.transpose(self.apply(z / z.norm()))
            square = float(z.norm())
            if square == 0 or not math.isfinite(square):
                break
        return math.sqrt(square)


class Operators:
    """The operators of one problem's observations: the last one serves the next observation where it is the same.

    So singular vectors are computed once for all events, unless what is observed, or the noise, changes between them.
    """

    def __init__(self) -> None:
        self._last: Operator | None = None

    def of(self, problem: Any, scaling: Scaling, noise: Whitening) -> Operator:
        """See `Operator`."""
        last = self._last
        if last is None or last.scaling is not scaling or not last.noise.is_as(noise):
            last = self._last = Operator(problem, scaling, noise)
        return last


class Whitened:
    """A linear observation in units of its noise: mu(z) = |target - H z|^2 / 2.

    Args:
        operator: H.
        y: (*y,).

    Attributes:
        target: (m,), float64, of the observed components.
    """

    def __init__(self, operator: Operator, y: np.ndarray):
        self.operator, self.target = operator, operator.target(y)

    @property
    def svd(self) -> TensorSvd | None:
        """Of H, see `Operator.svd`."""
        return self.operator.svd

    def residual(self, z: Tensor) -> Tensor:
        """target - H z (B, m)."""
        return self.target.to(z) - self.operator.apply(z)


class Observation:
    """The likelihood of one observation as a function of z (B, *x).

    Args:
        problem: gives its signal and a derivative, and the covariance of its noise or a likelihood in torch.
        scaling: of the prior that z belongs to.
        y: (*y,), physical units.
        cost: counts simulations, gradients and failures.
        operators: of observations before this one, where there are any.

    Attributes:
        linear: the whitened linear form, or None (module docstring).
        constant: log p(y|x) = constant - mu(z); 0 where the problem gives no normalisation.
        noise: root mean square of the noise's standard deviation, in units of y; 1 where that is not known, and
            residuals are in units of y.
        is_squared: whether mu is half the squared norm of a residual.
        is_likelihood: whether mu is -log p(y|x) up to a constant, not only a misfit of data of unknown noise.

    Raises:
        NoiseError: the noise has no variance.
    """

    def __init__(
        self, problem: Problem, scaling: Scaling, y: np.ndarray, cost: Cost, operators: Operators | None = None
    ):
        self._adapter, self._cost = Differentiable(problem, scaling), cost
        self._y = np.asarray(y)
        seen, covariance = _observed(problem, self._y), _noise_of(problem, self._y)
        self.is_squared = covariance is not None or not hasattr(problem, "log_likelihood")
        self.is_likelihood = covariance is not None or hasattr(problem, "log_likelihood")
        self.constant, self.noise, self.linear = 0.0, 1.0, None
        self._noise = Whitening.unit(seen) if self.is_squared else None
        if covariance is not None:
            found = self._noise = Whitening.of(covariance, self._y.shape, seen)
            self.noise = math.sqrt(found.variances.mean())
            self.constant = -0.5 * (found.log_det + seen.sum() * math.log(2 * math.pi))
            affine = all(column.transform == "linear" and column.partner < 0 for column in scaling.x_columns)
            if getattr(problem, "linear", None) is not None and affine:
                operator = (operators or Operators()).of(problem, scaling, found)
                self.linear = Whitened(operator, self._y)

    def potential(self, z: Tensor) -> Tensor:
        """mu (B,), float64; +inf where z is not finite or its simulation failed, which is counted."""
        with torch.no_grad():
            mu = self._potential(z)
        return self._counted(mu, z)

    def gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """mu (B,) as `potential`, and its gradient (B, *x); where mu is +inf or the gradient not finite, 0 and +inf."""
        self._cost.likelihood_gradients += len(z)
        if self.linear is not None:
            with torch.no_grad():
                residual = self.linear.residual(z)
                mu, slope = residual.double().square().sum(1) / 2, -self.linear.operator.transpose(residual)
        else:
            before = self._adapter.derivatives
            with torch.enable_grad():
                leaf = z.detach().requires_grad_()
                mu = self._potential(leaf)
                (slope,) = torch.autograd.grad(mu.sum(), leaf)
            mu = mu.detach()
            # None of problems in torch, whose derivative takes no further simulation.
            self._cost.simulator_calls += ADJOINT * (self._adapter.derivatives - before)
        fine = slope.isfinite().flatten(1).all(1) & mu.isfinite()
        slope = torch.where(fine.reshape(-1, *(1,) * (z.ndim - 1)), slope, 0.0)
        return self._counted(torch.where(fine, mu, torch.inf), z), slope

    def _potential(self, z: Tensor) -> Tensor:
        if self.linear is not None:
            return self.linear.residual(z).double().square().sum(1) / 2
        return -self._adapter.log_likelihood(z, self._tensor(z), self._noise)

    def _counted(self, mu: Tensor, z: Tensor) -> Tensor:
        if self.linear is None:
            self._cost.simulator_calls += len(z)
        dead = ~mu.isfinite()
        self._cost.failed_simulations += int(dead.sum())
        return torch.where(dead, torch.inf, mu)

    def _tensor(self, z: Tensor) -> Tensor:
        return torch.as_tensor(self._y, device=z.device)[None].to(z)


def curvature(moved: Tensor, change: Tensor) -> float:
    """Median over rows of |change of a gradient| / |move of its argument|, both (B, *x); 0 where none is finite.

    Between random states it is below the largest curvature; where an explicit step is too long for that, moves turn
    towards it, and so does this.
    """
    ratio = change.flatten(1).norm(dim=1) / moved.flatten(1).norm(dim=1)
    fine = ratio[ratio.isfinite()]
    return float(fine.median()) if len(fine) else 0.0


def _noise_of(problem: Any, y: np.ndarray) -> np.ndarray | float | None:
    """Covariance of the noise of one observation (*y,): the problem's constant one, or what it estimates from y."""
    estimate = getattr(problem, "noise_variance", None)
    if estimate is not None:
        found: float | None = estimate(y)
        return found
    covariance: np.ndarray | float | None = getattr(problem, "noise_covariance", None)
    return covariance


def _is_identity(matrix: np.ndarray) -> bool:
    ones: bool = matrix.shape[0] == matrix.shape[1] and bool((np.diagonal(matrix) == 1).all())
    return ones and np.count_nonzero(matrix) == len(matrix)


def _observed(problem: Any, y: np.ndarray) -> np.ndarray:
    observed = getattr(problem, "observed", None)
    seen = observed(y[None])[0] if observed is not None else np.ones(y.shape, bool)
    return np.array(np.broadcast_to(seen & live(problem.y, y), y.shape)).ravel()
