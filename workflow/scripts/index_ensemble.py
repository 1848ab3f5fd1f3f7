"""Adapter of the rule `index_ensemble`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.ensembles.store import index_ensemble
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    index_ensemble(job_text(snakemake.params), [Path(p) for p in snakemake.input.shards], Path(snakemake.output.index))
