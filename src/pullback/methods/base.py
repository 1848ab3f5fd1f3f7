"""One life cycle for every method: train (optional) -> condition (optional) -> sample and/or unfold.

A method is made once per job from its spec, its problem and the settings of the inference. Training writes one
*artifact* file; conditioning on one ensemble gives a *state*; posterior samples are made in blocks of events, so that
memory stays bounded. Amortised models use all three steps, the oracle only ``sample``, EnKG ``sample`` with the
artifact of a prior.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Self, TypeVar

import numpy as np

from pullback.core.context import Context
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.arrays import Ensemble
from pullback.problems.base import Problem
from pullback.study.kinds import Infer

if TYPE_CHECKING:
    from pullback.diffusion.checkpoint import Artifact
    from pullback.ensembles.marginals import Marginals
    from pullback.ensembles.sets import TrainingData
    from pullback.ensembles.unfolded import Unfolded

State = TypeVar("State")

Acceptance = Literal["purity", "efficiency"]

BLOCK_VALUES = 1 << 26
"""Most numbers in a block of events, their observations and draws: 268 MB in float32. Tables never have so many."""


class PosteriorSamples(NamedTuple):
    """Posterior draws for some events.

    Attributes:
        x: (event, draw, *x), float32, physical units. A failed draw is NaN.
        log_weight: (event, draw), float64; zeros for equally weighted draws, -inf for a draw of weight zero, which has
            not failed. NaN and +inf count as failed.
        ok: (event, draw), bool; False for a failed draw, which is kept and counted.
        diagnostics: numbers about these draws that belong in the report; a family's is the median over its blocks.
        purity: P(the observation has a truth | y), (event,); for methods that give it (`Method.acceptance`).
        efficiency: P(the truth is recorded | x) of each draw (event, draw), likewise.
        times: how often each bootstrap resample of the conditioning set holds the event (event, resample); draw j is
            conditioned on resample j modulo their number. For methods that resample it (`Method.resamples`).
    """

    x: np.ndarray
    log_weight: np.ndarray
    ok: np.ndarray
    diagnostics: Mapping[str, float] = MappingProxyType({})
    purity: np.ndarray | None = None
    efficiency: np.ndarray | None = None
    times: np.ndarray | None = None


ADJOINT = 2
"""Simulations in one derivative beside the signal itself: its recomputation from checkpoints, and the adjoint."""


@dataclass
class Cost:
    """Cost of an inference, summed over parts for the cost table. The driver measures seconds and memory.

    Attributes:
        simulator_calls, network_calls: rows that were simulated, or went through a network. A derivative by the
            simulator's own adjoint counts as `ADJOINT` more simulations.
        network_gradients, likelihood_gradients: rows whose derivative was taken.
        failed_simulations: rows without a result.
        projected: rows moved to the problem's bounds.
    """

    simulator_calls: int = 0
    network_calls: int = 0
    network_gradients: int = 0
    likelihood_gradients: int = 0
    failed_simulations: int = 0
    projected: int = 0


class Method(Generic[State]):
    """Base of every method; a subclass overrides what it needs.

    Attributes:
        block: most events that ``sample`` gets at once. Blocks are aligned to the family's first event, so that
            numerics do not depend on how events are cut into parts.
        acceptance: which of ``purity`` and ``efficiency`` its samples have; known when it is loaded.
        marginals: of the first observation that it sampled, for methods that go from noise to few unknowns.
    """

    block: int = 1024
    acceptance: tuple[Acceptance, ...] = ()
    marginals: "Marginals | None" = None

    def __init__(self, spec: Any, problem: Problem, context: Context, settings: Infer | None = None):
        self.spec = spec
        self.settings = settings or Infer()
        self.problem = problem
        self.context = context
        self.cost = Cost()

    def using(self, settings: Infer) -> Self:
        """A copy of the method, with its trained state and its cost, and other settings of the inference."""
        other = copy.copy(self)
        other.settings = settings
        other.marginals = None
        return other

    def events_at_once(self, draws: int) -> int:
        """Events of a block with so many draws each: ``block``, fewer where they are too many numbers."""
        event = draws * math.prod(self.problem.x.shape) + math.prod(self.problem.y.shape)
        return max(1, min(self.block, BLOCK_VALUES // event))

    @property
    def resamples(self) -> int:
        """Number of bootstrap resamples of the conditioning set that its draws differ by; 0: the set itself."""
        return 0

    def train(self, data: "TrainingData", job: TrainPaths) -> "Artifact | None":
        """Learn from the seen families and write the artifact; for methods whose Spec says ``trains``.

        ``job.write`` writes it beside the loss curves and returns it; where ``job`` names no file, the returned one is
        the only copy.

        With several GPUs it runs once in each process of torchrun; the default loop shares the work among them.
        """
        raise NotImplementedError(f"{type(self).__name__} does not train")

    def load(self, artifact: Path | None, prior: Path | None, seen: list[Path]) -> None:
        """Read the trained artifact and/or the prior's. ``seen``: index files of the seen families' train split."""

    def set_prior_params(self, params: dict[str, Any]) -> None:
        """Pass the true parameters of the family's prior, for Specs with ``uses_prior_params``."""
        raise NotImplementedError(f"{type(self).__name__} takes no parameters of the prior")

    def set_reference(self, reference: Path) -> None:
        """Pass the family's reference split, for methods that use it as a sample of the prior (``needs_either``)."""
        raise NotImplementedError(f"{type(self).__name__} takes no reference")

    def condition(self, ensemble: Ensemble, workdir: Path | None = None) -> State:
        """Compute the state of one ensemble, once (set embedding, fitted prior ...).

        Args:
            ensemble: the observations, all of one set.
            workdir: folder for files that a rerun goes on from, where the Spec says ``costly_condition``.
        """
        return None  # type: ignore[return-value]

    def pack(self, state: State) -> Any:
        """Serialise a state as plain values (dicts, lists, numbers, text) and NumPy arrays, for rule `condition`."""
        return state

    def unpack(self, packed: Any) -> State:
        """The inverse of `pack`; sequences come back as lists."""
        state: State = packed
        return state

    def sample(self, state: State, y: np.ndarray, event_id: np.ndarray) -> PosteriorSamples:
        """Posterior draws for observations y (event, *y); row i of the family's ensemble has ``event_id[i]``."""
        raise NotImplementedError

    def purity_of(self, state: State, y: np.ndarray) -> np.ndarray | None:
        """P(the observation has a truth | y) of observations y (event, *y), (event,); None where it gives none."""
        return None

    def efficiency_of(self, x: np.ndarray) -> np.ndarray | None:
        """P(the truth is recorded | x) of truths x (..., *x), (...); None where it gives none."""
        return None

    def unfold(self, state: State, ensemble: Ensemble) -> "Unfolded":
        """The truth distribution of the ensemble, for methods with ``unfolds``."""
        raise NotImplementedError

    def diagnostics(self, state: State) -> dict[str, float]:
        """Diagnostics of one conditioning for the report (distance from the training ensembles ...)."""
        return {}
