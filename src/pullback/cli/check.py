"""``pullback check``: find what would make a run fail, before it is queued."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pullback.cli.common import (
    FINE,
    FOUND,
    Refused,
    count,
    duration,
    open_plan,
    profile_option,
    study_argument,
    table,
)
from pullback.cli.problems import LOOKS, OK, PROBLEM, WARNING, Finding
from pullback.core.atomic import size

if TYPE_CHECKING:
    from pullback.cli.dryrun import Job
    from pullback.study.job_params import Plan

FLOAT32 = 4
JETS_PER_COLLISION = 5
"""An upper guess for what is read of one collision; it sets disk space only."""
COLLISION_BYTES = 4000
"""A collision in a ROOT file of ours, rounded up."""


@click.command(
    epilog="""\b
Examples:
  pullback check config/config.yaml
  pullback check config/config.yaml --profile profiles/slurm && snakemake --profile profiles/slurm ...

\b
Exit status: 0 nothing would fail (there may be warnings); 1 something would fail; 2 wrong usage, or a study that
cannot run."""
)
@study_argument
@click.option("--cores", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True)
@profile_option
@click.pass_context
def check(context: click.Context, study: Path, cores: int, profile: str | None) -> None:
    """Check that a run of STUDY can succeed here: packages, compiler, GPU, outside files, disk, locks.

    Prints one line for each check: ok, warning or problem, and the remedy.
    """
    plan = open_plan(study)
    from pullback.cli.dryrun import dry_run

    findings = []
    try:
        jobs = dry_run(study, profile=profile, cores=cores)
        findings += list(_study(plan, jobs, cores))
    except Refused as error:
        jobs = []
        findings.append(Finding(PROBLEM, "plan", error.message))
    for look in (_packages, _compiler, _accelerator, *LOOKS, _disk, _folder, _lock, _cache):
        findings += list(look(plan))
    click.echo(table(findings))
    problems = sum(finding.level == PROBLEM for finding in findings)
    warnings = sum(finding.level == WARNING for finding in findings)
    click.echo(f"\n{count(problems, 'problem')}, {count(warnings, 'warning')}")
    context.exit(FOUND if problems else FINE)


def _splits(plan: Plan) -> Iterator[tuple[str, str, Any]]:
    for problem, spec in plan.study.problems.items():
        for family in spec.families:
            for split in plan.splits(problem, family):
                yield problem, family, split


def _events(plan: Plan, problem: str, family: str, split: Any) -> int:
    """Events of one split, at most; those of outside files are not known before they are read."""
    if plan.source(problem, family) == "read":
        return 0
    if plan.source(problem, family) == "derive":
        return _events(plan, problem, plan.base(problem, family), "test")
    events = plan.events(problem, family, split)[0]
    return events * JETS_PER_COLLISION if plan.source(problem, family) == "collide" else events


def _study(plan: Plan, jobs: list[Job], cores: int) -> Iterator[Finding]:
    from pullback.cli.history import History

    shards = sum(plan.shards(*head) for head in _splits(plan))
    events = sum(plan.events(*head)[0] for head in _splits(plan) if plan.source(*head[:2]) in ("simulate", "collide"))
    said = f"valid: {count(len(plan.study.problems), 'problem')}, {count(len(jobs), 'job')}, {count(shards, 'shard')}"
    yield Finding(OK, "study", f"{said}, {events} events or collisions to simulate")
    running = [number for number, job in enumerate(jobs) if job.runs]
    expected = History(jobs).expected(jobs, running, cores)
    if not running:
        yield Finding(OK, "time", "nothing would run")
    elif expected.unknown == len(running):
        yield Finding(OK, "time", f"{count(len(running), 'job')} would run; how long is not known before a first run")
    else:
        gpu = f", {expected.gpu_hours:.2g} GPU hours" if expected.gpu_hours else ""
        unknown = f" ({expected.unknown} of them without any record)" if expected.unknown else ""
        yield Finding(
            OK,
            "time",
            f"{count(len(running), 'job')} would run{unknown}: about {duration(expected.wall_seconds)} on "
            f"{count(cores, 'core')}{gpu}, by past runs",
        )


def _packages(plan: Plan) -> Iterator[Finding]:
    """Packages by what the study has in it; the module that is looked for, the package, the extra, what needs it."""
    needed: dict[str, tuple[str, str, str]] = {}

    def need(extra: str, what: str, **modules: str) -> None:
        for module, package in modules.items():
            needed.setdefault(module, (package, extra, what))

    for problem, spec in plan.study.problems.items():
        sources = {plan.source(problem, family) for family in spec.families}
        for own in spec.spec.requires(spec.simulator):
            need(own.extra, own.purpose, **{own.module: own.name})
        for reader in filter(None, (plan.reader(problem, family) for family in spec.families)):
            for own in reader.packages:
                need(own.extra, own.purpose, **{own.module: own.name})
        if "collide" in sources:
            need("collider", "collisions", pythia8mc="pythia8mc", fastjet="fastjet", vector="vector")
        if spec.likelihoods:
            need("learn", "a learned likelihood", zuko="zuko")
        if spec.priors or spec.likelihoods or any(method.trains for method in spec.methods.values()):
            need("learn", "training", torch="torch", lightning_fabric="lightning-fabric")
    need("evaluate", "evaluation and the report", scipy="scipy", pandas="pandas", ot="POT", skimage="scikit-image")
    need("evaluate", "evaluation and the report", matplotlib="matplotlib", jinja2="jinja2")
    missing = False
    for module, (package, extra, what) in needed.items():
        if find_spec(module) is None:
            missing = True
            yield Finding(
                PROBLEM,
                "packages",
                f"{package} is not installed and {what} needs it: pip install 'pullback[{extra}]' (or use --sdm conda)",
            )
    if not missing:
        yield Finding(OK, "packages", f"all there: {', '.join(package for package, _, _ in needed.values())}")


def _compiler(plan: Plan) -> Iterator[Finding]:
    if not any(spec.spec.compiles for spec in plan.study.problems.values()):
        return
    tried = [os.environ["CC"].split()[0]] if os.environ.get("CC") else ["gcc", "clang"]
    found = next((name for name in tried if shutil.which(name)), None)
    if found:
        yield Finding(OK, "compiler", f"{shutil.which(found)}, for the simulator")
    else:
        yield Finding(
            PROBLEM, "compiler", f"no C compiler ({', '.join(tried)}): install gcc, or set CC; the simulator needs it"
        )


def _accelerator(plan: Plan) -> Iterator[Finding]:
    learns = any(
        spec.priors or spec.likelihoods or any(method.trains for method in spec.methods.values())
        for spec in plan.study.problems.values()
    )
    wanted = plan.study.accelerator
    if not learns or wanted == "cpu" or find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        yield Finding(OK, "accelerator", f"{wanted}: {names}")
    elif wanted == "gpu":
        yield Finding(
            PROBLEM,
            "accelerator",
            "the study wants a GPU and torch sees none here: check on a machine that has one, or set accelerator: auto",
        )
    else:
        yield Finding(OK, "accelerator", "auto: torch sees no GPU here, training and inference run on the CPU")


def _disk(plan: Plan) -> Iterator[Finding]:
    """Disk space of everything that is written, without compression."""
    from pullback.problems.base import problem_of
    from pullback.study import paths

    need = 0
    for problem, spec in plan.study.problems.items():
        try:
            made = problem_of(json.loads(plan.preflight_job(problem)))
        except Exception as error:  # a user's own class may raise anything
            yield Finding(PROBLEM, problem, f"the simulator cannot be made: {error}")
            continue
        x, y = (_cells(field) for field in (made.x, made.y))
        for family in spec.families:
            for split in plan.splits(problem, family):
                need += _events(plan, problem, family, split) * (x + y) * FLOAT32
                if plan.source(problem, family) == "collide":
                    need += plan.events(problem, family, split)[0] * COLLISION_BYTES
        for method in spec.methods:
            for infer, _, family in plan.results(problem, method):
                settings = spec.methods[method].infer[infer]
                events = _events(plan, problem, family, "test")
                events = min(events, getattr(settings, "max_events", None) or events)
                need += events * getattr(settings, "draws", 1) * x * FLOAT32
    folder = Path(paths.RESULTS)
    there = _used(folder / plan.study.study)
    free = shutil.disk_usage(_standing(folder)).free
    said = f"about {size(need)} at most for data and draws ({size(there)} are there), {size(free)} free in {folder}/"
    short = need - there > free
    yield Finding(PROBLEM if short else OK, "disk", said + (": make room, or ask for fewer events" if short else ""))


def _cells(field: Any) -> int:
    cells = 1
    for length in field.shape:
        cells *= length
    return cells


def _used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def _standing(folder: Path) -> Path:
    """The folder, or the first above it that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _is_writable(folder: Path) -> bool:
    standing = _standing(folder)
    return standing.is_dir() and os.access(standing, os.W_OK | os.X_OK)


def _folder(plan: Plan) -> Iterator[Finding]:
    from pullback.study import paths

    folder = Path(paths.RESULTS, plan.study.study)
    for needed in (folder, Path(".snakemake")):
        if not _is_writable(needed):
            yield Finding(PROBLEM, "folder", f"{_standing(needed)} cannot be written: run in another folder")
            return
    yield Finding(OK, "folder", f"{folder}/ can be written")


def _lock(plan: Plan) -> Iterator[Finding]:
    """Snakemake's lock of this folder, and whether a snakemake works here."""
    if not any(Path(".snakemake/locks").glob("*.lock")):
        return
    import psutil

    here = Path.cwd()
    living = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        words = [Path(word).name for word in (process.info["cmdline"] or [])[:4]]
        if process.info["cwd"] == str(here) and process.pid != os.getpid() and "snakemake" in words:
            living.append(str(process.pid))
    if living:
        yield Finding(
            PROBLEM, "lock", f"snakemake is at work in this folder (process {', '.join(living)}): wait for it"
        )
    else:
        yield Finding(
            PROBLEM,
            "lock",
            "a run that ended badly left its lock, and no snakemake of this machine works here: when none works here "
            "from another machine either, snakemake --unlock",
        )


def _cache(plan: Plan) -> Iterator[Finding]:
    place = os.environ.get("SNAKEMAKE_OUTPUT_CACHE")
    if not place or "://" in place:
        return
    folder = Path(place)
    if folder.is_dir() and _is_writable(folder):
        yield Finding(OK, "cache", f"{folder} can be written; --cache uses it")
    else:
        why = "cannot be written" if folder.is_dir() else "is no folder"
        yield Finding(PROBLEM, "cache", f"SNAKEMAKE_OUTPUT_CACHE={place} {why}: make it, or unset the variable")
