"""Binned spectra as they are published: values, statistical covariance and systematic shifts of each feature."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from pullback.core.atomic import atomic
from pullback.report.export import ExportError, refuse_existing
from pullback.report.unfolded.normalisation import Normalisation, Quantity
from pullback.report.unfolded.rows import Rows
from pullback.report.unfolded.spectra import Spectra

Shifts = Mapping[str, Mapping[str, np.ndarray]]
"""Systematic shifts: name -> feature -> contents of the bins with the shift (bin,), in the units of the weights, or
(2, bin) with the downward and the upward one. What lies outside the bins is taken to be unchanged."""


Sources = Mapping[str, np.ndarray]
"""Systematic covariances by source: name -> covariance of the entries of `Spectra`, in the units of the weights."""


class Spectrum(NamedTuple):
    """One feature.

    Attributes:
        feature, unit: name and unit.
        edges: (bin + 1,).
        contents: numbers of events or cross-sections.
        differential: the same divided by the width of the bins, or the share.
    """

    feature: str
    unit: str
    edges: np.ndarray
    contents: "Values"
    differential: "Values"


class Values(NamedTuple):
    """Values of one quantity in bins.

    Attributes:
        quantity: name and unit.
        value: (bin,).
        covariance: statistical (bin, bin); None where nothing states it.
        shifts: by name, changes (bin,), or (2, bin), the downward and the upward one.
        sources: by name, systematic covariance (bin, bin).
    """

    quantity: Quantity
    value: np.ndarray
    covariance: np.ndarray | None
    shifts: Mapping[str, np.ndarray]
    sources: Sources

    @property
    def changes(self) -> dict[str, np.ndarray]:
        """One change for each shift (bin,): of two half their difference."""
        return {name: (each[1] - each[0]) / 2 if each.ndim > 1 else each for name, each in self.shifts.items()}

    @property
    def systematic(self) -> np.ndarray | None:
        """Covariance of shifts and sources (bin, bin): outer products of the changes; None where there are none."""
        every = [np.outer(change, change) for change in self.changes.values()] + list(self.sources.values())
        return np.sum(every, axis=0) if every else None


def published(
    rows: Rows,
    spectra: Spectra,
    scale: Normalisation,
    systematics: Shifts = MappingProxyType({}),
    sources: Sources = MappingProxyType({}),
) -> Iterator[Spectrum]:
    """Every feature of some spectra.

    Raises:
        ExportError: shifted contents of an unknown feature, or not one for each bin.
    """
    for name, shifted in systematics.items():
        if unknown := sorted(set(shifted) - set(spectra.edges)):
            raise ExportError(f"systematic {name}: of '{unknown[0]}', wanted {', '.join(spectra.edges)}")
    for feature, edges in spectra.edges.items():
        part = spectra.part(feature)
        entries = spectra.content[part]
        if not entries[-1] > 0:
            raise ExportError(f"{rows.path}: the weights of {feature} sum to {entries[-1]:g}, wanted a positive sum")
        covariance = None if spectra.covariance is None else spectra.covariance[part, part]
        shifts = {}
        for name, shifted in systematics.items():
            if feature not in shifted:
                continue
            contents = np.asarray(shifted[feature], np.float64)
            if contents.shape not in ((len(edges) - 1,), (2, len(edges) - 1)) or not np.isfinite(contents).all():
                raise ExportError(
                    f"systematic {name}: contents of {feature} of shape {contents.shape}, wanted "
                    f"({len(edges) - 1},) or (2, {len(edges) - 1}) finite numbers, one for each bin"
                )
            outside = entries[-1] - entries[:-1].sum()
            shifts[name] = np.concatenate([contents, contents.sum(axis=-1, keepdims=True) + outside], axis=-1)
        found = {name: matrix[part, part] for name, matrix in sources.items()}
        unit = rows.metadata["features"][feature]
        width = np.diff(edges)
        differential = scale.differential._replace(
            name=f"{scale.differential.name}{feature}", unit=_per(scale.differential.unit, unit)
        )
        yield Spectrum(
            feature,
            unit,
            edges,
            _values(scale.contents, entries, covariance, (shifts, found), np.ones(len(width))),
            _values(differential, entries, covariance, (shifts, found), width),
        )


def _values(
    quantity: Quantity,
    entries: np.ndarray,
    covariance: np.ndarray | None,
    systematics: tuple[Mapping[str, np.ndarray], Sources],
    width: np.ndarray,
) -> Values:
    value, slope = quantity.value(entries) / width, quantity.slope(entries) / width[:, None]
    changes = {name: quantity.value(shifted) / width - value for name, shifted in systematics[0].items()}
    sources = {name: slope @ matrix @ slope.T for name, matrix in systematics[1].items()}
    return Values(quantity, value, None if covariance is None else slope @ covariance @ slope.T, changes, sources)


def _per(unit: str, other: str) -> str:
    below = "" if other == "1" else f"/{other}"
    return f"{unit or '1'}{below}" if below else unit


def correlation(covariance: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlations (bin, other bin) from a covariance and the variances of both; NaN of a bin without variance."""
    deviations = [np.sqrt(np.where(variance > 0, variance, np.nan)) for variance in (one, other)]
    return covariance / np.outer(*deviations)


def write_spectra_csv(
    rows: Rows,
    spectra: Spectra,
    target: Path,
    scale: Normalisation,
    systematics: Shifts = MappingProxyType({}),
    sources: Sources = MappingProxyType({}),
) -> None:
    """Write a line for each bin: feature, edges, contents and differential with errors.

    The metadata, with the statistical covariance of the contents, are beside it in ``target`` with ``.json`` behind.

    Raises:
        ExportError: a target is there, or shifts that are not of these bins.
        pullback.core.atomic.StoreError: a file cannot be written.
    """
    beside = target.with_name(f"{target.name}.json")
    refuse_existing(target)
    refuse_existing(beside)
    found = list(published(rows, spectra, scale, systematics, sources))
    names = [*systematics, *sources]
    header = ["feature", "unit", "low", "high"]
    for name in ("content", "differential"):
        header += [name, f"{name}_unit", f"{name}_stat", *(f"{name}_{each}" for each in names)]
    lines: list[list[Any]] = []
    said = {}
    for each in found:
        said[each.feature] = None if each.contents.covariance is None else each.contents.covariance.tolist()
        for i, (low, high) in enumerate(zip(each.edges[:-1], each.edges[1:], strict=True)):
            line: list[Any] = [each.feature, each.unit, float(low), float(high)]
            for values in (each.contents, each.differential):
                stat = "" if values.covariance is None else float(np.sqrt(values.covariance[i, i]))
                line += [float(values.value[i]), values.quantity.unit or "1", stat]
                errors = values.changes | {name: np.sqrt(np.diag(matrix)) for name, matrix in values.sources.items()}
                line += [float(errors[name][i]) if name in errors else "" for name in names]
            lines.append(line)
    with atomic(target) as temporary, atomic(beside) as also:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(lines)
        metadata = {**rows.metadata, **scale.metadata, "content_covariance": said}
        also.write_text(json.dumps(metadata, indent=1) + "\n", encoding="utf-8")
