"""The interface of a problem: fields, methods and the capabilities that follow from them."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from pullback.ensembles.fields import Field
from pullback.problems.closed_form import GaussianMixture
from pullback.problems.linear import LinearOperator
from pullback.study.kinds import Review
from pullback.study.problem_kind import problem_kind

Pullback = Callable[[np.ndarray], np.ndarray]
"""Cotangents of the signal (event, *y) -> gradients by x (event, *x): J^T u at the x that it was made for."""


class SimulationError(ValueError):
    """A simulation that failed where it may not."""


class Problem(Protocol):
    """Families + forward process (+ derivative, + likelihood, + exact posterior where there is one).

    A class needs ``x``, ``y`` and the methods of the capabilities that it has, no others; the capability stands behind
    each. It is made from the problem's ``simulator`` block. The class is loaded while the Snakefile is parsed: heavy
    imports belong inside methods. What the study needs of the class (``Settings``, ``Params``, ``check`` ...) is in
    `pullback.study.problem_kind.ProblemKind`.

    The forward process is either ``apply`` and ``observe``, signal and noise apart, or ``simulate`` alone, for a black
    box and for a process that is random throughout. The function `simulate` below runs whichever there is.

    The derivative of ``apply`` is given once, in the form that is nearest to the problem: ``linear``; ``autograd``;
    ``vjp``; or ``linearize``, where signal and derivative share work, and ``vjp`` by it. The function `linearize` below
    makes them one, `pullback.problems.adapter.Differentiable` a torch function of x as networks see it.

    Attributes:
        x, y: fields of truth and observation.
        block: events drawn from one generator; shards are cut between blocks.
        fail: what a failed simulation means for data: ``"error"`` or ``"redraw"`` (the prior is then conditional on
            success).

    Optional attributes:
        linear: the operator A of ``apply(x) = A x``. [linear, gradient]
        autograd: True where ``apply``, and ``log_likelihood`` and ``log_prior`` as far as they exist, take and return
            torch tensors in place of arrays and are differentiable by torch. [gradient]
        noise_covariance: of Gaussian noise that does not depend on x: a number or (*y), variances of independent
            components, or the matrix over all components of y.
        amplitude_unit: what y is proportional to by the settings of the simulation alone (a grid's spacing, not the
            source). A shift that simulates with other settings takes it out.
    """

    x: Field
    y: Field
    block: int
    fail: str

    def sample_prior(self, rng: np.random.Generator, n: int, params: dict[str, Any]) -> np.ndarray:
        """Draws x (n, *x) from the prior with these parameters. [prior]"""
        ...

    def log_prior(self, x: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        """Density log p(x) (...,) of x (..., *x) under the prior with these parameters, float64. [log-prior]"""
        ...

    def mixture_prior(self, params: dict[str, Any]) -> GaussianMixture:
        """The prior with these parameters as a mixture of Gaussians, of vectors. [mixture-prior]"""
        ...

    def apply(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signal (event, *y) of x (event, *x) without noise, and where that succeeded (event,) bool. [forward, signal]

        A method's comparison of simulations with an observation is by this, where it exists.
        """
        ...

    def observe(self, signal: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Observations y (event, *y): the signal of x with the noise of a measurement; without it, y is the signal."""
        ...

    def simulate(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Observations y (event, *y) of x (event, *x), and where that succeeded (event,) bool. [forward]"""
        ...

    def vjp(self, x: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """J^T u (event, *x): the derivative by x of sum(u * signal), for u (event, *y). NaN where x failed. [gradient]

        A loss of the signal is differentiated with its own derivative by the signal as u.
        """
        ...

    def linearize(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, Pullback]:
        """Signal and ok as `apply`, and `vjp` at this x with the signal's work shared; it may be called often.

        Optional in addition to ``vjp``, for expensive simulations. The pullback holds memory for each event.
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

    def noise_variance(self, y: np.ndarray) -> float | None:
        """Variance of the Gaussian noise of one observation (*y,), estimated from it; None where it has no noise.

        Optional, for noise that is relative to the signal and independent from component to component.
        """
        ...

    def observed(self, y: np.ndarray) -> np.ndarray:
        """Which components of y (event, *y) were observed, bool.

        Optional, for a measurement that loses some; the likelihood of the others does not depend on x.
        """
        ...

    def efficiency(self, x: np.ndarray) -> np.ndarray:
        """Probability that a truth x (event, *x) is recorded (event,).

        Optional, for data that record misses: unfolded truths are folded back with it.
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

    def mode_weights(self, y: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        """Optional beside ``mixture-prior``: p(k|y) of each Gaussian k of the prior (event, component)."""
        ...

    def log_evidence(self, y: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        """Optional: log p(y) (event,) under the prior with these parameters, float64."""
        ...

    def posterior_from_truth(
        self, y: np.ndarray, truth: np.ndarray, log_weight: np.ndarray, draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `exact_posterior`, by weighting an independent sample of the truth (truth, *x) with its log weights.

        Optional beside ``likelihood``, for a problem whose symmetries make more of a truth; without it the sample
        itself is weighted (`pullback.problems.true_prior`).
        """
        ...

    def describe(self, splits: Mapping[str, dict[str, Any]]) -> Review | None:
        """Optional, for priors made from outside files: what was read for a split, and what to warn of.

        ``splits`` are the parameters of this split and then of others that matter. None where no file is read.
        """
        ...

    def preflight(self) -> dict[str, Any]:
        """Checks of the settings with their numbers, or ValueError with a remedy; compiles what jobs share.

        ``pullback check`` calls it too, where the problem has no ``review`` that checks without compiling.
        """
        ...


def problem_of(entry: dict[str, Any]) -> Problem:
    """The problem of a job, from its ``kind``, ``simulator`` and, where it has one, ``folder``."""
    folder = entry.get("folder", ".")
    problem: Problem = problem_kind(entry["kind"], folder).build(entry["simulator"], folder)
    return problem


def simulate(problem: Problem, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Observations y (event, *y) of x (event, *x) and which succeeded (event,): `simulate`, or `apply` and `observe`.

    y is undefined for failed events.
    """
    if hasattr(problem, "simulate"):
        return problem.simulate(x, rng)
    signal, ok = (np.asarray(values) for values in problem.apply(x))
    return (problem.observe(signal, x, rng) if hasattr(problem, "observe") else signal), ok


def can_simulate(problem: Any) -> bool:
    """Whether a problem has a forward process."""
    return hasattr(problem, "simulate") or hasattr(problem, "apply")


def linearize(problem: Problem, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, Pullback]:
    """Signal, ok and pullback as `Problem.linearize`, from whichever derivative the problem gives."""
    if hasattr(problem, "linearize"):
        return problem.linearize(x)
    if getattr(problem, "autograd", False):
        return _linearize_by_torch(problem, x)
    signal, ok = problem.apply(x)
    linear: LinearOperator | None = getattr(problem, "linear", None)
    if linear is not None:
        return signal, ok, linear.transpose
    return signal, ok, lambda cotangent: problem.vjp(x, cotangent)


def _linearize_by_torch(problem: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, Pullback]:
    import torch

    leaf = torch.tensor(x, requires_grad=True)
    signal, ok = problem.apply(leaf)

    def pullback(cotangent: np.ndarray) -> np.ndarray:
        u = torch.as_tensor(np.asarray(cotangent)).to(signal)
        return torch.autograd.grad(signal, leaf, u, retain_graph=True)[0].numpy()

    return signal.detach().numpy(), np.asarray(ok), pullback
