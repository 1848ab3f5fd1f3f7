"""Adapter of the rule `evaluate`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.metrics.evaluate import evaluate
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    # An index stands in its family's folder.
    evaluate(
        job_text(snakemake.params),
        posteriors=[Path(p) for p in snakemake.input.posteriors],
        unfolded=[Path(p) for p in snakemake.input.unfolded],
        ensembles={Path(p).parent.name: Path(p) for p in snakemake.input.ensembles},
        references={Path(p).parent.name: Path(p) for p in snakemake.input.references},
        seen=[Path(p) for p in snakemake.input.seen],
        metrics=Path(snakemake.output.metrics),
        cost=Path(snakemake.output.cost),
        examples=Path(snakemake.output.examples),
    )
