"""Unfolded events as one table, whichever file they are in.

Of a posterior a row is a draw of an event: the features of x, ``weight`` (the event's weight, shared by its draws in
the ratio of their weights, times purity / efficiency where the method gives them; 0 of a failed draw), ``event_id``,
``draw``, ``log_weight``, ``ok``, ``purity``, ``efficiency``, and the columns of the ensemble, among which the event's
own weight is ``event_weight``. Of an unfolded distribution a row is a truth: the features, ``weight`` (nominal) and
``replica_weight`` (replica,).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from pullback.ensembles.fields import Field
from pullback.ensembles.unfolded import Bins, UnfoldedReader
from pullback.registry import did_you_mean
from pullback.report.export import ExportError, Source
from pullback.report.unfolded.metadata import Content, metadata_of, weights_of_draws

BLOCK_ROWS = 65_536
"""Rows in memory at once, of what is counted."""

FLOAT, INT = np.dtype(np.float64), np.dtype(np.int64)


class Rows(Protocol):
    """Unfolded events.

    Attributes:
        path: the file.
        n: number of rows; 0 where there are only bins.
        columns: name -> dtype, with a shape where a row has several numbers.
        bins: contents with covariance that a binned method gave, by feature.
        joint: covariance of the bins of all features, one feature after the other (bin, bin), where it is known.
        metadata: plain values; ``features`` has the unit of each feature.
    """

    path: Path
    n: int
    columns: Mapping[str, np.dtype]
    bins: Mapping[str, Bins]
    joint: np.ndarray | None
    metadata: dict[str, Any]

    def read(self, names: Iterable[str], start: int, stop: int) -> dict[str, np.ndarray]:
        """Rows ``start`` to ``stop`` (less than or equal to n) of some columns."""
        ...

    def close(self) -> None:
        """Close every file."""
        ...


class DrawRows:
    """The draws of a posterior, event by event.

    Args:
        source: the posterior, with its ensemble.
        events: which of its events; all when None.

    Raises:
        ExportError: x is not a vector, a feature has the name of a column, or the ensemble is not there.
    """

    bins: Mapping[str, Bins] = MappingProxyType({})
    joint: np.ndarray | None = None

    def __init__(self, source: Source, events: range | None = None):
        assert source.draws
        self.path, self._source, self._posterior = source.path, source, source.draws
        self._events = range(source.n) if events is None else events
        self._draws = self._posterior.draws
        self.n = len(self._events) * self._draws
        kept = {_of_event(name): dtype for name, dtype in source.columns.types.items()}
        own: dict[str, np.dtype] = {
            "weight": FLOAT,
            "event_id": INT,
            "draw": np.dtype(np.int32),
            "log_weight": FLOAT,
            "ok": np.dtype("i1"),
        }
        single = np.dtype(np.float32)
        self._acceptance = {each: single for each in ("purity", "efficiency") if each in self._posterior.columns}
        self.columns: Mapping[str, np.dtype] = _columns(
            self._posterior.x, self.path, {**own, **self._acceptance, **kept}
        )
        made = next(self._posterior.piece_attributes())[2]
        failed = 0
        for start in range(self._events.start, self._events.stop, BLOCK_ROWS):
            ok = self._posterior.read("ok", start, min(start + BLOCK_ROWS, self._events.stop))
            failed += int((~ok).sum())
        self.metadata = {
            **metadata_of("draws", self._posterior.x, made, self.path, self._posterior.digest, source.events),
            "weights": weights_of_draws(list(self._acceptance)),
            "events": len(self._events),
            "draws": self._draws,
            "failed_draws": failed,
        }

    def read(self, names: Iterable[str], start: int, stop: int) -> dict[str, np.ndarray]:
        """Rows of some columns; a failed draw is NaN with ``ok`` 0."""
        names, k = set(names), self._draws
        first, last = start // k, -(-stop // k)
        low, high = self._events.start + first, self._events.start + last
        inside = slice(start - first * k, stop - first * k)
        found: dict[str, np.ndarray] = {}
        features = self._posterior.x.features
        if names & set(features):
            x = self._posterior.read("x", low, high).reshape(-1, len(features))[inside]
            found |= {name: np.ascontiguousarray(x[:, j]) for j, name in enumerate(features)}
        kept = {_of_event(name): values for name, values in self._source.columns.read(low, high).items()}
        if "weight" in names:
            found["weight"] = self._posterior.draw_weights(kept.get("event_weight"), low, high).ravel()[inside]
        for name in {"log_weight", "ok", "efficiency"} & names & set(self.columns):
            found[name] = self._posterior.read(name, low, high).ravel()[inside].astype(self.columns[name])
        for name in {"event_id", "purity"} & names & set(self.columns):
            kept[name] = self._posterior.read(name, low, high)
        found |= {name: np.repeat(values, k)[inside] for name, values in kept.items()}
        found["draw"] = np.tile(np.arange(k, dtype=np.int32), last - first)[inside]
        return {name: found[name] for name in self.columns if name in names}

    def close(self) -> None:
        """The source closes its files."""


def _of_event(name: str) -> str:
    return "event_weight" if name == "weight" else name


class DistributionRows:
    """The truths of an unfolded distribution, or its bins alone.

    Args:
        path: the file of the study.

    Raises:
        ExportError: x is not a vector, or a feature has the name of a column.
        pullback.core.atomic.StoreError: the file is missing or damaged.
    """

    def __init__(self, path: Path):
        self.path, self._reader = path, UnfoldedReader(path)
        x, replicas = self._reader.x, self._reader.replicas - 1
        self.n = self._reader.samples
        self.bins: Mapping[str, Bins] = self._reader.bins
        self.joint: np.ndarray | None = self._reader.joint
        weights: dict[str, np.dtype] = {"weight": FLOAT} if self.n else {}
        if replicas > 0:
            weights["replica_weight"] = np.dtype((np.float64, (replicas,)))
        self.columns: Mapping[str, np.dtype] = _columns(x, path, weights) if self.n else {}
        content: Content = "distribution" if self.n else "spectra"
        self.metadata = metadata_of(content, x, self._reader.attributes, path, self._reader.digest)
        self.metadata["replicas"] = max(replicas, 0)

    def read(self, names: Iterable[str], start: int, stop: int) -> dict[str, np.ndarray]:
        """Rows of some columns."""
        names, features = set(names), self._reader.x.features
        found: dict[str, np.ndarray] = {}
        if names & set(features):
            x = self._reader.read("x", start, stop)
            found |= {name: np.ascontiguousarray(x[:, j]) for j, name in enumerate(features)}
        if names & {"weight", "replica_weight"}:
            weight = self._reader.read("weight", start, stop)
            found["weight"] = np.ascontiguousarray(weight[:, 0])
            found["replica_weight"] = np.ascontiguousarray(weight[:, 1:])
        return {name: found[name] for name in self.columns if name in names}

    def close(self) -> None:
        """No file is open."""


def _columns(x: Field, path: Path, more: Mapping[str, np.dtype]) -> dict[str, np.dtype]:
    if not x.is_vector:
        raise ExportError(f"{path}: x is ({', '.join(x.dims)}), wanted a vector of quantities: export to .nc")
    if taken := sorted(set(x.features) & set(more)):
        raise ExportError(f"{path}: x has a feature '{taken[0]}', the name of a column of the export: export to .nc")
    return {**dict.fromkeys(x.features, np.dtype(np.float32)), **more}


def refuse_unknown(feature: str, rows: Rows) -> None:
    """Raise ExportError for a feature that x does not have, with the nearest name."""
    known = rows.metadata["features"]
    if feature not in known:
        near = did_you_mean(next((name for name in known if name.lower() == feature.lower()), feature), known)
        raise ExportError(f"{rows.path}: there is no feature '{feature}', wanted one of {', '.join(known)}{near}")
