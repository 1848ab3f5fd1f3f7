"""Flow matching: the straight path from noise to data, and solvers of its ODE.

Path (Lipman et al. 2023, arXiv 2210.02747, eq. 22 with sigma_min = 0; Liu et al. 2023, arXiv 2209.03003):

    x_t = (1 - t) x_0 + t x_1,   x_0 ~ N(0, I),   u_t = x_1 - x_0,   0 <= t <= 1

A network v(x_t, t, ...) that regresses on u_t has its least squared error at E[u_t | x_t], the velocity of the flow
that carries N(0, I) to the data. Solvers are plain functions (velocity, x, steps) -> x that go from t = 0 to t = 1 in
equal steps, and one that chooses its steps itself.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""v(x (B, *x), t (1,)) -> (B, *x): one time for all rows."""

Solver = Callable[[Velocity, Tensor, int], Tensor]


def interpolate(x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The point x_t of the path and the velocity x_1 - x_0 there.

    Args:
        x0: noise (..., *x).
        x1: data (..., *x).
        t: times (...).
    """
    t = t.reshape(*t.shape, *(1,) * (x1.ndim - t.ndim))
    return (1 - t) * x0 + t * x1, x1 - x0


def _time(x: Tensor, t: float) -> Tensor:
    return torch.full((1,), t, dtype=x.dtype, device=x.device)


def euler(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """Explicit Euler, order 1, one call each step."""
    h = 1 / steps
    for i in range(steps):
        x = x + h * velocity(x, _time(x, i * h))
    return x


def midpoint(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """Explicit midpoint rule, order 2, two calls each step."""
    h = 1 / steps
    for i in range(steps):
        half = x + h / 2 * velocity(x, _time(x, i * h))
        x = x + h * velocity(half, _time(x, (i + 0.5) * h))
    return x


def heun(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """Heun's rule (explicit trapezoid), order 2, two calls each step."""
    h = 1 / steps
    for i in range(steps):
        v = velocity(x, _time(x, i * h))
        ahead = velocity(x + h * v, _time(x, (i + 1) * h))
        x = x + h / 2 * (v + ahead)
    return x


SOLVERS: dict[str, Solver] = {"euler": euler, "midpoint": midpoint, "heun": heun}


def dopri5(velocity: Velocity, x: Tensor, tolerance: float) -> Tensor:
    """Dormand and Prince's pair of orders 5 and 4 with adaptive steps, SciPy's ``RK45``.

    All rows take the same steps: the error that is held below the tolerance is the root mean square over them.

    Args:
        velocity: of the flow.
        x: noise (B, *x).
        tolerance: relative and absolute, of x as networks see it (unit variance).

    Raises:
        ArithmeticError: the steps became too small.
    """
    from scipy.integrate import solve_ivp

    def slope(t: float, values: np.ndarray) -> np.ndarray:
        here = torch.from_numpy(values.astype(np.float32)).to(x.device).reshape(x.shape)
        return velocity(here, _time(x, t)).double().cpu().numpy().ravel()

    found = solve_ivp(slope, (0.0, 1.0), x.double().cpu().numpy().ravel(), rtol=tolerance, atol=tolerance, t_eval=[1.0])
    if not found.success:
        raise ArithmeticError(f"the flow's ODE was not solved ({found.message}); ask for a larger infer.tolerance")
    return torch.from_numpy(found.y[:, -1].astype(np.float32)).to(x.device).reshape(x.shape)
