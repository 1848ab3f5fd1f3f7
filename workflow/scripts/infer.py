"""Adapter of the rule `infer`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.methods.infer import infer
from pullback.methods.loading import Inputs
from pullback.study.base import job_text
from pullback.study.paths import checkpoints

with job_log(snakemake.log[0]):
    infer(
        job_text(snakemake.params),
        Inputs.of(snakemake.input),
        out=Path(snakemake.output.part),
        checkpoints=Path(checkpoints(snakemake.output.part)),
        code=snakemake.params.code,
        limit=snakemake.resources.get("runtime"),
        gpus=snakemake.resources.get("gpu", 0),
    )
