"""A training that is interrupted goes on where it was and ends bit for bit like one that was not."""

import os

import pytest
from running import Run, copy


def asks(**resources):
    """An edit of the profile: what the rule train asks for."""

    def edit(profile):
        profile["set-resources"]["train"] |= resources

    return edit


def test_a_training_longer_than_its_time_limit_is_retried_and_goes_on(cluster, long, tmp_path):
    folder = copy(long.start, tmp_path)

    def longer_and_longer(profile):
        """A minute at first; more later, for machines that are busy with something else by then."""
        asks(runtime="1 * attempt")(profile)
        profile["retries"] = 10

    with Run(cluster, folder, "models", edit=longer_and_longer) as run:
        run.finish()
        states = [job.state for job in run.jobs("train")]
    # It stops by its own clock (FAILED), before SLURM would end it (TIMEOUT); where other work keeps the processors
    # busy the first minutes can be over before Python has started.
    assert states[-1] == "COMPLETED"
    assert "FAILED" in states[:-1], "the training was not interrupted"
    assert set(states[states.index("FAILED") : -1]) == {"FAILED"}, states
    assert "stopped at step" in run.said()
    assert "resumed after step" in (folder / long.log).read_text()
    assert (folder / long.model).read_bytes() == long.model_bytes


def test_ctrl_c_cancels_the_jobs_and_the_next_run_goes_on(cluster, short, tmp_path):
    folder = copy(short.start, tmp_path)
    with Run(cluster, folder, "models") as run:
        run.wait_for("a checkpoint", lambda: short.checkpoints(folder))
        run.interrupt()
        run.wait_for_none_left()
        assert [job.state for job in run.jobs("train")] == ["CANCELLED"]
    assert not (folder / short.model).exists()
    assert short.checkpoints(folder)
    with Run(cluster, folder, "models") as run:
        run.finish()
    assert "resumed after step" in (folder / short.log).read_text()
    assert (folder / short.model).read_bytes() == short.model_bytes


@pytest.mark.skipif("SLOW" not in os.environ, reason="takes two minutes more: SLOW=1 make test-slurm")
def test_a_preempted_training_is_requeued_and_goes_on(cluster, short, tmp_path):
    folder = copy(short.start, tmp_path)
    with Run(cluster, folder, "models") as run:
        run.wait_for("a checkpoint", lambda: short.checkpoints(folder))
        cluster.call("srun", "--partition=urgent", "--exclusive", "--mem=1000", "sleep", "2")
        run.finish()
        # The same job, started again by SLURM: Snakemake submitted nothing.
        assert [job.state for job in run.jobs("train")] == ["COMPLETED"]
    assert "resumed after step" in (folder / short.log).read_text()
    assert (folder / short.model).read_bytes() == short.model_bytes
