"""Simple differences between recorded observations and their simulation: those that people's files have.

Orders of axes and events, shifts in time and the like are trials; of each the best factors and constants follow from a
few sums.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from pullback.ensembles.fields import Field

SECONDS_OF_OTHERS = 5.0
"""Time for simulations of x that are changed: none is begun later."""
OTHERS = 64
"""Observations among which those of another event are looked for."""
ROUNDING = 1e-6
"""Misfits below this are equal: float32."""
CLEAR = 0.01
"""Of the spread of components: vectors nearer than this are the same."""
SAME = 0.02
"""Factors this close to 1 are no difference."""


@dataclass(frozen=True)
class Trial:
    """A difference that is tried: what it is, and F and y with it (pair, *y)."""

    said: str
    signal: np.ndarray
    y: np.ndarray


class Sums(NamedTuple):
    """Sums over time of F, y and their products, and over how many values; what factors and constants follow from."""

    f: np.ndarray
    y: np.ndarray
    ff: np.ndarray
    fy: np.ndarray
    yy: np.ndarray
    length: int

    @classmethod
    def of(cls, trial: Trial, field: Field) -> "Sums":
        """The sums of a trial; each value alone where there is no time."""
        f, y = trial.signal, trial.y
        if "time" not in field.dims:
            return cls(f, y, f * f, f * y, y * y, 1)
        axis = 1 + field.dims.index("time")
        of_f, of_y, ff, fy, yy = (v.sum(axis=axis, keepdims=True) for v in (f, y, f * f, f * y, y * y))
        return cls(of_f, of_y, ff, fy, yy, f.shape[axis])


@dataclass(frozen=True)
class Scaling:
    """A factor, and a constant, that each of something has for itself.

    Attributes:
        each: what has its own: ``event``; empty: all have one.
        own: the axes along which it differs.
        shifted: whether there is a constant, too.
        components: names of those that have their own.
    """

    each: str = ""
    own: tuple[int, ...] = ()
    shifted: bool = False
    components: tuple[str, ...] = ()

    def fit(self, sums: Sums, size: float, is_vector: bool) -> tuple[float, np.ndarray, np.ndarray]:
        """The misfit that is left, the factors and the constants on the simulation.

        Args:
            sums: of a trial.
            size: of what the misfit is relative to: y, or the simulation of a vector, whose components then keep their
                weights whatever units y is in.
            is_vector: whether it is one.
        """
        over = tuple(axis for axis in range(sums.f.ndim) if axis not in self.own)
        f, y, ff, fy, yy = (v.sum(axis=over, keepdims=True) for v in (sums.f, sums.y, sums.ff, sums.fy, sums.yy))
        count = sums.length * sums.f.size / f.size
        if self.shifted:
            ff, fy, yy = ff - f * f / count, fy - f * y / count, yy - y * y / count
        against, other = (ff, yy) if is_vector else (yy, ff)
        if self.shifted:
            size = float(np.sqrt(against.sum().clip(0)))
        scale = fy / np.where(other > 0, other, 1.0)
        left = float(np.sqrt((against - scale * fy).clip(0).sum()))
        if is_vector:
            scale = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
        return max(left / size if size > 0 else np.inf, ROUNDING), scale, (y - scale * f) / count

    def words(self, scale: np.ndarray, constant: np.ndarray, noise: float) -> str:
        """What was found, with the remedy; empty where it is no difference beside the noise."""
        same = SAME + noise
        what = "a constant and a factor" if self.shifted else "a factor"
        if self.components:
            found = zip(self.components, scale.flat, constant.flat, strict=True)
            other = [
                f"{name} ({times:.4g} times{' and a constant' if abs(more) > same else ''})"
                for name, times, more in found
                if max(abs(times - 1), abs(more)) > same
            ]
            said = f"some components of y have {what} of their own, {', '.join(other)}: correct their units"
            return said if other else ""
        low, high = float(scale.min()), float(scale.max())
        parts = ["the sign of y is the other one"] if high < 0 else []
        if self.each:
            parts.append(
                f"each {self.each} of y has {what} of its own, from {low:.4g} to {high:.4g}: amplitudes were "
                "normalised; undo it, or invert normalised simulations"
            )
            return "; ".join(parts)
        size = 1.0 if abs(abs(low) - 1) <= same else abs(low)
        if size != 1:
            parts.append(f"{'it' if parts else 'y'} is {size:.4g} times the simulation")
        factor = f"{' and '.join(parts)}: set read.scale: {np.sign(low) / (size or 1.0):.4g}" if parts else ""
        added = f"a constant of {float(constant.flat[0]):.4g} was added to y, as by normalisation to a range: undo it"
        return "; ".join(filter(None, (added if self.shifted else "", factor)))


def scalings(field: Field, is_arranged: bool) -> Iterator[Scaling]:
    """Factors and constants in order of how simple they are.

    Args:
        field: y.
        is_arranged: whether the order of something was changed: components of a vector, some of which are always alike
            up to a factor and a constant, have none of their own then.
    """
    if field.is_vector:
        yield Scaling()
        if is_arranged:
            return
        for shifted in (False, True):
            yield Scaling("component", (1,), shifted, tuple(field.features))
        return
    timeless = tuple(axis for axis in range(len(field.dims) + 1) if axis == 0 or field.dims[axis - 1] != "time")
    each = {"": (), "event": (0,), field.dims[0]: (0, 1), "trace": timeless}
    for shifted in (False, True):
        for name, own in each.items():
            if len(own) <= len(field.dims):
                yield Scaling(name, own, shifted)


def trials(
    x_field: Field,
    y_field: Field,
    x: np.ndarray,
    signal: np.ndarray,
    y: np.ndarray,
    unit: np.ndarray | float,
    simulate: Callable[[np.ndarray], np.ndarray],
) -> Iterator[Trial]:
    """Differences in order of how simple they are; of x together with those of y.

    Args:
        x_field, y_field: of the problem.
        x: recorded truths (pair, *x).
        signal: their simulation (pair, *y), in units of ``unit``.
        y: recorded observations (event, *y), in the same; more than the pairs, among which others are looked for.
        unit: of each component.
        simulate: x -> signal, in the problem's units.
    """
    yield from _of_y(y_field, signal, y, unit)
    began = time.monotonic()
    for said, change in _arrangements(x_field):
        if time.monotonic() - began > SECONDS_OF_OTHERS:
            return
        try:
            other = simulate(np.ascontiguousarray(change(x))) / unit
        except Exception:  # an own simulator may refuse such an x in any way
            continue
        if not np.isfinite(other).all():
            continue
        if y_field.is_vector:
            yield Trial(f"x {said}", other, y[: len(x)])
        else:
            for trial in _of_y(y_field, other, y, unit):
                yield replace(trial, said="; ".join(filter(None, (f"x {said}", trial.said))))


def _of_y(field: Field, signal: np.ndarray, y: np.ndarray, unit: np.ndarray | float) -> Iterator[Trial]:
    """Differences of y that need no other simulation; both are in units of ``unit``."""
    recorded = y[: len(signal)]
    yield Trial("", signal, recorded)
    yield from _reordered(field, signal, y)
    for said, change in _arrangements(field):
        yield Trial(f"y {said}", signal, change(recorded * unit) / unit)
    if "time" in field.dims:
        yield _shifted(field, signal, recorded)
    if not field.is_vector:
        compressed = np.sign(signal) * np.log1p(np.abs(signal))
        yield Trial(
            "y is sign(y) log(1 + |y|) of the simulation, as OpenFWI's loader makes it: undo it", compressed, recorded
        )


def _reordered(field: Field, signal: np.ndarray, y: np.ndarray) -> Iterator[Trial]:
    """Other orders of events, and of the first dimension of an array (shots)."""
    recorded = y[: len(signal)]
    if len(y) > 1:
        order = _nearest(signal, y) if field.is_vector else _matches(*(a.reshape(len(a), -1) for a in (signal, y)))
        other = [row for row, place in enumerate(order) if place != row]
        if other and len(set(order)) == len(order):
            said = f"x number {other[0]} belongs to y number {order[other[0]]}; sort one of the two"
            yield Trial(f"events stand in another order: {said}", signal, y[list(order)])
    if not field.is_vector and 1 < field.shape[0] <= OTHERS:
        ours, theirs = (np.moveaxis(each, 1, 0).reshape(field.shape[0], -1) for each in (signal, recorded))
        order = _matches(ours, theirs)
        if order != tuple(range(len(ours))):
            said = f"{field.dims[0]}s stand in another order, {', '.join(map(str, order))}: sort them"
            yield Trial(said, signal, recorded[:, list(order)])


def _matches(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, ...]:
    """For each row of ours (row, value) the row of theirs that is most like it, up to a factor."""
    ours, theirs = (
        np.nan_to_num(a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-300)) for a in (ours, theirs)
    )
    return tuple(int(j) for j in np.abs(ours @ theirs.T).argmax(axis=1))


def _nearest(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, ...]:
    """For each vector of ours (row, component) the row of theirs that is nearest; their own where that says nothing.

    Among many vectors one is always near: they are those of others only where all are nearer than by chance or noise.
    """
    apart = np.nan_to_num(((ours[:, None] - theirs[None]) ** 2).mean(axis=2), nan=np.inf)
    order = tuple(int(j) for j in apart.argmin(axis=1))
    is_clear = np.sqrt(apart.min(axis=1)).max() < CLEAR
    return order if is_clear else tuple(range(len(ours)))


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
    exchanges: list[tuple[str, Change]] = [
        (
            f"has {field.dims[i]} and {field.dims[j]} exchanged: transpose it, or name its dimensions",
            partial(np.swapaxes, axis1=i + 1, axis2=j + 1),
        )
        for i, j in itertools.combinations(range(len(field.dims)), 2)
        if field.shape[i] == field.shape[j]
    ]
    reversals: list[tuple[str, Change]] = [
        (
            f"runs backwards along {' and '.join(field.dims[i] for i in axes)}: reverse it",
            partial(np.flip, axis=[i + 1 for i in axes]),
        )
        for count in (1, 2)
        for axes in itertools.combinations(range(len(field.dims)), count)
    ]
    yield from exchanges
    yield from reversals
    for (said, exchange), (also, reverse) in itertools.product(exchanges, reversals):
        yield f"{said}; it {also}", _both(reverse, exchange)


def _both(first: Change, second: Change) -> Change:
    return lambda values: second(first(values))


def _shifted(field: Field, signal: np.ndarray, recorded: np.ndarray) -> Trial:
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
    return Trial(f"y is {abs(lag)} samples ({abs(lag) * step:.4g} s) {way} than the simulation: shift it", f, y)
