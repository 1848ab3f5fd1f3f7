"""Draws of some events with their truth, as input of metrics: failures imputed, weights normalised.

A failed draw counts. It enters every error and distance as the corner of the truth's range that is farthest from its
event's truth; it is never dropped and no later draw takes its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from pullback.core import seeding
from pullback.core.angles import circular_mean, wrap
from pullback.core.particles import invert, relative
from pullback.ensembles.fields import Field
from pullback.metrics.calibration import SortedDraws
from pullback.problems.base import Problem

MOST_FEATURES = 16
"""Vectors with more features get no rows for each of them."""


def deviation(sample: np.ndarray) -> np.ndarray:
    """Standard deviation of each component of a sample (event, component), (component,); 1 of one that never varies."""
    found = sample.std(axis=0, dtype=np.float64)
    return np.where(found > 0, found, 1.0)


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
        zero: of an angle the circular mean of the truth, (component,), 0 of other components. A line of angles that is
            compared as one (sliced distances) is cut opposite to it, so that nothing depends on where a user's zero is.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    periodic: np.ndarray
    scale: np.ndarray
    unit: str
    low: np.ndarray
    high: np.ndarray
    zero: np.ndarray | float = 0.0

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
        space = Space(field.features, field.units, periodic, np.ones(components), field.units[0], low, high)
        space = replace(space, zero=np.where(periodic, circular_mean(sample), 0.0) if periodic.any() else 0.0)
        return replace(space, scale=deviation(space.standard(sample)), unit="1") if mixed else space

    @property
    def listed(self) -> tuple[str, ...]:
        """Components that get rows of their own beside the mixed number; none of a single one, or of many."""
        return self.names if 1 < len(self.names) <= MOST_FEATURES else ()

    def difference(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a - b, wrapped for angles."""
        return self.canonical(a - b)

    def standard(self, values: np.ndarray) -> np.ndarray:
        """Values on the common scale, angles about their `zero`: what sliced distances compare."""
        return self.canonical(values, self.zero) / self.scale.astype(values.dtype)

    def canonical(self, values: np.ndarray, zero: np.ndarray | float = 0.0) -> np.ndarray:
        """Values with angles about ``zero`` (..., component), in [-pi, pi)."""
        if not self.periodic.any():
            return values
        values = np.array(values)
        about = np.broadcast_to(zero, values.shape)[..., self.periodic]
        values[..., self.periodic] = wrap(values[..., self.periodic] - about)
        return values

    def farthest(self, truth: np.ndarray) -> np.ndarray:
        """The corner of the truth's range farthest from each truth (event, component); of an angle the opposite one."""
        corner = np.where(np.abs(truth - self.low) > np.abs(self.high - truth), self.low, self.high)
        return np.where(self.periodic, wrap(truth + np.pi), corner).astype(truth.dtype)


def normalised(log_weight: np.ndarray, ok: np.ndarray) -> np.ndarray | None:
    """Weights of draws, summing to 1 over each event's; None when all are equal.

    A failed draw keeps the weight 1/draws, so that failures are chosen at their frequency; the rest is divided
    according to the log-weights. An event whose successful draws all have weight zero shares equally.

    Args:
        log_weight: (event, draw), -inf for a draw without a vote.
        ok: (event, draw).
    """
    if log_weight.size == 0 or (log_weight == log_weight[:, :1]).all():
        return None
    weight = relative(np.where(ok, log_weight, -np.inf))
    weight = np.where(weight.any(axis=1, keepdims=True), weight, ok)
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1.0)
    return np.where(ok, ok.mean(axis=1, keepdims=True) * weight / total, 1.0 / ok.shape[1])


def chosen(weight: np.ndarray | None, events: int, uniform: np.ndarray) -> np.ndarray:
    """The draw of each event that `_draw` metrics judge: the first, or one by weight with ``uniform`` (event,)."""
    if weight is None:
        return np.zeros(events, np.int64)
    return invert(np.cumsum(weight, axis=1), uniform[:, None])[:, 0]


@dataclass(frozen=True)
class Sample:
    """Draws of some events beside what they are compared with: the one argument of a metric's function.

    Attributes:
        x: draws (event, draw, component) float32; a failed one stands at the corner of the truth's range that is
            farthest from its event's truth (NaN where there is no truth). Arrays are flat.
        weight: of draws (event, draw), summing to 1 over each event's; None for equal ones.
        ok: whether a draw succeeded (event, draw).
        one: the draw that ``_draw`` metrics compare: the first, or one by weight, (event, component).
        one_ok: whether that draw succeeded (event,).
        truth: (event, component); None for observed data.
        space: how x is compared (units, angles, common scale); None without truth.
        field: of x: names, shape and units.
        y: observations (event, *y).
        group: of each event (event,): events of one group are not independent.
        event_weight: (event,), or None for equal ones.
        point_estimate: the method returns a point: its draws are copies.
        labels: values of an array that map to 0 and 1 in SSIM; their difference is the peak of PSNR.
        problem: the simulator, where there is one.
        address: of random numbers: `rng`.
    """

    x: np.ndarray
    weight: np.ndarray | None
    ok: np.ndarray
    one: np.ndarray
    one_ok: np.ndarray
    truth: np.ndarray | None = None
    space: Space | None = None
    field: Field | None = None
    y: np.ndarray | None = None
    group: np.ndarray | None = None
    event_weight: np.ndarray | None = None
    point_estimate: bool = False
    labels: tuple[float, float] = (0.0, 1.0)
    problem: Problem | None = None
    address: seeding.Address = ()

    @staticmethod
    def of(
        x: np.ndarray,
        log_weight: np.ndarray,
        ok: np.ndarray,
        truth: np.ndarray | None,
        space: Space | None,
        uniform: np.ndarray,
    ) -> "Sample":
        """Impute failures, normalise weights and choose one draw of each event.

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
        return Sample(x, weight, ok, x[rows, which], ok[rows, which], truth, space)

    @staticmethod
    def of_arrays(
        draws: ArrayLike,
        truth: ArrayLike,
        weights: ArrayLike | None = None,
        periodic: Sequence[int] = (),
    ) -> "Sample":
        """A sample from plain arrays; draws that are not finite count as failed.

        Args:
            draws: (event, draw, *x), or (event, draw) of a scalar x.
            truth: (event, *x), or (event,).
            weights: of draws (event, draw), not negative; None for equal ones.
            periodic: which components are angles, in radians.

        Raises:
            ValueError: shapes that do not fit, or a negative weight.
        """
        draws, truth = np.asarray(draws), np.asarray(truth)
        if draws.ndim < 2 or draws.shape[:1] + draws.shape[2:] != truth.shape:
            raise ValueError(
                f"found draws of shape {draws.shape} and truth of shape {truth.shape}; wanted (event, draw, *x) and "
                "(event, *x)"
            )
        if not truth.size or not draws.shape[1] or not np.isfinite(truth).all():
            raise ValueError(
                f"found truth of shape {truth.shape} and draws of shape {draws.shape}; wanted finite "
                "truths and at least one event and one draw"
            )
        x, truth = draws.reshape(*draws.shape[:2], -1), truth.reshape(len(truth), -1)
        angles = np.zeros(x.shape[2], bool)
        angles[list(periodic)] = True
        low, high = truth.min(axis=0).astype(float), truth.max(axis=0).astype(float)
        units = ("1",) * x.shape[2]
        zero = np.where(angles, circular_mean(truth), 0.0)
        space = Space((), units, angles, np.ones(x.shape[2]), "1", low, high, zero)
        log_weight = np.zeros(x.shape[:2])
        if weights is not None:
            weights = np.asarray(weights, np.float64)
            if weights.shape != x.shape[:2] or not ((weights >= 0) & (weights < np.inf)).all():
                raise ValueError(
                    f"found weights of shape {weights.shape}, wanted {x.shape[:2]} (event, draw), none negative or "
                    "infinite"
                )
            with np.errstate(divide="ignore"):
                log_weight = np.log(weights)
        ok = np.isfinite(x).all(axis=2)
        return Sample.of(x, log_weight, ok, truth, space, np.full(len(x), 0.5))

    def __len__(self) -> int:
        """Number of events."""
        return len(self.x)

    def rng(self, *name: str | int) -> np.random.Generator:
        """A separate random generator by name; the same name gives the same numbers for every method."""
        return seeding.generator(*self.address, *name)

    @cached_property
    def draw_weight(self) -> np.ndarray:
        """Weights of all draws, failed ones with theirs, (event, draw); they sum to 1."""
        return np.full(self.ok.shape, 1.0 / self.ok.shape[1]) if self.weight is None else self.weight

    @cached_property
    def vote(self) -> np.ndarray:
        """Weights of successful draws (event, draw), summing to 1 where there is one; 0 for failed ones."""
        vote = self.draw_weight * self.ok
        total = vote.sum(axis=1, keepdims=True)
        return vote / np.where(total > 0, total, 1.0)

    @cached_property
    def ordered(self) -> SortedDraws:
        """The draws in order, for means, medians and ranks."""
        return SortedDraws(self)

    @property
    def known(self) -> tuple[np.ndarray, Space]:
        """Truth and space, of data whose truth is known."""
        assert self.truth is not None
        assert self.space is not None
        return self.truth, self.space

    def take(self, events: np.ndarray | slice) -> "Sample":
        """The sample of some events, with repeats where an index repeats."""
        names = ("x", "weight", "ok", "one", "one_ok", "truth", "y", "group", "event_weight")
        found = {name: getattr(self, name) for name in names}
        return replace(self, **{name: values[events] for name, values in found.items() if values is not None})

    def first(self, events: int) -> "Sample":
        """The first events."""
        return self.take(slice(events))

    def with_draws(self, x: np.ndarray) -> "Sample":
        """The same events with other draws (event, component), one each: independent truths give a sampling floor."""
        ok = np.ones((len(x), 1), bool)
        return replace(self.first(len(x)), x=x[:, None], weight=None, ok=ok, one=x, one_ok=ok[:, 0])
