"""Bootstrap intervals: cluster bootstrap by group.

A group (a collision, a shot line) is resampled as a unit because its events are not independent.

Of few groups the spread between groups is itself uncertain: percentiles of replicas of all G groups hold the truth in
80 % of cases with five, and in 87 % with ten, in place of 95 %. Student's law allows for it, and sqrt(G/(G - 1)) for
the mean that is the sample's own. A mean of m groups drawn from G scatters by sqrt(G/m) more, so that a replica draws

    m = (G - 1) (1.96 / t)^2 groups, rounded down, t the 97.5 % quantile of Student's law with G - 1 degrees of freedom:

2 of 6, 6 of 10, 26 of 30, 196 of 200 (bootstrap of m out of n; Bickel, Gotze and van Zwet 1997), but no fewer than 2,
without which a replica has no spread between groups. Unlike a widened interval this one stays within the range of the
statistic. G is the effective number of groups, (sum W^2)^2 / sum W^4 with W the sum of event weights of a group: how
many groups carry the variance of a weighted mean. With fewer than five there is no interval.
"""

from functools import cached_property

import numpy as np

from pullback.core.particles import effective_size
from pullback.ensembles.groups import Groups

LEVELS = (2.5, 97.5)
LEAST_GROUPS = 4.5
"""With fewer effective groups, rounded to less than five, there is no interval."""

MOST_GROUPS = 20_000
"""Above this number groups are merged into as many clusters: the spread is the same, memory stays bounded."""


class Replicas:
    """Bootstrap replicas of a set of events.

    Args:
        group: the group of each event, (event,) integers.
        replicas: how many; 0 gives no intervals.
        rng: the generator that draws groups.
        weight: event weights (event,), or None for equal ones. Groups that weigh nothing are not drawn.
    """

    def __init__(self, group: np.ndarray, replicas: int, rng: np.random.Generator, weight: np.ndarray | None = None):
        self.n = len(group)
        self.weight = weight
        self._index = np.unique(group, return_inverse=True)[1] % MOST_GROUPS
        self.groups = int(self._index.max()) + 1
        weighs = np.flatnonzero(np.bincount(self._index, weights=weight)).astype(np.int32)
        self.effective_groups = effective_groups(self._index, weight)
        self.count = replicas if self.effective_groups >= LEAST_GROUPS else 0
        drawn = rng.integers(len(weighs), size=(self.count, len(weighs)), dtype=np.int32)
        few = groups_drawn(len(weighs), self.effective_groups)
        self._drawn, self._scale = weighs[drawn[:, :few]], len(weighs) / few

    @cached_property
    def counts(self) -> np.ndarray:
        """How often each group is drawn, times what makes as many as there are, (replica, group) float64."""
        counts = np.empty((self.count, self.groups))
        for row, drawn in zip(counts, self._drawn, strict=True):
            row[:] = np.bincount(drawn, minlength=self.groups)
        return counts * self._scale

    @cached_property
    def events(self) -> list[np.ndarray]:
        """The events of each replica, with repeats: replica of (event,) indices."""
        if self.groups == self.n:
            where = np.argsort(self._index)
            return [where[drawn] for drawn in self._drawn]
        groups = Groups(self._index)
        return [groups.members(drawn) for drawn in self._drawn]

    @cached_property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Masks of two independent halves of the events (event,): every other group."""
        odd = self._index % 2 == 1
        return odd, ~odd

    def drawn(self, replicas: int) -> np.ndarray:
        """Weight of each event in the first replicas, its own times how often it is drawn, (replica, event)."""
        counts = self.counts[:replicas][:, self._index]
        return counts if self.weight is None else counts * self.weight

    def group_sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over each group of (event, ...) float64, times the event weights: (group, ...)."""
        values = np.asarray(values, np.float64)
        if self.weight is not None:
            values = values * self.weight.reshape(-1, *(1,) * (values.ndim - 1))
        out = np.empty((self.groups, *values.shape[1:]))
        if self.groups == self.n:
            out[self._index] = values
            return out
        flat, target = values.reshape(self.n, -1), out.reshape(self.groups, -1)
        for j in range(flat.shape[1]):
            target[:, j] = np.bincount(self._index, weights=flat[:, j], minlength=self.groups)
        return out

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Weighted sums over events of values (event, k) in each replica: (replica, k)."""
        return self.counts @ self.group_sums(values)

    def mean(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted means over events of values (event, k): (k,), and of each replica (replica, k)."""
        both = np.column_stack([values, np.ones(self.n)])
        group_sums = self.group_sums(both)
        total = group_sums.sum(axis=0)
        replicas = self.counts @ group_sums
        return total[:-1] / total[-1], replicas[:, :-1] / replicas[:, -1:]


def effective_groups(group: np.ndarray, weight: np.ndarray | None) -> float:
    """Effective number of groups, (sum W^2)^2 / sum W^4, of events of each group (event,) and their weights or None."""
    total = np.bincount(np.unique(group, return_inverse=True)[1], weights=weight)
    return float(effective_size((total / total.max()) ** 2))


def groups_drawn(groups: int, effective: float) -> int:
    """How many of some groups a replica draws, by their effective number; all where there are no replicas."""
    from scipy.special import stdtrit

    if effective < LEAST_GROUPS:
        return groups
    narrow = (1 - 1 / effective) * (stdtrit(np.inf, 0.975) / stdtrit(effective - 1, 0.975)) ** 2
    return max(2, int(groups * narrow))


def percentile_interval(replicas: np.ndarray) -> tuple[float | None, float | None]:
    """95 % interval from replicas (replica,) that scatter about the statistic's value; None without replicas."""
    if len(replicas) == 0:
        return None, None
    # Between two infinities (misfits of failed simulations) there is nothing to interpolate.
    low, high = np.percentile(replicas, LEVELS, method="linear" if np.isfinite(replicas).all() else "nearest")
    return float(low), float(high)


def distance_interval(value: float, replicas: np.ndarray) -> tuple[float | None, float | None]:
    """95 % interval of a distance between samples, from its replicas (replica,).

    A distance cannot be negative, so the noise of the sample lifts it, and a replica adds that noise a second time:
    percentiles of replicas can lie wholly above the value. Only their spread is used: the percentiles are moved so that
    the mean of the replicas equals the value, and clipped at 0. The interval measures the variation of the value
    between test sets of this size; the lift itself stays in, as it does in the floor printed beside it.
    """
    if len(replicas) == 0:
        return None, None
    low, high = np.percentile(replicas, LEVELS) - replicas.mean() + value
    return max(float(low), 0.0), float(high)
