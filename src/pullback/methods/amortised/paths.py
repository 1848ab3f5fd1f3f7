"""Paths from noise to x: training targets of the network and sampling with it, one class each.

A path gives training points (x_t, t, target) and samples with a trained network. t is in
[0, 1] for every path. Both depend on the observation, so that a path may start from it instead of from noise.
"""

from collections.abc import Callable
from itertools import count
from typing import Protocol

import torch
from torch import Tensor

from pullback.diffusion.denoiser import Denoiser, NetworkDenoiser, Prediction, noised
from pullback.diffusion.sampler import Ancestral, Dopri5, Euler, Heun, Midpoint, Sampler
from pullback.diffusion.schedule import Ddpm, FlowMatching
from pullback.diffusion.share import Noise
from pullback.methods.amortised.spec import Amortised, DdpmInfer, Diffusion, Flow, FlowInfer
from pullback.study.kinds import Infer

Predict = Callable[[Tensor, Tensor], Tensor]
"""The network: x_t (B, *x), t (1,) -> (B, *x)."""

Normals = Callable[[int], Tensor]
"""Standard normals (B, *x) for step i of a stochastic sampler."""

SOLVERS: dict[str, Callable[[Denoiser], Sampler]] = {"euler": Euler, "midpoint": Midpoint, "heun": Heun}


class Path(Protocol):
    """Interface of a path."""

    def point(self, x: Tensor, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """x_t (S, T, *x), t (S, T) and the target (S, T, *x) for data x (S, T, *x) with observations y (S, T, *y)."""
        ...

    def sample(self, predict: Predict, start: Tensor, y: Tensor, infer: Infer, normals: Normals) -> Tensor:
        """Draws (B, *x) from standard normals ``start`` (B, *x), given y (b, *y): row i serves B / b rows of x."""
        ...


def spread_times(noise: Noise, x: Tensor) -> Tensor:
    """Times (S, T) in [0, 1), each uniform, those of a set evenly spread: less noise in the loss than independent ones.

    Members are in random order, so that times are independent of them (Kingma et al. 2021, arXiv 2107.00630, app. I).
    """
    sets, targets = x.shape[:2]
    return (noise.uniform((sets, 1)) + torch.arange(targets, device=x.device) / targets) % 1


class DiffusionPath:
    """x_t = alpha_t x + sigma_t n, t spread over the schedule.

    Args:
        schedule: of the noise.
        predicts: what the network gives (`diffusion.denoiser`).
    """

    def __init__(self, schedule: FlowMatching | Ddpm, predicts: Prediction):
        self.schedule, self.predicts = schedule, predicts

    def point(self, x: Tensor, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """See `Path`."""
        n = noise.normal(x.shape)
        t = self.schedule.training_times(spread_times(noise, x))
        x_t, target = noised(self.schedule, self.predicts, x, n, t)
        return x_t, t, target

    def sample(self, predict: Predict, start: Tensor, y: Tensor, infer: Infer, normals: Normals) -> Tensor:
        """See `Path`."""
        assert isinstance(infer, FlowInfer | DdpmInfer)
        denoiser = NetworkDenoiser(predict, self.schedule, self.predicts)
        if isinstance(infer, FlowInfer) and infer.solver == "dopri5":
            return Dopri5(denoiser, infer.tolerance)(start, self.schedule.times(1))
        if isinstance(infer, FlowInfer):
            sampler = SOLVERS[infer.solver](denoiser)
        elif infer.sampler == "ddim":
            sampler = Euler(denoiser)
        else:
            sampler = Ancestral(denoiser, map(normals, count()), wide=self.predicts == "noise")
        return sampler(start, self.schedule.times(infer.steps))


class DirectPath:
    """No path: least-squares regression of E[x | y] on y."""

    def point(self, x: Tensor, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """See `Path`."""
        return torch.zeros_like(x), torch.zeros(x.shape[:2], dtype=x.dtype, device=x.device), x

    def sample(self, predict: Predict, start: Tensor, y: Tensor, infer: Infer, normals: Normals) -> Tensor:
        """See `Path`."""
        return predict(torch.zeros_like(start), torch.zeros(1, dtype=start.dtype, device=start.device))


def flow_path() -> DiffusionPath:
    """Flow matching: the network gives the velocity x - n."""
    return DiffusionPath(FlowMatching(), "velocity")


def ddpm_path(schedule: str, steps: int) -> DiffusionPath:
    """A DDPM: the network gives v, which is defined where no signal is left, or the noise in the published schedule."""
    return DiffusionPath(Ddpm(schedule, steps), "noise" if schedule == "paper" else "v")


def make_path(spec: Amortised) -> Path:
    """The path of a method."""
    if isinstance(spec, Diffusion):
        return ddpm_path(spec.schedule, spec.diffusion_steps)
    return flow_path() if isinstance(spec, Flow) else DirectPath()
