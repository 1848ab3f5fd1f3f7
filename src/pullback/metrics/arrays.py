"""Metrics on plain arrays: the functions that a study's evaluation uses, without files.

Shapes, throughout: draws (event, draw, *x) of each event's posterior, truth (event, *x); of a scalar x (event, draw)
and (event,). Draws that are not finite have failed: they count as the corner of the truth's range that is farthest from
their event's truth. Weights are those of draws (event, draw), not negative, of any sum. ``periodic`` lists the
components (of x made flat) that are angles, in radians. Wrong shapes raise ValueError.

    import numpy as np
    from pullback.metrics import energy_score, ks_distance, tarp

    rng = np.random.default_rng(0)
    mean = rng.normal(size=(500, 2))
    truth = mean + rng.normal(size=(500, 2))
    draws = mean[:, None] + rng.normal(size=(500, 64, 2))
    energy_score(draws, truth).mean()     # 0.89 = sqrt(pi) / 2 on average for two standard normal components
    ks_distance(tarp(draws, truth))       # 0.04 on average for an exact posterior and 500 events
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pullback.core import seeding
from pullback.core.angles import circular_mean, wrap
from pullback.metrics import classifier, distances, expected_coverage
from pullback.metrics.energy import energy_scores
from pullback.metrics.errors import root_of_ratio, spread_and_skill
from pullback.metrics.ranks import distance_from_uniform, ranks, tie_breakers
from pullback.metrics.sample import Sample, deviation


def _matrix(values: ArrayLike, name: str) -> np.ndarray:
    """(event, *x) as (event, component)."""
    array = np.asarray(values)
    if array.ndim < 1 or not len(array):
        raise ValueError(f"{name} has shape {array.shape}, wanted (event, *x) with at least one event")
    return array.reshape(len(array), -1)


def _many(sample: Sample) -> Sample:
    if sample.x.shape[1] < 2:
        raise ValueError("found one draw of each event, wanted at least two: the score needs their spread")
    return sample


def energy_score(
    draws: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None, periodic: Sequence[int] = ()
) -> np.ndarray:
    """Energy score of each event, E|X - x| - E|X - X'|/2, in the unit of x: (event,). Lower is better.

    The second mean is over pairs of different draws, so that the score is unbiased for any number of them.
    Source: Gneiting and Raftery 2007, eq. 22.
    """
    return energy_scores(_many(Sample.of_arrays(draws, truth, weights, periodic)))


def crps(
    draws: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None, periodic: Sequence[int] = ()
) -> np.ndarray:
    """Continuous ranked probability score of each component, in its unit: shape of ``truth``. Lower is better.

    Source: Gneiting and Raftery 2007, eq. 21; unbiased for a finite number of draws (Ferro 2014).
    """
    sample = _many(Sample.of_arrays(draws, truth, weights, periodic))
    return sample.ordered.crps().reshape(np.shape(truth))


def coverage(
    draws: ArrayLike,
    truth: ArrayLike,
    percent: float = 90,
    weights: ArrayLike | None = None,
    periodic: Sequence[int] = (),
) -> np.ndarray:
    """Whether the central interval of draws holds the truth, from 0 to 1: shape of ``truth``.

    The mean is ``percent`` / 100 for exact posteriors, whatever the number of draws: where the truth's rank falls on
    the border of the interval, a share of it is inside.
    """
    if not 0 < percent < 100:
        raise ValueError(f"percent is {percent}, wanted a number between 0 and 100")
    sample = Sample.of_arrays(draws, truth, weights, periodic)
    return sample.ordered.coverage(percent).reshape(np.shape(truth))


def spread_skill(
    draws: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None, periodic: Sequence[int] = ()
) -> float:
    """Root of the mean predicted over the mean actual squared error of the mean of the draws; 1 when calibrated.

    Below 1 draws are over-confident. The predicted error is the draws' variance times 1 + 1 / draws. Components are
    added as they are: give them one unit.
    """
    columns = spread_and_skill(_many(Sample.of_arrays(draws, truth, weights, periodic)))
    return float(root_of_ratio(columns.mean(axis=0)))


def sbc_ranks(draws: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None, seed: int = 0) -> np.ndarray:
    """Randomised rank of the truth among its draws in [0, 1], of each component: shape of ``truth``.

    Uniform for exact posteriors whatever the number of draws: (less + U (1 + equal)) / (draws + 1) with U uniform,
    drawn from ``seed``. Of weighted draws as many as are effective are chosen. `ks_distance` summarises them. Rank any
    quantity f(x, y) by giving its values. Source: Talts et al. 2018, arXiv 1804.06788.
    """
    sample = Sample.of_arrays(draws, truth, weights)
    at, _ = sample.known
    ties = tie_breakers((seed,), *at.shape)
    found = [ranks(sample.x[..., j], at[:, j], sample.weight, ties[:, j]) for j in range(at.shape[1])]
    return np.stack(found, axis=1).reshape(np.shape(truth))


def tarp(
    draws: ArrayLike,
    truth: ArrayLike,
    references: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    periodic: Sequence[int] = (),
    seed: int = 0,
) -> np.ndarray:
    """Credibility of the ball about a reference point that reaches to the truth, in [0, 1]: (event,).

    Uniform for exact posteriors, whatever the references are as long as they do not depend on the truth of their event;
    `ks_distance` is the largest gap of expected coverage. Distances are Euclidean in standard deviations of the truth.

    Args:
        references: (event, *x); uniform over the range of the truth, from ``seed``, when not given.

    Source: Lemos et al. 2023, arXiv 2302.03026.
    """
    sample = Sample.of_arrays(draws, truth, weights, periodic)
    at, space = sample.known
    if references is None:
        around = space.low + seeding.generator(seed, "references").random(at.shape) * (space.high - space.low)
    else:
        around = _matrix(references, "references")
        if around.shape != at.shape:
            raise ValueError(f"references have shape {np.shape(references)}, wanted that of truth {np.shape(truth)}")
    return expected_coverage.coverage(sample, around, deviation(at), tie_breakers((seed,), len(at), 1)[:, 0])


def ks_distance(u: ArrayLike, weights: ArrayLike | None = None) -> float:
    """max |F(u) - u|, the Kolmogorov-Smirnov distance of numbers (event,) in [0, 1] from the uniform distribution.

    n uniform numbers are sqrt(pi / 2) ln 2 / sqrt(n) = 0.87 / sqrt(n) apart on average.

    Args:
        weights: of events (event,), or None.
    """
    return distance_from_uniform(np.asarray(u, np.float64).ravel(), _weight(weights))


def _weight(weights: ArrayLike | None) -> np.ndarray | None:
    if weights is None:
        return None
    array = np.asarray(weights, np.float64)
    if array.ndim != 1 or not (array >= 0).all() or not array.any():
        raise ValueError("weights of events are one number for each, none negative and not all zero")
    return array


def wasserstein_1d(
    a: ArrayLike,
    b: ArrayLike,
    p: int = 1,
    a_weights: ArrayLike | None = None,
    b_weights: ArrayLike | None = None,
    periodic: bool = False,
) -> float:
    """Wasserstein-p distance between two samples of numbers (event,), in their unit.

    Args:
        a, b: samples; their numbers of events may differ.
        p: 1 or 2; 1 for angles.
        a_weights, b_weights: of events (event,), not negative; None for equal ones.
        periodic: the numbers are angles in radians, and distances those along the circle.

    Source: for numbers the optimal plan pairs quantiles (Villani 2003, theorem 2.18).
    """
    if p not in (1, 2):
        raise ValueError(f"p is {p}, wanted 1 or 2")
    u, v = _matrix(a, "a"), _matrix(b, "b")
    if u.shape[1] != 1 or v.shape[1] != 1:
        raise ValueError(f"found samples of shapes {np.shape(a)} and {np.shape(b)}, wanted numbers (event,)")
    if periodic:
        if p != 1:
            raise ValueError(f"p is {p}, wanted 1 for angles")
        ours, theirs = (
            np.ones((1, len(values))) if (given := _weight(weights)) is None else given[None]
            for values, weights in ((u, a_weights), (v, b_weights))
        )
        return float(distances.circular_wasserstein(u[:, 0], v[:, 0], ours, theirs)[0])
    powers = distances.wasserstein_powers(
        u.T.astype(np.float64), v.T.astype(np.float64), p, _weight(a_weights), _weight(b_weights)
    )
    return float(powers[0] ** (1 / p))


def sliced_wasserstein(
    a: ArrayLike,
    b: ArrayLike,
    directions: int = 50,
    seed: int = 0,
    a_weights: ArrayLike | None = None,
    b_weights: ArrayLike | None = None,
    periodic: Sequence[int] = (),
) -> float:
    """Sliced Wasserstein distance of two samples (event, *x): root of the mean of W_2^2 over random directions.

    Args:
        a, b: samples of the same x; their numbers of events may differ. Give components one unit, or scale them.
        directions: how many.
        seed: of the directions.
        a_weights, b_weights: of events (event,), not negative; None for equal ones.
        periodic: components that are angles in radians; they are cut opposite to the circular mean of ``b``.

    Source: Bonneel et al. 2015; ``ot.sliced_wasserstein_distance`` of POT.
    """
    u, v = _matrix(a, "a"), _matrix(b, "b")
    if u.shape[1] != v.shape[1]:
        raise ValueError(f"found samples of shapes {np.shape(a)} and {np.shape(b)}: their events differ in size")
    for j in periodic:
        zero = circular_mean(v[:, j])
        u, v = (np.column_stack([s[:, :j], wrap(s[:, j] - zero), s[:, j + 1 :]]) for s in (u, v))
    theta = distances.directions((seed,), u.shape[1], directions)
    return distances.sliced_wasserstein(u, v, theta, _weight(a_weights), _weight(b_weights))


def c2st(a: ArrayLike, b: ArrayLike, y: ArrayLike | None = None, seed: int = 0) -> float:
    """Accuracy of a classifier that tells two samples apart on rows it did not see: 0.5 where it cannot, 1 at most.

    Args:
        a, b: samples (event, *x) with as many events.
        y: observations (event, *y) that a and b belong to, for a joint test of two posteriors.
        seed: of folds and of the classifier's start.

    Source: Lopez-Paz and Oquab 2017; the classifier of sbibm (Lueckmann et al. 2021, arXiv 2101.04653).
    """
    u, v = (_matrix(values, name).astype(np.float64) for values, name in ((a, "a"), (b, "b")))
    if u.shape != v.shape:
        raise ValueError(f"found samples of shapes {np.shape(a)} and {np.shape(b)}, wanted the same shape")
    given = np.zeros((len(u), 0)) if y is None else _matrix(y, "y").astype(np.float64)
    if len(given) != len(u):
        raise ValueError(f"found {len(given)} observations for {len(u)} events")
    return float(classifier.correct(given, u, v, (seed,)).mean())
