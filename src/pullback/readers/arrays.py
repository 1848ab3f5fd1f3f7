"""Base of the readers of arrays: variables of files as the fields of any problem."""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Option

from pullback.ensembles.fields import Field
from pullback.readers.array_description import inspected
from pullback.readers.array_files import Variable, listed, opened, refuse_what_is_no_number, text
from pullback.readers.axes import Arrangement, arranged
from pullback.readers.base import Inspection, OutsideFile, ReadError
from pullback.readers.event_weights import Weights
from pullback.readers.field_units import Conversion, conversion, units_of
from pullback.readers.gathers import Arrays, PairFiles, Rows
from pullback.readers.rock import is_on_its_side, is_section


class ArrayFiles(PairFiles):
    """The fields of any problem, as arrays in files.

    Attributes:
        formats: what files may be, of `pullback.readers.array_files.FORMATS`.
    """

    records: ClassVar[str] = "arrays"
    own_forward: ClassVar[bool] = True
    takes_entries: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]]

    variables: dict[Literal["x", "y"], str | list[str]] = Option(
        default={},
        description="names of x and y in the file, where they are others: {x: vp, y: group/shots}; of a vector also "
        "one variable (event,) for each component: {x: [pt, eta]}",
    )
    dimensions: dict[str, str] = Option(
        default={},
        description="names of dimensions in the file, where they are others, by those of the problem: {depth: z}",
    )
    axes: dict[Literal["x", "y"], list[str]] = Option(
        default={},
        description="names of the axes of arrays without names, in order: {x: [event, offset, depth]}",
    )

    weight: str | None = Option(default=None, description="variable (event,) with the weights of events")
    group: str | None = Option(
        default=None,
        description="variable (event,) of integers: events with the same one, of one collision, are not independent",
    )

    @classmethod
    def inspect(cls, path: Path) -> Inspection:
        """What a file holds, and a block that reads it.

        Raises:
            ReadError: it is damaged.
        """
        return inspected(path)

    @property
    def columns(self) -> dict[str, str]:
        """File and row of an event, and its weight."""
        return {**super().columns, **({"weight": "float64"} if self.weight else {})}

    def opened(self, stack: ExitStack, problem: Any, file: OutsideFile) -> Arrays:
        """Find y, and x where truth is read, among the arrays of a file."""
        self._refuse_unknown_names(problem, file.path)
        here = stack.enter_context(opened(file.path, self.formats))
        y, how_y, of_y = self._field(file.path, here, problem.y, alone=file.model is not None or not file.has_truth)
        n, said = how_y.events(y), how_y.said
        (weight, unequal), group = self._weight(file, here, n), self._group(file.path, here, n)
        warnings = (
            *unequal,
            *(
                f"{file.path}: '{name}' is not read: if it is the weight of events, say read.weight: {name}"
                for name in ("weight", "weights")
                if name in here and self.weight is None
            ),
        )
        if not file.has_truth:
            return Arrays(n, _rows(y, how_y), None, of_y, None, said, weight, group, warnings)
        path = file.model or file.path
        there = stack.enter_context(opened(path, self.formats)) if file.model else here
        x, how_x, of_x = self._field(path, there, problem.x, alone=file.model is not None)
        if how_x.events(x) != n:
            of = f" in {file.path}" if file.model else ""
            raise ReadError(
                f"{path}: x has {how_x.events(x)} events, and y {n}{of}: wanted one x for each y, give the files of "
                "the same events"
            )
        if is_section(problem.x):
            warnings = (*warnings, *_exchanged_axes(path, x, how_x))
        said = tuple(dict.fromkeys((*said, *how_x.said)))
        return Arrays(n, _rows(y, how_y), _rows(x, how_x), of_y, of_x, said, weight, group, warnings)

    def _weight(self, file: OutsideFile, arrays: dict[str, Variable], n: int) -> tuple[np.ndarray | None, list[str]]:
        """The weights of all events, and warnings of those that are read."""
        if self.weight is None:
            return None, []
        found = _column(file.path, arrays, "weight", self.weight, n).astype(np.float64)
        first, last = file.span(n)
        part = found[first:last]
        if not np.isfinite(part).all():
            entry = first + int(np.argmin(np.isfinite(part)))
            raise ReadError(f"{file.path}: '{self.weight}' of event {entry} is not finite: repair it")
        weights = Weights(file.path, self.weight, ("events", "events"))
        weights.add(part, np.arange(first, last), np.ones(len(part), bool))
        return found, weights.check()

    def _group(self, path: Path, arrays: dict[str, Variable], n: int) -> np.ndarray | None:
        if self.group is None:
            return None
        found = _column(path, arrays, "group", self.group, n)
        if found.dtype.kind not in "iu":
            raise ReadError(f"{path}: '{self.group}' is {found.dtype}, wanted integers")
        return found.astype(np.int64)

    def _field(
        self, path: Path, arrays: dict[str, Variable], field: Field, alone: bool
    ) -> tuple[Variable, Arrangement, Conversion]:
        variable = self._variable(path, arrays, field, alone)
        said = {dim: unit for dim in field.dims if isinstance(unit := units_of(self.units, dim), str)}
        how = arranged(variable, field, self.dimensions, self.axes.get(field.name, ()), said)
        what = f"{path}: {variable.name or field.name}"
        by_file = variable.units
        if isinstance(by_file, tuple) and how.take[-1] is not None and len(by_file) == len(how.take[-1]):
            by_file = tuple(by_file[place] for place in how.take[-1])
        if variable.name not in ("", field.name) and field.name not in self.variables:
            how = replace(how, said=(f"{field.name} is '{variable.name}'", *how.said))
        return variable, how, conversion(what, field, by_file, units_of(self.units, field.name))

    def _variable(self, path: Path, arrays: dict[str, Variable], field: Field, alone: bool) -> Variable:
        """The variable that is a field: of its name, the only one of a file for it alone, or one for each component."""
        given = self.variables.get(field.name)
        if isinstance(given, list):
            return _joined(path, arrays, field, given)
        wanted = given or field.name
        if wanted not in arrays and not given:
            if field.is_vector and arrays.keys() >= set(field.features):
                return _joined(path, arrays, field, field.features)
            if alone and len(arrays) == 1:
                wanted = next(iter(arrays))
        if wanted not in arrays:
            alike = [each.name for each in arrays.values() if _may_be(each, field)]
            key = f"{field.name}: {alike[0] if len(alike) == 1 else 'NAME'}"
            raise ReadError(
                f"{path}: has {listed(arrays)}, wanted '{wanted}': name the variable in read.variables: {{{key}}}"
            )
        refuse_what_is_no_number(arrays[wanted])
        return arrays[wanted]

    def _refuse_unknown_names(self, problem: Any, path: Path) -> None:
        dims = {"event", *problem.x.dims, *problem.y.dims}
        for key, names, known in (
            ("dimensions", set(self.dimensions), dims),
            ("units", set(self.units) if isinstance(self.units, dict) else set(), {"x", "y", *dims} - {"event"}),
        ):
            if unknown := sorted(names - known):
                raise ReadError(
                    f"{path}: read.{key} names {', '.join(unknown)}, of which this problem has none; allowed: "
                    f"{', '.join(sorted(known))}"
                )


class _Columns:
    """Values (event, component) of variables (event,)."""

    def __init__(self, columns: list[Variable]):
        self.columns = columns

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        return np.stack([column.read(index[:1]) for column in self.columns], axis=1)


def _joined(path: Path, arrays: dict[str, Variable], field: Field, names: Sequence[str]) -> Variable:
    """The components of a vector as one variable."""
    if len(names) != len(field.features):
        wanted = ", ".join(field.features) or "one variable"
        raise ReadError(f"{path}: read.variables names {', '.join(names)} for {field.name}, wanted {wanted}")
    if missing := [name for name in names if name not in arrays]:
        raise ReadError(f"{path}: has {listed(arrays)}, wanted '{missing[0]}': correct read.variables")
    columns = [arrays[name] for name in names]
    for column in columns:
        refuse_what_is_no_number(column)
        if len(column.shape) != 1 or column.shape != columns[0].shape:
            raise ReadError(f"{path}: '{column.name}' has shape {column.shape}, wanted one value for each event")
    return Variable(
        path,
        ", ".join(names),
        (columns[0].shape[0], len(columns)),
        np.result_type(*(column.dtype for column in columns)),
        _Columns(columns),
        ("event", field.dims[0]),
        component_units=tuple(text(column.attributes.get("units")) or "" for column in columns),
    )


def _column(path: Path, arrays: dict[str, Variable], key: str, name: str, n: int) -> np.ndarray:
    """One number of each event."""
    if name not in arrays:
        raise ReadError(f"{path}: has {listed(arrays)}, wanted '{name}': correct read.{key}")
    refuse_what_is_no_number(arrays[name])
    if math.prod(arrays[name].shape) != n:
        raise ReadError(f"{path}: '{name}' has shape {arrays[name].shape}, wanted one for each of {n} events")
    return arrays[name].read((slice(None),) * len(arrays[name].shape)).reshape(n)


def _may_be(variable: Variable, field: Field) -> bool:
    """Whether a variable has the field's lengths."""
    return not Counter(field.shape) - Counter(variable.shape) and variable.dtype.kind in "fiu"


def _rows(variable: Variable, how: Arrangement) -> Rows:
    return lambda start, stop: how.read(variable, start, stop)


def _exchanged_axes(path: Path, x: Variable, how: Arrangement) -> tuple[str, ...]:
    """A warning where square models without names look as if they lie on their side."""
    if not how.by_lengths or not is_on_its_side(how.read(x, 0, min(how.events(x), 16))):
        return ()
    return (
        f"{path}: {x.name or 'x'} of shape {x.shape} was taken as (event, depth, offset), and its layers stand "
        "upright: where depth is the last axis, say read.axes: {x: [event, offset, depth]}",
    )
