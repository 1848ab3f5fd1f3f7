"""Unfolded events by the name of their file."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from pullback.ensembles import hdf5
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.unfolded import KIND
from pullback.report.export import ExportError, Source
from pullback.report.unfolded.files import ParquetRows, RootRows
from pullback.report.unfolded.hepdata import HepdataRows
from pullback.report.unfolded.rows import DistributionRows, DrawRows, Rows

EXPORTS: dict[str, Callable[[Path], Rows]] = {".root": RootRows, ".parquet": ParquetRows, ".tar.gz": HepdataRows}


def open_rows(path: Path, stack: ExitStack, events: range | None = None) -> Rows:
    """Unfolded events of a study's posterior or unfolded distribution, or of an export.

    Args:
        path: HDF5 of a study, ``.root``, ``.parquet`` or ``.tar.gz``.
        stack: closes the files.
        events: of a posterior, which of its events; all when None.

    Raises:
        ExportError: there is no such file, or it holds something else.
        pullback.core.atomic.StoreError: a file of a study is missing or damaged.
        pullback.core.optional.MissingExtraError: a package that reads the format is not installed.
    """
    for ending, opened in EXPORTS.items():
        if path.name.endswith(ending):
            if not path.exists():
                raise ExportError(f"{path}: there is no such file")
            rows = opened(path)
            stack.callback(rows.close)
            return rows
    with hdf5.open_any(path) as file:
        kind = str(file.attrs.get("kind"))
    if kind == KIND:
        return DistributionRows(path)
    if kind in PosteriorReader.kinds:
        return DrawRows(Source(stack, path), events)
    raise ExportError(f"{path}: a file of kind '{kind}', wanted a posterior or an unfolded distribution of pullback")
