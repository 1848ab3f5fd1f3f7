"""A problem as differentiable functions of x as networks see it: written once for DPS, AFDPS, HMC, VI and their like.

    z -> x = decode(z), within the problem's bounds -> signal = F(x) -> log p(y|x)

Tensors keep their type and device. A problem that is written in torch (``autograd``) is differentiated by torch
throughout; one that gives ``linear``, ``vjp`` or ``linearize`` enters as one autograd function, whose backward pass is
its own derivative, once.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.ensembles.scaled_tensors import decode, unscaled
from pullback.ensembles.scaling import Scaling
from pullback.problems.base import Problem, linearize
from pullback.problems.whitening import Whitening


class AdapterError(ValueError):
    """A function that the problem does not have; the message says what it needs."""


class Differentiable:
    """Functions of z (event, *x_shape) of one problem.

    Args:
        problem: gives its signal and a derivative; see `pullback.problems.base.Problem`.
        scaling: of the network or prior that z belongs to.

    Attributes:
        signals, derivatives: events simulated, and events of which a derivative was taken, so far.
    """

    def __init__(self, problem: Problem, scaling: Scaling):
        self.problem: Any = problem
        self.scaling = scaling
        self.signals = self.derivatives = 0
        self._low, self._high = problem.x.low, problem.x.high

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x (event, *x) in physical units, clipped to the problem's bounds; y (event, *y) where x has angles."""
        fine = z.isfinite().flatten(1).all(1).reshape(-1, *(1,) * (z.ndim - 1))
        # What is not finite is left out before the map: 0 times the derivative of a NaN would be NaN again.
        x = torch.where(fine, decode(self.scaling.x_columns, torch.where(fine, z, 0.0), y), torch.nan)
        for bound, clip in ((self._low, torch.maximum), (self._high, torch.minimum)):
            if bound is not None:
                x = clip(x, x.new_tensor(bound))
        return x

    def apply(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The signal (event, *y). NaN where a simulation failed or z is not finite; the derivative there is 0."""
        return self._signal(self.decode(z, y))

    def residual(self, z: Tensor, y: Tensor, noise: Whitening) -> Tensor:
        """Observation minus signal (event, m) of the m observed components, in units of the noise.

        Args:
            z: (event, *x).
            y: observations (event, *y), or one (1, *y) of all events, with the same components observed.
            noise: of these components.
        """
        signal = self.apply(z, y)
        return noise.apply((y.to(signal) - signal).flatten(1))

    def log_likelihood(self, z: Tensor, y: Tensor, noise: Whitening | None = None) -> Tensor:
        """log p(y|x) (event,), float64, up to a term of y where ``noise`` is given.

        Args:
            z, y: see `residual`.
            noise: of y, where it is Gaussian: -|residual|^2 / 2. Without it, the problem's own likelihood.

        Raises:
            AdapterError: there is no ``noise``, and the problem gives no likelihood in torch.
        """
        if noise is not None:
            return -self.residual(z, y, noise).double().square().sum(1) / 2
        if not (getattr(self.problem, "autograd", False) and hasattr(self.problem, "log_likelihood")):
            raise AdapterError(
                f"{type(self.problem).__name__} has no likelihood that can be differentiated: give it `autograd = "
                "True` with a `log_likelihood` of tensors, or `noise_covariance` where its noise is Gaussian and the "
                "same for every x"
            )
        x = self.decode(z, y)
        self.signals += len(z)
        value: Tensor = self.problem.log_likelihood(y.to(x.device), x).to(z)
        return value.double()

    def log_prior(self, z: Tensor, params: dict[str, Any], y: Tensor | None = None) -> Tensor:
        """log density of z (event,) under the prior with these parameters: log p(x) + log |dx/dz|, -inf out of bounds.

        Raises:
            AdapterError: the problem gives no prior density in torch.
        """
        if not (getattr(self.problem, "autograd", False) and hasattr(self.problem, "log_prior")):
            raise AdapterError(
                f"{type(self.problem).__name__} has no prior density that can be differentiated: give it `autograd = "
                "True` with a `log_prior` of tensors"
            )
        x, volume = decode(self.scaling.x_columns, z, y), _log_volume(self.scaling, z)
        density = self.problem.log_prior(x, params).to(z) + volume
        inside = (x == self.decode(z, y)).flatten(1).all(1)
        return torch.where(inside, density, -torch.inf)

    def _signal(self, x: Tensor) -> Tensor:
        if getattr(self.problem, "autograd", False):
            self.signals += len(x)
            signal, ok = self.problem.apply(x)
            ok = torch.as_tensor(ok, device=x.device).reshape(-1, *(1,) * (signal.ndim - 1))
            return torch.where(ok, signal, torch.nan)
        found: Tensor = _Signal.apply(x, self, torch.is_grad_enabled() and x.requires_grad)
        return found


def _log_volume(scaling: Scaling, z: Tensor) -> Tensor:
    """log |dx/dz| (event,)."""
    values, parts = unscaled(scaling.x_columns, z), []
    for i, column in enumerate(scaling.x_columns):
        v = values[..., i]
        slope = {"log": v, "log1p": v, "symlog": v.abs() + np.log(column.scale)}.get(column.transform, 0 * v)
        parts.append((slope + np.log(column.std)).reshape(len(z), -1).sum(1))
    return torch.stack(parts).sum(0)


class _Signal(torch.autograd.Function):
    """x (event, *x) -> signal (event, *y), by the problem's own derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, adapter: Differentiable, derivative: bool) -> Tensor:
        array = x.detach().cpu().numpy()
        fine = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        signal = np.full((len(array), *adapter.problem.y.shape), np.nan)
        if derivative:
            found, ok, ctx.pullback = linearize(adapter.problem, array[fine])
        else:
            found, ok = adapter.problem.apply(array[fine])
        signal[fine] = np.where(np.reshape(ok, (-1, *(1,) * (found.ndim - 1))), found, np.nan)
        fine[fine] = ok
        ctx.ok, ctx.simulated, ctx.adapter = fine, np.isfinite(array).reshape(len(array), -1).all(axis=1), adapter
        adapter.signals += int(ctx.simulated.sum())
        return torch.as_tensor(signal).to(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        u = cotangent.cpu().numpy()
        slope = np.zeros((len(u), *ctx.adapter.problem.x.shape))
        slope[ctx.simulated] = ctx.pullback(u[ctx.simulated])
        ctx.adapter.derivatives += int(ctx.simulated.sum())
        slope[~ctx.ok] = 0
        return torch.as_tensor(slope).to(cotangent), None, None
