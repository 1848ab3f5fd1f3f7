"""Units and bounds of the values of a field: what a file or the study says of them, and whether the values agree."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pullback.ensembles.fields import Field
from pullback.readers.base import ReadError
from pullback.readers.invalid import placeholders
from pullback.readers.units import UnitsError, factor

Units = str | dict[str, str | dict[str, str]]
"""Of x; or of x, y and coordinates by name, of x and y also by component."""

ROCK = (20.0, 20_000.0)
"""m/s: no rock is slower or faster."""
_ROUNDED = 1e-6
"""float32 cannot hold every bound exactly."""


@dataclass(frozen=True)
class Conversion:
    """From the units of a file to those of a field.

    Attributes:
        factor: of the values, one or one for each component.
        said: the unit of each component as the file or the study says it; empty where neither does.
        by_file: whether the file says it.
        told: what was done, for messages; empty where nothing was.
    """

    factor: float | np.ndarray = 1.0
    said: tuple[str, ...] = ()
    by_file: tuple[bool, ...] = ()
    told: str = ""

    def apply(self, values: np.ndarray, missing: list[float]) -> np.ndarray:
        """Values (event, *field) in the field's units, float32; in vectors numbers for a missing value stay."""
        if np.all(self.factor == 1):
            return np.asarray(values, np.float32)
        converted = np.asarray(values, np.float64) * self.factor
        if values.ndim == 2:
            for i, column in enumerate(np.asarray(values, np.float64).T):
                stays = placeholders(column, missing)
                converted[stays, i] = column[stays]
        return converted.astype(np.float32)


def units_of(units: Units | None, name: str) -> str | dict[str, str] | None:
    """What the study says of the units of x, y or a coordinate."""
    if isinstance(units, str):
        return units if name == "x" else None
    return (units or {}).get(name)


def conversion(
    what: str, field: Field, by_file: str | tuple[str, ...] | None, by_study: str | dict[str, str] | None
) -> Conversion:
    """How values become those of a field.

    Args:
        what: begins messages: file and variable.
        field: of the problem.
        by_file: units that the file says, one or one for each component.
        by_study: those of the key ``units``.

    Raises:
        ReadError: no such unit, one of another quantity, or study and file contradict each other.
    """
    names = field.features or ("",)
    if isinstance(by_study, dict) and (unknown := sorted(by_study.keys() - set(names))):
        allowed = ", ".join(field.features) or f"one unit for {field.name}"
        raise ReadError(f"{what}: read.units names {', '.join(unknown)}, of which there is none; allowed: {allowed}")
    factors, told = [], []
    units, own = [], []
    for i, (name, wanted) in enumerate(zip(names, field.units, strict=True)):
        found = by_file if isinstance(by_file, str) or by_file is None else by_file[min(i, len(by_file) - 1)]
        said = by_study if isinstance(by_study, str) or by_study is None else by_study.get(name)
        of = f"{what} '{name}'" if name else what
        times, words = _factor(of, found, said, wanted)
        factors.append(times)
        units.append(found or said or "")
        own.append(found not in (None, "", "mixed"))
        told += [f"{name or field.name} {words}"] if words else []
    return Conversion(
        np.array(factors) if len(set(factors)) > 1 else factors[0],
        tuple(units),
        tuple(own),
        "; ".join(dict.fromkeys(told)),
    )


def _factor(of: str, by_file: str | None, by_study: str | None, wanted: str) -> tuple[float, str]:
    """The factor of one component, and what is to be told of it."""
    by_file = None if by_file in ("", "mixed") else by_file
    times = 1.0
    told = ""
    if by_study is not None:
        try:
            times = factor(by_study, wanted)
        except UnitsError as error:
            raise ReadError(f"{of}: read.units: {error}") from None
    if by_file is not None:
        try:
            found = factor(by_file, wanted)
        except UnitsError as error:
            # A field without a unit takes values in any: of gathers, only the simulator's source has their scale.
            if wanted != "1" or by_study is not None:
                raise ReadError(
                    f"{of} is in {by_file}, wanted {wanted}: {error}; correct the attribute units"
                ) from None
            return 1.0, f"in {by_file} taken as it is"
        if by_study is not None and not np.isclose(found, times, rtol=1e-9):
            raise ReadError(
                f"{of} is in {by_file} by the file, and read.units says {by_study}: leave the key out, or correct "
                "the attribute units"
            )
        times = found
    if times != 1:
        told = f"converted from {by_file or by_study} to {wanted}"
    return times, told


def refuse_out_of_bounds(
    path: Path, field: Field, values: np.ndarray, first: int, units: Conversion, missing: list[float]
) -> None:
    """Refuse values (event, *field) outside of the field's bounds.

    Args:
        path: of the file.
        field: of the problem.
        values: in the field's units.
        first: entry of the first event in the file.
        units: how the values came to be in the field's units.
        missing: numbers that stand for a missing value, of which the driver judges.
    """
    if field.low is None or field.high is None:
        return
    flat = values.reshape(len(values), -1, len(field.features) or 1)
    factors = np.broadcast_to(np.asarray(units.factor, float), (flat.shape[2],))
    for i, (low, high, unit) in enumerate(zip(field.low, field.high, field.units, strict=True)):
        column = flat[:, :, i]
        valid = np.isfinite(column)
        if field.is_vector:
            valid &= ~placeholders(column.ravel(), missing).reshape(column.shape)
        if not valid.any():
            continue
        least, most = float(column[valid].min()), float(column[valid].max())
        slack = _ROUNDED * max((abs(bound) for bound in (low, high) if np.isfinite(bound)), default=0.0)
        if least >= low - slack and most <= high + slack:
            continue
        what = "velocities" if unit == "m/s" else field.features[i] if field.features else field.name
        where = f"in events {first} to {first + len(values) - 1}"
        raise ReadError(
            f"{path}: {what} from {least:g} to {most:g} {unit} {where}, wanted {low:g} to {high:g}: "
            + _remedy(field, i, (low, high), (least, most), float(factors[i]), units)
        )


def _remedy(
    field: Field, i: int, bounds: tuple[float, float], found: tuple[float, float], times: float, units: Conversion
) -> str:
    """What explains values outside of the bounds: another unit, or a normalisation."""
    raw, is_rock = (found[0] / times, found[1] / times), field.units[i] == "m/s"
    others = [
        (unit, (raw[0] * other, raw[1] * other))
        for unit, other in _units(field.units[i])
        if not np.isclose(other, times)
    ]
    likely = next((unit for unit, each in others if bounds[0] <= each[0] and each[1] <= bounds[1]), None)
    if likely is None and is_rock and raw[0] > 0 and bounds[0] <= 1 / raw[1] and 1 / raw[0] <= bounds[1]:
        return "these look like a slowness in s/m: give its inverse"
    if likely is None and bounds[0] > 1 and max(map(abs, raw)) <= 1.001:
        is_symmetric = raw[0] < -0.001
        undo = f"v = v_min + (v_max - v_min) {'(value + 1) / 2' if is_symmetric else 'value'}"
        openfwi = ", OpenFWI's 1500 and 4500 m/s" if is_rock else ""
        return (
            f"these look normalised to {'-1..1' if is_symmetric else '0..1'}: undo it with the bounds that they were "
            f"made with ({undo}{openfwi})"
        )
    if likely is None and is_rock and not _is_rock(found):
        likely = next((unit for unit, each in others if _is_rock(each)), None)
        if likely is None:
            return "rock has no such velocities in any unit: undo a normalisation, or correct the file"
    if likely is not None and units.by_file[i]:
        return f"the attribute units is {units.said[i]}, and the values look like {likely}: correct the attribute"
    if likely is not None:
        key = likely if not field.is_vector and field.name == "x" else f"{{{field.name}: {_key(field, i, likely)}}}"
        return f"these look like {likely}: say read.units: {key}"
    if is_rock:
        return "widen velocity_min and velocity_max of the simulator, or clip the models"
    return "widen the bounds of the problem, or clip the values"


def _is_rock(velocities: tuple[float, float]) -> bool:
    return ROCK[0] <= velocities[0] and velocities[1] <= ROCK[1]


def _key(field: Field, i: int, unit: str) -> str:
    return f"{{{field.features[i]}: {unit}}}" if field.is_vector else unit


def _units(wanted: str) -> Iterator[tuple[str, float]]:
    """Units that people write values in, and what makes them the field's."""
    for unit in (wanted, f"k{wanted}", f"m{wanted}", f"M{wanted}", f"G{wanted}", "ft/s", "deg"):
        try:
            yield unit, factor(unit, wanted)
        except UnitsError:
            continue
