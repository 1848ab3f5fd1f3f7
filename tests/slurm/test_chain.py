"""The default study, made small, through SLURM: from simulators to the report, as a run without SLURM makes it."""

import json
from concurrent.futures import ThreadPoolExecutor

from running import Run, default_study, run_here, write_study


def small():
    """Waves, with a diffusion prior and EnKG, and jets, with one trained method; as little as possible of each."""
    study = default_study("fwi", "unfolding")
    waves, jets = study["problems"].values()
    waves["simulator"]["record_length"] = 0.512
    waves["size"] = {"train": 16, "validation": 8, "test": 4, "reference": 4}
    waves["families"] = {"flat": waves["families"]["flat"]}
    prior = waves["priors"]["diffusion"]
    prior["network"] |= {"width": 8, "levels": 2}
    prior["train"] |= {"steps": 6, "sets_per_step": 2, "set_size": [4, 8]}
    waves["methods"] = {"enkg": waves["methods"]["enkg"]}
    waves["methods"]["enkg"]["infer"] = {"few": {"levels": 4, "updates": 1, "draws": 6, "max_events": 2}}
    waves["evaluation"] = {"resimulate_events": 1, "resimulate_draws": 2, "bootstrap": 20}
    jets["size"] = {"train": 40, "validation": 20, "test": 30, "reference": 30}
    jets["families"] = {"wjets": jets["families"]["wjets"]}
    jets["methods"] = {"cfm": jets["methods"]["cfm"]}
    jets["methods"]["cfm"]["train"] |= {"steps": 6}
    jets["evaluation"] = {"bootstrap": 20}
    return study


def receipt(folder):
    return json.loads((folder / "results/study/receipt.json").read_text())


def arrays(jobs):
    """Numbers of tasks of each array."""
    tasks = [job.id.partition("_")[0] for job in jobs if "_" in job.id]
    return sorted(tasks.count(array) for array in set(tasks))


def test_the_default_study_goes_through_slurm(cluster, tmp_path):
    folders = []
    for name in ("slurm", "here"):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        write_study(folders[-1], small())
    through, here = folders

    def two_for_the_prior(profile):
        profile["set-resources"]["prior"]["gpu"] = 2

    with ThreadPoolExecutor(1) as pool, Run(cluster, through, edit=two_for_the_prior) as run:
        local = pool.submit(run_here, here)
        run.finish()
        assert {job.state for job in run.jobs()} == {"COMPLETED"}
        # A shard of each split.
        assert arrays(run.jobs("simulate")) == arrays(run.jobs("collide")) == [4]
        assert {job.partition for job in run.jobs()} == {"cpu", "gpu"}
        assert {job.rule for job in run.jobs() if job.partition == "gpu"} == {"train", "prior", "infer"}
        # Seconds each: they run where Snakemake runs.
        assert not run.jobs("report") + run.jobs("receipt")
    assert (through / "results/study/report/index.html").stat().st_size > 50_000
    logs = through / "results/study/logs"
    trained = (logs / "models/unfolding/cfm/seed-0.log").read_text()
    assert "gpus: 1 requested, 1 granted (CUDA_VISIBLE_DEVICES=" in trained
    trained = (logs / "priors/fwi/diffusion/seed-0.log").read_text()
    assert "gpus: 2 requested, 2 granted (CUDA_VISIBLE_DEVICES=0,1)" in trained
    local.result()
    assert receipt(through)["data"] == receipt(here)["data"]
    assert receipt(through)["models"] == receipt(here)["models"]
    table = "results/study/report/metrics.csv"
    assert (through / table).read_bytes() == (here / table).read_bytes()
