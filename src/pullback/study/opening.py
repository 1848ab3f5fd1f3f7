"""The study that a run of Snakemake is about: one config file, or the config that an outer workflow hands over."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pullback.study.config import load_study, read_study
from pullback.study.job_params import Plan
from pullback.study.model import Study
from pullback.study.reading import StudyError, from_command_line, read_yaml, refuse_repeated_flags

DEFAULT = "config/config.yaml"

MOST_JOBS = 200_000
"""Of more jobs Snakemake would take hours, and memory without end, before the first of them starts."""


def plan_of(file: Path | str) -> Plan:
    """The plan of one study file.

    Raises:
        StudyError: the study is invalid.
    """
    path = Path(os.path.relpath(file))
    return _plan(read_study(path), path.parent)


def open_study(workflow: Any, config: Mapping[str, Any]) -> Plan:
    """The plan of the study that a run of Snakemake is about.

    A config file is read here and not taken from Snakemake, which reads numbers and keys otherwise; keys of
    ``--config`` replace its keys. What a module is given as its config, and a config that an outer workflow changed
    before it included this one, is the study as it is.

    Args:
        workflow: Snakemake's.
        config: the config as Snakemake holds it here.

    Raises:
        StudyError: the study is invalid, or given in more than one file.
    """
    refuse_repeated_flags(_own_arguments())
    settings, modifier = workflow.config_settings, workflow.modifier
    if not modifier.is_main_snakefile() and not modifier.skip_configfile:
        name = modifier.namespace
        raise StudyError(
            f"module '{name}': its config is the study, and it has none: give it `config:`, as in docs/modules.md"
        )
    files = [Path(os.path.relpath(file)) for file in workflow.configfiles]
    if not modifier.is_main_snakefile() or _was_changed(workflow, config):
        folder = files[0].parent if len(files) == 1 else Path(".")
        source = "the config" if modifier.is_main_snakefile() else f"the config of module '{modifier.namespace}'"
        return _plan(load_study(dict(config), folder, source), folder)
    if not files:
        # As the directive `configfile:` does, whose messages would be others.
        workflow.configfiles.append(DEFAULT)
        files = [Path(DEFAULT)]
    if len(files) > 1:
        raise StudyError(f"a study is one config file; found {', '.join(map(str, files))}: give one with --configfile")
    if not settings.config:
        return plan_of(files[0])
    raw = read_yaml(files[0])
    if isinstance(raw, dict):
        _update(raw, from_command_line(settings.config_args))
    return _plan(load_study(raw, files[0].parent, f"{files[0]} with --config"), files[0].parent)


def _was_changed(workflow: Any, config: Mapping[str, Any]) -> bool:
    """Whether an outer workflow changed the config after it was read."""
    try:
        return bool(config != _read_by_snakemake(workflow))
    except RecursionError:  # of a file with a block that contains itself, which reading it here refuses
        return False


def _read_by_snakemake(workflow: Any) -> dict[str, Any]:
    """The config as config files and the command line make it."""
    from snakemake.common.configfile import load_configfile

    settings, found = workflow.config_settings, dict[str, Any]()
    named = workflow.configfiles[len(settings.configfiles) :]
    for file in [] if settings.replace_workflow_config else named:
        _update(found, load_configfile(file))
    _update(found, settings.overwrite_config)
    return found


def _plan(study: Study, folder: Path) -> Plan:
    plan = Plan(study, folder)
    jobs = {f"problems.{p}.families.{f}: {split} is in": plan.shards(p, f, split) for p, f, split in plan.every_split()}
    for p, method in plan.every_method():
        for infer in study.problems[p].methods[method].infer:
            answers = study.seeds * len(study.infer_families(p, method, infer)) * plan.parts(p, method, infer)
            jobs[f"problems.{p}.methods.{method}.infer.{infer}: `seeds`, families and `parts` make"] = answers
    most = max(jobs, key=lambda said: jobs[said])
    if sum(jobs.values()) > MOST_JOBS:
        raise StudyError(
            f"the study has {sum(jobs.values())} jobs, wanted {MOST_JOBS} at most. {most} {jobs[most]} of them: "
            "take fewer, or a larger `size.shard`"
        )
    return plan


def _update(config: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Replace keys, block in block."""
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            _update(config[key], value)
        else:
            config[key] = dict(value) if isinstance(value, Mapping) else value


def _own_arguments() -> list[str]:
    """The command line of a process that is Snakemake."""
    program = Path(sys.argv[0])
    return sys.argv[1:] if "snakemake" in (program.name, program.parent.name) else []
