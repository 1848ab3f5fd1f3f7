"""Cell resampling: non-negative weights of the same sum, and of the same distribution."""

import numpy as np
import pytest

from pullback.ensembles.fields import Field
from pullback.ensembles.positive_weights import cell_resampled

FIELD = Field.vector("x", ("a", "phi"), ("1", "rad"), transforms=("linear", "periodic"))


def signed(n, seed=0):
    """Events of weight 1 from N(0, 1) and of weight -1 from N(0.5, 1), one in ten: the sum is their difference."""
    rng = np.random.default_rng(seed)
    weight = np.where(rng.random(n) < 0.1, -1.0, 1.0)
    a = rng.standard_normal(n) + 0.5 * (weight < 0)
    return np.stack([a, rng.uniform(-np.pi, np.pi, n)], axis=1).astype(np.float32), weight


def test_weights_are_positive_and_keep_their_sum_and_moments():
    x, weight = signed(20_000)
    found = cell_resampled(x, FIELD, weight)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(weight.sum(), rel=1e-12)
    untouched = found == weight
    assert 0.5 < untouched.mean() < 0.9
    # Cells hold a few events: moments change by the size of a cell over that of the distribution.
    for power in (1, 2):
        wanted = (weight * x[:, 0].astype(float) ** power).sum() / weight.sum()
        assert (found * x[:, 0].astype(float) ** power).sum() / found.sum() == pytest.approx(wanted, abs=2e-3)
    # And the distribution function by no more than the weight of a few cells, well below the statistical error.
    order = np.argsort(x[:, 0])
    gap = np.abs(np.cumsum(found[order]) - np.cumsum(weight[order])) / weight.sum()
    assert gap.max() < 1 / np.sqrt(len(x))


def test_events_of_positive_weight_and_far_cells():
    x, weight = signed(500)
    np.testing.assert_array_equal(cell_resampled(x, FIELD, np.abs(weight)), np.abs(weight))
    few = np.where(np.arange(500) == 7, -100.0, 1.0)  # its cell is a fifth of all events
    found = cell_resampled(x, FIELD, few)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(few.sum())
    with pytest.raises(ValueError, match="sum of the event weights is -500"):
        cell_resampled(x, FIELD, -np.ones(500))
