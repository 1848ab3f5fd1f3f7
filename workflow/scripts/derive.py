"""Adapter of the rule `derive`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.problems.derive import derive
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    derive(job_text(snakemake.params), Path(snakemake.input.base), Path(snakemake.output.shard))
