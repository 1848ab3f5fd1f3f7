"""Ensembles on disk: writer, verifying reader, and index over shards."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pullback.core.atomic import StoreError
from pullback.ensembles import hdf5
from pullback.ensembles.acceptance import FAKE, Missed, joined
from pullback.ensembles.fields import Field
from pullback.ensembles.generated import generated_sums
from pullback.ensembles.sharded import PieceReader, PieceWriter, piece_index


class EnsembleWriter(PieceWriter):
    """Writes one shard, block by block.

    Args:
        path: the final path.
        x: the field of the truth, or None for observations alone.
        y: the field of the observations.
        spec: canonical JSON of the job.
        attributes: more attributes of the file.
        columns: extra variables with one value per event, and their types.

    Raises:
        StoreError: from `append`, when values are not finite or shapes disagree; nothing is written then.
    """

    kind = "ensemble-shard"

    def __init__(
        self,
        path: Path | str,
        *,
        x: Field | None,
        y: Field,
        spec: str,
        attributes: Mapping[str, Any] = {},
        columns: Mapping[str, str] = {},
    ):
        super().__init__(path, spec, attributes)
        self._fields = [field for field in (y, x) if field is not None]
        self._sweep: tuple[np.ndarray, np.ndarray, list[str]] | None = None
        self._missed: list[Missed] = []
        fields = {field.name: hdf5.field_to_json(field) for field in self._fields}
        self._file.attrs["fields"] = json.dumps(fields, sort_keys=True)
        for field in self._fields:
            self._events.variable(field.name, np.float32, field.dims, field.shape, **hdf5.describe(self._file, field))
        for name, long_name in (("event_id", "unique and stable number"), ("group", "unit of the bootstrap")):
            self._events.variable(name, np.int64, (), (), long_name=long_name)
        for name, dtype in columns.items():
            self._events.variable(name, dtype, (), (), units="1")

    def append(
        self,
        y: np.ndarray,
        event_id: np.ndarray,
        *,
        x: np.ndarray | None = None,
        group: np.ndarray | None = None,
        **columns: np.ndarray,
    ) -> None:
        """Append events: y (event, *y), x (event, *x); ``group`` is the event's own number when not given.

        Where the column ``fake`` is 1, x is NaN.
        """
        values: dict[str, np.ndarray] = {
            "y": np.asarray(y, np.float32),
            "event_id": np.asarray(event_id, np.int64),
            "group": np.asarray(event_id if group is None else group, np.int64),
            **{name: np.asarray(column) for name, column in columns.items()},
        }
        if x is not None:
            values["x"] = np.asarray(x, np.float32)
        for name, array in values.items():
            fake = values.get(FAKE)
            real = array if name != "x" or fake is None else array[np.asarray(fake) == 0]
            hdf5.refuse_nan(name, real, self.path)
        self._events.append(values)

    def append_missed(self, missed: Missed) -> None:
        """Append misses; they are held in memory until the file is finished."""
        for name, array in missed.variables.items():
            hdf5.refuse_nan(name, array, self.path)
        self._missed.append(missed)

    def ensembles(self, offsets: np.ndarray, theta: np.ndarray, names: Sequence[str]) -> None:
        """For a sweep: where each ensemble starts (ensemble + 1,), and its parameters (ensemble, parameter)."""
        self._sweep = (np.asarray(offsets, np.int64), np.asarray(theta, np.float64), list(names))

    def _finish(self) -> str:
        if self._events.n == 0:
            raise StoreError(f"{self.path}: no events; nothing was written")
        extra: dict[str, np.ndarray] = {}
        if self._sweep is not None:
            offsets, theta, names = self._sweep
            _write_sweep(self._file, offsets, theta, names)
            extra |= {"theta": theta, "ensemble_offset": offsets}
        if (missed := joined(self._missed)) is not None:
            write_missed(self._file, missed, self._fields[-1])
            extra |= missed.variables
        return self._events.finish(extra)


def write_missed(file: h5py.File, missed: Missed, x: Field) -> None:
    """Write misses on an axis of their own."""
    for name, array in missed.variables.items():
        data = file.create_dataset(name, data=array, fletcher32=True, chunks=True if len(array) else None)
        hdf5.attach(file, data, ("miss", *(x.dims if name == "missed_x" else ())))
    units = x.units[0] if len(set(x.units)) == 1 else "mixed"
    file["missed_x"].attrs.update(units=units, long_name="truth that was not recorded")


def _write_sweep(file: h5py.File, offsets: np.ndarray, theta: np.ndarray, names: Sequence[str]) -> None:
    hdf5.dimension(file, "parameter", len(names), np.array(names, dtype=object))
    file.create_dataset("theta", data=theta)
    file["theta"].attrs["long_name"] = "parameters of each ensemble's prior"
    hdf5.attach(file, file["theta"], ("ensemble", "parameter"))
    file.create_dataset("ensemble_offset", data=offsets)
    file["ensemble_offset"].attrs["long_name"] = "first event of each ensemble, and the number of events"
    hdf5.attach(file, file["ensemble_offset"], ("ensemble_edge",))


class EnsembleReader(PieceReader):
    """Reader of a shard or of an index over shards.

    Attributes:
        n: number of events.
        x, y: fields; x is None where there is no truth.
        offsets: first event of each ensemble and n, (ensemble + 1,).
        theta: parameters of each ensemble (ensemble, parameter), or None.
        missed: truths that were not recorded; None where that is not known.
        digest: of the content, independent of the shards.

    Raises:
        StoreError: a file is missing, truncated, foreign or changed.
    """

    kinds = ("ensemble-shard", "ensemble-index")

    def _describe(self) -> None:
        fields = json.loads(self._file.attrs["fields"])
        self.y = hdf5.field_from_json(fields["y"], self._file)
        self.x = hdf5.field_from_json(fields["x"], self._file) if "x" in fields else None
        self.theta: np.ndarray | None = None
        self.theta_names: list[str] = []
        self.offsets = np.array([0, self.n])
        if "theta" in self._file:
            self.theta = self._file["theta"][()]
            self.theta_names = [name.decode() for name in self._file["parameter"][()]]
            self.offsets = self._file["ensemble_offset"][()]
        self.missed: Missed | None = None
        if "missed_x" in self._file:
            self.missed = Missed(*(self._file[f"missed_{name}"][()] for name in Missed._fields))

    def fake(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Which events have no truth (event,), bool."""
        if FAKE in self.columns:
            return self.read(FAKE, start, stop) != 0
        return np.zeros((self.n if stop is None else min(stop, self.n)) - start, bool)

    def pairs(self) -> "EnsembleReader":
        """A view of the events that have a truth; it shares the open files."""
        fake = self.fake()
        return self.select(np.flatnonzero(~fake)) if fake.any() else self

    def window(self, start: int, stop: int) -> "EnsembleReader":
        """A view of some events, as one ensemble; it shares the open files."""
        view = object.__new__(EnsembleReader)
        view.__dict__.update(self.__dict__)
        if self._rows is None:
            view._start = self._start + start
        else:
            view._rows = self._rows[start:stop]
        view.n = min(stop, self.n) - start
        view.offsets, view.theta = np.array([0, view.n]), None
        return view


def index_ensemble(job: str, shards: Sequence[Path | str], out: Path | str) -> None:
    """Write one split of one family: a small file that shows the shards as one, with a digest of each.

    Args:
        job: `Plan.index_job`.
        shards: in order.
        out: the index file.

    Raises:
        StoreError: a shard is missing, damaged, not like the others, or of another config, or two have an event of one
            number; no index is written.
    """
    with piece_index(job, "shards", EnsembleReader, shards, out) as (file, readers, extra):
        _refuse_numbers_twice(readers)
        first = readers[0]
        for field in (first.y, first.x):
            if field is not None:
                file[field.name].attrs.update(hdf5.describe(file, field))
                hdf5.attach(file, file[field.name], ("event", *field.dims))
        if first.theta is not None:
            starts = np.cumsum([0, *(r.n for r in readers)])
            offsets = [r.offsets[:-1] + start for r, start in zip(readers, starts, strict=False)]
            extra["ensemble_offset"] = np.concatenate([*offsets, starts[-1:]])
            extra["theta"] = np.concatenate([r.theta for r in readers])  # type: ignore[misc]
            _write_sweep(file, extra["ensemble_offset"], extra["theta"], first.theta_names)
        file.attrs.update(generated_sums([each.attributes for each in readers]))
        if (missed := joined(each.missed for each in readers)) is not None:
            assert first.x is not None
            write_missed(file, missed, first.x)
            extra |= missed.variables


def _refuse_numbers_twice(readers: Sequence[EnsembleReader]) -> None:
    """Events are known by their number: draws of one would be taken for those of another."""
    if len(readers) == 1:
        return  # The numbers within a file are the reader's or the simulator's own.
    number = np.concatenate([each.read("event_id") for each in readers])
    order = np.argsort(number, kind="stable")
    twice = np.flatnonzero(np.diff(number[order]) == 0)
    if twice.size:
        shard = np.repeat(np.arange(len(readers)), [each.n for each in readers])
        one, other = (readers[shard[row]].path for row in order[twice[0] : twice[0] + 2])
        raise StoreError(
            f"{one} and {other}: both have an event_id {number[order[twice[0]]]}, wanted each once in a split. Where "
            "files number their collisions (`event`) alike, leave `event` out"
        )
