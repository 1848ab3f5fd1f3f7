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
    """

    quantity: Quantity
    value: np.ndarray
    covariance: np.ndarray | None
    shifts: Mapping[str, np.ndarray]

    @property
    def systematic(self) -> np.ndarray:
        """Covariance of the shifts (bin, bin): outer products of the changes, of two of half their difference."""
        each = [(shift[1] - shift[0]) / 2 if shift.ndim > 1 else shift for shift in self.shifts.values()]
        return np.einsum("si,sj->ij", each, each) if each else np.zeros((len(self.value),) * 2)


def published(rows: Rows, spectra: Spectra, scale: Normalisation, systematics: Shifts) -> Iterator[Spectrum]:
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
        unit = rows.metadata["features"][feature]
        width = np.diff(edges)
        differential = scale.differential._replace(
            name=f"{scale.differential.name}{feature}", unit=_per(scale.differential.unit, unit)
        )
        yield Spectrum(
            feature,
            unit,
            edges,
            _values(scale.contents, entries, covariance, shifts, np.ones(len(width))),
            _values(differential, entries, covariance, shifts, width),
        )


def _values(
    quantity: Quantity,
    entries: np.ndarray,
    covariance: np.ndarray | None,
    shifts: Mapping[str, np.ndarray],
    width: np.ndarray,
) -> Values:
    value, slope = quantity.value(entries) / width, quantity.slope(entries) / width[:, None]
    changes = {name: quantity.value(shifted) / width - value for name, shifted in shifts.items()}
    return Values(quantity, value, None if covariance is None else slope @ covariance @ slope.T, changes)


def _per(unit: str, other: str) -> str:
    below = "" if other == "1" else f"/{other}"
    return f"{unit or '1'}{below}" if below else unit


def correlation(covariance: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlations (bin, other bin) from a covariance and the variances of both; NaN of a bin without variance."""
    deviations = [np.sqrt(np.where(variance > 0, variance, np.nan)) for variance in (one, other)]
    return covariance / np.outer(*deviations)


def write_spectra_csv(
    rows: Rows, spectra: Spectra, target: Path, scale: Normalisation, systematics: Shifts = MappingProxyType({})
) -> None:
    """Write a line for each bin: feature, edges, contents and differential with errors.

    The metadata, with the covariance of the contents, are beside it in ``target`` with ``.json`` behind.

    Raises:
        ExportError: a target is there, or shifts that are not of these bins.
        pullback.core.atomic.StoreError: a file cannot be written.
    """
    beside = target.with_name(f"{target.name}.json")
    refuse_existing(target)
    refuse_existing(beside)
    found = list(published(rows, spectra, scale, systematics))
    first = found[0]
    header = ["feature", "unit", "low", "high"]
    for values in (first.contents, first.differential):
        name = "content" if values is first.contents else "differential"
        header += [name, f"{name}_unit", f"{name}_stat", *(f"{name}_{each}" for each in systematics)]
    lines: list[list[Any]] = []
    said = {}
    for each in found:
        said[each.feature] = None if each.contents.covariance is None else each.contents.covariance.tolist()
        for i, (low, high) in enumerate(zip(each.edges[:-1], each.edges[1:], strict=True)):
            line: list[Any] = [each.feature, each.unit, float(low), float(high)]
            for values in (each.contents, each.differential):
                covariance = values.covariance
                stat = "" if covariance is None else float(np.sqrt(covariance[i, i]))
                line += [float(values.value[i]), values.quantity.unit or "1", stat]
                line += [_change(values.shifts.get(name), i) for name in systematics]
            lines.append(line)
    with atomic(target) as temporary, atomic(beside) as also:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(lines)
        metadata = {**rows.metadata, **scale.metadata, "content_covariance": said}
        also.write_text(json.dumps(metadata, indent=1) + "\n", encoding="utf-8")


def _change(shift: np.ndarray | None, i: int) -> float | str:
    """The change in a bin; of two half their difference."""
    if shift is None:
        return ""
    return float(shift[i] if shift.ndim == 1 else (shift[1, i] - shift[0, i]) / 2)
