"""`pullback resources`, `check` and `compare` on a small study that has really run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from dag import REPOSITORY, STUDIES, pullback, snakemake

pytestmark = pytest.mark.xdist_group("cli-run")
STUDY = "tiny.yaml"
RESULTS = "results/tiny"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder in which the study has run."""
    folder = tmp_path_factory.mktemp("done")
    shutil.copy(STUDIES / STUDY, folder)
    ran = snakemake("--configfile", STUDY, folder=folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


@pytest.fixture
def copy(done, tmp_path):
    """The folder of a second run that gave the same."""
    shutil.copytree(done / RESULTS, tmp_path / RESULTS)
    shutil.copy(done / STUDY, tmp_path)
    return tmp_path


# resources


def test_the_proposed_profile_holds_what_was_used_and_snakemake_takes_it(done):
    status, text = pullback("resources", STUDY, "--profile-format", folder=done)
    assert status == 0
    profile = yaml.safe_load(text)
    rules = {
        "resolve",
        "preflight",
        "simulate",
        "index_ensemble",
        "infer",
        "evaluate",
        "report",
        "receipt",
    }
    assert set(profile["set-resources"]) == set(profile["set-threads"]) == rules
    used = [
        json.loads(line)
        for path in (done / RESULTS / "benchmarks/ensembles/line").rglob("shard-*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert f"# {len(used)} runs: half in " in text
    asked = profile["set-resources"]["simulate"]
    seen = [row["max_rss"] for row in used if row["max_rss"] != "NA"]
    assert asked["mem_mb"] >= 1.25 * max(seen)
    assert asked["runtime"] * 60 >= 2 * max(row["s"] for row in used)
    assert profile["set-threads"]["infer"] == 1
    folder = done / "profiles/mine"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.yaml").write_text(text)
    ran = snakemake("-n", "-F", "--configfile", STUDY, "--profile", folder, "--", "ensembles", folder=done)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"mem_mb={asked['mem_mb']}" in ran.stdout + ran.stderr


def test_the_table_has_a_row_for_each_rule(done):
    status, text = pullback("resources", STUDY, folder=done)
    assert status == 0
    assert [line.split()[0] for line in text.splitlines() if "runtime=" in line] == [
        "preflight", "resolve", "simulate", "index_ensemble",
        "infer", "receipt", "evaluate", "report",
    ]  # fmt: skip


def test_without_records_it_refuses(tmp_path):
    shutil.copy(STUDIES / STUDY, tmp_path)
    status, text = pullback("resources", STUDY, folder=tmp_path)
    assert status == 2
    assert "no benchmark records in results/tiny/benchmarks; run the study" in text


def test_records_say_threads_and_resources(done):
    """The default profile asks for extended records."""
    row = json.loads((done / RESULTS / "benchmarks/metrics/line/random.jsonl").read_text())
    assert row["threads"] == 1
    assert row["resources"]["mem_mb"] == 4000


# why: times


def test_times_come_from_the_records(done, tmp_path):
    shutil.copytree(done, tmp_path / "again")
    folder = tmp_path / "again"
    records = folder / RESULTS / "benchmarks"
    for path in records.rglob("*.jsonl"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "s": 60.0, "resources": {"gpu": 2}}))
    (records / "report/index.jsonl").unlink()
    study = folder / STUDY
    study.write_text(study.read_text().replace("random-truth}", "random-truth, infer: {default: {draws: 3}}}"))
    status, text = pullback("why", STUDY, "--cores", "2", folder=folder)
    assert status == 1
    # The draws, one table; the receipt runs beside them; the page and the resolved study have no record.
    assert "5 of 15 jobs would run" in text
    assert "about 2 min on 2 cores, 3 min of work in all, 0.1 GPU hours, by past runs" in text
    assert "2 jobs without any record not counted" in text
    (folder / "profile.yaml").write_text("set-resources: {evaluate: {gpu: 60}}\n")
    _, text = pullback("why", STUDY, "--cores", "2", "--profile", "profile.yaml", folder=folder)
    assert "1.1 GPU hours" in text, "an hour of it by the profile, the rest by the records"
    status, text = pullback("why", STUDY, "--profile", "none-such.yaml", folder=folder)
    assert status == 2


# check


def test_a_study_that_can_run_passes(done):
    status, text = pullback("check", STUDY, folder=done)
    assert status == 0, text
    assert "ok  study" in text
    assert "nothing would run" in text
    assert "0 problems" in text
    assert not [line for line in text.splitlines() if line.startswith("problem")]


def test_a_lock_that_nobody_holds(copy):
    locks = copy / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("results/tiny/receipt.json\n")
    status, text = pullback("check", STUDY, folder=copy)
    assert status == 1
    said = " ".join(text.split())
    assert "no snakemake of this machine works here" in said
    assert "snakemake --unlock" in said


def test_a_cache_that_is_no_folder_and_a_disk_that_is_too_small(tmp_path):
    text = (STUDIES / STUDY).read_text()
    for small in ("train: 2000", "shard: 1000"):
        text = text.replace(small, f"{small.partition(':')[0]}: 900000000000")
    (tmp_path / STUDY).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pullback", "check", STUDY],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY / "src"),
            "SNAKEMAKE_OUTPUT_CACHE": str(tmp_path / "none"),
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "make room" in done.stdout
    assert "none is no folder" in done.stdout
    assert "2 problems" in done.stdout


@pytest.mark.parametrize(("wanted", "level"), [("cpu", "ok"), ("gpu", "problem")])
def test_the_accelerator(tmp_path, wanted, level):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this is about a machine without: has a GPU")
    study = (STUDIES / STUDY).read_text().replace("study: tiny", f"study: tiny\naccelerator: {wanted}")
    (tmp_path / STUDY).write_text(study.replace("{kind: random-truth}", "{kind: cfm}"))
    status, text = pullback("check", STUDY, folder=tmp_path)
    assert status == (level == "problem")
    assert ("torch sees none" in text) == (level == "problem")


def test_outside_files_are_opened(tmp_path):
    uproot = pytest.importorskip("uproot")
    ak = pytest.importorskip("awkward")
    jets = {"pt": [[50.0, 60.0], [70.0]], "eta": [[0.5, 0.6], [0.7]], "phi": [[0.5, 0.6], [0.7]]}
    branches = {f"Jet_{name}": ak.Array(values) for name, values in jets.items()}
    with uproot.recreate(tmp_path / "data.root") as file:
        file.mktree("Events", {name: values.type for name, values in branches.items()})
        file["Events"].extend(branches)
    study = {
        "config_version": 2,
        "study": "outside",
        "problems": {
            "jets": {
                "kind": "unfolding",
                "size": {"train": 40, "validation": 20, "test": 20, "reference": 20},
                "families": {
                    "ttbar": {"role": "seen", "params": {"process": "ttbar"}},
                    "data": {
                        "role": "observed",
                        "read": {
                            "kind": "root",
                            "files": {"test": ["data.root"]},
                            "tree": "Events",
                            "y": {"pt": "Jet_pt", "eta": "Jet_eta", "phi": "Jet_phi"},
                        },
                    },
                },
                "methods": {"random": {"kind": "random-truth"}},
            }
        },
    }

    def check() -> tuple[int, str]:
        (tmp_path / "outside.yaml").write_text(yaml.safe_dump(study))
        return pullback("check", "outside.yaml", folder=tmp_path)

    status, text = check()
    assert "jets.data" in text
    assert "data.root: TTree 'Events', 2 entries" in text
    study["problems"]["jets"]["families"]["data"]["read"]["y"]["pt"] = "Jet_pT"
    status, text = check()
    assert status == 1
    assert "there is no branch 'Jet_pT' in 'Events'; did you mean 'Jet_pt'" in " ".join(text.split())
    (tmp_path / "data.root").unlink()
    status, text = check()
    assert status == 1
    assert "data.root" in text


OWN = """
from pullback.problems import Field


class Angles:
    x = Field.vector("x", ("r", "phi"), ("m", "rad"), transforms=("linear", "periodic"))
    y = Field.vector("y", ("phi",), "rad", transforms=("periodic",))


class Maps(Angles):
    x = Field.array("x", ("depth", "offset"), (5, 4), "m")
"""


def test_networks_that_cannot_take_a_truth_are_named(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    families = {"half": {"role": "seen", "params": {}}}
    study = {
        "config_version": 2,
        "study": "networks",
        "problems": {
            "angles": {
                "kind": "./own.py:Angles",
                "families": families,
                "priors": {"diffusion": {"kind": "edm", "network": {"kind": "mlp"}}},
                "likelihoods": {"mixture": {"kind": "gmm"}},
                "methods": {
                    "direct": {"kind": "velocity-gan"},
                    "flow": {"kind": "ei-fm", "network": {"kind": "unet"}},
                    "fine": {"kind": "hvae"},
                },
            },
            "maps": {"kind": "./own.py:Maps", "families": families, "methods": {"latent": {"kind": "hvae"}}},
            "waves": {
                "kind": "fwi",
                "families": {"flat": {"role": "seen", "params": {"geology": "flat"}}},
                "methods": {
                    "few": {
                        "kind": "cfm",
                        "network": {"kind": "unet"},
                        "infer": {"a": {"draws": 1}, "b": {"draws": 16}},
                    }
                },
            },
        },
    }
    (tmp_path / "networks.yaml").write_text(yaml.safe_dump(study))
    status, text = pullback("check", "networks.yaml", folder=tmp_path)
    text = " ".join(text.split())
    assert status == 1
    for name, kind in (("direct", "inversion-net"), ("flow", "unet")):
        assert f"angles.{name} network '{kind}' needs x on a 2-D grid, found a vector of 2; use kind: mlp" in text
    assert "angles.fine" not in text
    assert "angles.diffusion x has a quantity that is learnt relative to y" in text
    assert "angles.mixture phi of x: networks see it relative" in text
    assert "maps.latent method 'hvae' models x that is a vector, found shape (5, 4)" in text
    assert "waves.few 16 draws of an event at most: a median needs 32 or more" in text
    assert "5 problems, 1 warning" in text


def test_models_are_opened_and_shifts_are_tried(tmp_path):
    np.save(tmp_path / "model.npy", np.full((80, 130), 2.5))
    tiles = {"file": "model.npy", "spacing": 10.0, "units": "km/s"}
    change = {"peak_frequency": 6.0}
    dead = {"kind": "missing", "dimension": "receiver", "fraction": 0.2}
    study = {
        "config_version": 2,
        "study": "models",
        "problems": {
            "waves": {
                "kind": "fwi",
                "size": {"test": 4, "reference": 4},
                "families": {
                    "flat": {"role": "unseen", "params": {"geology": "flat"}},
                    "cut": {
                        "role": "unseen",
                        "params": {"geology": "tiles", "tiles": tiles},
                        "fallback": "flat",
                    },
                    "shifted": {
                        "role": "unseen",
                        "events_from": "flat",
                        "shift": {"kind": "simulator", "change": change},
                    },
                    "fewer": {"role": "unseen", "events_from": "flat", "shift": dead},
                },
                "methods": {"l-bfgs": {"kind": "lbfgs-fwi", "infer": {"line": {"start": [1800, 4000]}}}},
            }
        },
    }

    def check() -> tuple[int, str]:
        (tmp_path / "models.yaml").write_text(yaml.safe_dump(study))
        status, text = pullback("check", "models.yaml", folder=tmp_path)
        return status, " ".join(text.split())

    _, text = check()
    assert "model.npy: 2500 m/s at the top, 2500 at the bottom; 1290 m x 790 m; first axis taken as depth" in text
    assert "tiles of test between offsets of 0 and 640 m, at least 10 m from those of reference" in text
    assert "waves.shifted" not in text
    assert "waves.fewer" not in text
    assert "2704 nodes, 512 steps; Courant number 0.450 of" in text
    study["problems"]["waves"]["simulator"] = {"time_step": 0.004}
    status, text = check()
    assert status == 1
    assert "unstable: Courant number" in text
    assert "use a time step of at most" in text
    del study["problems"]["waves"]["simulator"]
    change["peak_frequency"] = 11.0
    status, text = check()
    assert "waves.shifted shift: 2.73 points per wavelength at 27.5 Hz and 1500 m/s, wanted 4" in text
    change["peak_frequency"] = 30.0
    status, text = check()
    assert status == 1
    assert "waves.shifted 1.00 points per wavelength at 75 Hz" in text
    change |= {"peak_frequency": 6.0, "spacing": 10.0, "source_depth": 10.0}
    status, text = check()
    assert status == 1
    assert "waves.shifted shift.change" in text
    assert "puts depth of x from 0 to 310 m, methods know 0 to 620" in text
    del change["spacing"], change["source_depth"]
    change |= {"record_length": 2.048}
    dead["dimension"] = "source"
    dead["fraction"] = 0.1
    tiles["spacing"] = 5.0
    status, text = check()
    assert status == 1
    assert "395 m deep and 645 m wide, too small for tiles of 620 m x 620 m" in text
    assert "gives y of shape (3, 128, 32), methods know (3, 64, 32)" in text
    assert "waves.fewer shift.fraction: 0.1 of 3 along source is 0, wanted at least one" in text
    (tmp_path / "model.npy").unlink()
    _, text = check()
    assert "the outside files are not all there, events of 'flat' take their place" in text


def test_a_study_that_cannot_run_is_refused(tmp_path):
    (tmp_path / STUDY).write_text((STUDIES / STUDY).read_text().replace("families:", "familes:"))
    status, text = pullback("check", STUDY, folder=tmp_path)
    assert status == 2
    assert "did you mean 'families'?" in text


# compare


def compare(done: Path, copy: Path, *arguments: str) -> tuple[int, str]:
    return pullback("compare", done / RESULTS, copy / RESULTS, *arguments, folder=copy)


def test_equal_runs_agree_by_folder_and_by_receipt(done, copy):
    status, text = compare(done, copy)
    assert status == 0, text
    for part in ("study", "data", "models", "versions", "lock file", "git", "machine"):
        assert f"{part}: the same" in text
    assert "the runs agree" in text
    status, text = pullback("compare", done / RESULTS / "receipt.json", copy / RESULTS / "receipt.json", folder=copy)
    assert status == 0
    assert "agree (exactly)" in text


def test_versions_and_machines_are_told_and_decide_nothing(done, copy):
    path = copy / RESULTS / "receipt.json"
    receipt = json.loads(path.read_text())
    receipt["versions"]["numpy"] = "0.1"
    receipt["machine"]["host"] = "elsewhere"
    path.write_text(json.dumps(receipt))
    status, text = compare(done, copy)
    assert status == 0
    assert "versions: differs (decides nothing here)" in text
    assert "elsewhere" in text


def test_another_study_and_other_data_differ(done, copy):
    path = copy / RESULTS / "receipt.json"
    receipt = json.loads(path.read_text())
    receipt["study"]["problems"]["line"]["families"]["plus"]["params"]["gamma"] = 0.6
    name = next(iter(receipt["data"]))
    receipt["data"][name] = "0" * 64
    path.write_text(json.dumps(receipt))
    status, text = compare(done, copy)
    assert status == 1
    assert "problems.line.families.plus.params.gamma  0.5" in text
    assert name in text
    receipt["study"]["problems"]["line"]["families"]["plus"]["params"]["gamma"] = 0.5
    path.write_text(json.dumps(receipt))
    assert compare(done, copy)[0] == 1
    assert compare(done, copy, "--rtol", "1e-6")[0] == 0, "with a tolerance the metrics decide"


def test_metrics_within_a_tolerance_or_their_intervals(done, copy):
    path = copy / RESULTS / "report/metrics.csv"
    header, *rows = path.read_text().splitlines()
    names = header.split(",")
    number = next(i for i, row in enumerate(rows) if ",mse_draw," in row)
    cells = rows[number].split(",")
    value = float(cells[names.index("value")])
    cells[names.index("value")] = f"{value * 1.001:.8g}"
    path.write_text("\n".join([header, *rows[:number], ",".join(cells), *rows[number + 1 :]]) + "\n")
    status, text = compare(done, copy)
    assert status == 1
    assert "metrics: 1 of " in text
    assert "value, by 0.001 of it" in text
    assert compare(done, copy, "--rtol", "1e-4")[0] == 1
    assert compare(done, copy, "--rtol", "1e-2")[0] == 0
    assert compare(done, copy, "--statistical")[0] == 0
    for column in ("value", "low", "high"):
        cells[names.index(column)] = f"{10 * value:.8g}"
    path.write_text("\n".join([header, *rows[:number], ",".join(cells), *rows[number + 1 :]]) + "\n")
    status, text = compare(done, copy, "--statistical")
    assert status == 1
    assert "intervals do not overlap" in text
    path.write_text("\n".join([header, *rows[1:]]) + "\n")
    status, text = compare(done, copy)
    assert status == 1
    assert "metrics: 1 row in a only, of line/random/default" in text
    for left in ([header], None):
        path.write_text("\n".join(left) + "\n") if left else path.unlink()
        for tolerance in ("--statistical", "--rtol=0.1"):
            status, text = compare(done, copy, tolerance)
            assert status == 2
            assert "metrics were to decide" in text


def test_what_is_no_receipt_is_refused(done, tmp_path):
    status, text = pullback("compare", done / RESULTS, tmp_path, folder=tmp_path)
    assert status == 2
    assert "receipt.json: cannot be read" in text
    (tmp_path / "receipt.json").write_text("[]")
    status, text = pullback("compare", done / RESULTS, tmp_path / "receipt.json", folder=tmp_path)
    assert status == 2
    assert "is no receipt of pullback" in text
    assert pullback("compare", done / RESULTS, folder=tmp_path)[0] == 2


# export


def test_a_posterior_of_vectors_goes_into_one_file(done, tmp_path):
    """Waves, SEG-Y and what is refused are in tests/workflow/test_outside.py, with a run of waves."""
    posterior = f"{RESULTS}/posteriors/line/random/default/seed-0/plus.h5"
    status, text = pullback("export", posterior, "--to", tmp_path / "a.nc", "--events", ":5", folder=done)
    assert status == 0, text
    with xr.open_dataset(tmp_path / "a.nc") as data, xr.open_dataset(done / posterior) as source:
        np.testing.assert_allclose(data["mean"], source["x"].values[:5].mean(axis=1), rtol=1e-5)
        assert data["truth"].dims == data["std"].dims == ("event", "x_feature")
        assert list(data["x_feature"].values) == list(source["x_feature"].values)
        assert data.attrs["method"] == "random"
    status, text = pullback("export", posterior, "--to", tmp_path / "a.segy", folder=done)
    assert status == 2
    assert "x is (x_feature), and SEG-Y holds maps (depth, offset): export to .nc" in text
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


def test_a_copy_of_a_training_file_in_another_split_is_a_problem(tmp_path, monkeypatch):
    """Paths are compared when the study is read, contents by the check."""
    from pullback.cli.problems import _same_content
    from pullback.study import load_study
    from pullback.study.job_params import Plan

    monkeypatch.chdir(tmp_path)
    for name, seed in (("a", 1), ("b", 2), ("copy of a", 1)):
        Path(f"{name}.npz").write_bytes(np.random.default_rng(seed).bytes(300_000))
    shutil.copy(Path(__file__).parents[1] / "outside/npz_reader.py", tmp_path)
    files = {"train": ["a.npz"], "test": ["copy of a.npz"], "validation": ["b.npz"]}
    read = {"kind": "./npz_reader.py:NpzFiles", "files": files}
    families = {"data": {"role": "seen", "read": read}}
    problem = {"kind": "gaussian", "families": families, "methods": {"random": {"kind": "random-truth"}}}
    study = {"config_version": 2, "study": "twice", "problems": {"toy": problem}}
    (found,) = _same_content(Plan(load_study(study, tmp_path), tmp_path), "toy", "data", "toy.data")
    assert "a.npz (train) and copy of a.npz (test) have the same content" in found.says


def test_the_own_likelihood_on_data_of_another_detector_is_a_warning():
    from pullback.cli.problems import _other_forward
    from pullback.study import load_study
    from pullback.study.job_params import Plan

    names = {"pt": "pt", "eta": "eta", "phi": "phi"}
    files = {"test": ["b.root"], "reference": ["c.root"]}
    jets = {
        "role": "unseen",
        "read": {"kind": "root", "files": files, "y": names, "x": {n: f"true_{n}" for n in names}},
    }
    families = {
        "ttbar": {"role": "seen", "params": {"process": "ttbar"}},
        "data": jets,
        "ours": {**jets, "own_forward": True},
    }
    methods = {
        "oracle": {"kind": "oracle", "infer": {"all": {}, "one": {"families": ["ttbar", "ours"]}}},
        "random": {"kind": "random-truth"},
    }
    problem = {"kind": "unfolding", "families": families, "methods": methods}
    plan = Plan(load_study({"config_version": 2, "study": "other", "problems": {"jets": problem}}))
    (found,) = _other_forward(plan)
    assert found.of == "jets.oracle"
    assert "all uses the problem's own forward process, and that of data is another" in found.says


def test_a_prior_that_is_shared_where_x_differs_is_a_problem():
    from pullback.cli.problems import _shared_priors
    from pullback.study import load_study
    from pullback.study.job_params import Plan

    drawn = {"kind": "linear-gaussian", "families": {"prior": {"role": "seen"}}}
    first = {**drawn, "priors": {"net": {"kind": "edm", "network": {"kind": "mlp"}}}}
    first["methods"] = {"draws": {"kind": "prior-draws", "prior": "net"}}
    second = {**first, "priors": {"net": {"kind": "shared", "problem": "first", "prior": "net"}}}

    def found(dimension):
        problems = {"first": first, "second": {**second, "simulator": {"drawn": {"dimension": dimension}}}}
        return list(_shared_priors(Plan(load_study({"config_version": 2, "study": "two", "problems": problems}))))

    (one,) = found(3)
    assert one.of == "second.net"
    assert "x of problem 'first' has shape (2,), and here (3,): problems share a prior where x is the same" in one.says
    assert found(2) == []
