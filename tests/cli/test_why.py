"""`pullback why`: after one edit it names the key or the file, what it was and is, and where."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dag import REPOSITORY, STUDIES, ask, copy_repository, finish, planned, pullback

from pullback.diffusion.settings import Train

pytestmark = pytest.mark.xdist_group("why")
STUDY = "both.yaml"
STEPS = Train.model_fields["steps"].default


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the study has run (empty files, real records), with a copy of the code in it."""
    folder = tmp_path_factory.mktemp("why")
    shutil.copy(STUDIES / STUDY, folder)
    finish(folder, Path(STUDY), copy_repository(folder / "code"))
    return folder


@pytest.fixture
def edit(folder):
    """Replace a text in the study or in another file; everything is put back afterwards."""
    before = {}
    times = {}

    def edit(old: str, new: str, name: str = STUDY) -> int:
        path = folder / name
        text = path.read_text()
        if path not in before:
            before[path], times[path] = text, path.stat().st_mtime
        assert text.count(old) >= 1
        path.write_text(text.replace(old, new, 1))
        return text[: text.index(old)].count("\n") + 1

    yield edit
    for path, text in before.items():
        path.write_text(text)
        os.utime(path, (times[path], times[path]))


def why(folder: Path, *arguments: str) -> tuple[int, str]:
    return pullback("why", STUDY, *arguments, folder=folder, repository=folder / "code")


def counts(text: str) -> int:
    """Jobs in the first line."""
    return int(text.split()[0])


def test_nothing_would_run(folder):
    status, text = why(folder)
    assert status == 0
    assert text.startswith("nothing would run: all 57 jobs of both.yaml are done")


def test_a_key_is_named_with_its_values_and_its_line(folder, edit):
    line = edit("train: {steps: 10}, infer", "train: {steps: 12}, infer")
    status, text = why(folder)
    assert status == 1
    assert f"problems.line.methods.cfm.train.steps: 10 -> 12 ({STUDY}:{line})" in text
    assert "  4 jobs: " in text
    assert "and 7 jobs: infer 4, index_posterior 2, evaluate 1 follow from these" in text
    assert counts(text) == len([job for job in planned(folder, Path(STUDY), repository=folder / "code") if job.output])


def test_a_key_that_takes_its_default_again_is_said_so(folder, edit):
    line = edit(", train: {steps: 10}, infer", ", infer")
    _, text = why(folder)
    assert f"problems.line.methods.cfm.train.steps: 10 -> {STEPS} (the default; not given under {STUDY}:{line})" in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("reference: 1000, shard", "reference: 2000, shard", "problems.line.size.reference: 1000 -> 2000 (both.yaml:"),
        ("seed: 7", "seed: 8", "seed: 7 -> 8 (both.yaml:4)"),
        ("study: both", "study: both\nseeds: 2", "seeds: 1 -> 2 (both.yaml:4)"),
        ("relative: 0.1", "relative: 0.2", "problems.line.families.noisy.shift.relative: 0.1 -> 0.2 (both.yaml:15)"),
        ("ensembles: 6", "ensembles: 7", "problems.line.families.sweep.sweep.ensembles: 6 -> 7 (both.yaml:13)"),
        ("{parts: 2}", "{parts: 3}", "problems.line.methods.cfm.infer.default.parts: 2 -> 3 (both.yaml:17)"),
        ("plus: {role", "extra: {role: unseen, params: {gamma: 0.3}}\n      plus: {role", "families.extra: new (both"),
        ("      oracle: {kind: oracle}\n", "", "problems.line.methods.oracle: removed"),
        ("kind: oracle", "kind: prior-draws, prior: edm", 'methods.oracle.kind: "oracle" -> "prior-draws"'),
    ],
)
def test_other_edits_of_the_study(folder, edit, old, new, said):
    edit(old, new)
    status, text = why(folder)
    assert status == 1
    assert said in text
    assert "not made yet" not in text
    assert "no reason" not in text


def test_an_alias_stands_where_its_anchor_is(folder, edit):
    line = edit(
        "      cfm: {kind: cfm, train: {steps: 10}",
        "      one: {kind: cfm, train: &short {steps: 11}}\n      cfm: {kind: cfm, train: *short",
    )
    _, text = why(folder)
    assert f"problems.line.methods.cfm.train.steps: 10 -> 11 ({STUDY}:{line})" in text


@pytest.mark.parametrize(
    ("name", "old", "new", "jobs"),
    [
        ("metrics/distances.py", "import numpy", "CHANGED = 1\nimport numpy", "evaluate 4"),
        ("methods/infer.py", "import logging", "CHANGED = 1\nimport logging", "infer 11"),
    ],
)
def test_code_is_named_by_file(folder, edit, name, old, new, jobs):
    file = f"code/src/pullback/{name}"
    edit(old, new, file)
    status, text = why(folder)
    assert status == 1
    assert f"code: {file} changed\n" in text
    assert jobs in text


def test_a_file_that_is_gone(folder):
    """As long as the page is there, nothing asks for its examples; without the page, they are made again."""
    examples, page = (folder / "results/both" / name for name in ("metrics/line/cfm.examples.h5", "report/index.html"))
    examples.unlink()
    try:
        status, text = why(folder)
        assert status == 0
        assert "1 file not there and not needed, for what was made from it is there: results/both/metrics" in text
        page.unlink()
        status, text = why(folder)
        assert status == 1
        assert counts(text) == 2
        assert (
            "made before, and not there any more: results/both/metrics/line/cfm.examples.h5, results/both/report"
            in text
        )
        assert "not made yet" not in text
    finally:
        examples.touch()
        page.touch()
        assert ask("--touch", "-F", "--configfile", STUDY, folder=folder, repository=folder / "code")[0] == 0


def test_the_lock_of_the_environment(folder, edit):
    edit("numpy==", "# another one\nnumpy==", "code/envs/requirements.lock")
    status, text = why(folder)
    assert status == 1
    assert "the lock of the environment changed: envs/requirements.lock\n  1 job: receipt 1" in text


def test_lost_records_are_said(folder):
    metadata = folder / ".snakemake/metadata"
    metadata.rename(folder / "kept")
    try:
        status, text = why(folder)
    finally:
        shutil.rmtree(metadata, ignore_errors=True)
        (folder / "kept").rename(metadata)
    assert status == 0
    assert "57 jobs with results and without Snakemake's record" in text


def test_targets_until_and_every_output(folder, edit):
    edit("train: {steps: 10}, infer", "train: {steps: 12}, infer")
    _, text = why(folder, "models")
    assert text.startswith("1 of ")
    _, text = why(folder, "--until", "infer", "--all-jobs")
    assert "results/both/models/line/cfm/seed-0.pt" in text
    assert "evaluate" not in text


def test_a_folder_without_results_makes_everything(tmp_path):
    shutil.copy(STUDIES / "tiny.yaml", tmp_path)
    status, text = pullback("why", "tiny.yaml", folder=tmp_path)
    assert status == 1
    assert "not made yet" in text
    assert "how long that takes is not known" in text
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.yaml"], "none.yaml: cannot be read"),
        ([STUDY, "nonsense"], "nonsense"),
        ([STUDY, "--cores", "0"], "--cores"),
        ([STUDY, "--colour"], "No such option"),
    ],
)
def test_wrong_usage(folder, arguments, said):
    status, text = pullback("why", *arguments, folder=folder, repository=folder / "code")
    assert status == 2
    assert said in text
    assert "Traceback" not in text


def test_a_misspelt_key_is_refused(folder, edit):
    edit("steps: 10", "step: 10")
    status, text = why(folder)
    assert status == 2
    assert "did you mean 'steps'?" in text


def test_help_and_version():
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        )

    for command in ("why", "check", "resources", "compare"):
        done = run("-m", "pullback", command, "--help")
        assert done.returncode == 0
        assert "Examples:" in done.stdout
        assert "Exit status:" in done.stdout
    done = run("-m", "pullback", "--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("why", "check", "resources", "compare"))
    assert "pullback, version" in run("-m", "pullback", "--version").stdout
    # What makes the help slow, and what jobs do without.
    heavy = "import sys, pullback.cli; print([m for m in ('numpy', 'pydantic', 'snakemake') if m in sys.modules])"
    assert run("-c", heavy).stdout.strip() == "[]"
    jobs = "import sys, pullback.methods.train, pullback.study.workflow_inputs; print('click' in sys.modules)"
    assert run("-c", jobs).stdout.strip() == "False"
