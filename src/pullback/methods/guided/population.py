"""A population of weighted particles on its way from noise to data: sequential Monte Carlo on a diffusion prior.

Del Moral, Doucet and Jasra 2006, "Sequential Monte Carlo samplers"; the moves are those of `particle_kernels`, weights
and resampling those of `islands`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pullback.core import particles
from pullback.methods.guided import particle_kernels as kernels
from pullback.methods.guided.islands import Islands
from pullback.methods.guided.observation import curvature
from pullback.methods.guided.quadratic import Quadratic
from pullback.methods.guided.twist import Look, Twist

STABLE = 2.0
"""Largest product of step and curvature at which an explicit step does not grow."""


@dataclass(frozen=True)
class Scheme:
    """How particles move, are weighted and are resampled.

    Attributes:
        eta: multiple of the guidance that AFDPS has; 1/2 is that of Langevin's diffusion.
        stochastic: V = G, or V = 0.
        weights: ``rate``: integrated from its value at the start of a step. ``difference``: the part of the flow as the
            difference of Phi at its ends. ``path``: Phi's difference over the step times the ratio of the densities of
            the steps without and with guidance, exact for steps of any length as far as those of the prior are.
            ``none``: all equal, which is guidance alone.
        ratio: whether path weights have this ratio.
        corrector_steps, corrector_size: Langevin steps at the next level s, each of the time size * s^2.
        resampler: kind of resampling.
        resample_below: least effective share of the particles that goes on without resampling.
    """

    eta: float = 0.5
    stochastic: bool = True
    weights: kernels.Weights = "difference"
    ratio: bool = True
    corrector_steps: int = 0
    corrector_size: float = 0.1
    resampler: particles.Resampling = "systematic"
    resample_below: float = 0.5

    def time(self, t: float, s: float) -> float:
        """Integral of V^2 from t to s."""
        return 2 * s**2 * math.log(t / s) if self.stochastic and s > 0 else 0.0

    def needs_slope(self, split: bool) -> bool:
        """Whether gradients of Phi are used; ``split``: guidance is exact and needs none."""
        guides = (self.stochastic and self.eta != 0) or self.corrector_steps > 0
        rates = self.weights == "rate" or (self.weights == "difference" and self.stochastic and self.eta != 0.5)
        return rates or (guides and not split)


class Population(NamedTuple):
    """Particles at the last level.

    Attributes:
        x: (particle, *x), island by island.
        log_weight: (particle,), float64, of the same sum in each island that lives; -inf of a dead particle.
        log_evidence: log of Z_last / Z_first, added to that of the start; -inf where all died; nan without weights.
        ess: effective size over the number of particles at each level, before resampling there; mean over islands.
        ancestors: for each particle the one at the first level that it comes from.
        common_level: noise level of the resampling at which the last of the islands' common ancestors was copied, below
            which the living particles of each island differ by no more than the noise since; inf where an island has
            none.
        resamplings: number of levels with resampling, mean over islands.
        died: number of particles that were not finite, or whose likelihood failed, summed over the levels.
        stiffness: of explicit guidance, the largest median over particles of step times curvature, from differences of
            gradients; 0 where there was none.
    """

    x: Tensor
    log_weight: np.ndarray
    log_evidence: float
    ess: np.ndarray
    ancestors: np.ndarray
    common_level: float
    resamplings: float
    died: int
    stiffness: float


@torch.no_grad()
def evolve(
    twist: Twist,
    scheme: Scheme,
    x: Tensor,
    log_weight: np.ndarray | None,
    levels: Sequence[float],
    noise: Callable[[str], Tensor],
    rng: np.random.Generator,
    progress: Callable[[Iterable[tuple[float, float]]], Iterable[tuple[float, float]]] = lambda steps: steps,
    islands: int = 1,
    watch: Callable[[float, Tensor, Callable[[], np.ndarray]], None] = lambda t, x, log_weight: None,
) -> Population:
    """Carry weighted particles from q at the first level to q_0, all of them in one batch.

    Args:
        twist: the prior and its tilt.
        scheme: moves, weights and resampling.
        x: (particle, *x).
        log_weight: (particle,), of particles of q; None for particles of the noisy prior, weighted here by exp(-Phi).
        levels: t, falling; the last may be 0.
        noise: standard normals (particle, *x) by the name of the stage that uses them.
        rng: for resampling.
        progress: progress bar over steps.
        islands: number of populations of as many particles each that are resampled apart.
        watch: told t, the particles and what gives their log weights (particle,) at each level, before they are
            resampled there.
    """
    split = isinstance(twist, Quadratic)
    slope, stiffness = scheme.needs_slope(split), 0.0
    look = twist.look(x, levels[0], slope)
    if log_weight is None:
        log_weight = np.zeros(len(x)) if scheme.weights == "none" else -look.phi.cpu().numpy()
    weights = Islands(log_weight, islands)
    watch(levels[0], x, weights.pooled)
    trend = torch.zeros_like(x)
    for number, (t, s) in enumerate(progress(list(pairwise(levels)))):
        moved, growth = step(twist, scheme, look, trend, t, s, noise, str(number))
        before = look
        look = twist.look(moved, s, slope) if s > 0 else Look(moved, moved, look.phi, look.slope)
        if s > 0:
            trend = (look.mean - before.mean) / math.log(t / s)
        if scheme.weights == "path":
            growth = growth - (look.phi if s > 0 else twist.value(moved, s))
        if slope and not split:
            stiffness = max(stiffness, _stiffness(before, look, scheme.eta * scheme.time(t, s)))
        for k in range(scheme.corrector_steps if s > 0 else 0):
            corrected = correct(twist, scheme, look, s, noise(f"corrector-{number}-{k}"))
            before, look = look, twist.look(corrected, s, slope)
            if slope and not split:
                stiffness = max(stiffness, _stiffness(before, look, scheme.corrector_size * s**2))
        weights.grow(growth.cpu().numpy(), look.x.flatten(1).abs().amax(1).isfinite().cpu().numpy())
        watch(s, look.x, weights.pooled)
        if not weights.alive.any():
            break
        if s > 0 and (kept := weights.resample(s, scheme.resample_below, scheme.resampler, rng)) is not None:
            rows = torch.as_tensor(kept, device=x.device)
            look, trend = look.of(rows), trend[rows]
    return Population(
        look.x,
        weights.pooled(),
        weights.log_evidence() if scheme.weights != "none" else math.nan,
        np.array(weights.shares),
        weights.ancestors,
        weights.common_level(),
        weights.resamplings,
        weights.died,
        stiffness,
    )


def step(
    twist: Twist,
    scheme: Scheme,
    look: Look,
    trend: Tensor,
    t: float,
    s: float,
    noise: Callable[[str], Tensor],
    name: str,
) -> tuple[Tensor, Tensor]:
    """Particles at s from those at t, and the growth of their log weights (B,).

    Path weights still lack -Phi_s of the new particles.

    Args:
        twist, scheme: as for `evolve`.
        look: at t.
        trend: change of each particle's denoised mean for a unit of -log t (B, *x).
        t, s: levels.
        noise: standard normals by name.
        name: of the step.
    """
    time = scheme.time(t, s)
    mean = kernels.ahead(look.mean, trend, t, s)
    flowed = kernels.flow(look.x, mean, t, s)
    if scheme.stochastic:
        size = math.log(t / s) if s > 0 else 0.0
        centre, variance = kernels.diffuse(flowed, mean, s, size)
        moved = _guided(twist, look, centre, variance, s, scheme.eta * time, noise(f"step-{name}"), scheme.weights)
    else:
        moved = kernels.Moved(flowed, look.phi.new_zeros(len(flowed)))
    if scheme.weights == "none":
        return moved.x, torch.zeros_like(look.phi)
    if scheme.weights == "path":
        return moved.x, look.phi + moved.log_ratio if scheme.ratio else look.phi
    laplacian: Tensor | float = 0.0
    if scheme.eta != 0.5 and time > 0:
        laplacian = twist.laplacian(look.x, t, noise(f"probe-{name}"))
    if scheme.weights == "rate":
        elapsed = twist.elapsed(look, t, s)
        return moved.x, kernels.log_rate(look, flowed - look.x, t, scheme.eta, time, laplacian, elapsed)
    growth = look.phi - twist.value(flowed, s)
    return moved.x, growth + kernels.excess(look, t, scheme.eta, time, laplacian)


def correct(twist: Twist, scheme: Scheme, look: Look, s: float, normals: Tensor) -> Tensor:
    """One Langevin step (ULA) of q_s for the time h = corrector_size * s^2: score - grad Phi, noise sqrt(2 h)."""
    centre, variance = kernels.diffuse(look.x, look.mean, s, scheme.corrector_size)
    return _guided(twist, look, centre, variance, s, scheme.corrector_size * s**2, normals, "difference").x


def _guided(
    twist: Twist, look: Look, centre: Tensor, variance: float, s: float, time: float, normals: Tensor, weights: str
) -> kernels.Moved:
    if isinstance(twist, Quadratic):
        twist.cost.likelihood_gradients += len(centre) if time > 0 else 0
        return kernels.contract(twist, s, centre, variance, time, normals, weights == "path")
    # The radius of the noise at s: a longer move is one past the target.
    return kernels.push(centre, variance, look.slope, time, normals, s * math.sqrt(look.x[0].numel()))


def _stiffness(before: Look, after: Look, time: float) -> float:
    """Step times curvature."""
    return time * curvature(after.x - before.x, after.slope - before.slope)
