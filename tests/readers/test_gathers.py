"""Outside gathers and models as ensembles of a wave problem: self-made files, and OpenFWI's own where they are."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from pullback.ensembles.store import EnsembleReader
from pullback.problems.fwi import Fwi
from pullback.problems.read import read
from pullback.readers import gathers
from pullback.readers.base import ReadError
from pullback.simulators.wave_settings import FwiSimulator

DATA = Path(os.environ.get("PULLBACK_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data") / "fwi"
SMALL = {"depth_cells": 8, "offset_cells": 9, "sources": 2, "receivers": 4, "record_length": 0.08}
OPENFWI = {"preset": "openfwi"}


def job(kind, truth=True, simulator=SMALL, first_file=0, **read):
    return json.dumps(
        {
            "problem": "waves",
            "kind": "fwi",
            "simulator": simulator,
            "family": "f",
            "split": "test",
            "read": {"kind": kind, **read},
            "first_file": first_file,
            "truth": truth,
        }
    )


def load(path):
    with EnsembleReader(path) as reader:
        return {name: reader.read(name) for name in reader.columns} | {"attributes": reader.attributes}


def pairs(n, simulator=SMALL, seed=0):
    rng, problem = np.random.default_rng(seed), Fwi(FwiSimulator(**simulator))
    y = rng.normal(size=(n, *problem.y.shape)).astype(np.float32)
    return y, rng.uniform(1500, 4500, (n, *problem.x.shape)).astype(np.float32)


def dataset(y, x):
    problem = Fwi(FwiSimulator(**SMALL))
    found = xr.Dataset({"y": (("event", *problem.y.dims), y), "x": (("event", *problem.x.dims), x, {"units": "m/s"})})
    for field in (problem.x, problem.y):
        for name, coordinate in field.coordinates.items():
            found = found.assign_coords({name: (name, coordinate.values, {"units": coordinate.units})})
    return found


def netcdf(path, data):
    data.to_netcdf(path, engine="h5netcdf")
    return path


# OpenFWI


@pytest.fixture
def openfwi(tmp_path):
    """Two files as OpenFWI's are, of 3 and 2 events."""
    files, models = [], []
    for number, n in enumerate((3, 2), start=1):
        y, x = pairs(n, OPENFWI, seed=number)
        for kind, values, paths in (("data", y, files), ("model", x[:, None], models)):
            paths.append(tmp_path / f"{kind}{number}.npy")
            np.save(paths[-1], values)
    return files, models


def test_openfwi_files_become_events(tmp_path, openfwi):
    files, models = openfwi
    read(job("openfwi", simulator=OPENFWI, first_file=60), files, models, tmp_path / "a.h5")
    found = load(tmp_path / "a.h5")
    np.testing.assert_array_equal(found["y"], np.concatenate([np.load(file) for file in files]))
    np.testing.assert_array_equal(found["x"], np.concatenate([np.load(file)[:, 0] for file in models]))
    assert found["source_file"].tolist() == [0, 0, 0, 1, 1]
    assert found["source_entry"].tolist() == [0, 1, 2, 0, 1]
    assert found["event_id"].tolist() == [60 * 2**32, 60 * 2**32 + 1, 60 * 2**32 + 2, 61 * 2**32, 61 * 2**32 + 1]
    assert found["group"].tolist() == found["event_id"].tolist()
    assert found["attributes"]["source_files"] == '["data1.npy", "data2.npy"]'
    with xr.open_dataset(tmp_path / "a.h5") as data:
        assert data["y"].dims == ("event", "source", "time", "receiver")
        assert data["x"].attrs["units"] == "m/s"
        assert data["time"].values[[0, -1]] == pytest.approx([0.001, 1.0])


def test_of_an_observed_family_no_truth_is_read(tmp_path, openfwi):
    files, _ = openfwi
    read(job("openfwi", truth=False, simulator=OPENFWI), files, [], tmp_path / "a.h5")
    assert "x" not in load(tmp_path / "a.h5")


def test_the_record_of_openfwi(tmp_path):
    """What nobody here made is simulated again from its own model."""
    y, x = DATA / "openfwi_curvefault_data.npy", DATA / "openfwi_curvefault_velocity.npy"
    if not (y.exists() and x.exists()):
        pytest.skip(f"the OpenFWI record is not in {DATA} (set PULLBACK_DATA)")
    pytest.importorskip("devito")
    read(job("openfwi", simulator=OPENFWI), [y], [x], tmp_path / "a.h5")
    found = load(tmp_path / "a.h5")
    again, ok = Fwi(FwiSimulator(preset="openfwi")).apply(found["x"])
    assert ok.all()
    assert np.linalg.norm(again - found["y"]) < 1e-3 * np.linalg.norm(found["y"])


def kilometres(y, x):
    return y, x / 1000


def spoilt(y, x):
    y = y.copy()
    y[1, 2, 3, 4] = np.nan
    return y, x


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y, x: (y[:, :4], x), r"data.npy: y of shape \(3, 4, 1000, 70\), wanted \(event, 5, 1000, 70\)"),
        (lambda y, x: (y[:, :, :500], x), r"shape \(3, 5, 500, 70\), wanted \(event, 5, 1000, 70\)"),
        (lambda y, x: (y.astype(complex), x), r"it holds complex numbers \(complex128\), wanted real numbers"),
        (lambda y, x: (y, x[:, :, :64]), r"model.npy: x of shape \(3, 1, 64, 70\), wanted \(event, 70, 70\)"),
        (lambda y, x: (y, x[:2]), r"x has 2 events, and y 3 in .*give the files of the same events"),
        (lambda y, x: (x, y), r"data.npy: y of shape \(3, 1, 70, 70\), wanted \(event, 5, 1000, 70\)"),
        (spoilt, r"data.npy: y of event 1 is not finite at \(2, 3, 4\): repair it"),
        (lambda y, x: (y, np.where(x > 4000, np.inf, x)), r"model.npy: x of event 0 is not finite"),
        (kilometres, r"velocities from 1\.5\d* to 4\.\d+ m/s in events 0 to 2, wanted 1500 to 4500: .*units: km/s"),
        (lambda y, x: (y, x + 600), r"wanted 1500 to 4500: widen velocity_min and velocity_max"),
    ],
)
def test_bad_openfwi_files(tmp_path, change, words):
    y, x = pairs(3, OPENFWI)
    y, x = change(y, x[:, None])
    np.save(tmp_path / "data.npy", y)
    np.save(tmp_path / "model.npy", x)
    refused(tmp_path, words, job("openfwi", simulator=OPENFWI), [tmp_path / "data.npy"], [tmp_path / "model.npy"])


def refused(folder, words, text, files, models=()):
    with pytest.raises(ReadError, match=words) as caught:
        read(text, files, list(models), folder / "out" / "bad.h5")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not list((folder / "out").iterdir())


@pytest.mark.parametrize(
    ("simulator", "words"),
    [
        (SMALL, r"OpenFWI's source has 5 values from 0 to 690 m, this problem's 2 values .*preset: openfwi"),
        ({**OPENFWI, "record_length": 2.0, "time_step": 0.001, "output_interval": 0.002}, r"time has 1000 .* to 1 s"),
        ({**OPENFWI, "spacing": 20.0}, r"source has 5 values from 0 to 690 m, this problem's 5 values from 0 to 1380"),
        ({**OPENFWI, "source_depth": 20.0}, r"OpenFWI's sources lie 10 m deep, this problem's 20 to 20 m: give the"),
        ({**OPENFWI, "receiver_depth": 30.0}, r"OpenFWI's receivers lie 10 m deep, this problem's 30 to 30 m"),
        ({**OPENFWI, "x_cells": [35, 35]}, r"depth has 70 values from 0 to 690 m, this problem's 35 values"),
    ],
)
def test_openfwi_fits_its_preset_alone(tmp_path, openfwi, simulator, words):
    files, models = openfwi
    refused(tmp_path, words, job("openfwi", simulator=simulator), files, models)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, ""),
        ({"peak_frequency": 12.0}, "a Ricker of 15 Hz, this problem's another one, with its peak at 12 Hz"),
        ({"free_surface": True}, "OpenFWI's data have no free surface"),
    ],
)
def test_other_physics_than_openfwi_is_told(tmp_path, openfwi, caplog, change, says):
    files, models = openfwi
    read(job("openfwi", simulator=OPENFWI | change), files[:1], models[:1], tmp_path / "a.h5")
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == bool(says)
    assert says in "".join(told)


@pytest.mark.parametrize("kept", [0, 50, 5000, "npz"])
def test_truncated_and_foreign_npy(tmp_path, openfwi, kept):
    files, models = openfwi
    if kept == "npz":
        with files[0].open("wb") as file:
            np.savez(file, y=np.zeros(3))
    else:
        files[0].write_bytes(files[0].read_bytes()[:kept])
    refused(tmp_path, r"data1\.npy: cannot be read as \.npy", job("openfwi", simulator=OPENFWI), files, models)


def test_a_pickle_is_not_opened(tmp_path, openfwi):
    _, models = openfwi
    np.save(tmp_path / "p.npy", np.array([{}], dtype=object))
    refused(tmp_path, "p.npy: it holds objects", job("openfwi", simulator=OPENFWI), [tmp_path / "p.npy"], models[:1])


# netCDF and HDF5


def test_netcdf_is_read_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(gathers, "BLOCK_BYTES", 2000)
    y, x = pairs(9)
    data = dataset(y, x)
    read(job("netcdf"), [netcdf(tmp_path / "a.nc", data)], [], tmp_path / "a.h5")
    found = load(tmp_path / "a.h5")
    np.testing.assert_array_equal(found["y"], y)
    np.testing.assert_array_equal(found["x"], x)
    assert found["source_entry"].tolist() == list(range(9))
    turned = data.transpose("receiver", "event", "offset", "time", "depth", "source")
    read(job("netcdf"), [netcdf(tmp_path / "b.nc", turned)], [], tmp_path / "b.h5")
    np.testing.assert_array_equal(load(tmp_path / "b.h5")["y"], y)
    np.testing.assert_array_equal(load(tmp_path / "b.h5")["x"], x)


def test_other_spellings_of_units(tmp_path):
    y, x = pairs(3)
    data = dataset(y, x)
    data["time"].attrs["units"], data["depth"].attrs["units"], data["x"].attrs["units"] = "seconds", "metres", "m s-1"
    read(job("netcdf"), [netcdf(tmp_path / "a.nc", data)], [], tmp_path / "a.h5")
    np.testing.assert_array_equal(load(tmp_path / "a.h5")["x"], x)


def test_hdf5_without_names_of_dimensions(tmp_path):
    y, x = pairs(3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y"], file["x"] = y, x / 1000
    read(job("netcdf", units="km/s"), [tmp_path / "a.h5"], [], tmp_path / "out.h5")
    found = load(tmp_path / "out.h5")
    np.testing.assert_array_equal(found["y"], y)
    np.testing.assert_allclose(found["x"], x, rtol=1e-6)


def test_an_ensemble_of_ours_is_such_a_file(tmp_path):
    y, x = pairs(3)
    read(job("netcdf"), [netcdf(tmp_path / "a.nc", dataset(y, x))], [], tmp_path / "a.h5")
    read(job("netcdf"), [tmp_path / "a.h5"], [], tmp_path / "b.h5")
    np.testing.assert_array_equal(load(tmp_path / "b.h5")["x"], x)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.drop_vars("x"), r"has y, wanted 'x'"),
        (
            lambda d: d.rename(receiver="station"),
            r"y is \(event, source, time, station\), wanted \(event, source, time",
        ),
        (
            lambda d: d.isel(receiver=slice(3)),
            r"y: events of shape \(2, 5, 3\), wanted \(2, 5, 4\) \(source x time x",
        ),
        (lambda d: d.isel(depth=slice(1, None)), r"x: events of shape \(7, 9\), wanted \(8, 9\)"),
        (
            lambda d: d.assign_coords(time=d.time / 2),
            r"time has 5 values from 0\.008 to 0\.04 s, this problem's 5 values",
        ),
        (lambda d: d.assign_coords(receiver=d.receiver + 20), r"receiver has 4 values from 20 to 180 m"),
        (lambda d: d.assign_coords(time=("time", d.time.values, {"units": "Hz"})), r"time is in Hz, wanted s"),
        (lambda d: d.assign(x=d.x.assign_attrs(units="kg/m3")), r"x is in kg/m3, wanted m/s"),
        (lambda d: d.assign(x=(d.x / 1000).drop_attrs()), r"say read\.units: km/s"),
        (lambda d: d.assign(y=d.y.where(d.event != 2)), r"y of event 2 is not finite at \(0, 0, 0\)"),
    ],
)
def test_bad_netcdf(tmp_path, change, words):
    path = netcdf(tmp_path / "a.nc", change(dataset(*pairs(3)).assign_coords(event=np.arange(3))))
    refused(tmp_path, words, job("netcdf"), [path])


def test_what_is_no_netcdf(tmp_path):
    path = netcdf(tmp_path / "a.nc", dataset(*pairs(3)))
    path.write_bytes(path.read_bytes()[:2000])
    refused(tmp_path, "cannot be read as netCDF or HDF5", job("netcdf"), [path])
    refused(tmp_path, "cannot be read as netCDF or HDF5", job("netcdf"), [tmp_path / "none.nc"])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        y, x = pairs(3)
        file["y"], file["x"] = y, x[:2]
    refused(tmp_path, "x has 2 events, and y 3: wanted one x for each y", job("netcdf"), [tmp_path / "b.h5"])


# SEG-Y


def test_segy_files_are_events(tmp_path):
    from pullback.readers.section import Section
    from pullback.report import segy

    problem = Fwi(FwiSimulator(**SMALL))
    y, x = pairs(3)
    files, models = ([tmp_path / f"{name}{i}.segy" for i in range(3)] for name in ("shots", "model"))
    for i in range(3):
        segy.write_gathers(files[i], y[i], problem.acquisition)
        segy.write_model(models[i], Section(x[i], (20.0, 20.0)))
    read(job("segy"), files, models, tmp_path / "a.h5")
    found = load(tmp_path / "a.h5")
    np.testing.assert_array_equal(found["y"], y)
    np.testing.assert_array_equal(found["x"], x)
    assert found["event_id"].tolist() == [0, 2**32, 2 * 2**32]
    segy.write_model(models[1], Section(x[1], (25.0, 20.0)))
    refused(tmp_path, r"the section's depth has 8 values from 0 to 175 m, this problem's", job("segy"), files, models)
    segy.write_model(models[1], Section(x[1, 1:], (20.0, 20.0)))
    refused(tmp_path, r"a section of shape \(7, 9\), wanted \(8, 9\) \(depth x offset\)", job("segy"), files, models)
    import segyfiles

    there = {"interval": 20_000, "scalar": 1, "cdp": 20 * np.arange(9) + 5000}
    segyfiles.write(models[1], x[1].T, **there)
    refused(tmp_path, r"the section's offset has 9 values from 5000 to 5160 m.*shift it", job("segy"), files, models)
    segy.write_model(models[1], Section(x[1] / 1000, (20.0, 20.0)))
    refused(tmp_path, r"in events 0 to 0, wanted 1500 to 4500: .*read\.units: km/s", job("segy"), files, models)
