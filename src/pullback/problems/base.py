"""What a problem is to the rest of the package."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from pullback.ensembles.fields import Field
from pullback.study.kinds import problem_kind


class SimulationError(ValueError):
    """A simulation that failed where it may not."""


class Problem(Protocol):
    """Families + forward process (+ likelihood, + exact posterior where there is one).

    A class needs ``x``, ``y`` and the methods of the capabilities that it has, no others. It is made from the
    problem's ``simulator`` block. The class is loaded while the Snakefile is parsed: heavy imports belong inside
    methods. What it says of itself for the study (``Settings``, ``Params``, ``check`` ...) is in
    `pullback.study.kinds.ProblemKind`.

    Attributes:
        x, y: fields of truth and observation.
        block: events drawn from one generator; shards are cut between blocks.
        fail: what a failed simulation means for data: ``"error"`` or ``"redraw"`` (the prior is then conditional on
        success).

    Optional is ``amplitude_unit``: what y is proportional to by the settings of the simulation alone (a grid's spacing,
    not the source). A shift that simulates with other settings takes it out.
    """

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


def problem_of(entry: dict[str, Any]) -> Problem:
    """The problem of a job, from its ``kind``, ``simulator`` and, where it has one, ``folder``."""
    folder = entry.get("folder", ".")
    problem: Problem = problem_kind(entry["kind"], folder).build(entry["simulator"], folder)
    return problem
