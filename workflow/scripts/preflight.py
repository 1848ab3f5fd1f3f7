"""Adapter of the rule `preflight`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.problems.preflight import preflight
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    preflight(job_text(snakemake.params), Path(snakemake.output[0]))
