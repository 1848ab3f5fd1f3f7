"""Adapter of the rule `simulate`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.problems.simulate import simulate

with job_log(snakemake.log[0]):
    simulate(snakemake.params.job, Path(snakemake.output[0]))
