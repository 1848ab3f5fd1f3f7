"""Adapter of the rule `index_ensemble`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.ensembles.store import index_ensemble

with job_log(snakemake.log[0]):
    index_ensemble(snakemake.params.job, [Path(p) for p in snakemake.input.shards], Path(snakemake.output.index))
