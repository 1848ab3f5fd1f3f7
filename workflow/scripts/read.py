"""Adapter of the rule `read`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.readers.root import read
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    read(job_text(snakemake.params), Path(snakemake.input.root), Path(snakemake.output.shard))
