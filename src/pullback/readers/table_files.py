"""Tables with one event in each entry: ROOT (TTree, RNTuple), Parquet, NumPy's .npz, HDF5.

Features of x and y are columns or expressions over them: object-wise (one jet in each entry) or event-wise (reductions
over the jets of a collision). Flags say which entries have a truth and which an observation.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from pullback.readers.array_table import ArrayTable
from pullback.readers.base import Events, Inspection, OutsideFile, ReadError
from pullback.readers.collisions import digest_of_job, generated
from pullback.readers.parquet_table import ParquetTable
from pullback.readers.root_table import RootTable
from pullback.readers.table import Table
from pullback.readers.table_columns import TableColumns
from pullback.readers.table_events import TableEvents
from pullback.study.kinds import Package
from pullback.study.reader_spec import names_of

PARQUET = (".parquet", ".pq")
_ROOT_PACKAGES = tuple(Package(name, name, "hep", "ROOT files") for name in ("uproot", "awkward"))
_PARQUET_PACKAGES = (Package("pyarrow", "pyarrow", "hep", "Parquet files"),)


class TableFiles(TableColumns):
    """Tables with one event in each entry, whose features are columns or expressions over them."""

    takes_entries: ClassVar[bool] = True
    suffixes: ClassVar[tuple[str, ...]] = PARQUET

    kind: Literal["table"] = Field(description="columns of .root, .parquet, .npz and HDF5 files")

    @property
    def packages(self) -> tuple[Package, ...]:
        """Those of the formats that the files have; without files, those of a generator's."""
        names = [Path(name) for entries in self.files.values() for entry in entries for name in names_of(entry)]
        suffixes = {name.suffix.lower() for name in names}
        root = _ROOT_PACKAGES if ".root" in suffixes or not suffixes else ()
        return root + (_PARQUET_PACKAGES if suffixes & {*PARQUET} else ())

    @contextmanager
    def open(self, problem: Any, file: OutsideFile) -> Iterator[Events]:
        """The events of one file."""
        with ExitStack() as stack:
            table = stack.enter_context(self._table(file.path, self.tree, self.texts(file.has_truth)))
            truth = None
            if self.x_tree and file.has_truth:
                truth = stack.enter_context(self._table(file.path, self.x_tree, []))
            found = {"source_file": file.path.name, "source_format": table.format, "source_entries": table.entries}
            more, ensembles = generated(file.path) if isinstance(table, RootTable) else ({}, None)
            found |= more
            first, last = file.span(table.entries)
            part = f", of them {first} to {last}" if (first, last) != (0, table.entries) else ""
            events = TableEvents(self, problem, file, table, truth)
            said = "".join(f", {each}" for each in events.converted)
            summary = f"{table.format}, {table.entries} entries{part}{said}"
            blocks = events.blocks(first, last)
            ensembles = ensembles if self.event else None  # they are known by the numbers of collisions
            yield Events(blocks, summary, found, events.lost.events, events.warnings, ensembles)

    def _table(self, path: Path, tree: str, texts: list[str]) -> Table:
        """The table of a file, by the ending of its name."""
        suffix = path.suffix.lower()
        if suffix == ".root":
            table: Table = RootTable(path, tree)
        elif suffix in PARQUET:
            table = ParquetTable(path)
        else:
            return ArrayTable(path, texts)
        try:
            table.require(texts)
        except ReadError:
            table.close()
            raise
        return table

    def job_digest(self, path: Path) -> str | None:
        """The job digest of a file of `pullback.simulators.collider`."""
        return digest_of_job(path) if path.suffix.lower() == ".root" else None

    @classmethod
    def inspect(cls, path: Path) -> Inspection:
        """The columns of a Parquet file."""
        with ParquetTable(path) as table:
            lines = [(str(path), f"Parquet, {table.entries} entries, {len(table.names)} columns")]
            lines += [(f"  {name}", table.typename(name)) for name in table.names]
        hint = "name the columns of the features: kind: table, y: {FEATURE: COLUMN}, and x for a truth"
        return Inspection(lines, None, hint)
