"""The answer of someone who has not looked: truths of the seen families, drawn at random for every observation."""

from pathlib import Path

import numpy as np

from pullback.ensembles.sets import windows
from pullback.ensembles.store import EnsembleReader
from pullback.methods.base import Chunk, Method
from pullback.seeding import generator
from pullback.study.inference import Infer

POOL = 20_000
"""Truths kept of each seen family, of places all over it: a sweep's ensembles stand one after the other."""


class RandomTruth(Method[None]):
    """Every draw takes a seen family uniformly, then one of its training truths uniformly."""

    def load(self, artifact: Path | None, prior: Path | None, seen: list[Path]) -> None:
        """Read truths of the seen families."""
        self.truths = []
        for number, path in enumerate(seen):
            rng = generator(*self.context.address, "pool", number)
            with EnsembleReader(path) as reader:
                self.truths.append(np.concatenate([reader.read("x", *rows) for rows in windows(reader.n, POOL, rng)]))

    def draw(self, state: None, y: np.ndarray, event_id: np.ndarray, infer: Infer) -> Chunk:
        """Draws that do not depend on y."""
        rng = generator(*self.context.address, "draw", int(event_id[0]))
        shape = (len(y), infer.draws)
        family = rng.integers(len(self.truths), size=shape)
        x = np.empty((*shape, *self.problem.x.shape), np.float32)
        for index, truths in enumerate(self.truths):
            here = family == index
            x[here] = truths[rng.integers(len(truths), size=int(here.sum()))]
        return Chunk(x, np.zeros(shape), np.ones(shape, bool))
