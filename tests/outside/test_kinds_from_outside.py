"""A problem, two methods, a reader and a metric that live outside the package, from simulator to report.

By path, and by entry point from an installed package; with the rights of built-in kinds and with errors in one line.
"""

import ast
import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from dag import REPOSITORY, planned, pullback, rules, snakemake

from pullback import registry
from pullback.diffusion.checkpoint import load_artifact
from pullback.ensembles.store import EnsembleReader
from pullback.ensembles.unfolded import UnfoldedReader
from pullback.methods.train import RunError, train
from pullback.study import StudyError, load_study, paths, read_study
from pullback.study.job_params import Plan

HERE = Path(__file__).parent
KINDS = {
    "problems": ("damped", "damped:Damped"),
    "methods": ("mdn", "mdn:MdnSpec"),
    "readers": ("npz", "npz_reader:NpzFiles"),
    "metrics": ("interval_width", "interval_width:WIDTH"),
}
FILES = ("damped", "mdn", "ibu", "npz_reader", "interval_width")
BENCH = 800


def oscillators(n: int, amplitude: float) -> tuple[np.ndarray, np.ndarray]:
    """Truths and observations of damped.py, written a second time."""
    rng = np.random.default_rng(5)
    a = amplitude * np.exp(0.3 * rng.normal(size=n))
    d = 0.5 * np.exp(0.3 * rng.normal(size=n))
    y = [a * np.exp(-d * t) * np.cos(t) + 0.2 * rng.normal(size=n) for t in np.arange(6) * 0.4]
    return np.stack([a, d], axis=1).astype(np.float32), np.stack(y, axis=1).astype(np.float32)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / paths.table("outside")).open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def by_path(tmp_path_factory):
    """A folder with the user's files and the study, run to the report."""
    folder = tmp_path_factory.mktemp("path")
    for name in (*(f"{file}.py" for file in FILES), "outside.yaml"):
        shutil.copy(HERE / name, folder)
    x, y = oscillators(BENCH, 1.3)
    np.savez(folder / "bench.npz", truth=x, y=y)
    status, text = pullback("check", "outside.yaml", folder=folder)
    assert status == 0, text
    assert "0 problems, 0 warnings" in text
    done = snakemake("--configfile", "outside.yaml", folder=folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder that holds an installed package with the same kinds, except one that stays a file."""
    folder = tmp_path_factory.mktemp("site")
    for name in FILES:
        shutil.copy(HERE / f"{name}.py", folder)
    info = folder / "pullback_springs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pullback-springs\nVersion: 1.0\n")
    groups = {**{group: [entry] for group, entry in KINDS.items()}}
    groups["methods"].append(("small-ibu", "ibu:IbuSpec"))
    text = "".join(
        f"[pullback.{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries)
        for group, entries in groups.items()
    )
    (info / "entry_points.txt").write_text(text)
    return folder


def python(package: Path, *arguments: str) -> str:
    """What a Python in which the package is installed says."""
    where = os.pathsep.join([str(REPOSITORY / "src"), str(package)])
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": where},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def named_by_entry_point(folder: Path) -> Path:
    study = (HERE / "outside.yaml").read_text()
    for name, target in (*KINDS.values(), ("small-ibu", "ibu:IbuSpec")):
        file, _, cls = target.partition(":")
        assert f"./{file}.py:{cls}" in study
        study = study.replace(f"./{file}.py:{cls}", name)
    (folder / "outside.yaml").write_text(study)
    np.savez(folder / "bench.npz", **dict(zip(("truth", "y"), oscillators(BENCH, 1.3), strict=True)))
    return folder / "outside.yaml"


@pytest.mark.xdist_group("outside")
def test_the_table_of_the_report_holds_every_kind(by_path):
    found = {(r["method"], r["infer"], r["family"], r["metric"]): float(r["value"]) for r in rows(by_path)}
    kinds = {r["method"]: (r["method_kind"], r["returns"]) for r in rows(by_path)}
    assert kinds == {"mdn": ("./mdn.py:MdnSpec", "approximate"), "ibu": ("./ibu.py:IbuSpec", "approximate")}
    for family in ("soft", "bench"):
        assert 0.8 < found["mdn", "default", family, "coverage90"] < 0.98
        # The prior's own central 90 % is 3.3 standard deviations wide.
        assert 0 < found["mdn", "default", family, "interval_width"] < 3.0
        assert {"swd_unfolded", "unfolded_ess", "bins_w1.amplitude", "chi2_unfolded.amplitude"} <= {
            metric for method, _, name, metric in found if (method, name) == ("ibu", family)
        }
    wide, usual = (found["mdn", infer, "bench", "interval_width"] for infer in ("wide", "default"))
    assert 1.3 < wide / usual < 2.1


@pytest.mark.xdist_group("outside")
def test_the_page_has_their_words(by_path):
    page = (by_path / paths.report("outside")).read_text()
    assert "Width of the central 90 % interval" in page
    assert "Mean over components, in units of the spread of the truth. Lower is better." in page
    assert "Mixture density network: a mixture of Gaussians for each observation." in page
    assert "Iterative Bayesian unfolding of one quantity in bins." in page
    assert "A damped oscillator, released at rest." in page


@pytest.mark.xdist_group("outside")
def test_the_unfolded_amplitude_is_that_of_the_bench(by_path):
    result = UnfoldedReader(by_path / paths.unfolded("outside", "spring", "ibu", "default", 0, "bench")).unfolded
    truth, _ = oscillators(BENCH, 1.3)
    mean = np.average(result.x[:, 0], weights=result.weight[:, 0])
    assert result.weight.shape[1] == 21
    # Seen truths have a median of 1.0.
    assert mean == pytest.approx(truth[:, 0].mean(), abs=0.1)
    content = result.bins["amplitude"].content
    assert content.sum() == pytest.approx(BENCH)


@pytest.mark.xdist_group("outside")
def test_the_reader_gave_the_events_of_the_file(by_path):
    x, y = oscillators(BENCH, 1.3)
    with EnsembleReader(by_path / paths.ensemble("outside", "spring", "bench", "test")) as reader:
        np.testing.assert_array_equal(reader.read("x"), x)
        np.testing.assert_array_equal(reader.read("y"), y)


@pytest.mark.xdist_group("outside")
def test_the_training_wrote_its_artifact_and_curves(by_path):
    model = by_path / paths.artifact("outside", "methods", "spring", "mdn", 0)
    meta = load_artifact(model).meta
    assert set(meta) >= {"scaling", "job"}
    with (by_path / paths.curves(str(model))).open() as file:
        curves = list(csv.DictReader(file))
    assert [int(row["step"]) for row in curves] == [100, 200, 300, 400, 500, 600]
    assert float(curves[-1]["validation_loss"]) < float(curves[0]["validation_loss"])


REREAD = {"read", "check_files", "index_ensemble", "infer", "unfold", "evaluate", "report", "receipt"}
USERS = {
    "interval_width": {"evaluate", "report"},
    "ibu": {"unfold", "evaluate", "report"},
    "mdn": {"train", "infer", "evaluate", "report", "receipt"},
    "npz_reader": REREAD,
}
"""File -> the rules whose jobs use it."""


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as the table of reruns")
@pytest.mark.xdist_group("outside")
def test_an_edit_of_a_file_reruns_the_jobs_that_use_it(by_path):
    assert planned(by_path, Path("outside.yaml")) == []
    for file, wanted in USERS.items():
        path = by_path / f"{file}.py"
        before = path.read_text()
        try:
            path.write_text(before + "\nAGAIN = 1\n")
            jobs = planned(by_path, Path("outside.yaml"))
        finally:
            path.write_text(before)
        assert rules(jobs) == wanted, file
        if file in ("ibu", "mdn"):
            judged = [output for job in jobs if job.rule == "evaluate" for output in job.output]
            assert all(Path(output).name.startswith(file) for output in judged)


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: a second whole run")
@pytest.mark.xdist_group("outside")
def test_by_entry_point_the_numbers_are_the_same(by_path, package, tmp_path):
    named_by_entry_point(tmp_path)
    where = os.pathsep.join([str(REPOSITORY / "src"), str(package)])
    done = snakemake("--configfile", "outside.yaml", folder=tmp_path, PYTHONPATH=where)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    renamed = {f"./{t.replace(':', '.py:')}": name for name, t in (*KINDS.values(), ("small-ibu", "ibu:IbuSpec"))}
    wanted = [{**row, "method_kind": renamed[row["method_kind"]]} for row in rows(by_path)]
    assert rows(tmp_path) == wanted
    page = (tmp_path / paths.report("outside")).read_text()
    assert "Width of the central 90 % interval" in page
    # An edit of the installed file reruns what uses it.
    path = package / "ibu.py"
    path.write_text(path.read_text() + "\nAGAIN = 1\n")
    again = snakemake("-n", "--configfile", "outside.yaml", folder=tmp_path, PYTHONPATH=where)
    assert {line.split()[-1].strip(":") for line in again.stdout.splitlines() if "rule " in line} >= {"unfold"}
    assert "rule infer" not in again.stdout


def test_installed_kinds_stand_in_the_manual_and_in_the_schema(package, tmp_path):
    page = python(package, str(REPOSITORY / "docs/kinds.py"))
    mdn = "| `mdn` | Mixture density network: a mixture of Gaussians for each observation. | approximate | pairs |"
    assert mdn in page
    assert "| `small-ibu` | Iterative Bayesian unfolding of one quantity in bins. | approximate | pairs |" in page
    assert "| `damped` | The release of a damped oscillator" in page
    assert "| `npz` | Events in .npz files. | arrays |" in page
    assert "| `interval_width` | Width of the central 90 % interval |" in page
    python(package, "-m", "pullback.study.schema", str(tmp_path / "schema.json"))
    text = (tmp_path / "schema.json").read_text()
    assert "Gaussians in the mixture" in text
    assert "name of the array of truths" in text
    assert "standard deviation of a displacement, mm" in text
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(json.loads(text))
    study = yaml.safe_load(named_by_entry_point(tmp_path).read_text())
    assert list(check.iter_errors(study)) == []
    study["problems"]["spring"]["methods"]["mdn"]["componens"] = 3
    assert not check.is_valid(study)


def wrong(**changes) -> dict:
    study = yaml.safe_load((HERE / "outside.yaml").read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = study["problems"]["spring"]
        for name in parents:
            node = node[name]
        node[last] = value
    return study


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "./damped.py:Damp"}, "damped.py holds no 'Damp'"),
        ({"simulator__nois": 1.0}, "nois: unknown key; did you mean 'noise'?"),
        ({"families__soft__params": {}}, "soft.params.amplitude: Field required"),
        ({"methods__mdn__componens": 3}, "componens: unknown key; did you mean 'components'?"),
        ({"methods__mdn__infer__default__widen": 0}, "infer.default.widen: Input should be greater than 0"),
        ({"methods__mdn__kind": "./mdm.py:MdnSpec"}, "methods.mdn.kind: there is no file"),
        ({"methods__mdn__kind": "./broken.py:MdnSpec"}, "broken.py cannot be imported: ZeroDivisionError: division by"),
        ({"families__bench__read__z": "z"}, "read.z: unknown key"),
        ({"evaluation__metrics": ["./interval_width.py:HEIGHT"]}, "interval_width.py holds no 'HEIGHT'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, changes, words):
    for name in FILES:
        shutil.copy(HERE / f"{name}.py", tmp_path)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(StudyError) as caught:
        load_study(wrong(**changes), tmp_path)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_the_check_of_a_method_speaks_in_the_study(tmp_path):
    shutil.copy(HERE / "mdn.py", tmp_path)
    study = wrong(kind="digits", simulator={}, families={"soft": {"role": "seen"}}, evaluation={})
    study["problems"]["spring"]["methods"].pop("ibu")
    study["problems"]["spring"]["methods"]["mdn"]["infer"].pop("wide")
    with pytest.raises(StudyError, match=r"methods\.mdn\.kind: .*are arrays, wanted vectors: take cfm"):
        load_study(study, tmp_path)


def test_a_loop_of_its_own_is_not_given_several_processes(by_path, monkeypatch):
    monkeypatch.chdir(by_path)
    plan = Plan(read_study("outside.yaml"))
    files = {split: [Path(paths.ensemble("outside", "spring", "soft", split))] for split in ("train", "validation")}
    out = {name: by_path / f"again.{name}" for name in ("artifact", "curves", "checkpoints")}
    with pytest.raises(RunError, match="trains in one process, as its loop shares no steps"):
        train(plan.train_job("spring", "methods", "mdn", 0), **files, **out, code="{}", processes=2)


def module(name: str):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_derivative_of_the_problem_is_that_of_its_signal():
    damped = module("damped")
    problem = damped.Damped(damped.DampedSettings(noise=0.2))
    rng = np.random.default_rng(0)
    x, u = rng.uniform(0.5, 2, (4, 2)), rng.normal(size=(4, 6))
    step = 1e-6
    for i, column in enumerate(np.eye(2)):
        slope = (problem.apply(x + step * column)[0] - problem.apply(x - step * column)[0]) / (2 * step)
        np.testing.assert_allclose(problem.vjp(x, u)[:, i], (slope * u).sum(axis=1), rtol=1e-6)


def test_the_capabilities_are_the_methods_that_the_class_has():
    kind = registry.load("problems", "./damped.py:Damped", HERE)
    from pullback.study.problem_kind import ProblemKind

    assert ProblemKind(kind).capabilities() >= {"pairs", "prior", "forward", "likelihood", "gradient"}


def lines_of_code(text: str) -> int:
    """Lines without blank ones, comments and docstrings."""
    said = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            said |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return sum(1 for number, line in lines if line and not line.startswith("#") and number not in said)


def test_the_page_on_extending_counts_their_lines():
    page = (REPOSITORY / "docs/extending.md").read_text()
    said = dict(re.findall(r"\| `(\w+)\.py` \| (\d+) \|", page))
    assert said == {name: str(lines_of_code((HERE / f"{name}.py").read_text())) for name in FILES}
    assert all(f"{{literalinclude}} ../tests/outside/{name}.py" in page for name in FILES)


@pytest.mark.parametrize("name", FILES)
def test_they_import_only_what_is_public(name):
    """The front of a subpackage, by names that it offers."""
    for node in ast.walk(ast.parse((HERE / f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("pullback"):
            assert node.module.count(".") == 1
            assert {alias.name for alias in node.names} <= set(dir(importlib.import_module(node.module)))


def test_what_is_public_is_there():
    for front in ("pullback.methods", "pullback.readers", "pullback.problems", "pullback.metrics"):
        module = importlib.import_module(front)
        assert all(getattr(module, name) is not None for name in dir(module))
