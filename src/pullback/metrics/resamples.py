"""What a finite conditioning set adds to the covariance of bins of draws, from bootstrap resamples of the set.

Draws that are conditioned on a set Y of n observations depend on it through e(Y), which varies between data sets as the
contents of the bins do: with 1/n. Where the inference resamples the set (``bootstrap: B``), draw j is conditioned on
e(resample j modulo B). Let c_b be the contents that the draws of resample b give all events, and d_b those of all draws
when each event counts as often as resample b holds it. With the covariance A of contents under a fixed e, the whole is

    A + E + X + X^T,    E = cov_b(c_b),    X = cov_b(c_b, d_b).

Of the difference of draws and truths X is left out: under a right posterior draw and truth of an event have one
distribution given all observations, of which e is a function, so that X is zero.

The finite number of draws would add their own noise to E. Each half of the groups gives c_b on its own, and as draws of
different events are independent, the covariance between the halves has none of it. What is added is made non-negative,
in units of A's standard deviations; the noise of few resamples and few draws is left in, so that chi^2 errs to small
values: 0.96 +- 0.04 with 100 resamples of one draw each and ten bins, nearer to 1 with more draws of each.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from pullback.ensembles.posterior_store import PosteriorReader
from pullback.metrics.contents import Edges, cells, places

BLOCK_VALUES = 4_000_000
"""Numbers of a posterior that are in memory at once."""

LEAST_RESAMPLES = 10
"""From fewer no covariance is estimated."""

Features = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""x (sample, component) -> columns (sample,) by feature, angles as the edges have them."""


class Resampled(NamedTuple):
    """Contents of bins under each resample.

    Attributes:
        edges: of the bins.
        halves: c_b of either half of the groups, times 2 (half, resample, bin).
        direct: d_b (resample, bin).
    """

    edges: Edges
    halves: np.ndarray
    direct: np.ndarray

    @property
    def shares(self) -> "Resampled":
        """Contents over their sum in each feature."""
        halves, direct = self.halves.copy(), self.direct.copy()
        for bins in places(self.edges).values():
            for each in (halves[..., bins], direct[..., bins]):
                total = each.sum(axis=-1, keepdims=True)
                each /= np.where(total > 0, total, 1.0)
        return Resampled(self.edges, halves, direct)

    def added_to(self, base: np.ndarray | None, own: bool) -> np.ndarray | None:
        """A covariance of contents, or shares, under a fixed set, with what the finite set adds (bin, bin).

        Args:
            base: A; None where it is not known.
            own: whether it is that of the draws' own contents, to which X belongs; else of a difference from truths.
        """
        if base is None:
            return None
        one, other = self.halves - self.halves.mean(axis=1, keepdims=True)
        more = one.T @ other
        if own:
            # The symmetric part of 2 X is X + X^T; c_b is the mean of the halves.
            more += (one + other).T @ (self.direct - self.direct.mean(axis=0))
        more = (more + more.T) / (2 * (len(one) - 1))
        deviation = np.sqrt(np.maximum(np.diag(base), 0.0))
        scale = np.outer(deviation, deviation)
        values, vectors = np.linalg.eigh(more / np.where(scale > 0, scale, np.inf))
        found: np.ndarray = base + scale * ((vectors * np.maximum(values, 0.0)) @ vectors.T)
        return found


def resampled(
    posterior: PosteriorReader,
    edges: Edges,
    features: Features,
    weight: np.ndarray | None,
    group: np.ndarray,
    accepted: bool,
) -> Resampled | None:
    """Contents under each resample; None where the set was not resampled, or by fewer than `LEAST_RESAMPLES`.

    Args:
        posterior: its draws, from the first event on.
        edges: of the bins.
        features: columns of x.
        weight: of the events that are taken (event,), or None for ones.
        group: of each of them (event,).
        accepted: whether purity and efficiency count (`PosteriorReader.draw_weights`).
    """
    if "times" not in posterior.columns or not edges:
        return None
    of = posterior.read("times", 0, 0).shape[1]
    if of < LEAST_RESAMPLES:
        return None
    draws, bins = posterior.draws, sum(len(each) - 1 for each in edges.values())
    resample = np.arange(draws) % of
    share = draws / np.bincount(resample, minlength=of)[resample]
    half = np.unique(group, return_inverse=True)[1] % 2
    halves, direct = np.zeros(2 * of * bins), np.zeros((of, bins))
    step = max(1, BLOCK_VALUES // (draws * int(np.prod(posterior.x.shape))))
    for start in range(0, len(group), step):
        stop = min(start + step, len(group))
        own = None if weight is None else weight[start:stop]
        each = posterior.draw_weights(own, start, stop, accepted=accepted)
        x = posterior.read("x", start, stop)
        columns = features(x.reshape(each.size, -1))
        contents = np.zeros((stop - start) * bins)
        for name, at in places(edges).items():
            cell = cells(columns[name].astype(np.float64), edges[name])
            event, draw = np.divmod(np.flatnonzero(cell >= 0), draws)
            place, counts = cell[cell >= 0] + at.start, each[event, draw]
            contents += np.bincount(event * bins + place, counts, minlength=len(contents))
            row = half[start + event] * of + resample[draw]
            halves += np.bincount(row * bins + place, 2 * counts * share[draw], minlength=len(halves))
        direct += posterior.read("times", start, stop).T.astype(np.float64) @ contents.reshape(-1, bins)
    return Resampled(edges, halves.reshape(2, of, bins), direct)
