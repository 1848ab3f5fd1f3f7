"""The problem's forward process for a training that simulates: every call counts, those of killed attempts included."""

import json
from pathlib import Path

import numpy as np

from pullback.core.atomic import write_atomic
from pullback.problems.base import Problem, simulate

RECORD = "simulator.json"


class CountedSimulator:
    """Simulates and counts.

    Args:
        problem: one with a forward process.
        folder: of the training's checkpoints, where the counts are kept beside them.

    Attributes:
        cost: ``simulator_calls`` and ``failed_simulations`` of all attempts, in events.
    """

    def __init__(self, problem: Problem, folder: Path):
        self._problem = problem
        self._record = folder / RECORD
        self.cost = {"simulator_calls": 0, "failed_simulations": 0}
        if self._record.exists():
            self.cost = json.loads(self._record.read_text())

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Observations y (event, *y) of x (event, *x), and which simulations succeeded (event,)."""
        y, ok = simulate(self._problem, x, rng)
        self.cost["simulator_calls"] += len(x)
        self.cost["failed_simulations"] += int(len(x) - ok.sum())
        write_atomic(self._record, json.dumps(self.cost))
        return y, ok
