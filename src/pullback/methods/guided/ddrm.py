"""Denoising diffusion restoration: DDRM, Kawar et al. 2022, arXiv 2201.11793, section 3.2; linear observations.

In the basis of the right singular vectors of H = U diag(s) V^T a component of z_0 is seen as ybar = u . target / s with
noise 1 / s (sigma_y / s of the paper: H is in units of the noise). With the denoised component x and new normals n, the
step from t to the level q draws it as

    x + sqrt(1 - eta^2) q (z_t - x) / t + eta q n                      where s = 0,
    x + sqrt(1 - eta^2) q s (ybar - x) + eta q n                       where q < 1 / s: the state is less noisy than y,
    (1 - eta_b) x + eta_b ybar + sqrt(q^2 - (eta_b / s)^2) n           where q >= 1 / s,

and starts from ybar + sqrt(t^2 - 1 / s^2) n where t > 1 / s, t n elsewhere. y is not whitened a second time: each step
uses it as if it were new, so that draws concentrate where the published 20 steps become more. It restores, it does not
sample: for x ~ N(0, 1), y = 1 and noise 0.5 the posterior has mean .8 and variance .2, and draws of 20, 200 and 1000
levels (vp) have .78 and .072, .88 and .034, .94 and .017. Their spread is no uncertainty, and the method gives one x.

The published images are in [-1, 1] and their noise is doubled for that; here H is in units of y's own noise.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.sampler import Sampler
from pullback.methods.guided.base import DiffusionMethod, Particles
from pullback.methods.guided.guidance import levels, singular, whitened
from pullback.methods.guided.guidance_spec import DdrmInfer
from pullback.methods.guided.observation import TensorSvd


class Restoration(Sampler):
    """The steps of DDRM.

    Args:
        denoiser: of the prior.
        svd: of H, singular values above 0.
        target: of the observation (m,).
        normals: standard normals (B, *x) for the start and then each step.
        eta, eta_b: see the module.
    """

    def __init__(
        self, denoiser: Denoiser, svd: TensorSvd, target: Tensor, normals: Iterator[Tensor], eta: float, eta_b: float
    ):
        super().__init__(denoiser)
        self._svd, self._normals, self._eta, self._eta_b = svd, normals, eta, eta_b
        self._seen = target @ svd.u / svd.s

    def start(self, t: float) -> Tensor:
        """z_t (B, *x) at the first level."""
        n = next(self._normals)
        spread = (t**2 - self._svd.s**-2).clamp(min=0).sqrt()
        measured = torch.where(t * self._svd.s > 1, self._seen + spread * self._components(n), t * self._components(n))
        return self._with(t * n, measured)

    def step(self, x: Tensor, t: float, s: float) -> Tensor:
        """See `Sampler`."""
        clean = self.denoiser(x, t)
        if s == 0:
            return clean
        n, kept = next(self._normals), (1 - self._eta**2) ** 0.5
        free = clean + kept * s * (x - clean) / t + self._eta * s * n
        mean, new, top = self._components(clean), self._components(n), self._svd.s
        less = mean + kept * s * top * (self._seen - mean) + self._eta * s * new
        spread = (s**2 - (self._eta_b / top) ** 2).clamp(min=0).sqrt()
        more = (1 - self._eta_b) * mean + self._eta_b * self._seen + spread * new
        return self._with(free, torch.where(s * top < 1, less, more))

    def _components(self, z: Tensor) -> Tensor:
        return z.flatten(1).to(self._svd.v) @ self._svd.v

    def _with(self, z: Tensor, measured: Tensor) -> Tensor:
        """z with other measured components."""
        return z + ((measured - self._components(z)) @ self._svd.v.T).to(z).reshape(z.shape)


class Ddrm(DiffusionMethod):
    """One restored x for each observation."""

    settings: DdrmInfer

    @torch.no_grad()
    def answer(self, y: np.ndarray, event_id: int) -> Particles:
        """The restoration of one observation."""
        infer, linear = self.settings, whitened(self.observation(y), "ddrm")
        normals = (self.noise(f"ddrm-{step}", event_id, infer.draws) for step in range(infer.levels + 1))
        svd = TensorSvd(*(part.to(self.device) for part in singular(linear, "ddrm")))
        target = linear.target.to(self.device)
        sampler = Restoration(self.prior, svd, target, normals, infer.eta, infer.eta_b)
        grid = levels(self.prior.schedule, infer)
        return Particles(sampler(sampler.start(grid[0]), grid, self.watch))
