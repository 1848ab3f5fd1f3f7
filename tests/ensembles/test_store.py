"""Files are whole, verified, opened by xarray, and their content has a digest that cutting does not change."""

import json
import os
import stat

import h5py
import numpy as np
import pytest
import xarray as xr

from pullback.ensembles.arrays import read_rows
from pullback.ensembles.fields import Coordinate, Field
from pullback.ensembles.hdf5 import chunk_rows
from pullback.ensembles.posterior_store import PosteriorReader, PosteriorWriter, index_posterior
from pullback.ensembles.store import EnsembleReader, EnsembleWriter, StoreError, index_ensemble
from pullback.methods.base import PosteriorSamples

Y = Field.vector("y", ("pt", "eta"), ("GeV", "1"))
X = Field.array("x", ("depth", "offset"), (4, 3), "m/s", coordinates={"depth": Coordinate(np.arange(4) * 20.0, "m")})
N = 60
NAMES = json.dumps({"study": "s", "problem": "p", "family": "f", "split": "train", "role": "seen"})


def arrays():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 4, 3)).astype("f4"), rng.normal(size=(N, 2)).astype("f4")


def write_split(folder, cuts, block=10, sweep=True):
    x, y = arrays()
    shards = []
    for i, (first, last) in enumerate(cuts):
        path = folder / "train" / f"shard-{i:03d}.h5"
        with EnsembleWriter(path, x=X, y=Y, spec="{}", columns={"weight": "float32"}) as writer:
            for row in range(first, last, block):
                rows = slice(row, min(row + block, last))
                writer.append(y[rows], np.arange(N)[rows], x=x[rows], weight=np.ones(N)[rows])
            if sweep:
                writer.ensembles(np.arange(0, last - first + 1, 10), np.arange(first, last, 10)[:, None], ["gamma"])
        shards.append(path)
    index_ensemble(NAMES, shards, folder / "train.h5")
    return folder / "train.h5"


def test_what_is_written_is_read(tmp_path):
    x, y = arrays()
    with EnsembleReader(write_split(tmp_path, [(0, 30), (30, 60)])) as reader:
        np.testing.assert_array_equal(reader.read("x"), x)
        np.testing.assert_array_equal(reader.read("y", 25, 35), y[25:35])
        np.testing.assert_array_equal(reader.window(28, 33).read("event_id", 1), np.arange(29, 33))
        np.testing.assert_array_equal(reader.offsets, np.arange(0, 61, 10))
        np.testing.assert_array_equal(reader.theta[:, 0], np.arange(0, 60, 10))
        assert (reader.n, reader.theta_names, reader.x is not None) == (N, ["gamma"], True)
        assert reader.y == Y
        assert reader.x.units == ("m/s",)


@pytest.mark.parametrize("cuts", [[(0, 60)], [(0, 30), (30, 60)], [(0, 10), (10, 50), (50, 60)]])
@pytest.mark.parametrize("block", [3, 60])
def test_the_content_digest_does_not_depend_on_shards_or_blocks(tmp_path, cuts, block):
    with EnsembleReader(write_split(tmp_path / "whole", [(0, 60)])) as whole:
        with EnsembleReader(write_split(tmp_path / "cut", cuts, block)) as cut:
            assert cut.digest == whole.digest
        with EnsembleReader(tmp_path / "whole/train/shard-000.h5") as shard:
            assert shard.digest == whole.digest


def test_another_value_is_another_digest(tmp_path):
    x, y = arrays()
    digests = set()
    for i, change in enumerate((0.0, 1e-6)):
        y[7, 1] += change
        with EnsembleWriter(tmp_path / f"{i}.h5", x=X, y=Y, spec="{}") as writer:
            writer.append(y, np.arange(N), x=x)
        digests.add(EnsembleReader(tmp_path / f"{i}.h5").digest)
    assert len(digests) == 2


def test_xarray_opens_every_file_with_names_and_units(tmp_path):
    index = write_split(tmp_path, [(0, 30), (30, 60)])
    for path in (index, tmp_path / "train/shard-000.h5"):
        with xr.open_dataset(path) as data:
            assert data["x"].dims == ("event", "depth", "offset")
            assert data["y"].dims == ("event", "y_feature")
            assert data["x"].attrs["units"] == "m/s"
            assert list(data["y_units"].values) == ["GeV", "1"]
            assert list(data["y_feature"].values) == ["pt", "eta"]
            assert data["depth"].attrs["units"] == "m"
            assert data["theta"].dims == ("ensemble", "parameter")
            assert data["weight"].dims == ("event",)
    with xr.open_dataset(index) as data:
        np.testing.assert_array_equal(data["x"].values, arrays()[0])


def test_an_index_survives_moving_the_folder(tmp_path):
    write_split(tmp_path / "old", [(0, 30), (30, 60)])
    (tmp_path / "old").rename(tmp_path / "new")
    with xr.open_dataset(tmp_path / "new/train.h5") as data:
        np.testing.assert_array_equal(data["y"].values, arrays()[1])
    assert EnsembleReader(tmp_path / "new/train.h5").read("y").shape == (N, 2)


def test_an_event_in_two_shards_is_an_error(tmp_path):
    with pytest.raises(
        StoreError, match=r"shard-000.h5 and .*shard-001.h5: both have an event_id 20, wanted each once"
    ):
        write_split(tmp_path, [(0, 30), (20, 60)])
    assert not (tmp_path / "train.h5").exists()


def test_a_missing_shard_is_an_error_not_a_fill_value(tmp_path):
    index = write_split(tmp_path, [(0, 30), (30, 60)])
    (tmp_path / "train/shard-001.h5").unlink()
    with pytest.raises(StoreError, match=r"shard-001\.h5: there is no such file; .*rm .*train\.h5, and run again"):
        EnsembleReader(index)


def test_a_truncated_shard_is_an_error(tmp_path):
    index = write_split(tmp_path, [(0, 30), (30, 60)])
    os.truncate(tmp_path / "train/shard-001.h5", 5000)
    with pytest.raises(StoreError, match=r"shard-001\.h5: found 5000 bytes"):
        EnsembleReader(index)
    with pytest.raises(StoreError, match="truncated or damaged"):
        EnsembleReader(tmp_path / "train/shard-001.h5")


def test_a_changed_shard_is_an_error(tmp_path):
    index = write_split(tmp_path, [(0, 30), (30, 60)])
    other = write_split(tmp_path / "other", [(0, 30), (30, 60)])
    (other.parent / "train/shard-001.h5").replace(tmp_path / "train/shard-000.h5")
    with pytest.raises(StoreError, match=r"shard-000\.h5: its content changed"):
        EnsembleReader(index)


def test_a_damaged_byte_is_an_error(tmp_path):
    write_split(tmp_path, [(0, 60)])
    path = tmp_path / "train/shard-000.h5"
    with h5py.File(path) as file:
        place = file["x"].id.get_chunk_info(0).byte_offset + 100
    with path.open("r+b") as raw:
        raw.seek(place)
        byte = raw.read(1)
        raw.seek(place)
        raw.write(bytes([byte[0] ^ 255]))
    with pytest.raises(StoreError, match="the file is damaged"):
        EnsembleReader(tmp_path / "train.h5").read("x")


def test_a_foreign_file_is_an_error(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y"] = np.zeros(3)
    with pytest.raises(StoreError, match="wanted ensemble-shard or ensemble-index"):
        EnsembleReader(tmp_path / "a.h5")


@pytest.mark.parametrize(("name", "value"), [("y", np.nan), ("x", np.inf)])
def test_nan_is_an_error_and_nothing_is_written(tmp_path, name, value):
    x, y = arrays()
    {"x": x, "y": y}[name][5].flat[1] = value
    with pytest.raises(StoreError, match=f"{name} has 1 values that are not finite, the first in event 5"):
        with EnsembleWriter(tmp_path / "a.h5", x=X, y=Y, spec="{}") as writer:
            writer.append(y, np.arange(N), x=x)
    assert list(tmp_path.iterdir()) == []


def test_no_events_is_an_error_and_nothing_is_written(tmp_path):
    with pytest.raises(StoreError, match="no events"), EnsembleWriter(tmp_path / "a.h5", x=X, y=Y, spec="{}"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_writing_keeps_the_old_file(tmp_path):
    path = write_split(tmp_path, [(0, 60)]).parent / "train/shard-000.h5"
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="stop"), EnsembleWriter(path, x=X, y=Y, spec="{}"):
        raise RuntimeError("stop")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    # A file where the folder should be refuses everybody, root too.
    (tmp_path / "folder").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        EnsembleWriter(tmp_path / "folder/a.h5", x=X, y=Y, spec="{}")


def test_a_read_only_folder_is_one_clear_error(tmp_path):
    """In a child process that has given up root, for root writes anywhere."""
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
    child = os.fork()
    if child == 0:
        os.chdir(tmp_path)
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            EnsembleWriter("a.h5", x=X, y=Y, spec="{}")
        except StoreError as error:
            os._exit(0 if "a.h5 cannot be written (Permission denied)" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(tmp_path.iterdir()) == []


def test_wrong_shapes_are_refused(tmp_path):
    with pytest.raises(StoreError, match=r"each event has shape \(3,\), wanted \(2,\)"):
        with EnsembleWriter(tmp_path / "a.h5", x=None, y=Y, spec="{}") as writer:
            writer.append(np.zeros((4, 3)), np.arange(4))
    with pytest.raises(StoreError, match="same number of events"):
        with EnsembleWriter(tmp_path / "a.h5", x=None, y=Y, spec="{}") as writer:
            writer.append(np.zeros((4, 2)), np.arange(5))


def test_chunks_are_events_for_fields_and_thousands_of_rows_for_tables():
    assert chunk_rows(70 * 70 * 4) == 8
    assert chunk_rows(5 * 1000 * 70 * 4) == 1
    assert 1000 <= chunk_rows(2 * 4) <= 10_000


def write_posterior(folder, ensemble, cuts, fail=()):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, 5, 4, 3)).astype("f4")
    ok = np.ones((N, 5), bool)
    for place in fail:
        ok[place] = False
        x[place] = np.nan
    parts = []
    for i, (first, last) in enumerate(cuts):
        path = folder / "post" / f"part-{i:03d}.h5"
        with PosteriorWriter(path, x=X, draws=5, ensemble=ensemble, ensemble_name="e.h5", spec="{}") as writer:
            noticed = {}
            if last > first:
                # Of two sets: 0 to 29, which two parts may share, and the rest.
                noticed = {"embedding_distance": {s: 0.5 + s for s in (0, 30) if first < s + 30 and last > s}}
                rows = slice(first, last)
                writer.append(PosteriorSamples(x[rows], np.zeros((N, 5))[rows], ok[rows]), np.arange(N)[rows])
            writer.finish({"seconds": 2.0, "peak_memory_mb": 100.0 + i}, noticed)
        parts.append(path)
    index_posterior(json.dumps({"study": "s"}), parts, folder / "post.h5")
    return folder / "post.h5"


def test_a_posterior_of_an_earlier_version_is_not_called_damaged(tmp_path):
    with EnsembleReader(write_split(tmp_path, [(0, 60)])) as ensemble:
        path = write_posterior(tmp_path, ensemble, [(0, 60)])
    with h5py.File(path, "a") as file:
        del file["diagnostics"]
    with pytest.raises(StoreError, match="earlier versions"):
        PosteriorReader(path)


def test_posteriors_add_up_and_do_not_depend_on_parts(tmp_path):
    with EnsembleReader(write_split(tmp_path, [(0, 60)])) as ensemble:
        whole = PosteriorReader(write_posterior(tmp_path / "a", ensemble, [(0, 60)], fail=[(3, 2)]))
        cut = PosteriorReader(write_posterior(tmp_path / "b", ensemble, [(0, 0), (0, 25), (25, 60)], fail=[(3, 2)]))
    assert whole.digest == cut.digest
    assert cut.cost == {"seconds": 6.0, "peak_memory_mb": 102.0}
    assert whole.diagnostics == cut.diagnostics == {"embedding_distance": 15.5}
    assert cut.ensemble_digest == ensemble.digest
    assert not cut.read("ok")[3, 2]
    assert np.isnan(cut.read("x", 3, 4)[0, 2]).all()
    with xr.open_datatree(cut.path, engine="h5netcdf") as tree:
        table = tree["diagnostics/embedding_distance"]
        assert table.dims == ("embedding_distance_piece", "first_event_and_value")
        assert table.shape == (2, 2)
    with xr.open_dataset(cut.path) as data:
        assert data["x"].dims == ("event", "draw", "depth", "offset")
        assert data["x"].attrs["units"] == "m/s"


def test_a_nan_draw_that_is_said_to_be_ok_is_refused(tmp_path):
    with EnsembleReader(write_split(tmp_path, [(0, 60)])) as ensemble:
        x = np.zeros((1, 5, 4, 3))
        x[0, 1] = np.nan
        with (
            pytest.raises(StoreError, match="a draw that is said to be ok"),
            PosteriorWriter(tmp_path / "p.h5", x=X, draws=5, ensemble=ensemble, ensemble_name="e", spec="{}") as writer,
        ):
            writer.append(PosteriorSamples(x, np.zeros((1, 5)), np.ones((1, 5), bool)), np.arange(1))
    assert not (tmp_path / "p.h5").exists()


def test_hdf5_alone_reads_fill_values_where_a_shard_is_missing(tmp_path):
    """What the index's own table of shards prevents: a virtual dataset gives numbers that nobody wrote."""
    index = write_split(tmp_path, [(0, 30), (30, 60)])
    (tmp_path / "train/shard-001.h5").unlink()
    with h5py.File(index) as file:
        y = file["y"][:]
    assert len(y) == 60
    assert len(np.unique(y[30:])) == 1


def test_h5netcdf_writes_no_virtual_variable(tmp_path):
    """Why dimension scales are written here: an index holds virtual variables. If this fails, ours can go."""
    h5netcdf = pytest.importorskip("h5netcdf")
    layout = h5py.VirtualLayout((4,), "f4")
    with h5netcdf.File(tmp_path / "index.h5", "w") as file:
        file.dimensions = {"event": 4}
        with pytest.raises((TypeError, ValueError)):
            file.create_variable("y", ("event",), data=layout)
        assert not hasattr(file, "create_virtual_dataset")
        assert not hasattr(file, "create_virtual_variable")


@pytest.mark.parametrize("side", [12, 40])
def test_rows_are_read_in_blocks_and_fields_one_by_one(tmp_path, monkeypatch, side):
    y = np.random.default_rng(0).normal(size=(10, side, side)).astype("f4")
    field = Field.array("y", ("depth", "offset"), (side, side), "1")
    monkeypatch.setattr("pullback.ensembles.arrays.TABLE_ROWS", 4)
    with EnsembleWriter(tmp_path / "e.h5", x=None, y=field, spec="{}") as writer:
        writer.append(y, np.arange(10))
    with EnsembleReader(tmp_path / "e.h5") as reader:
        assert (read_rows(reader, "y", np.array([0, 3, 4, 9])) == y[[0, 3, 4, 9]]).all()
