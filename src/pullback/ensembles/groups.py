"""Groups of dependent events (a collision, a shot line), resampled together in a cluster bootstrap."""

import numpy as np


class Groups:
    """The members of each group.

    Args:
        number: the group of each event (event,), consecutive integers from 0.
    """

    def __init__(self, number: np.ndarray):
        self._order = np.argsort(number, kind="stable")
        self._sizes = np.bincount(number)
        self._first = np.cumsum(self._sizes) - self._sizes

    def members(self, drawn: np.ndarray) -> np.ndarray:
        """The events of groups that are drawn (draw,), with repeats: indices, one group after the other."""
        size = self._sizes[drawn]
        ends = np.cumsum(size)
        within = np.arange(ends[-1]) - np.repeat(ends - size, size)
        return self._order[np.repeat(self._first[drawn], size) + within]
