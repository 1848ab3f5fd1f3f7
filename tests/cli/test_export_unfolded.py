"""`pullback export` of unfolded events and spectra, and its words for what cannot be exported."""

import csv
import json

import h5py
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import pullback
from pullback.cli import cli
from pullback.ensembles.store import EnsembleReader
from unfolded_results import BINNED, BUDGET, BUDGET_EDGES, DISTRIBUTION, ENSEMBLE, EVENTS, POSTERIOR


@pytest.fixture
def export(study):
    """The command, in the folder of the results; exit status and what it said."""

    def run(*arguments):
        done = CliRunner().invoke(cli, ["export", *map(str, arguments)])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return run


def test_formats(export, tmp_path):
    pytest.importorskip("hepdata_lib")
    for arguments in (
        [DISTRIBUTION, "--to", tmp_path / "a.root"],
        [DISTRIBUTION, "--to", tmp_path / "b.root", "--rntuple"],
        [DISTRIBUTION, "--to", tmp_path / "a.parquet", "--cross-section", 830],
        [POSTERIOR, "--to", tmp_path / "d.parquet", "--events", ":4"],
        [DISTRIBUTION, "--to", tmp_path / "a.tar.gz", "--bins", "pt=30,50,200", "--luminosity", 138],
        [BINNED, "--to", tmp_path / "b.tar.gz", "--systematic", f"prior={DISTRIBUTION}"],
        [DISTRIBUTION, "--to", tmp_path / "c.tar.gz", "--budget", BUDGET],
    ):
        status, text = export(*arguments)
        assert status == 0, text
    for name in ("a.root", "b.root", "a.parquet"):
        with pullback.open_unfolded(tmp_path / name) as found, pullback.open_unfolded(DISTRIBUTION) as wanted:
            np.testing.assert_array_equal(found.weight, wanted.weight)
    assert found.metadata["cross_section_pb"] == 830
    with pullback.open_unfolded(tmp_path / "d.parquet") as found:
        assert (len(found), found.metadata["events"]) == (12, 4)
    with pullback.open_unfolded(tmp_path / "a.tar.gz") as found:
        np.testing.assert_array_equal(
            found.bins["pt"].content, pullback.open_unfolded(DISTRIBUTION).histogram("pt", [30, 50, 200])[0]
        )
    with pullback.open_unfolded(tmp_path / "b.tar.gz") as found:
        assert found.metadata["systematics"] == ["prior"]
    with pullback.open_unfolded(tmp_path / "c.tar.gz") as found:
        assert found.metadata["systematics"] == ["process", "seeds"]
        assert found.bins["pt"].edges.tolist() == BUDGET_EDGES["pt"].tolist()


def test_csv(export, tmp_path):
    lines = {}
    for name, arguments in {
        "events": [POSTERIOR],
        "draws": [POSTERIOR, "--what", "draw"],
        "truths": [DISTRIBUTION],
        "bins": [BINNED],
        "spectrum": [POSTERIOR, "--bins", "pt=30,50,200"],
        "budget": [DISTRIBUTION, "--budget", BUDGET],
        "ensemble": [ENSEMBLE, "--events", "24:26"],
    }.items():
        status, text = export(*arguments, "--to", tmp_path / f"{name}.csv")
        assert status == 0, text
        with (tmp_path / f"{name}.csv").open() as stream:
            lines[name] = list(csv.DictReader(stream))
        assert json.loads((tmp_path / f"{name}.csv.json").read_text())["family"] == "data"
    sizes = {name: len(found) for name, found in lines.items()}
    assert sizes == {"events": 40, "draws": 120, "truths": 500, "bins": 4, "spectrum": 2, "budget": 5, "ensemble": 2}
    assert [each["source_file"] for each in lines["ensemble"]] == ["run0.root", "run1.root"]
    with h5py.File(BUDGET) as file:
        variance = np.diag(file["data/covariance/seeds"])
    np.testing.assert_allclose([float(each["content_seeds"]) for each in lines["budget"]], np.sqrt(variance))
    with EnsembleReader(ENSEMBLE) as events:
        assert [float(each["weight"]) for each in lines["events"]] == events.read("weight").tolist()
        assert [int(each["group"]) for each in lines["events"]] == events.read("group").tolist()
        truth = np.array([float(each["truth_pt"]) for each in lines["events"]], np.float32)
        np.testing.assert_array_equal(truth, events.read("x")[:, 0])


def test_netcdf_keeps_the_columns_of_the_ensemble(export, tmp_path):
    status, text = export(POSTERIOR, "--to", tmp_path / "a.nc", "--luminosity", 138)
    assert status == 0, text
    with xr.open_dataset(tmp_path / "a.nc") as data, EnsembleReader(ENSEMBLE) as events:
        for name in ("weight", "group", "source_entry", "source_index"):
            np.testing.assert_array_equal(data[name], events.read(name))
            assert data[name].dims == ("event",)
        assert data["source_file"].values.tolist() == [0] * 25 + [1] * (EVENTS - 25)
        assert json.loads(data.attrs["source_files"]) == ["run0.root", "run1.root"]
        assert data.attrs["luminosity_fb"] == 138
        np.testing.assert_array_equal(data["missed_x"], events.missed.x)
        assert data["missed_group"].dims == ("miss",)
    status, text = export(ENSEMBLE, "--to", tmp_path / "b.nc", "--events", "0:3")
    assert status == 0, text
    with xr.open_dataset(tmp_path / "b.nc") as data:
        assert "missed_x" not in data


NEAR = DISTRIBUTION.replace("omnifold", "omnifodl")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            [DISTRIBUTION, "--to", "a.xlsx"],
            "ending '.xlsx' is not known: give .nc, .segy, .sgy, .root, .parquet, .csv or",
        ),
        ([NEAR, "--to", "a.root"], f"there is no such file; did you mean '{DISTRIBUTION}'? To have it made, STUDY the"),
        ([NEAR, "--to", "a.root"], f"snakemake --cores all --configfile STUDY -- {NEAR}"),
        (["none.h5", "--to", "a.root"], "none.h5: there is no such file"),
        ([DISTRIBUTION, "--to", "a.nc"], "an unfolded distribution, which is netCDF as it is; export it to .root"),
        ([ENSEMBLE, "--to", "a.root"], "kind 'ensemble-index', wanted a posterior or an unfolded distribution"),
        ([BINNED, "--to", "a.root"], "has bins and no events: export them to .csv, or to .tar.gz for HEPData"),
        ([DISTRIBUTION, "--to", "a.tar.gz"], "give them, --bins pt=EDGE,EDGE,..."),
        (
            [DISTRIBUTION, "--to", "a.tar.gz", "--bins", "PT=30,50"],
            "no feature 'PT', wanted one of pt, eta; did you mean 'pt'?",
        ),
        ([DISTRIBUTION, "--to", "a.tar.gz", "--bins", "phi=30,50"], "no feature 'phi', wanted one of pt, eta"),
        ([DISTRIBUTION, "--to", "a.tar.gz", "--bins", "pt"], "--bins pt: wanted FEATURE=EDGE,EDGE,... such as"),
        ([DISTRIBUTION, "--to", "a.tar.gz", "--bins", "pt=50,30"], "wanted two or more increasing numbers"),
        ([DISTRIBUTION, "--to", "a.root", "--bins", "pt=30,50"], "--bins does nothing for .root: leave it out"),
        ([DISTRIBUTION, "--to", "a.parquet", "--rntuple"], "--rntuple does nothing for .parquet"),
        ([DISTRIBUTION, "--to", "a.root", "--events", "0:3"], "has no events of its own: leave --events out"),
        ([POSTERIOR, "--to", "a.csv", "--what", "draw", "--what", "mean"], "a line for each draw or for each event"),
        ([BINNED, "--to", "a.tar.gz", "--systematic", "jes"], "--systematic jes: wanted NAME=RESULT"),
        (
            [BINNED, "--to", "a.csv", "--bins", "pt=30,50", "--budget", BUDGET],
            "an uncertainty budget of jets/hep/omnifold",
        ),
        ([POSTERIOR, "--to", "a.segy"], "SEG-Y holds maps (depth, offset)"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(export, study, arguments, words):
    before = sorted(path.name for path in study.iterdir())
    status, text = export(*arguments)
    assert status == 2
    assert words in text
    assert text.count("\n") == 1
    assert sorted(path.name for path in study.iterdir()) == before
