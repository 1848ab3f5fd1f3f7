"""Probabilities of the modes of a mixture under a posterior, against the exact ones.

For a prior sum_k w_k N(m_k, C_k) the mode k of a truth does not depend on y once x is known: p(k|x, y) = p(k|x). So the
mean of p(k|x) over draws from p(x|y) is p(k|y), and draws are not assigned to the nearest mode.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pullback.core.arrays import logsumexp
from pullback.metrics.bootstrap import percentile_interval
from pullback.metrics.metric import Measured, Metric
from pullback.metrics.sample import Sample
from pullback.problems.closed_form import GaussianMixture

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers

BLOCK_VALUES = 4_000_000
"""Numbers (draw, mode, component) that are computed together."""


def mode_weights(prior: GaussianMixture, draws: Sample) -> np.ndarray:
    """Probability of each mode under the draws of each event (event, mode)."""
    found = np.empty((len(draws), len(prior.weight)))
    step = max(1, BLOCK_VALUES // (draws.x.shape[1] * prior.mean.size))
    for start in range(0, len(draws), step):
        rows = slice(start, start + step)
        logs = prior.log_components(draws.x[rows].astype(np.float64))
        share = np.exp(logs - logsumexp(logs)[..., None])
        found[rows] = np.einsum("ed,edk->ek", draws.draw_weight[rows], share)
    return found


def mode_rows(answers: "Answers") -> Iterator[Measured]:
    """``mode_weight_error`` of the first events, with the floor of exact draws."""
    exact, problem, params = answers.exact, answers.problem, answers.case.params
    if exact is None or params is None or not hasattr(problem, "mode_weights"):
        return
    prior = problem.mixture_prior(params)
    n = min(exact.n, answers.posterior.n)
    if len(prior.weight) == 1 or not n:
        return
    known = problem.mode_weights(exact.y[:n], params)

    def errors(draws: Sample) -> np.ndarray:
        return np.abs(mode_weights(prior, draws) - known).sum(axis=1) / 2

    ours = errors(answers.sample(0, n, np.full(answers.posterior.n, 0.5)))
    floor = errors(exact.sample(n, answers.posterior.draws, "modes"))
    value, spread = answers.case.replicas(n).mean(np.column_stack([ours, floor]))
    interval = percentile_interval(spread[:, 0])
    yield Measured("mode_weight_error", float(value[0]), *interval, float(value[1]), n, "1")


MODE_WEIGHT_ERROR = Metric(
    "mode_weight_error",
    "Error of mode probabilities",
    "half the sum over modes of |estimated - exact probability|, mean over events",
    "lower",
    measure=mode_rows,
)
"""1/2 sum_k |p_k - p(k|y)|, total variation between the modes' probabilities under draws and the exact ones.

p_k is the mean over draws of p(k|x), which needs no assignment of draws to modes. For problems whose prior is a mixture
of several Gaussians, where exact events are asked for (`exact_events`). Angles: none. Weights of draws: in the mean.
Failed draws: imputed. Floor: of as many exact draws.
"""
