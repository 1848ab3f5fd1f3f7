"""Outside data to ensembles.

What a reader of one's own is written with is imported from here (docs/extending.md).
"""

from typing import TYPE_CHECKING

from pullback.core.lazy import offered

if TYPE_CHECKING:
    from pullback.readers.base import Block, Events, OutsideFile, ReadError
    from pullback.study.kinds import Package
    from pullback.study.reader_spec import ReaderSpec

__all__ = ["Block", "Events", "OutsideFile", "Package", "ReadError", "ReaderSpec"]


_SPECS = {"Package": "pullback.study.kinds", "ReaderSpec": "pullback.study.reader_spec"}
__getattr__, __dir__ = offered(__name__, {name: _SPECS.get(name, "pullback.readers.base") for name in __all__})
