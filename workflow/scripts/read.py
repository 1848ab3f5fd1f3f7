"""Adapter of the rule `read`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.problems.read import read
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    read(
        job_text(snakemake.params),
        [Path(file) for file in snakemake.input.files],
        [Path(file) for file in snakemake.input.get("models", [])],
        Path(snakemake.output.shard),
        [Path(file) for file in snakemake.input.get("pairs", [])],
    )
