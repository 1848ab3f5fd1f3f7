"""Tests of accuracy with random points (TARP; Lemos et al. 2023, arXiv 2302.03026): expected coverage of posteriors.

Around a reference point r lies the ball that reaches to the truth, and the share f of an event's draws inside it. For
an exact posterior f is uniform whatever r is, as long as r does not depend on the event's truth; if that holds for
every r(y), the posterior is exact. The expected coverage probability at a level is the share of events with f below it;
the row is the largest gap between the two, max |ECP(level) - level|, with ties and the finite number of draws treated
as in `pullback.metrics.ranks`, whose floor it shares. It detects errors that no marginal shows: wrong correlations.

Two sets of references, because draws that ignore y pass the test with references that ignore y:

    ``tarp_gap``          uniform over the range of the truth, as in the paper; for arrays a truth of the same prior;
    ``tarp_gap.local``    the truth of the nearest observation in the family's reference split: far from most of the
                          prior, and independent of the evaluated events (without that split, among these).

Distances are Euclidean in units of the truth's standard deviation, for truths, draws and references alike (sbi before
0.26.1 left the references out of this, which hides bias), angles wrapped.
"""

from typing import NamedTuple

import numpy as np

from pullback.core import seeding
from pullback.ensembles.fields import Field
from pullback.metrics.ranks import ranks
from pullback.metrics.sample import Sample, Space, deviation

KINDS = ("tarp_gap", "tarp_gap.local")

MOST_Y = 8
"""Observations with more components are compared along so many random directions."""

NEIGHBOURS = 16
"""Nearest observations among which one of another group is looked for."""

LEVELS = 50
"""Levels at which a coverage curve is kept."""


class Others(NamedTuple):
    """Pairs that references are taken from: independent ones of the same prior, or else the judged events themselves.

    Attributes:
        x: (event, component). y: as `project_observations` gives them (event, axis).
        group: of each event, where they are the judged events themselves: no event is a reference of its own group.
    """

    x: np.ndarray
    y: np.ndarray
    group: np.ndarray | None


def uniform_references(
    truth: np.ndarray, space: Space, field: Field, others: Others, address: seeding.Address
) -> np.ndarray:
    """A reference for each event (event, component), independent of it.

    Args:
        truth: (event, component); only its range is used.
        space, field: of x.
        others: an array's references are truths of these.
        address: of the random numbers.
    """
    rng = seeding.generator(*address, "references")
    if field.is_vector:
        return space.low + rng.random(truth.shape) * (space.high - space.low)
    if others.group is None:
        return others.x[rng.integers(len(others.x), size=len(truth))]
    n = len(truth)
    for _ in range(NEIGHBOURS):
        other = (np.arange(n) + 1 + rng.integers(n - 1)) % n
        if (others.group != others.group[other]).all():
            break
    return truth[other]


def project_observations(y: np.ndarray, address: seeding.Address) -> np.ndarray:
    """Observations (event, component) on a few axes of comparable size, (event, axis)."""
    if y.shape[1] > MOST_Y:
        theta = seeding.generator(*address, "projections").standard_normal((y.shape[1], MOST_Y))
        y = y @ (theta / np.sqrt(y.shape[1])).astype(y.dtype)
    return y.astype(np.float64)


def local_references(y: np.ndarray, others: Others) -> np.ndarray:
    """The truth that belongs to the nearest observation among others, (event, component).

    Given the observations, independent pairs leave events independent. Events that are each other's neighbours share a
    distance, which makes the gap of an exact posterior scatter a little more than its floor says.

    Args:
        y: observations as `project_observations` gives them (event, axis).
        others: where it is looked for.
    """
    from scipy.spatial import cKDTree

    scale = deviation(y)
    count = min(NEIGHBOURS, len(others.y)) if others.group is not None else 1
    near = cKDTree(others.y / scale).query(y / scale, k=count)[1].reshape(len(y), count)
    if others.group is None:
        return others.x[near[:, 0]]
    foreign = others.group[near] != others.group[:, None]
    return others.x[near[np.arange(len(y)), np.where(foreign.any(axis=1), foreign.argmax(axis=1), count - 1)]]


def coverage(sample: Sample, reference: np.ndarray, scale: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """The credibility u of the ball that reaches the truth, (event,), in [0, 1]; uniform for an exact posterior.

    Args:
        sample: draws with their truth.
        reference: (event, component).
        scale: what components are divided by (component,).
        uniform: numbers in [0, 1), (event,), that break ties.
    """
    truth, space = sample.known
    return ranks(
        _distance(sample.x, reference[:, None], space, scale),
        _distance(truth, reference, space, scale),
        sample.weight,
        uniform,
    )


def _distance(x: np.ndarray, reference: np.ndarray, space: Space, scale: np.ndarray) -> np.ndarray:
    gap = space.difference(x.astype(np.float64), reference.astype(np.float64)) / scale
    return np.sqrt(np.einsum("...f,...f->...", gap, gap))


def curve(u: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Expected coverage at equally spaced levels from 0 to 1, both included: (level,)."""
    counts = np.histogram(u, LEVELS, (0, 1), weights=weight)[0]
    return np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
