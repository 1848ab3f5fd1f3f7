"""Scores of posterior samples: point estimates, CRPS, coverage, spread. Vectorised over events and components."""

from typing import TYPE_CHECKING

import numpy as np

from pullback.core.angles import wrap
from pullback.core.particles import effective_copies, effective_size
from pullback.metrics.metric import Metric, Scores
from pullback.metrics.pairs import has_spread, pair_distance

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
        """Unbiased variance over successful draws, (event, component); 0 where no spread is known (`pairs`).

        Of an angle it is taken about the circular mean of the other draws: so a draw lies as far from it as the truth
        of an exact posterior does, however wide.
        """
        if self.equal:
            found = self._unsorted.var(axis=1, ddof=min(1, self.draws - 1), dtype=np.float64)
        else:
            mean = (self.vote * self.x).sum(axis=1, keepdims=True)
            found = (self.vote * (self.x - mean) ** 2).sum(axis=1) * self._per_pair()
        if self.periodic.any():
            found[:, self.periodic] = self._variance_of_angles()
        return found

    def _variance_of_angles(self) -> np.ndarray:
        vote = self.sample.vote[..., None]
        angles = self.sample.x[..., self.periodic].astype(np.float64)
        turn = vote * np.exp(1j * angles)
        apart = wrap(angles - np.angle(turn.sum(axis=1, keepdims=True) - turn))
        several = has_spread(self.sample.vote)[:, None] * (1 - 1 / effective_size(self.sample.vote))[:, None]
        return several * (vote * apart**2).sum(axis=1)

    def _per_pair(self) -> np.ndarray:
        """1 / (1 - sum of squared weights), which makes a spread unbiased; 0 where none is known, (event, 1)."""
        vote = self.sample.vote
        known = has_spread(vote)
        return (known / np.where(known, 1 - (vote**2).sum(axis=1), 1.0))[:, None]

    def effective(self) -> np.ndarray:
        """Effective number of successful draws, 1 / sum w^2, (event, component) or one number for all."""
        if self.equal:
            return np.array(float(self.draws))
        squares = (self.vote**2).sum(axis=1)
        return 1 / np.where(squares > 0, squares, 1.0)

    def crps(self) -> np.ndarray:
        """Continuous ranked probability score, (event, component), in the unit of x.

        E|X - x| - E|X - X'|/2 with the second mean unbiased for a finite number of draws (Ferro 2014), and without it
        where the effective number of draws is below 2. Of an angle distances are those along the arc (Grimit et al.
        2006), so that the score is proper. Each failed draw's share of the score is the distance from the truth to the
        farthest corner of the range.
        """
        truth = self.sample.known[0]
        score = self._crps_of_line(truth)
        if not self.periodic.any():
            return score
        vote, success = self.sample.vote, self.ok.mean(axis=1)
        for j in np.flatnonzero(self.periodic):
            x = self.sample.x[..., [j]]
            error = (vote * np.abs(wrap(x[..., 0].astype(np.float64) - truth[:, [j]]))).sum(axis=1)
            spread = pair_distance(x, vote, np.ones(1), np.ones(1, bool))
            score[:, j] = success * (error - 0.5 * spread) + (1 - success) * np.pi
        return score

    def _crps_of_line(self, truth: np.ndarray) -> np.ndarray:
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
        worst = np.abs(self.sample.known[1].farthest(truth) - truth)
        return success * (error - spread * self._per_pair()) + (1 - success) * worst

    def coverage(self, percent: float) -> np.ndarray:
        """Whether the central interval of ``percent`` holds the truth, (event, component), numbers from 0 to 1.

        The truth's rank among m exact draws (of unequal weights those of `effective_copies`) is uniform on 0..m, so
        (rank + U)/(m + 1) is uniform on [0, 1]; this is the share of its U's that fall in the interval: its mean is
        ``percent`` for an exact sampler whatever m. Ties share. A failed draw's share of its event is a miss. Angles
        are ordered about the circular mean of draws and truth together, which keeps the truth one among the draws.

        Args:
            percent: of the central interval.
        """
        x, at = self._about_common_centre()
        if self.equal:
            m = np.array([[float(self.draws)]])
            less, most = (x < at).sum(axis=1), (x <= at).sum(axis=1)
        else:
            chosen = effective_copies(self.sample.vote)
            m = chosen.sum(axis=1, keepdims=True)
            less, most = (np.einsum("ed,edf->ef", chosen, below) for below in (x < at, x <= at))
        low, high = (0.5 - percent / 200) * (m + 1), (0.5 + percent / 200) * (m + 1)
        inside = np.clip(np.minimum(most + 1, high) - np.maximum(less, low), 0, None) / (most + 1 - less)
        return inside * self.ok.mean(axis=1, keepdims=True)

    def _about_common_centre(self) -> tuple[np.ndarray, np.ndarray]:
        """Draws (event, draw, component) and truth (event, 1, component), angles about a centre that is of both."""
        sample, (truth, space) = self.sample, self.sample.known
        if not self.periodic.any():
            return sample.x, truth[:, None]
        turns = (effective_copies(sample.vote)[..., None] * np.exp(1j * sample.x[..., self.periodic])).sum(
            axis=1
        ) + np.exp(1j * truth[:, self.periodic])
        centre = np.zeros(truth.shape)
        centre[:, self.periodic] = np.angle(turns)
        return space.canonical(sample.x, centre[:, None]), space.canonical(truth, centre)[:, None]

    def _about_centre(self, values: np.ndarray) -> np.ndarray:
        values = values - self.centre
        return np.where(self.periodic, wrap(values), values)


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
"""E|X - x| - E|X - X'|/2 of each component (Gneiting and Raftery 2007, eq. 21; unbiased for few draws, Ferro 2014).

Angles: arcs (Grimit et al. 2006), so that the score is proper on the circle. Weights of draws and failed draws: as for
the energy score, which it is in one dimension. Floor: none; compare with the exact posterior's (`crps_excess`).
"""
COVERAGE = Metric(
    "coverage",
    "Coverage of central intervals",
    "share of truths inside; right when it equals the stated one",
    "target",
    counts="%",
    compute=_coverage_rows,
)
"""Share of truths inside the central interval of the draws; the percentage itself for exact draws, however many.

The truth's rank among m draws is uniform on 0..m; ties and the border share. Angles: about the circular mean of draws
and truth together. Weights of draws: as many as are effective. Failed draws: a miss. Floor: none.
"""
