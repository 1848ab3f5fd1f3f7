"""What a run of Snakemake needs besides its jobs: environment, choice of jobs, what it says at its end."""

import os
from pathlib import Path
from typing import Any

from pullback.study.provenance import SOURCE


def export_python_path() -> None:
    """Let jobs in an environment of their own (``--sdm conda``) run this package, which the digests are of."""
    if SOURCE.name == "src":
        found = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(SOURCE), *filter(None, found)]))


def set_up_jobs(threads: int) -> None:
    """Environment of all jobs: threads of the linear algebra libraries, and memory that is kept once it was taken.

    Every job runs beside others, so a library must not take all cores (and how many it takes changes last bits). A
    network on a CPU frees and takes all its activations in every step: giving them back to the system each time costs
    a fifth of the training (glibc; elsewhere the variables mean nothing). What the user has set stays.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    os.environ.setdefault("MALLOC_MMAP_MAX_", "0")
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**31 - 1))


def files_that_stay(workflow: Any) -> set[str]:
    """The files that the jobs of a run read and that no job of it makes anew.

    Args:
        workflow: Snakemake's, before its first job.
    """
    jobs = list(workflow.dag.needrun_jobs())
    read, made = ({str(file) for job in jobs for file in getattr(job, kind)} for kind in ("input", "output"))
    return read - made


def says_where_the_page_is(workflow: Any, page: str) -> str:
    """What a run that succeeded says of its page; nothing of one that it was not about."""
    is_about_it = any(page in map(str, job.output) for job in workflow.dag.jobs)
    return f"The report: {Path(page).resolve()}" if is_about_it and Path(page).exists() else ""


DEFAULT_RATE = (100, 1)
"""Snakemake's default of --max-jobs-per-timespan: jobs, seconds."""


def choose_when_jobs_end(scheduler: Any) -> None:
    """Remove Snakemake's default limit of the job rate; a limit set by the user stays.

    Under any limit each job that ends leaves a timer that looks at all ready jobs again every second, for the rest of
    the run: of a study with 470 jobs Snakemake itself came to take a core and more. Without a limit jobs are chosen
    when one ends, which is when there is something to choose.

    Args:
        scheduler: Snakemake's, before it has chosen a job.
    """
    limiter = getattr(scheduler, "job_rate_limiter", None)
    if limiter is not None and (limiter.max_jobs, limiter.timespan) == DEFAULT_RATE:
        scheduler.job_rate_limiter = None


def benchmark_unless_cached(workflow: Any, rule: str, path: str) -> None:
    """Give a rule a benchmark, unless ``--cache`` is given: Snakemake does not allow both in one rule.

    Args:
        workflow: Snakemake's, where the rule is defined without a benchmark.
        rule: its name.
        path: of the benchmark, with the rule's wildcards.
    """
    name = workflow.modifier.modify_rulename(rule)
    # An outer workflow may use some rules only, under other names.
    if workflow.workflow_settings.cache is None and workflow.is_rule(name):
        found = workflow.get_rule(name)
        found.benchmark_modifier = workflow.modifier.path_modifier
        found.benchmark = path
