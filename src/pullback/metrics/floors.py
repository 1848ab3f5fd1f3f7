"""Distances of one family with their bootstrap intervals and sampling floors.

The floor of a distance is the same distance between the truth of the test events and as many independent truths of
the same prior (split ``reference``): what a method has that draws from the true prior and ignores y. Draws that follow
their y lie below it, the more informative y is the lower: an exact posterior does in most data sets, and so can a
biased one. So a method at its floor is not proven exact; compare methods among themselves, and with the row
``swd_exact`` where the exact posterior is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pullback.core import seeding
from pullback.metrics import distances
from pullback.metrics.bootstrap import Replicas, distance_interval
from pullback.metrics.metric import Measured, Metric
from pullback.metrics.sample import Space, normalised

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers

DIRECTIONS = 50
"""Directions of the sliced distance as papers use it (the default of POT)."""

BOOTSTRAP_EVENTS = 1_600_000
"""Events in all replicas of a W1 together: above 8000 events there are fewer than 200 replicas, at least 50."""

WEIGHTED_POINTS = 100_000
"""Draws in a distance of weighted draws; with more, the first draws of each event."""

INFLUENCE_DIRECTIONS = 128
"""Most directions in the interval of a sliced distance: more hardly narrow it."""
INFLUENCE_EVENTS = 400_000
"""Events times directions there: above 3000 events there are fewer directions, at least 16."""
HALF_DIRECTIONS = 16
"""Those along which halves of the events are compared."""

NORMAL = 1.96
"""Standard deviations to either side that hold 95 % of a normal distribution."""

BINS = 1024
"""Bins of the distribution of an array's values; its W1 is right to one bin of the range of the truth."""


@dataclass
class Distances:
    """Distances between a sample and the truth of one family's first events.

    Attributes:
        truth: (event, component). space: how components are compared. replicas: bootstrap over exactly these events
        (their weights included). address: root of the random directions; the same for all methods, which are so
        compared along the same directions. large: number of directions of the larger sliced distance. seeds: seeds of
        directions that the paper's sliced distance is averaged over. reference: independent truth (event, component)
        and its event weights or None, for floors.
    """

    truth: np.ndarray
    space: Space
    replicas: Replicas
    address: seeding.Address
    large: int
    seeds: int
    reference: tuple[np.ndarray, np.ndarray | None] | None = None

    @property
    def paper_directions(self) -> np.ndarray:
        """The first seed's 50 directions."""
        return self._directions["swd_draw"][0]

    @cached_property
    def _directions(self) -> dict[str, list[np.ndarray]]:
        dimension = self.truth.shape[1]
        small = [
            distances.directions((*self.address, "directions", seed), dimension, DIRECTIONS)
            for seed in range(self.seeds)
        ]
        many = distances.directions((*self.address, "directions", "large"), dimension, self.large)
        return {"swd_draw": small, f"swd{self.large}_draw": [many]}

    def swd(
        self,
        sample: np.ndarray,
        truth: np.ndarray,
        sample_weight: np.ndarray | None = None,
        truth_weight: np.ndarray | None = None,
    ) -> dict[str, float]:
        """Sliced distances, averaged over seeds of directions: with 50 directions, and with `large`."""
        u, v = self.space.standard(sample), self.space.standard(truth)
        return {
            name: float(np.mean([distances.sliced_wasserstein(u, v, t, sample_weight, truth_weight) for t in thetas]))
            for name, thetas in self._directions.items()
        }

    def _marginals(self, u: np.ndarray, v: np.ndarray, *weights: np.ndarray | None) -> np.ndarray:
        """W1 of each named feature, or of all values of an array."""
        if self.space.names:
            found = distances.wasserstein_powers(*self._features(u, v), 1, *weights)
            ours, theirs = (
                np.ones((1, len(values))) if weight is None else weight[None]
                for values, weight in zip((u, v), weights, strict=True)
            )
            for j in np.flatnonzero(self.space.periodic):
                found[j] = distances.circular_wasserstein(u[:, j], v[:, j], ours, theirs)[0]
            return found
        edges = self._edges
        ours, theirs = (distances.value_histograms(values, edges) for values in (u, v))
        u_sum, v_sum = (
            each.sum(axis=0) if weight is None else weight @ each
            for each, weight in zip((ours, theirs), weights, strict=True)
        )
        return np.atleast_1d(distances.histogram_distance(u_sum, v_sum, edges[1] - edges[0]))

    def _features(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values by feature, (component, event) float32, about the truth's mean: a common shift changes no distance."""
        centre = self.truth.mean(axis=0, dtype=np.float64)
        ours, theirs = ((values - centre).astype(np.float32).T for values in (u, v))
        return ours, theirs

    @cached_property
    def _edges(self) -> np.ndarray:
        low, high = self.truth.min(), self.truth.max()
        return np.linspace(low, high if high > low else low + 1.0, BINS + 1)

    @cached_property
    def _marginal_names(self) -> list[tuple[str, str]]:
        if self.space.names:
            return [(f"w1_draw.{name}", unit) for name, unit in zip(self.space.names, self.space.units, strict=True)]
        return [("w1_draw.pixels", self.space.units[0])]

    @cached_property
    def floors(self) -> dict[str, float]:
        """The floor of each metric; empty without a reference. Both sides are cut to the same number of events."""
        if self.reference is None:
            return {}
        other, other_weight = self.reference
        k = min(len(other), len(self.truth))
        ours = None if self.replicas.weight is None else self.replicas.weight[:k]
        weights = (ours, None if other_weight is None else other_weight[:k])
        found = self.swd(self.truth[:k], other[:k], *weights)
        marginals = self._marginals(self.truth[:k], other[:k], *weights)
        return found | {name: float(value) for (name, _), value in zip(self._marginal_names, marginals, strict=True)}

    def measure(self, one: np.ndarray) -> list[Measured]:
        """Every distance between one draw of each event (event, component) and the truth."""
        return self.measure_swd(one) + self._measure_marginals(one)

    def measure_swd(self, one: np.ndarray) -> list[Measured]:
        """The sliced distances alone."""
        weight, space = self.replicas.weight, self.space
        u, v = space.standard(one), space.standard(self.truth)
        return [
            Measured(
                name,
                value,
                *self._sliced_interval(value, u, v, np.concatenate(self._directions[name])),
                self.floors.get(name),
                len(one),
                space.unit,
            )
            for name, value in self.swd(one, self.truth, weight, weight).items()
        ]

    def _sliced_interval(
        self, value: float, u: np.ndarray, v: np.ndarray, theta: np.ndarray
    ) -> tuple[float | None, float | None]:
        """95 % interval of a sliced distance between u and v (event, component), whose events belong together.

        W_2^2 is replaced by its first order in the events' weights (`distances.influence`) along the directions, so
        that a replica is a mean, and normal. The influence is itself estimated: where u and v have one distribution it
        is all noise, and its variance twice that of W_2^2, a quadratic form of normal variables there. The part without
        noise is the covariance of the influences of two independent halves.
        """
        if not self.replicas.count:
            return None, None
        weight = self.replicas.weight
        most = max(HALF_DIRECTIONS, min(INFLUENCE_DIRECTIONS, INFLUENCE_EVENTS // len(u)))
        found = []
        for some, parts in ((theta[:most], (None,)), (theta[:HALF_DIRECTIONS], self.replicas.halves)):
            power = distances.sliced_wasserstein(u, v, some, weight, weight) ** 2
            moved = np.add(*distances.influence(u, v, some, weight, weight, parts))
            # Few directions may happen to lie along what differs: only their relative spread counts.
            found.append(moved * (value**2 / power if power > 0 else 1.0))
        replicas = self.replicas.mean(np.concatenate(found).T)[1]
        spread = np.cov(replicas.T)
        systematic = float(np.clip(spread[1, 2], 0.0, spread[0, 0]))
        half = NORMAL * np.sqrt((spread[0, 0] + systematic) / 2)
        return float(np.sqrt(max(value**2 - half, 0.0))), float(np.sqrt(value**2 + half))

    @property
    def _resampled(self) -> list[np.ndarray]:
        """The events of as many replicas as a distance can afford."""
        return self.replicas.events[: max(50, BOOTSTRAP_EVENTS // len(self.truth))]

    def _measure_marginals(self, one: np.ndarray) -> list[Measured]:
        weight = self.replicas.weight
        values = self._marginals(one, self.truth, weight, weight)
        if self.space.names:
            u, v = self._features(one, self.truth)
            spread = distances.replicate_powers(u, v, 1, self._resampled, weight)
            for j in np.flatnonzero(self.space.periodic):
                drawn = self.replicas.drawn(len(self._resampled))
                spread[:, j] = distances.circular_wasserstein(one[:, j], self.truth[:, j], drawn, drawn)
        else:
            edges = self._edges
            u, v = (self.replicas.sums(distances.value_histograms(sample, edges)) for sample in (one, self.truth))
            spread = distances.histogram_distance(u, v, edges[1] - edges[0])[:, None]
        return [
            Measured(
                name,
                float(value),
                *distance_interval(float(value), spread[:, j]),
                self.floors.get(name),
                len(one),
                unit,
            )
            for j, ((name, unit), value) in enumerate(zip(self._marginal_names, values, strict=True))
        ]


def distance_rows(answers: "Answers") -> Iterator[Measured]:
    """Distances between one draw of each of the first events and the truth.

    For unequal weights also ``swd_weighted``: all draws of each event with their weights. It has no floor: so many
    draws lie nearer to the truths than one truth each does, by how much depends on their effective number.
    """
    case, n = answers.case, len(answers.one)
    if not case.known:
        return
    between = case.distances(n)
    yield from between.measure(answers.one)
    weighted = weighted_draws(answers)
    if weighted is None:
        return
    x, weight = weighted
    standard, event = case.space.standard, case.replicas(n).weight
    value = distances.sliced_wasserstein(
        standard(x.reshape(-1, x.shape[2])),
        standard(case.flat("x", 0, n)),
        between.paper_directions,
        weight.ravel(),
        event,
    )
    yield Measured("swd_weighted", value, None, None, None, n, case.space.unit)


def weighted_draws(answers: "Answers") -> tuple[np.ndarray, np.ndarray] | None:
    """All draws of the first events (event, draw, component) and their weights times the events' (event, draw).

    None where all weights of an event's draws are equal: then one draw says the same. Failed draws are imputed.
    """
    case, posterior, n = answers.case, answers.posterior, len(answers.one)
    draws = max(1, min(posterior.draws, WEIGHTED_POINTS // n))
    ok = posterior.read("ok", 0, n)[:, :draws]
    weight = normalised(posterior.read("log_weight", 0, n)[:, :draws], ok)
    if weight is None:
        return None
    x = posterior.read("x", 0, n)[:, :draws].reshape(n, draws, -1)
    x = np.where(ok[..., None], x, case.space.farthest(case.flat("x", 0, n))[:, None])
    event = case.replicas(n).weight
    return x, weight if event is None else weight * event[:, None]


SWD = Metric(
    "swd",
    "Sliced Wasserstein distance",
    "distance between the joint distributions of draws and of truths",
    "lower",
    counts="directions",
    measure=distance_rows,
)
"""Root of the mean over random directions of W_2^2 between draws and truths (Bonneel et al. 2015; POT's definition).

One draw of each event. In units of the common scale. Angles: cut opposite to the circular mean of the truth. Weights
of draws: choose the draw; `swd_weighted` has all draws with their weights. Failed draws: imputed. Interval: cluster
bootstrap of the influence function along up to 128 directions. Floor: of independent truths.
"""
W1 = Metric(
    "w1",
    "Wasserstein-1 distance",
    "distance between the marginal distributions of draws and of truths",
    "lower",
    measure=distance_rows,
)
"""W_1 between draws and truths of each component, or of all values of an array in 1024 bins of the truth's range.

One draw of each event. Angles: along the circle, wherever it is cut. Values outside an array's bins enter by their
distance. Weights of draws: choose the draw. Failed draws: imputed. Floor: of independent truths.
"""
