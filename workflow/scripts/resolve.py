"""Adapter of the rule `resolve`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.report.files import write_resolved
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    write_resolved(job_text(snakemake.params), Path(snakemake.output.study))
