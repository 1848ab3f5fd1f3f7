import logging

import numpy as np
import pytest

from pullback.core.seeding import generator
from pullback.ensembles.family_events import SetsError
from pullback.ensembles.fields import Field
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader, EnsembleWriter

X = Field.vector("x", ["a"], "1")
Y = Field.vector("y", ["b", "c"], "1")


def write(path, family, ensembles, events, *, theta=True, x=X, y=Y):
    """x names the event, y its family and ensemble: membership can be read off."""
    n = ensembles * events
    ids = np.arange(n)
    values = np.stack([np.full(n, family), ids // events], axis=1)
    with EnsembleWriter(path, x=x, y=y, spec="{}", attributes={"family": f"family-{family}"}) as writer:
        truth = None if x is None else ids[:, None]
        writer.append(values, ids, x=truth)
        if theta:
            offsets = np.arange(0, n + 1, events)
            writer.ensembles(offsets, 100 * family + np.arange(ensembles)[:, None], ["t"])
    return EnsembleReader(path)


@pytest.fixture(params=[100, 0], ids=["memory", "disk"])
def data(request, tmp_path):
    """Two sweeps of different sizes, in memory or read from disk."""
    train = [write(tmp_path / "a.h5", 0, 2, 50), write(tmp_path / "b.h5", 1, 12, 80)]
    validation = [write(tmp_path / "c.h5", 0, 3, 20), write(tmp_path / "d.h5", 1, 1, 30)]
    return TrainingData(train, validation, request.param)


def test_members_are_of_one_ensemble_without_replacement(data):
    sizes = []
    for step in range(240):
        sets = data.sets(generator("t", step), 4, (5, 40))
        for x, y, mask, theta in zip(*sets[:4], strict=True):
            n = int(mask.sum())
            sizes.append(n)
            assert mask[:n].all()
            assert not mask[n:].any()
            assert len(np.unique(x[:n])) == n
            assert len(np.unique(y[:n], axis=0)) == 1
            family, ensemble = y[0]
            assert theta[0] == 100 * family + ensemble
            # x names the event: it must lie in the rows of this ensemble.
            assert (x[:n, 0] // (50, 80)[int(family)] == ensemble).all()
            assert (x[n:] == 0).all()
            assert (y[n:] == 0).all()
    assert min(sizes) == 5
    assert max(sizes) == 40
    # Log-uniform on 5..40: half of the sizes lie below sqrt(5 * 41) = 14.3 (binomial error of 240 steps: 0.03).
    assert abs(np.mean(np.array(sizes) < 14.3) - 0.5) < 0.13


def test_sets_are_padded_to_the_largest_of_their_step(data):
    sets = data.sets(generator("pad"), 12, (60, 80))
    size = int(sets.mask.sum(axis=1).max())
    assert 60 <= size <= 80
    assert sets.mask.shape == (12, size)
    assert sets.x.shape == (12, size, 1)
    assert sets.y.shape == (12, size, 2)
    # Ensembles of family 0 have 50 members only: their places 50, 51, ... are empty.
    assert set(sets.mask.sum(axis=1)) == {50, size}


def test_the_same_address_gives_the_same_sets(data):
    one, again, other = (data.sets(generator("t", step), 3, (5, 40)) for step in (7, 7, 8))
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.x.shape != other.x.shape or (one.x != other.x).any()


def test_families_and_their_ensembles_are_balanced(data):
    """However many ensembles and events a family has: half of the sets are of each."""
    sets = data.sets(generator("balance"), 2000, (5, 5))
    family, ensemble = sets.y[:, 0].T
    # Binomial error of a fraction of one half: 0.5 / sqrt(2000) = 0.011.
    assert abs(np.mean(family == 1) - 0.5) < 4 * 0.011
    counts = np.bincount(ensemble[family == 1].astype(int), minlength=12)
    expected = counts.sum() / 12
    assert np.sum((counts - expected) ** 2 / expected) < 31.3  # chi-square, 11 degrees of freedom, p = 0.001


def test_validation_sets_are_of_the_validation_split_and_cover_families(data):
    sets = data.sets(generator("validation"), 6, (5, 10), split="validation")
    np.testing.assert_array_equal(sets.y[:, 0, 0], [0, 1, 0, 1, 0, 1])
    assert sets.x.max() < 60


def test_one_batch_of_validation_goes_on_where_the_last_one_ended(data):
    turns = [data.sets(generator("v", i), 1, (5, 10), split="validation", turn=i).y[0, 0, 0] for i in range(4)]
    assert turns == [0, 1, 0, 1]


def test_a_set_larger_than_its_ensemble_is_cut_and_logged_once(data, caplog):
    with caplog.at_level(logging.WARNING, logger="pullback"):
        for step in range(20):
            sets = data.sets(generator("cut", step), 4, (60, 60))
            sizes = sets.mask.sum(axis=1)
            np.testing.assert_array_equal(sizes, np.where(sets.y[:, 0, 0] == 0, 50, 60))
    assert [record.getMessage().count("'family-0' has 50") for record in caplog.records] == [1]


def test_scaled_sets_are_what_the_scaling_makes_of_raw_ones(data):
    raw = data.sets(generator("s"), 4, (5, 40))
    x, y = data.sample_for_scaling(200, generator("scaling"))
    scaling = Scaling.fit(data.x, data.y, x, y)
    data.use(scaling)
    seen = data.sets(generator("s"), 4, (5, 40))
    np.testing.assert_array_equal(seen.mask, raw.mask)
    np.testing.assert_array_equal(seen.x[raw.mask], scaling.encode_x(raw.x, raw.y)[raw.mask])
    np.testing.assert_array_equal(seen.y[raw.mask], scaling.encode_y(raw.y)[raw.mask])
    assert (seen.y[~raw.mask] == 0).all()


def test_the_sample_for_scaling_has_every_family_alike(data):
    x, y = data.sample_for_scaling(96, generator("scaling"))
    assert len(x) == len(y)
    counts = np.bincount(y[:, 0].astype(int))
    np.testing.assert_array_equal(counts, [48, 48])
    # 16 windows over 12 ensembles reach each of them.
    assert set(y[y[:, 0] == 1][:, 1].astype(int)) == set(range(12))
    assert len(data.sample_for_scaling(10**6, generator("all"))[0]) == 2 * 50 + 12 * 80


def test_memory_and_disk_differ_only_in_the_choice_of_members(tmp_path):
    reader = write(tmp_path / "a.h5", 0, 1, 1000, theta=False)
    small = TrainingData([reader], [reader], 1)
    large = TrainingData([reader], [reader], 0)
    assert small.in_memory
    assert not large.in_memory
    scattered = small.sets(generator("one"), 1, (50, 50))
    window = large.sets(generator("one"), 1, (50, 50))
    assert np.ptp(window.x) == 49
    assert np.ptp(scattered.x) > 49
    assert scattered.theta is None


def test_ensembles_without_truth_or_with_other_fields_are_refused(tmp_path):
    good = write(tmp_path / "a.h5", 0, 1, 10)
    blind = write(tmp_path / "b.h5", 1, 1, 10, x=None)
    other = write(tmp_path / "c.h5", 1, 1, 10, y=Field.vector("y", ["b", "d"], "1"))
    with pytest.raises(SetsError, match=r"b.h5: holds observations without truth"):
        TrainingData([good, blind], [good], 100)
    with pytest.raises(SetsError, match=r"c.h5: y is .*'d'.* wanted .*'c'.*a.h5"):
        TrainingData([good], [other], 100)
    with pytest.raises(SetsError, match="no validation ensembles"):
        TrainingData([good], [], 100)


def weighted(path, weight):
    n = len(weight)
    with EnsembleWriter(path, x=X, y=Y, spec="{}", columns={"weight": "float64"}) as writer:
        writer.append(np.zeros((n, 2)), np.arange(n), x=np.arange(n)[:, None], weight=weight)
    return EnsembleReader(path)


@pytest.mark.parametrize(("memory_mb", "scale"), [(100, 1), (0, 1), (100, 1e-60), (100, 1e200)])
def test_event_weights_come_with_their_members(tmp_path, memory_mb, scale):
    weight = scale * np.random.default_rng(0).normal(3, 5, 60)  # signed
    plain = write(tmp_path / "plain.h5", 0, 1, 60, theta=False)
    data = TrainingData([weighted(tmp_path / "w.h5", weight)], [plain], memory_mb)
    sets = data.sets(generator("w"), 3, (20, 20))
    members = sets.x[..., 0].astype(int)
    np.testing.assert_allclose(sets.weight, weight[members] / np.abs(weight).mean(), rtol=1e-5)
    # A family without weights stands beside one that has them.
    np.testing.assert_array_equal(data.sets(generator("v"), 2, (20, 20), "validation").weight, 1)


def test_without_weights_there_are_none(data):
    assert data.sets(generator("n"), 2, (5, 5)).weight is None


def test_members_drawn_again_keep_what_belongs_to_them(data):
    sets = data.sets(generator("r"), 4, (60, 60))
    again = sets.resampled(np.random.default_rng(0))
    for x, y, mask, was_x, was_y in zip(again.x, again.y, again.mask, sets.x, sets.y, strict=True):
        n = int(mask.sum())
        assert set(x[:n, 0]) < set(was_x[:n, 0])
        assert 0.5 < len(set(x[:n, 0])) / n < 0.75  # 1 - 1/e
        np.testing.assert_array_equal(y[:n], was_y[:n])


def test_a_window_does_not_see_what_is_relative_to_y(tmp_path):
    """The same truths beside other observations are chosen alike: p(y|x) stays what it is."""
    x = Field.vector("x", ("a", "phi"), ("1", "rad"), transforms=("linear", "periodic"))
    y = Field.vector("y", ("a", "phi"), ("1", "rad"), transforms=("linear", "periodic"))
    rng, chosen = np.random.default_rng(0), []
    truth = np.stack([np.arange(200), rng.uniform(-3, 3, 200)], axis=1)
    for seed in (1, 2):
        seen = truth + np.random.default_rng(seed).normal(0, 0.3, truth.shape)
        seen[:, 1] = np.clip(seen[:, 1], -3.1, 3.1)
        with EnsembleWriter(tmp_path / f"{seed}.h5", x=x, y=y, spec="{}") as writer:
            writer.append(seen, np.arange(200), x=truth)
        found = TrainingData(*2 * [[EnsembleReader(tmp_path / f"{seed}.h5")]], 100)
        scaling = found.fit_scaling(generator("s"))
        found.use(scaling)
        z = np.stack(
            [found.sets(generator("tilt", i), 1, (40, 40), prior_reweighting=1.0).x[0, :, 0] for i in range(5)]
        )
        chosen.append(np.argsort(np.argsort(z, axis=1), axis=1))
    np.testing.assert_array_equal(*chosen)


@pytest.mark.parametrize(("memory_mb", "wanted"), [(0, 16), (1, 249), (1000, 50_000)])
def test_the_scaling_is_fitted_on_what_memory_holds(tmp_path, monkeypatch, memory_mb, wanted):
    """Events of 1000 + 1 values, 4004 bytes."""
    y = Field.array("y", ("time",), (1000,), "1")
    with EnsembleWriter(tmp_path / "wide.h5", x=X, y=y, spec="{}") as writer:
        writer.append(np.arange(3000.0).reshape(3, 1000), np.arange(3), x=np.arange(3.0)[:, None])
    asked, sample = [], TrainingData.sample_for_scaling
    monkeypatch.setattr(
        TrainingData, "sample_for_scaling", lambda self, n, rng: asked.append(n) or sample(self, n, rng)
    )
    readers = [EnsembleReader(tmp_path / "wide.h5")]
    TrainingData(readers, readers, memory_mb).fit_scaling(generator("s"))
    assert asked == [wanted]


def test_parameters_of_all_training_ensembles(data, tmp_path):
    found = data.parameters()
    assert found.names == ["t"]
    np.testing.assert_array_equal(found.values[:, 0], [0, 1, *range(100, 112)])
    plain = write(tmp_path / "plain.h5", 0, 1, 60, theta=False)
    with pytest.raises(SetsError, match="states the parameters none"):
        TrainingData([plain], [plain], 1).parameters()


def test_tilted_sets_are_of_one_ensemble_and_narrower(data):
    if not data.in_memory:
        with pytest.raises(SetsError, match=r"train\.prior_reweighting .*on disk"):
            data.sets(generator("tilt"), 2, (40, 40), prior_reweighting=1.0)
        return
    narrower = []
    for step in range(100):
        sets = data.sets(generator("tilt", step), 1, (40, 40), prior_reweighting=1.0)
        family, ensemble = sets.y[0, 0]
        assert (sets.x[0, :, 0] // (50, 80)[int(family)] == ensemble).all()
        narrower.append(sets.x[0].std() / (50, 80)[int(family)] * np.sqrt(12))
    assert np.mean(narrower) < 0.9
    once = data.sets(generator("tilt", 1), 3, (40, 40), prior_reweighting=0.5).x
    np.testing.assert_array_equal(
        data.sets(generator("tilt", 1), 3, (40, 40), share=slice(1, 2), prior_reweighting=0.5).x, once[1:2]
    )
