"""Base of the readers of shot gathers: options, and comparison of files with the fields of a problem.

Shapes, positions, times and units are compared when a file is opened; values are read block by block.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Option
from pydantic import model_validator

from pullback.ensembles.fields import Field
from pullback.readers.base import Block, Events, OutsideFile, ReadError
from pullback.study.base import Split
from pullback.study.kinds import ReaderSpec

log = logging.getLogger("pullback")

BLOCK = 16
"""Events read at once: 22 MB of OpenFWI's gathers."""
CLOSE = 1e-3
"""Coordinates may be this fraction of their distance apart."""
IN_KM_S = 20.0
"""No rock is slower than 20 m/s, or faster than 20 km/s."""
ENTRY_BITS = 32
"""event_id: ``file << 32 | entry``, files counted through the split."""

Rows = Callable[[int, int], np.ndarray]
"""Values (event, ...) of some events, float32."""
Opened = tuple[int, Rows, Rows | None]
"""Events of a file, their y, and their x where truth is read."""


class GatherFiles(ReaderSpec):
    """Shot gathers, with velocity models where there is a truth."""

    records: ClassVar[str] = "gathers"
    # Who reads gathers inverts them with the study's acquisition and wave equation.
    own_forward: ClassVar[bool] = True

    units: Literal["m/s", "km/s"] = Option(default="m/s", description="of the models")

    @property
    def columns(self) -> dict[str, str]:
        """Origin of an event: its file among those of the shard, its row in the file."""
        return {"source_file": "int32", "source_entry": "int64"}

    def opened(self, stack: ExitStack, problem: Any, file: OutsideFile) -> Opened:
        """Compare one file, and its models, with the fields of the problem (a `pullback.problems.fwi.Fwi`)."""
        raise NotImplementedError

    @contextmanager
    def open(self, problem: Any, file: OutsideFile) -> Iterator[Events]:
        """The events of one file; blocks check that values are finite, and velocities those of the problem."""
        with ExitStack() as stack:
            n, y, x = self.opened(stack, problem, file)
            yield Events(self._blocks(problem, file, n, y, x), f"{self.kind}, {n} event{'s' * (n != 1)}")

    def _blocks(self, problem: Any, file: OutsideFile, n: int, y: Rows, x: Rows | None) -> Iterator[Block]:
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            entry = np.arange(start, stop)
            truth = velocities(file.model or file.path, problem.x, self.units, x(start, stop), start) if x else None
            source = np.full(len(entry), file.row, np.int32)
            yield Block(
                finite(file.path, "y", y(start, stop), start),
                truth,
                np.int64(file.number) << ENTRY_BITS | entry,
                columns={"source_file": source, "source_entry": entry},
            )


class GathersAndModels(GatherFiles):
    """Shot gathers, with the models of each file in a file of their own."""

    truth: ClassVar[str] = "models"

    models: dict[Split, list[str]] = Option(
        default={}, description="files with the models, one for each of `files`; left out for an observed family"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "GathersAndModels":
        for split in sorted({*self.files, *self.models} if self.models else ()):
            gathers, models = (len(named.get(split, [])) for named in (self.files, self.models))
            if gathers != models:
                raise ValueError(f"{split}: {gathers} files of gathers and {models} of models, wanted one for each")
        return self

    @property
    def has_truth(self) -> bool:
        """Whether models are there."""
        return bool(self.models)

    def model_files(self, split: Split) -> list[str]:
        """The files with the models of a split."""
        return self.models.get(split, [])


def rows(values: np.ndarray) -> Rows:
    """The rows of an array, as float32."""
    return lambda start, stop: np.asarray(values[start:stop], np.float32)


def compare_shape(path: Path, what: str, shape: tuple[int, ...], field: Field) -> None:
    """Refuse a shape that is not the field's."""
    if tuple(shape) != field.shape:
        said = " x ".join(field.dims)
        raise ReadError(
            f"{path}: {what} of shape {tuple(shape)}, wanted {field.shape} ({said}): interpolate or cut it, or set the "
            "simulator's cells, sources, receivers and record as they were"
        )


def compare_coordinate(of: str, field: Field, name: str, found: np.ndarray, remedy: str) -> None:
    """Refuse values along a dimension that are not the field's; ``of`` begins the message."""
    wanted, units = field.coordinates[name].values, field.coordinates[name].units
    step = float(np.abs(np.diff(wanted)).min()) if len(wanted) > 1 else 1.0
    if len(found) == len(wanted) and np.abs(found - wanted).max() <= CLOSE * step:
        return
    first, last = (f"{len(v)} values from {v[0]:g} to {v[-1]:g} {units}" for v in (found, wanted))
    raise ReadError(f"{of} {name} has {first}, this problem's {last}: {remedy}")


def finite(path: Path, name: str, values: np.ndarray, start: int) -> np.ndarray:
    """The values (event, ...) themselves; NaN and infinity are refused."""
    if not np.isfinite(values).all():
        event, *where = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ReadError(
            f"{path}: {name} of event {start + event} is not finite at {tuple(where)}: repair it, or leave the event "
            "out"
        )
    return values


def velocities(path: Path, field: Field, units: str, values: np.ndarray, start: int) -> np.ndarray:
    """Models in m/s that the problem's simulator takes."""
    assert field.low
    assert field.high
    values = finite(path, "x", values, start) * np.float32(1000 if units == "km/s" else 1)
    low, high = float(values.min()), float(values.max())
    # float32 cannot hold every bound exactly.
    if low < field.low[0] * (1 - 1e-6) or high > field.high[0] * (1 + 1e-6):
        remedy = "widen velocity_min and velocity_max of the simulator, or clip the models"
        if high < IN_KM_S:
            remedy = "these look like km/s: say read.units: km/s"
        elif high > 1000 * IN_KM_S and units == "km/s":
            remedy = "these look like m/s: say read.units: m/s"
        raise ReadError(
            f"{path}: velocities from {low:g} to {high:g} m/s in events {start} to {start + len(values) - 1}, wanted "
            f"{field.low[0]:g} to {field.high[0]:g}: {remedy}"
        )
    return values
