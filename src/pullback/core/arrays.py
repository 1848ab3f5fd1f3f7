"""Formulas that are written once for numpy arrays and for torch tensors, through which torch can differentiate."""

import sys
from typing import Any

import numpy as np


def is_tensor(values: Any) -> bool:
    """Whether this is a torch tensor; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.is_tensor(values))


def as_float64(*values: Any) -> tuple[Any, ...]:
    """All in float64: tensors on the device of the first of them where one is a tensor, else arrays."""
    tensor = next((v for v in values if is_tensor(v)), None)
    if tensor is None:
        return tuple(np.asarray(v, np.float64) for v in values)
    torch = sys.modules["torch"]
    return tuple(torch.as_tensor(v).to(tensor.device, torch.float64) for v in values)


def like(values: np.ndarray, other: Any) -> Any:
    """Constants as ``other`` is: an array as it stands, or a tensor of its type on its device."""
    return sys.modules["torch"].as_tensor(values).to(other) if is_tensor(other) else values


def log(values: Any) -> Any:
    """The natural logarithm."""
    return values.log() if is_tensor(values) else np.log(values)


def logsumexp(values: Any) -> Any:
    """log sum exp over the last axis, in float64."""
    if is_tensor(values):
        return values.logsumexp(-1)
    largest = values.max(axis=-1, keepdims=True)
    return largest[..., 0] + np.log(np.exp(values - largest).sum(axis=-1))
