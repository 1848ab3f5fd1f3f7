"""Adapter of the rule `read`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.readers.root import read

with job_log(snakemake.log[0]):
    read(snakemake.params.job, Path(snakemake.input.root), Path(snakemake.output.shard))
