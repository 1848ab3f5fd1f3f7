"""Jets as truth and observation, and pairing them within a collision."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pullback.core.pairing import all_pairs, distance, pair_one_to_one
from pullback.ensembles.fields import Field

X_FIELD = Field.vector(
    "x",
    ("pt", "eta", "phi", "mass"),
    ("GeV", "1", "rad", "GeV"),
    transforms=("log", "relative", "periodic", "log1p"),
    low=(20.0, -4.5, -float(np.pi), 0.0),
    high=(np.inf, 4.5, float(np.pi), np.inf),
)
"""Truth jet. The bounds are those of the detector's formulas (`pullback.simulators.detector`)."""

Y_FIELD = Field.vector(
    "y",
    ("pt", "eta", "phi"),
    ("GeV", "1", "rad"),
    transforms=("log", "linear", "periodic"),
    low=(0.0, -np.inf, -float(np.pi)),
    high=(np.inf, np.inf, float(np.pi)),
)
"""Reconstructed jet, massless."""


@dataclass(frozen=True)
class Jets:
    """The jets of a chunk of collisions, as flat arrays.

    Attributes:
        features: pt, eta, phi, mass (jet, 4); a pT of -1 where a place holds no jet.
        counts: jets of each collision (collision,).
    """

    features: np.ndarray
    counts: np.ndarray

    @cached_property
    def entry(self) -> np.ndarray:
        """Collision of each jet within the chunk (jet,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def start(self) -> np.ndarray:
        """First jet of each collision (collision,)."""
        return np.cumsum(self.counts) - self.counts


def separation(reco: Jets, truth: Jets, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Delta R of the pairs (a, b) of rows (pair,) in pseudorapidity and azimuth: of jets without a mass, too."""
    turn = np.abs(reco.features[a, 2] - truth.features[b, 2])
    return np.hypot(reco.features[a, 1] - truth.features[b, 1], np.minimum(turn, 2 * np.pi - turn))


def match(
    reco: Jets,
    truth: Jets,
    index: np.ndarray | None,
    *,
    radius: float,
    y_pt_min: float,
    x_pt_min: float,
    tally: Counter,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (pair,) of the reconstructed and of the truth jets that belong together, in the order of the reconstructed.

    Args:
        reco, truth: jets of one chunk.
        index: truth jet of each reconstructed jet within its collision (jet,), -1 for none; None: the nearest in
            Delta R below ``radius`` among the selected jets. One to one in both cases.
        radius: largest distance of a pair where there is no index; pairs of the index beyond it are counted.
        y_pt_min, x_pt_min: GeV, selection on reconstructed and on truth jets.
        tally: counts of what happens, added to.
    """
    if index is None:
        a, b = all_pairs(reco.counts, truth.counts)
    else:
        a = np.flatnonzero(index >= 0)
        tally["named by the match branch"] += len(a)
        there = index[a] < truth.counts[reco.entry[a]]
        tally["of these beyond the truth list"] += int((~there).sum())
        a = a[there]
        b = truth.start[reco.entry[a]] + index[a]
    selected = (reco.features[a, 0] >= y_pt_min) & (truth.features[b, 0] >= x_pt_min)
    a, b = a[selected], b[selected]
    if index is not None:
        tally["selected pairs by the match branch"] += len(a)
        tally["of these further apart than match_radius"] += int((separation(reco, truth, a, b) > radius).sum())
        if np.bincount(b, minlength=1).max() <= 1:
            return a, b  # no two name one truth jet
    distances = distance(reco.features[a], truth.features[b])
    if index is None:
        near = distances < radius
        a, b, distances = a[near], b[near], distances[near]
    taken = pair_one_to_one(a, b, distances)
    a, b = a[taken], b[taken]
    order = np.argsort(a, kind="stable")
    return a[order], b[order]
