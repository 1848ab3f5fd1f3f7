"""Arrays that the report draws for one method: example posteriors of fields, spectra of features.

Layout (HDF5): attributes problem, method, method_kind, returns; a group ``<infer>/<seed>/<family>`` for each result
with attributes title, role, shift and kind, ``"fields"`` or ``"features"``.

fields: the first events: ``y`` (event, *y), ``mean`` and ``std`` (unbiased variance) over successful draws (event, *x),
``draws`` (event, 2, *x; NaN where failed), ``truth`` (event, *x) where it is known; attributes x_dims, y_dims, x_units,
y_units.

features: a group for each one: ``edges`` (bin + 1,), ``unfolded`` counts of one draw of each event (bin,) with
``unfolded_error`` and ``ratio_error`` (bootstrap standard deviation of the counts, and of unfolded / truth, by
group), ``truth`` and ``observed`` counts where known, attributes unit and place (its number in x). Events outside the
edges are in no bin. Counts of weighted events are in effective ones: their sum is (sum w)^2 / sum w^2. Attribute
truths: ``"pairs"``, or ``"all"`` where the counts are those before the detector, misses included and fakes taken away.
With two features ``points_draws`` and ``points_truth`` (point, 2).

features of seen families, where x and y have one of the same name: ``migration`` (observed_bin, truth_bin), the share
of the pairs of each truth bin that are observed in each bin, its ``migration_edges``, ``bin_purity`` (observed_bin),
the share of the pairs of an observed bin that come from it, and ``efficiency`` (truth_bin), the share of truths that
are observed, where misses are recorded.

features of an unfolded distribution: ``correlation`` (joint_bin, other_joint_bin) of its bins, one feature after the
other, attributes features and bins, the number of each; NaN where it is not known.

Either: ``ranks`` (quantity, rank_bin), the share of truths whose rank among the draws is in each bin of [0, 1],
attributes quantities and events (the least effective number); ``coverage`` (reference, level), the expected coverage at
equally spaced levels from 0 to 1, attributes references and events. Where there is a truth, and draws enough.

Either: ``marginals`` (noise_level, state_bin), densities of the particles of one observation on their way from noise,
in bins with ``marginals_edges`` of x / sqrt(1 + t^2) about its mean, at the noise levels ``marginals_levels`` t of x in
units of its standard deviation; ``marginals_exact``, those of the exact posterior with that noise, where it is known;
attributes quantity, unit and event. For samplers that go from noise to one or two unknowns.

Either: ``misfit`` (simulated,), median over draws, of events that were simulated again; the first are the examples, and
``again`` (event, *y) holds the simulation of one draw of each, NaN where all failed.

Axes have these names as dimensions of netCDF: xarray opens the file as a tree.
"""

from collections.abc import Sequence

import h5py
import numpy as np
from scipy.special import ndtr

from pullback.core.particles import freedom
from pullback.ensembles import hdf5
from pullback.ensembles.fields import Field
from pullback.ensembles.marginals import Marginals
from pullback.metrics.bootstrap import Replicas
from pullback.metrics.contents import Contents, cells, places

BINS = 30
QUANTILES = (0.002, 0.998)
POINTS = 2000
STATES = 80
"""Bins of particles on their way from noise."""

SPREAD = 2.5
"""Standard deviations of x about its mean that they cover at least."""

LEAST_PARTICLES = 50
"""Fewer have no density."""


def bin_edges(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Edges of equal bins (geometric ones for a quantity on a logarithmic scale) over the bulk of the values.

    Of whole numbers, such as a number of jets, each bin holds as many of them.
    """
    low, high = np.quantile(values, QUANTILES)
    if (values == np.round(values)).all():
        low, high = np.floor(low), np.ceil(high)
        each = np.ceil((high - low + 1) / BINS)
        return low - 0.5 + each * np.arange(np.ceil((high - low + 1) / each) + 1)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    if logarithmic and low > 0:
        return np.geomspace(low, high, BINS + 1)
    return np.linspace(low, high, BINS + 1)


def _bins(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Each event's bin as a row of zeros and at most a one, (event, bin)."""
    return (cells(values, edges)[:, None] == np.arange(len(edges) - 1)).astype(np.float64)


def write_features(
    group: h5py.Group,
    x: Field,
    y: Field,
    draws: np.ndarray,
    truth: np.ndarray | None,
    observed: np.ndarray,
    replicas: Replicas,
) -> None:
    """Histograms and points of a vector. Edges come from the truth or else the observation: one set for all methods.

    Args:
        group: the result's group.
        x, y: fields.
        draws: one of each event (event, component), NaN where failed.
        truth, observed: (event, component); no truth is None.
        replicas: bootstrap over these events.
    """
    ones = np.ones(len(draws)) if replicas.weight is None else replicas.weight
    # So many weighted events count as many equal ones: what is read as a number of events is one.
    unit = ones.sum() / np.square(ones).sum()
    for j, name in enumerate(x.features):
        seen = observed[:, y.features.index(name)] if name in y.features else None
        true = None if truth is None else truth[:, j]
        good = np.isfinite(draws[:, j])
        found = np.where(good, draws[:, j], -np.inf)
        guide = true if true is not None else seen if seen is not None else found[good]
        if not len(guide):
            continue
        edges = bin_edges(guide.astype(np.float64), x.transforms[j] in ("log", "log1p"))
        feature = group.create_group(name)
        feature.attrs.update(unit=x.units[j], place=j, truths="pairs")
        feature["edges"] = edges
        hits = unit * _bins(found, edges)
        feature["unfolded"] = ones @ hits
        spread = replicas.sums(hits)
        if replicas.count:
            feature["unfolded_error"] = spread.std(axis=0)
        if true is not None:
            true_hits = unit * _bins(true, edges)
            feature["truth"] = ones @ true_hits
            if replicas.count:
                base = replicas.sums(true_hits)
                ratio = np.where(base > 0, spread / np.where(base > 0, base, 1.0), np.nan)
                # A bin that is empty in every replica has no ratio.
                known = np.isfinite(ratio).any(axis=0)
                error = np.full(len(edges) - 1, np.nan)
                error[known] = np.nanstd(ratio[:, known], axis=0)
                feature["ratio_error"] = error
        if seen is not None:
            feature["observed"] = ones @ (unit * _bins(seen, edges))
    if len(x.features) == 2:
        good = np.isfinite(draws).all(axis=1)
        group["points_draws"] = draws[good][:POINTS]
        if truth is not None:
            group["points_truth"] = truth[good][:POINTS]


def write_correlation(group: h5py.Group, parts: Sequence[Contents]) -> None:
    """Correlation of bins; between those of different parts, or of a part that is not joint, it is not known.

    Args:
        group: the result's group.
        parts: contents of different features.
    """
    known = [part for part in parts if part.covariance is not None]
    edges = {name: each for part in known for name, each in part.edges.items()}
    if not edges:
        return
    found, start = np.full((sum(len(part.value) for part in known),) * 2, np.nan), 0
    for part in known:
        for places_of in [slice(0, len(part.value))] if part.joint else places(part.edges).values():
            assert part.covariance is not None
            block = part.covariance[places_of, places_of]
            scale = np.sqrt(np.diag(block))
            here = slice(start + places_of.start, start + places_of.stop)
            found[here, here] = block / np.outer(*2 * [np.where(scale > 0, scale, np.nan)])
        start += len(part.value)
    group["correlation"] = found
    group["correlation"].attrs.update(features=list(edges), bins=[len(each) - 1 for each in edges.values()])


def write_fields(
    group: h5py.Group,
    x: Field,
    y: Field,
    draws: np.ndarray,
    weight: np.ndarray,
    observed: np.ndarray,
    truth: np.ndarray | None,
) -> None:
    """Example posteriors of arrays.

    Args:
        group: the result's group.
        x, y: fields.
        draws: (event, draw, *x), NaN where failed.
        weight: (event, draw), 0 where failed; normalised here.
        observed: (event, *y).
        truth: (event, *x) or None.
    """
    total = weight.sum(axis=1, keepdims=True)
    share = (weight / np.where(total > 0, total, np.nan)).reshape(*weight.shape, *(1,) * len(x.shape))
    filled = np.nan_to_num(draws.astype(np.float64))
    mean = (share * filled).sum(axis=1)
    std = np.sqrt((share * (filled - mean[:, None]) ** 2).sum(axis=1) / freedom(share, 1))
    group["y"] = observed
    group["mean"], group["std"] = mean.astype(np.float32), std.astype(np.float32)
    group["draws"] = draws[:, :2]
    if truth is not None:
        group["truth"] = truth
    group.attrs.update(x_dims=list(x.dims), y_dims=list(y.dims), x_units=x.units[0], y_units=y.units[0])


def write_marginals(group: h5py.Group, x: Field, found: Marginals, exact: np.ndarray | None, event: int) -> None:
    """Densities of a sampler's particles at each noise level, and the exact ones.

    Args:
        group: the result's group.
        x: field.
        found: of one observation.
        exact: draws of its exact posterior (draw,), the first quantity; None where it is not known.
        event: its number in the family.
    """
    if found.state.shape[1] < LEAST_PARTICLES:
        return
    states, noise = found.bounded(), np.hypot(1, found.level)[:, None]
    centre = states if exact is None else exact
    inner, outer = np.nanquantile(centre, QUANTILES)
    low, high = found.mean - SPREAD * found.std, found.mean + SPREAD * found.std
    edges = np.linspace(min(low, inner), max(high, outer), STATES + 1)
    each = (np.histogram(row, edges, weights=weight)[0] for row, weight in zip(states, found.weight, strict=True))
    group["marginals"] = np.array(list(each)) / np.diff(edges)
    group["marginals_levels"], group["marginals_edges"] = found.level, edges
    group["marginals"].attrs.update(quantity=x.features[0], unit=x.units[0], event=event)
    if exact is None:
        return
    middle = found.mean + (exact - found.mean) / noise
    # Of a draw with noise t, within a bin as if the bin were as much wider: the steps of few draws are no structure.
    width = np.hypot(found.std * found.level[:, None] / noise, np.diff(edges)[0])
    below = np.stack([ndtr((edge - middle) / width).mean(axis=1) for edge in edges], axis=1)
    group["marginals_exact"] = np.diff(below, axis=1) / np.diff(edges)


def write_resimulated(group: h5py.Group, misfit: np.ndarray, first: np.ndarray) -> None:
    """What came of simulating draws again.

    Args:
        group: the result's group, which has its example posteriors where x is an array.
        misfit: (event,), the median over draws.
        first: (event, component of y), the simulation of one draw; NaN where all failed.
    """
    group["misfit"] = misfit
    if "y" in group:
        shape = group["y"].shape
        group["again"] = first[: shape[0]].reshape(-1, *shape[1:])


COUNTS = dict.fromkeys(("unfolded", "unfolded_error", "ratio_error", "truth", "observed"), ("bin",)) | {
    "migration": ("observed_bin", "truth_bin"),
    "migration_edges": ("migration_edge",),
    "bin_purity": ("observed_bin",),
    "efficiency": ("truth_bin",),
}
RESULT = {
    "ranks": ("quantity", "rank_bin"),
    "coverage": ("reference", "level"),
    "misfit": ("simulated",),
    "correlation": ("joint_bin", "other_joint_bin"),
    "marginals": ("noise_level", "state_bin"),
    "marginals_exact": ("noise_level", "state_bin"),
    "marginals_levels": ("noise_level",),
    "marginals_edges": ("state_edge",),
    "points_draws": ("point_drawn", "component"),
    "points_truth": ("point", "component"),
}


def name_dimensions(group: h5py.Group) -> None:
    """Name the axes of every array in a file of examples, once all are written."""
    x, y = (("event", *group.attrs.get(dims, ())) for dims in ("x_dims", "y_dims"))
    arrays = {"y": y, "again": y, "mean": x, "std": x, "truth": x, "draws": ("event", "draw", *x[1:])}
    known = COUNTS | {"edges": ("edge",)} if "edges" in group else RESULT | arrays
    for name, item in list(group.items()):
        if isinstance(item, h5py.Group):
            name_dimensions(item)
        else:
            # A group may be of a feature with the name of a dimension.
            taken = [isinstance(group.get(dim), h5py.Group) for dim in known[name]]
            dims = (f"{dim}_axis" if other else dim for dim, other in zip(known[name], taken, strict=True))
            hdf5.attach(group, item, tuple(dims))
