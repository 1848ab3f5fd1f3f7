"""Adapter of the rule `infer`."""

from pathlib import Path

from pullback.core.joblog import job_log
from pullback.methods.infer import infer
from pullback.study.paths import checkpoints

with job_log(snakemake.log[0]):
    infer(
        snakemake.params.job,
        ensemble=Path(snakemake.input.ensemble),
        out=Path(snakemake.output.part),
        artifact=next(map(Path, snakemake.input.get("artifact", [])), None),
        prior=next(map(Path, snakemake.input.get("prior", [])), None),
        likelihood=next(map(Path, snakemake.input.get("likelihood", [])), None),
        seen=[Path(p) for p in snakemake.input.get("seen", [])],
        reference=next(map(Path, snakemake.input.get("reference", [])), None),
        checkpoints=Path(checkpoints(snakemake.output.part)),
        code=snakemake.params.code,
        limit=snakemake.resources.get("runtime"),
        gpus=snakemake.resources.get("gpu", 0),
    )
