"""Adapter of the rule `receipt`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.report.receipt import write_receipt

with job_log(snakemake.log[0]):
    write_receipt(
        snakemake.params.job,
        data=[Path(p) for p in snakemake.input.data],
        models=[Path(p) for p in snakemake.input.models],
        lock=snakemake.params.lock,
        out=Path(snakemake.output.receipt),
    )
