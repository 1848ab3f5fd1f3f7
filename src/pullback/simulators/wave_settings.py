"""Settings of wave simulations and parameters of synthetic geology."""

import os
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pullback.study.base import Closed, Split, outside_path
from pullback.study.kinds import Parameters, SimulatorSettings

PRESETS: dict[str, dict[str, Any]] = {
    # Small enough for a first look: 32 x 32 nodes of 20 m, three shots.
    "compact": {},
    # The data of OpenFWI (Deng et al. 2022), with its stencil, its sponge and its times: a record of it is met to 1e-3.
    "openfwi": {
        "depth_cells": 70,
        "offset_cells": 70,
        "spacing": 10.0,
        "absorbing_cells": 120,
        "boundary": "sponge",
        "sources": 5,
        "receivers": 70,
        "source_depth": 10.0,
        "peak_frequency": 15.0,
        "record_length": 1.0,
        "time_step": 0.001,
        "output_interval": 0.001,
    },
    # OpenFWI's section seen at the size of the ensemble inverse problem paper: x has 32 x 32 nodes, y 5 x 128 x 32.
    "fwi32": {
        "x_cells": (32, 32),
        "depth_cells": 70,
        "offset_cells": 70,
        "spacing": 10.0,
        "absorbing_cells": 40,
        "boundary": "sponge",
        "sources": 5,
        "receivers": 32,
        "source_depth": 10.0,
        "peak_frequency": 15.0,
        "record_length": 1.0,
        "time_step": 0.001,
        "output_interval": 1 / 128,
    },
    # The whole Marmousi section, 12 km x 3 km.
    "marmousi": {
        "depth_cells": 201,
        "offset_cells": 801,
        "spacing": 15.0,
        "absorbing_cells": 12,
        "sources": 16,
        "receivers": 401,
        "source_depth": 15.0,
        "peak_frequency": 8.0,
        "record_length": 4.2,
        "time_step": 0.0015,
        "output_interval": 0.006,
        "velocity_max": 5500.0,
    },
}
"""What each preset sets; the rest are the defaults, which are those of compact."""


MOST_POSITIONS, MOST_STEPS = 100_000, 10_000_000
"""More than any machine holds an event of: a slip of the pen, that would fill the memory before it fails."""


class FwiSimulator(SimulatorSettings):
    """2-D constant-density acoustic waves. `preset` gives defaults; the pre-flight checks print the values used."""

    preset: Literal["compact", "openfwi", "fwi32", "marmousi"] = Field(
        default="compact", description="settings that hold where nothing else is given"
    )
    spacing: float = Field(default=20.0, gt=0, description="distance between nodes in m")
    depth_cells: int = Field(default=32, ge=8, le=100_000)
    offset_cells: int = Field(default=32, ge=8, le=100_000)
    x_cells: tuple[int, int] | None = Field(
        default=None,
        description="nodes (depth, offset) of x, where they are fewer than the simulation's: x is interpolated "
        "linearly between its nodes, the outermost of both grids in one place",
    )
    absorbing_cells: int = Field(default=10, ge=5, le=10_000, description="absorbing nodes on each side")
    boundary: Literal["sponge", "pml"] = Field(
        default="pml",
        description="absorbing border: a perfectly matched layer (10 nodes reflect less than -45 dB), or the sponge of "
        "OpenFWI's data (40 nodes reflect -17 to -36 dB)",
    )
    free_surface: bool = Field(default=False, description="depth 0 reflects everything, as the sea's surface does")
    sources: int | list[float] = Field(
        default=3,
        description="a number, spread evenly over the surface on the nearest nodes; or offsets in m, anywhere",
    )
    receivers: int | list[float] = Field(default=32, description="likewise")
    source_depth: float = Field(default=20.0, ge=0, description="m")
    receiver_depth: float | None = Field(default=None, ge=0, description="m; that of the sources when not given")
    peak_frequency: float = Field(default=7.5, gt=0, description="Ricker wavelet, Hz")
    wavelet: str | None = Field(
        default=None,
        description="file of a wavelet in place of the Ricker: .npy, or text with one sample in each line; "
        "$PULLBACK_DATA and others expand",
    )
    wavelet_interval: float | None = Field(default=None, gt=0, description="s between the samples of `wavelet`")
    record_length: float = Field(default=1.024, gt=0, description="s")
    time_step: float = Field(default=0.002, gt=0, description="s; must satisfy the CFL condition for velocity_max")
    output_interval: float = Field(
        default=0.016, gt=0, description="s between recorded samples; any, met by a spline between time steps"
    )
    velocity_min: float = Field(default=1500.0, gt=0, description="m/s")
    velocity_max: float = Field(default=4500.0, gt=0, description="m/s")
    space_order: Literal[4, 8] = 4
    noise: float = Field(
        default=0.0,
        ge=0,
        description="standard deviation of the Gaussian noise in y, relative to the root mean square of the event's "
        "gathers without it",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        preset = values.get("preset", "compact")
        return {**PRESETS.get(preset, {}), **values} if isinstance(preset, str) else values

    @model_validator(mode="after")
    def _consistent(self) -> "FwiSimulator":
        for name, value in (("sources", self.sources), ("receivers", self.receivers)):
            if (isinstance(value, int) and value < 1) or value == []:
                raise ValueError(f"{name}: found {value}, wanted at least one")
            if isinstance(value, int) and value > MOST_POSITIONS:
                raise ValueError(f"{name}: found {value}, wanted at most {MOST_POSITIONS}")
        steps = self.record_length / min(self.time_step, self.output_interval)
        if steps > MOST_STEPS:
            raise ValueError(f"record_length: makes {steps:.3g} time steps or samples, wanted at most {MOST_STEPS:g}")
        if (self.wavelet is None) != (self.wavelet_interval is None):
            raise ValueError(
                "`wavelet` and `wavelet_interval` belong together: give both, or none for a Ricker wavelet"
            )
        if self.x_cells and not all(2 <= n <= m for n, m in zip(self.x_cells, self.shape, strict=True)):
            raise ValueError(
                f"x_cells: found {list(self.x_cells)}, wanted at least 2 nodes each way and at most the simulation's "
                f"{list(self.shape)}"
            )
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Nodes (depth, offset) of the simulation."""
        return self.depth_cells, self.offset_cells

    @property
    def unused(self) -> dict[str, str]:
        """A Ricker wavelet's frequency beside a recorded wavelet."""
        why = "has no effect where there is a `wavelet`: change that, or set it to null"
        return {"peak_frequency": why} if self.wavelet else {}

    def user_files(self, folder: str) -> list[str]:
        """The file of a recorded wavelet."""
        return [outside_path(self.wavelet)] if self.wavelet else []


Share = Annotated[float, Field(ge=0, le=1)]
AREAS: dict[bool, dict[Split, tuple[float, float]]] = {
    False: {"test": (0.0, 0.5), "reference": (0.5, 1.0)},
    True: {"train": (0.0, 0.55), "validation": (0.55, 0.7), "test": (0.7, 0.85), "reference": (0.85, 1.0)},
}
"""Areas of a section that tiles come from, as parts of its width, by whether a seen family is cut from it, and split.

Validation lies between train and test: what is judged is not beside what was trained on.
"""


class Tiles(Closed):
    """Pieces of a large velocity model in a file: each draw is one at a random place, resampled to the nodes of x."""

    file: str = Field(
        description=".npy, .nc, .h5, .segy, .sgy or .su, or raw float32 (.bin, .raw); $PULLBACK_DATA and others expand"
    )
    spacing: float | None = Field(
        default=None, gt=0, description="m between the file's nodes; not needed where the file has coordinates"
    )
    shape: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]] | None = Field(
        default=None, description="of a raw file, as it lies: slowest axis first"
    )
    first_axis: Literal["depth", "offset"] | None = Field(
        default=None,
        description="the file's slowest axis, where no names of dimensions say it; depth for arrays without names",
    )
    units: str | None = Field(
        default=None, description="of the velocities, where the file does not say: m/s if not given, km/s, ft/s"
    )
    variable: str | None = Field(default=None, description="of a netCDF or HDF5 file; not needed where it holds one")
    inline: int | None = Field(default=None, description="of a cube in SEG-Y: the number of the line to cut tiles from")
    stretch: float = Field(default=1.0, gt=0, description="a tile covers this many times the section's own size")
    depth_from: float = Field(default=0.0, ge=0, description="m: tiles start at this depth or deeper")
    area: Literal["apart", "anywhere"] | tuple[Share, Share] = Field(
        default="apart",
        description="where tiles lie: train, validation, test and reference in areas that do not overlap; anywhere; or "
        "all between these parts of the width, [from, to]",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Tiles":
        if not isinstance(self.area, str) and not self.area[0] < self.area[1]:
            raise ValueError(f"`area` needs from < to, found {list(self.area)}")
        return self

    @property
    def path(self) -> str:
        """The file itself, whatever it is called."""
        return os.path.realpath(outside_path(self.file))

    @property
    def part(self) -> tuple[float, float]:
        """The part of the width that tiles come from; all of it where no split says which."""
        return (0.0, 1.0) if isinstance(self.area, str) else self.area


class FwiParams(Parameters):
    """Parameters of synthetic geology; defaults are the documented ranges of the generator."""

    geology: Literal[
        "flat",
        "curved",
        "flat-fault",
        "curved-fault",
        "salt",
        "gradient",
        "style",
        "channel",
        "lens",
        "thrust",
        "water",
        "tiles",
    ]
    layers: tuple[int, int] = Field(default=(2, 5), description="least and most layers")
    sorted: bool = Field(default=True, description="velocity rises with depth (OpenFWI's A), else any order (B)")
    rough: bool = Field(default=False, description="of style: OpenFWI's Style-B")
    tiles: Tiles | None = Field(default=None, description="of tiles: the file that they are cut from")

    @model_validator(mode="after")
    def _consistent(self) -> "FwiParams":
        if (self.geology == "tiles") != (self.tiles is not None):
            raise ValueError("geology 'tiles' and the block `tiles` belong together: give both or neither")
        if self.rough and self.geology != "style":
            raise ValueError(f"`rough` is of geology 'style', found geology '{self.geology}'")
        if not 1 <= self.layers[0] <= self.layers[1]:
            raise ValueError(f"`layers` needs 1 <= least <= most, found {list(self.layers)}")
        return self

    def user_files(self) -> list[str]:
        """The file that models are cut from."""
        return [outside_path(self.tiles.file)] if self.tiles else []
