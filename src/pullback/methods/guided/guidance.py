"""Guided scores: what methods share that sample the posterior with an approximation of grad log p(y | z_t).

On the clock z_t = z_0 + t n the posterior's score is that of the prior plus grad log p(y | z_t), and by Tweedie's
formula

    E[z_0 | z_t, y] = E[z_0 | z_t] + t^2 grad log p(y | z_t).

A guidance is therefore a denoiser around the prior's, which any sampler takes. p(y | z_t) is the average of the
likelihood over p(z_0 | z_t). Where that is taken as N(m, S) and H is linear, with unit noise,

    grad log p(y | z_t) = (dm / dz_t)^T H^T (H S H^T + I)^-1 (target - H m),

and methods differ in m and S alone:

| method | m | S |
| --- | --- | --- |
| `flat` | z_t | t^2 I |
| `dps`, step likelihood | E[z_0 given z_t] | 0 |
| `pigdm` | E[z_0 given z_t] | t^2 / (1 + t^2) I |
| `tmpd` | E[z_0 given z_t] | t^2 dE[z_0 given z_t] / dz_t, the covariance |

The last is exact for a Gaussian prior.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.sampler import Ancestral, Euler, Multistep, Sampler
from pullback.diffusion.schedule import VarianceExploding, VariancePreserving
from pullback.methods.guided.base import DiffusionMethod, Particles
from pullback.methods.guided.guidance_spec import DdrmInfer, GuidanceInfer
from pullback.methods.guided.observation import LikelihoodError, Observation, TensorSvd, Whitened

END = 1e-3
"""Time at which the variance-preserving SDE is stopped, as its authors do."""


class Guided(Denoiser):
    """The mean of z_0 given z_t and y, by a prior's denoiser and an approximation of p(y | z_t).

    Args:
        prior: with a `VarianceExploding` schedule.
        observation: y.
    """

    def __init__(self, prior: Denoiser, observation: Observation):
        self.prior, self.observation, self.schedule = prior, observation, prior.schedule


def levels(schedule: VarianceExploding, infer: GuidanceInfer | DdrmInfer) -> list[float]:
    """The noise levels of an inference, largest first, then 0."""
    if infer.grid == "karras":
        return schedule.times(infer.levels)
    preserving = VariancePreserving()
    first = min(1.0, float(preserving.time_of(schedule.sigma_max)))
    last = max(END, float(preserving.time_of(schedule.sigma_min)))
    times = np.linspace(first, last, infer.levels)
    return [*(float(sigma) / float(alpha) for alpha, sigma in map(preserving, times.tolist())), 0.0]


def whitened(observation: Observation, method: str) -> Whitened:
    """The linear form of an observation.

    Raises:
        LikelihoodError: it has none.
    """
    if observation.linear is None:
        raise LikelihoodError(
            f"{method} needs y = A x + noise of a known covariance, and x as networks see it linear in x: give the "
            "problem `noise_covariance`, and the quantities of x the transform 'linear'; or take the method dps"
        )
    return observation.linear


def singular(linear: Whitened, method: str) -> TensorSvd:
    """The singular values and vectors of H that are not zero.

    Raises:
        LikelihoodError: H is too large to have them, or zero.
    """
    if linear.svd is None:
        raise LikelihoodError(
            f"{method} needs the singular values of A, which is too large to compute them: give the operator `svd`, or "
            "take the methods dps or tmpd"
        )
    u, s, v = linear.svd
    fine = s > len(s) * torch.finfo(s.dtype).eps * s.max()
    if not fine.any():
        raise LikelihoodError(f"{method}: A is zero, y says nothing about x; look at the problem's operator")
    return TensorSvd(u[:, fine], s[fine], v[:, fine])


def solve(svd: TensorSvd, variance: float, residual: Tensor) -> Tensor:
    """(variance H H^T + I)^-1 residual (B, m)."""
    u, s = svd.u.to(residual), svd.s.to(residual)
    return residual - (residual @ u * (1 - 1 / (1 + variance * s.square()))) @ u.T


class GuidedMethod(DiffusionMethod):
    """A method that samples with a guided score.

    Attributes:
        stage: names its random numbers.
    """

    settings: GuidanceInfer
    stage: ClassVar[str]

    def guided(self, observation: Observation) -> Denoiser:
        """The guided denoiser of one observation."""
        raise NotImplementedError

    def sampler(self, denoiser: Denoiser, normals: Iterator[Tensor]) -> Sampler:
        """Ancestral steps of the reverse SDE, of order 1 or 2, or Euler steps of the probability flow."""
        if self.settings.sampler == "ode":
            return Euler(denoiser)
        return (Multistep if self.settings.sampler == "sde-2" else Ancestral)(denoiser, normals)

    @torch.no_grad()
    def answer(self, y: np.ndarray, event_id: int) -> Particles:
        """Draws for one observation. One whose guidance is not finite becomes NaN and has failed."""
        grid, normals = levels(self.prior.schedule, self.settings), self.normals(event_id)
        sampler = self.sampler(self.guided(self.observation(y)), normals)
        return Particles(sampler(grid[0] * next(normals), grid, self.watch))

    def normals(self, event_id: int) -> Iterator[Tensor]:
        """Standard normals (draw, *x) of the start and then of each step."""
        for step in range(self.settings.levels + 1):
            yield self.noise(f"{self.stage}-{step}", event_id, self.settings.draws)
