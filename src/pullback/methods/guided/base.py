"""Base of methods with a diffusion prior: loading it, counting its calls, and addressed noise for each event.

A method subclasses `DiffusionMethod` and writes ``answer``. Guidance of the mean is a `Denoiser` around ``self.prior``,
by its ``vjp``; guidance of the state acts between two steps of a `Sampler` (as in `enkg`).
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pullback.core.context import Context
from pullback.core.particles import relative
from pullback.core.seeding import event_normals
from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.numerics import numerics, pick_device
from pullback.diffusion.schedule import Time, VarianceExploding
from pullback.ensembles.marginals import Recorder
from pullback.ensembles.scaling import Scaling
from pullback.methods.base import Cost, Method, PosteriorSamples
from pullback.methods.guided.observation import Observation, Operators
from pullback.methods.guided.priors import PriorError, load_prior
from pullback.problems.base import Problem
from pullback.study.kinds import Infer

NETWORK_VALUES = 1 << 20
"""Most numbers, in all particles, that go through the network at once: 256 particles of 64 x 64 pixels."""


SHOWN = 2
"""Most quantities of x of which noisy marginals are kept: those of the first one."""


class Particles(NamedTuple):
    """Posterior particles of one observation.

    Attributes:
        x: (draw, *x), as networks see it.
        log_weight: (draw,), finite where ok; None for equal weights.
        ok: (draw,), False for a particle that died; None where none did.
        diagnostics: diagnostics of these draws for the report.
    """

    x: Tensor
    log_weight: np.ndarray | None = None
    ok: np.ndarray | None = None
    diagnostics: Mapping[str, float] = MappingProxyType({})


def in_batches(x: Tensor) -> tuple[Tensor, ...]:
    """Particles (B, *x) cut into batches for a network."""
    return x.split(max(1, NETWORK_VALUES // math.prod(x.shape[1:])))


class Counted(Denoiser):
    """A denoiser that is called in batches; rows are counted as network calls and gradients of the cost table."""

    schedule: VarianceExploding

    def __init__(self, denoiser: Denoiser, cost: Cost):
        assert isinstance(denoiser.schedule, VarianceExploding)
        self.denoiser, self.cost, self.schedule = denoiser, cost, denoiser.schedule

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """See `Denoiser`."""
        self.cost.network_calls += len(x)
        rows = in_batches(x)
        if len(rows) == 1:
            return self.denoiser(x, t)
        times = t.split(len(rows[0])) if isinstance(t, Tensor) and t.numel() > 1 else [t] * len(rows)
        return torch.cat([self.denoiser(*some) for some in zip(rows, times, strict=True)])

    def vjp(self, x: Tensor, t: Time) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """See `Denoiser`."""
        mean, pull = super().vjp(x, t)

        def counted(cotangent: Tensor) -> Tensor:
            self.cost.network_gradients += len(cotangent)
            return pull(cotangent)

        return mean, counted


class DiffusionMethod(Method[None]):
    """A method that samples each observation with a diffusion prior.

    Attributes:
        prior: the denoiser, differentiable in x_t; its schedule has the range of noise levels.
        scaling: between x in physical units and x as networks see it.
        device: where the prior computes.
    """

    _recorder: Recorder | None = None

    block = 1
    prior: Counted
    scaling: Scaling
    device = torch.device("cpu")

    def __init__(self, spec: Any, problem: Problem, context: Context, settings: Infer | None = None):
        super().__init__(spec, problem, context, settings)
        self._operators = Operators()

    def load(self, artifact: Path | None, prior: Path | None, seen: list[Path]) -> None:
        """Read the diffusion prior.

        Raises:
            ArtifactError: the file is missing, damaged or foreign.
            PriorError: it is no diffusion prior, or one of another x.
        """
        assert prior is not None
        denoiser, self.scaling = load_prior(prior, self.context.accelerator)
        if self.scaling.x_shape != tuple(self.problem.x.shape):
            raise PriorError(
                f"{prior}: a prior of x with shape {self.scaling.x_shape}, wanted {self.problem.x.shape}, the "
                "problem's; train it on this problem"
            )
        self.prior, self.device = Counted(denoiser, self.cost), pick_device(self.context.accelerator)

    def observation(self, y: np.ndarray) -> Observation:
        """The likelihood of one observation (*y,).

        Raises:
            NoiseError: its noise has no variance.
        """
        return Observation(self.problem, self.scaling, y, self.cost, self._operators)

    def noise(self, stage: str, event_id: int, draws: int) -> Tensor:
        """Standard normals (draw, *x) that only the event's id names."""
        shape = (draws, *self.scaling.x_shape)
        normals = event_normals((*self.context.address, stage), np.array([event_id]), shape)[0]
        return torch.from_numpy(normals).to(self.device)

    def sample(self, state: None, y: np.ndarray, event_id: np.ndarray) -> PosteriorSamples:
        """Draws (event, draw, *x) in physical units, each event on its own."""
        column = self.scaling.x_columns[0]
        few = bool(column.name) and len(self.scaling.x_columns) <= SHOWN
        if self.marginals is None and few and column.transform == "linear" and column.partner < 0:
            self._recorder = Recorder(int(event_id[0]), column.mean, column.std)
        with numerics(self.context.threads, self.device.type == "cuda"):
            answers = []
            for one, i in zip(y, event_id, strict=True):
                answers.append(self.answer(one, int(i)))
                if self._recorder is not None:
                    self.marginals, self._recorder = self._recorder.marginals(), None
        x = self.scaling.decode_x(np.stack([answer.x.detach().cpu().numpy() for answer in answers]), y[:, None])
        log_weight, ok = np.zeros(x.shape[:2]), np.ones(x.shape[:2], dtype=bool)
        for row, answer in enumerate(answers):
            log_weight[row] = 0.0 if answer.log_weight is None else answer.log_weight
            ok[row] = True if answer.ok is None else answer.ok
        names = {name for answer in answers for name in answer.diagnostics}
        found = {name: [a.diagnostics[name] for a in answers if name in a.diagnostics] for name in sorted(names)}
        return PosteriorSamples(x, log_weight, ok, {name: float(np.median(each)) for name, each in found.items()})

    def watch(self, t: float, x: Tensor, log_weight: Callable[[], np.ndarray] | None = None) -> None:
        """Told the state (draw, *x) at each noise level, with what gives log weights; keeps the first observation's."""
        if self._recorder is not None:
            weight = None if log_weight is None else relative(log_weight())
            self._recorder(t, x.detach().flatten(1)[:, 0].cpu().numpy(), weight)

    def answer(self, y: np.ndarray, event_id: int) -> Particles:
        """Draws for one observation (*y,)."""
        raise NotImplementedError
