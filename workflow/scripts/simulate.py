"""Adapter of the rule `simulate`."""

from pathlib import Path

from pullback.problems.simulate import simulate

from pullback.joblog import job_log

with job_log(snakemake.log[0]):
    simulate(snakemake.params.job, Path(snakemake.output[0]))
