"""Unfolded events and spectra, of a study or of an export, as arrays; in bins of any choice."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from pullback.ensembles.unfolded import Bins
from pullback.report.unfolded.opening import open_rows
from pullback.report.unfolded.spectra import spectra_of


class UnfoldedEvents:
    """Unfolded events: weighted truths, draws of events, or bins alone.

    Attributes:
        path: the file.
        metadata: plain values: inputs with digests, selection, seeds, versions, job.
        features: names of the quantities of x; `units` has their units.
        columns: what `read` gives.
        bins: contents with covariance that a binned method gave, or a HEPData submission has, by feature.
    """

    def __init__(self, path: Path | str):
        self._stack = ExitStack()
        self._rows = open_rows(Path(path), self._stack)
        self.path: Path = self._rows.path
        self.metadata: dict[str, Any] = self._rows.metadata
        self.features: list[str] = list(self.metadata["features"])
        self.units: list[str] = list(self.metadata["features"].values())
        self.columns: list[str] = list(self._rows.columns)
        self.bins: Mapping[str, Bins] = self._rows.bins

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows ``start`` to ``stop`` of one column, for files that are larger than memory."""
        if name not in self._rows.columns:
            raise KeyError(f"{self.path}: there is no column '{name}'; it has {', '.join(self.columns) or 'none'}")
        stop = len(self) if stop is None else min(stop, len(self))
        return self._rows.read([name], start, stop)[name]

    @cached_property
    def x(self) -> np.ndarray:
        """Truths (row, feature) in physical units; NaN of a failed draw."""
        found = self._rows.read(self.features, 0, len(self))
        return np.column_stack([found[name] for name in self.features])

    @cached_property
    def weight(self) -> np.ndarray:
        """Weights (row, replica): nominal, and then the replicas where there are any."""
        names = [name for name in ("weight", "replica_weight") if name in self.columns]
        found = self._rows.read(names, 0, len(self))
        return np.column_stack([found[name] for name in names])

    def histogram(self, feature: str, edges: Any) -> tuple[np.ndarray, np.ndarray]:
        """Sums of weights in bins (bin,) and their statistical covariance (bin, bin).

        The covariance is that of the replicas; of draws that of a bootstrap of the groups of events (collisions), in
        closed form; NaN where the file has neither. Bins of a file without events are added up. Bins include their
        lower edge, the last one also its upper edge. Rows are read in blocks.

        Args:
            feature: of x.
            edges: (bin + 1,), increasing.

        Raises:
            pullback.report.export.ExportError: no such feature, or edges that are not among those of existing bins.
        """
        found = spectra_of(self._rows, {feature: np.asarray(edges, np.float64)}).bins(feature)
        return found.content, found.covariance

    def close(self) -> None:
        """Close every file."""
        self._stack.close()

    def __len__(self) -> int:
        return self._rows.n

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"<UnfoldedEvents {self.path}: {self.metadata['content']}, {len(self)} rows of {', '.join(self.features)}>"
        )


def open_unfolded(path: Path | str) -> UnfoldedEvents:
    """Open unfolded events of a study or of an export; arrays are read at first use.

    Args:
        path: what `pullback export` wrote (ROOT, Parquet, HEPData's ``.tar.gz``), or an unfolded distribution or a
            posterior of a study.

    Raises:
        pullback.report.export.ExportError: it holds something else.
        StoreError: a file of a study is missing, truncated or changed.
        pullback.core.optional.MissingExtraError: a package that reads the format is not installed.
    """
    return UnfoldedEvents(path)
