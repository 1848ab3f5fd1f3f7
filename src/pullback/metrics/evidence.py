"""The evidence that a method estimates beside its draws, against the exact one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pullback.metrics.bootstrap import percentile_interval
from pullback.metrics.metric import Measured, Metric

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers


def evidence_rows(answers: "Answers") -> Iterator[Measured]:
    """``log_evidence_error`` of the first events, where each has an estimate of its own."""
    exact, problem, params = answers.exact, answers.problem, answers.case.params
    found = answers.posterior.diagnostic_values.get("log_evidence", {})
    n = min(exact.n, answers.posterior.n) if exact is not None else 0
    if not n or params is None or not hasattr(problem, "log_evidence") or not all(row in found for row in range(n)):
        return
    assert exact is not None
    estimates = np.array([found[row] for row in range(n)])
    error = np.abs(estimates - problem.log_evidence(exact.y[:n], params))
    if np.isfinite(error).all():
        value, spread = answers.case.replicas(n).mean(error[:, None])
        yield Measured("log_evidence_error", float(value[0]), *percentile_interval(spread[:, 0]), None, n, "1")
    else:
        yield Measured("log_evidence_error", np.inf, None, None, None, n, "1")


LOG_EVIDENCE_ERROR = Metric(
    "log_evidence_error",
    "Error of the log evidence",
    "absolute difference to the exact log p(y), nats, mean over events",
    "lower",
    measure=evidence_rows,
)
"""|log Z - log p(y)| with a method's estimate log Z of each event, mean over events.

For problems whose evidence is known in closed form, under the family's own prior: the error of a prior that the method
was given is part of it. Angles: none. Weights: of the particles. Failed draws: where all particles died the estimate
is 0, and the error infinite. Floor: none.
"""
