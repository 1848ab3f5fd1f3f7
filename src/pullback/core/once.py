"""Methods that are computed once for the same arguments."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

Owner = TypeVar("Owner")
Result = TypeVar("Result")
P = ParamSpec("P")


def once(method: Callable[Concatenate[Owner, P], Result]) -> Callable[Concatenate[Owner, P], Result]:
    """Keep what a method gives, by its arguments (hashable), for as long as its object lives."""

    @functools.wraps(method)
    def kept(self: Owner, *args: P.args, **kwargs: P.kwargs) -> Result:
        found: dict[tuple[Any, ...], Result] = vars(self).setdefault("_once", {})
        key = (method.__name__, *args, *kwargs.items())
        if key not in found:
            found[key] = method(self, *args, **kwargs)
        return found[key]

    return kept
