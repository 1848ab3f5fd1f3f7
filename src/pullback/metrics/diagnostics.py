"""Diagnostics reported by methods: one number for each posterior, without an interval."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from pullback.metrics.metric import Measured, Metric

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers


def diagnostic_rows(diagnostics: Mapping[str, float], n: int) -> Iterator[Measured]:
    """What a method noticed on n events, that which has no `Metric` too."""
    for name, value in diagnostics.items():
        yield Measured(name, float(value), None, None, None, n, "1")


def _of_posterior(answers: "Answers") -> Iterator[Measured]:
    return diagnostic_rows(answers.posterior.diagnostics, answers.posterior.n)


def _diagnostic(name: str, title: str, description: str, **more: object) -> Metric:
    return Metric(name, title, description, needs_truth=False, measure=_of_posterior, **more)  # type: ignore[arg-type]


EMBEDDING_DISTANCE = _diagnostic(
    "embedding_distance",
    "Embedding distance",
    "of the observations from the training sets; 1 in 20 sets like those in training lies above 1",
    check=True,
    # In units of the 95 % quantile of the same distance among the training ensembles.
    limit=1.0,
)
"""Mahalanobis distance of the set's embedding from those of the training sets, in units of their 95 % quantile.

One perfect set in twenty lies above 1. The median over sets. Angles, weights, failed draws: as the model's inputs.
Floor: none.
"""
SET_SIZE = _diagnostic("set_size", "Size of a conditioning set", "observations in a set, median over sets")
"""Number of observations in a set that a method was conditioned on; the median over sets.

Angles, weights, failed draws: none. Floor: none.
"""
SET_SIZE_OUTSIDE = _diagnostic(
    "set_size_outside",
    "Sets of untrained size",
    "share of conditioning sets whose size was not trained",
    alarm="{percent:.0f} % of the conditioning sets have a size that was not trained",
)
"""Share of conditioning sets whose number of observations lies outside the range of sizes in training.

Angles, weights, failed draws: none. Floor: none.
"""
EFFECTIVE_POOL = _diagnostic(
    "effective_pool",
    "Effective pool",
    "candidates that a draw is chosen from, counted by their weights",
    better="higher",
)
"""Kish's effective number of candidates that a draw is chosen from, (sum w)^2 / sum w^2; the median over events.

Angles: none. Weights: of candidates. Failed draws: none. Floor: none.
"""
EFFECTIVE_POOL_LOW = _diagnostic(
    "effective_pool_low",
    "Effective pool, worst 5 %",
    "of the events whose draws had the least choice",
    better="higher",
)
"""The 5 % quantile over events of the effective number of candidates.

Angles: none. Weights: of candidates. Failed draws: none. Floor: none.
"""
ESS_MIN = _diagnostic(
    "ess_min",
    "Least effective share of particles",
    "on the way from noise to data, median over events",
    better="higher",
)
"""Kish's effective number of particles over their number, its least over the noise levels; the median over events.

Angles: none. Weights: of the particles. Failed draws: dead particles have weight 0. Floor: none.
"""
ESS_FINAL = _diagnostic("ess_final", "Effective share of particles at the end", "median over events", better="higher")
"""Kish's effective number of particles over their number at the last noise level; the median over events.

Angles: none. Weights: of the particles. Failed draws: dead particles have weight 0. Floor: none.
"""
UNIQUE_ANCESTORS = _diagnostic(
    "unique_ancestors",
    "Ancestors of the particles",
    "particles at the first noise level that those at the last come from, median over events",
    better="higher",
)
"""Number of particles at the first noise level that living ones at the last come from; the median over events.

Few ancestors matter less the higher the level of their last common one: noise sets copies apart. Angles, weights: none.
Failed draws: dead particles have no ancestor. Floor: none.
"""
RESAMPLINGS = _diagnostic("resamplings", "Resamplings", "noise levels with resampling, median over events")
"""Number of noise levels at which the particles were resampled; the median over events.

Angles, weights, failed draws: none. Floor: none.
"""
DEAD_PARTICLES = _diagnostic(
    "dead_particles",
    "Dead particles",
    "not finite, or with a failed likelihood, summed over noise levels, median over events",
    better="lower",
)
"""Number of times that a particle was not finite or its likelihood failed; the median over events.

Angles, weights: none. Failed draws: a dead particle that was not replaced is one. Floor: none.
"""
LOG_EVIDENCE = _diagnostic(
    "log_evidence", "Log evidence", "estimate of log p(y) under the diffusion prior, nats, median over events"
)
"""Estimate of log p(y) by the particles' mean weights, up to a constant that the likelihood has; median over events.

Angles: none. Weights: of the particles. Failed draws: dead particles have weight 0. Floor: none.
"""
FINAL_MISFIT = _diagnostic(
    "final_misfit",
    "Misfit where the descent ended",
    "median over events, at the last band's frequencies",
    better="lower",
)
"""Misfit where the descent of a full-waveform inversion ended, at the last band's frequencies; the median over events.

Angles, weights, failed draws: none. Floor: none.
"""

SOURCE_MISFIT = _diagnostic(
    "source_misfit",
    "Misfit of the unfolded source",
    "distance of its push-forward to a half of the observations, over that of the halves; about 1 where nothing tells "
    "them apart",
    better="lower",
)
"""Sliced distance of the push-forward of a source to a half of the observations, over that of the two halves.

Angles: as sine and cosine. Weights: of the observations. Failed draws: simulations that failed are left out. Floor:
about 1.
"""
SOURCE_ENTROPY = _diagnostic(
    "source_entropy",
    "Entropy of the unfolded source",
    "of the truth as networks see it, nats",
    better="higher",
)
"""Differential entropy of an unfolded source in the space of networks, by Kozachenko and Leonenko's estimate.

Angles: on a circle. Weights, failed draws: none. Floor: none.
"""


def _negative_rows(answers: "Answers") -> Iterator[Measured]:
    reader = answers.case.recorded
    if "weight" in reader.columns:
        weight = reader.read("weight")
        if (weight < 0).any():
            share = float(-weight[weight < 0].sum() / np.abs(weight).sum())
            yield Measured("negative_weights", share, None, None, None, len(weight), "1")


NEGATIVE_WEIGHTS = Metric(
    "negative_weights",
    "Share of negative weights",
    "of the sum of magnitudes; they are made positive by cell resampling",
    needs_truth=False,
    measure=_negative_rows,
)
"""Sum of the magnitudes of negative event weights over that of all; they are resampled among near events.

Angles: none. Weights: of the recorded events. Failed draws: none. Floor: none.
"""
