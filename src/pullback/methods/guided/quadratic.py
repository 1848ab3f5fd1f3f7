"""Quadratic potentials Phi_t of linear problems: guidance and noise of a step are taken together, exactly.

    Phi_t(z) = sum_i weight_i c_i^2 / 2 - pull_i c_i + constant,    c = V^T z.

`TemperedQuadratic` is a_t mu, in the singular vectors of H. `GaussianTwist` is -log p(y | z_t) as it is for a Gaussian
prior N(m, C) of z_0: with P = C + t^2 I and K = C P^-1

    z_0 given z_t ~ N(m + K (z_t - m), t^2 K),    y given z_t ~ N(H m + A (z_t - m), S),    A = H K,  S = I + t^2 A H^T,

so that its curvature is A^T S^-1 A, with other directions at each t. It is mu at t = 0, and flat where noise hides x.
With the prior's own m and C the particles' target foresees what y says about every direction; for a Gaussian prior it
is the posterior's noisy marginal, exactly.
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pullback.diffusion.denoiser import Denoiser
from pullback.methods.base import Cost
from pullback.methods.guided.moments import Moments
from pullback.methods.guided.twist import Twist


class Linear(Protocol):
    """What of `observation.Whitened` is used: mu(z) = |target - H z|^2 / 2."""

    target: Tensor

    @property
    def svd(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """U (m, rank), s (rank,), V (d, rank)."""
        ...


class Basis:
    """Orthonormal vectors V (d, rank), kept in the type of the x that they meet."""

    def __init__(self, v: Tensor):
        self.v = v

    def coordinates(self, x: Tensor) -> Tensor:
        """c = V^T x (B, rank), float64, to the precision of x (B, *x)."""
        self.v = self.v.to(x)
        return (x.flatten(1) @ self.v).double()

    def fields(self, c: Tensor, like: Tensor) -> Tensor:
        """V c in the shape and type of ``like``."""
        self.v = self.v.to(like)
        return (c.to(like) @ self.v.T).reshape(like.shape)


class Form(NamedTuple):
    """Phi at one level (module docstring).

    Attributes:
        basis: V.
        weight, pull: (rank,), float64.
        constant: its value at c = 0.
    """

    basis: Basis
    weight: Tensor
    pull: Tensor
    constant: float


class Quadratic(Twist):
    """A quadratic Phi_t.

    Args:
        denoiser: of the prior.
        cost: counts gradients, and the exact steps that take their place.
    """

    def __init__(self, denoiser: Denoiser, cost: Cost):
        super().__init__(denoiser)
        self.cost = cost
        self._last: tuple[float, Form] | None = None

    def form(self, t: float) -> Form:
        """Phi_t."""
        # A step to t, and Phi_t at its end, need the same.
        if self._last is None or self._last[0] != t:
            self._last = t, self._form(t)
        return self._last[1]

    def _form(self, t: float) -> Form:
        raise NotImplementedError

    def start(self, t: float, normals: Tensor) -> tuple[Tensor, float]:
        """Particles of q_t (B, *x), t large, from standard normals, and log Z of q_t."""
        raise NotImplementedError

    def value(self, x: Tensor, t: float) -> Tensor:
        """See `Twist`."""
        basis, weight, pull, constant = self.form(t)
        c = basis.coordinates(x)
        phi = c.square() @ weight / 2 - c @ pull + constant
        return phi.nan_to_num(torch.inf, torch.inf, torch.inf)

    def gradient(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """See `Twist`."""
        self.cost.likelihood_gradients += len(x)
        basis, weight, pull, constant = self.form(t)
        c = basis.coordinates(x)
        phi = c.square() @ weight / 2 - c @ pull + constant
        slope = basis.fields(c * weight - pull, x)
        fine = slope.isfinite().flatten(1).all(1) & phi.isfinite()
        return torch.where(fine, phi, torch.inf), torch.where(fine.reshape(-1, *(1,) * (x.ndim - 1)), slope, 0.0)

    def laplacian(self, x: Tensor, t: float, probe: Tensor, width: float = 0.0) -> Tensor:
        """See `Twist`; exact, the same of every particle."""
        return self.form(t).weight.sum().expand(len(x))


class TemperedQuadratic(Quadratic):
    """a_t mu, with a_t = 1 - t / start, or 1, for H = U diag(s) V^T.

    Args:
        denoiser: of the prior.
        linear: the whitened operator; it has singular vectors.
        start: first level; None for a_t = 1.
        cost: see `Quadratic`.
        device: of particles.
    """

    def __init__(
        self, denoiser: Denoiser, linear: Linear, start: float | None, cost: Cost, device: torch.device | None = None
    ):
        super().__init__(denoiser, cost)
        assert linear.svd is not None
        u, s, v = linear.svd
        target = u.T @ linear.target.to(u)
        self._s, self._target, self._basis = s.to(device), target.to(device), Basis(v.to(device))
        self._start = start
        # What no x explains.
        self._rest = float((linear.target.double().square().sum() - target.square().sum()).clamp_min(0)) / 2

    def _form(self, t: float) -> Form:
        a = 1.0 if self._start is None else 1 - t / self._start
        s, y = self._s, self._target
        return Form(self._basis, a * s.square(), a * s * y, a * (float(y.square().sum()) / 2 + self._rest))

    def start(self, t: float, normals: Tensor) -> tuple[Tensor, float]:
        """See `Quadratic`: the noisy prior is N(0, (t^2 + 1) I), since x as networks see it has unit variance."""
        variance = t**2 + 1
        x = math.sqrt(variance) * normals
        basis, weight, pull, constant = self.form(t)
        narrow = 1 / (1 + variance * weight)
        x = x + basis.fields(variance * narrow * pull + (narrow.sqrt() - 1) * basis.coordinates(x), x)
        log_z = (narrow.log() + variance * narrow * pull.square()).sum() / 2 - constant
        return x, float(log_z)


class Foresight:
    """Curvature of `GaussianTwist` at each level: the same for all observations through one operator.

    Args:
        matrix: H (m, d), float64.
        moments: of the prior.
        dtype: of particles.
    """

    def __init__(self, matrix: Tensor, moments: Moments, dtype: torch.dtype = torch.float32):
        self.moments, self.matrix, self._dtype = moments, matrix, dtype
        self._seen = matrix @ moments.axes
        self._curvatures: dict[float, tuple[Basis, Tensor]] = {}

    def step(self, t: float) -> tuple[Tensor, Tensor]:
        """A (m, d) in the axes of C, and the Cholesky factor of S (m, m)."""
        a = self._seen * (self.moments.variances / (self.moments.variances + t**2))
        return a, torch.linalg.cholesky(self._noise() + t**2 * a @ self._seen.T)

    def predicted(self) -> Tensor:
        """Cholesky factor of the covariance of y, H C H^T + I (m, m)."""
        return torch.linalg.cholesky(self._noise() + (self._seen * self.moments.variances) @ self._seen.T)

    def curvature(self, t: float) -> tuple[Basis, Tensor]:
        """Directions and eigenvalues of A^T S^-1 A."""
        if t not in self._curvatures:
            a, root = self.step(t)
            white = torch.linalg.solve_triangular(root, a, upper=False)
            rank = min(white.shape)
            weight, vectors = torch.linalg.eigh(white.T @ white)
            basis = Basis((self.moments.axes @ vectors[:, -rank:]).to(self._dtype))
            self._curvatures[t] = basis, weight[-rank:].clamp_min(0)
        return self._curvatures[t]

    def _noise(self) -> Tensor:
        return torch.eye(len(self._seen), dtype=self._seen.dtype)


class GaussianTwist(Quadratic):
    """-log p(y | z_t) for a Gaussian prior of z_0 (module docstring).

    Args:
        denoiser: of the prior.
        foresight: of its moments and the operator.
        target: W (y - A mean) (m,), float64.
        cost: see `Quadratic`.
        device: of particles.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        foresight: Foresight,
        target: Tensor,
        cost: Cost,
        device: torch.device | None = None,
    ):
        super().__init__(denoiser, cost)
        self._foresight, self._device = foresight, device
        mean = foresight.moments.mean
        self._mean = foresight.moments.axes.T @ mean
        self._gap = target.double().cpu() - foresight.matrix @ mean

    def _pulled(self, t: float) -> tuple[Tensor, float]:
        """A^T S^-1 b (d,) in the axes of C, and Phi_t at z = 0; b = target - H m + A m."""
        a, root = self._foresight.step(t)
        b = self._gap + a @ self._mean
        solved = torch.cholesky_solve(b[:, None], root)[:, 0]
        return a.T @ solved, float(b @ solved) / 2 + float(root.diagonal().log().sum())

    def _form(self, t: float) -> Form:
        basis, weight = self._foresight.curvature(t)
        pulled, constant = self._pulled(t)
        pull = basis.v.double().cpu().T @ (self._foresight.moments.axes @ pulled)
        return Form(basis, weight.to(self._device), pull.to(self._device), constant)

    def start(self, t: float, normals: Tensor) -> tuple[Tensor, float]:
        """See `Quadratic`: the noisy prior is N(m, P), and Z is p(y) under the Gaussian prior."""
        _, variances, axes = self._foresight.moments
        a, root = self._foresight.step(t)
        white = torch.linalg.solve_triangular(root, a, upper=False)
        precision = white.T @ white + torch.diag(1 / (variances + t**2))
        factor = torch.linalg.cholesky(precision)
        centre = torch.cholesky_solve((self._mean / (variances + t**2) + self._pulled(t)[0])[:, None], factor)
        spread = torch.linalg.solve_triangular(factor.T, normals.flatten(1).double().cpu().T, upper=True)
        x = (axes @ (centre + spread)).T.to(normals).reshape(normals.shape)
        predicted = self._foresight.predicted()
        off = torch.linalg.solve_triangular(predicted, self._gap[:, None], upper=False)
        return x, -float(off.square().sum()) / 2 - float(predicted.diagonal().log().sum())
