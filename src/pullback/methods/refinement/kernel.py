"""Kernel smoothing of samples that keeps their mean and covariance (Liu & West 2001, section 10.3.1).

Adding noise of covariance h^2 S to a sample of covariance S would widen it; shrinkage towards the mean compensates
this:

    z' = m + sqrt(1 - h^2) (z - m) + h S^1/2 eps,    eps ~ N(0, I).

The bandwidth h is the normal reference rule (Silverman 1986, table 4.1), which shrinks with the size n of the sample:
h = (4 / ((d + 2) n))^(1 / (d + 4)) in d dimensions.
"""

from dataclasses import replace

import numpy as np

from pullback.core.angles import wrap
from pullback.ensembles.fields import Field, alone
from pullback.ensembles.scaling import Scaling

JITTER_FLOOR = 1e-12
"""Added to the diagonal of a covariance, in units of the sample's variances: a sample of copies has none."""


class Coordinates:
    """Coordinates in which a truth is moved: its quantities through their transforms, standardised on a sample.

    A periodic quantity stays an angle, of which only differences count.

    Args:
        field: of the truth, a vector.
        x: the sample (particle, *x), physical units.
    """

    def __init__(self, field: Field, x: np.ndarray):
        self._periodic = np.array([transform == "periodic" for transform in field.transforms])
        # Nothing is seen relative to an observation: x stands in for one.
        plain = replace(field, transforms=alone(field.transforms))
        self._field = field
        self._scaling = Scaling.fit(plain, plain, x, x)
        turn = np.where(self._periodic, 2 * np.pi, 0.0)
        ones = np.ones(len(turn))
        self._turn = np.where(self._periodic, self._encode(ones + turn) - self._encode(ones), np.inf)

    def _encode(self, x: np.ndarray) -> np.ndarray:
        return self._scaling.encode_x(x, x).astype(np.float64)

    def smooth(self, x: np.ndarray, h: np.ndarray | float, eps: np.ndarray) -> np.ndarray:
        """Samples x (..., particle, *x) moved by a kernel, each along the last but one axis for itself.

        Args:
            x: physical units.
            h: bandwidth in [0, 1], one for all or one for each sample (...,).
            eps: standard normals of x's shape.

        Returns:
            The shape of x, float32, within the bounds of the field.
        """
        z = self._encode(x)
        mean = self._mean(z)
        away = self._nearest(z - mean)
        covariance = np.swapaxes(away, -1, -2) @ away / z.shape[-2]
        floor = JITTER_FLOOR * np.eye(z.shape[-1])
        h = np.asarray(h, np.float64)[..., None, None]
        moved = (
            mean + np.sqrt(1 - h**2) * away + h * (eps @ np.swapaxes(np.linalg.cholesky(covariance + floor), -1, -2))
        )
        out = self._scaling.decode_x(moved, moved)
        out[..., self._periodic] = wrap(out[..., self._periodic])
        return self._field.project(out.reshape(-1, out.shape[-1]))[0].reshape(out.shape)

    def _mean(self, z: np.ndarray) -> np.ndarray:
        mean = z.mean(axis=-2, keepdims=True)
        if self._periodic.any():
            turn = self._turn[self._periodic]
            phase = np.exp(2j * np.pi / turn * z[..., self._periodic]).mean(axis=-2, keepdims=True)
            mean[..., self._periodic] = np.angle(phase) * turn / (2 * np.pi)
        return mean

    def _nearest(self, away: np.ndarray) -> np.ndarray:
        if self._periodic.any():
            turn = self._turn[self._periodic]
            angle = away[..., self._periodic]
            away[..., self._periodic] = angle - turn * np.round(angle / turn)
        return away


def bandwidth(n: np.ndarray | float, dimension: int, factor: float = 1.0) -> np.ndarray:
    """``factor`` times the normal reference rule for samples of size n, at most 1."""
    return np.minimum(1.0, factor * (4 / ((dimension + 2) * np.asarray(n))) ** (1 / (dimension + 4)))
