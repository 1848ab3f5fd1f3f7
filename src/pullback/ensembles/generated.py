"""What a generator says of its events as a whole: cross-section, number of collisions and sum of their weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

GENERATED = ("cross_section_mb", "cross_section_error_mb", "collisions", "sum_of_weights")
"""Attributes of an ensemble that a generator made; cross-section and its error in mb."""


def generated_sums(parts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """These attributes of an index over shards: sums, and the mean cross-section by number of collisions.

    Empty where a shard has none. The error of the mean takes the shards to be independent.
    """
    if not all(name in part for part in parts for name in GENERATED):
        return {}
    values = {name: np.array([part[name] for part in parts], np.float64) for name in GENERATED}
    share = values["collisions"] / values["collisions"].sum()
    return {
        "cross_section_mb": float(share @ values["cross_section_mb"]),
        "cross_section_error_mb": float(np.sqrt(share**2 @ values["cross_section_error_mb"] ** 2)),
        "collisions": int(values["collisions"].sum()),
        "sum_of_weights": float(values["sum_of_weights"].sum()),
    }
