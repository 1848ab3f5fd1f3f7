"""Contents of bins of several features, with covariance: triangular discriminator, chi-squared, and what enters them.

Bins of one feature follow those of another along one axis. *Shares* are contents over their sum in each feature: a
shape. For sums S_g of a group of events (a collision) in bins, shares are p = sum_g S_g / s with s the sum over the
feature's bins, and their covariance, to first order, that of a cluster bootstrap in the limit of many replicas:

    G / (G - 1) sum_g psi_g psi_g^T,    psi_g = (S_g - p s_g) / s.

Two answers about the same events have a difference with psi_g - psi'_g in place of psi_g: what they have in common
drops out.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pullback.metrics.bootstrap import LEAST_GROUPS, MOST_GROUPS

QUANTILE_BINS = 10
"""Bins with equal numbers of truths, where a study names no edges."""

LEAST_EIGENVALUE = 1e-9
"""Eigenvalues of a correlation matrix below this fraction of the largest are zero: they do not count in the rank."""

Edges = Mapping[str, np.ndarray]
"""Edges of bins (bin + 1,) by feature."""


class Contents(NamedTuple):
    """Contents, or shares, of the bins of some features.

    Attributes:
        edges: by feature, in the order of the bins.
        value: (bin,).
        covariance: (bin, bin); None where it is not known.
        independent: number of groups or replicas that the covariance is estimated from; infinite where it is stated.
        joint: whether the covariance between features is known.
    """

    edges: Edges
    value: np.ndarray
    covariance: np.ndarray | None = None
    independent: float = np.inf
    joint: bool = True

    def of(self, feature: str) -> "Contents":
        """Those of one feature."""
        bins = places(self.edges)[feature]
        covariance = None if self.covariance is None else self.covariance[bins, bins]
        return Contents({feature: self.edges[feature]}, self.value[bins], covariance, self.independent)

    def shares(self) -> "Contents":
        """Contents over their sum in each feature."""
        total, jacobian = np.empty_like(self.value), np.eye(len(self.value))
        for bins in places(self.edges).values():
            total[bins] = self.value[bins].sum() or 1.0
            jacobian[bins, bins] -= (self.value[bins] / total[bins])[:, None]
        jacobian /= total[:, None]
        covariance = None if self.covariance is None else jacobian @ self.covariance @ jacobian.T
        return self._replace(value=self.value / total, covariance=covariance)

    def rebinned(self, edges: Edges) -> "Contents":
        """Sums of neighbouring bins where all of the wanted edges of a feature are among its own; else as they are."""
        chosen, matrices = dict(self.edges), []
        for name, own in self.edges.items():
            matrix = np.eye(len(own) - 1)
            wanted = edges.get(name)
            if wanted is not None:
                place = np.abs(own[:, None] - wanted).argmin(axis=0)
                if np.allclose(own[place], wanted, rtol=1e-9, atol=1e-12 * np.ptp(own)):
                    chosen[name] = own[place]
                    each = np.arange(len(own) - 1)
                    matrix = ((each >= place[:-1, None]) & (each < place[1:, None])).astype(np.float64)
            matrices.append(matrix)
        sums = np.zeros((sum(len(m) for m in matrices), len(self.value)))
        row = column = 0
        for matrix in matrices:
            sums[row : row + len(matrix), column : column + matrix.shape[1]] = matrix
            row, column = row + len(matrix), column + matrix.shape[1]
        covariance = None if self.covariance is None else sums @ self.covariance @ sums.T
        return self._replace(edges=chosen, value=sums @ self.value, covariance=covariance)


def places(edges: Edges) -> dict[str, slice]:
    """Where the bins of each feature are along the axis of all."""
    found, start = {}, 0
    for name, each in edges.items():
        found[name] = slice(start, start + len(each) - 1)
        start += len(each) - 1
    return found


def cells(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin of each value (...,), -1 outside the edges and of NaN; the last edge belongs to the last bin."""
    index = np.searchsorted(edges, values, side="right") - 1
    index[values == edges[-1]] = len(edges) - 2
    index[index > len(edges) - 2] = -1
    return index


def quantile_edges(values: np.ndarray, weight: np.ndarray | None = None, bins: int = QUANTILE_BINS) -> np.ndarray:
    """Edges from the least to the largest value, of bins with equal shares; fewer bins where values repeat.

    Shares are of the absolute weights: generators give negative ones, with which quantiles are not unique.
    """
    levels = np.linspace(0, 1, bins + 1)
    values = np.asarray(values, np.float64)
    if weight is None:
        return np.unique(np.quantile(values, levels))
    found: np.ndarray = np.unique(np.quantile(values, levels, weights=np.abs(weight), method="inverted_cdf"))
    return found


def group_sums(
    values: Mapping[str, np.ndarray], edges: Edges, weight: np.ndarray | None, group: np.ndarray, groups: int
) -> np.ndarray:
    """Sum of weights of each group in each bin, (group, bin).

    Args:
        values: of each event (event,), by feature.
        edges: of the bins.
        weight: (event,), or None for ones.
        group: number of each event's group (event,), below ``groups``.
        groups: how many there are.
    """
    found = []
    for name, each in edges.items():
        cell, bins = cells(values[name].astype(np.float64), each), len(each) - 1
        inside = cell >= 0
        flat = group[inside] * bins + cell[inside]
        weights = None if weight is None else weight[inside]
        found.append(np.bincount(flat, weights, minlength=groups * bins).reshape(groups, bins))
    return np.concatenate(found, axis=1, dtype=np.float64)


def numbered(*groups: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Groups (event,) of several samples with common numbers from 0 on, and how many there are.

    Above `MOST_GROUPS` groups are merged into as many clusters: the covariance is the same, memory stays bounded.
    """
    number = np.unique(np.concatenate(groups), return_inverse=True)[1] % MOST_GROUPS
    return np.split(number, np.cumsum([len(g) for g in groups])[:-1]), int(number.max()) + 1


def influences(sums: np.ndarray, edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    """Shares (bin,) of group sums (group, bin), and psi of each group (group, bin); 0 where all bins are empty."""
    value, psi = sums.sum(axis=0), np.empty_like(sums)
    for bins in places(edges).values():
        total = value[bins].sum() or 1.0
        value[bins] /= total
        psi[:, bins] = (sums[:, bins] - value[bins] * sums[:, bins].sum(axis=1, keepdims=True)) / total
    return value, psi


def shares_of(sums: np.ndarray, edges: Edges, effective: float) -> Contents:
    """Shares of group sums (group, bin) with their covariance; None with fewer than five effective groups."""
    value, psi = influences(sums, edges)
    return Contents(edges, value, _spread(psi, effective), effective)


def counts_of(sums: np.ndarray, edges: Edges, effective: float) -> Contents:
    """Sums over groups (group, bin) with the covariance of a Poisson number of groups."""
    covariance = None if effective < LEAST_GROUPS else sums.T @ sums
    return Contents(edges, sums.sum(axis=0), covariance, effective)


def _spread(psi: np.ndarray, effective: float) -> np.ndarray | None:
    """Covariance from influences (group, bin), with the correction for the mean that is the groups' own."""
    if effective < LEAST_GROUPS:
        return None
    found: np.ndarray = psi.T @ psi * (effective / (effective - 1))
    return found


class Compared(NamedTuple):
    """An estimate beside the truth in the same bins.

    Attributes:
        edges: by feature.
        ours, theirs: (bin,).
        covariance: of ours - theirs (bin, bin); None where it is not known.
        independent: number of groups or replicas behind it, the least.
        joint: whether the covariance between features is known.
    """

    edges: Edges
    ours: np.ndarray
    theirs: np.ndarray
    covariance: np.ndarray | None
    independent: float = np.inf
    joint: bool = True

    def of(self, feature: str) -> "Compared":
        """Those of one feature."""
        bins = places(self.edges)[feature]
        covariance = None if self.covariance is None else self.covariance[bins, bins]
        edges = {feature: self.edges[feature]}
        return Compared(edges, self.ours[bins], self.theirs[bins], covariance, self.independent)

    @property
    def difference(self) -> np.ndarray:
        """Ours - theirs (bin,)."""
        return self.ours - self.theirs

    def triangular(self, difference: np.ndarray | None = None) -> np.ndarray:
        """Triangular discriminator, 1/2 sum (P - Q)^2 / (P + Q) over bins (...,).

        P and Q are shares: with densities p = P / width this is 1/2 sum width (p - q)^2 / (p + q). It is 0 of equal
        distributions and 1 of distributions that share no bin.

        Args:
            difference: in place of that of ours and theirs (..., bin); their sum stays.
        """
        both = self.ours + self.theirs
        found: np.ndarray = 0.5 * (
            np.square(self.difference if difference is None else difference) / np.where(both > 0, both, np.inf)
        ).sum(axis=-1)
        return found

    def draws(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Replicas of the difference (replica, bin), normal with its covariance; none where that is not known."""
        if self.covariance is None or not count:
            return np.empty((0, len(self.ours)))
        values, vectors = np.linalg.eigh(self.covariance)
        normal = rng.standard_normal((count, len(values))) * np.sqrt(np.maximum(values, 0.0))
        return self.difference + normal @ vectors.T


def beside(ours: Contents, theirs: Contents) -> Compared:
    """Independent estimates in the same bins: their covariances add."""
    covariance = None
    if ours.covariance is not None and theirs.covariance is not None:
        covariance = ours.covariance + theirs.covariance
    least = min(ours.independent, theirs.independent)
    return Compared(ours.edges, ours.value, theirs.value, covariance, least, ours.joint and theirs.joint)


def paired(ours: np.ndarray, theirs: np.ndarray, edges: Edges, effective: float) -> Compared:
    """Shares of two answers about the same events, from their sums of each group (group, bin)."""
    (p, psi), (q, other) = influences(ours, edges), influences(theirs, edges)
    return Compared(edges, p, q, _spread(psi - other, effective), effective)


def paired_counts(ours: np.ndarray, theirs: np.ndarray, edges: Edges, effective: float) -> Compared:
    """Contents of two answers about the same events, from their sums of each group (group, bin)."""
    apart = ours - theirs
    covariance = None if effective < LEAST_GROUPS else apart.T @ apart
    return Compared(edges, ours.sum(axis=0), theirs.sum(axis=0), covariance, effective)


class ChiSquared(NamedTuple):
    """chi^2 of a difference, with its degrees of freedom, the rank of the covariance.

    Attributes:
        value: d^T C^+ d.
        rank: of C.
        inverse: C^+ (bin, bin), the pseudo-inverse.
    """

    value: float
    rank: int
    inverse: np.ndarray

    def of(self, differences: np.ndarray) -> np.ndarray:
        """chi^2 of other differences (..., bin)."""
        found: np.ndarray = np.einsum("...i,ij,...j->...", differences, self.inverse, differences)
        return found


def chi_squared(compared: Compared) -> ChiSquared | None:
    """chi^2 with the full covariance; None where that is not known or estimated from too few replicas.

    Eigenvalues of the correlation matrix below `LEAST_EIGENVALUE` of the largest count as zero: shares have one in each
    feature, as they sum to one. An inverse of a covariance from R replicas is too large by (R - 1) / (R - k - 2), k the
    rank (Hartlap, Simon and Schneider 2007): it is divided by that, and no number is given for R < 2 k.
    """
    if compared.covariance is None:
        return None
    deviation = np.sqrt(np.maximum(np.diag(compared.covariance), 0.0))
    scale = np.where(deviation > 0, deviation, np.inf)
    values, vectors = np.linalg.eigh(compared.covariance / np.outer(scale, scale))
    kept = values > LEAST_EIGENVALUE * max(float(values[-1]), 0.0)
    rank = int(kept.sum())
    if not rank or compared.independent < 2 * rank:
        return None
    bias = 1.0
    if np.isfinite(compared.independent):
        count = max(compared.independent, rank + 3.0)
        bias = (count - rank - 2) / (count - 1)
    root = vectors[:, kept] / np.sqrt(values[kept]) / scale[:, None]
    inverse = bias * root @ root.T
    difference = compared.difference
    return ChiSquared(float(difference @ inverse @ difference), rank, inverse)
