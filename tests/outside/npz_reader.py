"""Events in NumPy's .npz files: an array of observations and, where there is a truth, one of truths."""

from contextlib import contextmanager
from typing import ClassVar

import numpy as np
from pydantic import Field

from pullback.readers import Block, Events, ReadError, ReaderSpec


class NpzFiles(ReaderSpec):
    """Events in .npz files."""

    records: ClassVar = "arrays"

    x: str = Field(default="x", description="name of the array of truths (event, *x)")
    y: str = Field(default="y", description="name of the array of observations (event, *y)")

    @contextmanager
    def open(self, problem, file):
        try:
            with np.load(file.path, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
        except (OSError, ValueError) as error:
            raise ReadError(f"{file.path}: cannot be read as .npz ({error}); save it again by numpy.savez") from None
        named = {self.y: problem.y, **({self.x: problem.x} if file.has_truth else {})}
        for name, field in named.items():
            found = arrays[name].shape[1:] if name in arrays else "no such array"
            if found != field.shape:
                raise ReadError(f"{file.path}: '{name}': found {found}, wanted events of shape {field.shape}")
        y = arrays[self.y]
        event_id = file.number << 32 | np.arange(len(y))
        yield Events([Block(y, arrays.get(self.x) if file.has_truth else None, event_id)], "npz")
