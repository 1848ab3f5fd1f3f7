"""What a problem is to the rest of the package."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from pullback.ensembles.fields import Field
from pullback.study.base import Capability


@runtime_checkable
class Problem(Protocol):
    """Families + forward process (+ likelihood, + exact posterior where there is one).

    A class that declares ``gives`` needs only the members of what it gives; ``x``, ``y`` and ``block`` always. It is
    made from the problem's ``simulator`` block. Heavy imports belong inside methods: the class is loaded while the
    Snakefile is parsed.

    Attributes:
        gives: capabilities.
        x, y: fields of truth and observation.
        block: events drawn from one generator; shards are cut between blocks.
        fail: what a failed simulation means for data: ``"error"`` or ``"redraw"`` (the prior is then conditional on
        success).

    Optional is ``amplitude_unit``: what y is proportional to by the settings of the simulation alone (a grid's spacing,
    not the source). A shift that simulates with other settings takes it out.
    """

    gives: ClassVar[frozenset[Capability]]
    x: Field
    y: Field
    block: int
    fail: str

    def sample_prior(self, rng: np.random.Generator, n: int, params: dict[str, Any]) -> np.ndarray:
        """Draws x (n, *x) from the prior with these parameters. [prior]"""
        ...

    def forward(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Observations y (event, *y) of x (event, *x), and which simulations succeeded (event,) bool. [forward]"""
        ...

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `forward`, without the noise of a measurement.

        Optional beside ``forward``, for a problem that can tell the two apart; without it EnKG takes what `forward`
        gives, its noise included.
        """
        ...

    def gradient(
        self, x: np.ndarray, objective: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An objective of F(x) and its derivative by x: values (event,), (event, *x), ok (event,). [gradient]

        ``objective(y, events)`` gives, for some events by their indices, values (event,) and their derivative by y.
        """
        ...

    def log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y|x), broadcast over leading axes, float64. [likelihood]"""
        ...

    def pairwise_log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y_i|x_p) of every pair, (event, particle), of y (event, *y) and x (particle, *x).

        Optional: a faster form of what `log_likelihood` gives, which is used in chunks where this is missing.
        """
        ...

    def exact_posterior(
        self, y: np.ndarray, params: dict[str, Any], draws: int, pool: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws x (event, draw, *x) from p(x|y) under the prior with these parameters. [exact-posterior]

        Beside them the effective number of candidates that a draw of each event was chosen from (event,), where draws
        are chosen from a ``pool`` of weighted candidates; inf where they are exact.
        """
        ...

    def posterior_from_truth(
        self, y: np.ndarray, truth: np.ndarray, log_weight: np.ndarray, draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `exact_posterior`, by weighting an independent sample of the truth (truth, *x) with its log weights.

        Optional beside ``likelihood``, for a problem whose symmetries make more of a truth; without it the sample is
        weighted as it is (`pullback.problems.reweighting`).
        """
        ...

    def preflight(self) -> dict[str, Any]:
        """Checks of the settings with their numbers, or ValueError with a remedy; compiles what jobs share."""
        ...


def make_problem(kind: str, simulator: dict[str, Any], folder: Path | str = ".") -> Problem:
    """The problem of a study from its kind and its ``simulator`` block (plain values, as in the canonical JSON)."""
    from pullback.study.plugins import load_class, problem_class
    from pullback.study.problems import BUILT_IN_PROBLEMS

    if kind in BUILT_IN_PROBLEMS:
        model = BUILT_IN_PROBLEMS[kind]
        blocks: Any = model.model_fields["simulator"].annotation
        options = blocks.model_validate(simulator)
        cls = load_class(model.code)
        return cls(options, Path(folder)) if kind == "command" else cls(options)
    cls = problem_class(kind, Path(folder))
    spec = getattr(cls, "Spec", None)
    problem = cls(spec.model_validate(simulator)) if spec else cls(**simulator)
    for needed in ("x", "y"):
        if not hasattr(problem, needed):
            raise AttributeError(
                f"problem '{kind}': the class has no field `{needed}` (pullback.ensembles.fields.Field)"
            )
    problem.block = getattr(problem, "block", 1000)
    problem.fail = getattr(problem, "fail", "error")
    return problem


def problem_of(entry: dict[str, Any]) -> Problem:
    """The problem that a job is told of (`Plan.preflight_job`, and a part of every other job)."""
    return make_problem(entry["kind"], entry["simulator"], entry.get("folder", "."))
