"""Jobs that are stopped and run again end as those that never were: real children, the real drivers."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from small import PROBLEM, ended, infer_arguments, start, train_arguments, wait_for, write

from pullback.core.context import Context
from pullback.core.stopping import Stopped
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.store import EnsembleReader
from pullback.methods import resume
from pullback.methods.base import Method, PosteriorSamples
from pullback.methods.classical.random_truth import RandomTruthSpec
from pullback.methods.infer import answer, infer
from pullback.methods.resume import Finished
from pullback.methods.train import train
from pullback.study.kinds import Infer


def last_checkpoint(folder: Path) -> int:
    return max((int(path.stem[5:]) for path in (folder / "checkpoints").glob("*/step-*.pt")), default=0)


SLOW = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as edm, a minute")


@pytest.mark.parametrize("kind", [pytest.param("ei-fm", marks=SLOW), "edm"])
def test_a_training_goes_on_from_the_step_at_which_it_was_stopped(tmp_path, kind):
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    train(**train_arguments(kind, whole))
    folder.mkdir()
    outputs = [folder / "model.pt", folder / "model.curves.csv"]
    # Already over, so that it stops after one step.
    status, said = ended(start("train", kind, folder, PULLBACK_TIME_LIMIT="1"))
    assert status == 75, said
    assert said.startswith("pullback: stopped at step 1 of 600, ")
    assert said.rstrip().endswith(" the limit of 1 s; run it again and it goes on")
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL):
        assert not any(path.exists() for path in outputs)
        before = last_checkpoint(folder)
        child = start("train", kind, folder)
        wait_for(child, lambda before=before: last_checkpoint(folder) > before)
        child.send_signal(number)
        status, said = ended(child)
        log = (folder / "log").read_text()
        assert before == 0 or f"resumed after step {before} of 600" in log
        if number != signal.SIGKILL:
            assert status == 75, said
            # A checkpoint of exactly the step that is said.
            line = f"stopped at step {last_checkpoint(folder)} of 600, on {number.name}; run it again and it goes on"
            assert said == f"pullback: {line}\n"
            assert line in log
        else:
            assert status == -signal.SIGKILL
    status, said = ended(start("train", kind, folder))
    assert status == 0, said
    for path in outputs:
        assert path.read_bytes() == (whole / path.name).read_bytes()
    assert not (folder / "checkpoints").exists()


def kept(folder: Path) -> int:
    return len(list((folder / "checkpoints-of-part").glob("*/blocks-*.npz")))


def test_a_long_inference_keeps_its_finished_blocks(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    infer(**infer_arguments(whole))
    infer_arguments(folder)
    before = 0
    for number in (signal.SIGKILL, signal.SIGTERM):
        child = start("infer", "enkg", folder)
        wait_for(child, lambda before=before: kept(folder) >= before + 3)
        child.send_signal(number)
        status, said = ended(child)
        assert status == (75 if number == signal.SIGTERM else -signal.SIGKILL), said
        assert not (folder / "part.h5").exists()
        assert before == 0 or f"resumed: {before} finished blocks" in (folder / "log").read_text()
        before = kept(folder)
    assert f"stopped after block {before} of 40, on SIGTERM; run it again and it goes on" in said
    # One that is damaged is answered again.
    newest = max((folder / "checkpoints-of-part").glob("*/blocks-*.npz"))
    newest.write_bytes(newest.read_bytes()[:-10])
    status, said = ended(start("infer", "enkg", folder))
    assert status == 0, said
    log = (folder / "log").read_text()
    assert f"{newest.name} is damaged" in log
    assert f"resumed: {before - 1} finished blocks" in log
    with PosteriorReader(whole / "part.h5") as wanted, PosteriorReader(folder / "part.h5") as found:
        assert found.digest == wanted.digest
        # All attempts together; what was damaged was done again, and is not known to have been done before.
        for key in ("simulator_calls", "network_calls", "events", "failed_simulations"):
            assert found.cost[key] == wanted.cost[key]
    assert not (folder / "checkpoints-of-part").exists()


class Counts(Method[float]):
    """Draws that say which set an event belongs to, and a diagnostic of each set."""

    block = 5

    def condition(self, ensemble, workdir=None):
        return float(ensemble.read("y")[0, 0])

    def diagnostics(self, state):
        return {"first": state}

    def sample(self, state, y, event_id):
        self.cost.simulator_calls += len(y)
        x = np.repeat(y[:, None] - state, self.settings.draws, axis=1)
        return PosteriorSamples(x, np.zeros(x.shape[:2]), np.ones(x.shape[:2], bool))


def attempt(folder: Path, out: str, most: int = 1000) -> PosteriorReader:
    """One attempt at 20 blocks of 5 sets, stopped after ``most`` blocks."""
    asked = iter(range(most - 1))
    context = Context((0, "line", "counts", 0), stop=lambda next_s: None if next(asked, None) is not None else "tired")
    finished = Finished(folder / "state" / "one", {"of": "this"})
    with EnsembleReader(folder / "test.h5") as reader:
        method = Counts(RandomTruthSpec(kind="random-truth"), PROBLEM, context)
        answer(method.using(Infer(draws=2, set_size=20)), reader, folder / out, "{}", finished=finished)
    return PosteriorReader(folder / out)


def test_costs_add_up_and_a_set_counts_once(tmp_path):
    write(tmp_path / "test.h5", 90, 3)
    whole = attempt(tmp_path, "whole.h5")
    assert not (tmp_path / "state").exists()
    spent = 0.0
    for done in (3, 6, 9, 12):
        with pytest.raises(Stopped, match=f"stopped after block {done} of 20, tired"):
            attempt(tmp_path, "part.h5", most=3)
        assert not (tmp_path / "part.h5").exists()
        seconds = Finished(tmp_path / "state" / "one", {}).cost["seconds"]
        assert seconds > spent
        spent = seconds
    found = attempt(tmp_path, "part.h5")
    assert found.digest == whole.digest
    assert found.diagnostics == whole.diagnostics
    assert found.cost["simulator_calls"] == found.cost["events"] == 90
    assert found.cost["seconds"] > spent
    assert not (tmp_path / "state").exists()


def test_a_short_inference_keeps_nothing(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(Finished, "save", lambda *_: written.append(1))
    write(tmp_path / "test.h5", 90, 3)
    attempt(tmp_path, "part.h5")
    assert written == []
    monkeypatch.setattr(resume, "SAVE_EVERY_S", 0.0)
    attempt(tmp_path, "part.h5")
    assert len(written) == 20
