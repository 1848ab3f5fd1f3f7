"""OpenFWI's .npy files (Deng et al. 2022) of shot gathers and velocity models."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Option

from pullback.ensembles.fields import Field
from pullback.readers.arrays import ArrayFiles
from pullback.readers.base import OutsideFile, ReadError
from pullback.readers.coordinates import CLOSE, compare_coordinate
from pullback.readers.gathers import Arrays, WithModels
from pullback.simulators.acquisition import Acquisition, evenly
from pullback.simulators.wave_settings import FwiSimulator
from pullback.simulators.wavelets import Ricker

REMEDY = "give the simulator preset: openfwi"


class OpenFwiFiles(WithModels, ArrayFiles):
    """OpenFWI's files: .npy, gathers (event, 5, 1000, 70) and models (event, 1, 70, 70), for preset openfwi."""

    records: ClassVar[str] = "gathers"
    formats: ClassVar[tuple[str, ...]] = ("npy",)

    kind: Literal["openfwi"] = Option(description="gathers (event, 5, 1000, 70), models (event, 1, 70, 70)")

    def opened(self, stack: ExitStack, problem: Any, file: OutsideFile) -> Arrays:
        """Compare the problem with OpenFWI's acquisition (the files have no metadata)."""
        o = FwiSimulator(preset="openfwi")
        _compare_record(file.path, problem.y, o)
        warnings = tuple(_compare_physics(file.path, problem.acquisition, o))
        if file.model:
            for name, cells in (("depth", o.depth_cells), ("offset", o.offset_cells)):
                nodes = np.arange(cells) * o.spacing
                compare_coordinate(f"{file.model}: OpenFWI's", problem.x, name, nodes, REMEDY)
        arrays = super().opened(stack, problem, file)
        return arrays._replace(warnings=(*warnings, *arrays.warnings))


def _compare_record(path: Path, wanted: Field, o: FwiSimulator) -> None:
    samples = round(o.record_length / o.output_interval)
    recorded = {
        "source": np.array(evenly(o.sources, o.offset_cells, o.spacing)),  # type: ignore[arg-type]
        "time": np.arange(1, samples + 1) * o.output_interval,
        "receiver": np.array(evenly(o.receivers, o.offset_cells, o.spacing)),  # type: ignore[arg-type]
    }
    for name, values in recorded.items():
        compare_coordinate(f"{path}: OpenFWI's", wanted, name, values, REMEDY)


def _compare_physics(path: Path, a: Acquisition, o: FwiSimulator) -> Iterator[str]:
    """Refuse other depths; warnings of other physics."""
    for what in ("sources", "receivers"):
        depths = np.array([depth for depth, _ in getattr(a, what)])
        if np.abs(depths - o.source_depth).max() > CLOSE * a.spacing:
            raise ReadError(
                f"{path}: OpenFWI's {what} lie {o.source_depth:g} m deep, this problem's {depths.min():g} to "
                f"{depths.max():g} m: {REMEDY}"
            )
    if a.wavelet != Ricker(o.peak_frequency):
        yield (
            f"{path}: OpenFWI's wavelet is a Ricker of {o.peak_frequency:g} Hz, this problem's another one, with its "
            f"peak at {a.wavelet.frequency:.3g} Hz"
        )
    if a.free_surface:
        yield f"{path}: OpenFWI's data have no free surface, and this problem has one"
