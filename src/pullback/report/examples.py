"""Arrays that evaluation keeps for the report: example posteriors of fields, spectra and points of vectors."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pullback.ensembles.fields import Field
from pullback.report.files import ReportError
from pullback.report.style import Series


@dataclass(frozen=True)
class Spectrum:
    """Counts of one feature in bins: (bin,) arrays, ``edges`` (bin + 1,).

    Attributes:
        truths: "all" where the counts are those before the detector, misses included and fakes taken away.
        migration, bin_purity, efficiency: between and of bins with ``migration_edges``, as `pullback.metrics.examples`
            has them; None unless the family is seen.
    """

    name: str
    unit: str
    edges: np.ndarray
    unfolded: np.ndarray
    unfolded_error: np.ndarray | None = None
    ratio_error: np.ndarray | None = None
    truth: np.ndarray | None = None
    observed: np.ndarray | None = None
    truths: str = "pairs"
    migration: np.ndarray | None = None
    migration_edges: np.ndarray | None = None
    bin_purity: np.ndarray | None = None
    efficiency: np.ndarray | None = None

    @property
    def stability(self) -> np.ndarray | None:
        """Share of the pairs of each truth bin that are observed in it."""
        return None if self.migration is None else np.diag(self.migration)


@dataclass(frozen=True)
class Passage:
    """Densities of particles on their way from noise to data, for one observation.

    Attributes:
        quantity, unit: of x.
        event: number of the observation in its family.
        level: noise levels (level,), falling.
        edges: (bin + 1,).
        density: (level, bin). exact: the same of the exact posterior with that noise, or None.
    """

    quantity: str
    unit: str
    event: int
    level: np.ndarray
    edges: np.ndarray
    density: np.ndarray
    exact: np.ndarray | None


@dataclass(frozen=True)
class Axis:
    """A dimension of a field: its name, unit, and the edges of its first and last cell."""

    name: str
    unit: str
    low: float
    high: float


@dataclass(frozen=True)
class Example:
    """Example results of one method on one family.

    Attributes:
        problem, method, method_kind, returns, infer, seed, family, title, role, shift: as in the metrics table.
        spectra: for vectors.
        points_truth, points_draws: (point, 2), where x has two features.
        truth, mean, std: (event, *x); draws (event, 2, *x); y (event, *y); misfit (event,); again (event,
            *y), the simulation of one draw of each of the first events.
        ranks: (quantity, bin), shares of truths by their rank among the draws; quantities: their names.
        coverage: (reference, level), expected coverage at equally spaced levels; references: their names.
        ranked, covered: effective number of events of ranks and of coverage; 0 where there are few groups.
        correlation: of the unfolded bins (bin, bin), of one feature after the other; NaN where it is not known.
        correlated: (feature, number of bins) of these.
        marginals: densities of one observation's particles on their way from noise.
        x_axes, y_axes: dimensions of x and y; x_unit, y_unit: their units.
    """

    problem: str
    method: str
    method_kind: str
    returns: str
    infer: str
    seed: str
    family: str
    title: str
    role: str
    shift: str
    spectra: list[Spectrum] = field(default_factory=list)
    points_truth: np.ndarray | None = None
    points_draws: np.ndarray | None = None
    truth: np.ndarray | None = None
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    draws: np.ndarray | None = None
    y: np.ndarray | None = None
    misfit: np.ndarray | None = None
    again: np.ndarray | None = None
    ranks: np.ndarray | None = None
    quantities: tuple[str, ...] = ()
    coverage: np.ndarray | None = None
    references: tuple[str, ...] = ()
    ranked: float = 0.0
    covered: float = 0.0
    correlation: np.ndarray | None = None
    correlated: tuple[tuple[str, int], ...] = ()
    marginals: Passage | None = None
    x_axes: tuple[Axis, ...] = ()
    y_axes: tuple[Axis, ...] = ()
    x_unit: str = ""
    y_unit: str = ""

    @property
    def is_field(self) -> bool:
        """Whether x is an array and not a vector of named quantities."""
        return self.mean is not None


Answer = tuple[Series, Example]
"""A method and what it answered."""


def read_examples(paths: Iterable[Path]) -> list[Example]:
    """All examples of some files; of several seeds, the first.

    Raises:
        ReportError: a file cannot be read or lacks what an example needs.
    """
    found: dict[tuple[str, str, str, str], Example] = {}
    for path in paths:
        try:
            with h5py.File(path) as file:
                for example in _file(file):
                    found.setdefault((example.problem, example.method, example.infer, example.family), example)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ReportError(f"{path}: not a readable examples file ({error}); run the evaluation again") from None
    return list(found.values())


def _file(file: h5py.File) -> Iterable[Example]:
    common: dict[str, Any] = {name: file.attrs[name] for name in ("problem", "method", "method_kind", "returns")}
    for infer, seeds in sorted(file.items()):
        for seed, families in sorted(seeds.items(), key=lambda item: (len(item[0]), item[0])):
            for family, group in sorted(families.items()):
                labels: dict[str, Any] = {"infer": infer, "seed": seed, "family": family}
                labels |= {name: group.attrs[name] for name in ("title", "role", "shift")}
                content = _fields(group) if group.attrs["kind"] == "fields" else _features(group)
                yield Example(**common, **labels, **content, **_calibration(group))


_PARTS = (
    *("edges", "unfolded", "unfolded_error", "ratio_error", "truth", "observed"),
    *("migration", "migration_edges", "bin_purity", "efficiency"),
)


def _features(group: h5py.Group) -> dict[str, Any]:
    features = {name: item for name, item in group.items() if isinstance(item, h5py.Group)}
    spectra = [
        Spectrum(
            name,
            item.attrs["unit"],
            truths=item.attrs["truths"],
            **{part: item[part][...] for part in _PARTS if part in item},
        )
        for name, item in sorted(features.items(), key=lambda feature: int(feature[1].attrs["place"]))
    ]
    more: dict[str, Any] = {name: group[name][...] for name in ("points_truth", "points_draws") if name in group}
    if "marginals" in group:
        density = group["marginals"]
        more["marginals"] = Passage(
            quantity=density.attrs["quantity"],
            unit=density.attrs["unit"],
            event=int(density.attrs["event"]),
            level=group["marginals_levels"][...],
            edges=group["marginals_edges"][...],
            density=density[...],
            exact=group["marginals_exact"][...] if "marginals_exact" in group else None,
        )
    if "correlation" in group:
        table = group["correlation"]
        blocks = tuple(zip(table.attrs["features"], map(int, table.attrs["bins"]), strict=True))
        more |= {"correlation": table[...], "correlated": blocks}
    return {"spectra": spectra, **more}


def _calibration(group: h5py.Group) -> dict[str, Any]:
    if "ranks" not in group:
        return {}
    ranks, coverage = group["ranks"], group["coverage"]
    return {
        "ranks": ranks[...],
        "quantities": tuple(ranks.attrs["quantities"]),
        "coverage": coverage[...],
        "references": tuple(coverage.attrs["references"]),
        "ranked": float(ranks.attrs["events"]),
        "covered": float(coverage.attrs["events"]),
    }


def _fields(group: h5py.Group) -> dict[str, Any]:
    arrays = {name: group[name][...] for name in ("mean", "std", "draws", "y")}
    arrays |= {name: group[name][...] for name in ("truth", "misfit", "again") if name in group}
    return {
        **arrays,
        "x_axes": _axes(group, "x", arrays["mean"].shape[1:]),
        "y_axes": _axes(group, "y", arrays["y"].shape[1:]),
        "x_unit": group.attrs["x_units"],
        "y_unit": group.attrs["y_units"],
    }


def _axes(group: h5py.Group, which: str, shape: tuple[int, ...]) -> tuple[Axis, ...]:
    names = group.attrs[f"{which}_dims"]
    return tuple(Axis(name, "", 0.0, float(size)) for name, size in zip(names, shape, strict=True))


def with_coordinates(example: Example, x: Field, y: Field) -> Example:
    """The example with its dimensions in physical units, where the problem's fields say them."""
    return replace(
        example,
        x_axes=_physical(example.x_axes, example.mean, x),
        y_axes=_physical(example.y_axes, example.y, y),
    )


def _physical(axes: tuple[Axis, ...], values: np.ndarray | None, field: Field) -> tuple[Axis, ...]:
    """Axes with the outer edges of their first and last cell; coordinates are those of the cells' centres."""
    if values is None or field.dims != tuple(a.name for a in axes) or values.shape[1:] != field.shape:
        return axes
    found = []
    for axis in axes:
        coordinate = field.coordinates.get(axis.name)
        if coordinate is None or len(coordinate.values) < 2:
            found.append(axis)
            continue
        first, last = float(coordinate.values[0]), float(coordinate.values[-1])
        half = (last - first) / (len(coordinate.values) - 1) / 2
        found.append(Axis(axis.name, coordinate.units, first - half, last + half))
    return tuple(found)
