"""OpenFWI's .npy files (Deng et al. 2022) of shot gathers and velocity models."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Option

from pullback.ensembles.fields import Field
from pullback.readers.arrays import ArrayFiles
from pullback.readers.base import OutsideFile, ReadError
from pullback.readers.coordinates import CLOSE, compare_coordinate
from pullback.readers.gathers import Opened, WithModels
from pullback.simulators.acquisition import Acquisition, evenly
from pullback.simulators.wave_settings import FwiSimulator
from pullback.simulators.wavelets import Ricker

log = logging.getLogger("pullback")

REMEDY = "give the simulator preset: openfwi"


class OpenFwiFiles(WithModels, ArrayFiles):
    """OpenFWI's files: .npy, gathers (event, 5, 1000, 70) and models (event, 1, 70, 70), for preset openfwi."""

    records: ClassVar[str] = "gathers"
    formats: ClassVar[tuple[str, ...]] = ("npy",)

    kind: Literal["openfwi"] = Option(description="gathers (event, 5, 1000, 70), models (event, 1, 70, 70)")

    def opened(self, stack: ExitStack, problem: Any, file: OutsideFile) -> Opened:
        """Compare the problem with OpenFWI's acquisition (the files have no metadata)."""
        o = FwiSimulator(preset="openfwi")
        _compare_record(file.path, problem.y, o)
        _compare_physics(file.path, problem.acquisition, o)
        if file.model:
            for name, cells in (("depth", o.depth_cells), ("offset", o.offset_cells)):
                nodes = np.arange(cells) * o.spacing
                compare_coordinate(f"{file.model}: OpenFWI's", problem.x, name, nodes, REMEDY)
        return super().opened(stack, problem, file)


def _compare_record(path: Path, wanted: Field, o: FwiSimulator) -> None:
    samples = round(o.record_length / o.output_interval)
    recorded = {
        "source": np.array(evenly(o.sources, o.offset_cells, o.spacing)),  # type: ignore[arg-type]
        "time": np.arange(1, samples + 1) * o.output_interval,
        "receiver": np.array(evenly(o.receivers, o.offset_cells, o.spacing)),  # type: ignore[arg-type]
    }
    for name, values in recorded.items():
        compare_coordinate(f"{path}: OpenFWI's", wanted, name, values, REMEDY)


def _compare_physics(path: Path, a: Acquisition, o: FwiSimulator) -> None:
    for what in ("sources", "receivers"):
        depths = np.array([depth for depth, _ in getattr(a, what)])
        if np.abs(depths - o.source_depth).max() > CLOSE * a.spacing:
            raise ReadError(
                f"{path}: OpenFWI's {what} lie {o.source_depth:g} m deep, this problem's {depths.min():g} to "
                f"{depths.max():g} m: {REMEDY}"
            )
    if a.wavelet != Ricker(o.peak_frequency):
        log.warning(
            "%s: OpenFWI's wavelet is a Ricker of %g Hz, this problem's another one, with its peak at %.3g Hz",
            path, o.peak_frequency, a.wavelet.frequency,
        )  # fmt: skip
    if a.free_surface:
        log.warning("%s: OpenFWI's data have no free surface, and this problem has one", path)
