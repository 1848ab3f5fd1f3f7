"""Fields x and y: dimension names, shape, units, and transforms for networks."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Transform = Literal["linear", "log", "log1p", "symlog", "whole", "periodic", "relative"]
"""How a network sees a quantity before standardisation. linear: as it is. log, log1p: of a positive quantity. symlog:
sign(v) log(1 + |v| / s), s the root mean square of the training data. whole: as it is, of a whole number; draws are
rounded. periodic: an angle in radians; y enters as (sin, cos), x as its difference to the feature of the same name in
y, wrapped to [-pi, pi). relative: x as its difference to the feature of the same name in y, y as it is: for a quantity
that is measured far more precisely than it varies."""

RELATIVE: tuple[Transform, ...] = ("periodic", "relative")
"""Transforms of x that need the observation."""


def alone(transforms: tuple[Transform, ...]) -> tuple[Transform, ...]:
    """Transforms of x without an observation: what is relative to it is seen as it is."""
    return tuple("linear" if transform in RELATIVE else transform for transform in transforms)


@dataclass(frozen=True)
class Coordinate:
    """Values along one dimension, with a unit: metres along ``depth``, seconds along ``time``."""

    values: np.ndarray
    units: str


@dataclass(frozen=True)
class Field:
    """One of the two fields of a problem.

    A vector of named quantities has one dimension (``x_feature`` or ``y_feature``), one unit and one transform each.
    An array (a velocity model, shot gathers) has its own dimension names and one unit and transform for all.

    Attributes:
        name: ``"x"`` or ``"y"``.
        units: one for each feature, or a single one.
        features: names of the quantities; empty for an array.
        dims: names of the dimensions after ``event``.
        shape: sizes of these dimensions.
        transforms: one for each feature, or a single one.
        low, high: physical bounds (features' or one for all); methods project x to them before a simulator sees it.
        coordinates: values along dimensions, by name.
    """

    name: Literal["x", "y"]
    units: tuple[str, ...]
    features: tuple[str, ...] = ()
    dims: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    transforms: tuple[Transform, ...] = ("linear",)
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    coordinates: dict[str, Coordinate] = field(default_factory=dict)

    @staticmethod
    def vector(name: Literal["x", "y"], features: Any, units: Any, **more: Any) -> "Field":
        """A vector of named quantities; ``units`` is one string for all or one for each."""
        features = tuple(features)
        units = (units,) * len(features) if isinstance(units, str) else tuple(units)
        more.setdefault("transforms", ("linear",) * len(features))
        return Field(name, units, features, (f"{name}_feature",), (len(features),), **more)

    @staticmethod
    def array(name: Literal["x", "y"], dims: Any, shape: Any, units: str, **more: Any) -> "Field":
        """An array with real dimension names and one unit."""
        return Field(name, (units,), (), tuple(dims), tuple(shape), **more)

    def __post_init__(self) -> None:
        if len(self.dims) != len(self.shape) or not self.dims:
            raise ValueError(
                f"field {self.name}: dims {self.dims} and shape {self.shape} must have the same length, at least 1"
            )
        wanted = len(self.features) or 1
        for what, values in (
            ("units", self.units),
            ("transforms", self.transforms),
            ("low", self.low),
            ("high", self.high),
        ):
            if values is not None and len(values) != wanted:
                raise ValueError(f"field {self.name}: {what} has {len(values)} entries, wanted {wanted}")

    @property
    def is_vector(self) -> bool:
        """Whether this is a vector of named quantities."""
        return bool(self.features)

    def project(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (event, ...) clipped to the bounds, and whether each event was changed (event,)."""
        low = -np.inf if self.low is None else np.asarray(self.low if self.is_vector else self.low[0])
        high = np.inf if self.high is None else np.asarray(self.high if self.is_vector else self.high[0])
        clipped = np.clip(values, low, high).astype(values.dtype)
        changed = (clipped != values).reshape(len(values), -1).any(axis=1)
        return clipped, changed
