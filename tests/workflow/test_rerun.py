"""Editing one key of a study reruns exactly the rules that read it, and what follows from them.

The study has run (the touch executor recorded its params); each case edits one key, asks for a dry run, and says
which rules have jobs now. The page and the receipt hold the study itself, so that they follow every edit.
"""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from dag import STUDIES, Job, copy_repository, finish, planned, rules

pytestmark = pytest.mark.xdist_group("rerun")

ALWAYS = {"resolve", "report", "receipt"}
ANSWER = {"infer", "index_posterior", "evaluate"}
CASES = {
    "title": ("title", "new", set(), ""),
    "label of a family": ("problems.line.families.plus.title", "new", {"evaluate"}, "line"),
    "bootstrap": ("problems.line.judging.bootstrap", 7, {"evaluate"}, "line"),
    "sampler steps": ("problems.line.methods.cfm.infer.default.steps", 7, ANSWER, "line/cfm"),
    "draws": ("problems.jets.methods.random.infer.default", {"draws": 3}, ANSWER, "jets/random"),
    "training steps": ("problems.line.methods.cfm.train.steps", 7, {"train", *ANSWER}, "line/cfm"),
    "network": ("problems.line.methods.cfm.network", {"kind": "mlp", "width": 8}, {"train", *ANSWER}, "line/cfm"),
    "learning rate of a prior": (
        "problems.jets.priors.edm.train.learning_rate",
        0.1,
        {"prior", *ANSWER},
        "jets/(edm|unguided)",
    ),
    "a shift": (
        "problems.line.families.noisy.shift.relative",
        0.3,
        {"derive", "index_ensemble", *ANSWER},
        "line/(noisy|cfm|oracle)",
    ),
    "mass of an unseen process": (
        "problems.jets.families.leptoquarks.params.mass",
        900,
        {"collide", "read", "derive", "index_ensemble", *ANSWER},
        "jets/(leptoquarks|field|random|unguided)",
    ),
    "noise of a simulator": (
        "problems.line.simulator",
        {"noise": 0.4},
        {"preflight", "simulate", "derive", "index_ensemble", "train", *ANSWER},
        "line",
    ),
    "more reference events": (
        "problems.line.size.reference",
        2000,
        {"simulate", "index_ensemble", "evaluate"},
        "line/(plus|cfm|oracle)",
    ),
    "more training ensembles": (
        "problems.line.families.sweep.sweep.ensembles",
        8,
        {"simulate", "index_ensemble", "train", *ANSWER},
        "line/(sweep|cfm|oracle)",
    ),
    "threads": ("threads", 2, {"train", "prior", *ANSWER}, ""),
    "seed": (
        "seed",
        8,
        {"simulate", "collide", "read", "derive", "index_ensemble", "train", "prior", *ANSWER},
        "",
    ),
}


def jobs_now(folder: Path) -> list[Job]:
    return planned(folder, Path("both.yaml"), repository=folder / "code")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the study has run, with a copy of the code in it."""
    folder = tmp_path_factory.mktemp("rerun")
    shutil.copy(STUDIES / "both.yaml", folder)
    finish(folder, Path("both.yaml"), copy_repository(folder / "code"))
    return folder


@pytest.fixture
def study(folder):
    """The study as plain values; the file is put back afterwards."""
    path = folder / "both.yaml"
    before = path.read_text()
    yield yaml.safe_load(before)
    path.write_text(before)


@pytest.mark.parametrize("case", CASES)
def test_an_edit_reruns_exactly_its_rules(case, folder, study):
    key, value, expected, where = CASES[case]
    *parents, last = key.split(".")
    node = study
    for parent in parents:
        node = node.setdefault(parent, {})
    assert node.get(last) != value
    node[last] = value
    (folder / "both.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    jobs = jobs_now(folder)
    assert rules(jobs) == expected | ALWAYS
    inside = re.compile(rf"results/both/\w+/{where}[/.]") if where else re.compile("")
    outside = [name for job in jobs if job.rule not in ALWAYS for name in job.output if not inside.match(name)]
    assert outside == []


def test_only_new_shards_are_made_when_a_split_grows(folder, study):
    study["problems"]["line"]["size"]["reference"] = 2000
    (folder / "both.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    made = [job.output for job in jobs_now(folder) if job.rule == "simulate"]
    assert made == [("results/both/ensembles/line/plus/reference/shard-001.h5",)]


def test_formatting_of_the_study_reruns_nothing(folder, study):
    (folder / "both.yaml").write_text("# a comment\n" + yaml.safe_dump(study, sort_keys=False, default_flow_style=True))
    assert jobs_now(folder) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("workflow/scripts/simulate.py", "with job_log", "# a comment\nwith job_log", set()),
        ("src/pullback/joblog.py", "INFO", "DEBUG", set()),
        ("src/pullback/metrics/evaluate.py", '"""', '"""New words. ', set()),
        ("src/pullback/metrics/evaluate.py", "\ndef evaluate(", "\nCHANGED = 1\n\n\ndef evaluate(", set()),
        ("src/pullback/metrics/distances.py", "import numpy", "CHANGED = 1\nimport numpy", {"evaluate", "report"}),
        (
            "src/pullback/methods/classical/random_truth.py",
            "import numpy",
            "CHANGED = 1\nimport numpy",
            ANSWER | {"report"},
        ),
        (
            "src/pullback/study/methods.py",
            "class PriorDraws(MethodBase):",
            "class Another(MethodBase):\n    extra: int = 1\n\n\nclass PriorDraws(MethodBase):",
            set(),
        ),
    ],
)
def test_code_is_followed_by_what_it_says(file, old, new, expected, folder):
    """A touch, a comment, a docstring, the log, what a driver does not use: nothing. A helper: its users."""
    path = folder / "code" / file
    before = path.read_text()
    assert old in before
    try:
        path.write_text(before.replace(old, new, 1))
        found = rules(jobs_now(folder))
    finally:
        path.write_text(before)
    assert expected <= found <= expected | (ALWAYS if expected else set())
