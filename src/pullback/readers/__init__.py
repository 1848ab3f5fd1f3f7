"""Outside data to ensembles.

What a reader of one's own is written with is imported from here (docs/extending.md).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pullback.readers.base import Block, Events, OutsideFile, ReadError
    from pullback.study.kinds import Package, ReaderSpec

__all__ = ["Block", "Events", "OutsideFile", "Package", "ReadError", "ReaderSpec"]


def __getattr__(name: str) -> Any:
    # By its text: every job's code holds this file, and must not hold what it offers.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "study.kinds" if name in ("Package", "ReaderSpec") else "readers.base"
    return getattr(importlib.import_module(f"pullback.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
