"""Unguided draws of a diffusion prior: what a guided method would answer without looking at the observation."""

import numpy as np
import torch

from pullback.diffusion.edm import euler_ode, karras_grid
from pullback.methods.guided.enkg import DiffusionMethod
from pullback.methods.guided.spec import DiffusionInfer


class PriorDraws(DiffusionMethod):
    """The probability-flow ODE from noise to x, with the levels that a guided method would use."""

    settings: DiffusionInfer

    @torch.no_grad()
    def answer(self, y: np.ndarray, event_id: int) -> np.ndarray:
        """Draws (draw, *x) for one observation, which is not used."""
        grid = karras_grid(self.settings.levels, self.prior.sigma_min, self.prior.sigma_max)
        noise = self.noise("prior-draws", event_id, self.settings.draws)
        return euler_ode(self.denoise, self.prior.sigma_max * noise, grid).cpu().numpy()
