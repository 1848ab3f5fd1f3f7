"""The tables of docs/reruns.md, row by row: do what the row says, ask for a dry run, compare the rules.

The study has run (the touch executor recorded its params and inputs); every row has a copy of its folder. A row
without a case here, or a case without a row, is an error.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dag import REPOSITORY, STUDIES, Job, ask, copy_repository, counts, finish, planned, rules
from reruns_page import GROUPS, IN_PARTS, examples, named_rules, rows

pytestmark = pytest.mark.xdist_group("rerun")

ROWS = rows("what you do")
TRIGGERS = ("--rerun-triggers", "mtime", "params", "input", "software-env")
ENSEMBLES = "results/both/ensembles/line"
SHARD = f"{ENSEMBLES}/plus/test/shard-000.h5"
LARGE = f"{ENSEMBLES}/sweep/train/shard-000.h5"
MODEL = "results/both/models/line/cfm/seed-0.pt"
METRICS = "results/both/metrics/line/cfm.csv"
TINY_SHARD = "results/tiny/ensembles/line/plus/test/shard-000.h5"


class Place:
    """A folder in which a study has run, and the code beside it, for one row.

    Attributes:
        arguments: what the dry run is asked with, besides the study.
        code: the repository; edits of it are taken back.
    """

    def __init__(self, folder: Path, study: str, code: Path):
        self.folder, self.study, self.code = folder, Path(study), code
        self.arguments: list[str] = []
        self._before: dict[Path, str] = {}

    def replace(self, file: str, *pairs: tuple[str, str]) -> None:
        """Edit a file of the repository."""
        path = self.code / file
        text = self._before.setdefault(path, path.read_text())
        for old, new in pairs:
            assert old in text, f"{file}: {old}"
            text = text.replace(old, new, 1)
        path.write_text(text)

    def edit(self, key: str, value: Any) -> None:
        """Edit a key of the study; None takes it out."""
        path = self.folder / self.study
        study = yaml.safe_load(path.read_text())
        *parents, last = key.split(".")
        node = study
        for parent in parents:
            node = node.setdefault(parent, {})
        assert node.get(last) != value
        if value is None:
            del node[last]
        else:
            node[last] = value
        path.write_text(yaml.safe_dump(study, sort_keys=False, allow_unicode=True))

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false", "-c", "core.autocrlf=false"]
        subprocess.run(["git", *who, *arguments], cwd=self.code, check=True, capture_output=True)

    def run(self, *arguments: str) -> None:
        """Snakemake without jobs, such as --touch."""
        status, said = ask(*arguments, "--configfile", self.study, folder=self.folder, repository=self.code)
        assert status == 0, said

    def jobs(self) -> list[Job]:
        return planned(self.folder, self.study, *self.arguments, repository=self.code)

    def put_back(self) -> None:
        for path, text in self._before.items():
            path.write_text(text)
        shutil.rmtree(self.code / ".git", ignore_errors=True)


Case = Callable[[Place], None]
CASES: dict[str, Case] = {}
# Rows about another study than `both`.
STUDY_OF: dict[str, str] = {}


def case(row: str, study: str = "both") -> Callable[[Case], Case]:
    def note(action: Case) -> Case:
        assert row not in CASES, row
        CASES[row] = action
        STUDY_OF[row] = study
        return action

    return note


# Files


@case("touch the study, the Snakefile, every rule, script and module")
def _(place):
    os.utime(place.folder / place.study)
    for path in place.code.rglob("*"):
        os.utime(path)


@case("touch a shard of at most 1 MB")
def _(place):
    os.utime(place.folder / SHARD)


@case("touch a shard of more than 1 MB")
def _(place):
    os.utime(place.folder / LARGE)


@case("touch a result")
def _(place):
    os.utime(place.folder / "results/both/report/index.html")


@case("delete the table of all metrics")
def _(place):
    (place.folder / "results/both/report/metrics.csv").unlink()


@case("delete the metrics of a method")
def _(place):
    (place.folder / METRICS).unlink()


@case("delete a trained model")
def _(place):
    (place.folder / MODEL).unlink()


@case("delete a trained model, then ask for `models`")
def _(place):
    (place.folder / MODEL).unlink()
    place.arguments = ["--until", "train", "prior", "--", "models"]


@case("delete a shard, then ask for it by name")
def _(place):
    (place.folder / SHARD).unlink()
    place.arguments = ["--", SHARD]


@case("edit a shard by hand, or cut it short")
def _(place):
    (place.folder / SHARD).write_bytes(b"other")


@case("edit an outside file that a family reads", study="gathers")
def _(place):
    (place.folder / "shot0.segy").write_text("another shot")


@case("delete logs and benchmarks")
def _(place):
    for kind in ("logs", "benchmarks"):
        path = place.folder / f"results/both/{kind}"
        path.mkdir(exist_ok=True)
        shutil.rmtree(path)


# Code


def commit_a_change_on_a_branch(place: Place) -> None:
    place.git("init", "-b", "main")
    place.git("add", "src", "workflow", "profiles", "envs", "Snakefile")
    place.git("commit", "-m", "first")
    place.git("checkout", "-b", "other")
    place.replace("src/pullback/metrics/distances.py", ("import numpy", "CHANGED = 1\nimport numpy"))
    place.git("commit", "-am", "second")


@case("check out another branch with real changes in a metric")
def _(place):
    commit_a_change_on_a_branch(place)


@case("check out another branch and come back")
def _(place):
    commit_a_change_on_a_branch(place)
    place.git("checkout", "main")


@case("clone the repository again at another path, beside the results")
def _(place):
    commit_a_change_on_a_branch(place)
    place.git("checkout", "main")
    clone = place.folder / "clone"
    place.git("clone", str(place.code), str(clone))
    place.put_back()
    place.code = clone


CODE = {
    "reformat a script, add comments to it": (
        "workflow/scripts/simulate.py",
        ("with job_log(snakemake.log[0]):", "# a comment\nwith job_log(\n    snakemake.log[0],\n):"),
    ),
    "write comments and docstrings in the package": (
        "src/pullback/metrics/evaluate.py",
        ('"""', '"""New words. '),
        ("\ndef evaluate(", "\n# a comment\ndef evaluate("),
    ),
    "reformat a rule, or add a comment to it": (
        "workflow/rules/evaluate.smk",
        ("    threads: 1\n", "    # a comment\n    threads:\n        1\n"),
    ),
    "change a rule's threads, memory, run time or priority": (
        "workflow/rules/evaluate.smk",
        ("    threads: 1\n", "    threads: 2\n    priority: 7\n"),
        ("mem_mb=4000", "mem_mb=5000"),
        ("runtime=240", "runtime=250"),
    ),
    "change a helper of the metrics": (
        "src/pullback/metrics/distances.py",
        ("import numpy", "CHANGED = 1\nimport numpy"),
    ),
    "change the module of a method": (
        "src/pullback/methods/classical/random_truth.py",
        ("import numpy", "CHANGED = 1\nimport numpy"),
    ),
    "change the driver of training": (
        "src/pullback/methods/train.py",
        ("    spec = spec_of(plan", "    changed = 1\n    spec = spec_of(plan"),
    ),
    "change the script of a rule": (
        "workflow/scripts/simulate.py",
        ("with job_log", "changed = 1\nwith job_log"),
    ),
    "change how logs are written": ("src/pullback/core/joblog.py", ("INFO", "DEBUG")),
    "add a kind of method to the registry": (
        "src/pullback/registry.py",
        ('    "methods": {', '    "methods": {\n        "another": "pullback.methods.classical.another:AnotherSpec",'),
    ),
    "describe an option otherwise, or bound it": (
        "src/pullback/diffusion/settings.py",
        ("steps: int = Field(default=3000, ge=1)", 'steps: int = Field(default=3000, ge=2, description="updates")'),
    ),
    "change what a Spec says of its method": (
        "src/pullback/methods/classical/random_truth.py",
        ("baseline: ClassVar[bool] = True", "baseline: ClassVar[bool] = False"),
    ),
    "give a rule one more param": ("workflow/rules/evaluate.smk", ("    params:\n", "    params:\n        more=1,\n")),
    "give a rule one more input": (
        "workflow/rules/evaluate.smk",
        ("    input:\n", '    input:\n        more="both.yaml",\n'),
    ),
}


def replaces(row: str) -> Case:
    file, *pairs = CODE[row]
    return lambda place: place.replace(file, *pairs)


for _row in CODE:
    case(_row)(replaces(_row))


@case("let a rule's `script:` name another script of the same content")
def _(place):
    shutil.copy(place.code / "workflow/scripts/evaluate.py", place.code / "workflow/scripts/evaluate2.py")
    place.replace("workflow/rules/evaluate.smk", ("scripts/evaluate.py", "scripts/evaluate2.py"))


@case("change your own simulator's file", study="decay")
def _(place):
    path = place.folder / "config/studies/decay.py"
    path.write_text(path.read_text().replace("0.3", "0.4"))


@case("write comments in your own simulator's file", study="decay")
def _(place):
    path = place.folder / "config/studies/decay.py"
    path.write_text("# a comment\n" + path.read_text())


@case("change the file that `tiles` are cut from", study="shifted")
def _(place):
    (place.folder / "model.npy").write_bytes(b"other rock")


# The study. Each edit is one key and its value, and the only files that may be made again besides the pages.

NEW_METHOD = {"kind": "cfm", "train": {"steps": 10}}
STUDY: dict[str, tuple[str, Any, str]] = {
    "`title`": ("title", "new", "nothing"),
    "`title` of a family": ("problems.line.families.plus.title", "new", "line/"),
    "`seed`": ("seed", 8, ""),
    "`seeds` from 1 to 2": ("seeds", 2, r"\w+/\w+/seed-1|\w+/\w+/\w+/seed-1|\w+/\w+\."),
    "`threads`": ("threads", 2, ""),
    "`accelerator`": ("accelerator", "cpu", ""),
    "`size.test` of a problem": (
        "problems.line.size.test",
        3000,
        r"line/(plus/test/shard-002|plus/test\.|noisy|cfm|oracle|unguided)",
    ),
    "`size.reference` of a problem": (
        "problems.line.size.reference",
        2000,
        r"line/(plus/reference/shard-001|plus/reference\.|cfm|oracle|unguided)",
    ),
    "`size.shard`": ("problems.line.size.shard", 2000, "line/"),
    "more ensembles in a sweep": (
        "problems.line.families.sweep.sweep.ensembles",
        8,
        "line/(sweep/train|cfm|oracle|edm|unguided)",
    ),
    "`params` of an unseen family": (
        "problems.jets.families.leptoquarks.params.mass",
        900,
        "jets/(leptoquarks|field|random)",
    ),
    "`simulator` of a problem": ("problems.line.simulator", {"noise": 0.4}, "line/"),
    "`shift` of a family": ("problems.line.families.noisy.shift.relative", 0.3, "line/(noisy|cfm|oracle|unguided)"),
    "`role` of a family from unseen to seen": (
        "problems.line.families.plus.role",
        "seen",
        "line/(plus|noisy|cfm|oracle|edm|unguided)",
    ),
    "a new family": (
        "problems.line.families.minus",
        {"role": "unseen", "params": {"gamma": -0.5}},
        r"line/(minus|\w+/default/seed-0/minus|(cfm|oracle|unguided)\.)",
    ),
    "a family is removed": ("problems.line.families.noisy", None, r"line/(cfm|oracle|unguided)\."),
    "`evaluation`": ("problems.line.evaluation.bootstrap", 7, "line/"),
    "`headline` of `evaluation`": ("problems.line.evaluation.headline", "crps", "nothing"),
    "`figures`": ("figures", [{"y": "swd_draw", "x": "params.gamma"}], "nothing"),
    "`train` of a method": ("problems.line.methods.cfm.train.steps", 7, "line/cfm"),
    "`network` of a method": ("problems.line.methods.cfm.network", {"kind": "mlp", "width": 8}, "line/cfm"),
    "`train` of a prior": ("problems.line.priors.edm.train.learning_rate", 0.1, "line/(edm|unguided)"),
    "`infer` of a method": ("problems.line.methods.cfm.infer.default.steps", 7, "line/cfm"),
    "`parts` of an inference": ("problems.line.methods.cfm.infer.default.parts", 3, "line/cfm"),
    "one more inference of a method": (
        "problems.line.methods.cfm.infer.longer",
        {"steps": 50},
        r"line/cfm(/longer|\.)",
    ),
    "a new method": ("problems.line.methods.second", NEW_METHOD, "line/second"),
    "a method is removed": ("problems.line.methods.oracle", None, "nothing"),
}


def edits(row: str) -> Case:
    key, value, _ = STUDY[row]
    return lambda place: place.edit(key, value)


for _row in STUDY:
    case(_row)(edits(_row))


REFINED = "problems.line.methods.cfm.infer.exact"


@case("`draws` of a refined inference", study="refine")
def _(place):
    place.edit(f"{REFINED}.draws", 33)


@case("`refine` of an inference", study="refine")
def _(place):
    place.edit(f"{REFINED}.refine.jitter", 0.5)


@case("write comments, sort keys of a block, change the layout of the YAML")
def _(place):
    path = place.folder / place.study
    study = yaml.safe_load(path.read_text())
    line = study["problems"]["line"]
    line["size"] = dict(sorted(line["size"].items()))
    path.write_text("# a comment\n" + yaml.safe_dump(study, sort_keys=False, default_flow_style=True))


# An edit that is taken back: the study has run with another seed since.

BACK = "tiny with another seed"


@case("run with `--config seed=5`, then without it (or edit `seed`, run, and take the edit back)", study=BACK)
def _(place):
    assert len(list((place.folder / "results/tiny").glob("study-*.json"))) == 1


@case("... with `--rerun-triggers mtime`", study=BACK)
def _(place):
    place.arguments = ["--rerun-triggers", "mtime"]


@case("... after `.snakemake` was deleted", study=BACK)
def _(place):
    shutil.rmtree(place.folder / ".snakemake")


@case("... after `--touch`", study=BACK)
def _(place):
    place.run("--touch")


# Environments. Snakemake asks conda for its name, version and priorities before it looks at an environment's file; in a
# dry run that is all, so a stand-in answers. What is compared is Snakemake's own digest of the file.

CONDA = """#!/bin/sh
case "$*" in
  "info --json") echo '{"platform": "linux-64", "conda_prefix": "/conda", "root_prefix": "/conda"}' ;;
  "--version") echo "conda 24.7.1" ;;
  *) echo '{"get": {"channel_priority": "strict"}}' ;;
esac
"""
LEARN = ("envs/learn.yaml", ("dependencies:", "# another environment\ndependencies:"))


@case("edit `envs/requirements.lock`")
def _(place):
    place.replace("envs/requirements.lock", ("numpy==", "another==1.0\nnumpy=="))


@case("edit `envs/learn.yaml`")
def _(place):
    place.replace(*LEARN)


@case("edit `envs/learn.yaml`, with `--sdm conda`", study="tiny with conda")
def _(place):
    place.replace(*LEARN)
    place.arguments = ["--sdm", "conda", "--conda-prefix", "/conda/envs"]


@case("add `--sdm conda` to a study that ran without", study="decay")
def _(place):
    place.arguments = ["--sdm", "conda", "--conda-prefix", "/conda/envs"]


@case("move the folder, with `--sdm conda` and `--conda-prefix`", study="tiny with conda")
def _(place):
    place.arguments = ["--sdm", "conda", "--conda-prefix", "/conda/envs"]


@case("move the folder, with `--sdm conda`", study="tiny with conda")
def _(place):
    place.run("--touch", "-F", "--sdm", "conda")
    moved = place.folder.with_name("moved")
    shutil.copytree(place.folder, moved, symlinks=True)
    place.folder = moved
    place.arguments = ["--sdm", "conda"]


# The memory of Snakemake

STAGES = ("ensembles", "priors", "models", "posteriors", "metrics", "report")


def lose_times(folder: Path) -> None:
    """Times as a copy may leave them: the later a file was made in the study, the older it is now."""
    for path in filter(Path.is_file, (folder / "results").rglob("*")):
        stage = path.relative_to(folder).parts[2]
        rank = 10 * STAGES.index(stage) if stage in STAGES else 100
        is_index = path.with_suffix("").is_dir()
        is_derived = "noisy" in path.parts or "field" in path.parts
        os.utime(path, (1e9 - rank - is_index - 2 * is_derived + 3 * (path.suffix in (".root", ".json")),) * 2)


def copied(place: Place, *names: str, how: str) -> None:
    """A copy of the study and of what else is named, in the place's stead."""
    target = place.folder.with_name("copied")
    target.mkdir()
    subprocess.run(["cp", how, str(place.study), *names, str(target)], cwd=place.folder, check=True)
    place.folder = target
    if how == "-r":
        lose_times(target)


@case("copy `results` and `.snakemake` with times (`cp -a`, `rsync -a`)")
def _(place):
    copied(place, "results", ".snakemake", how="-a")


@case("copy `results` and `.snakemake` without times (`cp -r`), worst order")
def _(place):
    copied(place, "results", ".snakemake", how="-r")


@case("copy `results` alone, with times")
def _(place):
    copied(place, "results", how="-a")


@case("copy `results` alone, without times, worst order")
def _(place):
    copied(place, "results", how="-r")


@case("delete `.snakemake`")
def _(place):
    shutil.rmtree(place.folder / ".snakemake")


@case("delete `.snakemake`, then edit the study")
def _(place):
    shutil.rmtree(place.folder / ".snakemake")
    place.edit("problems.line.families.plus.params.gamma", 0.6)


@case("`--cleanup-metadata` of shards, then edit their `params`", study="tiny")
def _(place):
    place.edit("problems.line.families.plus.params.gamma", 0.6)
    place.run("--cleanup-metadata", *(str(path.relative_to(place.folder)) for path in place.folder.rglob("shard-*.h5")))


@case("delete `.snakemake`, `--touch -F`, then edit `evaluation`")
def _(place):
    shutil.rmtree(place.folder / ".snakemake")
    place.run("--touch", "-F")
    place.edit("problems.line.evaluation.bootstrap", 7)


# Options

OPTIONS = {
    "`--cores 7`": ["--cores", "7"],
    "`--set-threads train=2`, `--set-resources train:mem_mb=8000`": [
        *("--set-threads", "train=2", "--set-resources", "train:mem_mb=8000"),
        *("--cores", "2"),
    ],
    "`--config threads=2`": ["--config", "threads=2"],
    "`-F`": ["-F"],
    "`-R evaluate`": ["-R", "evaluate"],
    "`-f` and the metrics of a method": ["-f", METRICS],
    "`-R train --until index_posterior`": ["-R", "train", "--until", "index_posterior"],
}


def asks(row: str) -> Case:
    return lambda place: place.arguments.extend(OPTIONS[row])


for _row in OPTIONS:
    case(_row)(asks(_row))


@case("edit `params` of a family, `--rerun-triggers mtime`")
def _(place):
    place.edit("problems.line.families.plus.params.gamma", 0.6)
    place.arguments = ["--rerun-triggers", "mtime"]


@case("edit `params` of a family, then `--touch`", study="tiny")
def _(place):
    place.edit("problems.line.families.plus.params.gamma", 0.6)
    place.run("--touch")


@case("change a helper of the metrics, then `--touch`", study="tiny")
def _(place):
    CASES["change a helper of the metrics"](place)
    place.run("--touch")


@case("change a helper of the metrics, then `--cleanup-metadata` of what it made", study="tiny")
def _(place):
    CASES["change a helper of the metrics"](place)
    assert {job.rule for job in place.jobs()} >= {"evaluate", "report"}
    place.run("--cleanup-metadata", *(name for job in place.jobs() for name in job.output))


@case("touch all scripts, with the `code` trigger on in a profile")
def _(place):
    for path in (place.code / "workflow/scripts").iterdir():
        os.utime(path)
    place.arguments = [*TRIGGERS, "code"]


# The tests


def use_stand_in_for_conda(folder: Path) -> None:
    (folder / "conda").write_text(CONDA)
    (folder / "conda").chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="module")
def code(tmp_path_factory) -> Iterator[Path]:
    """A copy of the code. Snakemake finds a stand-in for conda."""
    path = os.environ["PATH"]
    use_stand_in_for_conda(tmp_path_factory.mktemp("bin"))
    yield copy_repository(tmp_path_factory.mktemp("code"))
    os.environ["PATH"] = path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, code) -> Callable[[str], tuple[Path, str]]:
    """Folders in which a study has run, by name: made when a row asks for one."""
    made: dict[str, tuple[Path, str]] = {}

    def make(name: str) -> tuple[Path, str]:
        if name in made:
            return made[name]
        folder = tmp_path_factory.mktemp("finished")
        study = f"{name.split()[0]}.yaml"
        if name.startswith("tiny with"):
            shutil.copytree(make("tiny")[0], folder, symlinks=True, dirs_exist_ok=True)
            arguments = ["--sdm", "conda", "--conda-prefix", "/conda/envs"]
            if name == BACK:
                arguments = ["--config", "seed=5"]
                # The one job that is run in earnest.
                resolved = next(
                    job for job in planned(folder, Path(study), *arguments, repository=code) if job.rule == "resolve"
                )
                status, said = ask(
                    *arguments, "--configfile", study, "--", *resolved.output, folder=folder, repository=code
                )
                assert status == 0, said
            status, said = ask("--touch", "-F", *arguments, "--configfile", study, folder=folder, repository=code)
            assert status == 0, said
            made[name] = folder, study
            return made[name]
        if name == "decay":
            study = f"config/studies/{study}"
            (folder / study).parent.mkdir(parents=True)
            for suffix in (".yaml", ".py"):
                shutil.copy((REPOSITORY / study).with_suffix(suffix), (folder / study).parent)
        else:
            shutil.copy(STUDIES / study, folder)
        if name == "gathers":
            for file in set(re.findall(r"\w+\.(?:nc|segy)", (folder / study).read_text())):
                (folder / file).write_text(file)
        if name == "both":
            (folder / LARGE).parent.mkdir(parents=True)
            with (folder / LARGE).open("wb") as stream:
                stream.truncate(2_000_000)
        if name == "shifted":
            (folder / "model.npy").write_bytes(b"rock")
        finish(folder, Path(study), code)
        made[name] = folder, study
        return made[name]

    return make


@pytest.fixture
def place(request, finished, code, tmp_path) -> Iterator[Place]:
    folder, study = finished(STUDY_OF[request.param])
    there = tmp_path / "study"
    shutil.copytree(folder, there, symlinks=True)
    place = Place(there, study, code)
    yield place
    place.put_back()


def test_every_row_has_a_case_and_every_case_a_row():
    assert set(ROWS) == set(CASES)


def everything(study: str) -> set[str]:
    found = {"preflight", "simulate", "index_ensemble", *GROUPS["inference"], *GROUPS["pages"]}
    if study == "both":
        return found | GROUPS["training"] | {"collide", "read", "derive"}
    return found | {"decay": {"train", "derive"}, "shifted": {"derive"}}.get(study, set())


@pytest.mark.parametrize(("row", "place"), [(row, row) for row in CASES], indirect=["place"], ids=list(CASES))
def test_what_reruns(row, place):
    CASES[row](place)
    jobs = place.jobs()
    study = STUDY_OF[row]
    named = named_rules(ROWS[row], everything(study.split()[0]))
    optional = {"models", IN_PARTS} - named if GROUPS["inference"] <= named else {"models"}
    assert rules(jobs) - optional == named
    if row in STUDY:
        inside = re.compile(rf"results/both/\w+/(?:{STUDY[row][2]})")
        made = [name for job in jobs if job.rule not in GROUPS["pages"] for name in job.output]
        assert [name for name in made if not inside.match(name)] == []


@pytest.mark.parametrize("example", examples(), ids=lambda example: " ".join(example.command[3:]))
def test_the_commands_do_what_they_say(example, finished, code):
    folder, _ = finished("decay")
    program, *arguments = example.command
    assert program == "snakemake"
    split = arguments.index("--configfile")
    study = Path(arguments[split + 1])
    jobs = planned(folder, study, *arguments[:split], *arguments[split + 2 :], repository=code)
    assert {rule: count for rule, count in counts(jobs).items() if rule != "all"} == example.jobs
