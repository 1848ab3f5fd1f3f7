"""SEG-Y and Seismic Unix files read: shot gathers of an acquisition, and velocity models as sections in depth.

A name that ends in ``.su`` is Seismic Unix. Bytes are counted as in the standard (SEG-Y rev 1): 3201 is the first of
the binary header, 1 the first of a trace's.
Offsets are SourceX (73-76), GroupX (81-84) and CDP_X (181-184), of a line that does not run along X also the Y that
follows each, with the coordinate scalar (71-72: negative divides, positive multiplies, 0 is 1); depths are SourceDepth
(49-52) below SourceSurfaceElevation (45-48) and minus ReceiverGroupElevation (41-44) with the scalar of 69-70. The
first sample is at DelayRecordingTime (109-110) with the scalar of 215-216: milliseconds, of a section in depth metres.
The sample interval (3217-3218) is in microseconds, of a section in depth in millimetres, as is common. An integer
number of microseconds is rarely exact: files of `pullback.report.segy` also hold the interval as the double of rev 2
(3273-3280), which is read where the two agree.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Option

from pullback.readers.base import Inspection, OutsideFile
from pullback.readers.gathers import GathersAndModels, Opened, compare_coordinate, compare_shape, rows
from pullback.readers.segy_description import described, is_crooked, is_section
from pullback.readers.segy_gathers import read_gathers
from pullback.readers.segy_headers import interval, load, refuse_contradictions, refuse_not_finite
from pullback.readers.segy_layout import SegyError
from pullback.readers.segy_sections import read_model

__all__ = ["SegyFiles", "describe", "read_gathers", "read_model"]


class SegyFiles(GathersAndModels):
    """SEG-Y or Seismic Unix: the shot gathers of an event in a file, or in several, and sections in depth as models."""

    joins_files: ClassVar[bool] = True
    suffixes: ClassVar[tuple[str, ...]] = (".segy", ".sgy", ".su")

    kind: Literal["segy"] = Option(
        description="SEG-Y, or Seismic Unix (.su): the gathers of one event in each file, or list of files"
    )
    project: Literal["x", "line"] | None = Option(
        default=None,
        description="of sources and receivers that do not lie on a straight line: x leaves out their Y, line projects "
        "them onto the closest straight line; how far is in the log. Refused when not given",
    )

    def files_per_shard(self, events: int) -> int:
        """An entry is one event."""
        return events

    def opened(self, stack: ExitStack, problem: Any, file: OutsideFile) -> Opened:
        """Read the gathers of the event, and compare its section with the nodes of x."""
        paths = (file.path, *file.others)
        y = read_gathers(paths, problem.acquisition, self.project, finite=self.invalid == "refuse")[None]
        if not file.model:
            return 1, rows(y), None
        section = read_model(file.model)
        compare_shape(file.model, "a section", section.velocity.shape, problem.x)
        of = f"{file.model}: the section's"
        for name, length, step, first in zip(
            problem.x.dims, section.velocity.shape, section.spacing, section.origin, strict=True
        ):
            compare_coordinate(of, problem.x, name, first + np.arange(length) * step, "interpolate, cut or shift it")
        return 1, rows(y), rows(section.velocity[None])

    @classmethod
    def inspect(cls, path: Path) -> Inspection:
        """What a file holds, and the block that reads its gathers.

        Raises:
            pullback.readers.segy_layout.SegyError: its headers make no sense, or it is longer or shorter than they say.
        """
        traces = load(path)
        lines = [(name, str(value)) for name, value in described(traces).items()]
        if is_section(traces):
            hint = f"a section of velocities; name it under `models` of a family, or as tiles: {{file: {path}}}"
            try:
                read_model(path)
            except SegyError as error:
                hint = str(error)
            return Inspection(lines, None, hint, {"velocity": traces.values.T})
        read = {"kind": "segy", "files": {"test": [str(path)]}, **({"project": "x"} if is_crooked(traces) else {})}
        shots = np.unique(traces.places("Source"), axis=0, return_inverse=True)[1]
        plots = {f"shot {shot + 1}": traces.values[shots == shot].T for shot in range(min(4, shots.max() + 1))}
        try:
            refuse_contradictions(traces)
            refuse_not_finite(traces)
            interval(traces)
        except SegyError as error:
            return Inspection(lines, None, str(error), plots)
        return Inspection(lines, read, plots=plots)


def describe(path: Path | str) -> dict[str, str | float]:
    """What a file holds, in order, by the words of its headers; of gathers and of sections.

    Raises:
        pullback.readers.segy_layout.SegyError: its headers make no sense, or it is longer or shorter than they say.
    """
    return described(load(path))
