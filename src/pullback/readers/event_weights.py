"""Event weights of a file: refused where nothing can be learned from them, warned of where one decides all."""

from pathlib import Path

import numpy as np

from pullback.core.particles import effective_size
from pullback.readers.base import ReadError

LARGEST = 1000.0
"""In units of the median; a larger weight is warned of."""


class Weights:
    """The weights of the events of one file, or of the collisions that its events are of.

    Args:
        path, name: the file and its branch or variable.
        of: what has a weight, and which of them count, for messages.
    """

    def __init__(self, path: Path, name: str, of: tuple[str, str] = ("collisions", "collisions with jets")):
        self.path, self.name, (self.of, self.of_used) = path, name, of
        self._entry: list[np.ndarray] = []
        self._weight: list[np.ndarray] = []
        self._used: list[np.ndarray] = []

    def add(self, weight: np.ndarray, entry: np.ndarray, used: np.ndarray) -> None:
        """Weights (collision,) float64, of either sign, the entries that they are of, and which have events."""
        self._weight.append(weight)
        self._entry.append(entry)
        self._used.append(used)

    def check(self) -> list[str]:
        """Compare the weights of the whole file with each other.

        Returns:
            Warnings.

        Raises:
            ReadError: they sum to zero or less.
        """
        weight, entry, used = (np.concatenate(each) for each in (self._weight, self._entry, self._used))
        size = np.abs(weight)
        top = float(size.max(initial=0.0))
        share = weight[used] / (top or 1.0)
        if not share.any():
            raise ReadError(
                f"{self.path}: the weights in '{self.name}' of all {len(share)} {self.of_used} are zero, so that "
                "there is nothing to learn or to judge; name others in `weight`, or leave it out"
            )
        if share.sum() <= 1e-6 * np.abs(share).sum():
            raise ReadError(
                f"{self.path}: the weights in '{self.name}' of {len(share)} {self.of_used} sum to "
                f"{share.sum() * top:.3g}, wanted more than zero; name others in `weight`, or leave it out"
            )
        median = float(np.median(size))
        if top <= LARGEST * median:
            return []
        row = int(np.argmax(size))
        return [
            f"{self.path}: the largest weight in '{self.name}', {weight[row]:.4g} in entry {entry[row]}, is far above "
            f"the median, {median:.4g}: the effective sample size is {effective_size(size):.1f} of {len(weight)} "
            f"{self.of}"
        ]
