"""``pullback why``: list the jobs that would run, and the line, function or file that caused each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pullback.cli.common import FINE, FOUND, count, duration, open_plan, profile_option, study_argument

if TYPE_CHECKING:
    from pullback.cli.dryrun import Job
    from pullback.cli.history import History


@click.command(
    epilog="""\b
Examples:
  pullback why config/config.yaml
  pullback why config/config.yaml metrics              up to a target (a rule, or a file)
  pullback why config/config.yaml --until train
  pullback why config/config.yaml --profile profiles/slurm    with the threads and GPUs of a profile

\b
Exit status: 0 nothing would run; 1 jobs would run; 2 wrong usage, or a study that cannot run."""
)
@study_argument
@click.argument("targets", nargs=-1)
@click.option("--until", multiple=True, metavar="RULE", help="Stop after this rule or file; may be repeated.")
@click.option(
    "--cores", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True, help="For the time it takes."
)
@profile_option
@click.option("--all-jobs", is_flag=True, help="Name the first output of every job under its cause.")
@click.pass_context
def why(
    context: click.Context,
    study: Path,
    targets: tuple[str, ...],
    until: tuple[str, ...],
    cores: int,
    profile: str | None,
    all_jobs: bool,
) -> None:
    """Say which jobs a run of STUDY would do now, and what caused each.

    A cause is a key of the study (with its line), a function or file of code, a file from outside, or a result that is
    not there. Times come from the benchmark records of past runs of this study.
    """
    plan = open_plan(study)
    from pullback.cli.causes import Why, rules_of
    from pullback.cli.dryrun import dry_run
    from pullback.cli.history import History
    from pullback.cli.lines import Lines

    jobs = dry_run(study, targets, until, profile, cores)
    answer = Why(jobs, plan, Lines(study))
    history = History(jobs)
    running = list(answer.causes)
    if not running:
        click.echo(f"nothing would run: all {count(len(jobs), 'job')} of {study} are done")
    else:
        click.echo(
            f"{len(running)} of {count(len(jobs), 'job')} would run: {rules_of(jobs, running).partition(': ')[2]}"
        )
        click.echo(_time(history, jobs, running, cores))
    groups = answer.groups()
    for group in groups:
        expected = history.expected(jobs, [*group.jobs, *group.follow], cores)
        click.echo(f"\n{group.headline()}")
        click.echo(f"  {rules_of(jobs, group.jobs)}")
        if group.follow:
            click.echo(f"  and {rules_of(jobs, group.follow)} follow from these")
        if expected.seconds:
            click.echo(f"  about {duration(expected.seconds)} of work")
        if all_jobs:
            for number in (*group.jobs, *group.follow):
                click.echo(f"    {jobs[number].outputs[0]}")
    if sum(len(group.jobs) for group in groups) > len({number for group in groups for number in group.jobs}):
        click.echo("\nA job with several causes stands under each of them.")
    if gone := answer.not_needed():
        click.echo(
            f"\n{count(len(gone), 'file')} not there and not needed, for what was made from it is there: {gone[0]}"
            + (", ..." if gone[1:] else "")
        )
    if lost := answer.without_record():
        click.echo(
            f"\n{count(len(lost), 'job')} with results and without Snakemake's record (copied results, a deleted "
            ".snakemake): only dates of files are compared, so that an edit of the study or of code does not rerun "
            f"them. To be sure: snakemake -R with the rules {', '.join(sorted({job.rule for job in lost}))}"
        )
    context.exit(FOUND if running else FINE)


def _time(history: History, jobs: list[Job], running: list[int], cores: int) -> str:
    expected = history.expected(jobs, running, cores)
    if expected.unknown == len(running):
        return "how long that takes is not known: no benchmark record of these rules"
    gpu = f", {expected.gpu_hours:.2g} GPU hours" if expected.gpu_hours else ""
    unknown = f"; {count(expected.unknown, 'job')} without any record not counted" if expected.unknown else ""
    return (
        f"about {duration(expected.wall_seconds)} on {count(cores, 'core')}, {duration(expected.seconds)} of work in "
        f"all{gpu}, by past runs{unknown}"
    )
