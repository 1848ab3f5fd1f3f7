"""Bootstrap samples of training ensembles."""

import numpy as np

from pullback.ensembles.acceptance import Missed
from pullback.ensembles.arrays import ArrayEnsemble
from pullback.ensembles.resampling import bootstrap_sample
from pullback.ensembles.sets import TrainingData


def test_groups_are_drawn_whole_with_their_misses():
    n = 3000
    group = np.arange(n) // 3
    y = np.arange(n, dtype=np.float32)[:, None]
    missed = Missed(group[::3, None].astype(np.float32), np.ones(n // 3), group[::3])
    source = ArrayEnsemble(y, y, group=group, missed=missed)
    view = bootstrap_sample(source, np.random.default_rng(0))
    drawn, counts = np.unique(view.read("group"), return_counts=True)
    assert (counts % 3 == 0).all()
    # A group is absent with probability 1/e: 368 of 1000 with a standard deviation of 10.
    assert abs(1000 - len(drawn) - 368) < 50
    kept, times = np.unique(view.missed.group, return_counts=True)
    np.testing.assert_array_equal(kept, drawn)
    np.testing.assert_array_equal(3 * times, counts)
    assert view.offsets[-1] == view.n == counts.sum()


def test_each_ensemble_of_a_sweep_is_drawn_by_itself():
    y = np.arange(400, dtype=np.float32)[:, None]
    source = ArrayEnsemble(y, y)
    source.offsets, source.theta = np.array([0, 100, 250, 400]), np.array([[0.0], [1.0], [2.0]])
    view = bootstrap_sample(source, np.random.default_rng(1))
    np.testing.assert_array_equal(view.offsets, source.offsets)
    for first, last in ((0, 100), (100, 250), (250, 400)):
        inside = view.read("y")[first:last, 0]
        assert (inside >= first).all()
        assert (inside < last).all()
    np.testing.assert_array_equal(view.theta, source.theta)


def test_training_data_differ_by_the_draw_only_in_training():
    y = np.arange(500, dtype=np.float32)[:, None]
    source = ArrayEnsemble(y, y)
    plain, one, same, other = (
        TrainingData([source], [source], 100, None if seed is None else np.random.default_rng(seed))
        for seed in (None, 1, 1, 2)
    )
    read = [np.concatenate([pairs.x for pairs in data.pairs("train")]) for data in (plain, one, same, other)]
    np.testing.assert_array_equal(read[1], read[2])
    assert not np.array_equal(read[1], read[3])
    assert len(np.unique(read[1])) < 400
    np.testing.assert_array_equal(np.concatenate([pairs.x for pairs in one.pairs("validation")]), read[0])
