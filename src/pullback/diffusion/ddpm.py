"""Denoising diffusion in discrete time: noise schedules and samplers (Ho et al. 2020, arXiv 2006.11239).

    x_t = a_t x_0 + s_t n,   a_t = sqrt(abar_t),   s_t = sqrt(1 - abar_t),   t = 1 ... T,   n ~ N(0, I)

Sampling starts from N(0, I), which is right only where abar_T = 0. Two schedules end there (zero terminal signal-to-
noise ratio, Lin et al. 2024, arXiv 2305.08891), where noise cannot be predicted from x_T = n alone in any useful
way: the network predicts v = a_t n - s_t x_0 (Salimans and Ho 2022, arXiv 2202.00512), from which

    x_0 = a_t x_t - s_t v,   n = s_t x_t + a_t v.

- ``cosine``: a_t = cos(pi t / 2T).
- ``linear``: beta from 1e-4 to 0.02 scaled by 1000 / T, then a_t shifted and rescaled to end at 0 (their algorithm 1).
- ``paper``: beta from 1e-4 to 0.02 whatever T, and the network predicts n: a reproduction of "The Ensemble Inverse
  Problem" (arXiv 2601.22029) with T = 100, where a_T = 0.60 of the signal is still there when sampling starts
  from pure noise. Its samples are biased by construction.

Samplers are plain functions; each calls the network once a step.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
"""What the network predicts at x_t (B, *x) and time t / T (1,): (B, *x)."""


class Schedule(NamedTuple):
    """A noise schedule, indexed by t = 0 ... T.

    Attributes:
        a: share of the signal, (T + 1,) float64; a[0] = 1.
        s: share of the noise, sqrt(1 - a^2).
        predicts: ``"v"`` or ``"noise"``.
    """

    a: np.ndarray
    s: np.ndarray
    predicts: str

    @property
    def steps(self) -> int:
        """T."""
        return len(self.a) - 1


def make_schedule(name: str, steps: int) -> Schedule:
    """The schedule ``"cosine"``, ``"linear"`` or ``"paper"`` with T = ``steps``; see the module."""
    if name == "cosine":
        angle = 0.5 * math.pi * np.arange(steps + 1) / steps
        a, s = np.cos(angle), np.sin(angle)
        a[-1], s[-1] = 0.0, 1.0
        return Schedule(a, s, "v")
    beta = np.linspace(1e-4, 0.02, steps)
    if name == "paper":
        a = np.sqrt(np.concatenate([[1.0], np.cumprod(1 - beta)]))
        return Schedule(a, np.sqrt(1 - a**2), "noise")
    a = np.sqrt(np.concatenate([[1.0], np.cumprod(1 - np.minimum(beta * 1000 / steps, 0.999))]))
    a = (a - a[-1]) / (1 - a[-1])
    return Schedule(a, np.sqrt(1 - a**2), "v")


def noised(schedule: Schedule, x: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The point x_t and what the network should predict there.

    Args:
        schedule: of the noise.
        x: data (B, *x).
        noise: standard normals (B, *x).
        t: integers 1 ... T, (B,).
    """
    shape = (-1, *(1,) * (x.dim() - 1))
    a, s = (torch.from_numpy(table).to(x)[t].reshape(shape) for table in (schedule.a, schedule.s))
    return a * x + s * noise, a * noise - s * x if schedule.predicts == "v" else noise


def split(schedule: Schedule, x: Tensor, t: int, predicted: Tensor) -> tuple[Tensor, Tensor]:
    """Estimates of x_0 and of the noise in x_t."""
    a, s = float(schedule.a[t]), float(schedule.s[t])
    if schedule.predicts == "v":
        return a * x - s * predicted, s * x + a * predicted
    return (x - s * predicted) / a, predicted


def time_grid(steps: int, calls: int) -> list[int]:
    """Times T = t_0 > ... > t_calls = 0, as evenly spaced as integers can be; at most T calls."""
    return [round(steps * (1 - i / min(calls, steps))) for i in range(min(calls, steps) + 1)]


def ddim(schedule: Schedule, predict: Predict, x: Tensor, grid: Sequence[int]) -> Tensor:
    """Deterministic sampling along a grid of times (Song et al. 2021, arXiv 2010.02502, eq. 12 with sigma = 0)."""
    for t, u in pairwise(grid):
        clean, noise = split(schedule, x, t, predict(x, _time(x, t / schedule.steps)))
        x = float(schedule.a[u]) * clean + float(schedule.s[u]) * noise
    return x


def ancestral(
    schedule: Schedule, predict: Predict, x: Tensor, grid: Sequence[int], normals: Callable[[int], Tensor]
) -> Tensor:
    """Stochastic sampling: x_u ~ q(x_u | x_t, x_0 = its estimate) (Ho et al. 2020, eqs. 6 and 7).

    The noise that is added from t to u has the variance of that posterior, s_u^2 / s_t^2 (1 - a_t^2 / a_u^2); the
    published models add (1 - a_t^2 / a_u^2), their beta_t, which the schedule ``paper`` (`Schedule.predicts` noise)
    keeps. None is added in the last step.

    Args:
        schedule: of the noise.
        predict: the network.
        x: standard normals (B, *x).
        grid: times from T to 0 (`time_grid`); every one of T ... 0 gives the published algorithm.
        normals: standard normals (B, *x) for step i = 0, 1, ...
    """
    for i, (t, u) in enumerate(pairwise(grid)):
        clean, _ = split(schedule, x, t, predict(x, _time(x, t / schedule.steps)))
        if u == 0:
            return clean
        a, s, a_u, s_u = (float(table[j]) for j in (t, u) for table in (schedule.a, schedule.s))
        ratio = a / a_u
        beta = 1 - ratio**2
        mean = (ratio * s_u**2 * x + a_u * beta * clean) / s**2
        spread = math.sqrt(beta) * (1.0 if schedule.predicts == "noise" else s_u / s)
        x = mean + spread * normals(i)
    return x


def _time(x: Tensor, t: float) -> Tensor:
    return torch.full((1,), t, dtype=x.dtype, device=x.device)
