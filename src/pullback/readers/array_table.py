"""Arrays of NumPy, HDF5 and netCDF files as columns of entries."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from pullback.readers.array_files import FORMATS, Variable, format_of, listed, opened, text
from pullback.readers.base import ReadError
from pullback.readers.columns import Column
from pullback.readers.table import Table


class ArrayTable(Table):
    """Arrays (entry,), or (entry, value) as lists of one length, of which ``name[0]`` is the first column.

    Args:
        path: .npz, HDF5 or netCDF.
        texts: the expressions that are asked for: their columns must have the same number of entries.

    Raises:
        ReadError: damaged, of another format, without a column, or columns are not of one length.
    """

    what = "array"

    def __init__(self, path: Path, texts: Iterable[str]):
        super().__init__(path)
        self._stack = ExitStack()
        try:
            self._arrays = self._stack.enter_context(opened(self.path))
            self.format = FORMATS[format_of(self.path) or "npz"]
            texts = list(texts)
            self.require(texts)
            used = list(dict.fromkeys(name for each in texts for name in self.expression(each).columns))
            self.entries = self._length(used)
        except BaseException:
            self._stack.close()
            raise

    def _length(self, names: list[str]) -> int:
        for name in names:
            variable = self._arrays[name]
            if variable.dtype.kind not in "biuf" or len(variable.shape) not in (1, 2):
                raise ReadError(
                    f"{self.path}: '{name}' holds {variable.dtype} of shape {variable.shape}, wanted numbers (entry,) "
                    "or (entry, value)"
                )
            first = self._arrays[names[0]]
            if variable.shape[0] != first.shape[0]:
                raise ReadError(
                    f"{self.path}: '{first.name}' has {first.shape[0]} entries and '{name}' {variable.shape[0]}, "
                    "wanted arrays of the same length: correct the file or the names"
                )
        entries = self._arrays[names[0]].shape[0]
        if not entries:
            raise ReadError(f"{self.path}: '{names[0]}' has no entries, wanted at least one")
        return int(entries)

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return list(self._arrays)

    @property
    def where(self) -> str:
        """What there is, for messages."""
        return f" among {listed(self._arrays)}"

    def has(self, name: str) -> bool:
        """Whether there is such an array."""
        return name in self._arrays

    def typename(self, name: str) -> str:
        """Type and shape of an array."""
        return f"{self._arrays[name].dtype} of shape {self._arrays[name].shape}"

    def unit(self, name: str) -> str:
        """The attribute ``units``."""
        units: object = self._variable(name).units
        return text(units) or "" if not isinstance(units, tuple) else ""

    def column(self, name: str, start: int, stop: int) -> Column:
        """Some entries of an array."""
        variable = self._variable(name)
        return Column.of(variable.read((slice(start, stop), *(slice(None) for _ in variable.shape[1:]))))

    def _variable(self, name: str) -> Variable:
        return self._arrays[name]
