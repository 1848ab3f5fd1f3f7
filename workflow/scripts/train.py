"""Adapter of the rules `train`, `prior` and `likelihood`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.methods.train import train
from pullback.study.base import job_text
from pullback.study.paths import checkpoints

with job_log(snakemake.log[0]):
    train(
        job_text(snakemake.params),
        train=[Path(p) for p in snakemake.input.train],
        validation=[Path(p) for p in snakemake.input.validation],
        artifact=Path(snakemake.output.model),
        curves=Path(snakemake.output.curves),
        checkpoints=Path(checkpoints(snakemake.output.model)),
        code=snakemake.params.code,
        limit=snakemake.resources.get("runtime"),
        gpus=snakemake.resources.get("gpu", 0),
        nodes=snakemake.resources.get("nodes", 1),
    )
