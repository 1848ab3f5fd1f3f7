"""Recorded pairs (x, y) held against the problem's own simulation of x.

A few pairs are simulated. Where they disagree, simple differences are tried, those that people's files have: the sign,
a factor or a constant (of all, of each event, of each shot), axes that are exchanged or reversed, another order of
events or shots, a shift in time. What explains the disagreement is named with its remedy.

Components of a vector count alike, whatever their units: a misfit is relative to their spread in the simulation.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pullback.ensembles.fields import Field
from pullback.problems.base import Problem, simulate
from pullback.problems.differences import OTHERS, Sums, scalings, trials

PAIRS = 2
"""Pairs that are simulated where one takes long."""
PAIRS_OF_VECTORS = 200
SECONDS = 1.0
"""Time for the pairs of vectors, at most."""
FEWEST = 8
"""With fewer pairs the spread of a component is not known."""
EXPLAINED = 0.3
"""An explanation leaves less than this share of the misfit that it was without it, or nothing but noise."""
MOST_LEFT = 0.5
"""What leaves more explains nothing, whatever the noise."""
SIMPLER = 1.2
"""An explanation is preferred to those after it that leave this much less."""


@dataclass(frozen=True)
class Agreement:
    """How recorded pairs agree with their simulation.

    Attributes:
        pairs: how many were simulated.
        misfit: ||F(x) - y|| / ||y|| over them; of vectors relative to the spread of each component of F(x).
        noise: the same of two simulations of one x: what noise alone leaves.
        tolerance: what the study accepts beside noise.
        allowed: the misfit of noise and of what the study accepts.
        factor: <F, y> / <F, F>: what simulations are multiplied by to come nearest to y.
        explanation: the difference that explains the misfit, and its remedy; empty where there is none to explain, or
            nothing explains it.
        left: the misfit that is left with it.
    """

    pairs: int
    misfit: float
    noise: float
    tolerance: float
    allowed: float
    factor: float
    explanation: str = ""
    left: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether the misfit is that of noise and of what the study accepts."""
        return self.misfit <= self.allowed

    @property
    def summary(self) -> str:
        """One line on the pairs."""
        said = f"{self.pairs} pair{'s' * (self.pairs != 1)} simulated: relative misfit {self.misfit:.2g}"
        if self.agrees:
            return said + (f", noise {self.noise:.2g}" if self.noise > 0.01 * self.misfit else "")
        wanted = f"wanted {self.tolerance:g}" + (f" beside noise of {self.noise:.2g}" if self.noise else "")
        if not np.isfinite(self.misfit):
            return f"{said}: y is zero, or a simulation failed; correct the files"
        if self.explanation:
            return f"{said}, {wanted}: {self.explanation} (which leaves {self.left:.2g})"
        return (
            f"{said}, {wanted} (best factor {self.factor:.4g}), and no factor, sign, order, exchange or shift explains "
            "it: other physics, units or noise than the simulator's, or y of other events; correct the simulator or "
            "the files, accept it by read.tolerance, or say own_forward: false"
        )


def compare(problem: Problem, x: np.ndarray, y: np.ndarray, tolerance: float, rng: np.random.Generator) -> Agreement:
    """Simulate some recorded pairs and say how they differ.

    Args:
        problem: with a forward process.
        x: recorded truths (event, *x).
        y: recorded observations (event, *y), the first of these x; there may be more, among which those of an x are
            looked for where they are in another order.
        tolerance: accepted relative misfit, beside that of noise.
        rng: for the noise of the simulation.
    """
    signal, again, n = _simulated(problem, x, rng)
    recorded = np.asarray(y[: max(n, OTHERS)], np.float64)
    factor = _factor(signal, recorded[:n])
    unit, middle = _units(problem.y, signal)
    signal, again, recorded = signal / unit, again / unit, recorded / unit
    against = signal if problem.y.is_vector else recorded[:n]
    # Vectors that are all the same have no spread.
    size = float(np.linalg.norm(against - middle) or np.linalg.norm(against))
    noise = _misfit(again, signal, middle)
    noise = noise if np.isfinite(noise) else 0.0
    # Of few values the noise of one simulation may be far from that of the next.
    allowed = tolerance + max(1.5, float(np.exp(4 / np.sqrt(signal.size)))) * noise
    misfit = float(np.linalg.norm(signal - recorded[:n])) / size if size > 0 else np.inf
    found = Agreement(n, misfit, noise, tolerance, allowed, factor)
    if found.agrees or not np.isfinite(misfit):
        return found
    best: tuple[float, str] | None = None
    again_of = partial(_signal, problem, rng=rng)
    for trial in trials(problem.x, problem.y, x[:n], signal, recorded, unit, again_of):
        size = size if problem.y.is_vector else float(np.linalg.norm(trial.y))
        sums = Sums.of(trial, problem.y)
        for scaling in scalings(problem.y, bool(trial.said)):
            left, scale, constant = scaling.fit(sums, size, problem.y.is_vector)
            if best is None or left * SIMPLER < best[0]:
                best = left, "; ".join(filter(None, (trial.said, scaling.words(scale, constant, noise))))
        if best and best[0] <= tolerance + 1.1 * noise:
            break
    assert best is not None
    if best[0] * SIMPLER < misfit and best[0] < max(EXPLAINED * min(misfit, 1.0), min(allowed, MOST_LEFT)):
        return Agreement(n, misfit, noise, tolerance, allowed, factor, best[1], best[0])
    return found


def fitted_scale(problem: Problem, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> float:
    """The factor on y with which recorded pairs agree best with their simulation: <F, y> / <y, y>.

    Raises:
        ValueError: no factor makes them alike.
    """
    signal, _, n = _simulated(problem, x, rng)
    recorded = np.asarray(y[:n], np.float64)
    scale = _factor(recorded, signal)
    left = _misfit(scale * recorded, signal)
    if not left < 0.9:
        raise ValueError(
            f"with the best factor on y, {scale:.4g}, {left:.0%} of the simulation of {n} pairs is unlike it: give "
            "read.scale as a number"
        )
    return scale


def _signal(problem: Any, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Signal (event, *y) float64 of x without noise where the problem has it apart; NaN where it failed."""
    signal, ok = problem.apply(x) if hasattr(problem, "apply") else simulate(problem, x, rng)
    signal = np.array(signal, np.float64)
    signal[~np.asarray(ok, bool)] = np.nan
    return signal


def _simulated(problem: Problem, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
    """Simulations (pair, *y) of the first pairs, others of them with their noise, and how many."""
    began = time.monotonic()
    n = min(PAIRS, len(x))
    signal = _signal(problem, x[:n], rng)
    more = min(PAIRS_OF_VECTORS, len(x), int(n * SECONDS / max(time.monotonic() - began, 1e-9)))
    if problem.y.is_vector and more > n:
        n = more
        signal = _signal(problem, x[:n], rng)
    if hasattr(problem, "observe") or not hasattr(problem, "apply"):
        return signal, np.asarray(simulate(problem, x[:n], rng)[0], np.float64), n
    return signal, signal, n


def _units(field: Field, signal: np.ndarray) -> tuple[np.ndarray | float, np.ndarray | float]:
    """What values are divided by before they are compared, and the middle that they spread about; of vectors."""
    if not field.is_vector:
        return 1.0, 0.0
    size = np.sqrt((signal**2).mean(axis=0))
    if len(signal) < FEWEST:
        return np.where(size > 0, size, 1.0), 0.0
    # A component that hardly varies is not to be compared beyond the precision of its values.
    unit = np.maximum(signal.std(axis=0), 1e-3 * size)
    unit = np.where(unit > 0, unit, 1.0)
    return unit, signal.mean(axis=0) / unit


def _misfit(signal: np.ndarray, y: np.ndarray, middle: np.ndarray | float = 0.0) -> float:
    """||F - y|| / ||y||, y from its middle on; infinite where that is zero."""
    size = float(np.linalg.norm(y - middle))
    return float(np.linalg.norm(signal - y)) / size if size > 0 else np.inf


def _factor(signal: np.ndarray, y: np.ndarray) -> float:
    """<F, y> / <F, F>."""
    power = float((signal**2).sum())
    return float((signal * y).sum()) / (power if power > 0 else 1.0)
