"""Spectra of a family against its truth, bin by bin: triangular discriminator, chi-squared, recovered means.

Bins are those of the study (``evaluation: {bins: {pt: [0, 60, 80]}}``), or have equal numbers of truths. Values outside
the edges are in no bin.

Draws, and draws weighted with purity and efficiency, belong to the events whose truths they are compared with: the
covariance of the difference is that of differences of each group (`contents.paired`), and what a finite conditioning
set adds where the inference resamples it (`resamples`). Of an unfolded distribution only
its own covariance is known, from replicas or stated. chi^2 is therefore taken against independent truths of the same
prior (split ``reference``), where covariances add; against the test events' own truths, where there is no such split or
contents are counted, adding them errs to small values.

Intervals are those of normal replicas of the difference with its covariance.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pullback.core import seeding
from pullback.ensembles.unfolded import Unfolded
from pullback.metrics.bootstrap import (
    LEAST_GROUPS,
    Replicas,
    distance_interval,
    effective_groups,
    percentile_interval,
)
from pullback.metrics.case import Case, Truths
from pullback.metrics.contents import (
    Compared,
    Contents,
    Edges,
    beside,
    cells,
    chi_squared,
    counts_of,
    group_sums,
    numbered,
    paired,
    paired_counts,
    shares_of,
)
from pullback.metrics.floors import weighted_draws
from pullback.metrics.metric import Better, Measured, Metric
from pullback.metrics.resamples import Resampled, resampled

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
    floor = _floor(case, truth, missed=False)
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


def _floor(case: Case, truths: Truths, missed: bool, edges: Edges | None = None) -> Compared | None:
    """Independent truths of the same prior beside some truths."""
    other = case.reference_truths(case.events_of_distance(len(truths.x)), missed)
    if other is None:
        return None
    edges = case.edges if edges is None else edges
    return beside(truth_shares(case, other, edges), truth_shares(case, truths, edges))


def sample_contents(case: Case, x: np.ndarray, weight: np.ndarray, edges: Edges) -> Contents:
    """Sums of weights of a sample x (sample, component) in bins, with their covariance over replicas.

    Args:
        case: the family.
        x: (sample, component).
        weight: (sample, replica), replica 0 nominal.
        edges: of the bins.
    """
    from scipy.sparse import csr_matrix

    values, sums = features(case, x), []
    for name, each in edges.items():
        cell = cells(values[name].astype(np.float64), each)
        inside = np.flatnonzero(cell >= 0)
        choose = csr_matrix((np.ones(len(inside)), (cell[inside], inside)), (len(each) - 1, len(x)))
        sums.append(choose @ weight)
    contents = np.concatenate(sums)
    replicas = contents.shape[1] - 1
    covariance = np.cov(contents[:, 1:]) if replicas >= LEAST_GROUPS else None
    return Contents(edges, contents[:, 0], covariance, replicas)


def stated(found: Unfolded, edges: Edges) -> Contents | None:
    """Contents of the bins that a method states, in the study's bins where its own have these edges.

    None where it states none. A feature whose contents do not sum to more than 0 is left out.
    """
    from scipy.linalg import block_diag

    kept = {name: bins for name, bins in found.bins.items() if bins.content.sum() > 0}
    if not kept:
        return None
    own = {name: bins.edges for name, bins in kept.items()}
    joint = found.joint if len(kept) == len(found.bins) else None
    covariance = block_diag(*(bins.covariance for bins in kept.values())) if joint is None else joint
    content = np.concatenate([bins.content for bins in kept.values()])
    return Contents(own, content, covariance, joint=joint is not None or len(own) == 1).rebinned(edges)


def estimates(found: Unfolded, case: Case) -> list[Contents]:
    """The bins that an unfolded distribution states, and those of its sample in the study's other bins."""
    edges = case.edges if case.known else {}
    binned = stated(found, edges)
    parts = [] if binned is None else [binned]
    rest = {name: each for name, each in edges.items() if name not in found.bins}
    if rest and found.x is not None and found.weight is not None:
        parts.append(sample_contents(case, found.x.reshape(len(found.x), -1), found.weight, rest))
    return parts


def unfolded_rows(found: Unfolded, parts: list[Contents], case: Case, n: int) -> Iterator[Measured]:
    """Rows of an unfolded distribution.

    Args:
        found: the distribution.
        parts: its `estimates`.
        case: the family.
        n: pairs of truth and observation in a comparison of shapes.
    """
    truths = case.truths(n)
    other = case.reference_truths(n, missed=True)
    for part in parts:
        ours = part.shares()._replace(joint=part.joint and len(parts) == 1)
        theirs = truth_shares(case, truths, ours.edges)
        independent = theirs if other is None else truth_shares(case, other, ours.edges)
        floor = _floor(case, truths, True, ours.edges)
        yield from compared_rows("_unfolded", beside(ours, theirs), beside(ours, independent), floor, case, n)
    counted = case.counted()
    size = effective_groups(counted.group, counted.weight)
    for part in parts:
        if found.counts or set(part.edges) <= set(found.bins):
            theirs = counts_of(truth_sums(case, counted, part.edges), part.edges, size)
            compared = beside(part._replace(joint=part.joint and len(parts) == 1), theirs)
            yield from compared_rows("_unfolded", compared, compared, None, case, n, "chi2_counts")
    if found.counts and found.weight is not None:
        assert counted.weight is not None
        ratios = found.weight.sum(axis=0) / counted.weight.sum()
        interval = percentile_interval(ratios[1:])
        yield Measured("truths_ratio_unfolded", float(ratios[0]), *interval, None, len(counted.x), "1")
    if found.x is not None and found.weight is not None:
        yield from _sample_means(found.x.reshape(len(found.x), -1), found.weight, truths, case, n)


def _sample_means(x: np.ndarray, weight: np.ndarray, truths: Truths, case: Case, n: int) -> Iterator[Measured]:
    """Means of a weighted sample and of truths, of features that are no angles; independent errors add."""
    rng = seeding.generator(*case.address, case.name, "means")
    replicas = Replicas(truths.group, case.evaluation["bootstrap"], rng, truths.weight)
    mean, spread = replicas.mean(truths.x.astype(np.float64))
    total = weight.sum(axis=0)
    recovered = (x.astype(np.float64).T @ weight) / np.where(total > 0, total, 1.0)
    for name in case.edges:
        j = case.space.names.index(name)
        if case.space.periodic[j]:
            continue
        unit, bias = case.space.units[j], float(recovered[j, 0] - mean[j])
        low = high = None
        if weight.shape[1] > LEAST_GROUPS and len(spread):
            half = NORMAL * float(np.hypot(recovered[j, 1:].std(ddof=1), spread[:, j].std(ddof=1)))
            low, high = bias - half, bias + half
        yield Measured(f"mean_bias_unfolded.{name}", bias, low, high, None, n, unit)
        injected = percentile_interval(spread[:, j])
        yield Measured(f"injected_mean_unfolded.{name}", float(mean[j]), *injected, None, n, unit)


def corrected(
    x: np.ndarray,
    weight: np.ndarray,
    group: np.ndarray,
    case: Case,
    n: int,
    counts: bool,
    finite: Resampled | None,
) -> tuple[list[Measured], Contents]:
    """Rows and contents of draws of all recorded events with weights of purity and efficiency, beside pairs and misses.

    Args:
        x: draws (sample, component).
        weight: of each (sample,), a number of truths where ``counts``.
        group: of the event of each (sample,).
        case: the family.
        n: recorded events.
        counts: whether the weights count truths.
        finite: the same contents under resamples of the conditioning set, where there are any.
    """
    counted = case.counted()
    (ours, theirs), groups = numbered(group, counted.group)
    edges, size = case.edges, effective_groups(counted.group, counted.weight)
    sums = group_sums(features(case, x), edges, weight, ours, groups)
    truth = group_sums(features(case, counted.x), edges, counted.weight, theirs, groups)
    compared, both = paired(sums, truth, edges, size), paired_counts(sums, truth, edges, size)
    own = counts_of(sums, edges, size)
    if finite is not None:
        compared = compared._replace(covariance=finite.shares.added_to(compared.covariance, own=False))
        both = both._replace(covariance=finite.added_to(both.covariance, own=False))
        own = own._replace(covariance=finite.added_to(own.covariance, own=True))
    rows = list(compared_rows("_unfolded", compared, compared, _floor(case, counted, True), case, n))
    if counts:
        rows += compared_rows("_unfolded", both, both, None, case, n, "chi2_counts")
    return rows, own


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
