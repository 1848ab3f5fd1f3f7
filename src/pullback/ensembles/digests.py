"""Digests of arrays, and a combined digest that is independent of the split into files."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np


def array_digest(array: np.ndarray) -> str:
    """SHA-256 of the bytes of an array in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def content_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """One digest for some arrays: that of a file that holds them."""
    shapes = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    return combine_digests({name: array_digest(array) for name, array in arrays.items()}, shapes)


def combine_digests(digests: Mapping[str, str], shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    """One digest for the arrays of a file, independent of the split into files."""
    text = json.dumps([[name, digests[name], shapes.get(name)] for name in sorted(digests)])
    return hashlib.sha256(text.encode()).hexdigest()
