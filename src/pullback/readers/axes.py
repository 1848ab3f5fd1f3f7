"""Which axis of an array is which dimension of a field: by names, by coordinates, by lengths."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pullback.ensembles.fields import Field
from pullback.readers.array_files import ALIASES, MEANINGS, Along, Variable, text
from pullback.readers.base import ReadError
from pullback.readers.coordinates import component_places, coordinate_places

MOST_AXES = 8
"""Arrays with more axes are of something else."""
MOST_MOVED = 6
"""Of more axes other orders are not tried."""
MISFIT = (
    "interpolate or cut it, or give the problem the settings (cells, sources, receivers, record) that it was made with"
)


@dataclass(frozen=True)
class Arrangement:
    """How the axes of a variable become (event, *field).

    Attributes:
        event: the axis of events; None where the file is one event.
        order: the axes of the field's dimensions, in their order; one of length 1 may lack.
        shape: of the field.
        take: places along each dimension, where they are in another order; None where they are not.
        said: what was not as the field has it, for messages.
        by_lengths: nothing but their lengths and order says which axes are which.
    """

    event: int | None
    order: tuple[int, ...]
    shape: tuple[int, ...]
    take: tuple[np.ndarray | None, ...]
    said: tuple[str, ...] = ()
    by_lengths: bool = False

    def events(self, variable: Variable) -> int:
        """Events of the variable."""
        return 1 if self.event is None else variable.shape[self.event]

    def read(self, variable: Variable, start: int, stop: int) -> np.ndarray:
        """Values (event, *field) of some events, of the variable's own type."""
        axes = range(len(variable.shape))
        values = variable.read(tuple(slice(start, stop) if axis == self.event else slice(None) for axis in axes))
        ahead = [axis for axis in axes if axis not in self.order and axis != self.event]
        first = [] if self.event is None else [self.event]
        values = values.transpose(*first, *ahead, *self.order)
        events = 1 if self.event is None else stop - start
        values = values.reshape(events, *self.shape)
        for axis, places in enumerate(self.take, start=1):
            values = values if places is None else np.take(values, places, axis=axis)
        return values


def arranged(
    variable: Variable,
    field: Field,
    dimensions: Mapping[str, str],
    axes: Sequence[str],
    units: Mapping[str, str],
) -> Arrangement:
    """Find the dimensions of a field among the axes of a variable.

    Args:
        variable: of the file.
        field: of the problem.
        dimensions: the study's names, of the field -> of the file.
        axes: the study's names of the axes, in order, where the file has none.
        units: the study's units of coordinates, by the field's names.

    Raises:
        ReadError: which axis is which cannot be known, or coordinates are not the field's.
    """
    what, sizes = f"{variable.path}: {variable.name or field.name}", dict(zip(field.dims, field.shape, strict=True))
    if len(variable.shape) > MOST_AXES:
        raise ReadError(f"{what} has {len(variable.shape)} axes, wanted {len(field.dims) + 1}: ({_said(field)})")
    names = _names(what, variable, axes)
    found = dict(_by_name(what, names, variable.coordinates, field, dimensions))
    said = [f"{names[axis]} is {dim}" for dim, axis in found.items() if names[axis] != dim]
    left = [axis for axis in range(len(names)) if axis not in found.values()]
    missing = [dim for dim in ("event", *field.dims) if dim not in found]
    by_lengths = False
    if missing == ["event"] and sum(variable.shape[axis] != 1 for axis in left) <= 1:
        longest = max(left, key=lambda axis: variable.shape[axis], default=None)
        if longest is not None:
            found["event"] = longest
            said += [f"{names[longest]} is event"] if names[longest] else []
    elif missing and (field.is_vector or all(names[axis] is None for axis in left)):
        found |= _by_lengths(what, variable, field, left, missing)
        by_lengths = not field.is_vector and len(missing) > 1
    missing = [dim for dim in field.dims if dim not in found and sizes[dim] != 1]
    extra = [axis for axis in range(len(names)) if axis not in found.values() and variable.shape[axis] != 1]
    if missing or extra:
        raise ReadError(
            f"{what} is ({', '.join(map(str, names))}), wanted ({_said(field)}): {_naming(names, missing, extra)}"
        )
    event = found.pop("event", None)
    there = {dim: found[dim] for dim in field.dims if dim in found}
    _compare_shape(what, variable, field, there)
    take, told = _along(what, variable, field, names, there, units)
    return Arrangement(event, tuple(there.values()), field.shape, take, (*said, *told), by_lengths)


def _said(field: Field) -> str:
    return ", ".join(("event", *field.dims))


def _naming(names: Sequence[str | None], missing: Sequence[str], extra: Sequence[int]) -> str:
    unknown = [str(names[axis]) for axis in extra] or ["NAME"]
    if not missing:
        return f"select one of {', '.join(unknown)}, or write events along one dimension"
    pairs = ", ".join(
        f"{dim}: {name}" for dim, name in itertools.zip_longest(missing, unknown[: len(missing)], fillvalue="NAME")
    )
    return f"if it is there under another name, say read.dimensions: {{{pairs}}}"


def _names(what: str, variable: Variable, axes: Sequence[str]) -> list[str | None]:
    if not axes:
        return list(variable.dims)
    if len(axes) != len(variable.shape):
        raise ReadError(
            f"{what} has {len(variable.shape)} axes, and `read.axes` names {len(axes)}: name each, in order"
        )
    for given, own in zip(axes, variable.dims, strict=True):
        if own is not None and given != own:
            raise ReadError(
                f"{what} is ({', '.join(map(str, variable.dims))}) by the file, which `read.axes` contradicts: leave "
                "it out, or name dimensions by read.dimensions"
            )
    return list(axes)


def _alias(name: str) -> frozenset[str]:
    return next((group for group in ALIASES.values() if name.lower() in group), frozenset({name.lower()}))


def _meanings(name: str, coordinates: Mapping[str, Along]) -> frozenset[str]:
    """What a dimension of the file may be called, by its name and by what its coordinate is said to be."""
    along = coordinates.get(name)
    said = [along.name, *(text(along.attributes.get(key)) for key in MEANINGS)] if along else []
    return frozenset[str]().union(*(_alias(each) for each in (name, *said) if each is not None))


def _by_name(
    what: str,
    names: Sequence[str | None],
    coordinates: Mapping[str, Along],
    field: Field,
    dimensions: Mapping[str, str],
) -> Iterator[tuple[str, int]]:
    """(dimension, axis) of what the study, the file or a usual name for it says."""
    free = {axis: name for axis, name in enumerate(names) if name is not None}
    wanted = ["event", *field.dims]
    for dim, name in dimensions.items():
        axis = next((axis for axis, own in free.items() if own == name), None)
        if axis is None and dim in field.dims:
            here = f"it is ({', '.join(map(str, names))}): correct read.dimensions"
            here = here if any(names) else "nothing in the file names its axes: say read.axes"
            raise ReadError(f"{what} has no dimension '{name}'; {here}")
        if dim not in wanted or axis is None:
            continue
        meanings = _meanings(name, coordinates)
        other = next((each for each in field.dims if each in meanings and dim not in meanings), None)
        if other is not None:
            raise ReadError(
                f"{what}: `read.dimensions` says that {name} is {dim}, and in the file it is {other}: correct the key"
            )
        wanted.remove(dim)
        del free[axis]
        yield dim, axis
    for is_usual in (False, True):
        may_be = {
            axis: [dim for dim in wanted if (dim in _meanings(name, coordinates) if is_usual else dim == name)]
            for axis, name in free.items()
        }
        for dim in tuple(wanted):
            axes = [axis for axis, dims in may_be.items() if dims == [dim]]
            if len(axes) == 1:
                wanted.remove(dim)
                del free[axes[0]]
                yield dim, axes[0]


def _fits(shape: Sequence[int], left: Sequence[int], missing: Sequence[str], field: Field) -> dict[str, int] | None:
    """The missing dimensions on axes of the same order; those of length 1 may be left out, and the event may lack."""
    sizes = dict(zip(field.dims, field.shape, strict=True))
    long = [dim for dim in missing if sizes.get(dim) != 1]
    for dims in (missing, [dim for dim in missing if dim != "event"], long, [dim for dim in long if dim != "event"]):
        for axes in itertools.combinations(left, len(dims)):
            if all(shape[axis] == 1 for axis in left if axis not in axes) and all(
                sizes.get(dim, shape[axis]) == shape[axis] for dim, axis in zip(dims, axes, strict=True)
            ):
                return dict(zip(dims, axes, strict=True))
    return None


def _by_lengths(
    what: str, variable: Variable, field: Field, left: Sequence[int], missing: Sequence[str]
) -> dict[str, int]:
    """The missing dimensions on the axes that are left, in this order.

    Raises:
        ReadError: they do not fit; the message has the order that would.
    """
    found = _fits(variable.shape, left, missing, field)
    if found is not None:
        return found
    remedy = MISFIT
    named = _order_that_fits(variable.shape, left, missing, field)
    if named is not None:
        key = f"axes: {{{field.name}: [{', '.join(named)}]}}"
        if any(variable.dims[axis] is not None for axis in left):
            pairs = (f"{dim}: {variable.dims[axis]}" for dim, axis in zip(named, left, strict=True) if dim in missing)
            key = f"dimensions: {{{', '.join(pairs)}}}"
        remedy = f"the axes fit as ({', '.join(named)}): if that is what they are, say read.{key}"
    wanted = ", ".join(map(str, field.shape))
    raise ReadError(f"{what} of shape {variable.shape}, wanted (event, {wanted}) ({' x '.join(field.dims)}): {remedy}")


def _order_that_fits(
    shape: Sequence[int], left: Sequence[int], missing: Sequence[str], field: Field
) -> list[str] | None:
    """What the axes that are left would be in another order; ``one`` of an axis of length 1."""
    if len(left) > MOST_MOVED:
        return None
    for order in itertools.permutations(left):
        found = _fits(shape, order, missing, field)
        if found is not None:
            by_axis = {axis: dim for dim, axis in found.items()}
            return [by_axis.get(axis, "one") for axis in left]
    return None


def _compare_shape(what: str, variable: Variable, field: Field, axes: Mapping[str, int]) -> None:
    """Refuse dimensions that are not as long as the field's."""
    sizes = dict(zip(field.dims, field.shape, strict=True))
    found, wanted = tuple(variable.shape[axis] for axis in axes.values()), tuple(sizes[dim] for dim in axes)
    if found == wanted:
        return
    remedy = MISFIT
    for other in itertools.permutations(axes):
        if found == tuple(sizes[dim] for dim in other):
            remedy = f"they fit as ({', '.join(other)}): if that is what they are, name them so in the file"
            break
    raise ReadError(f"{what}: events of shape {found}, wanted {wanted} ({' x '.join(axes)}): {remedy}")


def _loose(variable: Variable, name: str | None, dim: str, field: Field) -> Along | None:
    """The coordinate of an axis without a name, by its own name and length."""
    length = field.shape[field.dims.index(dim)]
    alike = [
        along
        for own, along in variable.coordinates.items()
        if name is None and dim in _alias(own) and len(along.values) == length
    ]
    return alike[0] if len(alike) == 1 else None


def _along(
    what: str,
    variable: Variable,
    field: Field,
    names: Sequence[str | None],
    axes: Mapping[str, int],
    units: Mapping[str, str],
) -> tuple[tuple[np.ndarray | None, ...], list[str]]:
    """Places along each dimension by its coordinate, and what to tell of them."""
    take: list[np.ndarray | None] = []
    told: list[str] = []
    for dim in field.dims:
        name = names[axes[dim]] if dim in axes else ""
        along = variable.coordinates.get(name or "") or _loose(variable, name, dim, field)
        places = None
        if along is not None and field.is_vector:
            places = component_places(what, field, along)
            told += ["components in the order of their names"] if places is not None else []
        elif along is not None and dim in field.coordinates and along.values.dtype.kind in "fiu":
            places, words = coordinate_places(what, dim, along, field, units.get(dim))
            told += words
        take.append(places)
    return tuple(take), told
