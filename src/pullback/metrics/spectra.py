"""Spectra of a family against its truth, bin by bin: triangular discriminator, chi-squared, recovered means.

Bins are those of the study (``evaluation: {bins: {pt: [0, 60, 80]}}``), or have equal numbers of truths. Values outside
the edges are in no bin.

Draws, and draws weighted with purity and efficiency, belong to the events whose truths they are compared with: the
covariance of the difference is that of differences of each group (`contents.paired`), and what a finite conditioning
set adds where the inference resamples it (`resamples`). Unfolded distributions are in `unfolded_spectra`.

Intervals are those of normal replicas of the difference with its covariance.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pullback.core import seeding
from pullback.metrics.bootstrap import distance_interval, effective_groups, percentile_interval
from pullback.metrics.case import Case, Truths
from pullback.metrics.contents import (
    Compared,
    Contents,
    Edges,
    beside,
    chi_squared,
    group_sums,
    numbered,
    paired,
    shares_of,
)
from pullback.metrics.floors import weighted_draws
from pullback.metrics.metric import Better, Measured, Metric
from pullback.metrics.resamples import resampled

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers

THOUSAND = 1000.0
"""What the triangular discriminator is quoted in, as papers do."""

NORMAL = 1.96
"""Standard deviations to either side that hold 95 % of a normal distribution."""


def features(case: Case, x: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of x (..., component) by feature; angles as the edges have them."""
    x = case.space.canonical(x)
    return {name: x[..., j].ravel() for j, name in enumerate(case.space.names)}


def truth_sums(case: Case, truths: Truths, edges: Edges) -> np.ndarray:
    """Sums of the weights of some truths by group and bin (group, bin)."""
    (group,), groups = numbered(truths.group)
    return group_sums(features(case, truths.x), edges, truths.weight, group, groups)


def truth_shares(case: Case, truths: Truths, edges: Edges) -> Contents:
    """Shares of some truths in bins, with their covariance by group."""
    return shares_of(truth_sums(case, truths, edges), edges, effective_groups(truths.group, truths.weight))


def pairs(case: Case, n: int) -> Truths:
    """The truths of the first n pairs."""
    return Truths(case.flat("x", 0, n), case.reader.read("group", 0, n), case.replicas(n).weight)


def draw_rows(answers: "Answers") -> Iterator[Measured]:
    """Rows of draws: of one of each event, and of all where their weights differ."""
    case, n = answers.case, len(answers.one)
    if not case.known or not case.edges:
        return
    truth = pairs(case, n)
    (group,), groups = numbered(truth.group)
    size = effective_groups(truth.group, truth.weight)
    theirs = group_sums(features(case, truth.x), case.edges, truth.weight, group, groups)
    floor = truth_floor(case, truth, missed=False)
    finite = resampled(
        answers.posterior, case.edges, lambda x: features(case, x), truth.weight, truth.group, accepted=False
    )
    kinds = [("_draw", answers.one, truth.weight, group)]
    weighted = weighted_draws(answers)
    if weighted is not None:
        x, weight = weighted
        kinds.append(("_weighted", x.reshape(-1, x.shape[2]), weight.ravel(), np.repeat(group, x.shape[1])))
    for ending, drawn, each, whose in kinds:
        ours = group_sums(features(case, drawn), case.edges, each, whose, groups)
        compared = paired(ours, theirs, case.edges, size)
        if finite is not None:
            compared = compared._replace(covariance=finite.shares.added_to(compared.covariance, own=False))
        yield from compared_rows(ending, compared, compared, floor, case, n)
    yield from _mean_rows(answers)


def _mean_rows(answers: "Answers") -> Iterator[Measured]:
    """Mean of one draw of each event against the mean truth, of features that are no angles."""
    case, n = answers.case, len(answers.one)
    truth = case.flat("x", 0, n).astype(np.float64)
    both, spread = case.replicas(n).mean(np.concatenate([answers.one - truth, truth], axis=1))
    components = truth.shape[1]
    for name in case.edges:
        j = case.space.names.index(name)
        if case.space.periodic[j]:
            continue
        unit = case.space.units[j]
        yield Measured(f"mean_bias_draw.{name}", float(both[j]), *percentile_interval(spread[:, j]), None, n, unit)
        injected = percentile_interval(spread[:, components + j])
        yield Measured(f"injected_mean_draw.{name}", float(both[components + j]), *injected, None, n, unit)


def compared_rows(
    ending: str,
    triangular: Compared,
    chi2: Compared,
    floor: Compared | None,
    case: Case,
    n: int,
    name: str = "chi2",
) -> Iterator[Measured]:
    """Triangular discriminator and chi^2 of each feature, and chi^2 of all together where their covariance is known.

    Args:
        ending: of the rows' names, what is compared.
        triangular, chi2: what each is computed from.
        floor: independent truths beside those of the test events.
        case: the family.
        n: events.
        name: of the rows of chi^2; only rows of ``chi2`` have the discriminator beside them.
    """
    count = case.evaluation["bootstrap"]
    for feature in chi2.edges:
        rng = seeding.generator(*case.address, case.name, "bins", ending, feature)
        part = None if floor is None or feature not in floor.edges else floor.of(feature)
        same = part is not None and np.array_equal(part.edges[feature], chi2.edges[feature])
        if name == "chi2":
            ours = triangular.of(feature)
            value = float(ours.triangular())
            interval = distance_interval(value, ours.triangular(ours.draws(count, rng)))
            low, high = (None if v is None else THOUSAND * v for v in interval)
            least = THOUSAND * float(part.triangular()) if part is not None and same else None
            yield Measured(f"triangular{ending}.{feature}", THOUSAND * value, low, high, least, n, "1e-3")
        yield from _chi2_rows(f"{ending}.{feature}", name, chi2.of(feature), part if same else None, n, count, rng)
    if chi2.joint and len(chi2.edges) > 1:
        rng = seeding.generator(*case.address, case.name, "bins", ending)
        same = floor is not None and all(np.array_equal(floor.edges.get(f, ()), chi2.edges[f]) for f in chi2.edges)
        yield from _chi2_rows(ending, name, chi2, floor if same else None, n, count, rng)


def _chi2_rows(
    row: str, name: str, compared: Compared, floor: Compared | None, n: int, count: int, rng: np.random.Generator
) -> Iterator[Measured]:
    found = chi_squared(compared)
    if found is None:
        return
    value, spread = found.value / found.rank, found.of(compared.draws(count, rng)) / found.rank
    least = None if floor is None else chi_squared(floor)
    lowest = None if least is None else least.value / least.rank
    yield Measured(f"{name}{row}", value, *distance_interval(value, spread), lowest, n, "1")
    yield Measured(f"{name}_dof{row}", float(found.rank), None, None, None, n, "1")


def truth_floor(case: Case, truths: Truths, missed: bool, edges: Edges | None = None) -> Compared | None:
    """Independent truths of the same prior beside some truths."""
    other = case.reference_truths(case.events_of_distance(len(truths.x)), missed)
    if other is None:
        return None
    edges = case.edges if edges is None else edges
    return beside(truth_shares(case, other, edges), truth_shares(case, truths, edges))


def _words(name: str, title: str, description: str, better: Better, **more: object) -> Metric:
    return Metric(name, title, description, better, leads=False, **more)  # type: ignore[arg-type]


TRIANGULAR = _words(
    "triangular",
    "Triangular discriminator",
    "in thousandths: 0 of equal distributions, 1000 of distributions that share no bin",
    "lower",
    unit="1e-3",
    measure=draw_rows,
)
"""1000/2 sum over bins of width (p - q)^2 / (p + q), with p and q the densities of draws and truths in bins.

Bins are those of the study, or hold equal numbers of truths. Angles: in [-pi, pi). Weights of events: in the contents.
Weights of draws: choose the draw; `triangular_weighted` has all draws with their weights. Failed draws: imputed.
Interval: normal replicas with the covariance by group. Floor: of independent truths, which pairs of draw and truth lie
below.
"""
CHI2 = _words(
    "chi2",
    "Chi-squared per degree of freedom",
    "of shares in bins, with their full covariance; about 1 where only statistics differ",
    "target",
    target=1.0,
    measure=draw_rows,
)
"""d^T C^+ d / rank(C), with d the difference of shares in bins and C its covariance by groups of events, a shape.

Of draws, the covariance is that of the difference of draw and truth in each group, with what a finite conditioning set
adds where the inference resamples it (`metrics.resamples`). Of unfolded distributions it is the
sum of theirs, from replicas or stated, and that of independent truths. The row without a feature is of all features
together. Angles: in [-pi, pi). Weights of events: in the contents. Failed draws: imputed. Floor: of independent truths,
about 1.
"""
CHI2_DOF = _words("chi2_dof", "Degrees of freedom of chi-squared", "the rank of the covariance", "")
"""Rank of the covariance of shares: eigenvalues of its correlation matrix below 1e-9 of the largest are zero.

Angles, weights, failed draws: as `chi2`. Floor: none.
"""
CHI2_COUNTS = _words(
    "chi2_counts",
    "Chi-squared of contents per degree of freedom",
    "of the numbers of truths in bins, normalisation included",
    "target",
    target=1.0,
)
"""As `chi2`, of the numbers of truths in bins: where a method's contents count them. Pairs and misses are counted.

Contents and truths of the same events have part of their statistics in common. Of draws that is taken into account; of
unfolded bins covariances are added, so that the number errs to small values. Angles: in [-pi, pi). Weights of events:
in the contents. Failed draws: count 0. Floor: none.
"""
CHI2_COUNTS_DOF = _words(
    "chi2_counts_dof", "Degrees of freedom of chi-squared of contents", "the rank of the covariance", ""
)
"""Rank of the covariance of contents.

Angles, weights, failed draws: as `chi2_counts`. Floor: none.
"""
MEAN_BIAS = _words(
    "mean_bias",
    "Recovered minus injected mean",
    "of the truths' features",
    "target",
    target=0.0,
    least=None,
    measure=draw_rows,
)
"""Mean of draws minus mean of truths, of each feature that is no angle.

Angles: none. Weights of events: in both means. Failed draws: imputed. Floor: none.
"""
INJECTED_MEAN = _words("injected_mean", "Injected mean", "of the truths' features", "", least=None, measure=draw_rows)
"""Mean of the truths of each feature that is no angle; the linearity test holds the recovered mean against it.

Angles: none. Weights of events: in the mean. Failed draws: none. Floor: none.
"""
