"""Noise schedules: the amplitudes of data and noise in x_t.

    x_t = alpha_t x_0 + sigma_t n,   n ~ N(0, I)

x_0 is data as networks see it (unit variance). A schedule is the pair (alpha, sigma) as a function of time, and the
times that a sampler visits on its way from noise to data. Each uses the time convention of its literature, which is an
input of the networks:

| schedule | alpha | sigma | noise at | data at |
| --- | --- | --- | --- | --- |
| `FlowMatching` | t | 1 - t | 0 | 1 |
| `Ddpm` | a table, sqrt(abar) | sqrt(1 - alpha^2) | 1 | 0 |
| `VarianceExploding` (EDM) | 1 | t | sigma_max | 0 |
"""

import math

import numpy as np
import torch
from torch import Tensor

Time = float | Tensor
"""One time for all rows, or a tensor of times that broadcasts against x."""


class Schedule:
    """(alpha, sigma) as a function of time."""

    def __call__(self, t: Time) -> tuple[Time, Time]:
        """alpha and sigma at t, in its shape."""
        raise NotImplementedError

    def rate(self, t: Time) -> tuple[float, float]:
        """Derivatives of alpha and sigma by t, for schedules that are smooth in t."""
        raise NotImplementedError(f"{type(self).__name__} is a table of levels: it has no derivative by t")

    def times(self, steps: int) -> list[float]:
        """Times from noise to data that a sampler visits in so many steps."""
        raise NotImplementedError


class FlowMatching(Schedule):
    """The straight path, x_t = t x_0 + (1 - t) n, 0 <= t <= 1.

    Lipman et al. 2023, arXiv 2210.02747, eq. 22 with sigma_min = 0; Liu et al. 2023, arXiv 2209.03003. (They write x_1
    for the data and x_0 for the noise.)
    """

    def __call__(self, t: Time) -> tuple[Time, Time]:
        """See `Schedule`."""
        return t, 1 - t

    def rate(self, t: Time) -> tuple[float, float]:
        """See `Schedule`."""
        return 1.0, -1.0

    def times(self, steps: int) -> list[float]:
        """Equal steps."""
        return [i / steps for i in range(steps + 1)]

    def training_times(self, u: Tensor) -> Tensor:
        """Times of training points from uniform numbers u in [0, 1)."""
        return u


class Ddpm(Schedule):
    """Denoising diffusion in T discrete steps (Ho et al. 2020, arXiv 2006.11239): t = 0, 1/T ... 1.

    Sampling starts from N(0, I), which is right only where alpha = 0 at t = 1. Two schedules end there (zero terminal
    signal-to-noise ratio, Lin et al. 2024, arXiv 2305.08891):

    - ``cosine``: alpha = cos(pi t / 2).
    - ``linear``: beta from 1e-4 to 0.02 scaled by 1000 / T, then alpha shifted and rescaled to end at 0 (their
      algorithm 1).
    - ``paper``: beta from 1e-4 to 0.02 whatever T: a reproduction of "The Ensemble Inverse Problem" (arXiv 2601.22029)
      with T = 100, where alpha = 0.60 at t = 1 although sampling starts from pure noise: its samples are biased by
      construction.

    Args:
        name: of the schedule.
        steps: T.
    """

    def __init__(self, name: str, steps: int):
        self.steps = steps
        if name == "cosine":
            angle = 0.5 * math.pi * np.arange(steps + 1) / steps
            alpha, sigma = np.cos(angle), np.sin(angle)
            alpha[-1], sigma[-1] = 0.0, 1.0
        else:
            beta = np.linspace(1e-4, 0.02, steps)
            if name == "linear":
                beta = np.minimum(beta * 1000 / steps, 0.999)
            alpha = np.sqrt(np.concatenate([[1.0], np.cumprod(1 - beta)]))
            if name == "linear":
                alpha = (alpha - alpha[-1]) / (1 - alpha[-1])
            sigma = np.sqrt(1 - alpha**2)
        self.alpha, self.sigma = alpha, sigma

    def __call__(self, t: Time) -> tuple[Time, Time]:
        """See `Schedule`; t is rounded to the table."""
        if isinstance(t, Tensor):
            index = (t * self.steps).round().long()
            alpha, sigma = (torch.from_numpy(table).to(t)[index] for table in (self.alpha, self.sigma))
            return alpha, sigma
        i = round(t * self.steps)
        return float(self.alpha[i]), float(self.sigma[i])

    def times(self, steps: int) -> list[float]:
        """At most T steps, as even as the table allows."""
        steps = min(steps, self.steps)
        return [round(self.steps * (1 - i / steps)) / self.steps for i in range(steps + 1)]

    def training_times(self, u: Tensor) -> Tensor:
        """Times 1/T ... 1 of training points from uniform numbers u in [0, 1)."""
        return ((u * self.steps).long().clamp_max(self.steps - 1) + 1) / self.steps


class VarianceExploding(Schedule):
    """x_t = x_0 + t n: time is the noise level (EDM, Karras et al. 2022, arXiv 2206.00364).

    Args:
        sigma_min: least positive level that samplers visit.
        sigma_max: level that sampling starts from, with sigma_max n.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0):
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def __call__(self, t: Time) -> tuple[Time, Time]:
        """See `Schedule`."""
        return torch.ones_like(t) if isinstance(t, Tensor) else 1.0, t

    def rate(self, t: Time) -> tuple[float, float]:
        """See `Schedule`."""
        return 0.0, 1.0

    def times(self, steps: int, start: float | None = None, rho: float = 7.0) -> list[float]:
        """Levels start = s_0 > ... > s_{steps-1} = sigma_min, then 0, evenly spaced in s^(1/rho) (their eq. 5).

        Args:
            steps: a single one goes from start to 0.
            start: sigma_max when None.
            rho: of the spacing.
        """
        start = self.sigma_max if start is None else start
        if steps == 1:
            return [start, 0.0]
        top, bottom = start ** (1 / rho), self.sigma_min ** (1 / rho)
        # The ends are written as they were given, not as powers of their roots.
        inner = [(top + i / (steps - 1) * (bottom - top)) ** rho for i in range(1, steps - 1)]
        return [start, *inner, self.sigma_min, 0.0]
