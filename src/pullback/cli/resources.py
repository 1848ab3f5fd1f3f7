"""``pullback resources``: memory, time and threads of each rule, from the benchmark records of past runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from pullback.cli.common import FINE, Refused, count, duration, open_plan, profile_option, study_argument, table

MEMORY_MARGIN = 1.25
TIME_MARGIN = 2.0
"""Other machines may be slower; a job that hits its limit has lost its time, one that ends early has lost nothing."""
LEAST_MEMORY_MB, LEAST_MINUTES = 500, 10
# Their threads are a key of the study, because results depend on it.
OF_THE_STUDY = ("train", "prior", "likelihood", "condition", "infer", "unfold")


class Usage(NamedTuple):
    """What the runs of one rule used: seconds, MB and cores of each run in which they were seen."""

    rule: str
    seconds: list[float]
    memory_mb: list[float]
    cores: list[float]

    @property
    def mem_mb(self) -> int | None:
        """The proposal: the largest with a margin, in steps of 100 MB; None where memory was never seen."""
        if not self.memory_mb:
            return None
        return max(LEAST_MEMORY_MB, math.ceil(max(self.memory_mb) * MEMORY_MARGIN / 100) * 100)

    @property
    def runtime(self) -> int:
        """The proposal in minutes: the longest with a margin, in steps of 5."""
        return max(LEAST_MINUTES, math.ceil(max(self.seconds) * TIME_MARGIN / 300) * 5)

    def threads(self, of_the_study: int) -> int:
        """The proposal: the cores that it kept busy, or the study's own number."""
        return of_the_study if self.rule in OF_THE_STUDY else max(1, round(max(self.cores, default=1.0)))


@click.command(
    epilog="""\b
Examples:
  pullback resources config/config.yaml
  mkdir profiles/mine && pullback resources config/config.yaml --profile-format > profiles/mine/profile.yaml
  snakemake --profile profiles/mine ...

\b
Exit status: 0 fine; 2 wrong usage, a study that cannot run, or no records yet."""
)
@study_argument
@click.option("--profile-format", is_flag=True, help="A profile of Snakemake (YAML) instead of a table.")
@profile_option
@click.pass_context
def resources(context: click.Context, study: Path, profile_format: bool, profile: str | None) -> None:
    """Propose memory, run time and threads for each rule, from the benchmark records of STUDY.

    Memory is the largest that was seen plus a quarter; run time is twice the longest. Threads of training and inference
    are the study's own.
    """
    plan = open_plan(study)
    from pullback.cli.dryrun import dry_run
    from pullback.cli.history import History
    from pullback.study import paths

    history = History(dry_run(study, profile=profile))
    used = [
        Usage(
            rule,
            [record.seconds for record in records],
            [record.memory_mb for record in records if record.memory_mb],
            [record.cpu_seconds / record.seconds for record in records if record.cpu_seconds and record.seconds > 1],
        )
        for rule, records in history.by_rule.items()
        if records
    ]
    folder = f"{paths.RESULTS}/{plan.study.study}/benchmarks"
    if not used:
        raise Refused(f"there are no benchmark records in {folder}; run the study, or a small one like it, first")
    unseen = [rule for rule, records in history.by_rule.items() if not records]
    click.echo(
        _profile(used, unseen, folder, plan.study.threads) if profile_format else _table(used, plan.study.threads)
    )
    if unseen and not profile_format:
        click.echo(f"\nwithout records, left as they are: {', '.join(unseen)}")
    context.exit(FINE)


def _quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that this part of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def _table(used: Sequence[Usage], threads: int) -> str:
    rows = []
    for usage in used:
        memory = usage.memory_mb
        rows.append(
            [
                usage.rule,
                str(len(usage.seconds)),
                duration(statistics.median(usage.seconds)),
                duration(_quantile(usage.seconds, 0.95)),
                duration(max(usage.seconds)),
                f"{statistics.median(memory):.0f}" if memory else "-",
                f"{max(memory):.0f}" if memory else "-",
                f"{max(usage.cores):.1f}" if usage.cores else "-",
                f"mem_mb={usage.mem_mb or 'as it is'} runtime={usage.runtime} threads={usage.threads(threads)}",
            ]
        )
    header = ["rule", "runs", "half in", "95 % in", "longest", "MB, half", "MB, most", "cores", "proposal"]
    return table([header, *rows])


def _profile(used: Sequence[Usage], unseen: Sequence[str], folder: str, threads: int) -> str:
    lines = [
        f"# From the runs in {folder}: the largest memory and a quarter more, twice the longest time.",
        "# Save as profiles/<name>/profile.yaml, or paste the keys into your own profile (a key replaces the whole key",
        "# of the same name in another profile).",
    ]
    if unseen:
        lines.append(f"# Without records, left as they are: {', '.join(unseen)}.")
    lines.append("set-resources:")
    for usage in used:
        lines += ["", f"  # {_story(usage)}", f"  {usage.rule}:"]
        lines += [f"    mem_mb: {usage.mem_mb}"] if usage.mem_mb else []
        lines.append(f"    runtime: {usage.runtime}")
    lines += ["", "set-threads:"]
    for usage in used:
        busy = f"kept {max(usage.cores):.1f} cores busy" if usage.cores else "too short to tell"
        why = "`threads` of the study, part of the result" if usage.rule in OF_THE_STUDY else busy
        lines.append(f"  {usage.rule}: {usage.threads(threads)}  # {why}")
    return "\n".join(lines)


def _story(usage: Usage) -> str:
    seconds, memory = usage.seconds, usage.memory_mb
    story = (
        f"{count(len(seconds), 'run')}: half in {duration(statistics.median(seconds))}, 95 % in "
        f"{duration(_quantile(seconds, 0.95))}, the longest {duration(max(seconds))}"
    )
    if memory:
        story += (
            f"; half below {statistics.median(memory):.0f} MB, 95 % below {_quantile(memory, 0.95):.0f} MB, "
            f"the largest {max(memory):.0f} MB"
        )
    return story
