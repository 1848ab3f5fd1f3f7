"""`Scaling` for torch tensors: the same maps, differentiable, in the type and on the device of what they are given."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pullback.ensembles.scaling import Column, ScalingError


def encode(columns: Sequence[Column], values: Tensor, partner: Tensor | None = None) -> Tensor:
    """Quantities of a vector (..., quantity) in physical units as networks see them, (..., column).

    Args:
        columns: `Scaling.x_columns` or `Scaling.y_columns`, with names.
        values: (..., quantity). A logarithm of what is not positive is NaN.
        partner: for columns with a partner, the vector that they are relative to.
    """
    parts = []
    for column in columns:
        v = values[..., column.source]
        if column.transform == "log":
            v = v.log()
        elif column.transform == "log1p":
            v = v.log1p()
        elif column.transform == "symlog":
            v = v.sign() * (v.abs() / column.scale).log1p()
        elif column.transform == "sin":
            v = v.sin()
        elif column.transform == "cos":
            v = v.cos()
        elif column.partner >= 0:
            v = v - _partner(column, partner).to(v)
            v = wrapped(v) if column.transform == "periodic" else v
        parts.append((v - column.mean) / column.std)
    return torch.stack(parts, -1)


def decode(columns: Sequence[Column], z: Tensor, partner: Tensor | None = None) -> Tensor:
    """The inverse of `encode`, as `Scaling.decode_x`, in the precision of z; of an array one column for all entries.

    Whole numbers are not rounded, which would have no derivative.

    Args:
        columns: `Scaling.x_columns`.
        z: (event, *x).
        partner: for columns with a partner, (event, quantity).

    Raises:
        ScalingError: a column has a partner, and there is none.
    """
    values = unscaled(columns, z)
    parts = []
    for i, column in enumerate(columns):
        v = values[..., i]
        if column.transform == "log":
            v = v.exp()
        elif column.transform == "log1p":
            v = v.expm1()
        elif column.transform == "symlog":
            # sign(v) expm1(|v|), in a form whose derivative at 0 is 1.
            v = (v.relu().expm1() - (-v).clamp(min=0).expm1()) * column.scale
        elif column.partner >= 0:
            v = v + _partner(column, partner).to(v)
            v = wrapped(v) if column.transform == "periodic" else v
        parts.append(v)
    return torch.stack(parts, -1).reshape(z.shape)


def unscaled(columns: Sequence[Column], z: Tensor) -> Tensor:
    """Transformed values (event, ..., column): of a vector one column for each quantity, of an array one for all."""
    values = z if columns[0].name else z[..., None]
    return values * z.new_tensor([c.std for c in columns]) + z.new_tensor([c.mean for c in columns])


def wrapped(angle: Tensor) -> Tensor:
    """Angles wrapped to [-pi, pi)."""
    return torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi


def _partner(column: Column, values: Tensor | None) -> Tensor:
    if values is None:
        raise ScalingError(f"'{column.name}' of x is relative to that of y: give y")
    return values[..., column.partner]
