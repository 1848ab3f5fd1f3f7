"""Snakemake's dry run in this process, as plain values.

The jobs and the reasons come from Snakemake's graph, built with the repository's Snakefile and profile, so that they
are those of a run. Nothing is written but Snakemake's folder ``.snakemake``, as in any dry run.
"""

import ast
import io
import json
import logging
import os
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pullback.cli.common import Refused
from pullback.core.optional import MissingExtraError, require
from pullback.study.provenance import SCRIPTS, SOURCE


class Params(NamedTuple):
    """Params of a job: its text, its code (module -> digest), and what else there is."""

    job: dict[str, Any]
    code: dict[str, str]
    other: frozenset[str]


NO_PARAMS = Params({}, {}, frozenset())


@dataclass(frozen=True)
class Job:
    """One job of a study, and what is recorded of its last run.

    Attributes:
        rule, wildcards, outputs, inputs, benchmark: as Snakemake has them.
        threads, gpus: what the rule or a profile gives it.
        after: numbers of the jobs whose outputs it reads.
        runs: whether it would run now.
        missing: outputs that are not there.
        newer: inputs that are newer than its outputs and have another content.
        incomplete: whether a run that was killed left its outputs behind.
        environment: whether its software environment changed.
        params: its params now.
        old, old_inputs: params and inputs of its last run; None where there is no record.
    """

    rule: str
    wildcards: dict[str, str]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    benchmark: str
    threads: int
    gpus: int
    after: tuple[int, ...]
    runs: bool
    missing: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()
    incomplete: bool = False
    environment: bool = False
    params: Params = NO_PARAMS
    old: Params | None = None
    old_inputs: tuple[str, ...] | None = None

    @property
    def is_page(self) -> bool:
        """Whether its params hold the whole study."""
        return "problem" not in self.wildcards


def find_snakefile() -> Path:
    """The Snakefile of this folder, as snakemake finds it; else the one that this package is beside.

    Raises:
        Refused: there is none.
    """
    for folder in (Path(), SOURCE.parent):
        if (folder / "Snakefile").is_file() and (folder / "workflow/Snakefile").is_file():
            return folder / "Snakefile"
    raise Refused("there is no Snakefile of pullback here; go to the folder of the repository")


def dry_run(
    study: Path, targets: tuple[str, ...] = (), until: tuple[str, ...] = (), profile: str | None = None, cores: int = 1
) -> list[Job]:
    """The jobs of a study, in an order in which they could run.

    Args:
        study: the study's file.
        targets: rules or files; none: the whole study.
        until: rules or files that end the run.
        profile: a profile of Snakemake beside the default one.
        cores: jobs with more threads are given this many, as in a run.

    Raises:
        Refused: Snakemake is not installed, or finds no way to make a target.
    """
    try:
        require("snakemake", "workflow")
    except MissingExtraError as error:
        raise Refused(str(error)) from None
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_args
    from snakemake.exceptions import RuleException
    from snakemake.settings import types
    from snakemake_interface_common.exceptions import ApiError, WorkflowError

    arguments = ["--snakefile", str(find_snakefile()), "--cores", str(cores), "--configfile", str(study), "--dry-run"]
    if profile:
        arguments += ["--profile", profile]
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            _, given = parse_args(arguments)
    except SystemExit:
        raise Refused(f"snakemake does not take these settings: {said.getvalue().strip()}") from None
    output = types.OutputSettings(dryrun=True, quiet={types.Quietness.RULES, types.Quietness.PROGRESS})
    before, at = dict(os.environ), logging.root.manager.disable
    # What Snakemake says while it looks would stand between the lines of the answer.
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(said), redirect_stderr(said), SnakemakeApi(output) as api:
            workflow = api.workflow(
                resource_settings=types.ResourceSettings(
                    cores=given.cores,
                    overwrite_threads=given.set_threads,
                    overwrite_resources=given.set_resources,
                    default_resources=given.default_resources,
                ),
                config_settings=types.ConfigSettings(configfiles=[study]),
                workflow_settings=types.WorkflowSettings(cache=given.cache),
                deployment_settings=types.DeploymentSettings(
                    deployment_method=given.software_deployment_method, conda_prefix=given.conda_prefix
                ),
                snakefile=given.snakefile or find_snakefile(),
            )
            dag = workflow.dag(
                types.DAGSettings(
                    targets=set(targets),
                    until=set(until),
                    force_incomplete=True,
                    rerun_triggers=given.rerun_triggers,
                    max_checksum_file_size=given.max_checksum_file_size,
                )
            )
            dag.execute_workflow(executor="dryrun", execution_settings=types.ExecutionSettings(lock=False))
            return _jobs(workflow._workflow)
    except (WorkflowError, RuleException, ApiError, OSError) as error:
        raise Refused(f"snakemake cannot plan this run: {error}") from None
    finally:
        logging.disable(at)
        os.environ.clear()
        os.environ.update(before)


def _jobs(workflow: Any) -> list[Job]:
    dag, records = workflow.dag, workflow.persistence
    running = set(dag.needrun_jobs())
    levels = (sorted(level, key=lambda job: (job.rule.name, str(job.output))) for level in dag.toposorted())
    ordered = [job for level in levels for job in level if job.output]
    numbers = {job: number for number, job in enumerate(ordered)}
    found = []
    for job in ordered:
        common = {
            "rule": job.rule.name,
            "wildcards": dict(job.wildcards_dict),
            "outputs": tuple(map(str, job.output)),
            "inputs": tuple(map(_source, job.input)),
            "benchmark": str(job.benchmark or ""),
            "threads": int(job.threads),
            "gpus": int(job.resources.get("gpu", 0) or 0),
            "after": tuple(sorted(numbers[other] for other in dag.dependencies[job] if other in numbers)),
            "runs": job in running,
            "missing": tuple(name for name in map(str, job.output) if not os.path.exists(name)),
            "old": None if (old := records.params(job.output[0])) is None else _params(old),
        }
        if job in running:
            reason = dag.reason(job)
            common |= {
                "newer": tuple(sorted(os.path.relpath(_source(file)) for file in reason.updated_input)),
                # Nothing else forces a job here.
                "incomplete": not dag.forcefiles.isdisjoint(job.output),
                "environment": bool(reason.software_stack_changed),
                "params": _params(map(repr, job.non_derived_params)),
                "old_inputs": None if (inputs := records.input(job.output[0])) is None else tuple(map(str, inputs)),
            }
        found.append(Job(**common))
    return found


def _source(file: Any) -> str:
    """A file of the workflow itself is read from a copy: its true path, as Snakemake records it."""
    from snakemake.io import get_flag_value

    return str(get_flag_value(file, "sourcecache_entry") or file)


def _params(recorded: Iterable[str]) -> Params:
    """Params as Snakemake records them: texts of Python values, of which each names what it holds."""
    values = [_value(text) for text in recorded]
    job = {name: value for part in values if isinstance(part, dict) for name, value in part.items()}
    texts = frozenset(str(value) for value in values if not isinstance(value, dict))
    manifests = [text for text in texts if SCRIPTS in text]
    return Params(job, json.loads(manifests[0]) if manifests else {}, texts.difference(manifests))


@cache
def _value(text: str) -> Any:
    """The value of a recorded param. Thousands of jobs have few different ones."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
