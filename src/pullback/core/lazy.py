"""Names that a package offers and imports when they are first used."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def offered(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package that offers names of other modules.

    The modules are given as texts, because the digest of a job's code follows imports and every job imports the
    package.

    Args:
        package: its ``__name__``.
        modules: the module of each name.
    """

    def found(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return found, lambda: sorted(modules)
