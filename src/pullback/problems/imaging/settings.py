"""Options of the problem kind `imaging`: the operators, the noise, and where images come from."""

import os
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field as Option
from pydantic import model_validator

from pullback.problems.imaging.operators import (
    BlockMean,
    Circular,
    gaussian_kernel,
    gaussian_radius,
    motion_kernel,
    motion_radius,
)
from pullback.problems.linear import Identity, LinearOperator
from pullback.readers.pictures import image_files
from pullback.study.base import Closed, outside_path
from pullback.study.kinds import Parameters, SimulatorSettings


class OperatorSettings(Closed):
    """What all operators have.

    Attributes:
        loses: whether an observation lacks pixels, which are then exactly 0 in it.
    """

    loses: ClassVar[bool] = False

    def refuse(self, size: int) -> None:
        """Raise ValueError where the operator is no operator on images of ``size`` x ``size`` pixels."""

    def build(self, size: int) -> LinearOperator:
        """The operator on images of ``size`` x ``size`` pixels."""
        return Identity((size, size))

    def shape(self, size: int) -> tuple[int, int]:
        """Of the observation of such an image."""
        return size, size

    def kept(self, rng: np.random.Generator, n: int, size: int) -> np.ndarray:
        """Which pixels of n observations are not lost, (n, row, column) bool."""
        return np.ones((n, *self.shape(size)), bool)


class GaussianBlur(OperatorSettings):
    """Convolution with a Gaussian, periodic at the borders."""

    kind: Literal["gaussian-blur"] = "gaussian-blur"
    width: float = Option(
        default=1.0, gt=0, description="standard deviation of the kernel in pixels; it ends at 4 of them"
    )

    def refuse(self, size: int) -> None:
        """See `OperatorSettings`."""
        reach = 2 * gaussian_radius(self.width) + 1
        if reach > size:
            raise ValueError(
                f"operator.width: a blur of width {self.width:g} has a kernel of {reach} x {reach} pixels, and the "
                f"image has {size} x {size}: wanted width below {(size / 2 - 0.5) / 4:.3g}, or a larger `size`"
            )

    def build(self, size: int) -> LinearOperator:
        """See `OperatorSettings`."""
        return Circular(gaussian_kernel(self.width), size)


class MotionBlur(OperatorSettings):
    """Mean along a straight path, as of a camera that moves during the exposure; periodic at the borders."""

    kind: Literal["motion-blur"]
    length: float = Option(default=5.0, gt=0, description="of the path, in pixels")
    angle: float = Option(default=45.0, description="degrees from the rows' direction; 90 is along a column")

    def refuse(self, size: int) -> None:
        """See `OperatorSettings`."""
        reach = 2 * motion_radius(self.length) + 1
        if reach > size:
            raise ValueError(
                f"operator.length: a motion of {self.length:g} pixels has a kernel of {reach} x {reach} pixels, and "
                f"the image has {size} x {size}: take a shorter one, or a larger `size`"
            )

    def build(self, size: int) -> LinearOperator:
        """See `OperatorSettings`."""
        return Circular(motion_kernel(self.length, self.angle), size)


class SuperResolution(OperatorSettings):
    """Means of blocks of pixels: the image on a coarser grid, from which the fine one is wanted."""

    kind: Literal["super-resolution"]
    factor: int = Option(default=4, ge=2, description="pixels along each side of a block; it divides `size`")

    def refuse(self, size: int) -> None:
        """See `OperatorSettings`."""
        if size % self.factor:
            divide = [n for n in range(2, size + 1) if size % n == 0]
            raise ValueError(
                f"operator.factor: {self.factor} does not divide the {size} pixels of a side: wanted one of "
                f"{', '.join(map(str, divide))}, or another `size`"
            )

    def build(self, size: int) -> LinearOperator:
        """See `OperatorSettings`."""
        return BlockMean(size, self.factor)

    def shape(self, size: int) -> tuple[int, int]:
        """See `OperatorSettings`."""
        return size // self.factor, size // self.factor


class BoxInpainting(OperatorSettings):
    """A square of pixels is lost, at a random place in each observation."""

    loses: ClassVar[bool] = True
    kind: Literal["box-inpainting"]
    box: int = Option(default=8, ge=1, description="pixels along each side of the lost square")

    def refuse(self, size: int) -> None:
        """See `OperatorSettings`."""
        if self.box >= size:
            raise ValueError(
                f"operator.box: a box of {self.box} x {self.box} pixels leaves nothing of an image of {size} x {size}: "
                f"wanted at most {size - 1}"
            )

    def kept(self, rng: np.random.Generator, n: int, size: int) -> np.ndarray:
        """See `OperatorSettings`."""
        first = rng.integers(size - self.box + 1, size=(2, n, 1))
        lost = (np.arange(size) >= first) & (np.arange(size) < first + self.box)
        return ~(lost[0][:, :, None] & lost[1][:, None, :])


class RandomInpainting(OperatorSettings):
    """Each pixel of each observation is lost at random."""

    loses: ClassVar[bool] = True
    kind: Literal["random-inpainting"]
    keep: float = Option(default=0.3, gt=0, le=1, description="probability that a pixel is observed")

    def kept(self, rng: np.random.Generator, n: int, size: int) -> np.ndarray:
        """See `OperatorSettings`."""
        return rng.random((n, size, size)) < self.keep


Operator = Annotated[
    GaussianBlur | MotionBlur | SuperResolution | BoxInpainting | RandomInpainting, Option(discriminator="kind")
]


class ImagingSimulator(SimulatorSettings):
    """Images x in [0, 1] through a linear operator, with Gaussian noise: y = A x + noise eps."""

    size: int = Option(
        default=32, ge=4, le=256, description="pixels along each side; up to 64 the operator has its singular vectors"
    )
    operator: Operator = GaussianBlur()
    noise: float = Option(
        default=0.05,
        gt=0,
        description="standard deviation of the noise of each component of y, in units of x, whose range is [0, 1]; "
        "half of what is added to images in [-1, 1]",
    )

    @model_validator(mode="after")
    def _fits(self) -> "ImagingSimulator":
        self.operator.refuse(self.size)
        return self


Part = Literal["train", "validation", "held-out", "all"]


class ImagingParams(Parameters):
    """Where the images of a prior come from; every image is equally probable."""

    source: Literal["digits", "pictures", "files"] = Option(
        description="digits: scikit-learn's handwritten ones (8 x 8). pictures: photographs that scikit-image ships. "
        "files: yours"
    )
    files: str | None = Option(
        default=None,
        description="of files: a folder of .png, .jpg or .npy, one .npy of (image, row, column), or an idx file as "
        "MNIST's; $PULLBACK_DATA and others expand",
    )
    cut: Literal["whole", "patches"] | None = Option(
        default=None,
        description="whole: the largest square in the middle, interpolated to `size`. patches: `size` x `size` pixels "
        "at a random place. When not given, patches of pictures and all else whole",
    )
    shrink: int = Option(
        default=1, ge=1, description="of patches: the image is first averaged over blocks of this many pixels a side"
    )
    images: Part | None = Option(
        default=None,
        description="of each five images in their order the first three are for training, the fourth for validation, "
        "the fifth is held out. When not given, seen families take each split from its own, other families what is "
        "held out",
    )

    @property
    def patches(self) -> bool:
        """Whether patches are cut from the images."""
        return (self.cut or ("patches" if self.source == "pictures" else "whole")) == "patches"

    @property
    def path(self) -> str:
        """The folder or file, its variables expanded; empty where the source is in a package."""
        return outside_path(self.files) if self.files else ""

    @model_validator(mode="after")
    def _consistent(self) -> "ImagingParams":
        if (self.source == "files") != (self.files is not None):
            raise ValueError("source 'files' and `files` belong together: give both or neither")
        if self.shrink > 1 and not self.patches:
            raise ValueError(
                f"`shrink` is of patches, and these images are taken whole: found {self.shrink}, wanted 1 or "
                "`cut: patches`"
            )
        return self

    def user_files(self) -> list[str]:
        """The user's images; the folder itself where it has none."""
        if not self.files:
            return []
        return (image_files(self.path) or [self.path]) if os.path.isdir(self.path) else [self.path]
