"""Features in bins: simulated events of families, and the response and prior of each feature that they give."""

from typing import Literal, NamedTuple

import numpy as np

from pullback.ensembles.arrays import Ensemble
from pullback.ensembles.family_events import nominal
from pullback.methods.unfolding.binned_spec import Binning
from pullback.methods.unfolding.response import (
    Entries,
    Response,
    UnfoldingError,
    bin_of,
    quantile_edges,
    response_of,
)
from pullback.problems.base import Problem


class Simulated(NamedTuple):
    """Simulated events of one family, whose truths (pairs and misses) weigh one together.

    Attributes:
        truth: (object, *x), pairs and then misses.
        weight: (object,).
        y: (event, *y), pairs and then fakes.
        y_weight: (event,).
        group: unit of dependence (object + fake,), pairs, misses and then fakes.
        pairs: number of them.
    """

    truth: np.ndarray
    weight: np.ndarray
    y: np.ndarray
    y_weight: np.ndarray
    group: np.ndarray
    pairs: int

    @staticmethod
    def of(ensemble: Ensemble) -> "Simulated":
        """The events of a family.

        Raises:
            UnfoldingError: the weights of its truths have no positive sum.
        """
        x, y, fake, missed = ensemble.read("x"), ensemble.read("y"), ensemble.fake(), ensemble.missed
        weight = nominal(ensemble.read("weight")) if "weight" in ensemble.columns else np.ones(ensemble.n)
        truth, truth_weight, group = x[~fake], weight[~fake], ensemble.read("group")
        groups = [group[~fake], group[fake]]
        if missed is not None:
            truth, truth_weight = np.concatenate([truth, missed.x]), np.append(truth_weight, missed.weight)
            groups.insert(1, missed.group)
        total = truth_weight.sum()
        if not total > 0:
            raise UnfoldingError(f"{ensemble.path}: the weights of the truths sum to {total:.4g}, wanted more than 0")
        order = np.argsort(fake, kind="stable")
        pairs = int((~fake).sum())
        return Simulated(truth, truth_weight / total, y[order], weight[order] / total, np.concatenate(groups), pairs)


class Channel(NamedTuple):
    """One feature in bins, with its response in those bins in which something was simulated.

    Attributes:
        name: of the feature.
        feature, observed_feature: their columns of x and y.
        edges, observed_edges: (bin + 1,).
        response: of the bins that are kept.
        truth, observed: the bins that are kept, with the underflow as bin 0.
        prior: shares of the kept truth bins (truth,), positive.
        simulated: whether there are simulated pairs or fakes in each observed bin, kept or not (bin + 2,).
        cells: row of `binned.by_simulation` of every simulated object: pairs of all families, then misses, then fakes.
    """

    name: str
    feature: int
    observed_feature: int
    edges: np.ndarray
    observed_edges: np.ndarray
    response: Response
    truth: np.ndarray
    observed: np.ndarray
    prior: np.ndarray
    simulated: np.ndarray
    cells: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """Which of the kept truth bins lie between the edges (truth,)."""
        return (self.truth > 0) & (self.truth < len(self.edges))


def channel_of(
    name: str,
    binning: Binning,
    problem: Problem,
    chosen: list[Simulated],
    prior: Simulated | Literal["response", "flat"],
    same_bins: bool,
) -> Channel:
    """One feature in its bins.

    Args:
        name: of the feature.
        binning: its bins.
        problem: whose fields name the features.
        chosen: simulated events of the response.
        prior: whose truth is the prior.
        same_bins: whether observed bins are the truth's.

    Raises:
        UnfoldingError: a truth bin between the edges is empty.
    """
    feature, observed = problem.x.features.index(name), problem.y.features.index(binning.observed or name)
    edges = _edges(binning.bins, [one.truth[:, feature] for one in chosen])
    wanted = binning.observed_bins
    if wanted is None and (same_bins or isinstance(binning.bins, list)):
        observed_edges = edges
    else:
        observed_edges = _edges(wanted or binning.bins, [one.y[:, observed] for one in chosen])
    parts = [_entries(one, feature, observed, edges, observed_edges) for one in chosen]
    entries = Entries(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    response = response_of(entries, (len(observed_edges) + 1, len(edges) + 1))
    shares = response.truth
    if isinstance(prior, Simulated):
        shares = np.bincount(_bins(prior.truth, feature, edges), prior.weight, len(edges) + 1)
    elif prior == "flat":
        shares = np.ones(len(edges) + 1)
    truth, kept = _kept(name, edges, response, shares, same_bins)
    return Channel(
        name,
        feature,
        observed,
        edges,
        observed_edges,
        response.take(kept, truth),
        truth,
        kept,
        shares[truth],
        (response.matrix != 0).any(axis=1) | (response.fakes != 0),
        _cells(entries, kept, truth, response.matrix.shape),
    )


def simulated_objects(chosen: list[Simulated]) -> tuple[np.ndarray, np.ndarray]:
    """Weight and group of every simulated object, in the order of `Channel.cells`."""
    weights, groups, kinds, first = [], [], [], 0
    for one in chosen:
        weights.append(np.append(one.weight, one.y_weight[one.pairs :]))
        groups.append(first + np.unique(one.group, return_inverse=True)[1])
        first = int(groups[-1].max()) + 1
        misses, fakes = len(one.weight) - one.pairs, len(one.y) - one.pairs
        kinds.append(np.repeat([0, 1, 2], [one.pairs, misses, fakes]))
    order = np.argsort(np.concatenate(kinds), kind="stable")
    return np.concatenate(weights)[order], np.concatenate(groups)[order]


def _cells(entries: Entries, observed: np.ndarray, truth: np.ndarray, bins: tuple[int, ...]) -> np.ndarray:
    """Pairs in (observed, truth) bins; a miss has no observed bin and a fake no truth bin, which stand last."""
    places = [np.full(size, len(kept)) for size, kept in zip(bins, (observed, truth), strict=True)]
    for place, kept in zip(places, (observed, truth), strict=True):
        place[kept] = np.arange(len(kept))
    cause, effect = places[1][entries.truth], places[0][entries.observed]
    effect[cause == len(truth)] = len(observed)  # a pair of a truth bin that is not unfolded has no part in anything
    lost, fake = places[1][entries.missed], places[0][entries.fake]
    rows = np.concatenate([effect, np.full(len(lost), len(observed)), fake])
    columns = np.concatenate([cause, lost, np.full(len(fake), len(truth))])
    cells: np.ndarray = rows * (len(truth) + 1) + columns
    return cells


def _edges(bins: int | list[float], values: list[np.ndarray]) -> np.ndarray:
    return np.asarray(bins, np.float64) if isinstance(bins, list) else quantile_edges(np.concatenate(values), bins)


def _bins(values: np.ndarray, feature: int, edges: np.ndarray) -> np.ndarray:
    return bin_of(values[:, feature].astype(np.float64), edges)


def _entries(one: Simulated, feature: int, observed: int, edges: np.ndarray, observed_edges: np.ndarray) -> Entries:
    cause = _bins(one.truth, feature, edges)
    effect = _bins(one.y, observed, observed_edges)
    n = one.pairs
    return Entries(effect[:n], cause[:n], one.weight[:n], cause[n:], one.weight[n:], effect[n:], one.y_weight[n:])


def _kept(
    name: str, edges: np.ndarray, response: Response, prior: np.ndarray, same: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Truth and observed bins in which something was simulated; only underflow and overflow of the truth may lack it.

    Where observed bins are the truth's, both have those that either has.

    Raises:
        UnfoldingError: a truth bin between the edges is empty.
    """
    seen = (response.matrix != 0).any(axis=1)
    lacks = {
        "no simulated truth": response.truth <= 0,
        "no simulated pair": response.efficiency <= 0,
        "no truth in the prior": prior <= 0,
    }
    truth = ~np.logical_or.reduce(list(lacks.values()))
    if same:
        lacks["no simulated observation"] = ~seen
        truth = seen = truth | seen
    for what, where in lacks.items():
        if (empty := np.flatnonzero(where[1:-1])).size:
            low, high = edges[empty[0]], edges[empty[0] + 1]
            raise UnfoldingError(
                f"features.{name}.bins: the bin from {low:.6g} to {high:.6g} has {what}: merge it with another, or "
                "simulate more"
            )
    return np.flatnonzero(truth), np.flatnonzero(seen)
