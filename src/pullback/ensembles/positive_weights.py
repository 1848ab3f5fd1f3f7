"""Signed event weights made non-negative by cell resampling (Andersen and Maier, arXiv 2109.07851).

Next-to-leading-order generators give events of negative weight. Distances between distributions, quantiles and draws by
weight need non-negative ones. Around each event of negative weight a cell of its nearest events is grown until its
sum of weights is not negative; within the cell the weights become |w_i| sum(w) / sum(|w|). Sums over regions larger
than the cells do not change, and the sum of all not at all.
"""

import numpy as np

from pullback.ensembles.fields import Field

FIRST_NEIGHBOURS = 16


def cell_resampled(values: np.ndarray, field: Field, weight: np.ndarray) -> np.ndarray:
    """Non-negative weights (event,) of the same sum, float64.

    Args:
        values: x or y (event, ...), which near events are near in; quantities in units of their spread, angles by sine
            and cosine.
        field: of the values.
        weight: with some negative ones (event,).

    Raises:
        ValueError: the sum of the weights is not positive.
    """
    from scipy.spatial import cKDTree

    if not weight.sum() > 0:
        raise ValueError(f"the sum of the event weights is {weight.sum():.4g}, wanted a positive one")
    tree = cKDTree(points := _points(values.reshape(len(values), -1).astype(np.float64), field))
    weight = weight.astype(np.float64)
    negative = np.flatnonzero(weight < 0)
    near = tree.query(points[negative], k=range(1, min(FIRST_NEIGHBOURS, len(weight)) + 1))[1]
    for event, cell in zip(negative[order := np.argsort(weight[negative])], near[order], strict=True):
        if weight[event] >= 0:  # inside the cell of another
            continue
        while (first := _first_not_negative(weight[cell])) is None and len(cell) < len(weight):
            cell = tree.query(points[event], k=range(1, min(4 * len(cell), len(weight)) + 1))[1]
        cell = cell if first is None else cell[: first + 1]
        total, size = weight[cell].sum(), np.abs(weight[cell])
        weight[cell] = size * (max(total, 0.0) / size.sum())
    return weight


def _first_not_negative(weight: np.ndarray) -> int | None:
    good = np.flatnonzero(np.cumsum(weight) >= 0)
    return int(good[0]) if len(good) else None


def _points(values: np.ndarray, field: Field) -> np.ndarray:
    columns = []
    transforms = field.transforms if field.is_vector else ("linear",) * values.shape[1]
    for column, transform in zip(values.T, transforms, strict=True):
        columns += [np.sin(column), np.cos(column)] if transform == "periodic" else [column]
    points = np.stack(columns, axis=1)
    spread = points.std(axis=0)
    return points / np.where(spread > 0, spread, 1.0)
