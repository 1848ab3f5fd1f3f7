"""Gray images from files: folders of PNG, JPEG or NumPy files, a NumPy file of many images, idx files."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from pullback.core.optional import require
from pullback.readers.idx import IdxError, read_idx

ENDINGS = (".png", ".jpg", ".jpeg", ".npy")
KEPT = 64
"""Images of files that are kept in memory; a picture has some megabytes."""
CHANNELS = (3, 4)


class PictureError(ValueError):
    """Images that cannot be read, or are not as they should be; the message says what is wanted."""


def image_files(folder: Path | str) -> list[str]:
    """The image files of a folder by their names, sorted."""
    names = sorted(os.listdir(folder))
    return [os.path.join(folder, name) for name in names if name.lower().endswith(ENDINGS)]


class Stack(Sequence[np.ndarray]):
    """Images of one file (image, row, column), each checked and made float64 when it is asked for."""

    def __init__(self, images: np.ndarray, source: str):
        self.images, self.source = images, source

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return gray(np.asarray(self.images[index]), f"{self.source}, image {index}")


class Files(Sequence[np.ndarray]):
    """Images of one file each, read when they are asked for."""

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        path = self.paths[index]
        return _read(path, os.stat(path).st_mtime_ns)


def open_images(path: Path | str) -> Sequence[np.ndarray]:
    """The images of a folder (`ENDINGS`), of one .npy (image, row, column), or of an idx file, gzipped or not.

    Each is an array (row, column) float64 in [0, 1] of its own shape; colours become gray.

    Raises:
        PictureError: there is nothing of that name, it holds no images, or something else.
    """
    path = str(path)
    if os.path.isdir(path):
        if not (found := image_files(path)):
            raise PictureError(f"{path}: the folder holds no images: put files with {', '.join(ENDINGS)} there")
        return Files(found)
    if not os.path.exists(path):
        raise PictureError(f"{path}: there is no such folder or file; correct `files`, or the variable in it")
    if path.endswith(".npy"):
        images = _load(path, mmap_mode="r")
        if images.ndim != 3 or not len(images):
            raise PictureError(f"{path}: an array of shape {images.shape}, wanted (image, row, column)")
        return Stack(images, path)
    try:
        return Stack(read_idx(path, 3), path)
    except IdxError as error:
        raise PictureError(f"{error}; or give a folder of images, or one .npy") from None


@lru_cache(maxsize=KEPT)
def _read(path: str, changed: int) -> np.ndarray:
    if path.lower().endswith(".npy"):
        return gray(_load(path), path)
    imageio = require("imageio.v3", "images")
    try:
        return gray(imageio.imread(path, plugin="pillow"), path)
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(
            f"{path}: cannot be read as an image ({error}); save it again as PNG, or take it out"
        ) from None


def _load(path: str, **how: str) -> np.ndarray:
    try:
        found: np.ndarray = np.load(path, allow_pickle=False, **how)  # type: ignore[arg-type]
    except (OSError, ValueError, EOFError) as error:
        raise PictureError(
            f"{path}: cannot be read as a NumPy array ({error}); save it again with numpy.save"
        ) from None
    return found


def gray(image: np.ndarray, source: str) -> np.ndarray:
    """An image as (row, column) float64 in [0, 1].

    Args:
        image: (row, column), or (row, column, channel) with red, green, blue and perhaps opacity, which is ignored.
            Unsigned bytes and 16-bit numbers are divided by the largest of their type; floating-point numbers are in
            [0, 1].
        source: what messages call it.

    Raises:
        PictureError: it is no such image, or has values that are not in [0, 1].
    """
    if image.ndim not in (2, 3) or 0 in image.shape or (image.ndim == 3 and image.shape[2] not in CHANNELS):
        raise PictureError(f"{source}: an array of shape {image.shape}, wanted (row, column), or with 3 or 4 colours")
    if image.dtype in (np.uint8, np.uint16):
        image = image / np.iinfo(image.dtype).max
    elif image.dtype == bool or np.issubdtype(image.dtype, np.floating):
        image = image.astype(np.float64)
    else:
        raise PictureError(f"{source}: values of type {image.dtype}, wanted uint8, uint16, or floats in [0, 1]")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise PictureError(f"{source}: values from {low:g} to {high:g}, wanted [0, 1]: rescale them")
    if image.ndim == 3:
        image = require("skimage.color", "images").rgb2gray(image[..., :3])
    return np.clip(image, 0.0, 1.0)
