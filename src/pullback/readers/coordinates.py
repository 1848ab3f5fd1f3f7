"""Values along the dimensions of a field: compared with those of a problem, in its units and order."""

import re

import numpy as np

from pullback.ensembles.fields import Coordinate, Field
from pullback.readers.array_files import MEANINGS, UPWARD, Along, text
from pullback.readers.base import ReadError
from pullback.readers.units import UnitsError, factor

CLOSE = 1e-3
"""Coordinates may be this fraction of their distance apart."""
_EPOCH = re.compile(r"\s+since\s.*")
"""`milliseconds since 2020-01-01`, as of times that are dates."""


def component_places(what: str, field: Field, along: Along) -> np.ndarray | None:
    """Where the components of a vector are that the file names; None where it does not, or in this order."""
    if along.values.dtype.kind not in "OSUT":
        return None
    names = [text(name) for name in along.values]
    if names == list(field.features):
        return None
    if sorted(map(str, names)) != sorted(field.features):
        raise ReadError(f"{what} has {', '.join(map(str, names))}, wanted {', '.join(field.features)}")
    return np.array([names.index(feature) for feature in field.features])


def coordinate_places(
    what: str, dim: str, along: Along, field: Field, key: str | None
) -> tuple[np.ndarray | None, list[str]]:
    """Places along one dimension, so that its coordinate is the field's."""
    name, said, wanted = along.name, _EPOCH.sub("", along.units or "") or None, field.coordinates[dim]
    times = 1.0
    try:
        if said is not None:
            times = factor(said, wanted.units)
        if key is not None:
            if said is not None and factor(key, wanted.units) != times:
                raise ReadError(f"{what}: {name} is in {said} by the file, and read.units says {key}: correct the key")
            times = factor(key, wanted.units)
    except UnitsError as error:
        raise ReadError(f"{what}: {name} is in {said or key}, wanted {wanted.units}: {error}") from None
    values = along.values.astype(np.float64) * times
    told = [f"{name} converted from {said or key} to {wanted.units}"] if times != 1 else []
    if dim == "depth" and _is_upward(along, values):
        values = -values
        told.append(f"{name} counted downwards")
    if _is_close(values, wanted.values):
        return None, told
    count = np.arange(len(values))
    if said is None and key is None and any(np.array_equal(along.values, count + first) for first in (0, 1)):
        return None, [f"{name} only counts, from {along.values[0]:g}"]
    if np.isfinite(values).all():
        places = np.argsort(values, kind="stable")[np.argsort(np.argsort(wanted.values, kind="stable"))]
        if _is_close(values[places], wanted.values):
            first, last = values[0], values[-1]
            told.append(
                f"{name}, from {first:g} to {last:g} {wanted.units} in the file, put in the order of the problem"
            )
            return places, told
    remedy = "read it into a problem that was recorded so"
    unit = _likely(along.values, wanted, times)
    apart = float(values.min() - wanted.values.min())
    if _is_close(np.sort(values - apart), np.sort(wanted.values)):
        remedy = f"all lie {apart:+g} {wanted.units} off: count them from where the problem does"
    if said is not None and unit is not None:
        remedy = f"the attribute units is {said}, and the values look like {unit}: correct the attribute"
    elif unit is not None:
        remedy = f"these look like {unit}: say read.units: {{{dim}: {unit}}}"
    compare_coordinate(f"{what}:", field, dim, values, remedy)
    return None, told


def _is_upward(along: Along, values: np.ndarray) -> bool:
    """Whether values grow upwards: so it is said, or they are negative."""
    positive, *said = ((text(along.attributes.get(key)) or "").lower() for key in ("positive", *MEANINGS))
    if positive in ("up", "down"):
        return positive == "up"
    return bool({along.name.lower(), *said} & UPWARD) or bool((values <= 0).all())


def _likely(values: np.ndarray, wanted: Coordinate, times: float) -> str | None:
    """Another unit, in which a coordinate would be the field's, than that of a factor."""
    for unit in (wanted.units, f"k{wanted.units}", f"m{wanted.units}", f"c{wanted.units}", f"u{wanted.units}", "ft"):
        try:
            other = factor(unit, wanted.units)
        except UnitsError:
            continue
        if other != times and _is_close(np.sort(values * other), np.sort(wanted.values)):
            return unit
    return None


def _is_close(found: np.ndarray, wanted: np.ndarray) -> bool:
    step = float(np.abs(np.diff(wanted)).min()) if len(wanted) > 1 else 1.0
    return len(found) == len(wanted) and bool(np.abs(found - wanted).max() <= CLOSE * step)


def compare_coordinate(of: str, field: Field, name: str, found: np.ndarray, remedy: str) -> None:
    """Refuse values along a dimension that are not the field's; ``of`` begins the message."""
    wanted = field.coordinates[name]
    if _is_close(found, wanted.values):
        return
    first, last = (f"{len(v)} values from {v[0]:g} to {v[-1]:g} {wanted.units}" for v in (found, wanted.values))
    raise ReadError(f"{of} {name} has {first}, this problem's {last}: {remedy}")
