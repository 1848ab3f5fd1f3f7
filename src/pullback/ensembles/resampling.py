"""Bootstrap samples of an ensemble's events: how much a training depends on the finite simulated sample."""

from typing import Any

import numpy as np

from pullback.ensembles.acceptance import Missed
from pullback.ensembles.groups import Groups


def bootstrap_sample(source: Any, rng: np.random.Generator) -> Any:
    """A view of a file or arrays with the groups of each of its ensembles drawn with replacement, misses with them.

    Args:
        source: `EnsembleReader` or `ArrayEnsemble`.
        rng: of the draw.
    """
    group, missed = source.read("group"), source.missed
    rows, ends, found = [], [0], []
    for first, last in zip(source.offsets[:-1], source.offsets[1:], strict=True):
        here = group[first:last]
        # Misses belong to groups of a file with one ensemble; a group may consist of misses alone.
        beside = missed.group if missed is not None and len(source.offsets) == 2 else group[:0]
        index = np.unique(np.concatenate([here, beside]), return_inverse=True)[1]
        drawn = rng.integers(int(index.max()) + 1, size=int(index.max()) + 1)
        members = Groups(index).members(drawn)
        rows.append(np.sort(members[members < len(here)]) + first)
        found.append(np.sort(members[members >= len(here)]) - len(here))
        ends.append(ends[-1] + len(rows[-1]))
    view = source.select(np.concatenate(rows))
    view.offsets, view.theta = np.array(ends), source.theta
    view.missed = None if missed is None else Missed(*(values[np.concatenate(found)] for values in missed))
    return view
