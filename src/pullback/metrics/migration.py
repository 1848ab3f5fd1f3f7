"""Migration between bins of a feature's truth and bins of the observed feature of the same name."""

import h5py
import numpy as np

from pullback.core.angles import wrap
from pullback.metrics.case import Case
from pullback.metrics.contents import cells


def write_migration(group: h5py.Group, case: Case, n: int) -> None:
    """Write the migration of each feature that x and y both have, as `pullback.metrics.examples` lays it out.

    Args:
        group: of the result; features without a group of their own there are left out.
        case: a family with a truth.
        n: pairs; as large a share of the misses.
    """
    x, y = case.space.canonical(case.flat("x", 0, n)), case.flat("y", 0, n)
    weight = case.replicas(n).weight
    ones = np.ones(n) if weight is None else weight
    truths = case.truths(n)
    every = np.ones(len(truths.x)) if truths.weight is None else truths.weight
    for name, edges in case.edges.items():
        if name not in case.reader.y.features or name not in group:
            continue
        j = case.space.names.index(name)
        observed = y[:, case.reader.y.features.index(name)]
        if case.space.periodic[j]:
            observed = wrap(observed)
        bins = len(edges) - 1
        true, seen = (cells(values.astype(np.float64), edges) for values in (x[:, j], observed))
        both = (true >= 0) & (seen >= 0)
        matrix = np.bincount(seen[both] * bins + true[both], ones[both], minlength=bins**2).reshape(bins, bins)
        of_truth, of_observed = (np.bincount(c[c >= 0], ones[c >= 0], minlength=bins) for c in (true, seen))
        feature = group[name]
        feature["migration"], feature["migration_edges"] = _ratio(matrix, of_truth), edges
        feature["bin_purity"] = _ratio(np.diag(matrix), of_observed)
        if case.recorded.missed is not None:
            cell = cells(case.space.canonical(truths.x)[:, j].astype(np.float64), edges)
            feature["efficiency"] = _ratio(of_truth, np.bincount(cell[cell >= 0], every[cell >= 0], minlength=bins))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where nothing is below."""
    found: np.ndarray = above / np.where(below > 0, below, np.nan)
    return found
