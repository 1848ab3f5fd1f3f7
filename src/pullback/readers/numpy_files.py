"""The fields of any problem as arrays of NumPy's .npy and .npz files."""

from typing import ClassVar, Literal

from pydantic import Field as Option

from pullback.readers.arrays import ArrayFiles
from pullback.readers.gathers import WithModels
from pullback.study.reader_spec import names_of


class NumpyFiles(WithModels, ArrayFiles):
    """NumPy's files: .npy with y, and others with x; or .npz with both."""

    formats: ClassVar[tuple[str, ...]] = ("npy", "npz")
    suffixes: ClassVar[tuple[str, ...]] = (".npy", ".npz")

    kind: Literal["numpy"] = Option(description="arrays (event, ...): y in .npy and x in `models`, or both in .npz")

    @property
    def has_truth(self) -> bool:
        """Whether truths are there: in files of their own, or beside y."""
        names = (name for entries in self.files.values() for entry in entries for name in names_of(entry))
        return bool(self.models) or all(name.endswith(".npz") for name in names)
