"""Wasserstein distances between samples: per feature (W1), sliced (SWD), and of pixel histograms.

In one dimension the optimal plan pairs quantiles, W_p^p = int_0^1 |F_u^-1(q) - F_v^-1(q)|^p dq; for two samples of one
size without weights that is the mean over sorted values. The sliced distance is that of Bonneel et al. 2015 as POT
defines it (``ot.sliced_wasserstein_distance``, which the tests compare with): root of the mean of W_2^2 over random
directions. Written here: importing POT alone takes longer than evaluating a small family.
"""

from collections.abc import Sequence

import numpy as np

from pullback.core import seeding

CHUNK_BYTES = 32 * 1024**2


def directions(address: seeding.Address, dimension: int, count: int) -> np.ndarray:
    """Directions uniform on the unit sphere, (direction, dimension) float64; the same address gives the same ones."""
    normals = seeding.generator(*address).standard_normal((count, dimension))
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def project(sample: np.ndarray, theta: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """A sample (event, dimension) seen along directions (direction, dimension): (direction, event) float32.

    The centre (dimension,) is subtracted before rounding to float32, for precision; distances do not depend on it.
    """
    return (theta.astype(np.float32) @ (sample - centre).astype(np.float32).T).astype(np.float32, copy=False)


def wasserstein_powers(
    u: np.ndarray,
    v: np.ndarray,
    p: int,
    u_weight: np.ndarray | None = None,
    v_weight: np.ndarray | None = None,
) -> np.ndarray:
    """W_p^p in one dimension, for many dimensions at once.

    Args:
        u, v: samples (direction, event); their numbers of events may differ.
        p: 1 or 2.
        u_weight, v_weight: non-negative weights (event,), or None for equal ones.

    Returns:
        (direction,) float64.
    """
    if u_weight is None and v_weight is None and u.shape == v.shape:
        difference = np.sort(u, axis=1)
        difference -= np.sort(v, axis=1)
        return _mean_power(difference, p)
    return np.array([_quantile_power(*row, u_weight, v_weight, p) for row in zip(u, v, strict=True)])


def _quantile_power(
    u: np.ndarray, v: np.ndarray, u_weight: np.ndarray | None, v_weight: np.ndarray | None, p: int
) -> float:
    """W_p^p of two weighted samples: the integral over all levels at which one of the quantile functions steps."""
    steps, sorted_values = [], []
    for values, weight in ((u, u_weight), (v, v_weight)):
        order = np.argsort(values)
        level = np.arange(1.0, len(values) + 1) if weight is None else np.cumsum(weight[order], dtype=np.float64)
        steps.append(level / level[-1])
        sorted_values.append(values[order].astype(np.float64))
    levels = np.sort(np.concatenate(steps), kind="stable")
    ours, theirs = (
        values[np.minimum(np.searchsorted(step, levels), len(values) - 1)]
        for values, step in zip(sorted_values, steps, strict=True)
    )
    return float(np.sum(np.diff(levels, prepend=0.0) * np.abs(ours - theirs) ** p))


def _mean_power(difference: np.ndarray, p: int) -> np.ndarray:
    """Mean of |difference|^p over the last axis, summed in double precision."""
    if p == 1:
        return np.abs(difference).mean(axis=-1, dtype=np.float64)
    return np.einsum("...i,...i->...", difference, difference, dtype=np.float64) / difference.shape[-1]


def sliced_wasserstein(
    u: np.ndarray,
    v: np.ndarray,
    theta: np.ndarray,
    u_weight: np.ndarray | None = None,
    v_weight: np.ndarray | None = None,
) -> float:
    """Sliced Wasserstein distance, sqrt(mean over directions of W_2^2), as ``ot.sliced_wasserstein_distance``.

    Args:
        u, v: samples (event, dimension).
        theta: unit directions (direction, dimension).
        u_weight, v_weight: non-negative weights (event,), or None.
    """
    centre = v.mean(axis=0, dtype=np.float64)
    rows = max(1, CHUNK_BYTES // (4 * max(len(u), len(v))))
    powers = [
        wasserstein_powers(project(u, block, centre), project(v, block, centre), 2, u_weight, v_weight)
        for block in np.split(theta, range(rows, len(theta), rows))
    ]
    return float(np.sqrt(np.concatenate(powers).mean()))


def influence(
    u: np.ndarray,
    v: np.ndarray,
    theta: np.ndarray,
    u_weight: np.ndarray | None = None,
    v_weight: np.ndarray | None = None,
    parts: Sequence[np.ndarray | None] = (None,),
) -> tuple[np.ndarray, np.ndarray]:
    """Influence of each event on the mean over directions of W_2^2: its derivative by the event's weight.

    That is the sum of the Kantorovich potentials, phi at u and psi at v, up to a constant (Sommerfeld and Munk 2018).
    In one dimension phi' = 2 (u - T(u)) with T the optimal plan.

    Args:
        u, v: samples (event, dimension); their numbers of events may differ.
        theta: unit directions (direction, dimension).
        u_weight, v_weight: non-negative weights (event,), or None.
        parts: masks of events (event,) of both samples that the potentials are of; None: of all.

    Returns:
        phi (part, event of u) and psi (part, event of v): of each part, at all events.
    """
    phi, psi = np.zeros((len(parts), len(u))), np.zeros((len(parts), len(v)))
    centre = v.mean(axis=0, dtype=np.float64)
    for direction in theta:
        ours, theirs = (project(sample, direction[None], centre)[0].astype(np.float64) for sample in (u, v))
        order, their_order = np.argsort(ours), np.argsort(theirs)
        ours, theirs = ours[order], theirs[their_order]
        weight, their_weight = (
            None if given is None else given[rank] for given, rank in ((u_weight, order), (v_weight, their_order))
        )
        for row, part in enumerate(parts):
            if part is None:
                phi[row, order] += _potential(ours, theirs, weight, their_weight)
                psi[row, their_order] += _potential(theirs, ours, their_weight, weight)
                continue
            here, there = np.flatnonzero(part[order]), np.flatnonzero(part[their_order])
            a, b = ours[here], theirs[there]
            a_weight, b_weight = (
                None if given is None else given[kept] for given, kept in ((weight, here), (their_weight, there))
            )
            phi[row, order] += _potential(a, b, a_weight, b_weight)[_last_before(here, len(ours))]
            psi[row, their_order] += _potential(b, a, b_weight, a_weight)[_last_before(there, len(theirs))]
    return phi / len(theta), psi / len(theta)


def _last_before(chosen: np.ndarray, n: int) -> np.ndarray:
    """For each of n places the number of the last chosen one at or before it, of the first one before all (n,)."""
    return np.repeat(np.arange(-1, len(chosen)), np.diff(chosen, prepend=0, append=n)).clip(0)


def _potential(u: np.ndarray, v: np.ndarray, u_weight: np.ndarray | None, v_weight: np.ndarray | None) -> np.ndarray:
    """The potential at the values u of two sorted samples, 0 at the first: the integral of 2 (u - T(u))."""
    if u_weight is None and v_weight is None and len(u) == len(v):
        between = v[:-1] + v[1:]
    else:
        level, their_level = (
            np.cumsum(np.ones(len(values)) if weight is None else weight)
            for values, weight in ((u, u_weight), (v, v_weight))
        )
        wanted = level[:-1] * (their_level[-1] / level[-1])
        # At a step of both the plan jumps: the middle of the two values, also where rounding moved the step.
        slack = 1e-12 * their_level[-1]
        between = sum(v[np.minimum(np.searchsorted(their_level, wanted + s), len(v) - 1)] for s in (-slack, slack))
    return np.concatenate([[0.0], np.cumsum(np.diff(u) * (u[1:] + u[:-1] - between))])


def circular_wasserstein(u: np.ndarray, v: np.ndarray, u_weight: np.ndarray, v_weight: np.ndarray) -> np.ndarray:
    """W_1 along the circle of two samples of angles, for many weights at once.

    The integral of |F_u - F_v - c| over the circle with the c that makes it least, the median of F_u - F_v: whichever
    place the circle is cut at (Delon, Salomon and Sobolevskii 2010; ``ot.wasserstein_circle``).

    Args:
        u, v: angles in radians, (event,) each.
        u_weight, v_weight: non-negative weights (replica, event) of each.

    Returns:
        (replica,) in radians.
    """
    angles = np.mod(np.concatenate([u, v]).astype(np.float64), 2 * np.pi)
    order = np.argsort(angles)
    angles = angles[order]
    arcs = np.diff(angles, append=angles[0] + 2 * np.pi)
    out = np.empty(len(u_weight))
    for row, (ours, theirs) in enumerate(zip(u_weight, v_weight, strict=True)):
        gap = np.cumsum(np.concatenate([ours / ours.sum(), -theirs / theirs.sum()])[order])
        by_gap = np.argsort(gap)
        half = int(np.searchsorted(np.cumsum(arcs[by_gap])[:-1], np.pi))
        out[row] = arcs @ np.abs(gap - gap[by_gap[half]])
    return out


def replicate_powers(
    u: np.ndarray, v: np.ndarray, p: int, resampled: Sequence[np.ndarray], weight: np.ndarray | None = None
) -> np.ndarray:
    """W_p^p of bootstrap replicas of paired samples: an event that is drawn again brings its u and its v.

    Args:
        u, v: (direction, event).
        p: 1 or 2.
        resampled: for each replica the events in it, with repeats.
        weight: event weights (event,), or None.

    Returns:
        (replica, direction).
    """
    out = np.empty((len(resampled), len(u)))
    if weight is not None:
        for replica, events in enumerate(resampled):
            drawn = weight[events]
            out[replica] = wasserstein_powers(u[:, events], v[:, events], p, drawn, drawn)
        return out
    # Single precision is enough for a spread, of numbers near one.
    largest = max(float(np.abs(u).max()), float(np.abs(v).max())) or 1.0
    u, v = (np.ascontiguousarray(each / largest, np.float32) for each in (u, v))
    for replica, events in enumerate(resampled):
        for j in range(len(u)):
            ours, theirs = u[j][events], v[j][events]
            ours.sort()
            theirs.sort()
            ours -= theirs
            out[replica, j] = (np.dot(ours, ours) if p == 2 else np.abs(ours, out=ours).sum()) / len(events)
    return out * largest**p


def value_histograms(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Histogram of each event's pixels: values (event, pixel) -> (event, bin + 2) float64.

    Bins are equal, ``edges`` (bin + 1,). What lies outside is counted in the end bins; the last two columns are the
    sums of its distances below the first edge and above the last.
    """
    bins = len(edges) - 1
    step = (edges[-1] - edges[0]) / bins
    index = np.clip((values - edges[0]) / step, 0, bins - 1).astype(np.int64)
    index += np.arange(len(values))[:, None] * bins
    counts = np.bincount(index.ravel(), minlength=len(values) * bins).reshape(len(values), bins)
    below, above = (
        np.maximum(each, 0).sum(axis=1, dtype=np.float64) for each in (edges[0] - values, values - edges[-1])
    )
    return np.column_stack([counts, below, above])


def histogram_distance(u: np.ndarray, v: np.ndarray, step: float) -> np.ndarray:
    """W1 between histograms on the same equal bins, (..., bin + 2) -> (...): sum of |F_u - F_v| times the bin width.

    Off from W1 of the values by at most one bin width, however far values of one sample lie outside the bins.
    """
    (ours, u_out), (theirs, v_out) = ((each[..., :-2], each[..., -2:]) for each in (u, v))
    u_total, v_total = ours.sum(axis=-1, keepdims=True), theirs.sum(axis=-1, keepdims=True)
    gap = np.cumsum(ours, axis=-1) / u_total - np.cumsum(theirs, axis=-1) / v_total
    outside = np.abs(u_out / u_total - v_out / v_total)
    distance: np.ndarray = np.abs(gap).sum(axis=-1) * step + outside.sum(axis=-1)
    return distance
