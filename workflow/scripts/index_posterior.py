"""Adapter of the rule `index_posterior`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.ensembles.posterior_store import index_posterior
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    index_posterior(job_text(snakemake.params), [Path(p) for p in snakemake.input.parts], Path(snakemake.output.index))
