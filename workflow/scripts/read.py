"""Adapter of the rule `read`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.readers.read import read

with job_log(snakemake.log[0]):
    read(
        snakemake.params.job,
        [Path(file) for file in snakemake.input.files],
        [Path(file) for file in snakemake.input.get("models", [])],
        Path(snakemake.output.shard),
    )
