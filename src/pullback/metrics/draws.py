"""Draws as they are judged: failures imputed, weights normalised, one draw chosen, angles wrapped.

A failed draw counts. It enters every error and distance as the corner of the truth's range that is farthest from its
event's truth; it is never dropped and no later draw takes its place.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pullback.core.angles import wrap
from pullback.ensembles.fields import Field


@dataclass(frozen=True)
class Space:
    """How values of a field are compared; all arrays are flat, (..., component).

    Attributes:
        names: of the components that get rows of their own (features of a vector); empty for an array.
        units: unit of each name.
        periodic: which components are angles, (component,) bool.
        scale: what components are divided by before they are mixed in one number, (component,): ones where all have one
            unit, else the standard deviation of the truth.
        unit: of the mixed numbers; "1" where units differ.
        low, high: range of the truth, (component,); for an array the same for all.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    periodic: np.ndarray
    scale: np.ndarray
    unit: str
    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of(field: Field, sample: np.ndarray) -> "Space":
        """The space of a field, with range and scale taken from a sample (event, component)."""
        components = sample.shape[1]
        mixed = len(set(field.units)) > 1
        periodic = np.zeros(components, bool)
        if field.is_vector:
            periodic[:] = [transform == "periodic" for transform in field.transforms]
        low, high = sample.min(axis=0).astype(np.float64), sample.max(axis=0).astype(np.float64)
        if not field.is_vector:
            low, high = np.full(components, low.min()), np.full(components, high.max())
        spread = sample.std(axis=0, dtype=np.float64)
        scale = np.where(spread > 0, spread, 1.0) if mixed else np.ones(components)
        unit = "1" if mixed else field.units[0]
        return Space(field.features, field.units, periodic, scale, unit, low, high)

    def difference(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a - b, wrapped for angles."""
        return self._wrapped(a - b)

    def standard(self, values: np.ndarray) -> np.ndarray:
        """Values on the common scale, angles wrapped: what sliced distances compare."""
        return self.canonical(values) / self.scale.astype(values.dtype)

    def canonical(self, values: np.ndarray) -> np.ndarray:
        """Values with angles in [-pi, pi)."""
        return self._wrapped(values)

    def _wrapped(self, values: np.ndarray) -> np.ndarray:
        if not self.periodic.any():
            return values
        values = np.array(values)
        values[..., self.periodic] = wrap(values[..., self.periodic])
        return values

    def farthest(self, truth: np.ndarray) -> np.ndarray:
        """The corner of the truth's range farthest from each truth (event, component); of an angle the opposite one."""
        corner = np.where(np.abs(truth - self.low) > np.abs(self.high - truth), self.low, self.high)
        return np.where(self.periodic, wrap(truth + np.pi), corner).astype(truth.dtype)


def normalised(log_weight: np.ndarray, ok: np.ndarray) -> np.ndarray | None:
    """Weights of draws, summing to 1 over each event's; None when all are equal.

    A failed draw keeps the vote 1/draws, so that failures are chosen as often as they happened; the rest is shared by
    the log-weights. An event whose successful draws all have weight zero shares equally.

    Args:
        log_weight: (event, draw), -inf for a draw without a vote.
        ok: (event, draw).
    """
    if log_weight.size == 0 or (log_weight == log_weight[:, :1]).all():
        return None
    masked = np.where(ok, log_weight, -np.inf)
    top = masked.max(axis=1, keepdims=True)
    weight = np.where(np.isfinite(top), np.exp(masked - np.where(np.isfinite(top), top, 0.0)), ok.astype(np.float64))
    total = weight.sum(axis=1, keepdims=True)
    share = ok.mean(axis=1, keepdims=True)
    return np.where(ok, share * weight / np.where(total > 0, total, 1.0), 1.0 / ok.shape[1])


def chosen(weight: np.ndarray | None, events: int, uniform: np.ndarray) -> np.ndarray:
    """The draw of each event that `_draw` metrics judge: the first, or one by weight with ``uniform`` (event,)."""
    if weight is None:
        return np.zeros(events, np.int64)
    below = np.cumsum(weight, axis=1) <= uniform[:, None] * weight.sum(axis=1, keepdims=True)
    return np.minimum(below.sum(axis=1), weight.shape[1] - 1)


class Judged(NamedTuple):
    """Draws of a block of events, ready to be judged.

    Attributes:
        x: (event, draw, component) float32, failures imputed; NaN where there is no truth.
        weight: (event, draw) or None for equal weights.
        ok: (event, draw).
        one: the draw that `_draw` metrics judge, (event, component).
        one_ok: whether that draw succeeded, (event,).
    """

    x: np.ndarray
    weight: np.ndarray | None
    ok: np.ndarray
    one: np.ndarray
    one_ok: np.ndarray

    def first(self, events: int) -> "Judged":
        """The first events of the block."""
        weight = None if self.weight is None else self.weight[:events]
        return Judged(self.x[:events], weight, self.ok[:events], self.one[:events], self.one_ok[:events])


def judged(
    x: np.ndarray,
    log_weight: np.ndarray,
    ok: np.ndarray,
    truth: np.ndarray | None,
    space: Space | None,
    uniform: np.ndarray,
) -> Judged:
    """Impute, weigh and choose.

    Args:
        x: (event, draw, *x) as stored.
        log_weight, ok: (event, draw).
        truth: (event, component), or None for observed data.
        space: how x is compared; None without truth.
        uniform: numbers in [0, 1), (event,), that choose a draw where weights differ.
    """
    x = x.reshape(*x.shape[:2], -1)
    if truth is not None and space is not None and not ok.all():
        x = np.where(ok[..., None], x, space.farthest(truth)[:, None])
    weight = normalised(log_weight, ok)
    which = chosen(weight, len(x), uniform)
    rows = np.arange(len(x))
    return Judged(x, weight, ok, x[rows, which], ok[rows, which])
