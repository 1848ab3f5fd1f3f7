"""Export of results: one self-contained netCDF file, or velocity models and gathers as SEG-Y."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from pullback.core.angles import wrap
from pullback.core.particles import freedom, normalise
from pullback.ensembles import hdf5
from pullback.ensembles.fields import Field
from pullback.ensembles.generated import GENERATED
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.store import EnsembleReader, write_missed
from pullback.ensembles.unfolded import KIND as UNFOLDED
from pullback.problems.base import problem_of
from pullback.readers.section import Section
from pullback.report.event_columns import LONG_NAMES, EventColumns
from pullback.report.segy import write_gathers, write_model
from pullback.simulators.acquisition import Acquisition

KINDS = {
    "mean": "posterior mean",
    "std": "posterior standard deviation",
    "draw": "posterior draw",
    "truth": "truth",
    "y": "observation",
}
"""What can be exported, and what a file says it is."""
OF_DRAWS = ("mean", "std", "draw")
ROWS = 64
"""Events in memory at once."""


class ExportError(ValueError):
    """A requested variable is not in the file, or does not fit the format."""


class Source:
    """A posterior with its ensemble, or an ensemble.

    Args:
        stack: closes the files.
        path: the file.

    Attributes:
        draws: the posterior, where it is one.
        n: events.
        attributes: where it came from.

    Raises:
        ExportError: it is neither.
        pullback.core.atomic.StoreError: it is missing or damaged.
    """

    def __init__(self, stack: ExitStack, path: Path):
        self.path, self._stack = path, stack
        with hdf5.open_any(path) as file:
            kind = str(file.attrs.get("kind"))
        self.draws: PosteriorReader | None = None
        if kind in PosteriorReader.kinds:
            self.draws = draws = stack.enter_context(PosteriorReader(path))
            # results/<study>/ensembles/<problem>/<family>/<split>.h5
            study = Path(draws.attributes["ensemble_name"]).parts[-5]
            made = {"posterior_digest": draws.digest, "ensemble_digest": draws.ensemble_digest}
            self.attributes: dict[str, Any] = {"study": study, **_names(draws.spec), **made}
        elif kind in EnsembleReader.kinds:
            self.events = stack.enter_context(EnsembleReader(path))
            known = self.events.attributes
            names = {name: known[name] for name in ("study", "problem", "family", "split", *GENERATED) if name in known}
            self.attributes = {**names, "ensemble_digest": self.events.digest}
        elif kind == UNFOLDED:
            raise ExportError(
                f"{path}: an unfolded distribution, which is netCDF as it is; export it to .root, .parquet, .csv or "
                ".tar.gz"
            )
        else:
            raise ExportError(f"{path}: a file of kind '{kind}', wanted a posterior or an ensemble of pullback")
        self.n = self.draws.n if self.draws else self.events.n

    @cached_property
    def events(self) -> EnsembleReader:
        """The ensemble; of a posterior that which it answers, beside it or below the working directory."""
        assert self.draws
        name = Path(self.draws.attributes["ensemble_name"])
        for folder in (Path(), *self.path.absolute().parents):
            if not (folder / name).exists():
                continue
            reader = self._stack.enter_context(EnsembleReader(folder / name))
            if reader.digest != self.draws.ensemble_digest:
                raise ExportError(f"{self.path}: answers other observations than {folder / name} holds; infer again")
            ours, theirs = reader.read("event_id"), self.draws.read("event_id")
            # A part begins anywhere.
            first = int(np.argmax(ours == theirs[0]))
            if not np.array_equal(ours[first : first + self.n], theirs):
                raise ExportError(f"{self.path}: its events are not those of {folder / name} in order; infer again")
            return reader.window(first, first + self.n)
        raise ExportError(
            f"{self.path}: answers the observations of {name}, which is not there: export where the results are, or "
            "ask for what needs none of it: --what mean, std or draw"
        )

    @cached_property
    def columns(self) -> EventColumns:
        """What the ensemble holds of each event beside x and y."""
        return EventColumns(self.events)

    @cached_property
    def has_events(self) -> bool:
        """Whether the ensemble is there, unchanged."""
        with suppress(ExportError):
            return self.events is not None
        return False

    def field(self, what: str) -> Field:
        """The field that something is of."""
        found = self.draws.x if self.draws and what in OF_DRAWS else self.events.y if what == "y" else self.events.x
        if found is None or (what in OF_DRAWS and self.draws is None):
            raise ExportError(f"--what {what}: {self.path} has none")
        return found

    def wanted(self, what: Sequence[str]) -> list[str]:
        """The requested variables; all when none is given."""
        if what:
            return [name for name in KINDS if name in what and self.field(name)]
        truth = ["truth"] if self.events.x else []
        return [*(OF_DRAWS if self.draws else ()), *truth, "y"]

    def read(self, what: Sequence[str], start: int, stop: int) -> dict[str, np.ndarray]:
        """Some events: ``draw`` (event, draw, *x) with ``log_weight`` and ``ok``; others (event, *x) or (event, *y).

        The ensemble's columns are there where the ensemble is.
        """
        reader = self.draws or self.events
        found = {"event_id": reader.read("event_id", start, stop)}
        found |= self.columns.read(start, stop) if self.has_events else {}
        for name, variable in (("truth", "x"), ("y", "y")):
            if name in what:
                found[name] = self.events.read(variable, start, stop)
        if self.draws and {*OF_DRAWS} & {*what}:
            x, log_weight, ok = (self.draws.read(name, start, stop) for name in ("x", "log_weight", "ok"))
            mean, std = moments(self.draws.x, x, log_weight, ok)
            found |= {name: values for name, values in (("mean", mean), ("std", std)) if name in what}
            found |= {"draw": x, "log_weight": log_weight, "ok": ok} if "draw" in what else {}
        return found


def _names(spec: dict[str, Any]) -> dict[str, Any]:
    """Who made a posterior, from the job of an inference or of an index over its parts."""
    if "address" in spec:
        _, problem, method, seed = spec["address"]
        spec = {**spec, "problem": problem, "method": method, "seed": seed, "infer": spec["infer_name"]}
    return {name: spec[name] for name in ("problem", "method", "infer", "seed", "family")}


def moments(field: Field, x: np.ndarray, log_weight: np.ndarray, ok: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (event, *x) over the draws that are ok, by weight; NaN where none is.

    The variance is unbiased, as in the metrics: of N equal draws over N - 1, else over 1 - sum w^2; 0 of one draw.

    Args:
        field: of x; angles are averaged on the circle.
        x: (event, draw, *x).
        log_weight, ok: (event, draw).
    """
    weight = normalise(np.where(ok, log_weight, -np.inf))
    weight[~ok.any(axis=1)] = np.nan
    weight = weight.reshape(*ok.shape, *(1,) * (x.ndim - 2))
    used = np.where(ok.reshape(weight.shape), x, 0.0).astype(np.float64)
    mean = (weight * used).sum(axis=1)
    angles = np.array([transform == "periodic" for transform in field.transforms])
    if angles.any():
        mean = np.where(angles, np.angle((weight * np.exp(1j * used)).sum(axis=1)), mean)
    away = used - mean[:, None]
    if angles.any():
        away = np.where(angles, wrap(away), away)
    variance = (weight * away**2).sum(axis=1) / freedom(weight, 1)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def export_netcdf(
    source: Source, rows: range, target: Path, what: Sequence[str], more: Mapping[str, Any] = MappingProxyType({})
) -> list[str]:
    """Write some events to one file, with coordinates, units, the ensemble's columns and where they came from.

    Args:
        source: a posterior or an ensemble.
        rows: of the file.
        target: the new file.
        what: keys of ``KINDS``; all that there is when empty.
        more: further attributes.

    Returns:
        The variables; ``draw`` is a dimension, its variable is ``draws``.

    Raises:
        ExportError: something of this is not there, or the target is.
        pullback.core.atomic.StoreError: it cannot be written.
    """
    refuse_existing(target)
    what = source.wanted(what)
    named = {name: "draws" if name == "draw" else name for name in what}
    with hdf5.create(target) as file:
        said = {"source": source.path.name, "pullback_version": version("pullback")}
        file.attrs.update({**source.attributes, **said, **more})
        table = hdf5.Appender(file)
        fields = {field.name: field for field in map(source.field, what)}
        units = {name: hdf5.describe(file, field)["units"] for name, field in fields.items()}
        for name, variable in named.items():
            field = source.field(name)
            dims, shape = field.dims, field.shape
            if name == "draw" and source.draws:
                dims, shape = ("draw", *dims), (source.draws.draws, *shape)
                for beside, kind in (("log_weight", np.float64), ("ok", np.int8)):
                    table.variable(beside, kind, ("draw",), (source.draws.draws,))
            described = {"units": units[field.name], "long_name": KINDS[name]}
            table.variable(variable, np.float32, dims, shape, **described)
        table.variable("event_id", np.int64, (), (), long_name="number of the event in the ensemble")
        if source.has_events:
            file.attrs["source_files"] = json.dumps(source.columns.files)
            for name, dtype in source.columns.types.items():
                table.variable(name, dtype, (), (), long_name=LONG_NAMES.get(name, name))
        for start in range(rows.start, rows.stop, ROWS):
            values = source.read(what, start, min(start + ROWS, rows.stop))
            table.append({named.get(name, name): array for name, array in values.items()})
        table.finish()
        # Misses are of all events: some of these have none of their own.
        missed = source.events.missed if "truth" in what and len(rows) == source.n else None
        if missed is not None and source.events.x is not None:
            write_missed(file, missed, source.events.x)
    return list(named.values())


def export_segy(source: Source, rows: range, target: Path, what: str, draw: int) -> Iterator[tuple[Path, int]]:
    """Write one velocity map or the shot gathers of each event to a file.

    Args:
        source: a posterior or an ensemble of waves.
        rows: of the file; of several each has a file of its own with the row in its name.
        target: the new file.
        what: a key of ``KINDS``.
        draw: which draw.

    Yields:
        Each file that was written, and its row.

    Raises:
        ExportError: something of this is not there, or is no map and no gathers, or a target is there.
        pullback.readers.segy_layout.SegyError: distances that the format cannot hold.
        pullback.core.atomic.StoreError: a file cannot be written.
    """
    field = source.field(what)
    acquisition = _acquisition(source) if what == "y" else None
    spacing = _spacing(field) if what != "y" else (0.0, 0.0)
    if what == "draw" and source.draws and draw >= source.draws.draws:
        raise ExportError(f"--draw {draw}: {source.path} has {source.draws.draws} draws, numbered from 0")
    targets = [target.with_stem(f"{target.stem}-{row:03d}") if len(rows) > 1 else target for row in rows]
    for path in targets:
        refuse_existing(path)

    def values(row: int) -> tuple[int, np.ndarray]:
        found = source.read([what], row, row + 1)
        return found["event_id"][0], found[what][0, draw] if what == "draw" else found[what][0]

    # All before the first is written: a part of the files would be in the way of the next try.
    for row in rows:
        if not np.isfinite(values(row)[1]).all():
            raise ExportError(f"--what {what}: that of event {row} failed and is NaN; choose others, or export to .nc")
    of = " ".join(f"{key} {source.attributes[key]}" for key in ("family", "method", "seed") if key in source.attributes)
    for row, path in zip(rows, targets, strict=True):
        event, data = values(row)
        title = f"{KINDS[what]} of event {event}, {of}".upper()
        if acquisition:
            write_gathers(path, data, acquisition, title)
        else:
            write_model(path, Section(data, spacing), title)
        yield path, row


def _spacing(field: Field) -> tuple[float, float]:
    """m between nodes (depth, offset) of velocity maps."""
    if field.dims != ("depth", "offset"):
        raise ExportError(f"x is ({', '.join(field.dims)}), and SEG-Y holds maps (depth, offset): export to .nc")
    depth, offset = (float(np.diff(field.coordinates[name].values[:2])[0]) for name in field.dims)
    return depth, offset


def _acquisition(source: Source) -> Acquisition:
    """Acquisition geometry, from the simulator settings of the observations."""
    job = source.events.made_by()
    shift = job.get("shift") or {}
    if shift.get("kind") == "simulator":
        job = {**job, "simulator": job["simulator"] | shift["change"]}
    dims = source.events.y.dims
    found = getattr(problem_of(job), "acquisition", None) if set(dims) == {"source", "time", "receiver"} else None
    if not isinstance(found, Acquisition):
        raise ExportError(f"y is ({', '.join(dims)}), and SEG-Y holds shot gathers of waves: export to .nc")
    return found


def refuse_existing(path: Path) -> None:
    """Raise ExportError for a file that is there: no export overwrites one."""
    if path.exists():
        raise ExportError(f"{path}: is there already: give another name, or remove it")
