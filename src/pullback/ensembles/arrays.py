"""Ensembles: the protocol for training and inference, and ensembles in memory (files: `store.EnsembleReader`)."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from pullback.ensembles.acceptance import FAKE, Missed
from pullback.ensembles.digests import content_digest
from pullback.ensembles.fields import Field, Transform

FIELD_EVENT_BYTES = 4096
"""An event of at least so many bytes is a field, a smaller one a row of a table: which is read and stored in blocks."""

TABLE_ROWS = 16_384
"""Rows of a table that are read at once where some of them are wanted."""


class ArrayError(ValueError):
    """Arrays that do not form an ensemble; the message says what was found and what was expected."""


class Ensemble(Protocol):
    """Events of one prior, or of several that follow each other.

    Attributes:
        path: where the events come from, for messages.
        n: number of events.
        x, y: fields; x is None where there is no truth.
        offsets: first event of each ensemble and n, (ensemble + 1,).
        theta: parameters of each ensemble's prior (ensemble, parameter), or None; `theta_names` names them.
        columns: variables with one row for each event: ``y``, ``event_id``, ``group`` and what else there is.
        missed: truths that were not recorded; None where that is not known.
        digest: SHA-256 of the content.
        attributes: plain values that describe the ensemble.
    """

    path: Any
    n: int
    x: Field | None
    y: Field
    offsets: np.ndarray
    theta: np.ndarray | None
    theta_names: list[str]
    columns: list[str]
    missed: Missed | None
    attributes: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        ...

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows ``start`` to ``stop`` of one variable."""
        ...

    def fake(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Which events have no truth (event,), bool."""
        ...

    def window(self, start: int, stop: int) -> "Ensemble":
        """A view of some events, as one ensemble."""
        ...


def read_rows(ensemble: Ensemble, name: str, rows: np.ndarray) -> np.ndarray:
    """Some rows of one variable, in increasing order: events of a field one by one, those of a table in blocks."""
    block = 1 if 4 * np.prod(ensemble.y.shape) >= FIELD_EVENT_BYTES else TABLE_ROWS
    found = []
    for number in np.unique(rows // block):
        inside = rows[rows // block == number]
        found.append(ensemble.read(name, int(inside[0]), int(inside[-1]) + 1)[inside - inside[0]])
    return np.concatenate(found)


class ArrayEnsemble:
    """An ensemble held in memory.

    Args:
        y: observations (event, ...), numpy or torch; kept as float32.
        x: truths (event, ...), or None.
        x_field, y_field: names, units and transforms of the quantities; by default `field_of` the arrays.
        weight: event weights (event,).
        event_id: number of each event (event,), which addresses its random numbers; 0, 1, ... by default.
        group: the unit of the bootstrap of each event (event,); each event is its own by default.
        theta: parameters of the prior (parameter,), where they are known.
        fake: which events have no truth (event,), bool; their x is not looked at.
        missed: truths that were not recorded.
        name: label in messages.

    Raises:
        ArrayError: arrays that are empty, not numeric, of unequal length, of another shape than the field, or with
            values that are not finite.
    """

    def __init__(
        self,
        y: Any,
        x: Any = None,
        *,
        x_field: Field | None = None,
        y_field: Field | None = None,
        weight: Any = None,
        event_id: Any = None,
        group: Any = None,
        theta: Any = None,
        fake: np.ndarray | None = None,
        missed: Missed | None = None,
        name: str = "the arrays",
    ):
        self.path = name
        found = {"y": as_events(y, f"{name}: y")}
        self.n = len(found["y"])
        self.missed = missed
        if x is not None and fake is not None:
            x = np.where(np.reshape(fake, (-1, *[1] * (np.ndim(x) - 1))), 0.0, x)
        if x is not None:
            found["x"] = as_events(x, f"{name}: x")
        if fake is not None:
            found[FAKE] = np.asarray(fake, np.int8)
            if "x" in found:
                found["x"][found[FAKE] != 0] = np.nan
        for key, values, dtype in (("weight", weight, np.float64), ("event_id", event_id, np.int64)):
            if values is not None:
                found[key] = _finite(values, f"{name}: {key}", dtype)
        found.setdefault("event_id", np.arange(self.n))
        found["group"] = found["event_id"] if group is None else _finite(group, f"{name}: group", np.int64)
        for key, values in found.items():
            if len(values) != self.n:
                raise ArrayError(
                    f"{name}: {key} has {len(values)} events and y has {self.n}: give one of each an event"
                )
            if key in ("weight", "event_id", "group") and values.ndim != 1:
                raise ArrayError(f"{name}: {key} has shape {values.shape}, wanted one number for each event")
        self._variables = found
        self.y = y_field or field_of("y", found["y"])
        self.x = (x_field or field_of("x", found["x"])) if "x" in found else None
        for field in filter(None, (self.x, self.y)):
            if field.shape != found[field.name].shape[1:]:
                raise ArrayError(
                    f"{name}: {field.name} of each event has shape {found[field.name].shape[1:]}, wanted {field.shape}"
                )
        self.columns = list(found)
        self.attributes: dict[str, Any] = {}
        self.offsets = np.array([0, self.n])
        self.theta = None if theta is None else np.atleast_2d(np.asarray(theta, np.float64))
        self.theta_names = [] if self.theta is None else [f"parameter_{i}" for i in range(self.theta.shape[1])]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows ``start`` to ``stop`` of one variable."""
        if name not in self._variables:
            raise ArrayError(f"{self.path}: there is no variable '{name}'; it has {', '.join(self.columns)}")
        return self._variables[name][start:stop]

    def fake(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Which events have no truth (event,), bool."""
        return self.read(FAKE, start, stop) != 0 if FAKE in self.columns else np.zeros(self.n, bool)[start:stop]

    def window(self, start: int, stop: int) -> "ArrayEnsemble":
        """A view of some events; parameters of the prior are left out."""
        view = self.select(slice(start, stop))
        view.theta, view.theta_names = None, []
        return view

    def select(self, events: np.ndarray | slice) -> "ArrayEnsemble":
        """Some of the events, of the same prior; misses are left out."""
        part = object.__new__(ArrayEnsemble)
        part.__dict__.update({key: value for key, value in self.__dict__.items() if key != "digest"})
        part._variables = {name: values[events] for name, values in self._variables.items()}
        part.n = len(part._variables["y"])
        part.offsets = np.array([0, part.n])
        part.missed = None
        return part

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content: that of a file with the same events."""
        return content_digest(self._variables | (self.missed.variables if self.missed else {}))


def field_of(
    name: Literal["x", "y"],
    values: np.ndarray,
    names: Sequence[str] | None = None,
    transforms: Transform | Sequence[Transform] = "linear",
) -> Field:
    """The field of an array (event, ...): a vector of quantities for (event, feature), else an array; units are 1.

    Args:
        name: ``"x"`` or ``"y"``.
        values: (event, feature) or (event, ..., ...).
        names: of a vector's quantities; ``x0``, ``x1``, ... by default.
        transforms: how networks see the quantities, one for all or one for each.

    Raises:
        ArrayError: not as many names or transforms as quantities.
    """
    shape = values.shape[1:]
    if len(shape) > 1:
        if names is not None or not isinstance(transforms, str):
            raise ArrayError(f"{name} is an array of shape {shape}: it has no names, and one transform for all of it")
        dims = [f"{name}_{i}" for i in range(len(shape))]
        return Field.array(name, dims, shape, "1", transforms=(transforms,))
    names = [f"{name}{i}" for i in range(shape[0])] if names is None else list(names)
    each = (transforms,) * len(names) if isinstance(transforms, str) else tuple(transforms)
    for what, given in (("names", names), ("transforms", each)):
        if len(given) != shape[0]:
            raise ArrayError(f"{name} has {shape[0]} quantities and {len(given)} {what}: give one for each")
    return Field.vector(name, names, "1", transforms=each)


def as_events(values: Any, what: str) -> np.ndarray:
    """An array of events (event, ...) as float32; (event,) becomes (event, 1).

    Raises:
        ArrayError: it is empty, not numeric, or has values that are not finite as float32.
    """
    array = _finite(values, what, np.float32)
    return array[:, None] if array.ndim == 1 else array


def _finite(values: Any, what: str, dtype: Any) -> np.ndarray:
    values = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise ArrayError(f"{what} has the type {values.dtype}, wanted real numbers")
    if values.ndim == 0 or values.size == 0:
        raise ArrayError(f"{what} has shape {values.shape}, wanted (event, ...) with at least one event")
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.ascontiguousarray(values, dtype=dtype)
    bad = ~np.isfinite(values if np.dtype(dtype).kind == "i" else array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ArrayError(
            f"{what} has {int(bad.sum())} values that are not finite as {np.dtype(dtype)}, the first at index {first}: "
            "repair these events or leave them out"
        )
    return array
