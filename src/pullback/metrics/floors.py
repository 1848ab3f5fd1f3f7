"""Distances of one family with their bootstrap intervals and sampling floors.

The floor of a distance is the same distance between the truth of the test events and as many independent truths of
the same prior (split ``reference``): below it a method cannot be distinguished from an exact one. Draws share their
events with the truth, so an exact posterior can lie a little below its floor.
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

BOOTSTRAP_DIRECTIONS = 8
"""Directions in a bootstrap replica of a sliced distance: the spread over events needs fewer than the value."""

BOOTSTRAP_EVENTS = 1_600_000
"""Events in all replicas of a distance together: above 8000 events there are fewer than 200 replicas, at least 50."""

WEIGHTED_POINTS = 100_000
"""Draws in a distance of weighted draws; with more, the first draws of each event."""

BINS = 1024
"""Bins of the distribution of an array's values; its W1 is right to one bin of the range of truth and draws."""


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
            return distances.wasserstein_powers(*self._features(u, v), 1, *weights)
        edges = self._edges(u, v)
        ours, theirs = (distances.value_histograms(values, edges) for values in (u, v))
        u_sum, v_sum = (
            each.sum(axis=0) if weight is None else weight @ each
            for each, weight in zip((ours, theirs), weights, strict=True)
        )
        return np.atleast_1d(distances.histogram_distance(u_sum, v_sum, edges[1] - edges[0]))

    def _features(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values by feature, (component, event) float32, about the truth's mean: a common shift changes no distance."""
        centre = self.truth.mean(axis=0, dtype=np.float64)
        centre[self.space.periodic] = 0.0
        ours, theirs = ((self.space.canonical(values) - centre).astype(np.float32).T for values in (u, v))
        return ours, theirs

    def _edges(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        low, high = min(u.min(), v.min()), max(u.max(), v.max())
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
        weight = self.replicas.weight
        spread = self._swd_replicas(one)
        unit = self.space.unit
        return [
            Measured(name, value, *distance_interval(value, spread), self.floors.get(name), len(one), unit)
            for name, value in self.swd(one, self.truth, weight, weight).items()
        ]

    @property
    def _resampled(self) -> list[np.ndarray]:
        """The events of as many replicas as a distance can afford."""
        return self.replicas.events[: max(50, BOOTSTRAP_EVENTS // len(self.truth))]

    def _swd_replicas(self, one: np.ndarray) -> np.ndarray:
        """The sliced distance of each replica along a few directions, (replica,)."""
        theta = self.paper_directions[:BOOTSTRAP_DIRECTIONS]
        centre = self.space.standard(self.truth).mean(axis=0, dtype=np.float64)
        u, v = (distances.project(self.space.standard(sample), theta, centre) for sample in (one, self.truth))
        powers = distances.replicate_powers(u, v, 2, self._resampled, self.replicas.weight)
        return np.sqrt(powers.mean(axis=1))

    def _measure_marginals(self, one: np.ndarray) -> list[Measured]:
        weight = self.replicas.weight
        values = self._marginals(one, self.truth, weight, weight)
        if self.space.names:
            u, v = self._features(one, self.truth)
            spread = distances.replicate_powers(u, v, 1, self._resampled, weight)
        else:
            edges = self._edges(one, self.truth)
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
    case, posterior, n = answers.case, answers.posterior, len(answers.one)
    if not case.known:
        return
    between = case.distances(n)
    yield from between.measure(answers.one)
    draws = max(1, min(posterior.draws, WEIGHTED_POINTS // n))
    ok = posterior.read("ok", 0, n)[:, :draws]
    weight = normalised(posterior.read("log_weight", 0, n)[:, :draws], ok)
    if weight is None:
        return
    truth = case.flat("x", 0, n)
    x = posterior.read("x", 0, n)[:, :draws].reshape(n, draws, -1)
    x = np.where(ok[..., None], x, case.space.farthest(truth)[:, None])
    event = case.replicas(n).weight
    if event is not None:
        weight = weight * event[:, None]
    standard = case.space.standard
    value = distances.sliced_wasserstein(
        standard(x.reshape(n * draws, -1)), standard(truth), between.paper_directions, weight.ravel(), event
    )
    yield Measured("swd_weighted", value, None, None, None, n, case.space.unit)


SWD = Metric(
    "swd",
    "Sliced Wasserstein distance",
    "distance between the joint distributions of draws and of truths",
    "lower",
    counts="directions",
    measure=distance_rows,
)
W1 = Metric(
    "w1",
    "Wasserstein-1 distance",
    "distance between the marginal distributions of draws and of truths",
    "lower",
    measure=distance_rows,
)
