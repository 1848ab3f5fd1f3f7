"""Adapter of the rule `derive`."""

from pathlib import Path

from pullback.problems.simulate import derive

from pullback.joblog import job_log

with job_log(snakemake.log[0]):
    derive(snakemake.params.job, Path(snakemake.input.base), Path(snakemake.output.shard))
