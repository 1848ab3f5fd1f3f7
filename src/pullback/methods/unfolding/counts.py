"""Weighted counts in bins, dependent within groups: their sums, covariance and bootstrap replicas."""

from typing import Any

import numpy as np

GROUPS = 20_000
"""Groups that are propagated at once."""


class GroupedCounts:
    """Weighted counts of some events in the bins of several axes, whose bins stand one after the other.

    A group (a collision) is the unit of the Poisson bootstrap: all its events are counted as often.

    Args:
        cells: bin of each event on each axis (event, axis), numbered over all axes.
        weight: of the events (event,).
        group: of the events (event,), integers.
        bins: of all axes.

    Attributes:
        nominal: sums of weights (bin,).
        squares: sums of squared weights (bin,).
    """

    def __init__(self, cells: np.ndarray, weight: np.ndarray, group: np.ndarray, bins: int):
        from scipy.sparse import csr_array

        number = np.unique(group, return_inverse=True)[1]
        axes = cells.shape[1]
        entries = np.repeat(weight, axes), (np.repeat(number, axes), cells.reshape(-1))
        self._sums: Any = csr_array(entries, shape=(int(number.max()) + 1, bins))
        self.nominal: np.ndarray = np.bincount(cells.reshape(-1), weights=np.repeat(weight, axes), minlength=bins)
        self.squares: np.ndarray = np.bincount(cells.reshape(-1), weights=np.repeat(weight**2, axes), minlength=bins)

    def propagated(self, change: np.ndarray) -> np.ndarray:
        """Covariance (k, k) of numbers that an object of weight one changes by ``change`` (bin, k).

        It is the sum over groups of the products of what each changes: that of infinitely many Poisson bootstrap
        replicas by group.
        """
        covariance = np.zeros((change.shape[1],) * 2)
        for start in range(0, self._sums.shape[0], GROUPS):
            moved = self._sums[start : start + GROUPS] @ change
            covariance += moved.T @ moved
        return covariance

    def replicas(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Counts where each group is there as often as a Poisson number of mean one says (replica, bin)."""
        groups, bins = self._sums.shape
        found = np.empty((count, bins))
        for row in found:
            row[:] = self._sums.T @ rng.poisson(1.0, groups).astype(np.float64)
        return found
