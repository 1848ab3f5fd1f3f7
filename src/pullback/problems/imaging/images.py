"""Images of a prior: scikit-learn's digits, pictures that scikit-image ships, or the user's files, whole or cut."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from pullback.core.optional import require
from pullback.problems.imaging.settings import ImagingParams
from pullback.problems.pixels import resized
from pullback.readers.pictures import Files, PictureError, Stack, open_images

PICTURES = (
    *("astronaut.png", "coffee.png", "motorcycle_left.png", "coins.png", "camera.png"),
    *("grass.png", "brick.png", "ihc.png", "moon.png", "chelsea.png"),
    *("gravel.png", "hubble_deep_field.jpg", "retina.jpg", "clock_motion.png", "rocket.jpg"),
)
"""Those in scikit-image's wheel that are no text, logo or shape; of each five, what is held out is another subject."""

GROUP = 5
PLACES = {"train": (0, 1, 2), "validation": (3,), "held-out": (4,), "all": (0, 1, 2, 3, 4)}
"""Which of each five images belong to a part."""


@lru_cache(maxsize=1)
def _digits() -> Sequence[np.ndarray]:
    images = require("sklearn.datasets", "images").load_digits().images
    return Stack(images / 16, "scikit-learn's digits")


def _pictures() -> Sequence[np.ndarray]:
    folder = Path(str(require("skimage.data", "images").__file__)).parent
    if missing := [name for name in PICTURES if not (folder / name).exists()]:
        raise PictureError(f"scikit-image ships no {', '.join(missing)} here: install scikit-image 0.24 to 0.26")
    return Files([str(folder / name) for name in PICTURES])


class Source:
    """The images that a prior draws from.

    Args:
        params: of the prior.
        size: pixels along each side of x.

    Raises:
        PictureError: there are no images, or fewer than parts are made of.
    """

    def __init__(self, params: ImagingParams, size: int):
        self.params, self.size = params, size
        if params.source == "files":
            self.name, self.images = params.path, open_images(params.path)
        elif params.source == "digits":
            self.name, self.images = "scikit-learn's digits", _digits()
        else:
            self.name, self.images = "scikit-image's pictures", _pictures()
        part = params.images or "all"
        if part != "all" and len(self.images) < GROUP:
            raise PictureError(
                f"{self.name}: {len(self.images)} images, wanted at least {GROUP}, of which some are held out; or "
                "`images: all`"
            )
        self.index = np.flatnonzero(np.isin(np.arange(len(self.images)) % GROUP, PLACES[part]))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n random images (n, row, column), float32 in [0, 1]."""
        chosen, place = self.index[rng.integers(len(self.index), size=n)], rng.random((n, 2))
        out = np.empty((n, self.size, self.size), np.float32)
        # One image after the other: each is read once for all that is cut from it.
        for image in np.unique(chosen):
            rows = np.flatnonzero(chosen == image)
            out[rows] = self.patches(int(image), place[rows]) if self.params.patches else self.whole(int(image))
        return out

    @cached_property
    def every(self) -> np.ndarray:
        """All images of the part, taken whole, (image, row, column) float32."""
        return np.stack([self.whole(int(image)) for image in self.index]).astype(np.float32)

    def whole(self, image: int) -> np.ndarray:
        """The largest square in the middle of an image, interpolated to (row, column)."""
        picture = self.images[image]
        side = min(picture.shape)
        top, left = ((length - side) // 2 for length in picture.shape)
        return resized(picture[None, top : top + side, left : left + side], self.size)[0]

    def patches(self, image: int, place: np.ndarray) -> np.ndarray:
        """Patches (patch, row, column) of an image at places (patch, 2) in [0, 1)."""
        picture, step = self.images[image], self.params.shrink
        rows, columns = (length // step for length in picture.shape)
        if min(rows, columns) < self.size:
            raise PictureError(
                f"{self.name}, image {image}: {picture.shape[0]} x {picture.shape[1]} pixels"
                f"{f', shrunk by {step}' if step > 1 else ''}, smaller than a patch of {self.size} x {self.size}: take "
                "larger images, a smaller `size` or `shrink`, or `cut: whole`"
            )
        picture = picture[: rows * step, : columns * step].reshape(rows, step, columns, step).mean((1, 3))
        first = (place * (np.array([rows, columns]) - self.size + 1)).astype(int)
        windows = np.lib.stride_tricks.sliding_window_view(picture, (self.size, self.size))
        return windows[first[:, 0], first[:, 1]]
