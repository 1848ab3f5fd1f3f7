"""Denoisers: E[x_0 | x_t], the only quantity of a prior that a sampler needs.

By Tweedie's formula the score of the noisy prior is (alpha E[x_0 | x_t] - x_t) / sigma^2. Networks predict other
combinations of the same two means, of data and of noise:

    p = c E[x_0 | x_t] + d E[n | x_t]

| prediction | c | d | |
| --- | --- | --- | --- |
| ``mean`` | 1 | 0 | |
| ``noise`` | 0 | 1 | Ho et al. 2020, arXiv 2006.11239 |
| ``v`` | -sigma | alpha | Salimans and Ho 2022, arXiv 2202.00512; defined where alpha = 0, too |
| ``velocity`` | d alpha / dt | d sigma / dt | flow matching: Lipman et al. 2023, arXiv 2210.02747 |

With x_t = alpha x_0 + sigma n these are two linear equations for two unknowns: flow matching, DDPM and EDM are one
model in three parameterisations.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from pullback.diffusion.schedule import Schedule, Time, VarianceExploding

Prediction = Literal["mean", "noise", "v", "velocity"]

SIGMA_DATA = 1.0
"""Standard deviation of x as networks see it: `Scaling` standardises."""

P_STD = 1.2
P_MEAN = -1.2 + math.log(2.0)
"""Published -1.2 at sigma_data = 0.5; the same levels relative to the data's here."""


def as_column(t: Time, x: Tensor) -> Time:
    """Times (B,) in a shape that broadcasts against x (B, *x); a number stays one."""
    return t.reshape(*t.shape, *(1,) * (x.ndim - t.ndim)) if isinstance(t, Tensor) else t


class Denoiser:
    """The mean of x_0 given x_t, differentiable in x_t. Guidance wraps a denoiser in another one.

    Attributes:
        schedule: of the noise.
        noise_at_data: whether `split` is defined where sigma = 0, so that x_t says nothing about the noise.
    """

    schedule: Schedule
    noise_at_data: bool = False

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """Means (B, *x) of x_0 given x_t (B, *x) at time t, one for all rows or one for each (B,)."""
        raise NotImplementedError

    def split(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """Means of x_0 and of n given x_t; x_t = alpha E[x_0 | x_t] + sigma E[n | x_t]."""
        mean = self(x, t)
        alpha, sigma = self.schedule(as_column(t, x))
        return mean, (x - alpha * mean) / sigma

    def vjp(self, x: Tensor, t: Time) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The mean, and the function v (B, *x) -> J^T v (B, *x), J = d mean / d x_t, also within ``torch.no_grad``."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            mean = self(x, t)

        def pull(cotangent: Tensor) -> Tensor:
            return torch.autograd.grad(mean, x, cotangent, retain_graph=True)[0]

        return mean.detach(), pull


def combination(predicts: Prediction, schedule: Schedule, t: Time) -> tuple[Time, Time]:
    """The factors c and d of data and noise in a prediction at t."""
    if predicts == "velocity":
        return schedule.rate(t)
    if predicts == "v":
        alpha, sigma = schedule(t)
        return -sigma, alpha
    return (1.0, 0.0) if predicts == "mean" else (0.0, 1.0)


def noised(schedule: Schedule, predicts: Prediction, x: Tensor, n: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The point x_t and what a network should predict there.

    Args:
        schedule, predicts: of the network.
        x, n: data and standard normals (..., *x).
        t: times (...).
    """
    t = torch.as_tensor(as_column(t, x))
    (alpha, sigma), (c, d) = schedule(t), combination(predicts, schedule, t)
    return alpha * x + sigma * n, c * x + d * n


class NetworkDenoiser(Denoiser):
    """A network that predicts a combination of data and noise.

    Args:
        network: x_t (B, *x), t (1,) or (B,) -> (B, *x).
        schedule: of the noise.
        predicts: which combination.
    """

    def __init__(self, network: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, predicts: Prediction):
        self.network, self.schedule, self.predicts = network, schedule, predicts
        self.noise_at_data = predicts != "mean"

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """See `Denoiser`."""
        return self.split(x, t)[0]

    def split(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """See `Denoiser`."""
        times = t if isinstance(t, Tensor) else torch.full((1,), t, dtype=x.dtype, device=x.device)
        predicted = self.network(x, times)
        t = as_column(t, x)
        (alpha, sigma), (c, d) = self.schedule(t), combination(self.predicts, self.schedule, t)
        determinant = alpha * d - sigma * c
        mean = (d / determinant) * x - (sigma / determinant) * predicted
        return mean, (alpha / determinant) * predicted - (c / determinant) * x


class EdmDenoiser(nn.Module, Denoiser):
    """The preconditioning of Karras et al. 2022 (EDM, arXiv 2206.00364, table 1) around a network F.

    D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) has inputs and outputs of F of unit variance at every level:

        c_skip = s^2 / (sigma^2 + s^2),   c_out = sigma s / sqrt(sigma^2 + s^2),
        c_in = 1 / sqrt(sigma^2 + s^2),   c_noise = log(sigma) / 4

    Args:
        network: F(x, t, y = None, context = None), t = c_noise.
        schedule: with the range of levels that it is trained on.
        sigma_data: s, standard deviation of x as the network was trained on it.
    """

    schedule: VarianceExploding

    def __init__(self, network: nn.Module, schedule: VarianceExploding, sigma_data: float = SIGMA_DATA):
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.sigma_data = sigma_data

    def forward(self, x: Tensor, t: Time) -> Tensor:
        """See `Denoiser`."""
        level = torch.as_tensor(t, dtype=x.dtype, device=x.device).reshape(-1, *(1,) * (x.ndim - 1))
        total = (level.square() + self.sigma_data**2).sqrt()
        c_noise = (level.flatten().log() / 4).expand(len(x))
        F = self.network(x / total, c_noise, None, None)
        # Under bfloat16 only the network is rounded: c_skip x is as large as sigma.
        return (self.sigma_data / total).square() * x + level * self.sigma_data / total * F.to(x.dtype)


class Rescaled(Denoiser):
    """A denoiser of any noise process on the clock of the variance-exploding one.

    x_t = alpha x_0 + sigma n is alpha (x_0 + t n) with t = sigma / alpha: the mean of x_0 given x_0 + t n = z is that
    given x_t = alpha z. The two describe one diffusion.

    Args:
        denoiser: with a schedule that has `Schedule.time_of`.
        sigma_min, sigma_max: range of levels t that samplers visit.
    """

    schedule: VarianceExploding

    def __init__(self, denoiser: Denoiser, sigma_min: float, sigma_max: float):
        self.denoiser, self.schedule = denoiser, VarianceExploding(sigma_min, sigma_max)

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """See `Denoiser`."""
        time = self.denoiser.schedule.time_of(t)
        alpha, _ = self.denoiser.schedule(time)
        return self.denoiser(as_column(alpha, x) * x, time)


def edm_loss(denoiser: nn.Module, x: Tensor, level: Tensor, n: Tensor) -> Tensor:
    """lambda(sigma) |D(x + sigma n; sigma) - x|^2, lambda = 1 / c_out^2, mean over entries of x: one for each row (B,).

    Args:
        denoiser: an `EdmDenoiser`.
        x: clean data (B, *x), unit variance.
        level: standard normals (B,), which give log sigma ~ N(P_MEAN, P_STD^2).
        n: standard normals (B, *x).
    """
    sigma = (P_MEAN + P_STD * level).exp()
    weight = (sigma.square() + SIGMA_DATA**2) / (sigma * SIGMA_DATA).square()
    error = denoiser(x + as_column(sigma, x) * n, sigma) - x
    return weight * error.square().flatten(1).mean(dim=1)
