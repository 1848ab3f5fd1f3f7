"""Potentials Phi_t that tilt a diffusion prior's noisy marginals: particles follow q_t ~ p_t exp(-Phi_t).

Every one ends as Phi_0 = mu, -log p(y|x) up to a constant, so that q_0 is the posterior. They differ on the way there,
in how well q_t foresees the posterior and in what a step costs:

| | Phi_t(z) | |
| --- | --- | --- |
| `Tempered` | a_t mu(z) | AFDPS, arXiv 2506.03979: the likelihood at the noisy particle; any problem |
| `quadratic` | the same, or -log p(y given z_t) for a Gaussian prior | linear problems; exact steps |
| `Tweedie` | mu(E[x_0 given z_t]) / (1 + (gamma t)^2) | at the denoised particle, through the network |

z_t = x_0 + t n throughout, with x_0 as networks see it.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pullback.diffusion.denoiser import Denoiser


class Likelihood(Protocol):
    """What of `observation.Observation` is used."""

    def potential(self, z: Tensor) -> Tensor:
        """mu (B,), float64, +inf where it failed."""
        ...

    def gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """mu (B,) and its gradient (B, *x), 0 where it failed."""
        ...


class Look(NamedTuple):
    """What is known of particles x (B, *x) at one level.

    Attributes:
        x: the particles.
        mean: E[x_0 | x_t] (B, *x).
        phi: Phi_t (B,), float64; +inf where it could not be computed.
        slope: its gradient (B, *x); 0 where it is not needed, or could not be computed.
    """

    x: Tensor
    mean: Tensor
    phi: Tensor
    slope: Tensor

    def of(self, rows: Tensor) -> "Look":
        """These particles."""
        return Look(*(part[rows] for part in self))


class Twist:
    """A potential Phi_t beside the denoiser of the prior that it tilts.

    Args:
        denoiser: of the prior, on the clock z_t = x_0 + t n.
    """

    def __init__(self, denoiser: Denoiser):
        self.denoiser = denoiser

    def look(self, x: Tensor, t: float, slope: bool = True) -> Look:
        """The denoised particles, Phi_t and its gradient (zeros without ``slope``); t > 0."""
        mean = self.denoiser(x, t)
        phi, gradient = self.gradient(x, t) if slope else (self.value(x, t), torch.zeros_like(x))
        return Look(x, mean, phi, gradient)

    def value(self, x: Tensor, t: float) -> Tensor:
        """Phi_t (B,), float64."""
        raise NotImplementedError

    def gradient(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Phi_t (B,) and its gradient (B, *x)."""
        raise NotImplementedError

    def elapsed(self, look: Look, t: float, s: float) -> Tensor | float:
        """Phi_t - Phi_s (B,) of particles that stay where they are."""
        return look.phi - self.value(look.x, s)

    def laplacian(self, x: Tensor, t: float, probe: Tensor, width: float = 1e-2) -> Tensor:
        """An estimate of the Laplacian of Phi_t (B,): v . (slope(x + w v) - slope(x - w v)) / (2 w).

        Unbiased up to O(w^2) over probes v of independent signs (Hutchinson 1990). Its exponential is not: the weights
        that it enters have a bias which falls with its variance.
        """
        v = width * torch.where(probe < 0, -1.0, 1.0).to(x)
        ends = [self.gradient(x + sign * v, t)[1] for sign in (1, -1)]
        return ((ends[0] - ends[1]).double() * v.double()).flatten(1).sum(1) / (2 * width**2)


class Tempered(Twist):
    """a_t mu(z), with a_t = 1 - t / start (0 at the first level, where q is the noisy prior), or 1.

    Args:
        denoiser: of the prior.
        likelihood: of the observation.
        start: first level; None for a_t = 1.
    """

    def __init__(self, denoiser: Denoiser, likelihood: Likelihood, start: float | None):
        super().__init__(denoiser)
        self.likelihood, self.start = likelihood, start

    def amplitude(self, t: float) -> float:
        """a_t."""
        return 1.0 if self.start is None else 1.0 - t / self.start

    def value(self, x: Tensor, t: float) -> Tensor:
        """See `Twist`."""
        a = self.amplitude(t)
        return a * self.likelihood.potential(x) if a > 0 else x.new_zeros(len(x), dtype=torch.float64)

    def gradient(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """See `Twist`."""
        a = self.amplitude(t)
        if a <= 0:
            return self.value(x, t), torch.zeros_like(x)
        mu, slope = self.likelihood.gradient(x)
        return a * mu, a * slope

    def elapsed(self, look: Look, t: float, s: float) -> Tensor | float:
        """See `Twist`; no new likelihood where a_t > 0."""
        a, ahead = self.amplitude(t), self.amplitude(s)
        return (1 - ahead / a) * look.phi if a > 0 else super().elapsed(look, t, s)


class Tweedie(Twist):
    """mu(E[x_0 | z_t]) / (1 + (gamma t)^2): the likelihood at the denoised particle, with a wider noise.

    Args:
        denoiser: of the prior.
        likelihood: of the observation.
        inflation: gamma, in standard deviations of y's noise for each unit of t.
    """

    def __init__(self, denoiser: Denoiser, likelihood: Likelihood, inflation: float):
        super().__init__(denoiser)
        self.likelihood, self.inflation = likelihood, inflation

    def look(self, x: Tensor, t: float, slope: bool = True) -> Look:
        """See `Twist`; one call of the network serves the mean and the gradient."""
        if not slope:
            mean = self.denoiser(x, t)
            return Look(x, mean, self._share(t) * self.likelihood.potential(mean), torch.zeros_like(x))
        mean, pull = self.denoiser.vjp(x, t)
        mu, gradient = self.likelihood.gradient(mean)
        gradient = self._share(t) * pull(gradient)
        fine = gradient.isfinite().flatten(1).all(1)
        return Look(
            x,
            mean,
            torch.where(fine, self._share(t) * mu, torch.inf),
            torch.where(fine.reshape(-1, *(1,) * (x.ndim - 1)), gradient, 0.0),
        )

    def value(self, x: Tensor, t: float) -> Tensor:
        """See `Twist`."""
        return self._share(t) * self.likelihood.potential(self.denoiser(x, t) if t > 0 else x)

    def gradient(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """See `Twist`."""
        return self.look(x, t)[2:]

    def elapsed(self, look: Look, t: float, s: float) -> Tensor | float:
        """0: a rate leaves it out, as the published ports do, since it would need another call of the network."""
        return 0.0

    def _share(self, t: float) -> float:
        return 1 / (1 + (self.inflation * t) ** 2)
