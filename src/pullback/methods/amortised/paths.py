"""Paths from noise to x that a network is trained on, and how draws are made with it: one class each.

A path gives training points (x_t, t, what the network should say there) and turns a trained network into draws. t is in
[0, 1] for every path.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from pullback.diffusion import ddpm, flow
from pullback.diffusion.share import Noise
from pullback.methods.amortised.spec import Amortised, DdpmInfer, Diffusion, Flow, FlowInfer
from pullback.study.kinds import Infer

Predict = Callable[[Tensor, Tensor], Tensor]
"""The network: x_t (B, *x), t (1,) -> (B, *x)."""

Normals = Callable[[int], Tensor]
"""Standard normals (B, *x) for step i of a stochastic sampler."""


class Path(Protocol):
    """What a path does."""

    def point(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """x_t (S, T, *x), t (S, T) and the target (S, T, *x) for data x (S, T, *x)."""
        ...

    def sample(self, predict: Predict, start: Tensor, infer: Infer, normals: Normals) -> Tensor:
        """Draws (B, *x) from standard normals ``start`` (B, *x)."""
        ...


def spread_times(noise: Noise, x: Tensor) -> Tensor:
    """Times (S, T) in [0, 1), each uniform, those of a set evenly spread: less noise in the loss than independent ones.

    Members stand in random order, so that times say nothing about them (Kingma et al. 2021, arXiv 2107.00630, app. I).
    """
    sets, targets = x.shape[:2]
    return (noise.uniform((sets, 1)) + torch.arange(targets, device=x.device) / targets) % 1


class FlowPath:
    """x_t = (1 - t) x_0 + t x, t ~ U[0, 1]; the network gives the velocity x - x_0."""

    def point(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """See `Path`."""
        start, t = noise.normal(x.shape), spread_times(noise, x)
        x_t, velocity = flow.interpolate(start, x, t)
        return x_t, t, velocity

    def sample(self, predict: Predict, start: Tensor, infer: Infer, normals: Normals) -> Tensor:
        """See `Path`."""
        assert isinstance(infer, FlowInfer)
        if infer.solver == "dopri5":
            return flow.dopri5(predict, start, infer.tolerance)
        return flow.SOLVERS[infer.solver](predict, start, infer.steps)


class DdpmPath:
    """x_t = a_t x + s_t n, t uniform on 1 ... T; the network gives v, or the noise (`diffusion.ddpm`)."""

    def __init__(self, schedule: str, steps: int):
        self.schedule = ddpm.make_schedule(schedule, steps)

    def point(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """See `Path`."""
        n, steps = noise.normal(x.shape), self.schedule.steps
        t = (spread_times(noise, x) * steps).long().clamp_max(steps - 1) + 1
        x_t, target = ddpm.noised(self.schedule, x.flatten(0, 1), n.flatten(0, 1), t.flatten())
        return x_t.reshape(x.shape), t / steps, target.reshape(x.shape)

    def sample(self, predict: Predict, start: Tensor, infer: Infer, normals: Normals) -> Tensor:
        """See `Path`."""
        assert isinstance(infer, DdpmInfer)
        grid = ddpm.time_grid(self.schedule.steps, infer.steps)
        if infer.sampler == "ddim":
            return ddpm.ddim(self.schedule, predict, start, grid)
        return ddpm.ancestral(self.schedule, predict, start, grid, normals)


class DirectPath:
    """No path: the network gives E[x | y] from y alone, least squares."""

    def point(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """See `Path`."""
        return torch.zeros_like(x), torch.zeros(x.shape[:2], dtype=x.dtype, device=x.device), x

    def sample(self, predict: Predict, start: Tensor, infer: Infer, normals: Normals) -> Tensor:
        """See `Path`."""
        return predict(torch.zeros_like(start), torch.zeros(1, dtype=start.dtype, device=start.device))


def make_path(spec: Amortised) -> Path:
    """The path of a method."""
    if isinstance(spec, Diffusion):
        return DdpmPath(spec.schedule, spec.diffusion_steps)
    return FlowPath() if isinstance(spec, Flow) else DirectPath()
