"""Unfolded truth distributions against the truth of the test events: rows, spectra and cost of each result.

``swd_unfolded`` and ``w1_unfolded.<feature>`` compare the nominal weighted sample with the truth; the floor is that of
the same distance between two independent samples of the truth. ``unfolded_ess`` is the effective number of truths,
(sum w)^2 / sum w^2. The intervals come from the replicas of the weights: the statistical uncertainty that the method
states. ``bins_w1.<feature>`` is the W1 distance of bins with the content spread evenly in each. What is compared bin by
bin is in `pullback.metrics.unfolded_spectra`.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from pullback.core import seeding
from pullback.core.particles import effective_size, resample
from pullback.ensembles.unfolded import Bins, Unfolded, UnfoldedReader
from pullback.metrics import examples
from pullback.metrics.bootstrap import distance_interval, percentile_interval
from pullback.metrics.case import Case, EvaluationError, refuse_other_observations
from pullback.metrics.checks import fold_back
from pullback.metrics.distances import circular_wasserstein, influence, sliced_wasserstein, wasserstein_powers
from pullback.metrics.floors import Distances
from pullback.metrics.metric import Measured, Metric
from pullback.metrics.unfolded_spectra import estimates, unfolded_rows

log = logging.getLogger("pullback")

SAMPLES = 100_000
"""Truths of a weighted sample in a distance; of more, as many chosen at random."""

REPLICAS = 100
"""Replicas of the weights in an interval."""


def judge(case: Case, reader: UnfoldedReader, address: seeding.Address, group: h5py.Group | None) -> list[Measured]:
    """The rows of one unfolded distribution; its spectra are kept.

    Args:
        case: the family.
        reader: of the unfolded distribution.
        address: root of the random choice of truths.
        group: where the report finds the spectra; None keeps none.

    Raises:
        EvaluationError: it was unfolded from other observations, or a nominal weight is negative.
    """
    refuse_other_observations(case, reader)
    n = case.events_of_distance(case.reader.n)
    found = reader.unfolded
    rows, parts = list[Measured](), estimates(found, case)
    if found.x is not None and found.weight is not None:
        x, weight = _chosen(found.x.reshape(len(found.x), -1), found.weight, reader.path, address)
        rows += sample_rows(x, weight, case, n)
        rows += fold_back_rows(x, weight[:, 0], case, n)
    if case.known:
        for name, bins in found.bins.items():
            rows += _bin_rows(name, bins, case, n)
        rows += unfolded_rows(found, parts, case, n)
        if case.alternative is not None:
            rows += case.alternative.row("_unfolded", [part.shares() for part in parts], n)
    if group is not None:
        write_spectra(group, found, case, n)
        examples.write_correlation(group, parts)
    return rows


def _chosen(x: np.ndarray, weight: np.ndarray, path: Path, address: seeding.Address) -> tuple[np.ndarray, np.ndarray]:
    """At most `SAMPLES` truths, and the weights of the nominal and at most `REPLICAS` replicas, none negative."""
    if (negative := int((weight[:, 0] < 0).sum())) or not weight[:, 0].any():
        raise EvaluationError(
            f"{path}: {negative} of {len(weight)} nominal weights are negative"
            f"{'' if weight[:, 0].any() else ', all are zero'}; distances between distributions need non-negative "
            "ones: let the method return such weights"
        )
    weight = np.maximum(weight[:, : REPLICAS + 1], 0.0)
    weight = weight[:, weight.any(axis=0)]
    if len(x) > SAMPLES:
        rows = np.sort(seeding.generator(*address, "unfolded").choice(len(x), SAMPLES, replace=False))
        x, weight = x[rows], weight[rows]
    return x, weight


def sample_rows(x: np.ndarray, weight: np.ndarray, case: Case, n: int) -> Iterator[Measured]:
    """Rows of a weighted sample against the truths of a family, pairs and misses.

    Args:
        x: (sample, component).
        weight: (sample, replica), replica 0 nominal.
        case: the family.
        n: pairs in a distance.
    """
    sizes = effective_size(weight.T)
    yield Measured("unfolded_ess", float(sizes[0]), *percentile_interval(sizes[1:]), None, len(x), "1")
    if not case.known:
        return
    distances, space = case.distances_to_truths(n), case.space
    truth, true_weight = distances.truth, distances.replicas.weight
    u, v = space.standard(x), space.standard(truth)
    value = sliced_wasserstein(u, v, distances.paper_directions, weight[:, 0], true_weight)
    spread = _sliced_replicas(value, u, v, weight, true_weight, distances)
    floor = distances.floors.get("swd_draw")
    yield Measured("swd_unfolded", value, *percentile_interval(spread), floor, n, space.unit)
    for j, (name, unit) in enumerate(zip(space.names, space.units, strict=True)):
        ours, theirs = (a[:, j].astype(np.float64) for a in (x, truth))
        if space.periodic[j]:
            same = np.ones(len(truth)) if true_weight is None else true_weight
            powers = list(circular_wasserstein(ours, theirs, weight.T, np.tile(same, (weight.shape[1], 1))))
        else:
            powers = [float(wasserstein_powers(ours[None], theirs[None], 1, w, true_weight)[0]) for w in weight.T]
        interval = distance_interval(powers[0], np.array(powers[1:]))
        floor = distances.floors.get(f"w1_draw.{name}")
        yield Measured(f"w1_unfolded.{name}", powers[0], *interval, floor, n, unit)


def fold_back_rows(x: np.ndarray, weight: np.ndarray, case: Case, n: int) -> Iterator[Measured]:
    """``fold_back_swd_unfolded``: truths of a weighted sample sent through the detector, against the observations.

    Where misses are recorded, truths before the detector are chosen with their efficiency too; without a known one
    there is no row. Fakes are left out where they are known: of observed data they are among the observations.

    Args:
        x: (sample, component).
        weight: (sample,).
        case: the family; with a forward process, else there is no row.
        n: observations.
    """
    problem = case.problem
    if problem is None or not case.recorded.y.is_vector:
        return
    if case.misses:
        if not hasattr(problem, "efficiency"):
            log.info("%s: no fold-back, as the problem has no `efficiency` of truths", case.name)
            return
        weight = weight * problem.efficiency(x.reshape(-1, *problem.x.shape))
    if not weight.sum() > 0:
        return
    rng = seeding.generator(*case.address, case.name, "fold-back of the unfolded")
    # In random order: what is drawn does not belong to the observation beside it.
    rows = rng.permutation(resample(weight, n, rng))
    found = fold_back(
        problem,
        case.reader.y,
        case.flat("y", 0, n),
        x[rows],
        np.ones(n, bool),
        case.replicas(n),
        (*case.address, case.name),
        case.evaluation["direction_seeds"],
    )
    yield found._replace(metric="fold_back_swd_unfolded")


def _sliced_replicas(
    value: float,
    u: np.ndarray,
    v: np.ndarray,
    weight: np.ndarray,
    true_weight: np.ndarray | None,
    distances: Distances,
) -> np.ndarray:
    """The sliced distance of each replica of the weights, to first order in them, (replica,)."""
    if weight.shape[1] < 2:
        return np.empty(0)
    phi, _ = influence(u, v, distances.paper_directions, weight[:, 0], true_weight)
    moved = phi[0] @ (weight / weight.sum(axis=0))
    return np.sqrt(np.maximum(value**2 + moved[1:] - moved[1:].mean(), 0.0))


def _bin_rows(name: str, bins: Bins, case: Case, n: int) -> Iterator[Measured]:
    j = case.space.names.index(name)
    truths = case.truths(n)
    values, weight = truths.x[:, j].astype(np.float64), truths.weight
    truth, total = np.histogram(values, bins.edges, weights=weight)[0], bins.content.sum()
    if not truth.any() or not total > 0:
        return
    truth = truth * (total / truth.sum())
    gap = np.cumsum(np.append(0.0, bins.content - truth)) / total
    # Between two edges both distribution functions are straight: the integral of |their difference| has a closed form.
    low, high, width = gap[:-1], gap[1:], np.diff(bins.edges)
    crossing = low * high < 0
    size = np.where(crossing, np.abs(low) + np.abs(high), 1.0)
    area = np.where(crossing, (low**2 + high**2) / (2 * size), (np.abs(low) + np.abs(high)) / 2)
    yield Measured(f"bins_w1.{name}", float((area * width).sum()), None, None, None, n, case.space.units[j])


def write_spectra(group: h5py.Group, found: Unfolded, case: Case, n: int) -> None:
    """Counts of each feature in bins, as `pullback.metrics.examples` lays them out; errors come from the replicas.

    Contents are scaled to the effective number of test events, so that methods stand beside each other.
    """
    x, y = case.reader.x, case.reader.y
    assert x is not None
    truths = case.truths(n) if case.known else None
    recorded = case.replicas(n).weight
    seen_weight = np.ones(n) if recorded is None else recorded
    ones = seen_weight if truths is None or truths.weight is None else truths.weight
    if truths is not None and truths.weight is None:
        ones = np.ones(len(truths.x))
    unit = ones.sum() / np.square(ones).sum()
    events = float(unit * ones.sum())
    for j, name in enumerate(x.features):
        truth = truths.x[:, j].astype(np.float64) if truths is not None else None
        observed = case.flat("y", 0, n)[:, y.features.index(name)] if name in y.features else None
        if name in found.bins:
            edges, content, covariance = found.bins[name]
            scale = events / content.sum()
            counts, error = scale * content, scale * np.sqrt(np.diag(covariance))
        elif found.x is not None and found.weight is not None:
            guide = truth if truth is not None else found.x[:, j].astype(np.float64)
            edges = examples.bin_edges(guide, x.transforms[j] in ("log", "log1p"))
            each = np.array([np.histogram(found.x[:, j], edges, weights=w)[0] for w in found.weight.T])
            each *= events / found.weight.sum(axis=0)[:, None]
            counts, error = each[0], each[1:].std(axis=0) if len(each) > 1 else np.zeros(len(edges) - 1)
        else:
            continue
        feature = group.require_group(name)
        feature.clear()
        feature.attrs.update(unit=x.units[j], place=j, truths="all")
        feature["edges"], feature["unfolded"], feature["unfolded_error"] = edges, counts, error
        if truth is not None:
            true_counts = unit * np.histogram(truth, edges, weights=ones)[0]
            feature["truth"] = true_counts
            feature["ratio_error"] = error / np.where(true_counts > 0, true_counts, np.nan)
        if observed is not None:
            feature["observed"] = unit * np.histogram(observed, edges, weights=seen_weight)[0]


UNFOLDED_ESS = Metric(
    "unfolded_ess",
    "Effective truths of the unfolded distribution",
    "(sum of weights)^2 over the sum of their squares",
    "higher",
    needs_truth=False,
    leads=False,
)
"""Kish's effective number of events of an unfolded sample, (sum w)^2 / sum w^2.

Angles: none. Weights: of the unfolded sample. Failed draws: left out. Floor: none.
"""
BINS_W1 = Metric(
    "bins_w1",
    "Wasserstein-1 distance of unfolded bins",
    "content spread evenly in each bin, against the truth",
    "lower",
)
"""W_1 between unfolded bin contents and the truth's, both spread evenly over their bins.

Angles: as a line. Weights of events: in the truth's contents. Failed draws: none. Floor: none.
"""
