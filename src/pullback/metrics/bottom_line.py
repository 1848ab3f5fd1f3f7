"""Bottom-line test: unfolding must not separate two hypotheses better than the observations do.

Cousins, May and Sun (arXiv 1607.07038). The hypotheses are the family itself and another one. Before unfolding the
observations of both are compared, in bins of all features of y; after it the unfolded bins and the truths of the other.
Both by chi^2 of shares with the covariances of both sides, less its degrees of freedom: an estimate of the
noncentrality. After over before is at most 1 where the covariance of the unfolding is right, but for what bins lose;
those of y are twice as many. Above 1 the covariance is too small: noise or a prior is taken for information.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pullback.metrics.bootstrap import effective_groups
from pullback.metrics.case import Case, event_weights
from pullback.metrics.contents import (
    QUANTILE_BINS,
    ChiSquared,
    Contents,
    Edges,
    beside,
    chi_squared,
    group_sums,
    numbered,
    quantile_edges,
    shares_of,
)
from pullback.metrics.metric import Measured, Metric
from pullback.metrics.resamples import resampled
from pullback.metrics.sample import MOST_FEATURES
from pullback.metrics.spectra import NORMAL, features, truth_shares

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers

log = logging.getLogger("pullback")

SEPARATED = 5.0
"""Two hypotheses are apart where chi^2 exceeds its degrees of freedom by so many standard deviations of its law."""


class Alternative:
    """The nearest family that the observations of one are told apart from.

    Args:
        case: the family that is unfolded, with a truth.
        others: families with a truth and events of their own.
    """

    def __init__(self, case: Case, others: Sequence[Case]):
        self.case, self._others = case, others

    @cached_property
    def _found(self) -> tuple[Case, ChiSquared] | None:
        case = self.case
        edges = self._edges
        if not edges:
            return None
        ours, apart = _observed(case, edges), []
        for other in self._others:
            found = chi_squared(beside(ours, _observed(other, edges)))
            if found is not None and found.value - found.rank > SEPARATED * math.sqrt(2 * found.rank):
                apart.append((found.value / found.rank, other, found))
        if not apart:
            return None
        _, other, found = min(apart, key=lambda each: each[0])
        log.info("%s: bottom line against %s, chi^2 %.4g of %d", case.name, other.name, found.value, found.rank)
        return other, found

    @cached_property
    def _edges(self) -> Edges:
        case = self.case
        n = case.events_of_distance(case.recorded.n)
        y, weight = case.recorded.read("y", 0, n), event_weights(case.recorded, n)
        found = {
            name: quantile_edges(y[:, j], weight, 2 * QUANTILE_BINS)
            for j, name in enumerate(case.recorded.y.features[:MOST_FEATURES])
        }
        return {name: each for name, each in found.items() if len(each) > 2}

    def row(self, ending: str, parts: Sequence[Contents], n: int) -> list[Measured]:
        """The row of an unfolded result; none where nothing is told apart, or its covariance is not known.

        Args:
            ending: of the row's name, what was unfolded.
            parts: its shares; of several, or where the covariance between features is not known, the feature counts
                that separates most.
            n: events.
        """
        if self._found is None:
            return []
        other, before = self._found
        truths = other.truths(other.events_of_distance(other.reader.n))
        after = []
        for part in parts:
            for ours in [part] if part.joint else [part.of(name) for name in part.edges]:
                found = chi_squared(beside(ours, truth_shares(self.case, truths, ours.edges)))
                if found is not None:
                    after.append(found)
        if not after:
            return []
        value, error = ratio(max(after, key=lambda each: each.value - each.rank), before)
        half = NORMAL * error
        return [Measured(f"bottom_line{ending}", value, max(value - half, 0.0), value + half, None, n, "1")]


def draw_rows(answers: "Answers") -> Iterator[Measured]:
    """The row of one draw of each event."""
    case, n = answers.case, len(answers.one)
    if case.alternative is None or not case.edges:
        return
    own, weight = case.reader.read("group", 0, n), case.replicas(n).weight
    (group,), groups = numbered(own)
    sums = group_sums(features(case, answers.one), case.edges, weight, group, groups)
    shares = shares_of(sums, case.edges, effective_groups(own, weight))
    finite = resampled(answers.posterior, case.edges, lambda x: features(case, x), weight, own, accepted=False)
    if finite is not None:
        shares = shares._replace(covariance=finite.shares.added_to(shares.covariance, own=True))
    yield from case.alternative.row("_draw", [shares], n)


def ratio(after: ChiSquared, before: ChiSquared) -> tuple[float, float]:
    """Noncentrality after over that before, and its standard error with the two taken as independent.

    chi^2 of k degrees of freedom and noncentrality l has the mean k + l and the variance 2 (k + 2 l).
    """
    up, down = (max(each.value - each.rank, 0.0) for each in (after, before))
    above, below = math.sqrt(2 * (after.rank + 2 * up)), math.sqrt(2 * (before.rank + 2 * down))
    return up / down, math.hypot(above, up / down * below) / down


def _observed(case: Case, edges: Edges) -> Contents:
    """Shares of the recorded observations of a family, fakes among them."""
    recorded = case.recorded
    n = case.events_of_distance(recorded.n)
    y, weight, own = recorded.read("y", 0, n), event_weights(recorded, n), recorded.read("group", 0, n)
    (group,), groups = numbered(own)
    values = {name: y[:, recorded.y.features.index(name)] for name in edges}
    return shares_of(group_sums(values, edges, weight, group, groups), edges, effective_groups(own, weight))


BOTTOM_LINE = Metric(
    "bottom_line",
    "Bottom line",
    "separation from the nearest other family after unfolding over that of the observations; more than 1 is too much",
    leads=False,
    measure=draw_rows,
)
"""(chi^2 - degrees of freedom) after unfolding over the same before it, for the hypothesis of another family.

The other family is the nearest one that the observations are told apart from (the log names it). Angles: in [-pi, pi).
Weights of events: in the contents. Failed draws: imputed. Floor: none; at most 1 where the covariance is right.
"""
