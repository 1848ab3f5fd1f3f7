"""Files of a study as arrays: what they hold, and that nothing damaged is read."""

import json

import numpy as np
import pytest
import xarray

from pullback import open_ensemble, open_posterior
from pullback.core.atomic import StoreError
from pullback.ensembles.fields import Coordinate, Field
from pullback.ensembles.posterior_store import PosteriorWriter, index_posterior
from pullback.ensembles.store import EnsembleReader, EnsembleWriter, index_ensemble
from pullback.methods.base import PosteriorSamples

X = Field.vector("x", ["pt", "phi"], ["GeV", "rad"])
Y = Field.array("y", ["time"], (4,), "Pa", coordinates={"time": Coordinate(np.arange(4) * 0.5, "s")})
N = 12


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Results of a study: an ensemble of two shards, a posterior of the first eight events in two parts."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((N, 2)).astype(np.float32), rng.standard_normal((N, 4)).astype(np.float32)
    data = tmp_path / "results" / "data"
    for i, some in enumerate((slice(0, 7), slice(7, N))):
        with EnsembleWriter(data / f"{i}.h5", x=X, y=Y, spec="{}", columns={"weight": "f4"}) as writer:
            ids = np.arange(N)[some]
            writer.append(y[some], ids, x=x[some], group=ids // 2, weight=1.0 + ids)
    index_ensemble(json.dumps({"family": "a"}), [data / "0.h5", data / "1.h5"], data / "test.h5")
    draws = np.repeat(x[:, None], 3, axis=1)
    draws[2, 1] = np.nan
    posterior = tmp_path / "results" / "posterior"
    with EnsembleReader("results/data/test.h5") as reader:
        for i, some in enumerate((slice(0, 5), slice(5, 8))):
            more = {"ensemble": reader, "ensemble_name": "results/data/test.h5", "spec": "{}"}
            with PosteriorWriter(posterior / f"{i}.h5", x=X, draws=3, **more) as writer:
                ok = np.isfinite(draws[some]).all(axis=-1)
                writer.append(PosteriorSamples(draws[some], np.zeros(ok.shape), ok), np.arange(N)[some])
                writer.finish({"seconds": 2.0}, {"distance": {some.start: 1.0 + i}})
    index_posterior(json.dumps({"family": "a"}), [posterior / "0.h5", posterior / "1.h5"], posterior / "a.h5")
    return tmp_path / "results", x, y, draws


def test_an_ensemble_as_arrays(study):
    folder, x, y, _ = study
    with open_ensemble(folder / "data" / "test.h5") as ensemble:
        assert len(ensemble) == N
        np.testing.assert_array_equal(ensemble.x, x)
        np.testing.assert_array_equal(ensemble.y, y)
        np.testing.assert_array_equal(ensemble.weight, 1 + np.arange(N))
        np.testing.assert_array_equal(ensemble.event_id, np.arange(N))
        np.testing.assert_array_equal(ensemble.group, np.arange(N) // 2)
        np.testing.assert_array_equal(ensemble.read("y", 5, 9), y[5:9])
        assert ensemble.attrs["family"] == "a"
        assert ensemble.x_field.units == ("GeV", "rad")
        assert repr(ensemble).endswith("12 events, y (4,), x (2,)>")
        found = ensemble.to_xarray()
    # What the netCDF library makes of the same file.
    with xarray.open_dataset(folder / "data" / "test.h5", engine="h5netcdf") as wanted:
        for name in ("x", "y", "weight", "group", "event_id", "time", "x_feature", "x_units"):
            np.testing.assert_array_equal(found[name], wanted[name])
            assert found[name].dims == wanted[name].dims
    assert found["y"].attrs["units"] == "Pa"
    assert found["time"].attrs["units"] == "s"
    assert found["x"].sel(x_feature="phi").shape == (N,)


def test_a_posterior_as_arrays_and_its_truth(study, monkeypatch):
    folder, x, _, draws = study
    with open_posterior(folder / "posterior" / "a.h5") as posterior:
        np.testing.assert_array_equal(posterior.x, draws[:8])
        assert posterior.ok.dtype == bool
        assert np.argwhere(~posterior.ok).tolist() == [[2, 1]]
        assert (posterior.log_weight == 0).all()
        assert posterior.cost["seconds"] == 4.0
        assert posterior.diagnostics == {"distance": 1.5}
        np.testing.assert_array_equal(posterior.truth(), x[:8])
        assert posterior.to_xarray()["x"].dims == ("event", "draw", "x_feature")
        # From another working directory it lies beside the results.
        monkeypatch.chdir("/")
        np.testing.assert_array_equal(posterior.truth(), x[:8])


def test_a_missing_shard_and_an_ensemble_that_changed_are_refused(study):
    folder, x, y, _ = study
    posterior = open_posterior(folder / "posterior" / "a.h5")
    shard = folder / "data" / "1.h5"
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(StoreError, match="there is no such file"):
        open_ensemble(folder / "data" / "test.h5")
    shard.write_bytes(content[:-100])
    with pytest.raises(StoreError, match="truncated or changed"):
        posterior.truth()
    with EnsembleWriter(folder / "data" / "test.h5", x=X, y=Y, spec="{}") as writer:
        writer.append(y, np.arange(N), x=x + 1)
    with pytest.raises(StoreError, match="answers other observations"):
        posterior.truth()
    (folder / "data" / "test.h5").unlink()
    with pytest.raises(StoreError, match=r"its observations, .* are not there"):
        posterior.truth()
    with pytest.raises(StoreError, match="found a file of kind"):
        open_ensemble(folder / "posterior" / "a.h5")
