"""Adapter of the rule `receipt`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.report.receipt import write_receipt
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    write_receipt(
        job_text(snakemake.params),
        data=[Path(p) for p in snakemake.input.data],
        models=[Path(p) for p in snakemake.input.models],
        lock=snakemake.params.lock,
        out=Path(snakemake.output.receipt),
    )
