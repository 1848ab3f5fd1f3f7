"""Adapter of the rule `preflight`."""

from pathlib import Path

from pullback.problems.simulate import preflight

from pullback.joblog import job_log

with job_log(snakemake.log[0]):
    preflight(snakemake.params.job, Path(snakemake.output[0]))
