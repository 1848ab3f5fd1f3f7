"""Fakes and misses: selected jets without a partner."""

from typing import NamedTuple

import numpy as np

from pullback.readers.jets import Jets

UNKNOWN = np.iinfo(np.int64).min
"""As an index of a truth jet: the file has no valid one."""


class Unmatched(NamedTuple):
    """Jets without a partner.

    Attributes:
        reco: rows of fakes (fake,).
        truth: rows of misses (miss,).
        unknown: selected jets without a partner that may have had one among jets without valid values.
    """

    reco: np.ndarray
    truth: np.ndarray
    unknown: int


def unmatched(
    reco: Jets,
    truth: Jets,
    index: np.ndarray | None,
    pairs: tuple[np.ndarray, np.ndarray],
    selected: list[np.ndarray],
    lost: list[np.ndarray],
) -> Unmatched:
    """The selected jets that are in no pair.

    A jet whose partner was left out, as it has no valid values, is neither a fake nor a miss, nor is it a pair. Which
    jet that was an index says; without one every jet of the collision may be it.

    Args:
        reco, truth: jets of one chunk.
        index: truth jet of each reconstructed one within its collision (jet,), also of those left out; -1 for none,
            `UNKNOWN` where it is not valid; None: pairs are by distance.
        pairs: rows of reconstructed and of truth jets (pair,).
        selected: which reconstructed and truth jets are selected, (jet,) each.
        lost: which reconstructed and truth jets were left out, (jet,) each.
    """
    alone = [mask.copy() for mask in selected]
    for mask, rows in zip(alone, pairs, strict=True):
        mask[rows] = False
    lost_reco, lost_truth = lost
    n = len(reco.counts)
    if index is None:
        open_reco = np.bincount(truth.entry[lost_truth], minlength=n)[reco.entry] > 0
        open_truth = np.bincount(reco.entry[lost_reco], minlength=n)[truth.entry] > 0
    else:
        names = np.flatnonzero((index >= 0) & (index < truth.counts[reco.entry]))
        named = truth.start[reco.entry[names]] + index[names]
        open_reco = index == UNKNOWN
        open_truth = np.bincount(reco.entry[open_reco], minlength=n)[truth.entry] > 0
        open_reco[names] |= lost_truth[named]
        open_truth[named[lost_reco[names]]] = True
    unknown = int((alone[0] & open_reco).sum() + (alone[1] & open_truth).sum())
    return Unmatched(np.flatnonzero(alone[0] & ~open_reco), np.flatnonzero(alone[1] & ~open_truth), unknown)
