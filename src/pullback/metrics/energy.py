"""The energy score of draws, the multivariate CRPS (Gneiting and Raftery 2007, eq. 22).

    ES = E|X - x| - E|X - X'| / 2

for a truth x and independent draws X, X', in the Euclidean norm on the common scale of `pullback.metrics.sample.Space`.
It is a proper scoring rule: the exact posterior minimises its expectation, so the excess of a method is a distance
between posteriors, not between marginals.

The second mean is that of different draws (`pullback.metrics.pairs`). In one dimension the score is the CRPS. Angles
enter by their arc. Draws with an effective number below 2 have no known spread: their score is E|X - x|.
"""

import numpy as np

from pullback.metrics.metric import Metric, Scores
from pullback.metrics.pairs import pair_distance
from pullback.metrics.sample import Sample, Space


def energy_scores(sample: Sample) -> np.ndarray:
    """Energy score of each event of a sample with at least two draws, (event,), in the unit of its space.

    Each failed draw's share of the score is the distance from the truth to the farthest corner of the range, as in the
    CRPS.
    """
    truth, space = sample.known
    error = np.einsum("ed,ed->e", sample.vote, _norm(space.difference(sample.x, truth[:, None]), space))
    spread = pair_distance(sample.x, sample.vote, space.scale, space.periodic)
    success = sample.ok.mean(axis=1)
    worst = _norm(space.difference(space.farthest(truth), truth), space)
    return success * (error - 0.5 * spread) + (1 - success) * worst


def _rows(sample: Sample) -> Scores:
    if sample.point_estimate or sample.x.shape[1] < 2:
        return {}
    return {"energy_score": (energy_scores(sample), sample.known[1].unit)}


ENERGY_SCORE = Metric(
    "energy_score",
    "Energy score",
    "distance of all draws of an event from its truth, components together",
    "lower",
    compute=_rows,
)
"""E|X - x| - E|X - X'|/2 for the truth x and draws X, X' (Gneiting and Raftery 2007, eq. 22); proper.

In units of the common scale: one unit, or standard deviations of the truth where units differ. Angles: arcs. Weights
of draws: in both means; of an effective number below 2 the second is left out. Failed draws: their share is the
distance to the farthest corner. Floor: none; compare with the exact posterior's (`energy_score_excess`).
"""


def _norm(difference: np.ndarray, space: Space) -> np.ndarray:
    return np.linalg.norm(difference.astype(np.float64) / space.scale, axis=-1)
