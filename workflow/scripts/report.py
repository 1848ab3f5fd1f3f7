"""Adapter of the rule `report`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.report.page import write_report
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    write_report(
        job_text(snakemake.params),
        metrics=[Path(p) for p in snakemake.input.metrics],
        costs=[Path(p) for p in snakemake.input.costs],
        examples=[Path(p) for p in snakemake.input.examples],
        curves=[Path(p) for p in snakemake.input.curves],
        files=[Path(p) for p in snakemake.input.files],
        budgets=[Path(p) for p in snakemake.input.budgets],
        preflights=[Path(p) for p in snakemake.input.preflights],
        page=Path(snakemake.output.page),
        table=Path(snakemake.output.table),
        seeds=Path(snakemake.output.seeds),
        drawn=Path(snakemake.output.drawn),
    )
