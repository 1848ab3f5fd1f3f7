"""Baseline that ignores y: training truths of the seen families, drawn at random for every observation."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from pullback.core.seeding import generator
from pullback.ensembles.family_events import nominal, windows
from pullback.methods.base import Method, PosteriorSamples
from pullback.study.base import Capability, Label, Name
from pullback.study.kinds import Infer, MethodSpec


class RandomTruthSpec(MethodSpec):
    """Baseline that ignores y: truths drawn at random from the seen families."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"pairs"})
    returns: ClassVar[Label] = "approximate"
    reads_seen: ClassVar[bool] = True
    needs_seen: ClassVar[bool] = True
    baseline: ClassVar[bool] = True
    colour: ClassVar[str] = "#7A7A7A"
    code: ClassVar[str] = "pullback.methods.classical.random_truth:RandomTruth"

    infer: Mapping[Name, Infer] = Field(default={"default": Infer()}, min_length=1)


POOL = 20_000
POOL_VALUES = 1 << 25
"""Most truths of each seen family that are kept, and most numbers in them (134 MB); they are of places all over it, for
a sweep's ensembles stand one after the other."""


class RandomTruthError(ValueError):
    """The training truths cannot be sampled (no positive weight)."""


class RandomTruth(Method[None]):
    """Every draw takes a seen family uniformly, then one of its training truths in proportion to the event weights.

    Negative weights count as 0: they cancel neighbouring events, which single draws cannot represent.
    """

    def load(self, artifact: Path | None, prior: Path | None, seen: list[Path]) -> None:
        """Read truths of the seen families.

        Raises:
            RandomTruthError: no truth of a family has a positive weight.
        """
        # With h5py, which a study is parsed without.
        from pullback.ensembles.store import EnsembleReader

        self.truths: list[np.ndarray] = []
        self.weights: list[np.ndarray | None] = []
        for number, path in enumerate(seen):
            rng = generator(*self.context.address, "pool", number)
            with EnsembleReader(path) as file:
                reader = file.pairs()
                most = max(1, min(POOL, POOL_VALUES // math.prod(self.problem.x.shape)))
                pieces = windows(reader.n, most, rng)
                self.truths.append(np.concatenate([reader.read("x", *rows) for rows in pieces]))
                weighted = "weight" in reader.columns
                weight = np.concatenate([nominal(reader.read("weight", *r)) for r in pieces]) if weighted else None
            self.weights.append(None if weight is None else _probabilities(weight, path))

    def sample(self, state: None, y: np.ndarray, event_id: np.ndarray) -> PosteriorSamples:
        """Draws that do not depend on y."""
        rng = generator(*self.context.address, "draw", int(event_id[0]))
        shape = (len(y), self.settings.draws)
        family = rng.integers(len(self.truths), size=shape)
        x = np.empty((*shape, *self.problem.x.shape), np.float32)
        for index, truths in enumerate(self.truths):
            here = family == index
            weight, n = self.weights[index], int(here.sum())
            chosen = rng.integers(len(truths), size=n) if weight is None else rng.choice(len(truths), size=n, p=weight)
            x[here] = truths[chosen]
        return PosteriorSamples(x, np.zeros(shape), np.ones(shape, bool))


def _probabilities(weight: np.ndarray, path: Path) -> np.ndarray:
    positive = np.maximum(weight, 0.0)
    if not positive.any():
        raise RandomTruthError(
            f"{path}: none of {len(weight)} event weights is positive, and truths are drawn in proportion to them; "
            "leave the family or the method out, or give the file positive weights"
        )
    return positive / positive.sum()
