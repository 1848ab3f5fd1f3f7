"""Unguided draws of a diffusion prior: the baseline of guided methods, independent of y."""

import numpy as np
import torch

from pullback.diffusion.sampler import Euler
from pullback.methods.guided.base import DiffusionMethod, Particles
from pullback.methods.guided.spec import DiffusionInfer


class PriorDraws(DiffusionMethod):
    """The probability-flow ODE from noise to x, with the levels that a guided method would use."""

    settings: DiffusionInfer

    @torch.no_grad()
    def answer(self, y: np.ndarray, event_id: int) -> Particles:
        """Draws for one observation, independent of it."""
        schedule, noise = self.prior.schedule, self.noise("prior-draws", event_id, self.settings.draws)
        grid = schedule.times(self.settings.levels)
        return Particles(Euler(self.prior)(schedule.sigma_max * noise, grid, self.watch))
