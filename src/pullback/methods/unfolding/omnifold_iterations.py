"""The iteration of OmniFold on arrays (Andreassen et al., arXiv 1911.09107): weights of a simulation.

A simulation of truths x and observations y with generator weights W is reweighted by factors that classifiers learn.
With L[A, B] the ratio of two weighted densities, iteration n is

    step 1, observations:  pull_n(x, y) = push_{n-1}(x) L[data, (W push_{n-1}, simulation)](y)            (eq. 5)
    step 2, truths:        push_n(x) = L[(W pull_n, simulation), (W, simulation)](x)                      (eq. 6)

Eq. 6 is written as push_n = push_{n-1} L[(pull_n), (push_{n-1})]; both are E[pull_n | x]. The one above does not
multiply the errors of all iterations; the package omnifold (0.1.36) uses it, too. W enters both steps, and the weights
of the unfolded truths are W push_n: weights at truth level. W pull_n are weights at reconstructed level.

Acceptance
    Step 1 sees every reconstructed event of the simulation beside the data: pairs and *fakes*, which have no truth.
    Step 2 compares the pairs with themselves, and its result is applied to all truths, *misses* (not reconstructed)
    included: a miss has the average weight of reconstructed truths of its x. That is the choice of arXiv 2105.09923
    for misses, with one classifier in place of two, for E[pull | x, reconstructed] is what step 2 learns. Fakes keep
    their generator weights, all times one number: for each truth there are as many of them, and with the same p(y |
    fake), as in the simulation. What they explain of the data in step 1 is taken from no truth. In bins the iteration
    is iterative Bayesian unfolding with efficiency and background (D'Agostini 1995).

Ratios are products of a ratio of shapes, which a classifier learns from classes of equal sum, and of the ratio of the
sums. After step 2 all factors are multiplied by one number, so that the reconstructed simulation sums to the data.
Weights may be negative; sums must be positive.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from pullback.core.particles import effective_size

CLIP = 10.0
"""Largest absolute log ratio of two shapes: 22,026 to 1."""


class OmnifoldError(ValueError):
    """Events or weights that cannot be unfolded, or a classifier that failed; the message says what to change."""


class Simulation(NamedTuple):
    """A simulated sample.

    Attributes:
        x: truths (event, feature); rows of fakes are not read.
        y: observations (event, feature); rows of misses are not read.
        has_x: whether the event has a truth (event,), bool; False for a fake.
        has_y: whether it was reconstructed (event,), bool; False for a miss.
        weight: generator weights W (event,).
    """

    x: np.ndarray
    y: np.ndarray
    has_x: np.ndarray
    has_y: np.ndarray
    weight: np.ndarray


class Sample(NamedTuple):
    """Weighted events: values (event, feature) and weights (event,)."""

    values: np.ndarray
    weight: np.ndarray


class Ratio(NamedTuple):
    """A ratio of two shapes, as classifiers learned it.

    Attributes:
        first: log ratios at the events of the first sample (classifier, event).
        second: at those of the second one.
        held_out: which events of both each classifier was not trained on (classifier, event) and (classifier, event),
            bool.
        elsewhere: at further values (event, feature) -> (classifier, event); the classifiers are those of this step.
    """

    first: np.ndarray
    second: np.ndarray
    held_out: tuple[np.ndarray, np.ndarray]
    elsewhere: Callable[[np.ndarray], np.ndarray]


class Classifier(Protocol):
    """What learns ratios."""

    def __call__(self, step: str, iteration: int, first: Sample, second: Sample) -> Ratio:
        """Learn log(p_first / p_second), both normalised to one.

        Args:
            step: ``"observations"`` or ``"truths"``.
            iteration: 1, 2, ...
            first, second: the samples; their sums are positive. In step 2 both have the same array of values.
        """
        ...


class Iteration(NamedTuple):
    """The factors after one iteration.

    Attributes:
        number: 1, 2, ...; 0 before the first.
        push: factors of the generator weights at truth level (event,); one number for all fakes.
        pull: at reconstructed level (event,); a miss has its push factor.
        diagnostics: of this iteration, see `omnifold`.
    """

    number: int
    push: np.ndarray
    pull: np.ndarray
    diagnostics: Mapping[str, float]


def start(simulation: Simulation) -> Iteration:
    """The factors before the first iteration: ones."""
    ones = np.ones(len(simulation.weight))
    return Iteration(0, ones, ones, {})


def omnifold(
    simulation: Simulation,
    data_y: np.ndarray,
    data_weight: np.ndarray | None,
    classifier: Classifier,
    iterations: int = 4,
    clip: float = CLIP,
    after: Iteration | None = None,
) -> Iterator[Iteration]:
    """Unfold, one iteration after the other.

    The weights of the unfolded truths are ``simulation.weight * push`` where ``has_x``; they sum to the number of
    truths that the data stand for, in units of ``data_weight``.

    Diagnostics of an iteration:

    - ``ess``: Kish's effective number of unfolded truths.
    - ``max_over_mean``: the largest absolute weight of a truth over their mean.
    - ``change``: total variation distance (0 to 1) between the truths before and after.
    - ``normalisation``: the data's sum over that of the reconstructed simulation before they are made equal.
    - ``clipped``: fraction of the log ratios beyond ``clip``.
    - ``efficiency``, ``purity``: fraction of truths that are reconstructed, of reconstructed events with a truth.
    - ``spread``: standard deviation of the classifiers' factors in step 2 over their mean, weighted mean over truths;
      with several classifiers.
    - ``auc``: area under the curve of the classifiers of step 1 on events that they did not train on: how well the
      simulation **before** this iteration describes the data (1/2: they cannot be told apart).

    Args:
        simulation: see `Simulation`.
        data_y: observations (event, feature).
        data_weight: of the observations (event,); ones by default.
        classifier: learns the ratios.
        iterations: how many in all.
        clip: largest absolute log ratio of shapes.
        after: the iteration to go on from; the first by default.

    Raises:
        OmnifoldError: no data, no pairs, values or weights that are not finite, sums that are not positive, arrays of
            unequal length, or ratios that are not finite.
    """
    data = Sample(data_y, np.ones(len(data_y)) if data_weight is None else np.asarray(data_weight, np.float64))
    check(simulation, data)
    total = float(data.weight.sum())
    weight, has_x, has_y = simulation.weight, simulation.has_x, simulation.has_y
    pairs, fakes, misses = has_x & has_y, has_y & ~has_x, has_x & ~has_y
    last = after or start(simulation)
    for number in range(last.number + 1, iterations + 1):
        noticed = {}
        seen = Sample(simulation.y[has_y], (weight * last.push)[has_y])
        found = _learn(classifier, "observations", number, data, seen)
        noticed["auc"] = auc(found, data, seen)
        factor, clipped = _factors(found.second, clip)
        pull = last.push.copy()
        pull[has_y] *= factor * total / seen.weight.sum()

        x = simulation.x[pairs]
        truths, prior = Sample(x, (weight * pull)[pairs]), Sample(x, weight[pairs])
        found = _learn(classifier, "truths", number, truths, prior)
        log_ratio = np.empty((len(found.second), len(weight)))
        log_ratio[:, pairs] = found.second
        if misses.any():
            log_ratio[:, misses] = found.elsewhere(simulation.x[misses])
        factor, clipped_too = _factors(log_ratio[:, has_x], clip)
        push = np.empty(len(weight))
        push[has_x] = factor * truths.weight.sum() / prior.weight.sum()
        if fakes.any():
            push[fakes] = (weight * push)[has_x].sum() / weight[has_x].sum()
        reconstructed = float((weight * push)[has_y].sum())
        if not reconstructed > 0:
            raise OmnifoldError(
                f"iteration {number}: weights of the reconstructed simulation sum to {reconstructed:g}, wanted more "
                "than 0: its negative weights are too many for these classifiers; take fewer iterations or more events"
            )
        push *= total / reconstructed
        pull[misses] = push[misses]

        new, old = (weight * push)[has_x], (weight * last.push)[has_x]
        noticed |= {
            "ess": float(effective_size(new)),
            "max_over_mean": float(np.abs(new).max() / new.mean()),
            "change": float(np.abs(new / new.sum() - old / old.sum()).sum() / 2),
            "normalisation": total / reconstructed,
            "clipped": (clipped + clipped_too) / int(has_y.sum() + has_x.sum()),
            "efficiency": float((weight * push)[pairs].sum() / new.sum()),
            "purity": float((weight * push)[pairs].sum() / total),
        }
        if len(log_ratio) > 1:
            each = np.exp(np.clip(log_ratio[:, has_x], -clip, clip))
            noticed["spread"] = float(np.average(each.std(axis=0, ddof=1) / each.mean(axis=0), weights=np.abs(new)))
        last = Iteration(number, push, pull, noticed)
        yield last


def closure(simulation: Simulation, data: Sample, classifier: Classifier, last: Iteration) -> float:
    """Area under the curve of a classifier between the data and the simulation with the factors of an iteration."""
    seen = Sample(simulation.y[simulation.has_y], (simulation.weight * last.push)[simulation.has_y])
    return auc(_learn(classifier, "observations", last.number + 1, data, seen), data, seen)


def auc(ratio: Ratio, first: Sample, second: Sample) -> float:
    """Area under the curve of log ratios on held-out events: P(first > second) + P(equal) / 2.

    With weights, which may be negative: it is then an estimate and may lie outside 0 to 1. The mean over classifiers.
    """
    found = []
    for scores, others, here, there in zip(ratio.first, ratio.second, *ratio.held_out, strict=True):
        w, v, order = first.weight[here], second.weight[there], np.argsort(others[there], kind="stable")
        below = np.concatenate([[0.0], np.cumsum(v[order])])
        theirs = others[there][order]
        left, right = (
            below[np.searchsorted(theirs, scores[here])],
            below[np.searchsorted(theirs, scores[here], "right")],
        )
        found.append(w @ (left + right) / 2 / (w.sum() * v.sum()))
    return float(np.mean(found))


def check(simulation: Simulation, data: Sample) -> None:
    """Refuse events that cannot be unfolded; see `omnifold`."""
    events = len(simulation.weight)
    for name, array in simulation._asdict().items():
        if len(array) != events:
            raise OmnifoldError(f"simulation: {name} has {len(array)} events, weight {events}: give one of each")
    if not len(data.values):
        raise OmnifoldError("there are no data: give at least one observation")
    if len(data.weight) != len(data.values):
        raise OmnifoldError(f"data: {len(data.values)} observations and {len(data.weight)} weights: give one of each")
    if not (simulation.has_x | simulation.has_y).all():
        raise OmnifoldError("simulation: an event has neither a truth nor an observation: leave it out")
    pairs = simulation.has_x & simulation.has_y
    parts = {
        "observations of the simulation": Sample(simulation.y[simulation.has_y], simulation.weight[simulation.has_y]),
        "truths of the simulation": Sample(simulation.x[simulation.has_x], simulation.weight[simulation.has_x]),
        "pairs of the simulation": Sample(simulation.x[pairs], simulation.weight[pairs]),
        "data": data,
    }
    for name, sample in parts.items():
        for what, values in (("values", sample.values), ("weights", sample.weight)):
            if bad := int((~np.isfinite(values)).sum()):
                raise OmnifoldError(f"{name}: {bad} {what} are not finite: repair these events or leave them out")
        if not sample.weight.sum() > 0:
            raise OmnifoldError(
                f"{name}: {len(sample.weight)} weights sum to {sample.weight.sum():g}, wanted more than 0: a ratio of "
                "densities needs both; correct the weights or leave the sample out"
            )


def _learn(classifier: Classifier, step: str, iteration: int, first: Sample, second: Sample) -> Ratio:
    for name, sample in (("first", first), ("second", second)):
        if not sample.weight.sum() > 0:
            raise OmnifoldError(
                f"iteration {iteration}, {step}: weights of the {name} sample sum to {sample.weight.sum():g}, wanted "
                "more than 0: negative weights dominate; take fewer iterations or more events"
            )
    return classifier(step, iteration, first, second)


def _factors(log_ratio: np.ndarray, clip: float) -> tuple[np.ndarray, int]:
    """Factors (event,) of the mean log ratio of several classifiers, and how many were clipped."""
    mean = log_ratio.mean(axis=0)
    if bad := int((~np.isfinite(mean)).sum()):
        raise OmnifoldError(
            f"a classifier gives {bad} of {len(mean)} ratios that are not finite: its training diverged; lower "
            "`classifier.learning_rate`"
        )
    beyond = np.abs(mean) > clip
    return np.exp(np.clip(mean, -clip, clip)), int(beyond.sum())
