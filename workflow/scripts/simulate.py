"""Adapter of the rule `simulate`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.problems.simulate import simulate
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    simulate(job_text(snakemake.params), Path(snakemake.output[0]))
