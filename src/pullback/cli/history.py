"""Benchmark records of a study, and predictions for future jobs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pullback.cli.dryrun import Job


class Record(NamedTuple):
    """One run of a job: seconds of wall time, seconds of processor time, largest memory (MB), GPUs; None: not known."""

    seconds: float
    cpu_seconds: float | None
    memory_mb: float | None
    gpus: int | None


class Expected(NamedTuple):
    """Predicted cost of some jobs, from records of similar ones."""

    seconds: float
    wall_seconds: float
    gpu_hours: float
    unknown: int


def read_records(path: str) -> list[Record]:
    """The runs in one benchmark file (jsonl); unreadable lines are skipped."""
    try:
        lines = Path(path).read_text().splitlines() if path else []
        rows = [json.loads(line) for line in lines]
        return [
            Record(float(row["s"]), _number(row.get("cpu_time")), _number(row.get("max_rss")), _gpus(row))
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _gpus(row: dict[str, object]) -> int | None:
    resources = row.get("resources")
    return int(resources.get("gpu", 0)) if isinstance(resources, dict) else None


class History:
    """The records of a study's jobs.

    Args:
        jobs: `dry_run` of the whole study.
    """

    def __init__(self, jobs: Sequence[Job]):
        self.own = {job.benchmark: found for job in jobs if (found := read_records(job.benchmark))}
        self.by_rule: dict[str, list[Record]] = {}
        self._like: dict[tuple[str, str], list[Record]] = {}
        for job in jobs:
            records = self.own.get(job.benchmark, [])
            self.by_rule.setdefault(job.rule, []).extend(records)
            self._like.setdefault((job.rule, job.wildcards.get("problem", "")), []).extend(records)

    def seconds(self, job: Job) -> float | None:
        """Of this job's last run, else the median of its rule and problem, else of its rule; None without any."""
        if own := self.own.get(job.benchmark):
            return own[-1].seconds
        like = self._like.get((job.rule, job.wildcards.get("problem", ""))) or self.by_rule.get(job.rule)
        return statistics.median(record.seconds for record in like) if like else None

    def gpus(self, job: Job) -> int:
        """What a profile gives the job; else what it had in its last run."""
        own = self.own.get(job.benchmark)
        return job.gpus or (own[-1].gpus or 0 if own else 0)

    def expected(self, jobs: Sequence[Job], numbers: Iterable[int], cores: int) -> Expected:
        """Predicted time of some jobs: total and on a number of cores."""
        chosen = list(numbers)
        seconds = {number: self.seconds(jobs[number]) for number in chosen}
        known = {number: value for number, value in seconds.items() if value is not None}
        return Expected(
            sum(known.values()),
            _wall(jobs, chosen, lambda number: known.get(number, 0.0), cores),
            sum(value * self.gpus(jobs[number]) for number, value in known.items()) / 3600,
            len(chosen) - len(known),
        )


def _wall(jobs: Sequence[Job], numbers: Sequence[int], seconds: Callable[[int], float], cores: int) -> float:
    """The least time that some jobs take together: of all their work on all cores, and of the longest chain of jobs."""
    work, ends = 0.0, dict.fromkeys(numbers, 0.0)
    for number in numbers:
        work += seconds(number) * min(jobs[number].threads, cores)
        ends[number] = seconds(number) + max(
            (ends[other] for other in jobs[number].after if other in ends), default=0.0
        )
    return max(work / cores, *ends.values(), 0.0)
