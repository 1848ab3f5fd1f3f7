"""Comparison of posteriors with the exact one, where it is known (`problems.true_prior`).

For the first events of a family draws are made from p(x|y) under the family's true prior; they are the same for every
method. The rows are

``posterior_mean_error``
    root of the mean over events and components of ((mean - exact mean) / exact standard deviation)^2;
``posterior_covariance_error``
    |C - C_exact|_F / |C_exact|_F, root of the ratio of means over events, both in units of the truth's standard
    deviations, so that components of different units count alike (in units of each event's own posterior the few events
    that are known best, where any error is many times the exact variance, would be all that counts);
``energy_score_excess``, ``crps_excess``
    mean score over the exact posterior's mean score on the same events, minus one: 0.01 is one per cent worse.

Squares of differences between estimates from m and M draws are too large by the noise of both. For a mean the bias is
var/m, and is subtracted. For covariances |C - C'|_F^2 = tr C^2 + tr C'^2 - 2 tr C C', and tr C^2 has an unbiased
estimate for any distribution (Himeno and Yamada 2014), with S the sample covariance and z draws about their mean:

    (m - 1) / (m (m - 2) (m - 3)) [ (m - 1) (m - 2) tr S^2 + (tr S)^2 - m / (m - 1) sum |z|^4 ].

So the squares are unbiased whatever the number of draws, and 0 is printed where noise makes them negative. Draws with
weights count as their effective number. Scores are unbiased by themselves.

Floors: the same number for a second, independent set of exact draws with as many draws as the method has. For the two
roots it is the root of the second set's square plus one standard error of it (its own pool's noise, so that the floor
is not itself zero half of the time).
"""

import logging
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pullback.core import seeding
from pullback.core.angles import circular_mean
from pullback.core.particles import invert
from pullback.ensembles.fields import Field
from pullback.metrics import classifier
from pullback.metrics.bootstrap import Replicas, percentile_interval
from pullback.metrics.energy import energy_scores
from pullback.metrics.metric import Measured
from pullback.metrics.sample import Sample, Space, deviation
from pullback.problems.true_prior import TruePrior

if TYPE_CHECKING:
    pass

log = logging.getLogger("pullback")

BLOCK = 250
"""Events that are drawn together, with one pool."""

LEAST_VARIANCE = 1e-10
"""Of the truth's: a posterior that is narrower counts as so wide."""

LEAST_DRAWS = 4
"""Fewer do not tell a covariance from its noise."""

LEAST_DRAWS_C2ST = 200
"""Of one observation; fewer train no classifier."""

OBSERVATIONS = 10
"""Observations whose draws are classified one by one, as many as benchmarks have."""


def unweighted(x: np.ndarray) -> Sample:
    """Draws (event, draw, *x) without weights as a sample.

    Raises:
        ExactError: a draw is not finite.
    """
    x = x.reshape(*x.shape[:2], -1)
    ok = np.isfinite(x).all(axis=2)
    if not ok.all():
        raise ExactError(
            f"{int((~ok.all(axis=1)).sum())} of {len(x)} observations cannot have been made by any truth of the "
            "reference split: give the family a larger one (size.reference), or name the families that are compared "
            "with the exact posterior in evaluation.exact_families"
        )
    return Sample(x, None, ok, x[:, 0], ok[:, 0])


class ExactError(ValueError):
    """The exact posterior of some event is not known."""


class Moments(NamedTuple):
    """Mean and covariance of draws, all estimates unbiased.

    Attributes:
        mean: (event, component), about the centre.
        variance_of_mean: (event, component).
        covariance: (event, component, component).
        size: squared Frobenius norm of the covariance (event,).
    """

    mean: np.ndarray
    variance_of_mean: np.ndarray
    covariance: np.ndarray
    size: np.ndarray


def moments(draws: Sample, centre: np.ndarray, scale: np.ndarray, space: Space) -> Moments:
    """Moments of (x - centre) / scale, angles wrapped about the centre; failures as imputed.

    Args:
        draws: at least four. centre: (event, component). scale: (component,). space: of x.
    """
    weight = draws.draw_weight
    # Effective numbers: for equal weights squares sum to 1 / draws.
    squares = (weight**2).sum(axis=1)
    rest = np.where(squares < 1 - 1e-12, 1 - squares, 1.0)
    z = space.difference(draws.x.astype(np.float64), centre[:, None]) / scale
    mean = np.einsum("ed,edf->ef", weight, z)
    z -= mean[:, None]
    covariance = np.einsum("ed,edf,edg->efg", weight, z, z, optimize=True) / rest[:, None, None]
    variance = np.einsum("eff->ef", covariance)
    size = np.einsum("efg,efg->e", covariance, covariance)
    m = 1 / squares
    enough = m >= LEAST_DRAWS - 1e-9
    m = np.where(enough, m, LEAST_DRAWS)
    fourth = m * (weight * np.einsum("edf,edf->ed", z, z) ** 2).sum(axis=1)
    bracket = (m - 1) * (m - 2) * size + variance.sum(axis=1) ** 2 - m / (m - 1) * fourth
    unbiased = (m - 1) / (m * (m - 2) * (m - 3)) * bracket
    return Moments(mean, variance * squares[:, None], covariance, np.where(enough, unbiased, size))


class Exact:
    """Exact posterior draws of a family's first events.

    Args:
        prior: of the family.
        other: the same prior, for draws that are independent of those from ``prior`` (floors).
        y: observations (event, *y).
        truth: of the first events that moments and scores use (event, component).
        space, field: of x.
        draws: of each event.
        address: of the random numbers.
    """

    def __init__(
        self,
        prior: TruePrior,
        other: TruePrior,
        y: np.ndarray,
        truth: np.ndarray,
        space: Space,
        field: Field,
        draws: int,
        address: seeding.Address,
    ):
        self.prior, self.other, self.y, self.truth = prior, other, y, truth
        self.space, self.field = space, field
        self.draws, self.address = draws, address
        self.n = len(truth)
        self._floors: dict[tuple[int, int], tuple[float, float]] = {}
        self._c2st: dict[int, tuple[np.ndarray, float]] = {}

    def sample(self, n: int, draws: int, *name: str | int) -> Sample:
        """Draws for the first n events (event, draw, component); with a name, independent ones."""
        prior = self.other if name else self.prior
        blocks, worth = [], []
        for start in range(0, n, BLOCK):
            rng = seeding.generator(*self.address, "exact", *name, start)
            x, effective = prior.draw(self.y[start : start + BLOCK], draws, rng)
            blocks.append(x)
            worth.append(effective)
        x, effective = np.concatenate(blocks)[:n], np.concatenate(worth)[:n]
        if np.isfinite(effective).all():
            log.info(
                "exact draws: median effective candidates of an event %.4g, least %.4g",
                np.median(effective),
                effective.min(),
            )
        return unweighted(x)

    @cached_property
    def first(self) -> Sample:
        """The draws that methods are compared with."""
        return replace(self.sample(self.n, self.draws), truth=self.truth, space=self.space)

    @cached_property
    def centre(self) -> np.ndarray:
        """Mean of the exact draws, of angles the circular one, (event, component)."""
        x = self.first.x.astype(np.float64)
        return np.where(self.space.periodic, circular_mean(x, axis=1), x.mean(axis=1))

    @cached_property
    def scale(self) -> np.ndarray:
        """Standard deviation of the truth (component,)."""
        return deviation(self.truth)

    @cached_property
    def moments(self) -> Moments:
        """Moments of the exact draws."""
        return moments(self.first, self.centre, self.scale, self.space)

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """Each event's scores of the exact posterior."""
        crps = self.first.ordered.crps()
        return {"energy_score": energy_scores(self.first), "crps": (crps / self.space.scale).mean(axis=1)}

    def errors(self, draws: Sample, start: int = 0) -> np.ndarray:
        """Unbiased squares of draws against the exact ones, (event, 3): mean, covariance, and the exact one's size.

        Args:
            draws: of the events from ``start`` on.
        """
        rows = slice(start, start + len(draws.x))
        ours = moments(draws, self.centre[rows], self.scale, self.space)
        theirs = Moments(*(part[rows] for part in self.moments))
        variance = np.maximum(np.einsum("eff->ef", theirs.covariance), LEAST_VARIANCE)
        squares = ((ours.mean - theirs.mean) ** 2 - ours.variance_of_mean - theirs.variance_of_mean) / variance
        frobenius = ours.size + theirs.size - 2 * np.einsum("efg,efg->e", ours.covariance, theirs.covariance)
        return np.column_stack([squares.mean(axis=1), frobenius, theirs.size])

    def floors(self, n: int, draws: int, weight: np.ndarray | None = None) -> tuple[float, float]:
        """Floors of the two moment errors for the first n events with so many draws, and their weights (event,)."""
        if (n, draws) not in self._floors:
            each = self.errors(self.sample(n, draws, "floor"))
            if weight is None:
                mean, error = each.mean(axis=0), each.std(axis=0) / np.sqrt(n)
            else:
                share = weight / weight.sum()
                mean = share @ each
                error = np.sqrt(share**2 @ (each - mean) ** 2)
            high = np.maximum(mean, 0) + error
            self._floors[n, draws] = float(np.sqrt(high[0])), float(np.sqrt(high[1] / mean[2]))
        return self._floors[n, draws]

    def measure(
        self, errors: np.ndarray, draws: int, scores: dict[str, np.ndarray], replicas: Replicas
    ) -> list[Measured]:
        """Every row of a method's draws of the first events.

        Args:
            errors: `errors` of the first n events, n <= events here.
            draws: number of draws of each event.
            scores: of at least these events by name, (event,).
            replicas: bootstrap over them.
        """
        n, rows = len(errors), []
        if draws >= LEAST_DRAWS:
            values, spread = replicas.mean(errors)
            floors = self.floors(n, draws, replicas.weight)
            for name, value, replica, floor in (
                ("posterior_mean_error", values[0], spread[:, 0], floors[0]),
                ("posterior_covariance_error", values[1] / values[2], spread[:, 1] / spread[:, 2], floors[1]),
            ):
                interval = percentile_interval(np.sqrt(np.maximum(replica, 0)))
                rows.append(Measured(name, float(np.sqrt(max(value, 0))), *interval, floor, n, "1"))
        for name, exact in self.scores.items():
            if name in scores:
                both = np.column_stack([scores[name][:n], exact[:n]])
                values, spread = replicas.mean(both)
                if values[1] > 0:
                    interval = percentile_interval(spread[:, 0] / spread[:, 1] - 1)
                    excess = float(values[0] / values[1] - 1)
                    rows.append(Measured(f"{name}_excess", excess, *interval, None, n, "1"))
        return rows

    def classify(self, y_field: Field, one: np.ndarray, replicas: Replicas) -> Measured:
        """``c2st``: accuracy of a classifier between one draw of each first event and an exact one (`classifier`).

        Args:
            y_field: of y.
            one: one draw of each of the first events (event, component), failures imputed.
            replicas: bootstrap over these events.
        """
        n = len(one)
        y = classifier.features(self.y[:n].reshape(n, -1), y_field)
        address = (*self.address, "c2st")
        if n not in self._c2st:
            exact, other = (classifier.features(self.sample(n, 1, "c2st", i).one, self.field) for i in range(2))
            weight = replicas.weight
            self._c2st[n] = exact, float(np.average(classifier.correct(y, other, exact, address), weights=weight))
        exact, floor = self._c2st[n]
        right = classifier.correct(y, classifier.features(one, self.field), exact, address)
        value, spread = replicas.mean(right[:, None])
        return Measured("c2st", float(value[0]), *percentile_interval(spread[:, 0]), floor, n, "1")

    def classify_each(self, draws: Sample, replicas: Replicas) -> Measured:
        """``c2st.observation``: the same for the draws of one observation at a time, as published; mean over these.

        Args:
            draws: of the first events; weighted ones are resampled.
            replicas: bootstrap over these events.
        """
        n, m = draws.x.shape[:2]
        levels = (np.arange(m) + 0.5) / m
        rows = invert(np.cumsum(draws.draw_weight, axis=1), np.broadcast_to(levels, (n, m)))
        ours = np.take_along_axis(draws.x, rows[..., None], axis=1)
        exact, other = (self.sample(n, m, "c2st", "each", i).x for i in range(2))
        nothing = np.zeros((m, 0))

        def accuracy(event: int, sample: np.ndarray) -> float:
            a, b = (classifier.features(each[event], self.field) for each in (sample, exact))
            return float(classifier.correct(nothing, a, b, (*self.address, "c2st", "each", event)).mean())

        right = np.array([[accuracy(event, sample) for sample in (ours, other)] for event in range(n)])
        values, spread = replicas.mean(right)
        return Measured(
            "c2st.observation", float(values[0]), *percentile_interval(spread[:, 0]), float(values[1]), n, "1"
        )
