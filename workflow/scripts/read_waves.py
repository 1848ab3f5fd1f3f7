"""Adapter of the rule `read_waves`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.problems.outside import read_waves
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    read_waves(
        job_text(snakemake.params),
        [Path(file) for file in snakemake.input.files],
        [Path(file) for file in snakemake.input.get("models", [])],
        Path(snakemake.output.shard),
    )
