"""What a job asks SLURM for: more memory after it was killed for it, and a GPU that it is not given."""

from running import Run, copy


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
