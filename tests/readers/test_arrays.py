"""Arrays as pairs of any problem: an own class, an own command, waves; every format, by names, units and order."""

import json
import logging
import re
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from pullback.core.optional import MissingExtraError
from pullback.ensembles.store import EnsembleReader
from pullback.problems.base import problem_of
from pullback.problems.fwi import Fwi
from pullback.problems.read import read
from pullback.readers.array_description import describe, proposal
from pullback.readers.base import OutsideFile, ReadError
from pullback.simulators.wave_settings import FwiSimulator
from pullback.study import load_study
from pullback.study.job_params import Plan
from pullback.study.kinds import parse

OWN = """
import numpy as np

from pullback.problems import Field
from pullback.ensembles.fields import Coordinate


class Decay:
    def __init__(self):
        self.x = Field.vector("x", ["amplitude", "rate"], ["V", "1/s"], low=(0.0, 0.0), high=(10.0, 100.0))
        times = Coordinate(np.arange(5) * 0.5, "s")
        self.y = Field.array("y", ("time",), (5,), "V", coordinates={"time": times})

    def sample_prior(self, rng, n, params):
        return rng.uniform(1, 5, (n, 2))

    def apply(self, x):
        return x[:, :1] * np.exp(-x[:, 1:] * np.arange(5) * 0.5), np.ones(len(x), bool)
"""
COMMAND = {
    "prior": "true",
    "forward": "true",
    "x": {"features": ["amplitude", "rate"], "units": ["V", "1/s"]},
    "y": {"dims": ["time"], "shape": [5], "units": "V"},
}
SQUARE = {"depth_cells": 8, "offset_cells": 8, "sources": 2, "receivers": 4, "record_length": 0.08}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def decays(n=6):
    x = np.random.default_rng(0).uniform(1, 5, (n, 2))
    return x, x[:, :1] * np.exp(-x[:, 1:] * np.arange(5) * 0.5)


def labelled(x, y):
    return xr.Dataset(
        {"x": (("event", "x_feature"), x), "y": (("event", "time"), y, {"units": "V"})},
        {"x_feature": ["amplitude", "rate"], "time": ("time", np.arange(5) * 0.5, {"units": "s"})},
    )


def ensemble(path):
    with EnsembleReader(path) as found:
        return {name: found.read(name) for name in found.columns}


def studied(kind, simulator, **families):
    problem = {"kind": kind, "simulator": simulator, "families": families, "methods": {"cfm": {"kind": "cfm"}}}
    return {"config_version": 2, "study": "own", "problems": {"toy": problem}}


def split(path):
    spans = {"train": [0, 0.5], "validation": [0.5, 0.67], "test": [0.67, 1.0]}
    return {"files": {name: [path] for name in spans}, "entries": spans}


@pytest.mark.parametrize(("kind", "simulator"), [("./own.py:Decay", {}), ("command", COMMAND)])
def test_pairs_of_an_own_problem_are_seen_families(folder, kind, simulator):
    x, y = decays()
    np.savez("pairs.npz", truth=x, y=y)
    labelled(x, y).to_netcdf("pairs.nc", engine="h5netcdf")
    np.save("x.npy", x), np.save("y.npy", y)
    reads = {
        "npz": {"kind": "numpy", "variables": {"x": "truth"}, **split("pairs.npz")},
        "nc": {"kind": "netcdf", **split("pairs.nc")},
        "npy": {"kind": "numpy", **split("y.npy")}
        | {"models": {name: ["x.npy"] for name in ("train", "validation", "test")}},
    }
    families = {name: {"role": "seen", "read": block} for name, block in reads.items()}
    families["alone"] = {"role": "observed", "read": {"kind": "numpy", "files": {"test": ["y.npy"]}}}
    plan = Plan(load_study(studied(kind, simulator, **families), folder), folder)
    for name in reads:
        for which, rows in {"train": slice(0, 3), "validation": slice(3, 4), "test": slice(4, 6)}.items():
            files = plan.outside_files("toy", name, which, 0), plan.outside_models("toy", name, which, 0)
            read(plan.shard_job("toy", name, which, 0), *files, f"{name}-{which}.h5")
            found = ensemble(f"{name}-{which}.h5")
            np.testing.assert_array_equal(found["x"], x[rows].astype(np.float32))
            np.testing.assert_array_equal(found["y"], y[rows].astype(np.float32))
            assert found["source_entry"].tolist() == list(range(6))[rows]
    read(plan.shard_job("toy", "alone", "test", 0), ["y.npy"], [], "alone.h5")
    assert "x" not in ensemble("alone.h5")


def job(kind="netcdf", simulator=None, truth=True, **options):
    """A job of the own class, or of waves where a simulator is given."""
    problem = {"kind": "./own.py:Decay", "simulator": {}, "folder": "."}
    problem = problem if simulator is None else {"kind": "fwi", "simulator": simulator}
    names = {"problem": "toy", "family": "f", "split": "test", "first_file": 0, "truth": truth}
    return json.dumps({**problem, **names, "read": {"kind": kind, **options}})


def told(text, path, model=None):
    """The summary of a file, which `pullback check` prints."""
    task = json.loads(text)
    reader = parse("readers", {**task["read"], "files": {}})
    with reader.open(problem_of(task), OutsideFile(Path(path), model, has_truth=task["truth"])) as events:
        return events.summary


def millivolts(d):
    return d.assign(y=(d.y * 1000).assign_attrs(units="mV"))


def own_ensemble(d):
    """Units as this package lists them, and components in another order."""
    turned = d.isel(x_feature=[1, 0]).assign(x_units=("x_feature", ["1/ms", "mV"]))
    return turned.assign(x=(turned.x * [1e-3, 1e3]).assign_attrs(units="mixed"))


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda d: d, {}, "netcdf, 6 events"),
        (millivolts, {}, "y converted from mV to V"),
        (own_ensemble, {}, "components in the order of their names|amplitude converted from mV to V"),
        (lambda d: d.assign(y=d.y.drop_attrs() * 1000), {"units": {"y": "mV"}}, "y converted from mV to V"),
        (lambda d: d.assign(x=d.x * [1e3, 1]), {"units": {"x": {"amplitude": "mV"}}}, "amplitude converted from mV"),
        (lambda d: d.assign_coords(time=("time", d.time.values * 1e3, {"units": "ms"})), {}, "time converted from ms"),
        (lambda d: d.assign_coords(time=d.time.values * 1e3), {"units": {"time": "ms"}}, "time converted from ms to s"),
        (lambda d: d.assign_coords(time=np.arange(5)), {}, "time only counts, from 0"),
        (lambda d: d.isel(time=slice(None, None, -1)), {}, "time, from 2 to 0 s in the file, put in the order"),
        (lambda d: d.transpose("time", "x_feature", "event"), {}, "6 events"),
        (lambda d: d.rename(event="shot_number", time="t"), {}, "t is time; shot_number is event"),
        (lambda d: d.rename(time="k"), {"dimensions": {"time": "k"}}, "k is time"),
        (lambda d: d.rename(x="m", y="d"), {"variables": {"x": "m", "y": "d"}}, "6 events"),
        (lambda d: d.expand_dims("channel", axis=1), {}, "6 events"),
        (
            lambda d: d.assign(y=d.y.astype(">f8").assign_attrs(note=np.arange(3))),
            {},
            "6 events",
        ),
    ],
)
def test_what_a_file_says_is_used(folder, change, options, words):
    x, y = decays()
    change(labelled(x, y)).to_netcdf("a.nc", engine="h5netcdf")
    said = told(job(**options), "a.nc")
    assert all(word in said for word in words.split("|")), said
    read(job(**options), ["a.nc"], [], "a.h5")
    found = ensemble("a.h5")
    np.testing.assert_allclose(found["x"], x, rtol=1e-6)
    np.testing.assert_allclose(found["y"], y, rtol=1e-6, atol=1e-9)


def refused(words, text, path, models=()):
    with pytest.raises(ReadError, match=words) as caught:
        read(text, [path], models, "out/bad.h5")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (
            millivolts,
            {"units": {"y": "V"}},
            r"a\.hdf5: y is in mV by the file, and read\.units says V: leave the key out",
        ),
        (lambda d: d.assign(y=d.y.assign_attrs(units="m")), {}, r"y is in m, wanted V: .*correct the attribute units"),
        (lambda d: d.assign(y=d.y.drop_attrs()), {"units": {"y": "volz"}}, r"y: read\.units: 'volz' is no known unit"),
        (
            lambda d: d.assign(x=d.x * 1000),
            {},
            r"amplitude from .* wanted 0 to 10: these look like mV: say read\.units: ",
        ),
        (lambda d: d, {"units": {"x": {"rat": "Hz"}}}, r"x: read\.units names rat, .* allowed: amplitude, rate"),
        (
            lambda d: d,
            {"units": {"z": "Hz"}},
            r"read\.units names z, of which this problem has none; allowed: time, x, x_f",
        ),
        (lambda d: d, {"dimensions": {"tme": "t"}}, r"read\.dimensions names tme, .*allowed: event, time, x_feature"),
        (
            lambda d: d.rename(time="station"),
            {},
            r"y is \(event, station\), wanted .* say read\.dimensions: {time: station}",
        ),
        (
            lambda d: d.assign_coords(time=d.time / 2),
            {},
            r"y: time has 5 values from 0 to 1 s, this problem's 5 values",
        ),
        (lambda d: d.assign_coords(time=d.time.drop_attrs() * 1e3), {}, r"look like ms: say read\.units: {time: ms}"),
        (lambda d: d.assign_coords(x_feature=["amplitude", "b"]), {}, r"x has amplitude, b, wanted amplitude, rate"),
        (lambda d: d.isel(event=slice(0)), {}, r"'y' has shape \(0, 5\), wanted at least one event"),
        (lambda d: d.assign(y=d.y.astype("U3")), {}, r"'y' holds .*texts .*, wanted real numbers: write floats"),
        (lambda d: d.assign(y=d.y + 1j), {}, r"'y' holds complex numbers"),
        (lambda d: d.assign(y=d.y > 0), {}, r"'y' holds truth values"),
        (lambda d: d.rename(y="data"), {}, r"has data, x, wanted 'y': .*read\.variables: {y: data}"),
        (
            lambda d: d,
            {"axes": {"y": ["time", "event"]}},
            r"y is \(event, time\) by the file, which `read\.axes` contra",
        ),
        (
            lambda d: d.assign(y=d.y.where(d.event != 4)),
            {},
            r"y of event 4 is not finite at \(0,\): repair it, or leave",
        ),
    ],
)
def test_what_a_file_cannot_mean_is_one_line(folder, change, options, words):
    change(labelled(*decays()).assign_coords(event=np.arange(6))).to_netcdf(
        "a.hdf5", engine="h5netcdf", invalid_netcdf=True
    )
    refused(words, job(**options), "a.hdf5")


def test_groups_and_labels_of_hdf5(folder):
    x, y = decays()
    with h5py.File("a.h5", "w") as file:
        file["run/x"], file["run/y"] = x, y.T
        file["run/y"].dims[0].label, file["run/y"].dims[1].label = "time", "event"
    refused(r"has run/x, run/y, wanted 'y': name the variable in read\.variables: {y: run/y}", job(), "a.h5")
    read(job(variables={"x": "run/x", "y": "run/y"}), ["a.h5"], [], "b.h5")
    np.testing.assert_allclose(ensemble("b.h5")["y"], y, rtol=1e-6)


def test_missing_values_in_other_units(folder):
    """A number for a missing value is one in the units of the file."""
    x, y = decays(40)
    x = x * [1e3, 1]
    x[7, 0] = -99999
    np.savez("a.npz", x=x, y=y)
    units = {"x": {"amplitude": "mV"}}
    refused("x of event 7 is a placeholder", job("numpy", units=units), "a.npz")
    read(job("numpy", units=units, invalid="drop"), ["a.npz"], [], "a.h5")
    assert ensemble("a.h5")["source_entry"].tolist() == [i for i in range(40) if i != 7]


# Waves


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
        (lambda d: d.drop_vars(["depth", "offset"]), {}, TOP),
    ],
)
def test_gathers_and_models_by_what_is_said_of_them(folder, change, options, words):
    y, x = rock()
    change(gathers(y, x)).to_netcdf("a.nc", engine="h5netcdf")
    text = job(simulator=SQUARE, **options)
    said = told(text, "a.nc")
    assert re.search(words, said), said
    read(text, ["a.nc"], [], "a.h5")
    found = ensemble("a.h5")
    np.testing.assert_allclose(found["x"], x, rtol=1e-6)
    np.testing.assert_array_equal(found["y"], y)


def test_netcdf_3_is_read_like_netcdf_4(folder, monkeypatch):
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
        (seismic, {}, r"has shots, vp, wanted 'y': name the variable in read\.variables: {y: shots}"),
    ],
)
def test_what_contradicts_itself_is_refused(folder, change, options, words):
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
def test_models_without_names(folder, caplog, change, options, words):
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
        (lambda y, x: (y, x / 1000), r"these look like km/s: say read\.units: km/s"),
        (
            lambda y, x: (y.transpose(0, 2, 1, 3), x),
            r"the axes fit as \(event, time, source, receiver\).*read\.axes: {y: \[",
        ),
        (lambda y, x: (y.reshape(4, -1), x), r"y\.npy: y of shape \(4, 40\), wanted \(event, 2, 5, 4\)"),
        (lambda y, x: (y, x.astype("U6")), r"x\.npy: it holds texts \(<U6\), wanted real numbers"),
        (lambda y, x: (y, np.rec.fromarrays([x], names="v")), r"it holds records"),
        (lambda y, x: (y, np.where(x > 3990, np.nan, x)), r"x\.npy: x of event \d is not finite at \(7, \d\)"),
    ],
)
def test_models_that_cannot_be_taken(folder, change, words):
    y, x = change(*rock())
    np.save("y.npy", y), np.save("x.npy", x)
    refused(words, job("numpy", SQUARE), "y.npy", ["x.npy"])


def test_one_source_needs_no_dimension(folder):
    simulator = {**SQUARE, "sources": [80.0]}
    y, x = rock()
    np.savez("a.npz", x=x, y=y[:, 0])
    read(job("numpy", simulator), ["a.npz"], [], "a.h5")
    np.testing.assert_array_equal(ensemble("a.h5")["y"], y[:, :1])
    gathers(y, x).isel(source=0, drop=True).to_netcdf("a.nc", engine="h5netcdf")
    read(job("netcdf", simulator), ["a.nc"], [], "b.h5")
    np.testing.assert_array_equal(ensemble("b.h5")["y"], y[:, :1])


def test_a_description_and_what_would_read_it(folder):
    y, x = rock(3)
    problem = Fwi(FwiSimulator(**SQUARE))
    seismic(in_units(gathers(y, x), "x", 1e-3, "km/s")).rename(trace="station").to_netcdf("a.nc", engine="h5netcdf")
    found = describe("a.nc")
    assert found["format"] == "HDF5"
    assert (
        found["variables"]["vp"].items() >= {"dims": ["event", "z", "x"], "shape": [3, 8, 8], "units": "km/s"}.items()
    )
    assert found["variables"]["vp"]["range"] == pytest.approx([x.min() / 1000, x.max() / 1000])
    assert found["variables"]["vp"]["coordinates"]["z"] == {"count": 8, "from": 0.0, "to": 140.0, "units": "m"}
    block = proposal("a.nc", problem)
    assert block["variables"] == {"y": "shots", "x": "vp"}
    assert block["dimensions"] == {"receiver": "station"}
    np.savez("b.npz", m=x.transpose(0, 2, 1) / 1000, d=y.transpose(1, 2, 3, 0))
    assert proposal("b.npz", problem) == {
        "kind": "numpy",
        "files": {"test": ["b.npz"]},
        "variables": {"y": "d", "x": "m"},
        "axes": {"y": ["source", "time", "receiver", "event"]},
        "units": {"x": "km/s"},
    }
    for path in ("a.nc", "b.npz"):
        block = proposal(path, problem)
        read(job(block.pop("kind"), SQUARE, **{k: v for k, v in block.items() if k != "files"}), [path], [], "a.h5")
        np.testing.assert_array_equal(ensemble("a.h5")["y"], y)
    with pytest.raises(ReadError, match=r"nothing of the lengths of y \(2, 5, 4\)"):
        np.save("c.npy", np.zeros((3, 3)))
        proposal("c.npy", problem)
