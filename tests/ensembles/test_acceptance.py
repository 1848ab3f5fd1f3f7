"""Fakes and misses: kept by files and arrays, left out of what pairs are trained and compared on."""

import json

import numpy as np
import pytest

from pullback.core.atomic import StoreError
from pullback.ensembles.acceptance import FAKE, Missed
from pullback.ensembles.arrays import ArrayEnsemble
from pullback.ensembles.fields import Field
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader, EnsembleWriter, index_ensemble

X = Field.vector("x", ("a",), "1")
Y = Field.vector("y", ("b",), "1")


def events(n=40, misses=7, start=0):
    """Pairs y = x + 100, every fourth event a fake, misses with x = -1."""
    x = np.arange(start, start + n, dtype=np.float32)[:, None]
    fake = np.arange(n) % 4 == 3
    y = np.where(fake[:, None], -5.0, x + 100)
    x = np.where(fake[:, None], np.nan, x)
    missed = Missed(np.full((misses, 1), -1.0, np.float32), np.ones(misses), np.arange(misses) + start)
    return x, y.astype(np.float32), fake, missed


def write(path, x, y, fake, missed, start=0):
    spec = json.dumps({"seed": 1})
    with EnsembleWriter(path, x=X, y=Y, spec=spec, columns={FAKE: "int8"}) as writer:
        writer.append(y, np.arange(start, start + len(y)), x=x, fake=fake)
        writer.append_missed(missed)


def test_files_keep_fakes_and_misses_also_behind_an_index(tmp_path):
    shards = [tmp_path / f"{i}.h5" for i in range(2)]
    for i, shard in enumerate(shards):
        write(shard, *events(start=40 * i), start=40 * i)
    index_ensemble(json.dumps({"family": "f"}), shards, tmp_path / "all.h5")
    whole = tmp_path / "whole.h5"
    parts = [events(start=0), events(start=40)]
    x, y, fake = (np.concatenate([part[i] for part in parts]) for i in range(3))
    write(whole, x, y, fake, Missed(*map(np.concatenate, zip(*(part[3] for part in parts), strict=True))))
    with EnsembleReader(tmp_path / "all.h5") as reader, EnsembleReader(whole) as one:
        assert reader.digest == one.digest
        assert reader.fake().sum() == 20
        assert np.isnan(reader.read("x")[reader.fake()]).all()
        assert len(reader.missed.x) == 14
        pairs = reader.pairs()
        assert pairs.n == 60
        np.testing.assert_array_equal(pairs.read("y"), pairs.read("x") + 100)
        # Any window of the view, across shards, is that of the picked rows.
        for first, last in ((0, 7), (25, 40), (59, 60), (60, 60)):
            np.testing.assert_array_equal(pairs.read("y", first, last), (reader.read("y")[~fake])[first:last])
        view = pairs.window(20, 50)
        assert view.n == 30
        np.testing.assert_array_equal(view.read("event_id"), np.flatnonzero(~fake)[20:50])


def test_xarray_opens_misses_with_their_names(tmp_path):
    xarray = pytest.importorskip("xarray")
    write(tmp_path / "f.h5", *events())
    with xarray.open_dataset(tmp_path / "f.h5", engine="h5netcdf") as data:
        assert data.missed_x.dims == ("miss", "x_feature")
        assert data.fake.dims == ("event",)


def test_nan_is_a_truth_of_fakes_only(tmp_path):
    x, y, fake, missed = events()
    x[0] = np.nan
    with pytest.raises(StoreError, match="x has 1 values that are not finite"):
        write(tmp_path / "f.h5", x, y, fake, missed)
    assert not (tmp_path / "f.h5").exists()


def test_training_sees_fakes_as_members_without_a_truth():
    x, y, fake, missed = events(400)
    ensemble = ArrayEnsemble(y, x, x_field=X, y_field=Y, fake=fake, missed=missed)
    data = TrainingData([ensemble], [ensemble], 100)
    pairs = list(data.pairs())
    assert sum(len(each.x) for each in pairs) == 300
    assert sum(len(each) for each, _ in data.fakes()) == 100
    assert sum(len(each) for each, _ in data.misses()) == 7
    assert data.has_fakes
    seen_x, seen_y = data.sample_for_scaling(1000, np.random.default_rng(0))
    np.testing.assert_array_equal(seen_y, seen_x + 100)
    for reweighting in (0.0, 1.0):
        sets = data.sets(np.random.default_rng(0), 8, (64, 64), prior_reweighting=reweighting)
        assert sets.real is not None
        np.testing.assert_array_equal(sets.real, sets.y[..., 0] != -5)
        np.testing.assert_array_equal(sets.x[~sets.real], 0)
        np.testing.assert_array_equal(sets.y[sets.real], sets.x[sets.real] + 100)
        # A fake keeps its share under another prior: 1/4 of 512 members, standard deviation 0.019.
        assert abs((~sets.real).mean() - 0.25) < 0.08
    again = sets.resampled(np.random.default_rng(1))
    np.testing.assert_array_equal(again.real, again.y[..., 0] != -5)
