"""Acceptance of an ensemble: observations without a truth (fakes), truths without an observation (misses).

The ``event`` axis of an ensemble holds what was recorded: pairs of truth and observation, and fakes, whose x is NaN and
whose column `FAKE` is 1. Misses stand on an axis ``miss`` of their own.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

FAKE = "fake"
"""Column (event,) int8 of an ensemble that may hold fakes; 1: there is no truth."""


class Missed(NamedTuple):
    """Truths that were not recorded.

    Attributes:
        x: (miss, *x), float32.
        weight: event weights (miss,), float64; ones where the ensemble has none.
        group: unit of the bootstrap (miss,), int64, numbered as that of the events.
    """

    x: np.ndarray
    weight: np.ndarray
    group: np.ndarray

    @property
    def variables(self) -> dict[str, np.ndarray]:
        """The arrays by their names in a file."""
        return {
            "missed_x": np.ascontiguousarray(self.x, np.float32),
            "missed_weight": np.ascontiguousarray(self.weight, np.float64),
            "missed_group": np.ascontiguousarray(self.group, np.int64),
        }


def joined(parts: Iterable[Missed | None]) -> Missed | None:
    """Misses one after the other; None where no part records any."""
    found = [part for part in parts if part is not None]
    return Missed(*map(np.concatenate, zip(*found, strict=True))) if found else None
