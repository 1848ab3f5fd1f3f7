"""What a job asks SLURM for: more memory after it was killed for it, a GPU that it is not given, and its time."""

import sys

from running import REPOSITORY, Run, copy


def test_a_job_killed_for_memory_comes_back_with_more(cluster, data, tmp_path):
    folder = copy(data, tmp_path)

    def tight(profile):
        asked = profile["set-resources"]["train"]
        asked["mem_mb"] = asked["mem_mb"].replace("8000", "300")
        assert "attempt" in asked["mem_mb"]

    with Run(cluster, folder, "models", edit=tight) as run:
        run.finish()
        states = [job.state for job in run.jobs("train")]
    assert states[-1] == "COMPLETED"
    assert len(states) > 1
    assert "Exceeded job memory limit" in run.said() + cluster.logs()


def test_a_gpu_that_is_not_granted_ends_the_training_at_once(cluster, data, tmp_path):
    folder = copy(data, tmp_path)

    def forgetful(profile):
        profile["set-resources"]["train"]["slurm_partition"] = "forgetful"
        profile["retries"] = 0

    with Run(cluster, folder, "models", edit=forgetful) as run:
        run.finish(status=1)
    (line,) = {line for line in run.said().splitlines() if line.startswith("pullback: ")}
    assert "gpus: 1 requested, 0 granted" in line
    assert not (folder / "results/study/models/gaussian/cfm/seed-0.pt").exists()


def test_a_job_knows_how_long_it_has(cluster, tmp_path):
    code = "import os, pullback.core.stopping as s; print(s.slurm_seconds_left(os.environ['SLURM_JOB_ID']))"
    command = f'sleep 5; PYTHONPATH={REPOSITORY}/src {sys.executable} -c "{code}"'
    cluster.call("sbatch", "--wait", "--time=10", "--mem=300", f"--output={tmp_path}/said", f"--wrap={command}")
    assert 0 < float((tmp_path / "said").read_text()) < 596
