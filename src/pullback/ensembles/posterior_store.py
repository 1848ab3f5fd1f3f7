"""Posteriors on disk: writer, verifying reader, and index over parts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pullback.core.atomic import StoreError
from pullback.core.particles import normalise
from pullback.ensembles import hdf5, marginals
from pullback.ensembles.fields import Field
from pullback.ensembles.sharded import PieceReader, PieceWriter, piece_index
from pullback.ensembles.store import EnsembleReader

Diagnostics = Mapping[str, Mapping[int, float]]
"""Diagnostics of an inference, by name: a number for each set or block of events, by its first event."""


def merge(into: dict[str, dict[int, float]], more: Diagnostics) -> None:
    """Merge diagnostics; sets or pieces that are present already are not counted twice."""
    for name, values in more.items():
        into.setdefault(name, {}).update(values)


def add_cost(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Add two costs: the maximum of memory, the sum of all else."""
    keys = [*one, *(key for key in other if key not in one)]
    pairs = {key: (one.get(key, 0), other.get(key, 0)) for key in keys}
    return {key: max(pair) if key == "peak_memory_mb" else sum(pair) for key, pair in pairs.items()}


class PosteriorWriter(PieceWriter):
    """Writes the draws for a piece of one family's events.

    Args:
        path: the final path.
        x: the field of the truth.
        draws: posterior draws of each event.
        ensemble: what was inferred from; its digest is kept, its arrays are not copied.
        ensemble_name: its path relative to the results.
        spec: canonical JSON of the job.
        attributes: more attributes of the file.
        acceptance: which of ``purity`` and ``efficiency`` the chunks have.
        resamples: how many resamples the chunks' ``times`` are of; 0 where they have none.
    """

    kind = "posterior-part"

    def __init__(
        self,
        path: Path | str,
        *,
        x: Field,
        draws: int,
        ensemble: EnsembleReader,
        ensemble_name: str,
        spec: str,
        attributes: Mapping[str, Any] = {},
        acceptance: Sequence[str] = (),
        resamples: int = 0,
    ):
        more = {"ensemble_name": ensemble_name, "ensemble_digest": ensemble.digest}
        super().__init__(path, spec, {**attributes, **more})
        self._file.attrs["fields"] = json.dumps({"x": hdf5.field_to_json(x)}, sort_keys=True)
        described = hdf5.describe(self._file, x)
        described["long_name"] = "posterior draw"
        self._events.variable("x", np.float32, ("draw", *x.dims), (draws, *x.shape), **described)
        self._events.variable("log_weight", np.float64, ("draw",), (draws,), long_name="log weight of the draw")
        self._events.variable("ok", np.int8, ("draw",), (draws,), long_name="1: a draw; 0: it failed and is NaN")
        self._events.variable("event_id", np.int64, (), (), long_name="number of the event in the ensemble")
        self._acceptance, self._resamples = tuple(acceptance), resamples
        if resamples:
            said = "how often a resample of the set has the event; draw j is of resample j modulo their number"
            self._events.variable("times", np.uint8, ("resample",), (resamples,), long_name=said)
        if "purity" in acceptance:
            self._events.variable("purity", np.float32, (), (), long_name="probability that the event has a truth")
        if "efficiency" in acceptance:
            said = "probability that the truth is recorded"
            self._events.variable("efficiency", np.float32, ("draw",), (draws,), long_name=said)

    def append(self, chunk: Any, event_id: np.ndarray) -> None:
        """Append a chunk (x, log_weight, ok) for these events."""
        ok = np.asarray(chunk.ok, bool)
        x = np.asarray(chunk.x, np.float32)
        hdf5.refuse_nan(
            "a draw that is said to be ok", np.where(ok.reshape(ok.shape + (1,) * (x.ndim - 2)), x, 0), self.path
        )
        # A draw of weight zero has the log weight -inf.
        weighed = ok & ~np.isneginf(chunk.log_weight)
        hdf5.refuse_nan("log_weight", np.where(weighed, chunk.log_weight, 0.0), self.path)
        values = {"x": x, "log_weight": chunk.log_weight, "ok": ok, "event_id": np.asarray(event_id, np.int64)}
        for name in self._acceptance:
            values[name] = np.asarray(getattr(chunk, name), np.float32)
            hdf5.refuse_nan(name, np.where(ok, values[name], 1.0) if name == "efficiency" else values[name], self.path)
        if self._resamples:
            values["times"] = chunk.times
        self._events.append(values)

    def finish(
        self, cost: Mapping[str, float], diagnostics: Diagnostics, passed: marginals.Marginals | None = None
    ) -> None:
        """Store cost, diagnostics and noisy marginals of the inference; they are not part of the content digest."""
        self._file.attrs["cost"] = json.dumps(dict(cost), sort_keys=True)
        _write_diagnostics(self._file, diagnostics)
        if passed is not None:
            passed.write(self._file)


class PosteriorReader(PieceReader):
    """The draws for one family's events: ``x`` (event, draw, *x), ``log_weight``, ``ok``, ``event_id``."""

    kinds = ("posterior-part", "posterior-index")

    def _describe(self) -> None:
        self.x = hdf5.field_from_json(json.loads(self._file.attrs["fields"])["x"], self._file)
        self.draws = int(self._file["x"].shape[1])
        self.ensemble_digest: str = self._file.attrs["ensemble_digest"]
        self.cost: dict[str, float] = json.loads(self._file.attrs["cost"])
        if "diagnostics" not in self._file:
            raise StoreError(
                f"{self.path}: a posterior without tables of diagnostics, as earlier versions of pullback wrote it; "
                "run its inference again (snakemake does, when asked for it)"
            )
        self.diagnostic_values: Diagnostics = {
            name: dict(zip(rows[:, 0].astype(int).tolist(), rows[:, 1].tolist(), strict=True))
            for name, rows in self._file["diagnostics"].items()
            if not rows.is_scale
        }

    @property
    def marginals(self) -> marginals.Marginals | None:
        """Noisy marginals of one observation, where the method keeps them."""
        return marginals.read(self._file)

    @property
    def diagnostics(self) -> dict[str, float]:
        """Diagnostics of the inference: the median over sets, or over blocks of events."""
        return {name: float(np.median(list(values.values()))) for name, values in self.diagnostic_values.items()}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows of one variable; ``ok`` as booleans."""
        values = super().read(name, start, stop)
        return values.astype(bool) if name == "ok" else values

    def draw_weights(
        self,
        event: np.ndarray | None,
        start: int = 0,
        stop: int | None = None,
        draws: int | None = None,
        accepted: bool = True,
    ) -> np.ndarray:
        """What each draw counts for (event, draw), float64: W_d w purity(y) / efficiency(x_d); 0 of a failed draw.

        W_d are the weights of an event's draws, with sum 1. Purity and efficiency are 1 where the method gives none.

        Args:
            event: w, the weight of each event of these rows (event,); None for 1.
            start, stop: rows.
            draws: how many of each event are taken, the first ones; all when None.
            accepted: whether purity and efficiency count.
        """
        ok = self.read("ok", start, stop)[:, :draws]
        weight = normalise(np.where(ok, self.read("log_weight", start, stop)[:, :draws], -np.inf))
        if event is not None:
            weight = weight * np.asarray(event, np.float64)[:, None]
        if accepted and "purity" in self.columns:
            weight = weight * self.read("purity", start, stop)[:, None]
        if accepted and "efficiency" in self.columns:
            weight = weight / np.where(ok, self.read("efficiency", start, stop)[:, :draws], 1.0)
        return weight


def _write_diagnostics(file: Any, diagnostics: Diagnostics) -> None:
    """One table for each name: first event of the set or piece, value."""
    group = file.create_group("diagnostics")
    for name, values in sorted(diagnostics.items()):
        group[name] = np.array(list(values.items()), np.float64)
        hdf5.attach(group, group[name], (f"{name}_piece", "first_event_and_value"))


def index_posterior(job: str, parts: Sequence[Path | str], out: Path | str) -> None:
    """Write one family's posterior: an index over its parts, with their costs added up.

    Args:
        job: `Plan.index_posterior_job`.
        parts: in order.
        out: the index file.

    Raises:
        StoreError: a part is missing, damaged, of another config, or answers other observations than the first.
    """
    cost: dict[str, float] = {}
    diagnostics: dict[str, dict[int, float]] = {}
    with piece_index(job, "parts", PosteriorReader, parts, out) as (file, readers, _):
        first = readers[0]
        for reader in readers:
            if reader.ensemble_digest != first.ensemble_digest:
                raise StoreError(f"{reader.path}: answers other observations than {first.path}; rerun the older part")
            cost = add_cost(cost, reader.cost)
            merge(diagnostics, reader.diagnostic_values)
        for key in ("ensemble_name", "ensemble_digest"):
            file.attrs[key] = first.attributes[key]
        _write_diagnostics(file, diagnostics)
        if (passed := first.marginals) is not None:
            passed.write(file)
        file.attrs["cost"] = json.dumps(cost, sort_keys=True)
        field = first.x
        file["x"].attrs.update(hdf5.describe(file, field))
        hdf5.attach(file, file["x"], ("event", "draw", *field.dims))
        for name in (name for name in ("log_weight", "ok", "efficiency") if name in first.columns):
            hdf5.attach(file, file[name], ("event", "draw"))
        if "times" in first.columns:
            hdf5.attach(file, file["times"], ("event", "resample"))
