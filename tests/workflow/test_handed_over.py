"""A study that comes from an outer workflow, or from a file and the command line: docs/modules.md."""

import copy
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from dag import REPOSITORY, STUDIES, ask
from snakemake.cli import parse_config
from snakemake.settings.types import ConfigSettings

from pullback.study import StudyError, load_study
from pullback.study.job_params import Plan
from pullback.study.opening import open_study
from pullback.study.workflow_inputs import Graph

TINY = (STUDIES / "tiny.yaml").read_text()
MODULE = """
configfile: "all.yaml"
module pullback:
    snakefile: "{repository}/workflow/Snakefile"
    config: config["pullback"]
use rule * from pullback as pullback_*
rule mine:
    input: rules.pullback_all.input
"""
INCLUDED = """
configfile: "tiny.yaml"
config["seed"] = 77
include: "{repository}/Snakefile"
workflow.default_target = "all"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a study in config/ and one that is a block of another config."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    (tmp_path / "config").mkdir()
    Path("config/config.yaml").write_text(TINY.replace("gamma: 0.5", "gamma: 5e-1"))
    indented = "\n".join(f"  {line}" for line in TINY.splitlines())
    Path("all.yaml").write_text(f"mine: 1\npullback:\n{indented}\n  seed: 77\n")
    return tmp_path


def resolved(**edit):
    """The file of the study with some keys changed, as a run names it."""
    return Graph(Plan(load_study({**yaml.safe_load(TINY), **edit})), REPOSITORY / "workflow/scripts").resolved()


@pytest.mark.parametrize("outer", [MODULE, INCLUDED])
def test_what_an_outer_workflow_hands_over_is_the_study(outer, folder):
    Path("outer.smk").write_text(outer.format(repository=REPOSITORY))
    status, said = ask("-n", "-s", "outer.smk", folder=folder)
    assert status == 0, said
    assert resolved(seed=77) in said


def opened(*files, given=(), change=None, directive=(), module=None):
    """The study of a run: files and keys on the command line, files by directive, keys changed, a module's config."""
    settings = ConfigSettings(config=parse_config(given), configfiles=[Path(f) for f in files], config_args=list(given))
    config = copy.deepcopy(settings.overwrite_config)
    for file in directive:
        config = {**yaml.safe_load(Path(file).read_text()), **config}
    modifier = SimpleNamespace(skip_configfile=bool(module), namespace="pb", is_main_snakefile=lambda: module is None)
    workflow = SimpleNamespace(
        config_settings=settings, configfiles=[*settings.configfiles, *directive], modifier=modifier
    )
    return open_study(workflow, module or {**config, **(change or {})})


def test_a_run_is_about_one_study(folder):
    assert opened().folder == "config"
    in_config = json.loads(opened().resolved())["study"]
    assert json.loads(opened("tiny.yaml").resolved()) == {"folder": ".", "study": in_config}
    assert opened(directive=["tiny.yaml"]).resolved() == opened("tiny.yaml").resolved()
    assert opened("tiny.yaml", given=["seed=5"]).study.seed == 5
    plan = opened("tiny.yaml", given=["problems={line: {families: {plus: {params: {gamma: 4e-1}}}}}"])
    assert plan.family("line", "plus").params == {"gamma": 0.4}
    assert opened(directive=["tiny.yaml"], change={"seed": 77}, given=["seed=5"]).study.seed == 77
    assert opened(directive=["config/config.yaml"], change={"seed": 77}).folder == "config"
    assert opened("all.yaml", module=yaml.safe_load(TINY)).resolved() == opened("tiny.yaml").resolved()
    for wrong, said in (
        ({"files": ["tiny.yaml", "all.yaml"]}, "a study is one config file; found tiny.yaml, all.yaml"),
        ({"files": ["tiny.yaml"], "given": ["seed=5", "seed=6"]}, "--config gives the key 'seed' twice"),
        ({"files": ["tiny.yaml"], "given": ["seed=-5"]}, "tiny.yaml with --config cannot run:\n  seed: Input should"),
        ({"files": [], "change": {"seed": 5}, "module": {}}, "module 'pb': its config is the study, and it has none"),
        ({"files": [], "module": {"seed": 1}}, "the config of module 'pb' cannot run:\n  config_version: this key is"),
    ):
        with pytest.raises(StudyError) as caught:
            opened(*wrong.pop("files"), **wrong)
        assert said in str(caught.value)


def test_the_default_study_is_read_as_pullback_check_reads_it(folder):
    """Not by Snakemake, for whom `1:30` is 90."""
    with Path("config/config.yaml").open("a") as file:
        file.write("title: 1:30\n")
    status, said = ask("-n", folder=folder)
    assert status != 0
    assert f"config/config.yaml, line {len(TINY.splitlines()) + 1}: `1:30` is read in two ways" in said
    assert "Traceback" not in said
    assert not os.path.exists("results")
