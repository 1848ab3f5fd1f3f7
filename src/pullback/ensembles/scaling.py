"""Scaling of x and y for networks: a transform of each quantity, then standardisation on the seen training data."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from pullback.core.angles import wrap
from pullback.ensembles.fields import RELATIVE, Field, Transform

OF_Y: dict[Transform, tuple[str, ...]] = {"periodic": ("sin", "cos"), "relative": ("linear",)}
"""Columns of an observed quantity, where they are not its transform."""


class ScalingError(ValueError):
    """A value that a transform cannot take; the message names the field, the quantity and the value."""


@dataclass(frozen=True)
class Column:
    """One network input or output: which quantity, through which transform, standardised how.

    Attributes:
        source: index of the quantity in its field (0 for an array, which has one column for all its entries).
        name: name of the quantity, for messages.
        transform: a transform of ``Field``; a periodic y quantity has two columns, ``"sin"`` and ``"cos"``.
        mean, std: of the transformed training values.
        scale: s of ``symlog``; 1 otherwise.
        partner: for a periodic or relative x quantity, index of the y quantity whose difference it is; -1 otherwise.
    """

    source: int
    name: str
    transform: str
    mean: float
    std: float
    scale: float = 1.0
    partner: int = -1


def _transform(values: np.ndarray, column: Column, field: str) -> np.ndarray:
    """The transformed values, without standardisation; in the precision of ``values``."""
    if column.transform == "log":
        _refuse(values, values <= 0, column, field, "a logarithm takes values > 0")
        return np.log(values)
    if column.transform == "log1p":
        _refuse(values, values <= -1, column, field, "log(1 + v) takes values > -1")
        return np.log1p(values)
    if column.transform == "symlog":
        return np.sign(values) * np.log1p(np.abs(values) / column.scale)
    if column.transform == "sin":
        return np.sin(values)
    if column.transform == "cos":
        return np.cos(values)
    return values


def _inverse(values: np.ndarray, column: Column) -> np.ndarray:
    if column.transform == "log":
        return np.exp(values)
    if column.transform == "log1p":
        return np.expm1(values)
    if column.transform == "symlog":
        return np.sign(values) * np.expm1(np.abs(values)) * column.scale
    if column.transform == "whole":
        return np.round(values) + 0.0  # no -0
    return values


def _refuse(values: np.ndarray, bad: np.ndarray, column: Column, field: str, wanted: str) -> None:
    if bad.any():
        what = f"'{column.name}' of {field}" if column.name else field
        raise ScalingError(
            f"{what} is seen through the transform '{column.transform}', and {int(bad.sum())} of {bad.size} values "
            f"cannot be taken, the first is {values[bad].flat[0]:.6g}; {wanted}: choose another transform for this "
            "quantity or cut these events"
        )


class Scaling:
    """The map between physical units and what networks see.

    A vector's quantities are transformed and standardised one by one; an array is standardised by one mean and one
    standard deviation over all entries. It is fitted on seen training data only. A quantity that never varies is only
    centred.

    Attributes:
        x_shape, y_shape: shapes as networks see them, without leading axes.
    """

    def __init__(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...], x: list[Column], y: list[Column]):
        self._x, self._y = x, y
        self._vector = {"x": bool(x[0].name), "y": bool(y[0].name)}
        self.x_shape = tuple(x_shape)
        self.y_shape = tuple(y_shape)

    @staticmethod
    def fit(x_field: Field, y_field: Field, x: np.ndarray, y: np.ndarray) -> "Scaling":
        """Fit on events of the seen families.

        Args:
            x_field, y_field: the problem's fields.
            x: (event, *x), physical units.
            y: (event, *y), physical units.

        Raises:
            ScalingError: a value that a transform cannot take, or a quantity of x relative to one that y does not have.
        """
        columns_y = [_fit_column(column, _take(y, column, y_field.is_vector), "y") for column in _columns(y_field)]
        columns_x = []
        for column in _columns(x_field):
            values = _take(x, column, x_field.is_vector)
            if column.transform in RELATIVE:
                if column.name not in y_field.features:
                    raise ScalingError(
                        f"'{column.name}' of x is {column.transform}: it is learnt as its difference to the quantity "
                        f"of the same name in y, and y has {', '.join(y_field.features) or 'no named quantities'}; use "
                        "the transform 'linear'"
                    )
                partner = y_field.features.index(column.name)
                column = replace(column, partner=partner)
                values = _difference(values, y[..., partner], column)
            columns_x.append(_fit_column(column, values, "x"))
        y_shape = (len(columns_y),) if y_field.is_vector else y_field.shape
        return Scaling(x_field.shape, y_shape, columns_x, columns_y)

    @staticmethod
    def affine(x_field: Field, y_field: Field, mean: Sequence[float], std: Sequence[float]) -> "Scaling":
        """z = (x - mean) / std with one number for each quantity or one for all; y as it is."""
        columns = _columns(x_field)
        if len(mean) == 1:
            mean, std = [*mean] * len(columns), [*std] * len(columns)
        x = [replace(each, mean=m, std=s) for each, m, s in zip(columns, mean, std, strict=True)]
        y = _columns(y_field)
        return Scaling(x_field.shape, (len(y),) if y_field.is_vector else y_field.shape, x, y)

    def fields(self) -> tuple[Field, Field]:
        """The fields of x and y as far as they are known here: names, shapes and transforms; units are 1."""
        return _field("x", self._x, self.x_shape), _field("y", self._y, self.y_shape)

    @property
    def x_columns(self) -> tuple[Column, ...]:
        """The columns of x in the order of networks' quantities; one without a name where x is an array."""
        return tuple(self._x)

    @property
    def y_columns(self) -> tuple[Column, ...]:
        """The columns of y, likewise; a periodic quantity has two."""
        return tuple(self._y)

    def encode_y(self, y: np.ndarray) -> np.ndarray:
        """Observations (..., *y) in physical units as networks see them, (..., *y_shape), float32."""
        return self._encode(y, self._y, "y")

    def encode_x(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Truths (..., *x) in physical units as networks see them, (..., *x_shape), float32; leading axes broadcast."""
        return self._encode(x, self._x, "x", y)

    def decode_x(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The inverse of ``encode_x``: (..., *x), float32, physical units; leading axes of z and y broadcast.

        A periodic quantity comes back in [-pi, pi). Values so far out that they overflow become infinite.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            if not self._vector["x"]:
                column = self._x[0]
                scaled = np.asarray(z, dtype=np.float32) * np.float32(column.std) + np.float32(column.mean)
                return _inverse(scaled, column).astype(np.float32, copy=False)
            out = np.empty(np.shape(z), dtype=np.float32)
            for i, column in enumerate(self._x):
                values = np.asarray(z[..., i], dtype=np.float64) * column.std + column.mean
                if column.partner >= 0:
                    values = values + np.asarray(y[..., column.partner], dtype=np.float64)
                    out[..., i] = _float32_angle(wrap(values)) if column.transform == "periodic" else values
                else:
                    out[..., i] = _inverse(values, column)
            return out

    def _encode(self, values: np.ndarray, columns: list[Column], field: str, y: np.ndarray | None = None) -> np.ndarray:
        if not self._vector[field]:
            column = columns[0]
            seen = _transform(np.asarray(values, dtype=np.float32), column, field)
            return (seen - np.float32(column.mean)) / np.float32(column.std)
        values = np.asarray(values)
        out = np.empty((*values.shape[:-1], len(columns)), dtype=np.float32)
        for i, column in enumerate(columns):
            source = np.asarray(values[..., column.source], dtype=np.float64)
            if column.partner >= 0:
                assert y is not None
                source = _difference(source, y[..., column.partner], column)
            out[..., i] = (_transform(source, column, field) - column.mean) / column.std
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values (numbers, strings, lists), for an artifact."""
        return {
            "x_shape": list(self.x_shape),
            "y_shape": list(self.y_shape),
            "x": [asdict(column) for column in self._x],
            "y": [asdict(column) for column in self._y],
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Scaling":
        """The scaling that ``to_dict`` wrote."""
        x = [Column(**column) for column in values["x"]]
        y = [Column(**column) for column in values["y"]]
        return Scaling(tuple(values["x_shape"]), tuple(values["y_shape"]), x, y)


def _difference(x: np.ndarray, y: np.ndarray, column: Column) -> np.ndarray:
    """A quantity of x less that of y, wrapped where it is an angle."""
    difference: np.ndarray = x - np.asarray(y, dtype=np.float64)
    return wrap(difference) if column.transform == "periodic" else difference


def _float32_angle(angle: np.ndarray) -> np.ndarray:
    """Angles as float32, still in [-pi, pi): float32(pi) lies above pi, so that rounding may leave the interval."""
    rounded = angle.astype(np.float32)
    below = np.nextafter(np.float32(np.pi), np.float32(0))
    return np.clip(rounded, -below, below)


def _field(name: Literal["x", "y"], columns: list[Column], shape: tuple[int, ...]) -> Field:
    transforms: dict[str, Any] = {c.name: "periodic" if c.transform in ("sin", "cos") else c.transform for c in columns}
    if columns[0].name:
        return Field.vector(name, transforms, "1", transforms=tuple(transforms.values()))
    dims = [f"{name}_{axis}" for axis in range(len(shape))]
    return Field.array(name, dims, shape, "1", transforms=tuple(transforms.values()))


def _columns(field: Field) -> list[Column]:
    if not field.is_vector:
        transform: Transform = field.transforms[0]
        if transform in RELATIVE:
            raise ScalingError(f"{field.name} is an array: the transform '{transform}' is for named quantities")
        return [Column(0, "", transform, 0.0, 1.0)]
    columns = []
    for i, (name, transform) in enumerate(zip(field.features, field.transforms, strict=True)):
        seen = OF_Y.get(transform, (transform,)) if field.name == "y" else (transform,)
        columns += [Column(i, name, each, 0.0, 1.0) for each in seen]
    return columns


def _take(values: np.ndarray, column: Column, vector: bool) -> np.ndarray:
    return np.asarray(values[..., column.source], dtype=np.float64) if vector else np.asarray(values, dtype=np.float32)


def _fit_column(column: Column, values: np.ndarray, field: str) -> Column:
    # Sums in float64 also for float32 arrays: a mean over millions of entries.
    scale = 1.0
    if column.transform == "symlog":
        scale = float(np.sqrt(np.mean(np.square(values), dtype=np.float64))) or 1.0
    column = replace(column, scale=scale)
    seen = _transform(values, column, field)
    mean = float(np.mean(seen, dtype=np.float64))
    std = float(np.std(seen, dtype=np.float64))
    tiny = 1e-7 * max(abs(mean), 1e-30)
    return replace(column, mean=mean, std=std if std > tiny else 1.0)
