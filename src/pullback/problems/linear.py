"""Linear operators: A, its transpose and its singular values, on arrays or tensors with a leading event axis."""

from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from pullback.core.arrays import like

MOST_COMPONENTS = 64 * 64
"""Of x: singular vectors are dense matrices, which would take gigabytes for more."""


class Svd(NamedTuple):
    """A = U diag(s) V^T on flat fields: U (component of y, rank), s (rank,), V (component of x, rank)."""

    u: np.ndarray
    s: np.ndarray
    v: np.ndarray


class LinearOperator(Protocol):
    """A from x (event, *x) to y (event, *y). ``svd`` (`Svd`) exists where it is cheap; else there is no attribute."""

    def apply(self, x: np.ndarray) -> np.ndarray:
        """A x (event, *y)."""
        ...

    def transpose(self, u: np.ndarray) -> np.ndarray:
        """A^T u (event, *x) of u (event, *y)."""
        ...


class Matrix:
    """A dense matrix (component of y, component of x) between vectors."""

    def __init__(self, matrix: np.ndarray):
        self.matrix = np.asarray(matrix, np.float64)

    def apply(self, x: np.ndarray) -> np.ndarray:
        """A x (event, component of y)."""
        return x @ like(self.matrix.T, x)

    def transpose(self, u: np.ndarray) -> np.ndarray:
        """A^T u (event, component of x)."""
        return u @ like(self.matrix, u)

    @cached_property
    def svd(self) -> Svd:
        """The thin decomposition, largest singular value first."""
        u, s, vt = np.linalg.svd(self.matrix, full_matrices=False)
        return Svd(u, s, vt.T)


class Identity:
    """y = x: the signal of a measurement that adds noise or loses components."""

    def __init__(self, shape: tuple[int, ...]):
        self.size = int(np.prod(shape))

    def apply(self, x: np.ndarray) -> np.ndarray:
        """x."""
        return x

    def transpose(self, u: np.ndarray) -> np.ndarray:
        """u."""
        return u

    @cached_property
    def svd(self) -> Svd:
        """Unit vectors, all singular values 1; of up to `MOST_COMPONENTS`."""
        refuse_svd(self.size)
        return Svd(np.eye(self.size), np.ones(self.size), np.eye(self.size))


def refuse_svd(components: int) -> None:
    """Raise AttributeError where singular vectors would be too large: the operator has no ``svd``."""
    if components > MOST_COMPONENTS:
        raise AttributeError(f"no singular vectors: {components} components, wanted at most {MOST_COMPONENTS}")
