"""Recorded pairs (x, y) held against the problem's own simulation of x.

A few pairs are simulated. Where they disagree, simple differences are tried, those that people's files have: the sign,
a factor (of all, of each event, of each shot), axes that are exchanged or reversed, another order of events or shots,
a shift in time. What explains the disagreement is named with its remedy.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pullback.ensembles.fields import Field
from pullback.problems.base import Problem, simulate

log = logging.getLogger("pullback")

PAIRS = 2
"""Pairs that are simulated where one takes long."""
PAIRS_OF_VECTORS = 200
SECONDS = 1.0
"""Time for the pairs of vectors, at most."""
OTHERS = 64
"""Observations among which those of another event are looked for."""
EXPLAINED = 0.3
"""An explanation leaves less than this share of the misfit that it was without it, or nothing but noise."""
SIMPLER = 1.2
"""An explanation is preferred to those after it that leave this much less."""

ROUNDING = 1e-6
"""Misfits below this are equal: float32."""


@dataclass(frozen=True)
class Agreement:
    """How recorded pairs agree with their simulation.

    Attributes:
        pairs: how many were simulated.
        misfit: ||F(x) - y|| / ||y|| over them.
        noise: the same of two simulations of one x: what noise alone leaves.
        tolerance: what the study accepts beside noise.
        factor: <F, y> / <F, F>: what simulations are multiplied by to come nearest to y.
        explanation: the difference that explains the misfit, and its remedy; empty where there is none to explain, or
            nothing explains it.
        left: the misfit that is left with it.
    """

    pairs: int
    misfit: float
    noise: float
    tolerance: float
    factor: float
    explanation: str = ""
    left: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether the misfit is that of noise and of what the study accepts."""
        return self.misfit <= self.tolerance + 2 * self.noise

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
            "it: other physics, units or noise than the simulator's; correct the simulator or the files, accept it by "
            "read.tolerance, or say own_forward: false"
        )


@dataclass(frozen=True)
class _Trial:
    """A difference that is tried: what it is, F and y with it, and along which axes each has a factor of its own."""

    said: str
    signal: np.ndarray
    y: np.ndarray
    own: tuple[int, ...] = ()


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
    signal, noise, n = _simulated(problem, x, rng)
    recorded = np.asarray(y[:n], np.float64)
    misfit, factor = _misfit(signal, recorded), float(_factor(signal, recorded))
    found = Agreement(n, misfit, noise, tolerance, factor)
    if found.agrees or not np.isfinite(misfit):
        return found
    best: tuple[float, str] | None = None
    for trial in _trials(problem, x[:n], signal, np.asarray(y[: max(n, OTHERS)], np.float64), rng):
        scale = _factor(trial.signal, trial.y, trial.own)
        left = max(_misfit(scale * trial.signal, trial.y), ROUNDING)
        if best is None or left * SIMPLER < best[0]:
            best = (left, _said(trial, scale))
    assert best is not None
    if best[0] * SIMPLER < misfit and best[0] < max(EXPLAINED * min(misfit, 1.0), tolerance + 2 * noise):
        return Agreement(n, misfit, noise, tolerance, factor, best[1], best[0])
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
    return float(scale)


def _signal(problem: Any, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Signal (event, *y) float64 of x without noise where the problem has it apart; NaN where it failed."""
    signal, ok = problem.apply(x) if hasattr(problem, "apply") else simulate(problem, x, rng)
    signal = np.array(signal, np.float64)
    signal[~np.asarray(ok, bool)] = np.nan
    return signal


def _simulated(problem: Problem, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float, int]:
    """Simulations (pair, *y) of the first pairs, their relative noise, and how many."""
    began = time.monotonic()
    n = min(PAIRS, len(x))
    signal = _signal(problem, x[:n], rng)
    if problem.y.is_vector and (time.monotonic() - began) * PAIRS_OF_VECTORS / n < SECONDS:
        n = min(PAIRS_OF_VECTORS, len(x))
        signal = _signal(problem, x[:n], rng)
    noise = 0.0
    if hasattr(problem, "observe") or not hasattr(problem, "apply"):
        again, _ = simulate(problem, x[:n], rng)
        noise = _misfit(np.asarray(again, np.float64), signal)
    return signal, noise if np.isfinite(noise) else 0.0, n


def _misfit(signal: np.ndarray, y: np.ndarray) -> float:
    """||F - y|| / ||y||; infinite where y is zero."""
    size = float(np.linalg.norm(y))
    return float(np.linalg.norm(signal - y)) / size if size > 0 else np.inf


def _factor(signal: np.ndarray, y: np.ndarray, own: tuple[int, ...] = ()) -> np.ndarray:
    """<F, y> / <F, F>, of all or for each index along some axes (kept as axes)."""
    over = tuple(axis for axis in range(y.ndim) if axis not in own)
    power = (signal**2).sum(axis=over, keepdims=bool(own))
    product = (signal * y).sum(axis=over, keepdims=bool(own))
    scale: np.ndarray = product / np.where(power > 0, power, 1.0)
    return scale


def _said(trial: _Trial, scale: np.ndarray) -> str:
    """What was tried, with the factor where it is not 1."""
    if trial.own:
        return trial.said.format(low=float(np.min(scale)), high=float(np.max(scale)))
    factor = float(scale)
    if not trial.said:
        if factor < 0:
            other = "" if abs(factor + 1) < 0.01 else f", and {1 / abs(factor):.4g} times as large"
            return f"the sign of y is the other one{other}: set read.scale: {1 / factor:.4g}"
        return f"y is {factor:.4g} times the simulation: set read.scale: {1 / factor:.4g}"
    if abs(factor - 1) > 0.02:
        return f"{trial.said}; y is {factor:.4g} times the simulation besides: read.scale: {1 / factor:.4g}"
    return trial.said


def _trials(
    problem: Problem, x: np.ndarray, signal: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> Iterator[_Trial]:
    """Differences in order of how simple they are."""
    recorded = y[: len(x)]
    yield _Trial("", signal, recorded)
    yield from _reordered(problem.y, signal, y)
    yield from _arranged(problem.y, signal, recorded)
    if "time" in problem.y.dims:
        yield _shifted(problem.y, signal, recorded)
    for said, change in _arrangements(problem.x):
        try:
            yield _Trial(f"x {said}", _signal(problem, np.ascontiguousarray(change(x)), rng), recorded)
        except ValueError:  # no simulation of such an x
            continue
    if problem.y.is_vector:
        each = "each component of y has a factor of its own, from {low:.4g} to {high:.4g}: correct its units"
        yield _Trial(each, signal, recorded, (1,))
    else:
        normalised = "a factor of its own, from {low:.4g} to {high:.4g}: amplitudes were normalised; undo it, or"
        timeless = tuple(axis for axis in range(recorded.ndim) if axis == 0 or problem.y.dims[axis - 1] != "time")
        for name, axes in (("event", (0,)), (problem.y.dims[0], (0, 1)), ("trace", timeless)):
            if len(axes) < recorded.ndim:
                said = f"each {name} of y has {normalised} invert normalised simulations"
                yield _Trial(said, signal, recorded, axes)
        ours, theirs = (each - each.mean() for each in (signal, recorded))
        offset = float(recorded.mean() - _factor(ours, theirs) * signal.mean())
        said = f"a constant of {offset:.4g} was added to y, as by normalisation to a range: undo it"
        yield _Trial(said, ours, theirs)


def _reordered(field: Field, signal: np.ndarray, y: np.ndarray) -> Iterator[_Trial]:
    """Other orders of events, and of the first dimension of an array (shots)."""
    recorded = y[: len(signal)]
    if len(y) > 1 and not field.is_vector:
        order = _matches(signal.reshape(len(signal), -1), y.reshape(len(y), -1))
        if order != tuple(range(len(signal))):
            said = f"events stand in another order: x number 0 belongs to y number {order[0]}; sort one of the two"
            yield _Trial(said, signal, y[list(order)])
    if not field.is_vector and 1 < field.shape[0] <= OTHERS:
        ours, theirs = (np.moveaxis(each, 1, 0).reshape(field.shape[0], -1) for each in (signal, recorded))
        order = _matches(ours, theirs)
        if order != tuple(range(len(ours))):
            said = f"{field.dims[0]}s stand in another order, {', '.join(map(str, order))}: sort them"
            yield _Trial(said, signal, recorded[:, list(order)])


def _matches(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, ...]:
    """For each row of ours (row, value) the row of theirs that is most like it, up to a factor."""
    ours, theirs = (
        np.nan_to_num(a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-300)) for a in (ours, theirs)
    )
    return tuple(int(j) for j in np.abs(ours @ theirs.T).argmax(axis=1))


Change = Callable[[np.ndarray], np.ndarray]


def _arrangements(field: Field) -> Iterator[tuple[str, Change]]:
    """Axes (or components of a vector) that may be exchanged or reversed, and the way back."""
    if field.is_vector:
        for order in itertools.permutations(range(len(field.features))) if len(field.features) <= 4 else ():
            if list(order) != sorted(order):
                named = ", ".join(field.features[j] for j in order)
                yield (
                    f"has its components in the order {named}: name or sort them",
                    partial(np.take, indices=order, axis=1),
                )
        return
    for i, j in itertools.combinations(range(len(field.dims)), 2):
        if field.shape[i] == field.shape[j]:
            said = f"has {field.dims[i]} and {field.dims[j]} exchanged: transpose it, or name its dimensions"
            yield said, partial(np.swapaxes, axis1=i + 1, axis2=j + 1)
    for i, name in enumerate(field.dims):
        yield f"runs backwards along {name}: reverse it", partial(np.flip, axis=i + 1)


def _arranged(field: Field, signal: np.ndarray, recorded: np.ndarray) -> Iterator[_Trial]:
    for said, change in _arrangements(field):
        yield _Trial(f"y {said}", signal, change(recorded))


def _shifted(field: Field, signal: np.ndarray, recorded: np.ndarray) -> _Trial:
    """The shift in time, in whole samples, at which both are most alike."""
    axis = 1 + field.dims.index("time")
    n = field.shape[axis - 1]
    spectra = (np.fft.rfft(each, 2 * n, axis=axis) for each in (recorded, np.nan_to_num(signal)))
    theirs, ours = spectra
    rest = tuple(a for a in range(recorded.ndim) if a != axis)
    along = np.fft.irfft((theirs * np.conj(ours)).sum(axis=rest), 2 * n)
    lag = int(np.abs(along).argmax())
    lag = lag - 2 * n if lag >= n else lag
    kept = slice(max(lag, 0), n + min(lag, 0)), slice(max(-lag, 0), n - max(lag, 0))
    y, f = (np.take(each, np.arange(n)[part], axis=axis) for each, part in ((recorded, kept[0]), (signal, kept[1])))
    times = field.coordinates["time"].values if "time" in field.coordinates else np.arange(n, dtype=float)
    step = float(times[1] - times[0]) if n > 1 else 1.0
    way = "later" if lag > 0 else "earlier"
    return _Trial(f"y is {abs(lag)} samples ({abs(lag) * step:.4g} s) {way} than the simulation: shift it", f, y)
