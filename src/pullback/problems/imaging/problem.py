"""Images x in [0, 1] seen through a linear operator A with Gaussian noise of standard deviation s: y = A x + s eps.

A is a blur, a motion blur, means of blocks, or the pixels that are not lost. Lost pixels are exactly 0 in y; which they
are does not depend on x, so that with the m pixels that were kept

    log p(y|x) = -|y - A x|^2 / 2 s^2 - (m / 2) log(2 pi s^2).

s is in units of x, whose range has width 1. Codes of DPS and DDRM (arXiv 2209.14687, 2201.11793) add noise to images in
[-1, 1]: their sigma = 0.05 is s = 0.025 here.
"""

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pullback.ensembles.fields import Field
from pullback.problems.imaging.images import Source
from pullback.problems.imaging.settings import ImagingParams, ImagingSimulator
from pullback.problems.linear import MOST_COMPONENTS, LinearOperator
from pullback.problems.reweighting import choose
from pullback.readers.pictures import image_files
from pullback.study.base import Split, outside_path
from pullback.study.kinds import Message, Package, Review
from pullback.study.shifts import NoiseShift

if TYPE_CHECKING:
    from pullback.study.families import Family
    from pullback.study.model import Problem as StudyProblem

PART = {"train": "train", "validation": "validation", "test": "held-out", "reference": "held-out"}
"""The images of each split of a seen family."""


class Imaging:
    """Restoration of images: prior, linear forward process, likelihood, and exact posterior of a finite prior.

    Args:
        options: the ``simulator`` block.
    """

    Settings = ImagingSimulator
    Params = ImagingParams
    arrays = frozenset({"x", "y"})
    unlearnable = "x and y are arrays"
    advice: ClassVar[Mapping[str, str]] = {
        "undetermined": "less noise, a weaker blur or more pixels; or a prior that knows more",
    }
    block = 500
    fail = "error"

    @staticmethod
    def requires(settings: ImagingSimulator) -> Iterator[Package]:
        """The packages whose images are used, and that read the user's."""
        yield Package("sklearn", "scikit-learn", "images", "handwritten digits")
        yield Package("skimage", "scikit-image", "images", "pictures and image files")

    @staticmethod
    def check(problem: "StudyProblem") -> Iterator[Message]:
        """Noise would fall on lost pixels too; a folder without images."""
        for name, family in problem.families.items():
            if isinstance(family.shift, NoiseShift) and problem.simulator.operator.loses:
                yield (
                    f"families.{name}.shift",
                    "noise would fall on lost pixels too, whose exact 0 says that they are lost: use "
                    "{kind: simulator, change: {noise: ...}}",
                )
            folder = outside_path(str(family.params.get("files") or ""))
            if os.path.isdir(folder) and not image_files(folder):
                yield (
                    f"families.{name}.params.files",
                    f"{folder} holds no images: put .png, .jpg or .npy files there, or name another folder",
                )

    @staticmethod
    def split_params(problem: "StudyProblem", family: "Family", split: Split) -> dict[str, Any]:
        """Splits of a seen family take images of their own, other families what is held out; unless they say which."""
        if family.params.get("images"):
            return family.params
        return {**family.params, "images": PART[split] if family.role == "seen" else "held-out"}

    def __init__(self, options: ImagingSimulator):
        self.options = options
        self.size = size = options.size
        self.x = Field.array("x", ("row", "column"), (size, size), "1", low=(0.0,), high=(1.0,))
        shape = options.operator.shape(size)
        names = ("row", "column") if shape == self.x.shape else ("coarse_row", "coarse_column")
        self.y = Field.array("y", names, shape, "1")
        self._sources: dict[ImagingParams, Source] = {}

    def source(self, params: dict[str, Any]) -> Source:
        """The images of a prior."""
        prior = ImagingParams.model_validate(params)
        if prior not in self._sources:
            self._sources[prior] = Source(prior, self.size)
        return self._sources[prior]

    def sample_prior(self, rng: np.random.Generator, n: int, params: dict[str, Any]) -> np.ndarray:
        """Images (n, row, column), float32 in [0, 1]; ``params`` as in `ImagingParams`.

        Raises:
            PictureError: images that are not there, or not as they should be.
        """
        return self.source(params).draw(rng, n)

    def describe(self, splits: Mapping[str, dict[str, Any]]) -> Review | None:
        """How many images of the user's a split draws from; None of images that packages ship."""
        params = next(iter(splits.values()))
        if params["source"] != "files":
            return None
        source = self.source(params)
        how = "patches" if source.params.patches else "whole"
        return Review([], f"{source.name}: {len(source.images)} images, {len(source.index)} of them here, {how}")

    @cached_property
    def linear(self) -> LinearOperator:
        """A; of what loses pixels, the identity, of which `observed` says the rows that count."""
        return self.options.operator.build(self.size)

    @property
    def noise_covariance(self) -> float:
        """s^2, of each component of y that was not lost."""
        return self.options.noise**2

    def apply(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A x (event, *y) without noise; nothing is lost yet."""
        return self.linear.apply(x), np.ones(len(x), bool)

    def observe(self, signal: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Observations (event, *y) with noise, exactly 0 where a pixel was lost."""
        noisy = signal + self.options.noise * rng.standard_normal(signal.shape)
        return np.where(self.options.operator.kept(rng, len(signal), self.size), noisy, 0.0)

    def observed(self, y: np.ndarray) -> np.ndarray:
        """Which components of y (event, *y) were kept: all, or where pixels are lost those that are not exactly 0."""
        return y != 0 if self.options.operator.loses else np.ones(y.shape, bool)

    def log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y|x), given which pixels were kept; y (..., *y) and x (..., row, column), broadcast."""
        y, signal = np.asarray(y, np.float64), self.linear.apply(np.asarray(x, np.float64))
        kept = self.observed(y)
        squared = np.where(kept, (y - signal) ** 2, 0.0).sum((-2, -1))
        return -squared / (2 * self.noise_covariance) + self._log_constant(kept)

    def pairwise_log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y_i|x_p) of every pair (event, image) of y (event, *y) and x (image, row, column)."""
        y = np.asarray(y, np.float64)
        kept = self.observed(y)
        signal = self.linear.apply(np.asarray(x, np.float64)).reshape(len(x), -1)
        rows, mask = (y * kept).reshape(len(y), -1), kept.reshape(len(y), -1).astype(np.float64)
        squared = (rows**2).sum(1)[:, None] - 2 * rows @ signal.T + mask @ (signal**2).T
        return -squared / (2 * self.noise_covariance) + self._log_constant(kept)[:, None]

    def _log_constant(self, kept: np.ndarray) -> np.ndarray:
        return -0.5 * kept.sum((-2, -1)) * np.log(2 * np.pi * self.noise_covariance)

    def exact_posterior(
        self, y: np.ndarray, params: dict[str, Any], draws: int, pool: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws (event, draw, row, column) of a prior's images by their likelihood.

        Exact where images are taken whole and there are at most ``pool``: all are weighted, and the effective number is
        inf. Else ``pool`` random images or patches stand for them.
        """
        source = self.source(params)
        exact = not source.params.patches and len(source.index) <= pool
        images = source.every if exact else source.draw(rng, pool)
        equal = np.zeros(len(images))
        index, ess = choose(lambda some: self.pairwise_log_likelihood(some, images), y, equal, draws, rng)
        return images[index], np.full(len(y), np.inf) if exact else ess

    def preflight(self) -> dict[str, Any]:
        """The operator and the noise."""
        return {
            "operator": self.options.operator.model_dump(),
            "pixels": f"{self.size} x {self.size}",
            "observed": " x ".join(map(str, self.y.shape)),
            "noise": self.options.noise,
            "singular vectors": "yes"
            if self.size**2 <= MOST_COMPONENTS
            else f"none: more than {MOST_COMPONENTS} pixels",
        }
