"""Base of the readers of pairs: options, and blocks of events in the units and bounds of a problem's fields.

Shapes, positions, times and units are compared when a file is opened; values are read block by block.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field as Option
from pydantic import model_validator

from pullback.ensembles.fields import Field
from pullback.readers.base import Block, Events, OutsideFile, ReadError
from pullback.readers.coordinates import compare_coordinate
from pullback.readers.field_units import Conversion, Units, conversion, refuse_out_of_bounds, units_of
from pullback.readers.rock import is_section, told
from pullback.study.base import Split
from pullback.study.reader_spec import ReaderSpec

__all__ = ["GathersAndModels", "Opened", "PairFiles", "Rows", "compare_coordinate", "compare_shape", "rows"]

BLOCK_BYTES = 2**24
"""Size of what is read at once."""
ENTRY_BITS = 32
"""event_id: ``file << 32 | entry``, files counted through the split."""

Rows = Callable[[int, int], np.ndarray]
"""Values (event, ...) of some events."""


class Arrays(NamedTuple):
    """Events of a file: y, x where truth is read, units of both, what was not as the problem has it, what may be wrong.

    One value of each event of the file may come beside them: its weight, its unit of the bootstrap.
    """

    n: int
    y: Rows
    x: Rows | None
    y_units: Conversion = Conversion()
    x_units: Conversion | None = None
    said: tuple[str, ...] = ()
    weight: np.ndarray | None = None
    group: np.ndarray | None = None
    warnings: tuple[str, ...] = ()


Opened = tuple[int, Rows, Rows | None] | Arrays
"""What a reader makes of a file; units are those of the study where it says none."""


class PairFiles(ReaderSpec):
    """Observations as arrays, with truths where there are any."""

    units: Units | None = Option(
        default=None,
        description="units where a file says none: km/s, of x; {y: mV, depth: km}, of x, y and coordinates; "
        "{x: {pt: MeV}}, of a vector's components",
    )

    @property
    def columns(self) -> dict[str, str]:
        """Origin of an event: its file among those of the shard, its row in the file."""
        return {"source_file": "int32", "source_entry": "int64"}

    def opened(self, stack: ExitStack, problem: Any, file: OutsideFile) -> Opened:
        """Compare one file, and its models, with the fields of the problem."""
        raise NotImplementedError

    @contextmanager
    def open(self, problem: Any, file: OutsideFile) -> Iterator[Events]:
        """The events of one file; blocks check that truths are those of the problem."""
        with ExitStack() as stack:
            arrays = Arrays(*self.opened(stack, problem, file))
            of_x = arrays.x_units
            if of_x is None and arrays.x:
                of_x = conversion(f"{file.model or file.path}: x", problem.x, None, units_of(self.units, "x"))
            first, last = file.span(arrays.n)
            said = [*arrays.said, *(units.told for units in (arrays.y_units, of_x) if units and units.told)]
            if arrays.x and of_x and is_section(problem.x):
                said.append(told(problem.x, of_x.apply(arrays.x(first, first + 1), [])[0]))
            count = f"{self.kind}, {last - first} event{'s' * (last - first != 1)}"
            count += f" (entries {first} to {last} of {arrays.n})" if last - first < arrays.n else ""
            blocks = self._blocks(problem, file, arrays, of_x, range(first, last))
            yield Events(blocks, "; ".join((count, *said)), warnings=arrays.warnings)

    def _blocks(
        self, problem: Any, file: OutsideFile, arrays: Arrays, of_x: Conversion | None, entries: range
    ) -> Iterator[Block]:
        size = 4 * (math.prod(problem.y.shape) + (math.prod(problem.x.shape) if arrays.x else 0))
        step = max(1, BLOCK_BYTES // size)
        for start in entries[::step]:
            stop = min(start + step, entries.stop)
            entry = np.arange(start, stop)
            x = None
            if arrays.x and of_x:
                x = of_x.apply(arrays.x(start, stop), self.placeholders)
                refuse_out_of_bounds(file.model or file.path, problem.x, x, start, of_x, self.placeholders)
            yield Block(
                arrays.y_units.apply(arrays.y(start, stop), self.placeholders),
                x,
                np.int64(file.number) << ENTRY_BITS | entry,
                None if arrays.group is None else arrays.group[entry],
                {
                    "source_file": np.full(len(entry), file.row, np.int32),
                    "source_entry": entry,
                    **({} if arrays.weight is None else {"weight": arrays.weight[entry]}),
                },
            )


class WithModels(PairFiles):
    """Observations in files of their own, with the truths of each in another file."""

    truth: ClassVar[str] = "models"

    models: dict[Split, list[str]] = Option(
        default={}, description="files with the truths x, one for each of `files`; left out for an observed family"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "WithModels":
        for split in sorted({*self.files, *self.models} if self.models else ()):
            gathers, models = (len(named.get(split, [])) for named in (self.files, self.models))
            if gathers != models:
                raise ValueError(f"{split}: {gathers} files of y and {models} of models, wanted one for each")
        return self

    @property
    def has_truth(self) -> bool:
        """Whether truths are there."""
        return bool(self.models)

    def model_files(self, split: Split) -> list[str]:
        """The files with the truths of a split."""
        return self.models.get(split, [])


class GathersAndModels(WithModels):
    """Shot gathers, with the models of each file in a file of their own."""

    records: ClassVar[str] = "gathers"
    # Who reads gathers inverts them with the study's acquisition and wave equation.
    own_forward: ClassVar[bool] = True


def rows(values: np.ndarray) -> Rows:
    """The rows of an array."""
    return lambda start, stop: values[start:stop]


def compare_shape(path: Path, what: str, shape: tuple[int, ...], field: Field) -> None:
    """Refuse a shape that is not the field's."""
    if tuple(shape) != field.shape:
        said = " x ".join(field.dims)
        raise ReadError(
            f"{path}: {what} of shape {tuple(shape)}, wanted {field.shape} ({said}): interpolate or cut it, or set the "
            "simulator's cells, sources, receivers and record as they were"
        )
