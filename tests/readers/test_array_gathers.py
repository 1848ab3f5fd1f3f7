"""Arrays as shot gathers and velocity models: what files say of them, and what they look like without."""

import logging
import re
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from arrayfiles import ensemble, job, refused, told

from pullback.core.optional import MissingExtraError
from pullback.problems.fwi import Fwi
from pullback.problems.read import read
from pullback.readers.array_description import describe, inspected
from pullback.simulators.wave_settings import FwiSimulator

SQUARE = {"depth_cells": 8, "offset_cells": 8, "sources": 2, "receivers": 4, "record_length": 0.08}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rock(n=4, seed=0):
    """Layered models (n, 8, 8), and gathers of their shape alone."""
    rng = np.random.default_rng(seed)
    problem = Fwi(FwiSimulator(**SQUARE))
    x = np.linspace(1600, 4000, 8)[:, None] + rng.uniform(-50, 50, (n, 8, 8))
    return rng.normal(size=(n, *problem.y.shape)).astype(np.float32), x.astype(np.float32)


def gathers(y, x):
    problem = Fwi(FwiSimulator(**SQUARE))
    data = xr.Dataset({"y": (("event", *problem.y.dims), y), "x": (("event", *problem.x.dims), x, {"units": "m/s"})})
    coordinates = (problem.x.coordinates | problem.y.coordinates).items()
    return data.assign_coords({name: (name, each.values, {"units": each.units}) for name, each in coordinates})


def in_units(d, name, factor, units):
    if name in d.coords:
        return d.assign_coords({name: (name, d[name].values * factor, {"units": units})})
    return d.assign({name: (d[name] * factor).assign_attrs(units=units)})


def seismic(d):
    return d.rename(x="vp", y="shots").rename(depth="z", offset="x", receiver="trace", source="shot")


def axes_said(d, attribute, *values):
    """Axes i and j, and what they are in an attribute of a coordinate of any name."""
    named = d.rename_dims(depth="i", offset="j").reset_index(["depth", "offset"])
    named = named.rename(depth="below", offset="along")
    for name, value in zip(("below", "along"), values, strict=True):
        named[name].attrs[attribute] = value
    return named.isel(i=slice(None, None, -1))


NAMES = {"variables": {"x": "vp", "y": "shots"}}
TOP = r"1\d{3} m/s at the top, [34]\d{3} at the bottom; 140 m x 140 m"


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda d: in_units(d, "x", 1e-3, "km/s"), {}, "x converted from km/s to m/s; " + TOP),
        (lambda d: in_units(d, "x", 3.28084, "ft/s"), {}, "x converted from ft/s to m/s; " + TOP),
        (lambda d: in_units(d, "depth", 1e-3, "km"), {}, "depth converted from km to m"),
        (lambda d: in_units(d, "time", 1e3, "ms"), {}, "time converted from ms to s"),
        (lambda d: d.isel(depth=slice(None, None, -1)), {}, "depth, from 140 to 0 m in the file, put in the order"),
        (
            lambda d: in_units(d.rename(depth="elevation"), "elevation", -1, "m"),
            {},
            "elevation counted downwards; " + TOP,
        ),
        (seismic, NAMES, "z is depth; x is offset"),
        (seismic, {**NAMES, "dimensions": {"depth": "z", "offset": "x"}}, "z is depth; x is offset"),
        (lambda d: in_units(d, "y", 1, "Pa"), {}, "y in Pa taken as it is"),
        (lambda d: d.transpose(), {}, TOP),
        (
            lambda d: (
                d.rename_dims(depth="nz", offset="nx").reset_index(["depth", "offset"]).isel(nz=slice(None, None, -1))
            ),
            {},
            "nz is depth; nx is offset; depth, from 140 to 0 m in the file",
        ),
        (lambda d: d.drop_vars(["depth", "offset"]), {}, TOP),
        (lambda d: d.assign(x=(d.x / 1000).drop_attrs().assign_attrs(Unit="[km/s]")), {}, "x converted from .km/s. to"),
        (lambda d: in_units(d, "time", 1e3, "milliseconds since 2020-01-01 00:00:00"), {}, "time converted from milli"),
        (lambda d: in_units(d, "depth", -1, "m"), {}, "depth counted downwards; " + TOP),
        (
            lambda d: d.assign_coords(depth=("depth", -d.depth.values, {"units": "m", "positive": "UP "})),
            {},
            "depth counted downwards; " + TOP,
        ),
        (lambda d: axes_said(d, "axis", "Z", "X"), {}, "i is depth; j is offset; below, from 140 to 0 m"),
        (lambda d: axes_said(d, "standard_name", "depth", "distance"), {}, "i is depth; j is offset; below, from 140"),
        (
            lambda d: d.drop_vars(["depth", "offset"]).rename(event="model", depth="z", offset="x", source="ns"),
            {},
            "model is event; ns is source; z is depth; x is offset; " + TOP,
        ),
    ],
)
def test_gathers_and_models_by_what_is_said_of_them(change, options, words):
    y, x = rock()
    change(gathers(y, x)).to_netcdf("a.nc", engine="h5netcdf")
    text = job(simulator=SQUARE, **options)
    said = told(text, "a.nc")
    assert re.search(words, said), said
    read(text, ["a.nc"], [], "a.h5")
    found = ensemble("a.h5")
    np.testing.assert_allclose(found["x"], x, rtol=1e-6)
    np.testing.assert_array_equal(found["y"], y)


def test_netcdf_3_is_read_like_netcdf_4(monkeypatch):
    y, x = rock()
    in_units(seismic(gathers(y, x)), "vp", 1e-3, "km/s").to_netcdf("a.nc", engine="scipy")
    read(job(simulator=SQUARE, **NAMES), ["a.nc"], [], "a.h5")
    np.testing.assert_allclose(ensemble("a.h5")["x"], x, rtol=1e-6)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'scipy'.*pip install 'pullback\[learn\]'"):
        read(job(simulator=SQUARE, **NAMES), ["a.nc"], [], "b.h5")


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (
            lambda d: d.assign(x=d.x.assign_attrs(units="km/s")),
            {},
            r"velocities from 1\.\d+e\+06 .* the attribute units is km/s, and the values look like m/s: correct",
        ),
        (
            lambda d: in_units(d, "x", 1, "m s-1").assign(x=lambda e: (e.x - 200).assign_attrs(units="m s-1")),
            {},
            r"velocities from 1\d{3}\.\d+ .* wanted 1500 to 4500: widen velocity_min",
        ),
        (lambda d: d, {"units": "km/s"}, r"x is in m/s by the file, and read\.units says km/s"),
        (lambda d: d.assign(x=d.x.assign_attrs(units="kg m-3")), {}, r"x is in kg m-3, wanted m/s: .*same quantity"),
        (
            lambda d: d,
            {"dimensions": {"depth": "offset", "offset": "depth"}},
            r"says that offset is depth, and in the fi",
        ),
        (
            seismic,
            {**NAMES, "dimensions": {"depth": "x", "offset": "z"}},
            r"vp: `read\.dimensions` says that x is depth, and in the file it is offset: correct the key",
        ),
        (
            lambda d: d.rename(offset="n").assign_coords(n=("n", d.offset.values, {"standard_name": "distance"})),
            {"dimensions": {"depth": "n", "offset": "depth"}},
            r"says that n is depth, and in the file it is offset",
        ),
        (
            lambda d: d.assign_coords(time=("time", d.time.values - 0.01, {"units": "s"})),
            {},
            r"all lie -0\.01 s off: count them from where the problem does",
        ),
        (
            lambda d: d.rename(depth="elevation").assign_coords(elevation=("elevation", 900 - d.depth.values)),
            {},
            r"all lie -900 m off",
        ),
        (
            lambda d: d.assign_coords(depth=("depth", -d.depth.values, {"units": "m", "positive": "down"})),
            {},
            r"depth has 8 values from -0 to -140 m",
        ),
        (lambda d: d.assign(x=1 / d.x), {}, "look like a slowness in s/m: give its inverse"),
        (lambda d: d.assign(y=d.y.where(d.receiver > 50, -9999)), {}, "y of event 0 is a placeholder: repair it"),
        (lambda d: d.assign(y=d.y.where(d.receiver > 50, np.float32(9.96921e36))), {}, "y of event 0 is a placeholder"),
        (seismic, {}, r"has shots, vp, wanted 'y': name the variable in read\.variables: {y: shots}"),
    ],
)
def test_what_contradicts_itself_is_refused(change, options, words):
    change(gathers(*rock())).to_netcdf("a.nc", engine="h5netcdf")
    refused(words, job(simulator=SQUARE, **options), "a.nc")


ON_ITS_SIDE = "x of shape (4, 8, 8) was taken as (event, depth, offset), and its layers stand upright"


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda x: x[:, None], {}, ""),
        (lambda x: x.astype(">f8"), {}, ""),
        (np.asfortranarray, {}, ""),
        (lambda x: x.round().astype(np.int32), {}, ""),
        (lambda x: x / 1000, {"units": "km/s"}, ""),
        (lambda x: x.transpose(0, 2, 1), {}, ON_ITS_SIDE),
        (lambda x: x.transpose(0, 2, 1), {"axes": {"x": ["event", "offset", "depth"]}}, ""),
        (lambda x: x.transpose(2, 1, 0), {"axes": {"x": ["offset", "depth", "event"]}}, ""),
    ],
)
def test_models_without_names(caplog, change, options, words):
    y, x = rock()
    np.save("y.npy", y), np.save("x.npy", change(x))
    with caplog.at_level(logging.WARNING):
        read(job("numpy", SQUARE, **options), ["y.npy"], ["x.npy"], "a.h5")
    assert words in caplog.text
    assert bool(words) == bool(caplog.text)
    wanted = x.transpose(0, 2, 1) if words else x
    np.testing.assert_allclose(ensemble("a.h5")["x"], wanted, atol=0.51)
    # One event.
    np.save("y.npy", y[0]), np.save("x.npy", x[0])
    read(job("numpy", SQUARE), ["y.npy"], ["x.npy"], "b.h5")
    np.testing.assert_array_equal(ensemble("b.h5")["x"], x[:1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda y, x: (y, (x - 1500) / 3000),
            r"look normalised to 0\.\.1: undo it .*v = v_min \+ \(v_max - v_min\) value",
        ),
        (
            lambda y, x: (y, (x - 1500) / 1500 - 1),
            r"look normalised to -1\.\.1: .*\(value \+ 1\) / 2, OpenFWI's 1500 and 4500",
        ),
        (lambda y, x: (y, (x - x.mean()) / x.std()), r"rock has no such velocities in any unit: undo a normalisation"),
        (lambda y, x: (y, x / 1000), r"these look like km/s: say read\.units: km/s"),
        (
            lambda y, x: (y.transpose(0, 2, 1, 3), x),
            r"the axes fit as \(event, time, source, receiver\).*read\.axes: {y: \[",
        ),
        (lambda y, x: (y.reshape(4, -1), x), r"y\.npy: y of shape \(4, 40\), wanted \(event, 2, 5, 4\)"),
        (lambda y, x: (y, x.astype("U6")), r"x\.npy: it holds texts \(<U6\), wanted real numbers"),
        (lambda y, x: (y, x.astype(object)), r"x\.npy: it holds objects"),
        (lambda y, x: (y, np.rec.fromarrays([x], names="v")), r"it holds records"),
        (lambda y, x: (y, np.where(x > 3990, np.nan, x)), r"x\.npy: x of event \d is not finite at \(7, \d\)"),
    ],
)
def test_models_that_cannot_be_taken(change, words):
    y, x = change(*rock())
    np.save("y.npy", y), np.save("x.npy", x)
    refused(words, job("numpy", SQUARE), "y.npy", ["x.npy"])


def test_names_of_dimensions_need_some():
    y, x = rock()
    np.savez("a.npz", x=x, y=y)
    refused(
        r"x has no dimension 'z'; nothing .*: say read\.axes", job("numpy", SQUARE, dimensions={"depth": "z"}), "a.npz"
    )


def test_one_source_needs_no_dimension():
    simulator = {**SQUARE, "sources": [80.0]}
    y, x = rock()
    np.savez("a.npz", x=x, y=y[:, 0])
    read(job("numpy", simulator), ["a.npz"], [], "a.h5")
    np.testing.assert_array_equal(ensemble("a.h5")["y"], y[:, :1])
    gathers(y, x).isel(source=0, drop=True).to_netcdf("a.nc", engine="h5netcdf")
    read(job("netcdf", simulator), ["a.nc"], [], "b.h5")
    np.testing.assert_array_equal(ensemble("b.h5")["y"], y[:, :1])


def test_a_description_and_what_would_read_it():
    y, x = rock(3)
    seismic(in_units(gathers(y, x), "x", 1e-3, "km/s")).rename(trace="station").to_netcdf("a.nc", engine="h5netcdf")
    found = describe("a.nc")
    assert found["format"] == "HDF5"
    assert (
        found["variables"]["vp"].items() >= {"dims": ["event", "z", "x"], "shape": [3, 8, 8], "units": "km/s"}.items()
    )
    assert found["variables"]["vp"]["range"] == pytest.approx([x.min() / 1000, x.max() / 1000])
    assert found["variables"]["vp"]["coordinates"]["z"] == {"count": 8, "from": 0.0, "to": 140.0, "units": "m"}
    assert inspected(Path("a.nc")).read == {
        "kind": "netcdf",
        "files": {"test": ["a.nc"]},
        "variables": {"x": "vp", "y": "shots"},
    }
    lines = dict(inspected(Path("a.nc")).lines)
    assert lines["shots"].startswith("(event 3, shot 2, time 5, station 4), float32, from ")
    assert lines["  z"] == "8 values from 0 to 140 m"
    assert [image.shape for image in inspected(Path("a.nc")).plots.values()] == [(5, 4), (8, 8)]


@pytest.mark.parametrize(
    ("arrays", "wanted"),
    [
        (lambda y, x: {"m": x / 1000, "d": y}, {"variables": {"x": "m", "y": "d"}, "units": "km/s"}),
        (lambda y, x: {"x": x, "y": y}, {}),
        (lambda y, x: {"a": x, "b": y, "n": np.arange(4)}, {"variables": {"x": "a", "y": "b"}}),
        (lambda y, x: {"b": y}, {"variables": {"y": "b"}}),
        (lambda y, x: {"vp": x, "w": y}, {"variables": {"x": "vp", "y": "w"}}),
    ],
)
def test_the_block_to_paste(arrays, wanted):
    """It is what reads the file."""
    y, x = rock()
    np.savez("a.npz", **arrays(y, x))
    block = inspected(Path("a.npz")).read
    assert block == {"kind": "numpy", "files": {"test": ["a.npz"]}, **wanted}
    keys = {key: value for key, value in block.items() if key not in ("kind", "files")}
    truth = len(arrays(y, x)) > 1
    read(job("numpy", SQUARE, truth=truth, **keys), ["a.npz"], [], "a.h5")
    np.testing.assert_array_equal(ensemble("a.h5")["y"], y)
    if truth:
        np.testing.assert_allclose(ensemble("a.h5")["x"], x, rtol=1e-6)


def test_no_block_where_none_follows():
    np.save("x.npy", rock()[1])
    assert inspected(Path("x.npy")).read is None
    assert inspected(Path("x.npy")).hint.startswith("models without observations: name the file under `models`")
    np.save("x.npy", rock()[1] / 1000)
    assert inspected(Path("x.npy")).hint.startswith("models without observations"), "in km/s"
    np.savez("x.npz", vp=rock()[1][0], rho=rock()[1][0] / 2)
    assert inspected(Path("x.npz")).hint.startswith("models without observations"), "a density is no gather"
    np.save("v.npy", 30 + rock()[1][0, :, :3])
    assert inspected(Path("v.npy")).read == {"kind": "numpy", "files": {"test": ["v.npy"]}}, "vectors"
    np.save("y.npy", np.zeros((2, 5, 1000, 70), np.float32))
    assert inspected(Path("y.npy")).read == {"kind": "openfwi", "files": {"test": ["y.npy"]}}
    np.savez("t.npz", names=np.array(["a"]))
    assert inspected(Path("t.npz")).hint.startswith("the file has no numbers")


def test_coordinates_beside_arrays_without_names():
    """As .npz and plain HDF5 have them: depth, t, of the length of an axis."""
    y, x = rock()
    coordinates = Fwi(FwiSimulator(**SQUARE)).x.coordinates | Fwi(FwiSimulator(**SQUARE)).y.coordinates
    beside = {
        "z": coordinates["depth"].values[::-1],
        "t": coordinates["time"].values,
        "dt": 0.01,
        "sample": np.arange(4),
    }
    np.savez("a.npz", x=x[:, ::-1], y=y, **beside)
    with h5py.File("a.h5", "w") as file:
        file.update({"x": x[:, ::-1], "y": y, **beside})
    for kind, path in (("numpy", "a.npz"), ("netcdf", "a.h5")):
        assert "z, from 140 to 0 m in the file, put in the order" in told(job(kind, SQUARE), path)
        read(job(kind, SQUARE), [path], [], f"{kind}.h5")
        np.testing.assert_array_equal(ensemble(f"{kind}.h5")["x"], x)
    np.savez("b.npz", x=x, y=y, t=coordinates["time"].values / 2)
    refused("y: time has 5 values from 0.008 to 0.04 s, this problem's 5 values", job("numpy", SQUARE), "b.npz")


def test_some_axes_with_scales():
    y, x = rock()
    with h5py.File("a.h5", "w") as file:
        file.update({"x": x, "y": y, "z": np.arange(8) * 20.0})
        file["z"].make_scale("depth")
        file["x"].dims[1].attach_scale(file["z"])
    refused(
        "have HDF5 scales and others none .*: attach scales to all its axes, or to none", job(simulator=SQUARE), "a.h5"
    )
