"""Unbinned expectation maximisation: weights of particles, a discrete prior, from likelihoods of observations.

See `refine` for the iteration and its early stopping.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pullback.core.particles import resample
from pullback.methods.amortised.spec import Refine
from pullback.problems.reweighting import LogLikelihood

PAIRS = 1 << 20
"""Pairs (event, particle) whose likelihood is computed at once."""
FLOOR = -50.0
"""Log of the least ratio of likelihoods that is kept: below some e^-87 float32 is subnormal, and ten times slower."""
LEAST_WEIGHT = 1e-15
"""A particle of less weight is gone, for the same reason."""
CACHED = 1 << 18
"""Pairs that one step of EM looks at together: both of its products then read them from the cache."""
TINY = 1e-37
PATIENCE = 5
"""Iterations without a better prediction after which a round ends."""


class Pairs(NamedTuple):
    """Likelihoods of all pairs.

    Attributes:
        ratio: L(y_i|x_p) / max_q L(y_i|x_q), (event, particle), float32. Events that no particle explains are left out.
        offset: log max_q L(y_i|x_q), (event,).
        share: normalised weight of each of these events, (event,), float32, sum 1.
    """

    ratio: np.ndarray
    offset: np.ndarray
    share: np.ndarray


def pairs(likelihood: LogLikelihood, y: np.ndarray, particles: int, weight: np.ndarray | None = None) -> Pairs:
    """All pairs of observations y (event, *y) with the particles of a likelihood, in chunks of events.

    Args:
        likelihood: of the particles.
        y: observations.
        particles: how many.
        weight: of the observations (event,), not negative; None where all count alike.
    """
    ratio = np.empty((len(y), particles), np.float32)
    offset = np.empty(len(y))
    for rows in chunks(len(y), PAIRS // particles):
        ratio[rows], offset[rows] = ratios(likelihood(y[rows]))
    share = np.ones(len(y), np.float32) if weight is None else weight.astype(np.float32)
    explained = np.isfinite(offset) & (share > 0)
    if not explained.all():
        ratio, offset, share = ratio[explained], offset[explained], share[explained]
    return Pairs(ratio, offset, share / max(share.sum(dtype=np.float64), TINY))


def ratios(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Likelihoods relative to each row's largest, at least e^FLOOR, and the log of that largest one (-inf: no row)."""
    offset = values.max(axis=1)
    if np.isnan(offset).any():
        values = np.where(np.isnan(values), -np.inf, values)
        offset = values.max(axis=1)
    shifted = (values - np.where(np.isfinite(offset), offset, 0.0)[:, None]).astype(np.float32)
    np.maximum(shifted, FLOOR, out=shifted)
    return np.exp(shifted, out=shifted), offset.astype(np.float64)


def chunks(n: int, rows: int) -> list[slice]:
    """Slices of so many rows, at least 1 and the last one fewer, that cover n."""
    rows = max(1, rows)
    return [slice(first, min(first + rows, n)) for first in range(0, n, rows)]


def em_step(found: Pairs, weight: np.ndarray) -> np.ndarray:
    """One iteration: pairs and the weights of particles (particle,), float32 -> the next weights."""
    total = np.zeros(found.ratio.shape[1], np.float32)
    for rows in chunks(len(found.ratio), CACHED // found.ratio.shape[1]):
        part = found.ratio[rows]
        total += (found.share[rows] / (part @ weight)) @ part
    weight = weight * total
    weight[weight < LEAST_WEIGHT] = 0.0
    return weight / weight.sum(dtype=np.float64).astype(np.float32)


def predictive(found: Pairs, weight: np.ndarray) -> float:
    """Mean log likelihood of the events under the weighted particles."""
    mixed = (found.ratio @ weight).astype(np.float64)
    return float(np.average(np.log(mixed) + found.offset, weights=found.share))


class Sample(NamedTuple):
    """A prior as particles.

    Attributes:
        x: (particle, *x), physical units.
        weight: (particle,), float32, sum 1.
    """

    x: np.ndarray
    weight: np.ndarray

    def resampled(self, rng: np.random.Generator) -> np.ndarray:
        """As many particles of equal weight."""
        return self.x[resample(self.weight, len(self.x), rng)]


def equal(x: np.ndarray) -> Sample:
    """Particles of equal weight."""
    return Sample(x, np.full(len(x), 1 / len(x), np.float32))


class Fit(NamedTuple):
    """Numbers of iterations chosen on the held-out members (early stopping).

    Attributes:
        iterations: in each round.
        gain: gain of the predictive log-likelihood of a held-out member, in nats.
    """

    iterations: list[int]
    gain: float


Move = Callable[[Sample, int], Sample]
"""Particles after a round, its number -> those that the next one begins with."""


def choose(
    at: Callable[[np.ndarray], LogLikelihood],
    sample: Sample,
    y: np.ndarray,
    held_out: np.ndarray,
    settings: Refine,
    move: Move,
    weights: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> Fit:
    """Iterations and rounds by the predictive likelihood of held-out members.

    Args:
        at: the likelihood of particles.
        sample: the prior to begin with; none of its particles may come from a held-out member.
        y: members that the weights are fitted to.
        held_out: the others.
        settings: of the refinement.
        move: between two rounds.
        weights: of both, or None where all count alike.
    """
    iterations: list[int] = []
    start = best = -math.inf
    for number in range(settings.rounds):
        likelihood = at(sample.x)
        both = zip((y, held_out), weights, strict=True)
        ours, theirs = (pairs(likelihood, some, len(sample.x), each) for some, each in both)
        if not len(ours.ratio) or not len(theirs.ratio):
            break
        weight = sample.weight
        chosen, reached, kept = 0, predictive(theirs, weight), weight
        if number == 0:
            start = reached
        for k in range(1, settings.most_iterations + 1):
            weight = em_step(ours, weight)
            value = predictive(theirs, weight)
            if value > reached:
                chosen, reached, kept = k, value, weight
            elif k - chosen >= PATIENCE:
                break
        if reached <= best:
            break
        iterations.append(chosen)
        best = reached
        sample = move(Sample(sample.x, kept), number)
    return Fit(iterations, best - start if iterations else 0.0)
