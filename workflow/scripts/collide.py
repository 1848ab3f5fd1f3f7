"""Adapter of the rule `collide`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.simulators.collider import collide
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    collide(job_text(snakemake.params), Path(snakemake.output.root))
