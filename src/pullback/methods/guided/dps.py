"""Diffusion posterior sampling: DPS, Chung et al. 2023, arXiv 2209.14687.

p(z_0 | z_t) is taken as a point, its mean z_0^ = E[z_0 | z_t] (eq. 11): log p(y | z_t) ~ log p(y | z_0^), for any
differentiable F. Two forms:

- ``likelihood``, what that says: grad log p(y | z_t) = -J^T grad mu(z_0^), J = dz_0^ / dz_t, in the score.
- ``norm``, algorithm 1 as released: after an ancestral step of x_t = alpha z_t (alpha^2 + sigma^2 = 1) the state goes
  down by scale * grad |y - F(z_0^)|, of the norm itself, in units of y. The noise of y does not enter. In z_t = x_t /
  alpha the step from t to s is

      z_s <- z_s - scale / (alpha_s alpha_t) * grad_{z_t} |y - F(z_0^)|,   alpha_t = 1 / sqrt(1 + t^2).

The norm is that of each draw; the released code takes the norm of a whole batch, which couples draws.

J = I (``jacobian: identity``) is the 1 / alpha of L. Ruthotto's lectures, another approximation. ``guidance_cutoff``
leaves out the guidance while alpha is below it, as implementations do where 1 / alpha is too large: draws then keep the
modes that the prior chose for them.
"""

import logging
import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.sampler import Ancestral, Sampler
from pullback.diffusion.schedule import Time, VarianceExploding
from pullback.methods.guided.base import Particles
from pullback.methods.guided.guidance import Guided, GuidedMethod, levels
from pullback.methods.guided.guidance_spec import DpsInfer
from pullback.methods.guided.observation import LikelihoodError, Observation, curvature
from pullback.methods.guided.population import STABLE
from pullback.methods.guided.spec import MOST_LEVELS

log = logging.getLogger("pullback")


class PointGuidance(Guided):
    """The mean of z_0 given z_t and y, p(z_0 | z_t) a point.

    Args:
        prior, observation: see `Guided`.
        infer: form and range of the guidance.

    Attributes:
        stiffness: of the form ``likelihood``, the largest product of a step that was taken and the guidance's
            curvature, median over draws; above `STABLE` explicit steps grow.
    """

    def __init__(self, prior: Denoiser, observation: Observation, infer: DpsInfer):
        super().__init__(prior, observation)
        self._infer, self.stiffness = infer, 0.0
        self._last: tuple[Tensor, Tensor, float] | None = None

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """See `Denoiser`; the form ``likelihood``, level after level."""
        mean, _, slope = self.parts(x, float(t))
        if self._last is not None:
            before, slope_before, first = self._last
            size = _step(first, float(t), self._infer.sampler) * self._infer.scale
            self.stiffness = max(self.stiffness, size * curvature(x - before, slope - slope_before))
        self._last = (x, slope, float(t)) if alpha(float(t)) >= self._infer.guidance_cutoff else None
        return mean - self._infer.scale * float(t) ** 2 * slope

    def parts(self, z: Tensor, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """z_0^ (B, *x), mu there (B,), and J^T grad mu (B, *x), NaN where mu is not finite; 0 below the cut-off."""
        if alpha(t) < self._infer.guidance_cutoff:
            return self.prior(z, t), z.new_zeros(len(z)), torch.zeros_like(z)
        if self._infer.jacobian == "identity":
            mean = self.prior(z, t)
            mu, slope = self.observation.gradient(mean)
        else:
            mean, pull = self.prior.vjp(z, t)
            mu, slope = self.observation.gradient(mean)
            slope = pull(slope)
        return mean, mu, torch.where(_rows(mu.isfinite(), z), slope, torch.nan)


class NormStep(Ancestral):
    """An ancestral step of the prior, then one down the norm of the residual.

    Args:
        guided: prior and observation.
        normals: see `Ancestral`.
        scale: length of the step.
    """

    def __init__(self, guided: PointGuidance, normals: Iterator[Tensor], scale: float):
        super().__init__(guided, normals)
        self._guided, self._scale = guided, scale

    def step(self, x: Tensor, t: float, s: float) -> Tensor:
        """See `Sampler`."""
        mean, mu, slope = self._guided.parts(x, t)
        # |y - F| = noise sqrt(2 mu); where it is 0 there is nothing to go down.
        root = _rows((2 * mu).sqrt().to(x), x)
        downhill = torch.where(root == 0, 0.0, self._guided.observation.noise * slope / root)
        return self.move(x, mean, t, s) - self._scale / (alpha(s) * alpha(t)) * downhill


class Dps(GuidedMethod):
    """Draws with the guidance of DPS."""

    settings: DpsInfer
    stage = "dps"
    _is_checked = False
    _guidance: PointGuidance

    def guided(self, observation: Observation) -> PointGuidance:
        """See `GuidedMethod`.

        Raises:
            LikelihoodError: the form needs another noise.
        """
        if self.settings.step == "norm" and not observation.is_squared:
            raise LikelihoodError("dps: the noise of y depends on x, and a residual has no norm: set step: likelihood")
        if self.settings.step == "likelihood" and not observation.is_likelihood:
            raise LikelihoodError(
                "dps: step: likelihood divides by the noise of y, and the problem has none; give its simulator a "
                "positive noise, or set step: norm"
            )
        if self.settings.step == "likelihood" and observation.linear is not None and not self._is_checked:
            self._is_checked = True
            warn_long_steps(self.prior.schedule, self.settings, observation.linear.operator.largest)
        self._guidance = PointGuidance(self.prior, observation, self.settings)
        return self._guidance

    def sampler(self, denoiser: Denoiser, normals: Iterator[Tensor]) -> Sampler:
        """See `GuidedMethod`."""
        if self.settings.step == "norm":
            assert isinstance(denoiser, PointGuidance)
            return NormStep(denoiser, normals, self.settings.scale)
        return super().sampler(denoiser, normals)

    def answer(self, y: np.ndarray, event_id: int) -> Particles:
        """See `GuidedMethod`; says where steps were too long, which only a linear problem tells beforehand."""
        found = super().answer(y, event_id)
        if self._guidance.observation.linear is None and (stiff := self._guidance.stiffness) > STABLE:
            log.warning(
                "dps, event %d: explicit guidance moves draws by up to %.3g times what is stable (step times curvature "
                "of the likelihood, median over draws): about %d levels would do, or `step: norm`",
                event_id, stiff / STABLE, math.ceil(self.settings.levels * stiff / STABLE),
            )  # fmt: skip
        return found


def _step(t: float, s: float, sampler: str) -> float:
    """What the slope of log p(y | z_t) is multiplied by in a step from t to s; an extrapolated one counts twice.

    It is stable below half of what others are, as the two-step method of Adams and Bashforth is.
    """
    return t * (t - s) if sampler == "ode" else (t**2 - s**2) * (2 if sampler == "sde-2" else 1)


def _rows(values: Tensor, z: Tensor) -> Tensor:
    """Values (B,) in a shape that broadcasts against z (B, *x)."""
    return values.reshape(-1, *(1,) * (z.ndim - 1))


def alpha(t: float) -> float:
    """Amplitude of the data at noise level t where it has variance-preserving noise."""
    return 1 / math.sqrt(1 + t**2)


def growth(grid: list[float], infer: DpsInfer, top: float) -> float:
    """Most that a step multiplies an error of the guidance by, less 1.

    For a prior of unit variance, J = 1 / (1 + t^2): the guidance contracts at the rate lambda = top^2 J^2 (J for the
    identity), and an explicit step by (t^2 - s^2) lambda, which is stable below 2 (`_step` has other samplers').

    Args:
        grid: levels.
        infer: form of the guidance.
        top: largest singular value of H.
    """
    power = 1 if infer.jacobian == "identity" else 2
    return max(
        _step(t, s, infer.sampler) * infer.scale * top**2 / (1 + t**2) ** power
        for t, s in pairwise(grid)
        if alpha(t) >= infer.guidance_cutoff
    )


def warn_long_steps(schedule: VarianceExploding, infer: DpsInfer, top: float) -> None:
    """Warn where steps are too long for the guidance, with the number of levels that works (`growth` below 2)."""
    grid = levels(schedule, infer)
    found = growth(grid, infer, top)
    if found < STABLE:
        return
    enough = infer.levels
    while enough <= MOST_LEVELS and growth(grid, infer, top) >= STABLE:
        enough = math.ceil(1.1 * enough)
        grid = levels(schedule, infer.model_copy(update={"levels": enough}))
    cure = f"set `levels: {enough}`, or" if enough <= MOST_LEVELS else "no number of levels is enough: set"
    log.warning(
        "dps: steps between %d levels are too long for noise that is 1 / %.3g of the signal: (t^2 - s^2) lambda is "
        "%.3g for a prior of unit variance, and explicit steps diverge from 2 on; %s `step: norm`",
        *(infer.levels, top, found, cure),
    )
