"""Rows of the metrics that compare a method with the exact posterior (`exact.Exact`), and what each means."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pullback.metrics.exact import LEAST_DRAWS_C2ST, OBSERVATIONS
from pullback.metrics.metric import Measured, Metric
from pullback.metrics.ranks import LEAST_EVENTS

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers


def exact_rows(answers: "Answers") -> Iterator[Measured]:
    """Moments and scores of the first events against those of the exact posterior."""
    if answers.exact is not None and answers.errors is not None:
        n = len(answers.errors)
        scores = {name: values for name, (values, _) in answers.scores.items()}
        yield from answers.exact.measure(answers.errors, answers.posterior.draws, scores, answers.case.replicas(n))


def swd_rows(answers: "Answers") -> Iterator[Measured]:
    """The sliced distance of exact draws of as many events as the method's, which its own is to be compared with."""
    exact, n = answers.exact, len(answers.one)
    if exact is not None and exact.n >= n:
        found, *_ = answers.case.distances(n).measure_swd(exact.first.one[:n])
        yield found._replace(metric="swd_exact")


def c2st_rows(answers: "Answers") -> Iterator[Measured]:
    """The classifier between one draw of each of the first events and an exact one, and between many of a few."""
    n = min(answers.case.evaluation["c2st_events"], len(answers.one))
    if answers.exact is not None and n >= LEAST_EVENTS:
        yield answers.exact.classify(answers.case.reader.y, answers.one[:n], answers.case.replicas(n))
    few = min(OBSERVATIONS, n)
    if answers.exact is not None and few and answers.posterior.draws >= LEAST_DRAWS_C2ST:
        draws = answers.sample(0, few, np.full(answers.posterior.n, 0.5))
        yield answers.exact.classify_each(draws, answers.case.replicas(few))


SWD_EXACT = Metric(
    "swd_exact",
    "Sliced Wasserstein distance of exact draws",
    "of one exact draw of each event, beside which that of a method is read",
    "lower",
    measure=swd_rows,
    leads=False,
)
"""The sliced Wasserstein distance of one exact draw of each event to the truth, along the directions of `swd`.

What an exact method has with as many events. Angles, weights of events, groups: as `swd`. Floor: that of `swd`.
"""
POSTERIOR_MEAN_ERROR = Metric(
    "posterior_mean_error",
    "Posterior mean against the exact one",
    "root mean square, in exact standard deviations, corrected for the finite number of draws",
    "lower",
    measure=exact_rows,
)
"""sqrt(mean |m - m*|^2 / var*) over components, of the means of draws m and of exact draws m*.

Both sides' Monte Carlo variance is taken off. Angles: about the circular mean of the exact draws. Weights of draws: in
the mean. Failed draws: left out of the moments. Floor: of a second set of exact draws, one standard error above its
mean.
"""
POSTERIOR_COVARIANCE_ERROR = Metric(
    "posterior_covariance_error",
    "Posterior covariance against the exact one",
    "relative Frobenius norm, corrected for the finite number of draws",
    "lower",
    measure=exact_rows,
)
"""sqrt(sum |C - C*|_F^2 / sum |C*|_F^2) of the covariances of draws and exact draws, in units of the truth's spread.

Unbiased for a finite number of draws. Angles, weights, failed draws and floor: as for the posterior mean.
"""
ENERGY_SCORE_EXCESS = Metric(
    "energy_score_excess",
    "Energy score above the exact posterior's",
    "relative: 0.01 is 1 % worse",
    "lower",
    least=None,
    measure=exact_rows,
)
"""Mean energy score over that of exact draws for the same events, minus 1.

0 on average for the exact posterior, never below it on average. Angles, weights, failed draws: as the energy score.
Floor: 0.
"""
CRPS_EXCESS = Metric(
    "crps_excess",
    "CRPS above the exact posterior's",
    "relative: 0.01 is 1 % worse",
    "lower",
    least=None,
    measure=exact_rows,
)
"""Mean CRPS over that of exact draws for the same events, minus 1.

0 on average for the exact posterior. Angles, weights, failed draws: as the CRPS. Floor: 0.
"""
C2ST = Metric(
    "c2st",
    "C2ST against the exact posterior",
    "accuracy of a classifier; 0.5 where the two are indistinguishable",
    "lower",
    measure=c2st_rows,
)
"""Accuracy of a classifier between (y, draw) and (y, exact draw) on events it did not see (Lopez-Paz and Oquab 2017).

Over observations jointly, a lower bound of the accuracy at one observation. That is ``c2st.observation``, as Lueckmann
et al. 2021 publish it: of all draws of each of the first 10 events, where there are at least 200. Angles: as sine and
cosine. Weights of draws: choose the draw. Failed draws: imputed. Floor: of a second exact sample.
"""
