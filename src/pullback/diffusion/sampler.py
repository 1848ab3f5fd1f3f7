"""Samplers: from noise to data by steps from a time t to a time s nearer to the data.

The probability-flow ODE carries N(0, I) to the data. With the means of data and noise given x_t (`Denoiser.split`) it
is

    dx = E[x_0 | x_t] d alpha + E[n | x_t] d sigma,

for every schedule (Song et al. 2021, arXiv 2011.13456; Karras et al. 2022, arXiv 2206.00364, eq. 1). Solvers hold the
two means over a step. An Euler step then gives alpha_s E[x_0 | x_t] + sigma_s E[n | x_t]: Euler's step of a flow, the
DDIM step of a DDPM and the Euler step in sigma of EDM are this one formula.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pullback.diffusion.denoiser import Denoiser

Watch = Callable[[float, Tensor], None]
"""What is told the state (B, *x) at each time."""


class Sampler:
    """One step of a sampler, and the loop over them.

    Args:
        denoiser: of the prior or posterior that is sampled.
    """

    def __init__(self, denoiser: Denoiser):
        self.denoiser = denoiser

    def step(self, x: Tensor, t: float, s: float) -> Tensor:
        """x_s (B, *x) from x_t (B, *x)."""
        raise NotImplementedError

    def __call__(self, x: Tensor, times: Sequence[float], watch: Watch = lambda t, x: None) -> Tensor:
        """x (B, *x) at the last of the times from x at the first (`Schedule.times`)."""
        watch(times[0], x)
        for t, s in pairwise(times):
            x = self.step(x, t, s)
            watch(s, x)
        return x

    def levels(self, t: float) -> tuple[float, float]:
        """alpha and sigma at t."""
        alpha, sigma = self.denoiser.schedule(t)
        return float(alpha), float(sigma)


class Euler(Sampler):
    """Order 1, one call of the denoiser each step. DDIM is this step (Song et al. 2021, arXiv 2010.02502, eq. 12)."""

    def step(self, x: Tensor, t: float, s: float) -> Tensor:
        """See `Sampler`."""
        mean, noise = self.denoiser.split(x, t)
        alpha, sigma = self.levels(s)
        return alpha * mean + sigma * noise


class Midpoint(Sampler):
    """Explicit midpoint rule, order 2, two calls each step."""

    def step(self, x: Tensor, t: float, s: float) -> Tensor:
        """See `Sampler`."""
        middle = (t + s) / 2
        mean, noise = self.denoiser.split(Euler(self.denoiser).step(x, t, middle), middle)
        (alpha, sigma), (alpha_s, sigma_s) = self.levels(t), self.levels(s)
        return x + (alpha_s - alpha) * mean + (sigma_s - sigma) * noise


class Heun(Sampler):
    """Explicit trapezoid, order 2, two calls each step.

    A step to sigma = 0 is Euler's where the denoiser knows no noise there (as in Karras et al., algorithm 1).
    """

    def step(self, x: Tensor, t: float, s: float) -> Tensor:
        """See `Sampler`."""
        mean, noise = self.denoiser.split(x, t)
        (alpha, sigma), (alpha_s, sigma_s) = self.levels(t), self.levels(s)
        ahead = alpha_s * mean + sigma_s * noise
        if sigma_s == 0 and not self.denoiser.noise_at_data:
            return ahead
        mean_s, noise_s = self.denoiser.split(ahead, s)
        return x + (alpha_s - alpha) / 2 * (mean + mean_s) + (sigma_s - sigma) / 2 * (noise + noise_s)


class Dopri5(Sampler):
    """Dormand and Prince's pair of orders 5 and 4 with steps of its own between t and s, SciPy's ``RK45``.

    All rows take the same steps: the error that is held below the tolerance is the root mean square over them.

    Args:
        denoiser: with a schedule that is smooth in t.
        tolerance: relative and absolute, of x as networks see it (unit variance).

    Raises:
        ArithmeticError: the steps became too small.
    """

    def __init__(self, denoiser: Denoiser, tolerance: float):
        super().__init__(denoiser)
        self.tolerance = tolerance

    def step(self, x: Tensor, t: float, s: float) -> Tensor:
        """See `Sampler`."""
        from scipy.integrate import solve_ivp

        def slope(at: float, values: np.ndarray) -> np.ndarray:
            here = torch.from_numpy(values.astype(np.float32)).to(x.device).reshape(x.shape)
            mean, noise = self.denoiser.split(here, at)
            alpha, sigma = self.denoiser.schedule.rate(at)
            return (alpha * mean + sigma * noise).double().cpu().numpy().ravel()

        start, tolerance = x.double().cpu().numpy().ravel(), self.tolerance
        found = solve_ivp(slope, (t, s), start, rtol=tolerance, atol=tolerance, t_eval=[s])
        if not found.success:
            raise ArithmeticError(f"the flow's ODE was not solved ({found.message}); ask for a larger infer.tolerance")
        return torch.from_numpy(found.y[:, -1].astype(np.float32)).to(x.device).reshape(x.shape)


class Ancestral(Sampler):
    """Stochastic: x_s ~ q(x_s | x_t, x_0 = its mean) (Ho et al. 2020, arXiv 2006.11239, eqs. 6 and 7).

    With r = alpha_t / alpha_s and beta = sigma_t^2 - r^2 sigma_s^2, the variance that the forward process adds from s
    to t, q has the mean (r sigma_s^2 x_t + alpha_s beta x_0) / sigma_t^2 and the variance beta sigma_s^2 / sigma_t^2.
    The last step, to sigma = 0, adds no noise.

    Args:
        denoiser: of the prior or posterior.
        normals: standard normals (B, *x) for one step after the other.
        wide: add noise of variance beta, as the published models do, in place of q's.
    """

    def __init__(self, denoiser: Denoiser, normals: Iterator[Tensor], wide: bool = False):
        super().__init__(denoiser)
        self.normals, self.wide = normals, wide

    def step(self, x: Tensor, t: float, s: float) -> Tensor:
        """See `Sampler`."""
        return self.move(x, self.denoiser(x, t), t, s)

    def move(self, x: Tensor, clean: Tensor, t: float, s: float) -> Tensor:
        """x_s (B, *x) from x_t and the mean of x_0 (B, *x)."""
        (alpha, sigma), (alpha_s, sigma_s) = self.levels(t), self.levels(s)
        if sigma_s == 0:
            return alpha_s * clean
        ratio = alpha / alpha_s
        beta = sigma**2 - (ratio * sigma_s) ** 2
        mean = (ratio * sigma_s**2 / sigma**2) * x + (alpha_s * beta / sigma**2) * clean
        return mean + math.sqrt(beta) * (1.0 if self.wide else sigma_s / sigma) * next(self.normals)


class Multistep(Ancestral):
    """`Ancestral` of order 2, with no more calls: the SDE of DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095).

    In place of E[x_0 | x_t] a step has its value in the middle of the step in log(sigma / alpha), extrapolated from the
    last two. 100 levels from 80 give a Gaussian's variance to .7 % in place of 10 %.
    """

    def __init__(self, denoiser: Denoiser, normals: Iterator[Tensor]):
        super().__init__(denoiser, normals)
        self._last: tuple[float, Tensor] | None = None

    def __call__(self, x: Tensor, times: Sequence[float], watch: Watch = lambda t, x: None) -> Tensor:
        """See `Sampler`; the first step is `Ancestral`'s."""
        self._last = None
        return super().__call__(x, times, watch)

    def step(self, x: Tensor, t: float, s: float) -> Tensor:
        """See `Sampler`."""
        here, clean = self._level(t), self.denoiser(x, t)
        middle = clean
        if self._last is not None and self.levels(s)[1] > 0:
            before, earlier = self._last
            middle = clean + (here - self._level(s)) / (2 * (before - here)) * (clean - earlier)
        self._last = here, clean
        return self.move(x, middle, t, s)

    def _level(self, t: float) -> float:
        alpha, sigma = self.levels(t)
        return math.log(sigma / alpha)
