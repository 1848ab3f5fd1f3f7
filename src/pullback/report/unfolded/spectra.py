"""Contents of bins with their covariance, from weighted rows or from bins that are there.

The covariance of weighted rows is that of their replicas, over R - 1. Rows without replicas that belong to groups
(draws: all of a collision) have sum over groups g of c_g c_g^T, c_g the contents of the group: the covariance of a
Poisson bootstrap of the groups, without its randomness.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pullback.ensembles import hdf5
from pullback.ensembles.unfolded import Bins
from pullback.report.export import ExportError
from pullback.report.unfolded.rows import BLOCK_ROWS, Rows, refuse_unknown
from pullback.study import paths

GROUPS = 8192
"""Groups whose contents are in memory at once."""


class Spectra(NamedTuple):
    """Contents of the bins of some features.

    Attributes:
        edges: (bin + 1,) by feature.
        content: (entry,), one feature after the other: of each its bins, and then all rows, inside the bins or not.
        covariance: of the contents (entry, entry); None where nothing states it.
        joint: whether it is known between features; else it is 0 there.
    """

    edges: Mapping[str, np.ndarray]
    content: np.ndarray
    covariance: np.ndarray | None
    joint: bool

    def part(self, feature: str) -> slice:
        """The entries of one feature: its bins and all rows."""
        ends = np.cumsum([len(edges) for edges in self.edges.values()])
        place = list(self.edges).index(feature)
        return slice(int(ends[place]) - len(self.edges[feature]), int(ends[place]))

    def bins(self, feature: str) -> Bins:
        """One feature alone; a covariance that nothing states is NaN."""
        part = self.part(feature)
        inside = slice(part.start, part.stop - 1)
        size = part.stop - 1 - part.start
        covariance = np.full((size, size), np.nan) if self.covariance is None else self.covariance[inside, inside]
        return Bins(self.edges[feature], self.content[inside], covariance)


def spectra_of(rows: Rows, edges: Mapping[str, np.ndarray]) -> Spectra:
    """Contents of the bins of some features and their joint covariance.

    Bins hold their lower edge, the last also its upper one. Rows that are NaN (failed draws) are in no bin.

    Args:
        rows: unfolded events, or bins, which are added up.
        edges: (bin + 1,) by feature, increasing.

    Raises:
        ExportError: there is no such feature, edges do not increase, or those of existing bins cannot be added up.
    """
    edges = {name: np.asarray(values, np.float64) for name, values in edges.items()}
    for name, values in edges.items():
        refuse_unknown(name, rows)
        if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all() or not (np.diff(values) > 0).all():
            raise ExportError(f"edges of {name}: found {values.tolist()}, wanted two or more increasing numbers")
    replicas = rows.columns["replica_weight"].shape[0] if "replica_weight" in rows.columns else 0
    # Of rows that state no covariance the method's own bins may.
    stated = replicas > 1 or "group" in rows.columns
    if rows.n and (stated or not set(edges) <= set(rows.bins)):
        return _counted(rows, edges)
    return _merged(rows, edges)


def usual_edges(rows: Rows) -> dict[str, np.ndarray]:
    """Edges of the method's own bins, or else of the spectra in the study's metrics.

    Raises:
        ExportError: neither is there.
    """
    if rows.bins:
        return {name: bins.edges for name, bins in rows.bins.items()}
    said = rows.metadata
    name = Path(paths.figures(said["study"], said["problem"], said["method"]))
    for folder in (Path(), *rows.path.absolute().parents):
        if (folder / name).exists():
            with hdf5.open_any(folder / name) as file:
                group = file.get(f"{said['infer']}/{said['seeds']['repeat']}/{said['family']}", {})
                if found := {each: group[each]["edges"][()] for each in said["features"] if each in group}:
                    return found
    raise ExportError(
        f"{rows.path}: the edges of the bins are not known, for {name} has no spectra of it: give them, "
        f"--bins {next(iter(said['features']))}=EDGE,EDGE,..."
    )


def _counted(rows: Rows, edges: Mapping[str, np.ndarray]) -> Spectra:
    has_replicas, has_groups = "replica_weight" in rows.columns, "group" in rows.columns
    of_weights = ["weight", *(["replica_weight"] if has_replicas else [])]
    size = sum(map(len, edges.values()))
    total = np.zeros((1 + (rows.columns["replica_weight"].shape[0] if has_replicas else 0), size))
    groups = _Groups(size, _in_order(rows)) if has_groups and not has_replicas else None
    for start in range(0, rows.n, BLOCK_ROWS):
        names = [*edges, *of_weights, *(["group"] if has_groups else [])]
        block = rows.read(names, start, min(start + BLOCK_ROWS, rows.n))
        weight = np.column_stack([block[name] for name in of_weights])
        number = _bins(block, edges)
        for column in number.T:
            inside = np.flatnonzero(column >= 0)
            order = inside[np.argsort(column[inside], kind="stable")]
            there, first = np.unique(column[order], return_index=True)
            if len(there):
                total[:, there] += np.add.reduceat(weight[order], first, axis=0).T
        if groups:
            groups.add(block["group"], number, weight[:, 0])
    covariance = groups.covariance() if groups else np.cov(total[1:].T) if len(total) > 2 else None
    return Spectra(edges, total[0], covariance, True)


def _in_order(rows: Rows) -> bool:
    """Whether the numbers of the groups do not fall."""
    last = -np.inf
    for start in range(0, rows.n, BLOCK_ROWS):
        group = rows.read(["group"], start, min(start + BLOCK_ROWS, rows.n))["group"]
        if group[0] < last or (np.diff(group) < 0).any():
            return False
        last = group[-1]
    return True


def _bins(block: Mapping[str, np.ndarray], edges: Mapping[str, np.ndarray]) -> np.ndarray:
    """Entries that each row is in (row, 2 features): of each feature its bin, -1 for none, and that of all rows."""
    found, first = [], 0
    for name, values in edges.items():
        x = block[name].astype(np.float64)
        number = np.searchsorted(values, x, side="right") - 1 + first
        number[x == values[-1]] -= 1
        number[~((x >= values[0]) & (x <= values[-1]))] = -1
        first += len(values)
        found += [number, np.full(len(x), first - 1)]
    return np.column_stack(found)


class _Groups:
    """The sum over groups of c c^T, c the contents of one group.

    Args:
        size: of c.
        in_order: whether the numbers of the groups do not fall: those before the last are then complete.
    """

    def __init__(self, size: int, in_order: bool):
        self._in_order = in_order
        self._sum = np.zeros((size, size))
        # Of groups that may go on: group, entry and weight.
        self._open: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, group: np.ndarray, number: np.ndarray, weight: np.ndarray) -> None:
        """Add rows: group and weight (row,), and the entries that each is in (row, column), -1 for none."""
        columns = number.shape[1]
        inside = number.ravel() >= 0
        new = np.repeat(group, columns)[inside], number.ravel()[inside], np.repeat(weight, columns)[inside]
        self._open.append(_summed(*new))
        if self._in_order:
            self._close(group[-1])

    def _close(self, last: float) -> None:
        """Add the open groups with lower numbers to the sum."""
        group, number, weight = _summed(*(np.concatenate(parts) for parts in zip(*self._open, strict=True)))
        end = int(np.searchsorted(group, last))
        self._open = [(group[end:], number[end:], weight[end:])]
        group, number, weight = group[:end], number[:end], weight[:end]
        index = np.unique(group, return_inverse=True)[1]
        for start in range(0, int(index[-1]) + 1 if len(index) else 0, GROUPS):
            some = slice(*np.searchsorted(index, [start, start + GROUPS]))
            contents = np.zeros((GROUPS, len(self._sum)))
            contents[index[some] - start, number[some]] = weight[some]
            self._sum += contents.T @ contents

    def covariance(self) -> np.ndarray:
        """The sum over all groups."""
        self._close(np.inf)
        return self._sum


def _summed(group: np.ndarray, number: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of the weights of each group in each entry, by group."""
    order = np.lexsort((number, group))
    group, number, weight = group[order], number[order], weight[order]
    new = np.flatnonzero(np.append(True, (np.diff(group) != 0) | (np.diff(number) != 0))) if len(group) else order
    return group[new], number[new], np.add.reduceat(weight, new) if len(new) else weight


def _merged(rows: Rows, edges: Mapping[str, np.ndarray]) -> Spectra:
    """Bins added up."""
    matrix = adding(rows.path, {name: bins.edges for name, bins in rows.bins.items()}, edges)
    contents = np.concatenate([bins.content for bins in rows.bins.values()])
    joint = rows.joint
    if joint is None:
        joint, start = np.zeros((len(contents),) * 2), 0
        for name, bins in rows.bins.items():
            stop = start + len(bins.content)
            if name in edges:
                joint[start:stop, start:stop] = bins.covariance
            start = stop
    covariance = matrix @ joint @ matrix.T
    known = covariance if np.isfinite(covariance).all() else None
    return Spectra(edges, matrix @ contents, known, rows.joint is not None)


def adding(path: Path, own: Mapping[str, np.ndarray], edges: Mapping[str, np.ndarray]) -> np.ndarray:
    """What adds bins up to the entries of `Spectra` (entry, own bin); "all rows" of a feature are all its bins.

    Args:
        path: the file, for messages.
        own: edges of the bins that there are, by feature.
        edges: those wanted.

    Raises:
        ExportError: there are no bins of a feature, or wanted edges are not among theirs.
    """
    ends = dict(zip(own, np.cumsum([len(each) - 1 for each in own.values()]).tolist(), strict=True))
    matrix = np.zeros((sum(map(len, edges.values())), sum(len(each) - 1 for each in own.values())))
    first = 0
    for name, values in edges.items():
        if name not in own:
            raise ExportError(f"{path}: has no bins of '{name}', only of {', '.join(own)}")
        place = np.abs(own[name][:, None] - values).argmin(axis=0)
        if not np.allclose(own[name][place], values, rtol=1e-9, atol=0):
            raise ExportError(
                f"{path}: has bins of {name} with edges {', '.join(f'{edge:g}' for edge in own[name])}: bins can be "
                "added up, not divided: give some of these"
            )
        count = len(own[name]) - 1
        part = matrix[first : first + len(values), ends[name] - count : ends[name]]
        part[:-1] = (np.arange(count) >= place[:-1, None]) & (np.arange(count) < place[1:, None])
        part[-1] = 1
        first += len(values)
    return matrix
