"""Linear operators on square images x (event, row, column), each with its transpose and its singular vectors.

Written once for arrays and tensors. Borders of blurs are periodic: the two-dimensional Fourier basis then diagonalises
them, and the singular vectors are known without a decomposition.
"""

import math
import sys
from functools import cached_property
from typing import Any

import numpy as np

from pullback.core.arrays import is_tensor, like
from pullback.problems.linear import Svd, refuse_svd
from pullback.problems.pixels import splat

CUT = 4.0
"""Standard deviations at which a Gaussian kernel ends, as scipy.ndimage's does."""

POINTS_PER_PIXEL = 64
"""Points that stand for the path of a motion."""


class Circular:
    """Convolution with a kernel, periodic at the borders.

    The vectors e_k(n) = exp(2 pi i k.n / N) / N are eigenvectors with the values lambda_k = sum_m kernel_m exp(-2 pi i
    k.m / N). Of each pair k, -k the real and imaginary parts of sqrt(2) e_k are two right singular vectors of value
    |lambda_k|; the left ones are those of e_k turned by the phase of lambda_k. They are orthonormal also where lambda_k
    is 0.

    Args:
        kernel: odd x odd (row, column), its middle at displacement 0, no larger than the image.
        size: pixels N along each side of the image.
    """

    def __init__(self, kernel: np.ndarray, size: int):
        self.size = size
        rows, columns = kernel.shape
        whole = np.zeros((size, size))
        whole[:rows, :columns] = kernel
        self.kernel = np.roll(whole, (-(rows // 2), -(columns // 2)), (0, 1))
        self.spectrum = np.fft.fft2(self.kernel)

    def apply(self, x: Any) -> Any:
        """A x (event, row, column)."""
        return self._filtered(x, self.spectrum)

    def transpose(self, u: Any) -> Any:
        """A^T u (event, row, column): the correlation with the kernel."""
        return self._filtered(u, self.spectrum.conj())

    def _filtered(self, x: Any, spectrum: np.ndarray) -> Any:
        half = spectrum[:, : self.size // 2 + 1]
        # The two modules agree on these functions.
        fft: Any = sys.modules["torch"].fft if is_tensor(x) else np.fft
        waves = fft.rfft2(x)
        return fft.irfft2(waves * like(half, waves), s=(self.size, self.size))

    @cached_property
    def svd(self) -> Svd:
        """Of up to `MOST_COMPONENTS` pixels, largest value first; see the class."""
        refuse_svd(self.size**2)
        n, pixels = self.size, np.arange(self.size)
        row, column = (each.ravel() for each in np.meshgrid(pixels, pixels, indexing="ij"))
        opposite = (-row % n) * n + (-column % n)
        own = np.arange(n * n)
        single, pair = own[own == opposite], own[own < opposite]

        def waves(of: np.ndarray) -> np.ndarray:
            # Whole numbers are reduced first: the phase of a far pixel is then as exact as that of a near one.
            return 2 * math.pi / n * ((np.outer(row, row[of]) + np.outer(column, column[of])) % n)

        values = self.spectrum.ravel()
        phase, turned = waves(pair), np.angle(values[pair])
        alone, root = np.cos(waves(single)) / n, math.sqrt(2) / n
        right = np.hstack([alone, root * np.cos(phase), root * np.sin(phase)])
        phase += turned
        left = np.hstack([np.where(values[single].real < 0, -alone, alone), root * np.cos(phase), root * np.sin(phase)])
        s = np.abs(np.concatenate([values[single], values[pair], values[pair]]))
        order = np.argsort(-s, kind="stable")
        return Svd(left[:, order], s[order], right[:, order])


class BlockMean:
    """Means of blocks of factor x factor pixels: the image on a grid that is coarser by this factor.

    A A^T = I / factor^2: all singular values are 1 / factor, and factor A^T has the right singular vectors.

    Args:
        size: pixels along each side of the image, a multiple of ``factor``.
        factor: pixels along each side of a block.
    """

    def __init__(self, size: int, factor: int):
        self.size, self.factor, self.coarse = size, factor, size // factor
        self.rows = np.kron(np.eye(self.coarse), np.full((1, factor), 1 / factor))

    def apply(self, x: Any) -> Any:
        """A x (event, coarse row, coarse column)."""
        rows = like(self.rows, x)
        return rows @ x @ rows.T

    def transpose(self, u: Any) -> Any:
        """A^T u (event, row, column): each value, divided by factor^2, on all pixels of its block."""
        rows = like(self.rows, u)
        return rows.T @ u @ rows

    @cached_property
    def svd(self) -> Svd:
        """Of up to `MOST_COMPONENTS` pixels; see the class."""
        refuse_svd(self.size**2)
        count = self.coarse**2
        return Svd(np.eye(count), np.full(count, 1 / self.factor), self.factor * np.kron(self.rows, self.rows).T)


def gaussian_radius(width: float) -> int:
    """Pixels from the middle of a Gaussian kernel of this standard deviation to its end."""
    return int(CUT * width + 0.5)


def gaussian_kernel(width: float) -> np.ndarray:
    """A Gaussian of standard deviation ``width`` in pixels, cut at `CUT` of it and normalised, (row, column)."""
    offset = np.arange(-gaussian_radius(width), gaussian_radius(width) + 1)
    line = np.exp(-0.5 * (offset / width) ** 2)
    line /= line.sum()
    return np.outer(line, line)


def motion_radius(length: float) -> int:
    """Pixels from the middle of a path of this length to the end of its kernel."""
    return math.ceil(length / 2)


def motion_kernel(length: float, angle: float) -> np.ndarray:
    """A straight path of ``length`` pixels at constant speed, (row, column).

    Its points are shared bilinearly by the four pixels around them. ``angle`` in degrees from the direction of growing
    columns towards that of falling rows (as drawn: to the right, then up).
    """
    radius, points = motion_radius(length), math.ceil(length * POINTS_PER_PIXEL)
    along = ((np.arange(points) + 0.5) / points - 0.5) * length
    side, turn = 2 * radius + 1, math.radians(angle)
    where = radius - along * math.sin(turn), radius + along * math.cos(turn)
    return splat(np.zeros(points, int), *where, np.full(points, 1 / points), (1, side, side))[0]
