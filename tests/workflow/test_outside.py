"""Outside gathers go through the whole chain, as seen, unseen and observed families, and out again."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from dag import STUDIES, counts, planned, pullback, snakemake

from pullback.ensembles.store import EnsembleReader
from pullback.problems.fwi import Fwi
from pullback.readers.section import Section
from pullback.readers.segy import read_gathers, read_model
from pullback.report.segy import write_gathers, write_model
from pullback.study import paths, read_study

pytestmark = pytest.mark.xdist_group("outside")
DATA = Path(os.environ.get("PULLBACK_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data") / "fwi"
STUDY = "gathers.yaml"
EVENTS = {"train": 5, "validation": 4, "test": 4, "reference": 4}


def survey(folder: Path, problem: Fwi) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write the outside files; (y, x) of each split, and of the line."""
    rng = np.random.default_rng(7)
    made = {}
    for name, n in {**EVENTS, "line": 3}.items():
        x = rng.uniform(1500, 4500, (n, *problem.x.shape)).astype(np.float32)
        made[name] = rng.normal(size=(n, *problem.y.shape)).astype(np.float32), x
    for split in EVENTS:
        y, x = made[split]
        data = xr.Dataset({"y": (("event", *problem.y.dims), y), "x": (("event", *problem.x.dims), x)})
        data.to_netcdf(folder / f"{split}.nc", engine="h5netcdf")
    for event, (y, x) in enumerate(zip(*made["line"], strict=True)):
        write_gathers(folder / f"shot{event}.segy", y, problem.acquisition)
        write_model(folder / f"rock{event}.segy", Section(x, (20.0, 20.0)))
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gathers")
    shutil.copy(STUDIES / STUDY, folder)
    simulator = read_study(folder / STUDY).problems["waves"].simulator
    made = survey(folder, Fwi(simulator))
    done = snakemake("--configfile", STUDY, folder=folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return folder, made


def events(folder: Path, family: str, split: str = "test") -> dict[str, np.ndarray]:
    with EnsembleReader(folder / paths.ensemble("gathers", "waves", family, split)) as reader:
        return {name: reader.read(name) for name in reader.columns}


def test_every_family_holds_what_its_files_hold(run):
    folder, made = run
    for split in EVENTS:
        found = events(folder, "survey", split)
        np.testing.assert_array_equal(found["y"], made[split][0])
        np.testing.assert_array_equal(found["x"], made[split][1])
    line, field = events(folder, "line"), events(folder, "field")
    np.testing.assert_array_equal(line["y"], made["line"][0])
    np.testing.assert_array_equal(line["x"], made["line"][1])
    # Three files in shards of two: ids and sources do not depend on the cut.
    assert line["event_id"].tolist() == [0, 1 << 32, 2 << 32]
    np.testing.assert_array_equal(field["y"], made["line"][0][[2, 0]])
    assert "x" not in field


def test_they_are_judged_as_their_roles_say(run):
    folder, _ = run
    with (folder / paths.table("gathers")).open() as file:
        rows = list(csv.DictReader(file))
    roles = {row["family"]: row["role"] for row in rows}
    assert roles == {"survey": "seen", "line": "unseen", "field": "observed"}
    metrics = {name: {row["metric"] for row in rows if row["family"] == name} for name in roles}
    assert "mse_draw" in metrics["line"]
    assert not {m for m in metrics["field"] if m.startswith(("swd_draw", "mse", "crps"))}


def test_their_pairs_are_held_against_the_simulator(run):
    """These gathers are random numbers, which no simulation of their models is like: each page says so."""
    folder, _ = run
    page = (folder / paths.report("gathers")).read_text()
    for family in ("survey", "line", "field"):
        found = json.loads((folder / paths.file_checks("gathers", "waves", family)).read_text())
        assert found["left_out"] == {}
        told = [warning for warning in found["warnings"] if "2 pairs simulated: relative misfit" in warning]
        assert bool(told) == (family != "field"), "observed ones have no pairs"
        assert all("explains it" in warning for warning in told)
    assert "2 pairs simulated: relative misfit" in page


def test_a_file_that_was_edited_is_read_again(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "again", symlinks=True)
    folder = tmp_path / "again"
    assert planned(folder, Path(STUDY)) == []
    path = folder / "shot0.segy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert counts(planned(folder, Path(STUDY)))["read"] == 2, "the two shards that hold it, of line and field"


def test_check_looks_into_the_files(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "again", symlinks=True)
    folder = tmp_path / "again"
    status, text = pullback("check", STUDY, folder=folder)
    assert status == 0, text
    said = " ".join(text.split())
    assert "train.nc: netcdf, 5 events" in said
    assert "shot1.segy: segy, 1 event" in said
    (folder / "shot1.segy").write_bytes((folder / "shot1.segy").read_bytes()[:-1])
    (folder / "rock0.segy").unlink()
    with xr.open_dataset(folder / "reference.nc") as data:
        slow = data.load()
    slow["x"] /= 1000
    slow.to_netcdf(folder / "reference.nc", engine="h5netcdf")
    status, text = pullback("check", STUDY, folder=folder)
    assert status == 1
    said = " ".join(text.split())
    assert "shot1.segy: " in said
    assert "truncated, fetch it again" in said
    assert "rock0.segy: cannot be read (No such file or directory)" in said
    assert "these look like km/s: say read.units: km/s" in said


def test_a_bad_file_stops_its_job_with_one_line(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "again", symlinks=True)
    folder = tmp_path / "again"
    (folder / "train.nc").write_bytes(b"something else")
    done = snakemake("--configfile", STUDY, "--", paths.shard("gathers", "waves", "survey", "train", 0), folder=folder)
    assert done.returncode == 1
    assert "pullback: train.nc: cannot be read as netCDF or HDF5" in done.stderr + done.stdout


# What a run made, for other programs


POSTERIOR = "results/gathers/posteriors/waves/random/default/seed-0/line.h5"


def test_a_posterior_in_one_netcdf_file(run, tmp_path):
    folder, made = run
    status, text = pullback("export", POSTERIOR, "--to", tmp_path / "a.nc", "--events", "1:3", folder=folder)
    assert status == 0, text
    assert "2 events with mean, std, draws, truth, y" in text
    with xr.open_dataset(tmp_path / "a.nc") as data, xr.open_dataset(folder / POSTERIOR) as posterior:
        draws = posterior["x"].values[1:3]
        np.testing.assert_array_equal(data["draws"], draws)
        np.testing.assert_allclose(data["mean"], draws.astype(float).mean(axis=1), rtol=1e-6)
        np.testing.assert_allclose(data["std"], draws.astype(float).std(axis=1, ddof=1), rtol=1e-5)
        np.testing.assert_array_equal(data["truth"], made["line"][1][1:])
        np.testing.assert_array_equal(data["y"], made["line"][0][1:])
        assert data["event_id"].values.tolist() == [1 << 32, 2 << 32]
        # The shards number their own files; here all are in one list.
        files = json.loads(data.attrs["source_files"])
        assert [files[number] for number in data["source_file"].values] == ["shot1.segy", "shot2.segy"]
        assert data["mean"].dims == ("event", "depth", "offset")
        assert data["draws"].dims == ("event", "draw", "depth", "offset")
        assert {data[name].attrs["units"] for name in ("mean", "std", "draws", "truth", "depth")} == {"m/s", "m"}
        assert data["depth"].values[-1] == 300
        said = {name: data.attrs[name] for name in ("study", "problem", "method", "infer", "seed", "family")}
        assert said == {
            "study": "gathers", "problem": "waves", "method": "random", "infer": "default", "seed": 0, "family": "line",
        }  # fmt: skip
        assert data.attrs["posterior_digest"] == posterior.attrs["content_digest"]
        assert data.attrs["ensemble_digest"] == posterior.attrs["ensemble_digest"]


def test_maps_and_gathers_as_segy(run, tmp_path):
    folder, made = run
    status, text = pullback("export", POSTERIOR, "--to", tmp_path / "mean.segy", folder=folder)
    assert status == 0, text
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"mean-00{i}.segy" for i in range(3)]
    with xr.open_dataset(folder / POSTERIOR) as posterior:
        draws = posterior["x"].values
    section = read_model(tmp_path / "mean-001.segy")
    np.testing.assert_allclose(section.velocity, draws[1].mean(axis=0), rtol=1e-5)
    assert section.spacing == (20.0, 20.0)
    for what, wanted in (("draw", draws[2, 0]), ("truth", made["line"][1][2])):
        status, text = pullback(
            "export", POSTERIOR, "--to", tmp_path / f"{what}.sgy", "--what", what, "--events", "2", folder=folder
        )
        assert status == 0, text
        np.testing.assert_array_equal(read_model(tmp_path / f"{what}.sgy").velocity, wanted)
    ensemble = paths.ensemble("gathers", "waves", "field", "test")
    status, text = pullback(
        "export", ensemble, "--to", tmp_path / "y.segy", "--what", "y", "--events", "0", folder=folder
    )
    assert status == 0, text
    acquisition = Fwi(read_study(folder / STUDY).problems["waves"].simulator).acquisition
    np.testing.assert_array_equal(read_gathers(tmp_path / "y.segy", acquisition), made["line"][0][2])


def test_export_of_an_ensemble_away_from_its_results(run, tmp_path):
    folder, made = run
    source = folder / paths.ensemble("gathers", "waves", "survey", "test")
    status, text = pullback("export", source, "--to", "x.nc", "--what", "truth", folder=tmp_path)
    assert status == 0, text
    with xr.open_dataset(tmp_path / "x.nc") as data:
        assert set(data.data_vars) == {"truth", "event_id", "group", "source_file", "source_entry"}
        assert json.loads(data.attrs["source_files"]) == ["test.nc"]
        np.testing.assert_array_equal(data["truth"], made["test"][1])
        assert data.attrs["study"] == "gathers"
    status, text = pullback("export", folder / POSTERIOR, "--to", "p.nc", folder=tmp_path)
    assert status == 0, "found beside the posterior: " + text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([POSTERIOR, "--to", "a.h5"], "ending '.h5' is not known: give .nc, .segy, .sgy,"),
        ([POSTERIOR, "--to", "train.nc"], "train.nc: is there already: give another name"),
        ([POSTERIOR, "--to", "a.nc", "--events", "3:9"], "--events 3:9: wanted FIRST:END or one number within 0:3"),
        ([POSTERIOR, "--to", "a.nc", "--events", "-1"], "--events -1: wanted FIRST:END"),
        ([POSTERIOR, "--to", "a.nc", "--events", "a"], "--events a: wanted FIRST:END"),
        ([POSTERIOR, "--to", "a.sgy", "--what", "y", "--what", "mean"], "a SEG-Y file holds one of them"),
        ([POSTERIOR, "--to", "a.sgy", "--what", "draw", "--draw", "99"], "--draw 99: "),
        (["results/gathers/ensembles/waves/line/test.h5", "--to", "a.nc", "--what", "std"], "--what std: results"),
        (["results/gathers/ensembles/waves/field/test.h5", "--to", "a.sgy"], "--what truth: results"),
        (["test.nc", "--to", "a.nc"], "test.nc: a file of kind 'None', wanted a posterior or an ensemble"),
        (["none.h5", "--to", "a.nc"], "none.h5: there is no such file"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(run, arguments, words):
    folder, _ = run
    before = sorted(path.name for path in folder.iterdir())
    status, text = pullback("export", *arguments, folder=folder)
    assert status == 2
    assert words in text
    assert text.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_posterior_whose_observations_changed_or_went(run, tmp_path):
    folder, _ = run
    shutil.copytree(folder / "results", tmp_path / "results", symlinks=True)
    ensembles = tmp_path / "results/gathers/ensembles/waves"
    shutil.rmtree(ensembles / "line")
    shutil.copytree(ensembles / "field", ensembles / "line")
    (ensembles / "line.h5").unlink(missing_ok=True)
    status, text = pullback("export", POSTERIOR, "--to", "a.nc", folder=tmp_path)
    assert status == 2
    assert "answers other observations than" in text
    shutil.rmtree(ensembles / "line")
    status, text = pullback("export", POSTERIOR, "--to", "a.nc", folder=tmp_path)
    assert status == 2
    assert "line/test.h5, which is not there" in text
    status, text = pullback("export", POSTERIOR, "--to", "a.nc", "--what", "mean", folder=tmp_path)
    assert status == 0, text


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as the pairs that are made here")
@pytest.mark.xdist_group("openfwi")
def test_the_record_of_openfwi_is_answered(tmp_path):
    """A real record as an unseen family and as an observed one; the only truth that is seen is its own.

    So every draw is the truth, and what is left of the misfit is what the engine leaves of the record: a part in a
    thousand.
    """
    files = {name: DATA / f"openfwi_curvefault_{name}.npy" for name in ("data", "velocity")}
    if not all(file.exists() for file in files.values()):
        pytest.skip(f"the OpenFWI record is not in {DATA} (set PULLBACK_DATA)")
    data, velocity = ([f"$PULLBACK_DATA/fwi/openfwi_curvefault_{name}.npy"] for name in ("data", "velocity"))

    def read(*splits: str, truth: bool = True) -> dict:
        models = {"models": dict.fromkeys(splits, velocity)} if truth else {}
        return {"kind": "openfwi", "files": dict.fromkeys(splits, data), **models}

    # There is one record: it is trained on as a copy.
    pool = read("train", "test")
    for key, name in (("files", "data"), ("models", "velocity")):
        shutil.copy(files[name], tmp_path / f"{name}.npy")
        pool[key] = {**pool[key], "train": [f"{name}.npy"]}
    problem = {
        "kind": "fwi",
        "simulator": {"preset": "openfwi"},
        "families": {
            "pool": {"role": "seen", "read": pool},
            "record": {"role": "unseen", "read": read("test")},
            "field": {"role": "observed", "read": read("test", truth=False)},
        },
        "methods": {
            "random": {"kind": "random-truth", "infer": {"one": {"draws": 1, "families": ["record", "field"]}}}
        },
        "evaluation": {"bootstrap": 20, "resimulate_events": 1, "resimulate_draws": 1},
    }
    study = {"config_version": 2, "study": "record", "problems": {"waves": problem}}
    (tmp_path / "record.yaml").write_text(yaml.safe_dump(study))
    done = snakemake("--configfile", "record.yaml", folder=tmp_path, PULLBACK_DATA=str(DATA.parent.absolute()))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    with EnsembleReader(tmp_path / paths.ensemble("record", "waves", "record", "test")) as reader:
        np.testing.assert_array_equal(reader.read("y"), np.load(files["data"]))
        np.testing.assert_array_equal(reader.read("x"), np.load(files["velocity"])[:, 0])
    with (tmp_path / paths.table("record")).open() as file:
        rows = {(row["family"], row["metric"]): row["value"] for row in csv.DictReader(file)}
    assert float(rows["record", "mse_draw"]) == 0
    assert 0 < float(rows["record", "misfit"]) < 1e-3
    checks = json.loads((tmp_path / paths.file_checks("record", "waves", "record")).read_text())
    assert checks["warnings"] == []
    assert "1 pair simulated: relative misfit 0.00069" in checks["said"][0]
    assert rows["field", "misfit"] == rows["record", "misfit"]
    assert not [metric for family, metric in rows if family == "field" and metric.startswith("mse")]
