"""Simulation-based calibration: ranks of the truth among the draws, and their distance from uniform.

The truth of an event and the draws of its exact posterior are exchangeable: for any function f of x (and y) the rank of
f(truth) among f(draws) is uniform (Cook, Gelman and Rubin 2006; Talts et al. 2018, arXiv 1804.06788). With ``less``
draws below the truth, ``equal`` to it, and m in all, U ~ Uniform(0, 1) drawn by address,

    u = (less + U (1 + equal)) / (m + 1)

is uniform on [0, 1] whatever m is, so that methods with different numbers of draws are compared with one floor. The
summary is a distance and not a p-value: the largest distance between the distribution of u and the uniform one,

    D = max_u |F_n(u) - u|,

with its bootstrap interval by group. Its floor is what n exact events give on average, E[sqrt(n) D] = sqrt(pi/2) ln 2
(Kolmogorov's law); 95 % of exact samplers lie below 1.56 floors. A p-value would mainly measure n, because every
approximate method has some defect.

Events of unequal weight, and events of a group, count as fewer: n is their effective number, that of weights times the
variance of F_n(u) that independent events would have over the one that groups have. Of 95 to 98 % of exact samplers
D then lies below 1.56 floors, with five groups of 91 to 93 %; there is no floor with fewer.

Weighted draws are ranked after resampling: as many draws as are effective, chosen by their weights, are an equal sample
of the posterior. Shares of weight instead of counts would make an exact importance sampler look too wide, because many
light draws resolve the tails better than so few equal ones.

Ranks of components alone have blind spots. Draws of the prior that ignore y are calibrated, component by component; of
functions of x and y, the log-likelihood sees that (Modrak et al. 2023, arXiv 2211.02383), as do distances to references
that follow y (`pullback.metrics.expected_coverage`).
"""

import numpy as np

from pullback.core import seeding
from pullback.core.angles import circular_mean
from pullback.core.particles import effective_copies, effective_size
from pullback.ensembles.fields import Field
from pullback.metrics.bootstrap import LEAST_GROUPS, Replicas, distance_interval
from pullback.metrics.metric import Measured
from pullback.metrics.sample import Sample
from pullback.problems.base import Problem

EXPECTED = float(np.sqrt(np.pi / 2) * np.log(2))
"""E[sqrt(n) D] of n uniform numbers."""

LEAST_DRAWS = 10
LEAST_EVENTS = 20
"""With fewer there are no ranks to speak of."""

MOST_COMPONENTS = 16
"""Vectors with more components, and arrays, are ranked by summaries."""

BINS = 20
"""Bins of a rank histogram, and 5 times as many levels of a bootstrap replica's distance."""


def ranks(draws: np.ndarray, truth: np.ndarray, weight: np.ndarray | None, uniform: np.ndarray) -> np.ndarray:
    """The randomised rank u of each truth among its draws, (event,), in [0, 1].

    Of weighted draws some are chosen (`effective_copies`); the rank is then uniform in the limit of many.

    Args:
        draws: (event, draw). truth: (event,).
        weight: (event, draw) with sum 1, or None.
        uniform: numbers in [0, 1), (event,), that break ties.
    """
    below, same = draws < truth[:, None], draws == truth[:, None]
    if weight is None:
        number = np.full(len(draws), draws.shape[1])
        less, equal = below.sum(axis=1), same.sum(axis=1)
    else:
        chosen = effective_copies(weight)
        number, less, equal = (np.vecdot(chosen, each) for each in (np.ones_like(chosen), below, same))
    return (less + uniform * (1 + equal)) / (number + 1)


def quantity_names(field: Field, problem: Problem | None) -> list[str]:
    """What is ranked: each component of a short vector; mean and spread over an array; log p(y|x) where it is known."""
    short = field.is_vector and len(field.features) <= MOST_COMPONENTS
    names = list(field.features) if short else ["mean", "spread"]
    return [*names, "log_likelihood"] if problem is not None and hasattr(problem, "log_likelihood") else names


def quantities(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """What is ranked, of draws (quantity, event, draw) and of the truth (quantity, event).

    Angles are taken about the circular mean of an event's draws and truth together: truth and draws stay exchangeable.
    A failed draw is imputed as the corner of the truth's range that is farthest from its event's truth.
    """
    truth, space = sample.known
    field, problem = sample.field, sample.problem
    assert field is not None
    both = np.concatenate([truth[:, None], sample.x], axis=1, dtype=np.float64)
    if field.is_vector and len(field.features) <= MOST_COMPONENTS:
        turned = np.array(both)
        if space.periodic.any():
            turned[..., space.periodic] -= circular_mean(both[..., space.periodic], axis=1)[:, None]
        found = list(np.moveaxis(space.canonical(turned), 2, 0))
    else:
        standard = space.standard(both)
        found = [standard.mean(axis=2), standard.std(axis=2)]
    if problem is not None and hasattr(problem, "log_likelihood"):
        assert sample.y is not None
        x = both.reshape(*both.shape[:2], *field.shape)
        with np.errstate(all="ignore"):
            value = problem.log_likelihood(sample.y[:, None], x)
        found.append(np.where(np.isnan(value), -np.inf, value))
    stacked = np.stack(found)
    return stacked[:, :, 1:], stacked[:, :, 0]


def tie_breakers(address: seeding.Address, events: int, count: int) -> np.ndarray:
    """Numbers in [0, 1), (event, quantity): the same for every method, and for the first events of a longer file."""
    return seeding.generator(*address, "ranks").random((events, count))


def distance_from_uniform(u: np.ndarray, weight: np.ndarray | None = None) -> float:
    """max |F(u) - u| over u, the Kolmogorov-Smirnov distance of u (event,) from the uniform distribution on [0, 1]."""
    order = np.argsort(u)
    each = np.full(len(u), 1.0) if weight is None else weight[order]
    level = np.cumsum(each) / each.sum()
    above = np.abs(level - u[order]).max()
    below = np.abs(level - each / each.sum() - u[order]).max()
    return float(max(above, below))


def effective(hits: np.ndarray, replicas: Replicas) -> float | None:
    """Effective number of events where shares of events are concerned; None with few groups.

    Kish's number for the weights, times the variance of those shares with independent events over that with groups.

    Args:
        hits: whose shares, (event, share) of 0 and 1.
        replicas: bootstrap over these events: groups and weights.
    """
    if replicas.effective_groups < LEAST_GROUPS:
        return None
    n, groups = replicas.n, replicas.groups
    weight = np.full(n, 1.0) if replicas.weight is None else replicas.weight
    number = float(effective_size(weight))
    if groups == n:
        return number
    away = hits - weight @ hits / weight.sum()
    alone = n / (n - 1) * np.square(weight[:, None] * away).sum()
    together = groups / (groups - 1) * np.square(replicas.group_sums(away)).sum()
    return number * float(alone / together) if together > 0 else number


def under(u: np.ndarray, levels: int) -> np.ndarray:
    """Which of equally spaced levels, the last one 1, u (event,) lies under: (event, level) of 0 and 1."""
    return (u[:, None] < np.append(np.arange(1, levels) / levels, np.inf)).astype(np.float64)


def inside(u: np.ndarray) -> np.ndarray:
    """Which bin of a rank histogram u (event,) lies in: (event, bin) of 0 and 1."""
    return np.diff(under(u, BINS), axis=1, prepend=0.0)


def uniformity(metric: str, u: np.ndarray, replicas: Replicas) -> Measured:
    """One row: the distance of u (event,) from uniform, with interval and floor."""
    value = distance_from_uniform(u, replicas.weight)
    levels = 5 * BINS
    below = under(u, levels)
    _, spread = replicas.mean(below)
    spread = np.abs(spread - np.arange(1, levels + 1) / levels).max(axis=1)
    number = effective(below, replicas)
    floor = None if number is None else EXPECTED / np.sqrt(number)
    return Measured(metric, value, *distance_interval(value, spread), floor, len(u), "1")


def histogram(u: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Share of events in each of the bins of [0, 1] (bin,), 1 / number of bins for an exact sampler."""
    counts = np.histogram(u, BINS, (0, 1), weights=weight)[0].astype(np.float64)
    return counts / counts.sum()
