"""Checks without truth, for families of which only observations are known."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pullback.core import seeding
from pullback.core.particles import invert
from pullback.ensembles.fields import Field
from pullback.metrics import distances
from pullback.metrics.bootstrap import Replicas, percentile_interval
from pullback.metrics.floors import Distances
from pullback.metrics.metric import Measured, Metric
from pullback.metrics.sample import Space, normalised
from pullback.problems import base
from pullback.problems.base import Problem

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers

log = logging.getLogger("pullback")

ATTEMPTS = 20
"""Tries of a simulation of a problem whose data are conditional on success (`fail: redraw`)."""

PARTITIONS = 8
"""Random partitions into halves and quarters for a floor: it then scatters by 10 to 30 %."""


def simulate(problem: Problem, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Observations of x (event, *x) projected to the bounds, flat (event, component), and which succeeded (event,).

    Where the problem's own data are redrawn until they succeed, a failed simulation is tried again: the observations
    it is compared with are conditional on success too.
    """
    x, _ = problem.x.project(np.asarray(x, np.float32))
    y, ok = base.simulate(problem, x, rng)
    y, ok = np.array(y), np.array(ok, bool)
    for _ in range(ATTEMPTS if problem.fail == "redraw" else 0):
        again = np.flatnonzero(~ok)
        if not len(again):
            break
        y[again], ok[again] = base.simulate(problem, x[again], rng)
    return y.reshape(len(y), -1), ok


def fold_back(
    problem: Problem,
    field: Field,
    y: np.ndarray,
    one: np.ndarray,
    one_ok: np.ndarray,
    replicas: Replicas,
    address: seeding.Address,
    seeds: int,
) -> Measured:
    """``fold_back_swd``: forward-folding check: the distance between folded draws and the observations.

    One draw of each event is used. A small distance is necessary but not sufficient: many truths fold to one
    distribution. A failed draw or simulation enters as the corner of the observed range farthest from its event's
    observation. The floor is that of all distances, between two independent samples of as many observations, from
    halves and quarters of them (`floor_of_parts`).

    Args:
        problem: has a forward process; x is a vector, so that this is cheap.
        field: of y.
        y: observations (event, component).
        one: one draw of each event (event, component of x).
        one_ok: whether that draw succeeded (event,).
        replicas: bootstrap over these events.
        address: root of directions, halves and the simulator's noise.
        seeds: of directions, averaged over.
    """
    space = Space.of(field, y)
    folded = space.farthest(y)
    if one_ok.any():
        draws = one[one_ok].reshape(-1, *problem.x.shape)
        simulated, ok = simulate(problem, draws, seeding.generator(*address, "fold-back"))
        folded[np.flatnonzero(one_ok)[ok]] = simulated[ok]
    judge = Distances(y, space, replicas, (*address, "y"), 1, seeds)
    found = judge.measure_swd(folded)[0]
    floor = floor_of_parts(judge, seeding.generator(*address, "halves"))
    return found._replace(metric="fold_back_swd", floor=floor)


def floor_of_parts(judge: Distances, rng: np.random.Generator) -> float | None:
    """The sliced distance between two independent samples of so many events as one sample has; None of fewer than 8.

    Disjoint parts of a sample are independent samples. Their distance falls as a power of their size, n^-1/2 where
    densities have no gap, down to n^-1/4 where they have and with heavy tails; halves and quarters give the power:
    W(n) = W(n/2) W(n/2) / W(n/4), each the mean over random partitions.

    Args:
        judge: with the sample as its truth.
        rng: of the partitions.
    """
    weight, theta = judge.replicas.weight, judge.paper_directions
    some = np.arange(len(judge.truth)) if weight is None else np.flatnonzero(weight)
    if len(some) < 8:
        return None
    sample = judge.space.standard(judge.truth)

    def between(first: np.ndarray, second: np.ndarray) -> float:
        weights = (None, None) if weight is None else (weight[first], weight[second])
        return distances.sliced_wasserstein(sample[first], sample[second], theta, *weights)

    halves, quarters = [], []
    for _ in range(PARTITIONS):
        order = rng.permutation(some)
        halves.append(between(*np.array_split(order, 2)))
        parts = np.array_split(order, 4)
        quarters += [between(*parts[:2]), between(*parts[2:])]
    half, quarter = float(np.mean(halves)), float(np.mean(quarters))
    return half * float(np.clip(half / quarter, np.sqrt(0.5), 1.0)) if quarter > 0 else half


class Misfit(NamedTuple):
    """Relative L2 distance between observations and simulations of draws.

    Attributes:
        each: (event, draw); infinite for a failed draw or simulation.
        event: median over draws (event,).
        first: simulation of the first draw of each event that succeeded (event, component), NaN where none did.
    """

    each: np.ndarray
    event: np.ndarray
    first: np.ndarray


def misfit(
    problem: Problem, field: Field, y: np.ndarray, x: np.ndarray, ok: np.ndarray, address: seeding.Address
) -> Misfit:
    """|F(draw) - y| / |y| for some draws of some events; y on the common scale where units differ.

    Args:
        problem: has a forward process.
        field: of y.
        y: observations (event, component).
        x: draws (event, draw, *x).
        ok: (event, draw).
        address: of the simulator's noise.
    """
    space = Space.of(field, y)
    each, first = np.full(ok.shape, np.inf), np.full(y.shape, np.nan, np.float32)
    event, draw = np.nonzero(ok)
    if len(event):
        simulated, success = simulate(problem, x[event, draw], seeding.generator(*address, "misfit"))
        gap = np.linalg.norm(space.difference(simulated.astype(np.float64), y[event]) / space.scale, axis=1)
        size = np.linalg.norm(y[event].astype(np.float64) / space.scale, axis=1)
        each[event, draw] = np.where(success, gap / np.where(size > 0, size, 1.0), np.inf)
        events, places = np.unique(event[success], return_index=True)
        first[events] = simulated[success][places]
    return Misfit(each, np.median(each, axis=1), first)


def misfit_rows(found: Misfit, truth: Misfit | None, replicas: Replicas) -> list[Measured]:
    """``misfit``, median over events, the truth's own (noise, shifts) as floor, and ``failed_resimulations``."""
    n = len(found.event)
    weight = replicas.weight
    medians = [_median(found.event[rows], None if weight is None else weight[rows]) for rows in replicas.events]
    low, high = percentile_interval(np.array(medians))
    floor = None if truth is None else _median(truth.event, weight)
    failed = np.isinf(found.each)
    value, spread = replicas.mean(failed.mean(axis=1, keepdims=True))
    return [
        Measured("misfit", _median(found.event, weight), low, high, floor, n, "1"),
        Measured("failed_resimulations", float(value[0]), *percentile_interval(spread[:, 0]), None, n, "1"),
    ]


def _median(values: np.ndarray, weight: np.ndarray | None) -> float:
    """Halfway from lower to upper weighted median, as of equal weights."""
    if weight is None:
        return float(np.median(values))
    order = np.argsort(values)
    below = np.cumsum(weight[order])
    # Sums of weights are rounded: half is reached within 1e-9.
    half = 0.5 * below[-1] * np.array([1 - 1e-9, 1 + 1e-9])
    return float(values[order[np.searchsorted(below, half, side="right")]].mean())


def fold_back_rows(answers: "Answers") -> Iterator[Measured]:
    """`fold_back` of vectors, where the problem has a forward process."""
    case, n = answers.case, len(answers.one)
    if answers.posterior.x.is_vector and answers.problem is not None:
        yield fold_back(
            answers.problem,
            case.reader.y,
            case.flat("y", 0, n),
            answers.one,
            answers.one_ok,
            case.replicas(n),
            (*case.address, case.name),
            case.evaluation["direction_seeds"],
        )


def simulate_again(answers: "Answers") -> Misfit | None:
    """The misfit of some draws of the first events; None where the study asks for none or nothing simulates."""
    case, posterior = answers.case, answers.posterior
    n = min(case.evaluation["resimulate_events"], posterior.n)
    if not n or answers.problem is None:
        return None
    draws = min(case.evaluation["resimulate_draws"], posterior.draws)
    x, ok = posterior.read("x", 0, n), posterior.read("ok", 0, n)
    weight = normalised(posterior.read("log_weight", 0, n), ok)
    which = np.tile(np.arange(draws), (n, 1))
    if weight is not None:
        rng = seeding.generator(*case.address, case.name, "resimulate")
        which = invert(np.cumsum(weight, axis=1), rng.random((n, draws)))
    rows = np.arange(n)[:, None]
    address = (*case.address, case.name)
    found = misfit(answers.problem, case.reader.y, case.flat("y", 0, n), x[rows, which], ok[rows, which], address)
    for event, each in enumerate(found.event):
        log.info("%s, event %d: misfit %.4g, the median of %d draws", case.name, event, each, draws)
    return found


def resimulated_rows(answers: "Answers") -> Iterator[Measured]:
    """Misfit and failures of draws that were simulated again."""
    found = answers.misfit
    if found is not None:
        n = len(found.event)
        yield from misfit_rows(found, answers.case.truth_misfit(n), answers.case.replicas(n))


FOLD_BACK = Metric(
    "fold_back_swd",
    "Fold-back distance",
    "draws sent forward again, against the observations",
    "lower",
    needs_truth=False,
    measure=fold_back_rows,
    check=True,
    leads=False,
)
"""Sliced Wasserstein distance between the observations and draws that were sent through the forward process again.

Needs no truth. Angles: as `swd`. Weights of draws: choose the draw. Failed draws and simulations: left out and counted.
Floor: of two
independent samples of as many observations, from halves and quarters of them.
"""
MISFIT = Metric(
    "misfit",
    "Data misfit",
    "draws simulated again, compared with the observation",
    "lower",
    needs_truth=False,
    measure=resimulated_rows,
    check=True,
    leads=False,
)
"""Norm of F(x) - y over the norm of y, x draws that are simulated again with noise; the median over events.

Needs no truth. Angles: wrapped differences. Weights of draws: choose the draws. Failed draws: infinite. Floor: that of
the truth, where it is known.
"""
FAILED_RESIMULATIONS = Metric(
    "failed_resimulations",
    "Failed re-simulations",
    "share of draws that the simulator refused",
    "lower",
    needs_truth=False,
    measure=resimulated_rows,
    leads=False,
    alarm="{percent:.3g} % failed resimulations",
)
"""Share of draws that the simulator refused when they were simulated again.

Angles and weights: none. Failed draws: counted apart (`failed_draws`). Floor: none.
"""
