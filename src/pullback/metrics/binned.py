"""Words for what binned unfolding methods notice: one number of each feature, without an interval."""

from pullback.metrics.metric import Metric

REFOLDED_CHI2 = Metric(
    "refolded_chi2",
    "Chi-squared of the folded contents",
    "of the data and the unfolded contents folded through the response, per observed bin",
    needs_truth=False,
    leads=False,
)
"""chi^2 of the data and the unfolded contents folded through the response, per observed bin, with the errors that the
folded contents lead one to expect. Far above 1 the response or the regularisation does not fit the data; near 0 the
noise was fitted.

Angles: none. Weights of events: in the counts and their errors. Failed draws: none. Floor: none.
"""
UNFOLDING_ITERATIONS = Metric(
    "unfolding_iterations", "Iterations", "of iterative Bayesian unfolding", needs_truth=False, leads=False
)
"""Number of iterations of iterative Bayesian unfolding, as set or as the test statistic ended them.

Angles, weights, failed draws: none. Floor: none.
"""
ITERATION_CHANGE = Metric(
    "iteration_change",
    "Change in the last iteration",
    "sum of the bins' changes over the sum of their contents",
    needs_truth=False,
    leads=False,
)
"""Sum of the absolute changes of all bins in the last iteration, relative to their contents.

Angles, weights, failed draws: none. Floor: none.
"""
REGULARISATION_STRENGTH = Metric(
    "regularisation_strength", "Strength of the regularisation", "0 is none", needs_truth=False, leads=False
)
"""Factor of the squared curvature of truth over prior in Tikhonov regularisation, as set or as chosen from the data.

Angles, weights, failed draws: none. Floor: none.
"""
RESPONSE_CONDITION = Metric(
    "response_condition",
    "Condition number of the response",
    "1 where nothing migrates",
    "lower",
    needs_truth=False,
    leads=False,
)
"""Ratio of the greatest to the least singular value of the response matrix.

Angles: none. Weights of events: in the response. Failed draws: none. Floor: none.
"""
OUTSIDE_BINS = Metric(
    "outside_bins", "Truth outside the bins", "share of the unfolded contents", needs_truth=False, leads=False
)
"""Share of the unfolded contents in underflow and overflow of the truth.

Angles: none. Weights of events: in the contents. Failed draws: none. Floor: none.
"""
UNEXPLAINED = Metric(
    "unexplained",
    "Observations without simulation",
    "share of the data in observed bins in which nothing is simulated",
    "lower",
    needs_truth=False,
    leads=False,
    alarm="{percent:.2g} % of the observations are in bins in which nothing is simulated; they are not unfolded",
)
"""Share of the data in observed bins that hold no simulated event; no truth can explain them, and they are left out.

Angles: none. Weights of events: in the counts. Failed draws: none. Floor: none.
"""
NEGATIVE_BINS = Metric(
    "negative_bins",
    "Negative bins",
    "number of truth bins whose unfolded content is negative",
    "lower",
    needs_truth=False,
    leads=False,
)
"""Number of truth bins between the edges with a negative unfolded content. The weighted sample counts them as 0.

Angles, weights, failed draws: none. Floor: none.
"""
