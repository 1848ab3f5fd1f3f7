"""Potentials Phi_t that tilt a diffusion prior's noisy marginals: particles follow q_t ~ p_t exp(-Phi_t).

Every one ends as Phi_0 = mu, -log p(y|x) up to a constant, so that q_0 is the posterior. They differ on the way there,
in how well q_t foresees the posterior and in what a step costs:

| | Phi_t(z) | |
| --- | --- | --- |
| `Tempered` | a_t mu(z) | AFDPS, arXiv 2506.03979: the likelihood at the noisy particle; any problem |
| `Quadratic` | the same, or -log p(y given z_t) for x ~ N(0, I) | linear problems; exact in singular vectors |
| `Tweedie` | mu(E[x_0 given z_t]) / (1 + (gamma t)^2) | at the denoised particle, through the network |

z_t = x_0 + t n throughout, with x_0 as networks see it.
"""

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from pullback.diffusion.denoiser import Denoiser
from pullback.methods.base import Cost

Tempering = Literal["linear", "gaussian", "none"]


class Likelihood(Protocol):
    """What of `observation.Observation` is used."""

    def potential(self, z: Tensor) -> Tensor:
        """mu (B,), float64, +inf where it failed."""
        ...

    def gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """mu (B,) and its gradient (B, *x), 0 where it failed."""
        ...


class Linear(Protocol):
    """What of `observation.Whitened` is used: mu(z) = |target - H z|^2 / 2."""

    target: Tensor

    @property
    def svd(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """U (m, rank), s (rank,), V (d, rank)."""
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


class Quadratic(Twist):
    """Phi_t of a linear problem: sum_i lambda_i (c_i - u_i)^2 / 2 + k in coordinates c = V^T z, H = U diag(s) V^T.

    - ``none``: mu, with lambda = s^2 and u = (U^T target) / s.
    - ``linear``: a_t mu, a_t = 1 - t / start.
    - ``gaussian``: -log p(y | z_t) + log p(y | z_0 = ...)'s normalisation under x_0 ~ N(0, I), exact for that prior:
      x_0 given z_t is N(w z_t, r^2 I), w = 1 / (1 + t^2), r^2 = t^2 w, so that
      lambda = (s w)^2 / (1 + (s r)^2), u = (U^T target) / (s w), and k holds sum log(1 + (s r)^2) / 2. It is mu at
      t = 0, and flat where the noise hides x.

    Args:
        denoiser: of the prior.
        linear: the whitened operator; it has singular vectors.
        tempering: which of these.
        start: first level.
        cost: counts gradients, and the exact steps that take their place.
    """

    def __init__(self, denoiser: Denoiser, linear: Linear, tempering: Tempering, start: float, cost: Cost):
        super().__init__(denoiser)
        assert linear.svd is not None
        u, self.s, self.v = linear.svd
        self.tempering, self._start, self.cost = tempering, start, cost
        self._last: tuple[float, tuple[Tensor, Tensor, float]] | None = None
        self._target = u.T @ linear.target.to(u)
        # What no x explains.
        self._rest = float((linear.target.double().square().sum() - self._target.square().sum()).clamp_min(0)) / 2

    def to(self, device: torch.device) -> "Quadratic":
        """On a device."""
        self.s, self.v, self._target = (part.to(device) for part in (self.s, self.v, self._target))
        self._last = None
        return self

    def form(self, t: float) -> tuple[Tensor, Tensor, float]:
        """lambda, lambda u (rank,) and Phi_t's value at c = 0."""
        # A step to t, and Phi_t at its end, need the same.
        if self._last is None or self._last[0] != t:
            self._last = t, self._form(t)
        return self._last[1]

    def _form(self, t: float) -> tuple[Tensor, Tensor, float]:
        s, y = self.s, self._target
        if self.tempering == "gaussian":
            w = 1 / (1 + t**2)
            wide = 1 + s.square() * t**2 * w
            constant = float((wide.log() + y.square() / wide).sum()) / 2 + self._rest
            return (s * w).square() / wide, s * w * y / wide, constant
        a = 1 - t / self._start if self.tempering == "linear" else 1.0
        return a * s.square(), a * s * y, a * (float(y.square().sum()) / 2 + self._rest)

    def value(self, x: Tensor, t: float) -> Tensor:
        """See `Twist`."""
        weight, pull, constant = self.form(t)
        c = self.coordinates(x)
        phi = c.square() @ weight / 2 - c @ pull + constant
        return phi.nan_to_num(torch.inf, torch.inf, torch.inf)

    def gradient(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """See `Twist`."""
        self.cost.likelihood_gradients += len(x)
        weight, pull, constant = self.form(t)
        c = self.coordinates(x)
        phi = c.square() @ weight / 2 - c @ pull + constant
        slope = self.fields(c * weight - pull, x)
        fine = slope.isfinite().flatten(1).all(1) & phi.isfinite()
        return torch.where(fine, phi, torch.inf), torch.where(fine.reshape(-1, *(1,) * (x.ndim - 1)), slope, 0.0)

    def laplacian(self, x: Tensor, t: float, probe: Tensor, width: float = 0.0) -> Tensor:
        """See `Twist`; exact, sum lambda_i of every particle."""
        return self.form(t)[0].sum().expand(len(x))

    def coordinates(self, x: Tensor) -> Tensor:
        """c (B, rank), float64, to the precision of x."""
        self.v = self.v.to(x)
        return (x.flatten(1) @ self.v).double()

    def fields(self, c: Tensor, like: Tensor) -> Tensor:
        """V c in the shape and type of ``like``."""
        self.v = self.v.to(like)
        return (c.to(like) @ self.v.T).reshape(like.shape)
