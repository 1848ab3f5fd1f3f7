"""Outside data to ensembles.

What a reader of one's own is written with is imported from here (docs/extending.md).
"""

from typing import TYPE_CHECKING

from pullback.core.lazy import offered

if TYPE_CHECKING:
    from pullback.readers.base import Block, Events, OutsideFile, ReadError
    from pullback.study.kinds import Package, ReaderSpec

__all__ = ["Block", "Events", "OutsideFile", "Package", "ReadError", "ReaderSpec"]


_SPECS = ("Package", "ReaderSpec")
__getattr__, __dir__ = offered(
    __name__, {name: "pullback.study.kinds" if name in _SPECS else "pullback.readers.base" for name in __all__}
)
