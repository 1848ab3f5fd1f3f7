"""Adapter of the rule `collide`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.simulators.collider import collide

with job_log(snakemake.log[0]):
    collide(snakemake.params.job, Path(snakemake.output.root))
