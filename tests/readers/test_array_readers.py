"""Arrays as pairs of any problem: an own class and an own command, by names, units and order in the file."""

import h5py
import numpy as np
import pytest
import xarray as xr
from arrayfiles import OWN, ensemble, job, refused, told

from pullback.problems.read import read
from pullback.study import load_study
from pullback.study.job_params import Plan

COMMAND = {
    "prior": "true",
    "forward": "true",
    "x": {"features": ["amplitude", "rate"], "units": ["V", "1/s"]},
    "y": {"dims": ["time"], "shape": [5], "units": "V"},
}


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


def studied(kind, simulator, **families):
    problem = {"kind": kind, "simulator": simulator, "families": families, "methods": {"cfm": {"kind": "cfm"}}}
    return {"config_version": 2, "study": "own", "problems": {"toy": problem}}


def split(path):
    spans = {"train": [0, 0.5], "validation": [0.5, 0.67], "test": [0.67, 1.0]}
    return {"files": {name: [path] for name in spans}, "entries": spans}


@pytest.mark.parametrize(("kind", "simulator"), [("./own.py:Decay", {}), ("command", COMMAND)])
def test_pairs_of_an_own_problem_are_seen_families(folder, caplog, kind, simulator):
    caplog.set_level("INFO", "pullback")
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
    assert "y.npy: numpy, 2 events (entries 4 to 6 of 6)" in caplog.text
    read(plan.shard_job("toy", "alone", "test", 0), ["y.npy"], [], "alone.h5")
    assert "x" not in ensemble("alone.h5")


def millivolts(d):
    return d.assign(y=(d.y * 1000).assign_attrs(units="mV"))


def apart(d):
    """One variable for each component."""
    x = d.x.transpose("event", "x_feature").values
    found = d.drop_vars(["x", "x_feature"])
    return found.assign(amplitude=("event", x[:, 0] * 1e3, {"units": "mV"}), rate=("event", x[:, 1]))


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
        (apart, {}, "x is 'amplitude, rate'; amplitude converted from mV to V"),
        (
            lambda d: apart(d).rename(amplitude="a", rate="r"),
            {"variables": {"x": ["a", "r"]}},
            "netcdf, 6 events; amplitude converted from mV",
        ),
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
        (
            lambda d: d,
            {"dimensions": {"time": "t"}},
            r"y has no dimension 't'; it is \(event, time\): correct read\.dim",
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
        (
            lambda d: d.assign_coords(time=d.time.assign_attrs(units="ms")),
            {},
            r"time has 5 values from 0 to 0\.002 s, .*: the attribute units is ms, and the values look like s: correct",
        ),
        (lambda d: d.assign_coords(x_feature=["amplitude", "b"]), {}, r"x has amplitude, b, wanted amplitude, rate"),
        (lambda d: d.isel(event=slice(0)), {}, r"'y' has shape \(0, 5\), wanted at least one event"),
        (lambda d: d.assign(y=d.y.astype("U3")), {}, r"'y' holds .*texts .*, wanted real numbers: write floats"),
        (lambda d: d.assign(y=d.y + 1j), {}, r"'y' holds complex numbers"),
        (lambda d: d.assign(y=d.y > 0), {}, r"'y' holds truth values"),
        (apart, {"variables": {"x": ["amplitude"]}}, r"read\.variables names amplitude for x, wanted amplitude, rate"),
        (
            apart,
            {"variables": {"x": ["amplitude", "r"]}},
            r"has amplitude, rate, y, wanted 'r': correct read\.variables",
        ),
        (apart, {"variables": {"x": ["amplitude", "y"]}}, r"'y' has shape \(6, 5\), wanted one value for each event"),
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


def test_weights_and_groups(folder, caplog):
    x, y = decays()
    np.savez("a.npz", x=x, y=y, weight=np.arange(6), collision=np.arange(6) // 2, half=np.arange(6) / 2)
    read(job("numpy", weight="weight", group="collision"), ["a.npz"], [], "a.h5")
    assert ensemble("a.h5")["weight"].tolist() == [0, 1, 2, 3, 4, 5]
    assert ensemble("a.h5")["group"].tolist() == [0, 0, 1, 1, 2, 2]
    assert not caplog.text
    refused(
        r"a\.npz: has collision, half, weight, x, y, wanted 'w': correct read\.weight",
        job("numpy", weight="w"),
        "a.npz",
    )
    refused(r"'x' has shape \(6, 2\), wanted one for each of 6 events", job("numpy", weight="x"), "a.npz")
    np.savez("b.npz", x=x, y=y, w=np.arange(6) - 1)
    read(job("numpy", weight="w"), ["b.npz"], [], "signed.h5")
    assert ensemble("signed.h5")["weight"].min() == -1
    refused(r"'half' is float64, wanted integers", job("numpy", group="half"), "a.npz")
    read(job("numpy"), ["a.npz"], [], "b.h5")
    assert "a.npz: 'weight' is not read: if it is the weight of events, say read.weight: weight" in caplog.text
