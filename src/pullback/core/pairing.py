"""One-to-one pairing of objects of the same collision, the nearest first."""

import numpy as np

from pullback.core.angles import wrap


def rapidity(pt: np.ndarray, eta: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Rapidity of jets (jet,): arsinh(pT sinh eta / sqrt(pT^2 + m^2))."""
    return np.arcsinh(pt * np.sinh(eta) / np.hypot(pt, mass))


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Delta R of jets a and b (pair, 4) with features pt, eta, phi, mass, in rapidity and azimuth."""
    rise = rapidity(a[:, 0], a[:, 1], a[:, 3]) - rapidity(b[:, 0], b[:, 1], b[:, 3])
    turn = wrap(a[:, 2] - b[:, 2])
    return np.hypot(rise, turn)


def all_pairs(counts_a: np.ndarray, counts_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair (a, b) of objects of the same collision, as rows of the two flat lists.

    Args:
        counts_a, counts_b: objects of each collision (collision,).
    """
    start_b = np.cumsum(counts_b) - counts_b
    partners = np.repeat(counts_b, counts_a)
    a = np.repeat(np.arange(counts_a.sum()), partners)
    within = np.arange(len(a)) - np.repeat(np.cumsum(partners) - partners, partners)
    return a, np.repeat(np.repeat(start_b, counts_a), partners) + within


def pair_one_to_one(a: np.ndarray, b: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Greedy one-to-one matching: mask of the candidate pairs (a, b) (pair,) chosen in order of distance.

    Each object is in at most one pair. Pairs that are mutually nearest are taken together in one pass, which gives what
    taking them one by one gives; of equal distances the earlier candidate goes first.
    """
    left = np.argsort(distances, kind="stable")
    taken = np.zeros(len(a), dtype=bool)
    while len(left):
        first_a, first_b = np.zeros(len(left), bool), np.zeros(len(left), bool)
        first_a[np.unique(a[left], return_index=True)[1]] = True
        first_b[np.unique(b[left], return_index=True)[1]] = True
        now = left[first_a & first_b]
        taken[now] = True
        left = left[~np.isin(a[left], a[now]) & ~np.isin(b[left], b[now])]
    return taken
