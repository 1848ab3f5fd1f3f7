"""The uncertainty budget: bin contents of an unfolded distribution and the covariance of each source of uncertainty.

Contents are sums of weights in the bins of every feature, one feature after the other, so that covariances hold
correlations between features. A draw has the weight of its observation times purity / efficiency where the method gives
them; contents then count truths before the detector, and else the truths of what was recorded.

- ``data``: the covariance of a Poisson bootstrap of the groups of the observations, in closed form: the sum over groups
  of s s^T, s the contents of a group, and what a finite conditioning set adds where the inference resamples it
  (`resamples`); of a method that unfolds, the covariance of its replicas.
- seeds: the covariance over seeds.
- other sources: the mean of d d^T over variations, d their contents minus the nominal ones of the same seed.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pullback.core.joblog import progress
from pullback.core.once import once
from pullback.ensembles import hdf5
from pullback.ensembles.fields import Field
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.stale_files import refuse_stale_files
from pullback.ensembles.store import EnsembleReader
from pullback.ensembles.unfolded import UnfoldedReader
from pullback.metrics.case import EvaluationError
from pullback.metrics.contents import Compared, cells, chi_squared, places, quantile_edges
from pullback.metrics.resamples import resampled
from pullback.metrics.table import write_table

log = logging.getLogger("pullback")

COLUMNS = (
    *("study", "problem", "method", "infer", "family", "feature", "source"),
    *("relative_median", "relative_least", "relative_most", "chi2", "bins"),
)
"""Of the table: relative standard deviations of bin contents by source, and chi^2 per bin beside the truth's."""


class Sample(NamedTuple):
    """An unfolded distribution.

    Attributes:
        x: (sample, feature).
        weight: (sample, replica), replica 0 nominal.
        group: of each (sample,), the unit of the bootstrap; None where replicas show the statistical uncertainty.
    """

    x: np.ndarray
    weight: np.ndarray
    group: np.ndarray | None


class Budget(NamedTuple):
    """The budget of one family.

    Attributes:
        edges: of each feature.
        content: (bin,), of all features, the mean over seeds.
        covariance: of each source (bin, bin); ``total`` is their sum.
        shifts: of each source with variations (variation, bin).
        truth: contents of the truth (bin,) and their variance (bin,); None where it is unknown.
    """

    edges: dict[str, np.ndarray]
    content: np.ndarray
    covariance: dict[str, np.ndarray]
    shifts: dict[str, np.ndarray]
    truth: tuple[np.ndarray, np.ndarray] | None

    def of(self, feature: str) -> slice:
        """The bins of a feature."""
        return places(self.edges)[feature]


def budget(job: str, results: Sequence[Path], ensembles: Mapping[str, Path], out: Path, table: Path) -> None:
    """Write the budgets of all families of one problem.

    Args:
        job: `Plan.budget_job`: ``budgets`` has, for each family and source, indices into ``results``.
        results: posteriors and unfolded distributions.
        ensembles: test split of each family.
        out: HDF5, a group for each family.
        table: CSV (`COLUMNS`).
    """
    task = json.loads(job)
    refuse_stale_files(task, results=list(results), ensembles=list(ensembles.values()))
    rows: list[dict[str, Any]] = []
    names = {key: task[key] for key in ("study", "problem", "method", "infer")}
    with hdf5.create(out) as file:
        file.attrs.update({**names, "spec_digest": hdf5.spec_digest(job)})
        for family, sources in progress(task["budgets"].items(), len(task["budgets"]), "budget"):
            found = of_family(
                {name: [(results[i], ensembles[task["families"][i]]) for i in each] for name, each in sources.items()},
                task["bins"],
                set(task["seeds"]),
                ensembles[family] if task["known"][family] else None,
            )
            _write(file.create_group(family), found)
            rows += [{**names, "family": family, **row} for row in _rows(found)]
    write_table(table, COLUMNS, rows)


def of_family(
    sources: Mapping[str, Sequence[tuple[Path, Path]]],
    bins: Mapping[str, Sequence[float]],
    seeds: set[str],
    known: Path | None,
) -> Budget:
    """The budget of one family.

    Args:
        sources: ``nominal`` and each source -> results with the ensembles that they were made from.
        bins: edges by feature.
        seeds: sources that are spreads over seeds.
        known: the ensemble whose truth is compared; None where it is unknown.

    Raises:
        EvaluationError: a feature that x does not have, or x is an array.
    """
    opened = _Results()
    nominal = sources["nominal"][0]
    field, first = opened.sample(*nominal)
    if not field.is_vector:
        raise EvaluationError(f"{nominal[0]}: x is an array; bins are of features: leave them out")
    if unknown := set(bins) - set(field.features):
        raise EvaluationError(f"uncertainties.bins: '{min(unknown)}' is no feature of x: {', '.join(field.features)}")
    positive = np.maximum(first.weight[:, 0], 0.0)
    edges = {
        name: np.asarray(bins[name], float) if name in bins else quantile_edges(first.x[:, j], positive)
        for j, name in enumerate(field.features)
    }
    contents = {nominal: _contents(first, edges)}
    for result in (each for results in sources.values() for each in results):
        # The seeds of the nominal method are a source of their own.
        if result not in contents:
            contents[result] = _contents(opened.sample(*result)[1], edges)
    content = np.mean([contents[result] for result in sources["nominal"]], axis=0)
    covariance, shifts = {"data": opened.statistical(*nominal, first, edges)}, {}
    for name, results in sources.items():
        if name == "nominal" or not results:
            continue
        own = np.array([contents[result] for result in results])
        if name in seeds:
            covariance[name] = np.cov(own.T)
        else:
            shifts[name] = own - contents[nominal]
            covariance[name] = shifts[name].T @ shifts[name] / len(own)
    covariance["total"] = np.sum(list(covariance.values()), axis=0)
    return Budget(edges, content, covariance, shifts, None if known is None else _truth(known, edges))


class _Results:
    """Reads results; what they share of their ensembles is read once."""

    @once
    def _weight_and_group(self, ensemble: Path) -> tuple[np.ndarray | None, np.ndarray]:
        with EnsembleReader(ensemble) as events:
            weight = events.read("weight").astype(np.float64) if "weight" in events.columns else None
            return weight, events.read("group")

    def sample(self, path: Path, ensemble: Path) -> tuple[Field, Sample]:
        """An unfolded distribution, or the weighted draws of a posterior, which answers the first events."""
        with hdf5.open_checked(path, ("unfolded", *PosteriorReader.kinds)) as file:
            is_unfolded = file.attrs["kind"] == "unfolded"
        if is_unfolded:
            reader = UnfoldedReader(path)
            if reader.unfolded.x is None or reader.unfolded.weight is None:
                raise EvaluationError(f"{path}: has bins and no weighted sample, which other bins could be filled from")
            return reader.x, Sample(reader.unfolded.x, reader.unfolded.weight, None)
        event, group = self._weight_and_group(ensemble)
        with PosteriorReader(path) as posterior:
            n, ok = posterior.n, posterior.read("ok")
            weight = posterior.draw_weights(None if event is None else event[:n])[ok]
            whose = np.broadcast_to(group[:n, None], ok.shape)[ok]
            return posterior.x, Sample(posterior.read("x")[ok], weight[:, None], whose)

    def statistical(self, path: Path, ensemble: Path, sample: Sample, edges: Mapping[str, np.ndarray]) -> np.ndarray:
        """The covariance of a result's contents by the finite data (bin, bin)."""
        covariance = _statistical(sample, edges)
        if sample.group is None:
            return covariance
        event, group = self._weight_and_group(ensemble)
        with PosteriorReader(path) as posterior:
            n, names = posterior.n, posterior.x.features
            finite = resampled(
                posterior,
                edges,
                lambda x: dict(zip(names, x.T, strict=True)),
                None if event is None else event[:n],
                group[:n],
                accepted=True,
            )
        found = None if finite is None else finite.added_to(covariance, own=True)
        return covariance if found is None else found


def _bins_of(x: np.ndarray, edges: Mapping[str, np.ndarray]) -> tuple[np.ndarray, int]:
    """The bin of each value among all features' (sample, feature), -1 outside, and the number of bins."""
    found = []
    for column, (name, bins) in zip(x.T, places(edges).items(), strict=True):
        cell = cells(column.astype(np.float64), edges[name])
        found.append(np.where(cell >= 0, cell + bins.start, -1))
    return np.stack(found, axis=1), sum(len(each) - 1 for each in edges.values())


def _contents(sample: Sample, edges: Mapping[str, np.ndarray], replica: int = 0) -> np.ndarray:
    index, bins = _bins_of(sample.x, edges)
    weight = np.broadcast_to(sample.weight[:, replica, None], index.shape)
    inside = index >= 0
    return np.bincount(index[inside], weights=weight[inside], minlength=bins)


def _statistical(sample: Sample, edges: Mapping[str, np.ndarray]) -> np.ndarray:
    """The covariance of the contents by the finite data (bin, bin)."""
    if sample.group is None:
        replicas = [_contents(sample, edges, r) for r in range(1, sample.weight.shape[1])]
        return np.cov(np.array(replicas).T) if len(replicas) > 1 else np.zeros(2 * (len(_contents(sample, edges)),))
    from scipy.sparse import coo_array

    index, bins = _bins_of(sample.x, edges)
    group = np.unique(sample.group, return_inverse=True)[1]
    rows = np.broadcast_to(group[:, None], index.shape)
    weight = np.broadcast_to(sample.weight[:, :1], index.shape)
    inside = index >= 0
    shape = (int(group.max()) + 1, bins)
    of_group = coo_array((weight[inside], (rows[inside], index[inside])), shape=shape).tocsr()
    covariance: np.ndarray = (of_group.T @ of_group).toarray()
    return covariance


def _truth(ensemble: Path, edges: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Contents of the truth, pairs and misses, and their variance by the finite number of truths."""
    with EnsembleReader(ensemble) as file:
        reader = file.pairs()
        x, weight, group = reader.read("x"), np.ones(reader.n), reader.read("group")
        if "weight" in reader.columns:
            weight = reader.read("weight").astype(np.float64)
        if file.missed is not None:
            x = np.concatenate([x, file.missed.x])
            weight = np.concatenate([weight, file.missed.weight])
            group = np.concatenate([group, file.missed.group])
    sample = Sample(x, weight[:, None], group)
    return _contents(sample, edges), np.diag(_statistical(sample, edges))


def _rows(found: Budget) -> list[dict[str, Any]]:
    """The table of one family: each feature, each source."""
    rows = []
    for feature in found.edges:
        bins = found.of(feature)
        content = found.content[bins]
        filled = content > 0
        for name, covariance in found.covariance.items():
            here = covariance[bins, bins]
            relative = np.sqrt(np.diag(here))[filled] / content[filled]
            row: dict[str, Any] = {"feature": feature, "source": name, "bins": int(filled.sum()), "chi2": ""}
            if len(relative):
                row |= {
                    "relative_median": float(np.median(relative)),
                    "relative_least": float(relative.min()),
                    "relative_most": float(relative.max()),
                }
            if found.truth is not None and name in ("data", "total"):
                value = chi2(found, feature, covariance + np.diag(found.truth[1]))
                row["chi2"] = "" if value is None else value
            rows.append(row)
    return rows


def chi2(found: Budget, feature: str, covariance: np.ndarray) -> float | None:
    """chi^2 per degree of freedom of a feature's contents and the truth's; None where the covariance has no rank.

    Args:
        found: with a truth.
        feature: of x.
        covariance: of the difference of all contents (bin, bin).
    """
    assert found.truth is not None
    both = Compared(found.edges, found.content, found.truth[0], covariance)
    result = chi_squared(both.of(feature))
    return None if result is None else result.value / result.rank


def _write(group: Any, found: Budget) -> None:
    group.attrs["features"] = list(found.edges)
    for feature, edges in found.edges.items():
        group[f"edges/{feature}"] = edges
    group["content"] = found.content
    for name, covariance in found.covariance.items():
        group[f"covariance/{name}"] = covariance
    for name, shifts in found.shifts.items():
        group[f"shifts/{name}"] = shifts
    if found.truth is not None:
        group["truth"], group["truth_variance"] = found.truth


def read_budgets(path: Path) -> dict[str, Budget]:
    """The budget of each family of a file."""
    import h5py

    with h5py.File(path, "r") as file:
        return {
            family: Budget(
                # Groups keep names in alphabetical order; the order of the bins is that of the features.
                {str(name): group[f"edges/{name}"][()] for name in group.attrs["features"]},
                group["content"][()],
                {name: data[()] for name, data in group["covariance"].items()},
                {name: data[()] for name, data in group.get("shifts", {}).items()},
                (group["truth"][()], group["truth_variance"][()]) if "truth" in group else None,
            )
            for family, group in file.items()
        }
