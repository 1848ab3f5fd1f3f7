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
| `VariancePreserving` | exp(-integral of beta / 2) | sqrt(1 - alpha^2) | 1 | 0 |
| `DdpmTable` | sqrt(abar), interpolated | sqrt(1 - alpha^2) | the last index | 0 |

The last two are those of networks that others trained.
"""

import math

import numpy as np
import torch
from torch import Tensor

Time = float | Tensor
"""One time for all rows, or a tensor of times that broadcasts against x."""


def _tensor(value: Time) -> Tensor:
    """A number as a tensor in its own precision."""
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


class Schedule:
    """(alpha, sigma) as a function of time."""

    def __call__(self, t: Time) -> tuple[Time, Time]:
        """alpha and sigma at t, in its shape."""
        raise NotImplementedError

    def rate(self, t: Time) -> tuple[Time, Time]:
        """Derivatives of alpha and sigma by t, for schedules that are smooth in t."""
        raise NotImplementedError(f"{type(self).__name__} is a table of levels: it has no derivative by t")

    def times(self, steps: int) -> list[float]:
        """Times from noise to data that a sampler visits in so many steps."""
        raise NotImplementedError

    def time_of(self, level: Time) -> Time:
        """The time at which sigma / alpha has this value, for schedules that are smooth in t; in its shape."""
        raise NotImplementedError(f"{type(self).__name__} is a table of levels: it has no time of any other")


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

    def time_of(self, level: Time) -> Time:
        """See `Schedule`."""
        return 1 / (1 + level)

    def times(self, steps: int) -> list[float]:
        """Equal steps."""
        return [i / steps for i in range(steps + 1)]

    def training_times(self, u: Tensor) -> Tensor:
        """Times of training points from uniform numbers u in [0, 1)."""
        return u


class DiscreteSchedule(Schedule):
    """A schedule in T discrete steps with noise at t = 1: t = 0, 1/T ... 1.

    Args:
        steps: T.
    """

    def __init__(self, steps: int):
        self.steps = steps

    def times(self, steps: int) -> list[float]:
        """At most T steps, as even as the table allows."""
        steps = min(steps, self.steps)
        return [round(self.steps * (1 - i / steps)) / self.steps for i in range(steps + 1)]

    def training_times(self, u: Tensor) -> Tensor:
        """Times 1/T ... 1 of training points from uniform numbers u in [0, 1)."""
        return ((u * self.steps).long().clamp_max(self.steps - 1) + 1) / self.steps


class Ddpm(DiscreteSchedule):
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
        super().__init__(steps)
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

    def time_of(self, level: Time) -> Time:
        """See `Schedule`."""
        return level

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


class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1 with a rate beta that grows linearly (Song et al. 2021, arXiv 2011.13456, eq. 32-33).

    alpha = exp(-B / 2), B = beta_min t + (beta_max - beta_min) t^2 / 2, 0 <= t <= 1.

    Args:
        beta_min, beta_max: rates at t = 0 and t = 1.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        self.beta_min, self.slope = beta_min, beta_max - beta_min

    def __call__(self, t: Time) -> tuple[Time, Time]:
        """See `Schedule`."""
        total = _tensor(t * (self.beta_min + self.slope * t / 2))
        alpha, sigma = (-total / 2).exp(), (-torch.expm1(-total)).sqrt()
        return (alpha, sigma) if isinstance(t, Tensor) else (float(alpha), float(sigma))

    def rate(self, t: Time) -> tuple[Time, Time]:
        """See `Schedule`."""
        (alpha, sigma), beta = self(t), self.beta_min + self.slope * t
        return -beta * alpha / 2, beta * alpha**2 / (2 * sigma)

    def time_of(self, level: Time) -> Time:
        """See `Schedule`; the positive root of B(t) = log(1 + level^2)."""
        total = torch.log1p(_tensor(level) ** 2)
        found = 2 * total / (self.beta_min + (self.beta_min**2 + 2 * self.slope * total).sqrt())
        return found if isinstance(level, Tensor) else float(found)


class DdpmTable(Schedule):
    """alpha^2 + sigma^2 = 1 with alpha^2 = abar from a table; time is the index i = 0, 1 ..., which networks are given.

    Between two indices log(sigma / alpha) is interpolated linearly.

    Args:
        betas: beta_i, each in (0, 1); abar_i is the product of 1 - beta_0 ... 1 - beta_i.
    """

    def __init__(self, betas: np.ndarray):
        log_abar = np.cumsum(np.log1p(-np.asarray(betas, np.float64)))
        self.log_level = torch.from_numpy(np.log(-np.expm1(log_abar)) - log_abar) / 2

    def __call__(self, t: Time) -> tuple[Time, Time]:
        """See `Schedule`."""
        time = _tensor(t)
        table = self.log_level.to(time.device)
        below = time.double().floor().long().clamp(0, len(table) - 2)
        log_level = table[below] + (time - below) * (table[below + 1] - table[below])
        level = log_level.exp().to(time)
        alpha = (1 + level**2).rsqrt()
        return (alpha, level * alpha) if isinstance(t, Tensor) else (float(alpha), float(level * alpha))

    def time_of(self, level: Time) -> Time:
        """See `Schedule`."""
        wanted = _tensor(level).double().log()
        table = self.log_level.to(wanted.device)
        below = (torch.searchsorted(table, wanted.contiguous(), right=True) - 1).clamp(0, len(table) - 2)
        time = below + (wanted - table[below]) / (table[below + 1] - table[below])
        return time.to(level) if isinstance(level, Tensor) else float(time)
