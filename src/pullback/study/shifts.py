"""Shifts: modifications of the test observations of a family."""

from typing import Annotated, Any, Literal

from pydantic import Field

from pullback.study.base import Closed


class NoiseShift(Closed):
    """Gaussian noise added to y, its standard deviation relative to each event's root mean square."""

    kind: Literal["noise"]
    relative: float = Field(gt=0)


class ScaleShift(Closed):
    """y multiplied by a factor; of one named feature (an energy scale), or of everything when none is named."""

    kind: Literal["scale"]
    factor: float = Field(gt=0)
    feature: str | None = None


class MissingShift(Closed):
    """A random fraction of entries along one dimension of y set to zero, drawn per event (dead receivers)."""

    kind: Literal["missing"]
    dimension: str = Field(description="dimension of y along which entries go missing, as in the file: receiver, time")
    fraction: float = Field(gt=0, lt=1)


class SimulatorShift(Closed):
    """Model error: the truth simulated again with other settings (wavelet, absorbing boundary, free surface, finer x).

    y keeps its shape. Where the change gives x another shape (`x_cells`), the same draws of the prior are made in that
    shape, simulated, and compared with the original truth: the detail missing from a coarse x becomes a model error.
    """

    kind: Literal["simulator"]
    change: dict[str, Any] = Field(min_length=1, description="keys of the problem's `simulator` block, and new values")


Shift = Annotated[NoiseShift | ScaleShift | MissingShift | SimulatorShift, Field(discriminator="kind")]
