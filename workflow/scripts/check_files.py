"""Adapter of the rule `check_files`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.problems.check_files import check_files
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    check_files(job_text(snakemake.params), snakemake.input.shards, snakemake.input.seen, Path(snakemake.output[0]))
