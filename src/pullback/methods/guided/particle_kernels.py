"""Moves and weights of particles that follow q_t ~ p_t exp(-Phi_t), as functions of what is known at one level.

On the clock z_t = x_0 + t n (F = 0, G^2 = 2 t) and for any V(t), eta and Phi_t, with time running to the data,

    dx = ((G^2 + V^2)/2 score - eta V^2 grad Phi) dt + V dW                                        (drift)
    d log w = [-(G^2/2) score . grad Phi - d Phi/dt
               + (eta - 1/2) V^2 (|grad Phi|^2 - Lap Phi - score . grad Phi)] dt                   (rate)

keeps the weighted particles distributed as q_t. AFDPS (Chen et al. 2025, arXiv 2506.03979, eq. 3.6) is eta = 1; at
eta = 1/2 the second line vanishes (Skreta et al. 2025, arXiv 2503.02819, proposition D.6).

The drift is the sum of the probability flow, (G^2/2) score, which the first line of the rate belongs to, and of a
Langevin diffusion of q_t, (V^2/2) (score - grad Phi) + V dW, which needs no weight (and for eta other than 1/2 of a
further pull). A step is therefore the flow from t to s (`flow`), then Langevin for the time h = integral of V^2/2 =
s^2 log(t/s) (`diffuse`, and one of `push` and `contract`), both with one value of E[x_0|x_t]: without Phi that is the
ancestral step of a DDPM, the posterior of x_s given x_t and x_0 (Ho et al. 2020, arXiv 2006.11239, eq. 7), of order 1.
With the value extrapolated to the middle of the step in log t from the particle's last two (`ahead`) it is the
multistep DPM-Solver++, for V = 0 its 2M, of order 2 and no more calls of the network (Lu et al. 2022, arXiv
2211.01095): 100 levels from 80 give a Gaussian's variance to .7 % in place of 10 %. A corrector is a Langevin step
alone (unadjusted, ULA), and V = 0 the flow alone.

Log weights are float64.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pullback.methods.guided.twist import Look, Quadratic

Weights = Literal["rate", "path", "difference"]


class Moved(NamedTuple):
    """Particles after a random step.

    Attributes:
        x: (B, *x).
        log_ratio: (B,), float64: log of the density of this step without guidance over that with it.
    """

    x: Tensor
    log_ratio: Tensor


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Scalar products (B,), float64, of a and b (B, *x)."""
    return (a.double() * b.double()).flatten(1).sum(1)


def ahead(mean: Tensor, trend: Tensor, t: float, s: float) -> Tensor:
    """E[x_0|x] in the middle of the step from t to s in log t; ``trend`` is its change for each unit of -log t.

    The last step, s = 0, has no middle: the mean itself.
    """
    return torch.add(mean, trend, alpha=math.log(t / s) / 2) if s > 0 else mean


def flow(x: Tensor, mean: Tensor, t: float, s: float) -> Tensor:
    """The probability flow from t to s with the mean held: mean + (s/t) (x - mean) (DDIM)."""
    return torch.add(mean, x - mean, alpha=s / t)


def diffuse(x: Tensor, mean: Tensor, s: float, size: float) -> tuple[Tensor, float]:
    """Centre and variance of Langevin's diffusion of the noisy prior at s for the time size s^2, the mean held.

    Exact for the Ornstein-Uhlenbeck process that the held mean makes of it; to first order x + h score + sqrt(2h) n.
    """
    return torch.add(mean, x - mean, alpha=math.exp(-size)), -(s**2) * math.expm1(-2 * size)


def push(centre: Tensor, variance: float, slope: Tensor, time: float, normals: Tensor, longest: float) -> Moved:
    """Explicit guidance: a move by -time * slope beside the noise; stable while time * curvature < 2.

    Args:
        centre, variance: of the step without guidance.
        slope: gradient of Phi (B, *x).
        time: integral of eta V^2.
        normals: (B, *x).
        longest: move, to which longer ones are cut: without it single particles escape where slopes grow faster than x.
    """
    if variance == 0:
        return Moved(centre, centre.new_zeros(len(centre), dtype=torch.float64))
    shift = -time * slope
    length = shift.flatten(1).norm(dim=1).clamp_min(longest).reshape(-1, *(1,) * (shift.ndim - 1))
    shift = shift * (longest / length)
    ratio = -dot(normals, shift) / math.sqrt(variance) - dot(shift, shift) / (2 * variance)
    return Moved(centre + shift + math.sqrt(variance) * normals, ratio)


def contract(
    twist: Quadratic, s: float, centre: Tensor, variance: float, time: float, normals: Tensor, ratio: bool
) -> Moved:
    """Guidance by a quadratic Phi_s together with the noise, exactly: an Ornstein-Uhlenbeck process in each direction.

    In the direction of curvature lambda, with kappa = time * lambda: c <- u + (c - u) exp(-kappa), and the noise's
    variance times (1 - exp(-2 kappa)) / (2 kappa). Stable for steps of any size.

    Args:
        twist: gives lambda and u.
        s: level.
        centre, variance: of the step without guidance.
        time: integral of eta V^2.
        normals: (B, *x).
        ratio: whether ``log_ratio`` is wanted.
    """
    deviation = math.sqrt(variance)
    free = torch.add(centre, normals, alpha=deviation)
    if time == 0:
        return Moved(free, centre.new_zeros(len(centre), dtype=torch.float64))
    weight, pull, _ = twist.form(s)
    kappa = time * weight
    lag, wide = time * _mean_decay(kappa), _mean_decay(2 * kappa)
    noise = deviation * twist.coordinates(normals)
    # (pull - weight c) lag + (sqrt(wide) - 1) noise, in two passes over the particles.
    move = torch.addcmul(pull * lag, twist.coordinates(centre), weight * lag, value=-1)
    move = move.addcmul_(noise, wide.sqrt() - 1)
    x = free + twist.fields(move, free)
    if not ratio or variance == 0:
        return Moved(x, centre.new_zeros(len(centre), dtype=torch.float64))
    # Along the singular vectors x is at noise + move from the centre; elsewhere the two densities agree.
    gone = torch.linalg.vecdot(move, torch.add(move, noise, alpha=2))
    return Moved(x, wide.log().sum() / 2 - gone / (2 * variance))


def _mean_decay(kappa: Tensor) -> Tensor:
    """(1 - exp(-kappa)) / kappa, the mean of exp(-kappa r) over r in [0, 1]; 1 where kappa = 0."""
    negative = -kappa.clamp_min(1e-300)
    return torch.expm1(negative) / negative


def log_rate(
    look: Look, moved: Tensor, t: float, eta: float, time: float, laplacian: Tensor | float, elapsed: Tensor | float
) -> Tensor:
    """Growth of the log weights (B,) in a step, by the rate at its start.

    Args:
        look: at t.
        moved: what the flow moves the particles by (B, *x).
        t: level.
        eta: of the guidance.
        time: integral of V^2.
        laplacian: of Phi_t (B,); not used at eta = 1/2.
        elapsed: Phi_t - Phi_s at x (B,).
    """
    return elapsed - dot(moved, look.slope) + excess(look, t, eta, time, laplacian)


def excess(look: Look, t: float, eta: float, time: float, laplacian: Tensor | float) -> Tensor:
    """Growth of the log weights (B,) by a guidance other than eta = 1/2, the second line of the rate."""
    if eta == 0.5 or time == 0:
        return look.phi.new_zeros(len(look.x))
    along = dot((look.mean - look.x) / t**2, look.slope)
    return (eta - 0.5) * time * (dot(look.slope, look.slope) - laplacian - along)
