"""Training and sampling on one GPU, measured and compared with the CPU: `make bench-gpu`, at most 8 minutes.

Two models are trained by the package's own loop, in float32 and bfloat16, eager and compiled: EI-FM on vectors
(settings of config/studies/gaussian-a.yaml) and EI-FM with a U-Net on the shapes of config/studies/fwi.yaml (made-up
data). Rates stand beside what one large matrix product and one large copy reach on the same card. Checks, which decide
the exit status: the loss of a short training and the samples of one artifact agree with the CPU's, and a training that
was stopped and resumed agrees with the uninterrupted one.

It needs the packages of envs/gpu.txt, no network and no simulator. Without a GPU it runs on the CPU, at a tiny size
with ``--tiny``.
"""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pullback.core.context import Context
from pullback.core.stopping import Stopped
from pullback.diffusion.checkpoint import Artifact
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.arrays import ArrayEnsemble
from pullback.ensembles.fields import Field
from pullback.ensembles.sets import Part, Sets, TrainingData
from pullback.methods.amortised.conditional_net import ConditionalNet
from pullback.methods.amortised.model import AmortisedModel
from pullback.methods.amortised.spec import EiFmSpec, FlowInfer
from pullback.problems.gaussian import Gaussian, GaussianSimulator

STUDIES = Path(__file__).parents[1] / "config" / "studies"
BUDGET_S = 480
COMPILED_CASE_S = 100
"""Seconds that a compiled case may take: it is left out when less is left of the budget."""

TINY = 1e-12


@dataclass
class Task:
    """One model and its data.

    Attributes:
        name: for the table.
        spec: the method with its training settings.
        problem: has the fields ``x`` and ``y``.
        draw: ``draw(rng, ensemble, n)`` gives n pairs x (n, *x), y (n, *y) of one ensemble.
        ensembles, events: of the training split; events of each ensemble.
        infer: sampling settings.
        tolerance: root mean square difference of two devices' samples, in standard deviations of the samples.
    """

    name: str
    spec: EiFmSpec
    problem: Any
    draw: Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]
    ensembles: int
    events: int
    infer: FlowInfer
    tolerance: float

    @cached_property
    def splits(self) -> tuple[list[ArrayEnsemble], list[ArrayEnsemble], ArrayEnsemble]:
        """Training and validation ensembles, and one that is answered."""
        return split(self, 0, self.ensembles), split(self, 1, 2), split(self, 2, 1)[0]


def study_spec(study: str, problem: str, **train: Any) -> EiFmSpec:
    """The method `ei-fm` of one of the shipped studies, with other training settings."""
    method = yaml.safe_load((STUDIES / study).read_text())["problems"][problem]["methods"]["ei-fm"]
    return EiFmSpec.model_validate({**method, "infer": {"default": {}}, "train": {**method["train"], **train}})


def vectors(tiny: bool) -> Task:
    """EI-FM of the study gaussian-a."""
    problem = Gaussian(GaussianSimulator())

    from pullback.problems.base import simulate

    def draw(rng: np.random.Generator, ensemble: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        gamma = rng.uniform(0.25, 0.75) * (-1 if ensemble % 2 else 1)
        x = problem.sample_prior(rng, n, {"gamma": gamma})
        return x, simulate(problem, x, rng)[0]

    sizes = {"set_size": (50, 100), "loss_members": 32} if tiny else {}
    spec = study_spec("gaussian-a.yaml", "gaussian", steps=12 if tiny else 400, **sizes)
    infer = FlowInfer(draws=2 if tiny else 32, solver="midpoint", steps=4)
    return Task("EI-FM", spec, problem, draw, 4 if tiny else 64, 100 if tiny else 4000, infer, 2e-3)


def images(tiny: bool) -> Task:
    """EI-FM with a U-Net: x 32 x 32, y 5 shots of 128 samples on 32 receivers."""
    shape = (5, 128, 32)
    problem = SimpleNamespace(
        x=Field.array("x", ("depth", "offset"), (32, 32), "km/s"),
        y=Field.array("y", ("shot", "time", "receiver"), shape, "1"),
    )

    def draw(rng: np.random.Generator, ensemble: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        # Layers whose number differs between ensembles; each shot sees another nonlinear function of them.
        layers = rng.uniform(1.5, 4.5, (n, 4 << ensemble % 3, 1))
        x = np.repeat(layers, 32 // layers.shape[1], axis=1) + 0.1 * rng.normal(size=(n, 1, 32))
        shots = np.arange(1, shape[0] + 1)[:, None, None]
        y = np.sin(shots * np.repeat(x, shape[1] // 32, axis=1)[:, None])
        return x.astype(np.float32), (y + 0.05 * rng.normal(size=y.shape)).astype(np.float32)

    sizes = {"set_size": (2, 4), "loss_members": 2} if tiny else {}
    spec = study_spec("fwi.yaml", "fwi", steps=6 if tiny else 200, **sizes)
    if tiny:
        spec = spec.model_copy(update={"network": spec.network.model_copy(update={"width": 4})})
    infer = FlowInfer(draws=2 if tiny else 32, solver="midpoint", steps=4)
    # Convolutions in float32 use TF32 on a GPU, with ten bits of mantissa.
    return Task("EI-FM, U-Net", spec, problem, draw, 4 if tiny else 8, 8 if tiny else 128, infer, 2e-2)


def split(task: Task, seed: int, ensembles: int) -> list[ArrayEnsemble]:
    """Ensembles of a task, in memory."""
    rng = np.random.default_rng(seed)
    fields = {"x_field": task.problem.x, "y_field": task.problem.y}
    pairs = [task.draw(rng, i, task.events) for i in range(ensembles)]
    return [ArrayEnsemble(y, x, name=f"ensemble {i}", **fields) for i, (x, y) in enumerate(pairs)]


class CountedData(TrainingData):
    """Training data that keep how many events each training step saw, in ``events``."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.events: list[int] = []

    def sets(
        self, rng: np.random.Generator, sets: int, set_size: tuple[int, int], split: Part = "train", *more: Any
    ) -> Sets:
        found = super().sets(rng, sets, set_size, split, *more)
        if split == "train":
            self.events.append(int(found.mask.sum()))
        return found


class CompiledModel(AmortisedModel):
    """The model with its network and its set encoder compiled."""

    def _build(self, *arguments: Any) -> ConditionalNet:
        model = super()._build(*arguments)
        for part in (model.network, model.encoder):
            if part is not None:
                part.compile()
        return model


@dataclass
class Traffic(TorchDispatchMode):
    """Counts the bytes that the operations read and write, each as if alone; views move nothing."""

    total: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        read, written = list(tensors(args)), list(tensors(out))
        kept = {tensor.untyped_storage().data_ptr() for tensor in read}
        if func._schema.is_mutable or not any(tensor.untyped_storage().data_ptr() in kept for tensor in written):
            self.total += sum(
                min(t.numel() * t.element_size(), t.untyped_storage().nbytes()) for t in (*read, *written)
            )
        return out


def tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in nested lists and tuples."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from tensors(value)


def now() -> float:
    """Seconds, when the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass
class Meter:
    """A progress bar that measures: the rate after the first steps, the work of one step, the peak of memory.

    Attributes:
        warm_up: steps before the clock starts.
        count: whether operations and bytes of step 1 are counted, which slows it.
        seconds, steps: time and number of the steps after the warm-up, without the last.
        total_steps: steps of this run.
        flops, traffic: floating-point operations and bytes of one step.
        first_step_s: time of the first step, compilation included.
    """

    warm_up: int = 0
    count: bool = False
    seconds: float = 0.0
    steps: int = 0
    total_steps: int = 0
    flops: int = 0
    traffic: int = 0
    first_step_s: float = 0.0

    def __call__(self, steps: Iterable[int], total: int | None = None, label: str = "") -> Iterator[int]:
        started = begun = now()
        for number, step in enumerate(steps):
            self.total_steps = number + 1
            if number == 1:
                self.first_step_s = now() - begun
            if number == self.warm_up:
                started = now()
            elif number > self.warm_up:
                # The last step validates, too: its time is not that of a step.
                self.steps = number - self.warm_up
                if number + 1 == total:
                    self.seconds = now() - started
            if self.count and number == 1:
                with FlopCounterMode(display=False) as flops, Traffic() as traffic:
                    yield step
                self.flops, self.traffic = flops.get_total_flops(), traffic.total
            else:
                yield step


@dataclass
class Trained:
    """One training: the model and what was measured."""

    artifact: Artifact
    meter: Meter
    events: list[int]

    @property
    def loss(self) -> float:
        """The validation loss at the end."""
        return float(self.artifact.meta["kept"]["validation_loss"])


def fit(
    task: Task,
    accelerator: str,
    precision: str = "float32",
    compiled: bool = False,
    steps: int | None = None,
    stop: Callable[..., str | None] = lambda next_s=0.0: None,
    meter: Meter | None = None,
    checkpoints: Path | None = None,
) -> Trained:
    """Train with the package's loop; a call with the same checkpoints continues them."""
    steps = steps or task.spec.train.steps
    changed = {"steps": steps, "validate_every": steps, "checkpoint_every": steps, "precision": precision}
    spec = task.spec.model_copy(update={"train": task.spec.train.model_copy(update=changed)})
    meter = meter or Meter()
    data = CountedData(*task.splits[:2], spec.train.memory_mb)
    context = Context(("gpu", task.name), torch.get_num_threads(), accelerator, progress=meter, stop=stop)
    method = (CompiledModel if compiled else AmortisedModel)(spec, task.problem, context)
    return Trained(method.train(data, TrainPaths(checkpoints=checkpoints)), meter, data.events)


def sample(task: Task, trained: Trained, accelerator: str, events: int) -> tuple[np.ndarray, float]:
    """Draws (event, draw, *x) of the first events of the test ensemble, and the seconds they took."""
    context = Context(("gpu", task.name), torch.get_num_threads(), accelerator)
    method = AmortisedModel(task.spec, task.problem, context, task.infer)
    method.use(trained.artifact)
    ensemble = task.splits[2]
    state = method.condition(ensemble)
    started = now()
    x = method.sample(state, ensemble.read("y", 0, events), ensemble.read("event_id", 0, events)).x
    return x, now() - started


def limits(device: torch.device, tiny: bool) -> dict[str, float]:
    """What the device reaches: FLOP/s of a square matrix product by precision, and bytes/s of a copy."""
    n, size = (256, 1 << 20) if tiny else (8192, 1 << 30)

    def rate(action: Callable[[], object]) -> float:
        action()
        times = []
        for _ in range(10):
            started = now()
            action()
            times.append(now() - started)
        return 1 / min(times)

    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        found[name] = 2 * n**3 * rate(lambda a=a, b=b: a @ b)
    source = torch.zeros(size, device=device)
    target = torch.empty_like(source)
    found["copy"] = 2 * source.nbytes * rate(lambda: target.copy_(source))
    return found


class Report:
    """Prints lines as they come and keeps the numbers."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []

    def row(self, **values: Any) -> None:
        """One measured case."""
        self.rows.append(values)
        print(
            "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{value}" for key, value in values.items())
        )

    def check(self, what: str, found: float, tolerance: float) -> None:
        """One comparison: a relative difference and its tolerance."""
        ok = bool(found <= tolerance)
        self.checks.append({"check": what, "found": found, "tolerance": tolerance, "ok": ok})
        print(f"{'ok' if ok else 'FAILED':<6} {what}: {found:.3g}, tolerance {tolerance:.3g}", flush=True)


def relative(one: float, other: float) -> float:
    """Difference of two numbers relative to the second."""
    return abs(one - other) / (abs(other) + TINY)


def check_resume(task: Task, report: Report, gpu: bool) -> None:
    """A training that is stopped half way and resumed gives the weights of the uninterrupted one."""
    steps = 8
    whole = fit(task, "auto", steps=steps)
    asked = 0

    def stop(next_s: float = 0.0) -> str | None:
        nonlocal asked
        asked += 1
        return "for the check" if asked == steps // 2 else None

    with tempfile.TemporaryDirectory() as folder:
        try:
            fit(task, "auto", steps=steps, stop=stop, checkpoints=Path(folder))
            raise RuntimeError("the training did not stop when it was told to")
        except Stopped:
            resumed = fit(task, "auto", steps=steps, checkpoints=Path(folder))
    if resumed.meter.total_steps != steps - steps // 2:
        raise RuntimeError(f"resumed for {resumed.meter.total_steps} steps, wanted {steps - steps // 2}")
    found = max(
        float((resumed.artifact.weights[name] - value).abs().max() / (value.abs().max() + TINY))
        for name, value in whole.artifact.weights.items()
        if value.is_floating_point()
    )
    # Bit for bit on a CPU; some GPU operations add in an order that varies.
    report.check(f"{task.name}: resumed against uninterrupted weights", found, 1e-3 if gpu else 0.0)


def check_against_cpu(task: Task, report: Report, bfloat16: bool, tiny: bool) -> None:
    """A short training and samples of its artifact on this device and on the CPU."""
    steps = 4 if tiny else 20
    cpu = fit(task, "cpu", steps=steps)
    here = fit(task, "auto", steps=steps)
    what = f"{task.name}: validation loss after {steps} steps against CPU"
    report.check(f"{what}, float32", relative(here.loss, cpu.loss), 1e-2)
    if bfloat16:
        report.check(
            f"{what}, bfloat16", relative(fit(task, "auto", precision="auto", steps=steps).loss, cpu.loss), 5e-2
        )
    events = 4 if tiny else 64
    there, _ = sample(task, cpu, "cpu", events)
    found, _ = sample(task, cpu, "auto", events)
    difference = float(np.sqrt(np.mean((found - there) ** 2)) / there.std())
    report.check(f"{task.name}: samples of one artifact against CPU", difference, task.tolerance)


def measure(task: Task, report: Report, found: dict[str, float], precision: str, compiled: bool, tiny: bool) -> None:
    """Rates and memory of one way to train, and of sampling from what it learned."""
    gpu = torch.cuda.is_available()
    mode = "compiled" if compiled else "eager"
    setting = "auto" if precision == "bfloat16" else "float32"
    work = Meter(count=True)
    fit(task, "auto", setting, steps=3, meter=work)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    meter = Meter(warm_up=2 if tiny else task.spec.train.steps // 4)
    trained = fit(task, "auto", setting, compiled, meter=meter)
    memory = torch.cuda.max_memory_allocated() / 1e9 if gpu else float("nan")
    steps = meter.steps / meter.seconds
    events = np.mean(trained.events[meter.warm_up :])
    count = 4 if tiny else min(task.events, 1024)
    sample(task, trained, "auto", count)
    draws, seconds = sample(task, trained, "auto", count)
    if not np.isfinite(draws).all():
        raise RuntimeError(f"{task.name}, {precision}, {mode}: samples are not finite")
    report.row(
        task=task.name,
        precision=precision,
        mode=mode,
        steps_per_s=steps,
        events_per_s=float(events * steps),
        first_step_s=meter.first_step_s,
        of_matrix_limit=work.flops * steps / found[precision],
        # Operations counted one by one, as eager training runs them: a compiled training moves fewer bytes.
        of_copy_limit=work.traffic * steps / found["copy"],
        memory_gb=memory,
        draws_per_s=count * task.infer.draws / seconds,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run everything; 1 when a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the numbers to this file, as JSON")
    parser.add_argument("--tiny", action="store_true", help="seconds on a CPU, to see that everything runs")
    parser.add_argument("--compile", action="store_true", help="compile on a CPU, too")
    options = parser.parse_args(arguments)
    logging.getLogger("pullback").setLevel(logging.WARNING)
    if options.tiny:
        torch.set_num_threads(1)
    began, gpu, report = time.monotonic(), torch.cuda.is_available(), Report()
    device = torch.device("cuda" if gpu else "cpu")
    machine = {
        "device": torch.cuda.get_device_name() if gpu else "CPU",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    found = limits(device, options.tiny)
    print(
        f"limits: {found['float32']:.3g} FLOP/s in float32, {found['bfloat16']:.3g} in bfloat16, "
        f"{found['copy']:.3g} bytes/s copied"
    )
    left_out = []
    tasks = (vectors(options.tiny), images(options.tiny))
    for task in tasks:
        check_against_cpu(task, report, gpu, options.tiny)
        check_resume(task, report, gpu)
    for compiled in (False, True) if gpu or options.compile else (False,):
        for precision in ("float32", "bfloat16") if gpu else ("float32",):
            for task in tasks:
                if compiled and time.monotonic() - began > BUDGET_S - COMPILED_CASE_S:
                    left_out.append(f"{task.name} {precision} compiled")
                    continue
                measure(task, report, found, precision, compiled, options.tiny)
    if left_out:
        print(f"left out, as {BUDGET_S} s were nearly over: {', '.join(left_out)}")
    if options.out:
        numbers = {
            "machine": machine,
            "limits": found,
            "rows": report.rows,
            "checks": report.checks,
            "left_out": left_out,
        }
        options.out.write_text(json.dumps(numbers, indent=1))
    failed = sum(not check["ok"] for check in report.checks)
    print(f"{len(report.checks)} checks, {failed} failed; {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
