"""Adapter of the rule `derive`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.problems.derive import derive

with job_log(snakemake.log[0]):
    derive(snakemake.params.job, Path(snakemake.input.base), Path(snakemake.output.shard))
