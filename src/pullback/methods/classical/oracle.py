"""The exact posterior under the true prior, where the problem gives it: the best that any method can do."""

from typing import Any

import numpy as np

from pullback.methods.base import Chunk, Method
from pullback.seeding import generator
from pullback.study.methods import ExactInfer, Infer


class Oracle(Method[None]):
    """Draws from p(x|y) with the family's true parameters, which no other method is told."""

    block = 1000
    params: dict[str, Any]

    def tell(self, params: dict[str, Any]) -> None:
        """The true parameters of the family's prior."""
        self.params = params

    def draw(self, state: None, y: np.ndarray, event_id: np.ndarray, infer: Infer) -> Chunk:
        """Exact as ``infer.pool`` grows; each block of events has its own generator."""
        assert isinstance(infer, ExactInfer)
        rng = generator(*self.context.address, "draw", int(event_id[0]))
        x, ess = self.problem.exact_posterior(y, self.params, infer.draws, infer.pool, rng)
        shape = x.shape[:2]
        noticed = {"effective_pool": float(np.median(ess))} if np.isfinite(ess).all() else {}
        return Chunk(x, np.zeros(shape), np.ones(shape, bool), noticed)
