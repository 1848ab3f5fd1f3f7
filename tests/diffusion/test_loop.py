import csv
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pullback.core.context import Context
from pullback.diffusion.checkpoint import ArtifactError, CheckpointError, load_artifact
from pullback.diffusion.loop import COLUMNS, TrainingError, ema_decay, fit, learning_rate
from pullback.diffusion.settings import Train
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.fields import Field
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader, EnsembleWriter

SETTINGS = Train(
    steps=60,
    sets_per_step=3,
    set_size=(4, 16),
    validate_every=20,
    checkpoint_every=10,
    learning_rate=0.01,
    ema=0.9,
    clip=1.0,
)


def make_data(folder: Path) -> TrainingData:
    folder.mkdir(exist_ok=True)
    readers = {}
    for split, n in (("train", 300), ("validation", 100)):
        rng = np.random.default_rng(n)
        x = rng.standard_normal((n, 2)).astype(np.float32)
        y = x @ np.array([[1.0, 0.3], [0.0, 2.0]], np.float32) + 0.1 * rng.standard_normal((n, 2)).astype(np.float32)
        path = folder / f"{split}.h5"
        if not path.exists():
            fields = {"x": Field.vector("x", ["a", "b"], "1"), "y": Field.vector("y", ["c", "d"], "1")}
            with EnsembleWriter(path, spec="{}", **fields) as writer:
                writer.append(y, np.arange(n), x=x)
        readers[split] = [EnsembleReader(path)]
    return TrainingData(readers["train"], readers["validation"], 100)


def make_model() -> nn.Module:
    torch.manual_seed(5)
    # Dropout draws from torch's global stream: a resumed training must not depend on its state.
    return nn.Sequential(nn.Linear(2, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 2))


def regression(model, sets, noise):
    jitter = 0.1 * noise.normal(sets["y"].shape)
    error = (model(sets["y"] + jitter) - sets["x"]).square().mean(dim=-1)
    return error[sets["mask"]].sum(), sets["mask"].sum()


def train_here(
    folder: Path, name: str = "training", dies_at: int | None = None, kill: bool = False, **more
) -> TrainPaths:
    """One training; ``dies_at`` raises (or sends itself SIGKILL) before that step of this run."""

    def progress(iterable, total=None, label=""):
        for step in iterable:
            if step == dies_at:
                if kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise KeyboardInterrupt
            yield step

    job = TrainPaths(folder / f"{name}.pt", folder / f"{name}.csv", folder / "checkpoints" / "f1")
    context = Context(("study", 0), threads=1, accelerator="cpu", progress=progress)
    arguments = {"model": make_model(), "loss": regression, "train": SETTINGS, **more}
    fit(data=make_data(folder), job=job, context=context, meta={"label": "approximate"}, **arguments)
    return job


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def assert_same(one: TrainPaths, other: TrainPaths) -> None:
    assert one.artifact.read_bytes() == other.artifact.read_bytes()
    assert one.curves.read_text() == other.curves.read_text()


def test_killed_and_rerun_is_the_uninterrupted_training_bit_for_bit(tmp_path):
    folder, whole_folder = tmp_path / "killed", tmp_path / "whole"
    folder.mkdir()
    whole_folder.mkdir()
    whole = train_here(whole_folder)
    for step in (int(np.random.default_rng(os.getpid()).integers(11, 20)), 47):
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            f"from pathlib import Path; import test_loop\n"
            f"test_loop.train_here(Path({str(folder)!r}), dies_at={step}, kill=True)"
        )
        died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert not (folder / "training.pt").exists()
        kept = sorted(path.name for path in (folder / "checkpoints" / "f1").iterdir())
        assert len(kept) == min(2, step // 10)
        assert kept[-1] == f"step-{step // 10 * 10:09d}.pt"
    again = train_here(folder)
    assert_same(whole, again)
    assert not (folder / "checkpoints" / "f1").exists()


def interrupted(folder: Path, step: int = 35, **more) -> list[Path]:
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        train_here(folder, dies_at=step, **more)
    return sorted((folder / "checkpoints" / "f1").iterdir())


def test_muon_goes_on_from_a_checkpoint_as_if_uninterrupted(tmp_path):
    def deeper():
        return {
            "model": nn.Sequential(make_model(), nn.Linear(2, 16), nn.GELU(), nn.Linear(16, 16), nn.Linear(16, 2)),
            "train": SETTINGS.model_copy(update={"optimizer": "muon"}),
        }

    whole_folder = tmp_path / "whole"
    whole_folder.mkdir()
    torch.manual_seed(6)
    whole = train_here(whole_folder, **deeper())
    torch.manual_seed(6)
    assert interrupted(tmp_path / "killed", **deeper())
    assert_same(train_here(tmp_path / "killed", **deeper()), whole)


@pytest.mark.parametrize("damage", ["cut", "bit", "empty"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, caplog, damage):
    folder = tmp_path / "damaged"
    before, newest = interrupted(folder)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"cut": content[:-100], "bit": content, "empty": b""}[damage])
    whole_folder = tmp_path / "whole"
    whole_folder.mkdir()
    whole = train_here(whole_folder)
    with caplog.at_level(logging.INFO, logger="pullback"):
        assert_same(train_here(folder), whole)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert f"{newest} is damaged" in said
    assert f"resumed after step {int(before.stem[5:])} of 60" in said


def test_another_trainings_checkpoint_is_refused(tmp_path):
    folder = tmp_path / "foreign"
    interrupted(folder)
    shutil.move(folder / "checkpoints" / "f1", folder / "checkpoints" / "f2")
    job = TrainPaths(folder / "a.pt", folder / "a.csv", folder / "checkpoints" / "f2")
    context = Context(("study", 0), accelerator="cpu")
    with pytest.raises(CheckpointError, match=r"training f1, wanted f2"):
        fit(make_model(), regression, make_data(folder), SETTINGS, job, context, {})
    assert not job.artifact.exists()


class Weights(nn.Module):
    """Two numbers that a loss may push where it likes."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))


def test_the_artifact_holds_the_average_of_the_weights(tmp_path):
    seen = []

    def loss(model, sets, noise):
        if model.training:
            seen.append(model.w.detach().clone().numpy())
        # The last validation is the best: the weights only grow.
        return -model.w.sum(), torch.tensor(1)

    job = train_here(tmp_path, model=Weights(), loss=loss, finish=lambda model: {"grad": float(model.w.grad.norm())})
    weights, meta = load_artifact(job.artifact)
    assert meta["kept"]["step"] == 60
    assert meta["label"] == "approximate"
    # Weights before step s + 1 are those after step s. Adam with a constant gradient moves each weight by the learning
    # rate: so those after the last step follow.
    trajectory = [*seen[1:60], seen[59] + learning_rate(59, SETTINGS)]
    average = np.zeros(2)
    for step, w in enumerate(trajectory):
        decay = min(SETTINGS.ema, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * w
    np.testing.assert_allclose(weights["w"].numpy(), average, rtol=1e-5)
    assert trajectory[-1][0] - average[0] > 100 * 1e-5 * average[0]
    # The gradient (-1, -1) was clipped to norm 1, and its own norm stands in the curves.
    assert meta["grad"] == pytest.approx(1.0, rel=1e-5)
    assert rows(job.curves)[0]["grad_norm"] == pytest.approx(np.sqrt(2), rel=1e-5)


def test_the_best_validation_is_kept_not_the_last(tmp_path):
    def loss(model, sets, noise):
        return -model.w.sum() if model.training else (model.w - 0.25).square().sum(), torch.tensor(1)

    job = train_here(tmp_path, model=Weights(), loss=loss)
    weights, meta = load_artifact(job.artifact)
    curve = rows(job.curves)
    best = min(curve, key=lambda row: row["validation_loss"])
    assert best["step"] == meta["kept"]["step"] == 40
    assert curve[-1]["step"] == 60
    loss_of_kept = float((weights["w"] - 0.25).square().sum())
    assert loss_of_kept == pytest.approx(best["validation_loss"], rel=1e-4)


def test_curves_are_a_table_without_times(tmp_path):
    job = train_here(tmp_path)
    assert job.curves.read_text().splitlines()[0] == ",".join(COLUMNS)
    curve = rows(job.curves)
    assert [row["step"] for row in curve] == [20, 40, 60]
    assert all(np.isfinite(list(row.values())).all() for row in curve)
    assert curve[-1]["validation_loss"] < 0.7 * curve[0]["validation_loss"]
    assert curve[-1]["train_loss"] < curve[0]["train_loss"]


def test_schedule_warms_up_to_the_peak_and_ends_at_zero():
    train = Train(steps=1000, learning_rate=2e-3)
    rates = [learning_rate(step, train) for step in range(1000)]
    assert rates[0] < 1e-4
    assert max(rates) == pytest.approx(2e-3)
    assert 25 <= int(np.argmax(rates)) <= 35
    # Half way down the cosine stands half the peak; the end is next to nothing.
    assert rates[515] == pytest.approx(1e-3, rel=0.01)
    assert rates[-1] < 1e-7
    assert ema_decay(0, train) == 0.1
    assert ema_decay(10**6, train) == train.ema


@pytest.mark.parametrize("bad", ["train", "validation"])
def test_a_loss_that_is_not_finite_ends_the_training(tmp_path, bad):
    calls = []

    def loss(model, sets, noise):
        calls.append(0)
        factor = float("nan") if model.training == (bad == "train") and len(calls) > 7 else 1.0
        total, count = regression(model, sets, noise)
        return factor * total, count

    found = r"not finite at step 7 \(learning rate 0\.00982" if bad == "train" else r"validation loss is nan after 20"
    with pytest.raises(TrainingError, match=found):
        train_here(tmp_path, loss=loss)
    assert not (tmp_path / "training.pt").exists()
    assert not (tmp_path / "training.csv").exists()


def test_torch_settings_come_back(tmp_path):
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    train_here(tmp_path)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_a_damaged_or_foreign_model_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no such model"):
        load_artifact(tmp_path / "none.pt")
    job = train_here(tmp_path)
    cut = tmp_path / "cut.pt"
    cut.write_bytes(job.artifact.read_bytes()[:-500])
    with pytest.raises(ArtifactError, match=r"cut\.pt: cannot be read as a model"):
        load_artifact(cut)
    torch.save({"weights": {}}, tmp_path / "other.pt")
    with pytest.raises(ArtifactError, match="not a model of pullback"):
        load_artifact(tmp_path / "other.pt")
    torch.save({"format": 99, "weights": {}, "meta": {}}, tmp_path / "new.pt")
    with pytest.raises(ArtifactError, match="model format 99, this pullback reads 1"):
        load_artifact(tmp_path / "new.pt")


def signed_squares(negative):
    """Squares of members weighted by -1 where ``negative(y)`` says so, +1 elsewhere."""

    def loss(model, sets, noise):
        mask = sets["mask"]
        error = (model(sets["y"]) - sets["x"]).square().mean(dim=-1)[mask]
        weight = 1 - 2 * negative(sets["y"][mask]).float()
        return (error * weight).sum(), weight.sum()

    return loss


def test_squares_that_negative_weights_turn_into_a_gain_are_an_error(tmp_path):
    """Where all weights of a region are negative the loss has no least: it falls as errors there grow."""
    loss = signed_squares(lambda y: y[:, 1] > 0.8)
    train = SETTINGS.model_copy(update={"steps": 400, "set_size": (64, 64)})
    with pytest.raises(TrainingError, match=r"negative event weights outweigh the positive ones") as error:
        train_here(tmp_path, loss=loss, train=train, least=0.0)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "training.pt").exists()


def test_squares_with_a_few_negative_weights_are_trained_on(tmp_path):
    """One event in ten at random has weight -1: the loss is that of a positive density, and so is not negative."""
    loss = signed_squares(lambda y: (1e4 * y[:, 0]).long() % 10 == 0)
    job = train_here(tmp_path, loss=loss, least=0.0)
    assert all(row["validation_loss"] > 0 for row in rows(job.curves) if not math.isnan(row["validation_loss"]))
