"""Adapter of the rule `resolve`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.report.receipt import write_resolved

with job_log(snakemake.log[0]):
    write_resolved(snakemake.params.job, Path(snakemake.output.study))
