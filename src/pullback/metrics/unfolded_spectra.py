"""Spectra of unfolded truth distributions, and of draws that purity and efficiency make one, beside the truth.

Of an unfolded distribution only its own covariance is known, from replicas or stated. chi^2 is therefore taken against
independent truths of the same prior (split ``reference``), where covariances add; against the test events' own truths,
where there is no such split or contents are counted, adding them errs to small values. The rows are those of
`pullback.metrics.spectra`.
"""

from collections.abc import Iterator

import numpy as np

from pullback.core import seeding
from pullback.ensembles.unfolded import Unfolded
from pullback.metrics.bootstrap import LEAST_GROUPS, Replicas, effective_groups, percentile_interval
from pullback.metrics.case import Case, Truths
from pullback.metrics.contents import (
    Contents,
    Edges,
    beside,
    cells,
    counts_of,
    group_sums,
    numbered,
    paired,
    paired_counts,
)
from pullback.metrics.metric import Measured
from pullback.metrics.resamples import Resampled
from pullback.metrics.spectra import NORMAL, compared_rows, features, truth_floor, truth_shares, truth_sums


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
        floor = truth_floor(case, truths, True, ours.edges)
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
    rows = list(compared_rows("_unfolded", compared, compared, truth_floor(case, counted, True), case, n))
    if counts:
        rows += compared_rows("_unfolded", both, both, None, case, n, "chi2_counts")
    return rows, own
