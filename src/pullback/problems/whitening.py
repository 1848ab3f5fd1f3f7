"""Gaussian noise of one observation: which components of y were observed, and residuals of them in units of the noise.

With the covariance R = L L^T of the observed components, W = L^-1 whitens: log p(y|x) = -|W (y - F(x))|^2 / 2 -
(log det R + m log 2 pi) / 2.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


class NoiseError(ValueError):
    """Noise that a residual cannot be divided by; the message says what was found and what to do."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """W of one observation.

    Attributes:
        seen: which components of y were observed (component of y,), bool; m of them.
        root: standard deviations of their noise (m,), or W (m, m) where it is correlated.
        variances: of their noise (m,).
        log_det: log of the determinant of their covariance.
    """

    seen: np.ndarray
    root: np.ndarray
    variances: np.ndarray
    log_det: float

    @classmethod
    def unit(cls, seen: np.ndarray) -> "Whitening":
        """Of noise that is not known: residuals stay in units of y."""
        ones = np.ones(int(seen.sum()))
        return cls(seen, ones, ones, 0.0)

    @classmethod
    def of(cls, covariance: Any, shape: tuple[int, ...], seen: np.ndarray) -> "Whitening":
        """Of the covariance that a problem gives.

        Args:
            covariance: ``noise_covariance`` of `pullback.problems.base.Problem`.
            shape: of y.
            seen: which components of y were observed (component of y,), bool.

        Raises:
            NoiseError: a component has no noise, or the matrix is not positive definite.
        """
        covariance = np.asarray(covariance, np.float64)
        if covariance.shape == (seen.size,) * 2 and covariance.shape != shape:
            matrix = covariance[np.ix_(seen, seen)]
            try:
                factor = np.linalg.cholesky(matrix)
            except np.linalg.LinAlgError as e:
                raise NoiseError(
                    f"the covariance of the noise is not positive definite ({e}): a residual is divided by it; give "
                    "each component of y noise of its own"
                ) from e
            log_det = 2 * float(np.log(np.diagonal(factor)).sum())
            return cls(seen, np.linalg.inv(factor), np.diagonal(matrix), log_det)
        variances = np.broadcast_to(covariance, shape).ravel()[seen]
        if not (variances > 0).all():
            raise NoiseError(
                f"the noise has variance {variances.min():.3g}: a residual is divided by it, and a likelihood without "
                "noise has no density; give the problem's simulator a positive noise"
            )
        return cls(seen, np.sqrt(variances), variances, float(np.log(variances).sum()))

    def apply(self, gap: Tensor) -> Tensor:
        """Residuals (B, component of y), in units of y, of the observed components in units of the noise (B, m)."""
        observed, root = gap[:, torch.as_tensor(self.seen, device=gap.device)], torch.as_tensor(self.root).to(gap)
        return observed @ root.T if root.ndim == 2 else observed / root

    def transpose(self, u: Tensor) -> Tensor:
        """W^T u (B, component of y) of u (B, m); 0 where a component was not observed."""
        root = torch.as_tensor(self.root).to(u)
        full = u.new_zeros((len(u), self.seen.size))
        full[:, torch.as_tensor(self.seen, device=u.device)] = u @ root if root.ndim == 2 else u / root
        return full

    def is_as(self, other: "Whitening") -> bool:
        """Whether both whiten alike."""
        return np.array_equal(self.seen, other.seen) and np.array_equal(self.root, other.root)
