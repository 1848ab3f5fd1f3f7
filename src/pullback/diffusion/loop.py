"""The default training loop: resumable, with an average of the weights, validation and the best checkpoint kept.

Random numbers are addressed: the sets and the noise of step s come from (address, "train", s), so that a training that
was killed and resumed from a checkpoint gives the same result as an uninterrupted one, bit for bit on a CPU. Under
torchrun each process takes a share of every step (`diffusion.share`).
"""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch import Tensor, nn

from pullback.core.context import Context
from pullback.core.seeding import generator, integer_seed
from pullback.core.stopping import Stopped
from pullback.diffusion.checkpoint import Artifact, CheckpointError, Checkpoints
from pullback.diffusion.muon import Muon
from pullback.diffusion.numerics import numerics, pick_device
from pullback.diffusion.settings import Train
from pullback.diffusion.share import Noise, Share
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import Part, TrainingData

log = logging.getLogger("pullback")

Loss = Callable[[Any, dict[str, Tensor], Noise], tuple[Tensor, Tensor]]
"""(model, sets, noise) -> (sum of the losses, of how many members)."""

WARM_UP = 0.03
VALIDATION_BATCHES = 8
LOOK_EVERY_GPU = 25
AGREE_EVERY = 5
"""Steps between two agreements of several processes on whether to stop."""

WHOLE_STEP = 0
"""Stream of random numbers that all processes share; a layer's own numbers (dropout) are those of stream `rank`."""

COLUMNS = ("step", "train_loss", "validation_loss", "learning_rate", "grad_norm")


class TrainingError(ValueError):
    """The training diverged; the message gives the step and the remedy."""


def learning_rate(step: int, train: Train) -> float:
    """Rate of step 0, 1, ...: a linear warm-up over 3 % of the steps to the peak, then half a cosine down to zero."""
    warm = max(1, round(WARM_UP * train.steps))
    if step < warm:
        return train.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, train.steps - warm)
    return train.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def ema_decay(step: int, train: Train) -> float:
    """Decay of the average after step 0, 1, ...: shorter at first, so that it forgets the random start."""
    return min(train.ema, (1 + step) / (10 + step))


def make_optimizer(model: nn.Module, train: Train) -> torch.optim.Optimizer:
    """Of all parameters."""
    if train.optimizer == "muon":
        return Muon(model.parameters(), lr=train.learning_rate)
    return torch.optim.Adam(model.parameters(), lr=train.learning_rate, fused=True)


class _Step(nn.Module):
    """The loss as one module's forward: what Fabric wraps for precision and for several devices."""

    def __init__(self, model: nn.Module, loss: Loss):
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, sets: dict[str, Tensor], noise: Noise) -> tuple[Tensor, Tensor]:
        return self.loss(self.model, sets, noise)


def make_fabric(context: Context, train: Train) -> Fabric:
    """Fabric for this process: a single device, or one of the processes of torchrun."""
    gpu = pick_device(context.accelerator).type == "cuda"
    torchrun = TorchElasticEnvironment.detect()
    return Fabric(
        accelerator="cuda" if gpu else "cpu",
        devices=int(os.environ["LOCAL_WORLD_SIZE"]) if torchrun else 1,
        num_nodes=int(os.environ["GROUP_WORLD_SIZE"]) if torchrun else 1,
        precision="bf16-mixed" if gpu and train.precision == "auto" else "32-true",
        # Named: Fabric would take a SLURM job for a launch of its own, with SLURM_NTASKS = 1 process, and requeue it.
        plugins=TorchElasticEnvironment() if torchrun else LightningEnvironment(),
    )


def fit(
    model: nn.Module,
    loss: Loss,
    data: TrainingData,
    train: Train,
    job: TrainPaths,
    context: Context,
    meta: dict[str, Any],
    finish: Callable[[Any], dict[str, Any]] | None = None,
    least: float = -math.inf,
) -> Artifact:
    """Train ``model``; write the artifact and the curves where ``job`` says so.

    The artifact holds the averaged (EMA) weights of the step whose loss on validation sets was least. Validation sets
    are of the seen families' validation split, the same in every validation, with the same noise.

    Args:
        model: initialised by an address; trained in place.
        loss: ``loss(model, sets, noise) -> (sum, count)``, the sum over members and their number. ``sets`` has ``x``
            (set, member, *x), ``y`` (set, member, *y), as networks see them when ``meta`` has a scaling, ``mask``
            (set, member) bool, and ``theta`` and ``weight`` where there are any (`Sets`). All its random numbers come
            from ``noise``, with the set as first axis.
        data: the seen families.
        train: settings.
        job: where to write.
        context: address, threads, accelerator, progress, when to stop.
        meta: plain values kept in the artifact; ``meta["scaling"]`` (`Scaling.to_dict`) is applied to the data.
        finish: called at the end with the model that is kept, in evaluation mode; what it returns is added to ``meta``.
        least: bound below which the loss of no member lies: 0 of a square. No mean with non-negative weights lies below
            it; one with weights of both signs does where the negative ones outweigh the others, and then has no least.

    Returns:
        The artifact; with several processes only that of the first contains the values of ``finish``.

    Raises:
        TrainingError: the loss is not finite, or below its bound.
        CheckpointError: the checkpoint folder holds another training's.
        ShareError: the sets of a step cannot be shared equally by the processes.
        Stopped: the context said so; the checkpoint of the last step is written.
    """
    if "scaling" in meta:
        data.use(Scaling.from_dict(meta["scaling"]))
    fabric = make_fabric(context, train)
    fabric.launch()
    with numerics(context.threads, fabric.device.type == "cuda"):
        return _Fit(model, loss, data, train, job, context, fabric, least).run(meta, finish)


class _Fit:
    """One training: ``state`` is checkpointed, everything else is a function of the step."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: TrainingData,
        train: Train,
        job: TrainPaths,
        context: Context,
        fabric: Fabric,
        least: float,
    ):
        self.least = least
        self.model, self.data, self.train, self.job, self.context, self.fabric = (
            model,
            data,
            train,
            job,
            context,
            fabric,
        )
        self.gpu = fabric.device.type == "cuda"
        self.share = Share(train.sets_per_step, fabric.global_rank, fabric.world_size)
        self.step_module, self.optimizer = fabric.setup(_Step(model, loss), make_optimizer(model, train))
        # The model's own tensors: changed in place by every step and by load_state_dict.
        self.current = {name: value.detach() for name, value in model.state_dict().items()}
        self.ema = {name: value.clone() for name, value in self.current.items()}
        self.best: dict[str, Any] = {"loss": math.inf, "step": -1, "weights": {}}
        self.rows: list[list[float]] = []
        # Sums since the last row of the curves: of the loss, of the gradient's norm, and how many steps.
        self.sums = torch.zeros(2, dtype=torch.float64, device=fabric.device)
        self.count = 0
        self.checkpoints = Checkpoints(job.checkpoints) if job.checkpoints else None

    def run(self, meta: dict[str, Any], finish: Callable[[Any], dict[str, Any]] | None) -> Artifact:
        start = self._resume()
        batches = max(VALIDATION_BATCHES, -(-self.data.validation_families // self.train.sets_per_step))
        self._validation = [self._sets("validation", i) for i in range(batches)]
        train, began = self.train, time.monotonic()
        steps = self.context.progress(range(start, train.steps), train.steps - start, "training")
        for step, sets in zip(steps, self._stream(start), strict=False):
            self._advance(step, sets)
            done = step + 1
            last = done == train.steps
            if done % train.validate_every == 0 or last:
                self._validate(done)
            reason = None if last else self._stop(done)
            if reason or (done % train.checkpoint_every == 0 and not last):
                self._check_finite(step)
                self._save(done)
            if reason:
                raise Stopped(f"at step {done} of {train.steps}", reason)
        if train.steps > start:
            rate = (train.steps - start) / (time.monotonic() - began)
            log.info("trained %d steps, %.3g steps/s, on %s", train.steps - start, rate, self.fabric.device)
        log.info("kept: step %d, validation loss %.5g", self.best["step"], self.best["loss"])
        return self._finish(meta, finish)

    def _stream(self, start: int) -> Iterator[dict[str, Tensor]]:
        """The sets of each step; on a GPU the next ones are made while a step runs."""
        if not self.gpu:
            yield from (self._sets("train", step) for step in range(start, self.train.steps))
            return
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._sets, "train", start)
            for step in range(start, self.train.steps):
                sets = coming.result()
                if step + 1 < self.train.steps:
                    coming = pool.submit(self._sets, "train", step + 1)
                yield sets

    def _sets(self, part: Part, step: int) -> dict[str, Tensor]:
        rng = generator(*self.context.address, part, step, WHOLE_STEP)
        train = self.train
        reweighting = train.prior_reweighting if part == "train" else 0.0
        turn = step * train.sets_per_step
        drawn = self.data.sets(rng, train.sets_per_step, train.set_size, part, self.share.rows, reweighting, turn)
        return drawn.tensors(self.fabric.device)

    def _loss(self, part: Part, step: int, sets: dict[str, Tensor]) -> Tensor:
        """The mean over the members of the whole step; with several processes the part of it whose mean it is."""
        address = (*self.context.address, part, step)
        # A layer with its own randomness (dropout) draws from torch's global stream: it gets the step's address too.
        torch.manual_seed(integer_seed(*address, self.share.rank, "layers"))
        noise = Noise(integer_seed(*address, WHOLE_STEP, "noise"), self.share, self.fabric.device)
        total, count = self.step_module(sets, noise)
        # Processes may have unequal numbers of members, so that the mean of their means is not the mean.
        return total / self._over_devices(torch.as_tensor(count, dtype=torch.float32, device=total.device))

    def _advance(self, step: int, sets: dict[str, Tensor]) -> None:
        rate = learning_rate(step, self.train)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss("train", step, sets)
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(
            self.step_module, self.optimizer, max_norm=self.train.clip, error_if_nonfinite=False
        )
        assert norm is not None
        self.sums += torch.stack([loss.detach(), norm.detach()])
        self.count += 1
        # Looking at the sum waits for a GPU: there it is done now and then.
        if not self.gpu or step % LOOK_EVERY_GPU == 0:
            self._check_finite(step)
        self.optimizer.step()
        self._average(ema_decay(step, self.train))

    def _check_finite(self, step: int) -> None:
        if not bool(torch.isfinite(self.sums).all()):
            raise TrainingError(
                f"the loss or its gradient is not finite at step {step} (learning rate "
                f"{learning_rate(step, self.train):.3g}): lower train.learning_rate or train.clip, and look for "
                "extreme values in the training data (a log transform in the problem's fields tames heavy tails)"
            )

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        for name, value in self.current.items():
            if value.is_floating_point():
                self.ema[name].lerp_(value, 1 - decay)
            else:
                self.ema[name].copy_(value)

    @contextmanager
    def _averaged(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """The model with these weights, in evaluation mode; its own come back."""
        own = {name: value.clone() for name, value in self.current.items()}
        self.model.load_state_dict(weights)
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.load_state_dict(own)
            self.model.train()

    def _validate(self, done: int) -> None:
        self._check_finite(done - 1)
        with self._averaged(self.ema):
            losses = [self._loss("validation", i, sets).double() for i, sets in enumerate(self._validation)]
        loss = float(self._over_devices(torch.stack(losses).mean()))
        if not math.isfinite(loss):
            raise TrainingError(f"the validation loss is {loss} after {done} steps: lower train.learning_rate")
        if loss < self.least:
            raise TrainingError(
                f"the validation loss is {loss:.3g} after {done} steps, and no loss of a single event is below "
                f"{self.least:.3g}: negative event weights outweigh the positive ones, so that larger errors lower the "
                "loss; leave `weight` out, give positive weights (resample the events), or more validation events"
            )
        train_loss, norm = (self._over_devices(self.sums) / self.count).tolist()
        self.rows.append([done, train_loss, loss, learning_rate(done - 1, self.train), norm])
        self.sums.zero_()
        self.count = 0
        log.info("step %d: training loss %.5g, validation loss %.5g", done, train_loss, loss)
        if loss < self.best["loss"]:
            weights = {name: value.clone() for name, value in self.ema.items()}
            self.best = {"loss": loss, "step": done, "weights": weights}

    def _over_devices(self, value: Tensor) -> Tensor:
        """The mean over processes, the same in each."""
        if self.share.processes == 1:
            return value
        reduced = self.fabric.all_reduce(value.clone(), reduce_op="mean")
        assert isinstance(reduced, Tensor)
        return reduced

    def _stop(self, done: int) -> str | None:
        """The reason to stop after ``done`` steps; several processes stop together, when one of them has a reason."""
        if self.share.processes == 1:
            return self.context.stop()
        if done % AGREE_EVERY:
            return None
        reason = self.context.stop()
        wanted = self._over_devices(torch.tensor(float(reason is not None), device=self.fabric.device))
        return reason or "as another process wanted" if wanted > 0 else None

    def _save(self, done: int) -> None:
        if self.checkpoints and self.fabric.is_global_zero:
            state = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema,
                "best": self.best,
                "rows": self.rows,
                "sums": self.sums,
                "count": self.count,
            }
            self.checkpoints.save(done, state)
        self.fabric.barrier()

    def _resume(self) -> int:
        """Take up the newest checkpoint; the step to go on with."""
        found = self.checkpoints.newest() if self.checkpoints else None
        newest = self.fabric.broadcast(found[0] if found else 0)
        if newest != (found[0] if found else 0):
            raise CheckpointError(
                f"{self.job.checkpoints}: process 0 finds the checkpoint of step {newest} there and process "
                f"{self.share.rank} that of step {found[0] if found else 0}; all nodes must see the same folder"
            )
        if found is None:
            return 0
        done, state = found
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        device = self.fabric.device
        self.ema = {name: value.to(device) for name, value in state["ema"].items()}
        self.best, self.rows = state["best"], state["rows"]
        self.sums, self.count = state["sums"].to(device), state["count"]
        log.info("resumed after step %d of %d from %s", done, self.train.steps, self.job.checkpoints)
        return done

    def _finish(self, meta: dict[str, Any], finish: Callable[[Any], dict[str, Any]] | None) -> Artifact:
        weights, job = self.best["weights"], self.job
        self.model.load_state_dict(weights)
        if self.fabric.is_global_zero:
            self.model.eval()
            with torch.no_grad():
                extra = finish(self.model) if finish else {}
            kept = {"step": self.best["step"], "validation_loss": self.best["loss"]}
            meta = {**meta, **extra, "kept": kept}
            artifact = job.write(weights, meta, [dict(zip(COLUMNS, row, strict=True)) for row in self.rows])
            if self.checkpoints:
                self.checkpoints.remove()
        else:
            artifact = Artifact({name: value.cpu() for name, value in weights.items()}, meta)
        self.fabric.barrier()
        return artifact
