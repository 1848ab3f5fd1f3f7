"""Input of all metrics: one posterior and its family, read once in blocks."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pullback.core import seeding
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.metrics import checks
from pullback.metrics.bootstrap import distance_interval, percentile_interval
from pullback.metrics.case import Case
from pullback.metrics.credibility import Credibility
from pullback.metrics.exact import Exact
from pullback.metrics.metric import Measured, Metric, Scores, event_scores
from pullback.metrics.ranks import LEAST_DRAWS, LEAST_EVENTS
from pullback.metrics.sample import Sample
from pullback.metrics.seen import SeenObservations

log = logging.getLogger("pullback")

BLOCK_VALUES = 4_000_000
"""Numbers of a posterior that are in memory at once."""

SET_VALUES = 40_000_000
"""Numbers of a sample that a metric of sets is given: with more, it has the first events."""

SET_REPLICAS = 50
"""Most bootstrap replicas of a metric of sets, which is computed anew for each."""


@dataclass
class Answers:
    """One posterior and the reference data; arrays are of all its events unless said otherwise.

    Attributes:
        case: the family.
        posterior: open for reading.
        metrics: in the order of their rows.
        address: of random numbers of this posterior.
        point_estimate: the method returns a point.
        seen: observations that were trained on.
        one, one_ok: one draw of each of the first events, those of a distance (event, component), (event,).
        failed: share of failed draws (event, 1).
        scores: event scores by row name, (values (event,) or (event, k), unit).
        ranks: of the same first events as `one` (event, quantity); None where nothing is ranked.
        errors: against the exact posterior, of its events; None where there is none.
    """

    case: Case
    posterior: PosteriorReader
    metrics: list[Metric]
    address: seeding.Address
    point_estimate: bool
    seen: SeenObservations

    def __post_init__(self) -> None:
        """Go once through the posterior, in blocks."""
        case = self.case
        exact = None if self.point_estimate else self.exact
        one, one_ok, failed, ranks, errors = [], [], [], [], []
        scores: list[Scores] = []
        for start, block in self._blocks():
            failed.append(1 - block.ok.mean(axis=1))
            if start < self.first:
                one.append(block.one)
                one_ok.append(block.one_ok)
            if not case.known:
                continue
            scores.append(event_scores(self.metrics, block))
            if self.credibility is not None and start < self.first:
                ranks.append(self.credibility.block(block.first(self.first - start), start))
            if exact is not None and start < exact.n:
                errors.append(exact.errors(block.first(exact.n - start), start))
        self.one, self.one_ok = np.concatenate(one)[: self.first], np.concatenate(one_ok)[: self.first]
        self.failed = np.concatenate(failed)[:, None]
        self.scores: Scores = {
            name: (np.concatenate([np.asarray(each[name][0], np.float64) for each in scores]), unit)
            for name, (_, unit) in (scores[0] if scores else {}).items()
        }
        self.ranks = np.concatenate(ranks) if ranks else None
        self.errors = np.concatenate(errors) if errors else None

    @property
    def problem(self) -> Any:
        """The problem, where it has a forward process."""
        return self.case.problem

    @property
    def first(self) -> int:
        """Number of events in a distance."""
        return self.case.events_of_distance(self.posterior.n)

    @cached_property
    def credibility(self) -> Credibility | None:
        """What is ranked; None without truth, with a point estimate, or with few draws or events."""
        enough = self.posterior.draws >= LEAST_DRAWS and self.first >= LEAST_EVENTS
        ranked = self.case.known and not self.point_estimate and enough
        return self.case.credibility(self.first) if ranked else None

    @cached_property
    def exact(self) -> Exact | None:
        """The exact posterior, where it is known and asked for."""
        return self.case.exact

    @cached_property
    def misfit(self) -> checks.Misfit | None:
        """Draws that were simulated again."""
        return checks.simulate_again(self)

    def _blocks(self) -> Iterator[tuple[int, Sample]]:
        n, draws = self.posterior.n, self.posterior.draws
        uniform = seeding.generator(*self.address, "resample").random(n)
        step = max(1, BLOCK_VALUES // (draws * int(np.prod(self.posterior.x.shape))))
        for start in range(0, n, step):
            yield start, self.sample(start, min(start + step, n), uniform)

    def sample(self, start: int, stop: int, uniform: np.ndarray) -> Sample:
        """Some events with all their draws; ``uniform`` (event,), of all events, chooses the draw of each."""
        case, posterior = self.case, self.posterior
        x, log_weight, ok = (posterior.read(name, start, stop) for name in ("x", "log_weight", "ok"))
        truth = case.flat("x", start, stop) if case.known else None
        weight = case.replicas(posterior.n).weight
        return replace(
            Sample.of(x, log_weight, ok, truth, case.space if case.known else None, uniform[start:stop]),
            field=posterior.x,
            y=case.reader.read("y", start, stop),
            group=case.reader.read("group", start, stop),
            event_weight=None if weight is None else weight[start:stop],
            point_estimate=self.point_estimate,
            labels=case.labels if case.known else (0.0, 1.0),
            problem=self.problem,
            address=(*case.address, case.name),
        )

    def rows(self) -> Iterator[Measured]:
        """Every row, metric after metric; those that share a function come together."""
        done: set[Any] = set()
        for metric in self.metrics:
            source = metric.measure or (metric if metric.of_set else metric.compute and "scores")
            if source is None or source in done:
                continue
            done.add(source)
            if metric.measure is not None:
                yield from metric.measure(self)
            elif metric.of_set:
                yield from self._of_set(metric)
            else:
                yield from self._event_scores()

    def _event_scores(self) -> Iterable[Measured]:
        """Means over events with their intervals."""
        if not self.scores:
            return
        functions = {name: m.of_means for m in self.metrics if m.of_means for name in self.scores if name == m.name}
        columns = [values.reshape(len(values), -1) for values, _ in self.scores.values()]
        replicas = self.case.replicas(self.posterior.n)
        means, spread = replicas.mean(np.column_stack(columns))
        start = 0
        for (name, (_, unit)), values in zip(self.scores.items(), columns, strict=True):
            inside = slice(start, start + values.shape[1])
            start = inside.stop
            function = functions.get(name, lambda found: found[..., 0])
            value, each = float(function(means[inside])), function(spread[:, inside])
            if name in functions:
                if not np.isfinite(value):
                    continue
                each = each[np.isfinite(each)]
            yield Measured(name, value, *percentile_interval(each), None, replicas.n, unit)

    def _of_set(self, metric: Metric) -> Iterator[Measured]:
        """A number for the first events, its interval by groups, and its floor from independent truths."""
        case, posterior = self.case, self.posterior
        if metric.compute is None or (metric.needs_truth and not case.known):
            return
        n = max(1, min(self.first, SET_VALUES // (posterior.draws * int(np.prod(posterior.x.shape)))))
        sample = self.sample(0, n, seeding.generator(*self.address, "resample").random(posterior.n))
        value = float(metric.compute(sample))
        resampled = case.replicas(n).events[:SET_REPLICAS]
        spread = np.array([float(metric.compute(sample.take(events))) for events in resampled])
        interval = distance_interval(value, spread) if metric.better == "lower" else percentile_interval(spread)
        floor = None
        if case.known and (reference := case.reference(n)) is not None:
            floor = float(metric.compute(sample.with_draws(reference[0])))
        yield Measured(metric.name, value, *interval, floor, n, metric.unit)
