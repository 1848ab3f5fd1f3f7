"""Adapter of the rule `unfold`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.methods.loading import Inputs
from pullback.methods.unfold import unfold
from pullback.study.base import job_text

with job_log(snakemake.log[0]):
    unfold(
        job_text(snakemake.params),
        Inputs.of(snakemake.input),
        out=Path(snakemake.output.unfolded),
        limit=snakemake.resources.get("runtime"),
        gpus=snakemake.resources.get("gpu", 0),
    )
