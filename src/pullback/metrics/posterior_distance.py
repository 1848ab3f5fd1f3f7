"""Wasserstein distances between the draws of each event and as many draws of its exact posterior."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pullback.metrics.bootstrap import percentile_interval
from pullback.metrics.distances import directions, sliced_wasserstein, wasserstein_powers
from pullback.metrics.metric import Measured, Metric
from pullback.metrics.sample import Sample, Space

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers

DIRECTIONS = 50
"""Of the sliced distance, as many as POT takes when it is not told."""

NAMES = ("posterior_w1", "posterior_swd")


def distances(draws: Sample, exact: Sample, space: Space, theta: np.ndarray) -> np.ndarray:
    """Mean of the components' W1, and the sliced distance along ``theta``, of each event (event, 2)."""
    found = []
    for i in range(len(draws)):
        ours, theirs = (space.standard(each.x[i]) for each in (draws, exact))
        weight = None if draws.weight is None else draws.weight[i]
        each = wasserstein_powers(ours.T, theirs.T, 1, weight)
        found.append((each.mean(), sliced_wasserstein(ours, theirs, theta, weight)))
    return np.array(found)


def distance_rows(answers: "Answers") -> Iterator[Measured]:
    """Both distances of the first events, with the floor of a second set of exact draws."""
    exact = answers.exact
    n = min(exact.n, answers.posterior.n) if exact is not None else 0
    if exact is None or not n:
        return
    m, dimension = answers.posterior.draws, exact.truth.shape[1]
    theta = directions((*exact.address, "posterior distance"), dimension, DIRECTIONS if dimension > 1 else 1)
    theirs, other = (exact.sample(n, m, "distance", i) for i in range(2))
    ours = answers.sample(0, n, np.full(answers.posterior.n, 0.5))
    both = [distances(each, theirs, exact.space, theta) for each in (ours, other)]
    values, spread = answers.case.replicas(n).mean(np.column_stack(both))
    for i, name in enumerate(NAMES):
        interval = percentile_interval(spread[:, i])
        yield Measured(name, float(values[i]), *interval, float(values[2 + i]), n, exact.space.unit)


POSTERIOR_W1 = Metric(
    "posterior_w1",
    "W1 to the exact posterior",
    "between the draws of an event and as many exact ones, mean over components and events",
    "lower",
    measure=distance_rows,
)
"""First Wasserstein distance between the draws of an event and as many draws of its exact posterior.

The mean over components, on the scale of the sliced distance, and over events. Angles: on a line that is cut opposite
to their mean. Weights of draws: in the distance. Failed draws: imputed. Floor: of a second set of exact draws.
"""
POSTERIOR_SWD = Metric(
    "posterior_swd",
    "Sliced distance to the exact posterior",
    "between the draws of an event and as many exact ones, mean over events",
    "lower",
    measure=distance_rows,
)
"""Sliced Wasserstein distance between the draws of an event and as many draws of its exact posterior.

The root of the mean square over 50 directions, as `swd`, and its mean over events. Angles, weights and failed draws: as
`posterior_w1`. Floor: of a second set of exact draws.
"""
