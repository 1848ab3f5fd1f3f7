"""Adapter of the rule `budget`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.metrics.budget import budget
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    # An index stands in its family's folder.
    budget(
        job_text(snakemake.params),
        results=[Path(p) for p in snakemake.input.results],
        ensembles={Path(p).parent.name: Path(p) for p in snakemake.input.ensembles},
        out=Path(snakemake.output.budget),
        table=Path(snakemake.output.table),
    )
