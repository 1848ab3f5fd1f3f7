"""Scores of posterior samples: point estimates, CRPS, coverage, spread. Vectorised over events and components."""

from typing import TYPE_CHECKING

import numpy as np

from pullback.core.angles import wrap
from pullback.core.particles import effective_copies
from pullback.metrics.metric import Metric, Scores

if TYPE_CHECKING:
    from pullback.metrics.sample import Sample

LEAST_DRAWS_POINT = 32
"""Below this a mean or median of draws is not called a point estimate."""

LEAST_DRAWS_COVERAGE = 10
"""Below this a central 90 % interval has no draw outside it."""

COVERAGES = (50, 90)


class SortedDraws:
    """Draws of a sample sorted along the draw axis, angles about their circular mean."""

    def __init__(self, sample: "Sample"):
        self.sample, self.ok = sample, sample.ok
        self.draws = sample.x.shape[1]
        _, space = sample.known
        x = sample.x
        self.centre = np.zeros((len(x), x.shape[2]), x.dtype)
        self.periodic = space.periodic
        if space.periodic.any():
            angles = x[..., space.periodic].astype(np.float64)
            vote = np.full(x.shape[:2], 1.0) if sample.weight is None else sample.weight
            self.centre[:, space.periodic] = np.arctan2(
                np.einsum("ed,edf->ef", vote, np.sin(angles)), np.einsum("ed,edf->ef", vote, np.cos(angles))
            )
            x = space.canonical(x - self.centre[:, None])
        self.equal = sample.weight is None and bool(sample.ok.all())
        self._unsorted = x
        self.weight = self.vote = np.empty(0)
        if self.equal:
            self.x = np.sort(x, axis=1)
        else:
            order = np.argsort(x, axis=1, kind="stable")
            self.x = np.take_along_axis(x, order, axis=1)
            self.weight, self.vote = (
                np.take_along_axis(np.broadcast_to(each[..., None], x.shape), order, axis=1)
                for each in (sample.draw_weight, sample.vote)
            )

    def mean(self) -> np.ndarray:
        """Mean over draws, failures as imputed, (event, component); of an angle the circular mean."""
        if self.equal:
            mean = self._unsorted.mean(axis=1, dtype=np.float64)
        else:
            mean = (self.weight * self.x).sum(axis=1)
        return np.where(self.periodic, self.centre, mean + self.centre)

    def median(self) -> np.ndarray:
        """Median over draws, failures as imputed, (event, component): halfway from lower to upper weighted median."""
        if self.equal:
            lower, upper = self.x[:, (self.draws - 1) // 2], self.x[:, self.draws // 2]
        else:
            below = np.cumsum(self.weight, axis=1)
            # Sums of weights are rounded: half is reached within 1e-9.
            low = (below < 0.5 - 1e-9).sum(axis=1, keepdims=True)
            high = (below <= 0.5 + 1e-9).sum(axis=1, keepdims=True)
            lower, upper = (
                np.take_along_axis(self.x, np.minimum(index, self.draws - 1), axis=1)[:, 0] for index in (low, high)
            )
        return 0.5 * (lower.astype(np.float64) + upper) + self.centre

    def variance(self) -> np.ndarray:
        """Unbiased variance over successful draws, (event, component); 0 where there is one draw."""
        if self.equal:
            return self._unsorted.var(axis=1, ddof=min(1, self.draws - 1), dtype=np.float64)
        mean = (self.vote * self.x).sum(axis=1, keepdims=True)
        spread = (self.vote * (self.x - mean) ** 2).sum(axis=1)
        return spread / _bias(self.vote)

    def effective(self) -> np.ndarray:
        """Effective number of successful draws, 1 / sum w^2, (event, component) or one number for all."""
        if self.equal:
            return np.array(float(self.draws))
        squares = (self.vote**2).sum(axis=1)
        return 1 / np.where(squares > 0, squares, 1.0)

    def crps(self) -> np.ndarray:
        """Continuous ranked probability score, (event, component), in the unit of x.

        E|X - x| - E|X - X'|/2 with the second mean unbiased for a finite number of draws (Ferro 2014). Each failed
        draw's share of the score is the distance from the truth to the farthest corner of the range.
        """
        truth, space = self.sample.known
        at = self._about_centre(truth)
        if self.equal:
            m = self.draws
            rank = (2.0 * np.arange(1, m + 1) - m - 1).astype(self.x.dtype)
            score = np.abs(self.x - at[:, None]).mean(axis=1, dtype=np.float64)
            if m > 1:
                score -= np.einsum("edf,d->ef", self.x, rank, dtype=np.float64) / (m * (m - 1))
            return score
        below = np.cumsum(self.vote, axis=1)
        error = (self.vote * np.abs(self.x - at[:, None])).sum(axis=1)
        spread = (self.vote * self.x * (2 * below - self.vote - self.vote.sum(axis=1, keepdims=True))).sum(axis=1)
        success = self.ok.mean(axis=1, keepdims=True)
        worst = np.abs(self._about_centre(space.farthest(truth)) - at)
        worst = np.where(self.periodic, np.pi, worst)
        return success * (error - spread / _bias(self.vote)) + (1 - success) * worst

    def coverage(self, percent: float) -> np.ndarray:
        """Whether the central interval of ``percent`` holds the truth, (event, component), numbers from 0 to 1.

        The truth's rank among m exact draws (of unequal weights those of `effective_copies`) is uniform on 0..m, so
        (rank + U)/(m + 1) is uniform on [0, 1]; this is the share of its U's that fall in the interval: its mean is
        ``percent`` for an exact sampler whatever m. Ties share. A failed draw's share of its event is a miss.

        Args:
            percent: of the central interval.
        """
        at = self._about_centre(self.sample.known[0])[:, None]
        if self.equal:
            m = np.array([[float(self.draws)]])
            less = (self.x < at).sum(axis=1)
            most = (self.x <= at).sum(axis=1)
        else:
            chosen = effective_copies(self.sample.vote)
            m = chosen.sum(axis=1, keepdims=True)
            less = np.einsum("ed,edf->ef", chosen, self._unsorted < at)
            most = np.einsum("ed,edf->ef", chosen, self._unsorted <= at)
        low, high = (0.5 - percent / 200) * (m + 1), (0.5 + percent / 200) * (m + 1)
        inside = np.clip(np.minimum(most + 1, high) - np.maximum(less, low), 0, None) / (most + 1 - less)
        return inside * self.ok.mean(axis=1, keepdims=True)

    def _about_centre(self, values: np.ndarray) -> np.ndarray:
        values = values - self.centre
        return np.where(self.periodic, wrap(values), values)


def _bias(vote: np.ndarray) -> np.ndarray:
    """1 - sum over draws (axis 1) of squared weights, which makes a spread unbiased; 1 where one draw has all."""
    factor = 1 - (vote**2).sum(axis=1)
    return np.where(factor > 1e-12, factor, 1.0)


def _crps_rows(sample: "Sample") -> Scores:
    """``crps``, the mean over components on the common scale, and that of each named one in its own unit."""
    if sample.point_estimate or sample.ordered.draws < 2:
        return {}
    score, space = sample.ordered.crps(), sample.known[1]
    out = {"crps": ((score / space.scale).mean(axis=1), space.unit)}
    return out | {f"crps.{name}": (score[:, j], space.units[j]) for j, name in enumerate(space.listed)}


def _coverage_rows(sample: "Sample") -> Scores:
    if sample.point_estimate or sample.ordered.draws < LEAST_DRAWS_COVERAGE:
        return {}
    return {f"coverage{percent}": (sample.ordered.coverage(percent).mean(axis=1), "1") for percent in COVERAGES}


CRPS = Metric(
    "crps",
    "CRPS",
    "distance of all draws of an event from its truth; rewards calibration and sharpness",
    "lower",
    compute=_crps_rows,
)
COVERAGE = Metric(
    "coverage",
    "Coverage of central intervals",
    "share of truths inside; right when it equals the stated one",
    "target",
    counts="%",
    compute=_coverage_rows,
)
