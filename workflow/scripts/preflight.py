"""Adapter of the rule `preflight`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.problems.preflight import preflight

with job_log(snakemake.log[0]):
    preflight(snakemake.params.job, Path(snakemake.output[0]))
