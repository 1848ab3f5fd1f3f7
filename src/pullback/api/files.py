"""Ensembles and posteriors of a study as arrays, through the reader that refuses damaged, missing and foreign files."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pullback.core.atomic import StoreError
from pullback.ensembles.fields import Field
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.store import EnsembleReader

if TYPE_CHECKING:
    import xarray


class _File:
    """A file whose variables are read when they are asked for, and then kept."""

    reader: EnsembleReader | PosteriorReader

    @property
    def path(self) -> Path:
        """The file."""
        return self.reader.path

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes of the file."""
        return self.reader.attributes

    @cached_property
    def event_id(self) -> np.ndarray:
        """Number of each event in its ensemble (event,)."""
        return self.read("event_id")

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows ``start`` to ``stop`` of one variable, for data that are larger than memory."""
        return self.reader.read(name, start, stop)

    def _dims(self, name: str) -> tuple[str, ...]:
        """Dimension names of a variable after ``event``."""
        raise NotImplementedError

    def to_xarray(self) -> "xarray.Dataset":
        """All variables in memory, with dimension names, coordinates and units."""
        import xarray

        out = xarray.Dataset(attrs=self.attrs)
        for name in self.reader.columns:
            out[name] = (("event", *self._dims(name)), self.read(name))
        for field in (getattr(self.reader, "y", None), self.reader.x):
            if field is None:
                continue
            if field.is_vector:
                out = out.assign_coords({field.dims[0]: list(field.features)})
                out[f"{field.name}_units"] = ((field.dims[0],), list(field.units))
            else:
                out[field.name].attrs["units"] = field.units[0]
            for dim, coordinate in field.coordinates.items():
                out = out.assign_coords({dim: ((dim,), coordinate.values, {"units": coordinate.units})})
        return out

    def close(self) -> None:
        """Close every file."""
        self.reader.close()

    def __len__(self) -> int:
        return self.reader.n

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class Ensemble(_File):
    """One split of one family of a study: ``results/<study>/ensembles/<problem>/<family>/<split>.h5``.

    Attributes:
        path, attrs, event_id: of the file.
        y_field, x_field: names, units and dimensions of y and x; x_field is None where there is no truth.
        offsets, theta, theta_names: of a sweep: first event of each ensemble (ensemble + 1,), parameters of each prior
            (ensemble, parameter), their names.
    """

    reader: EnsembleReader

    def __init__(self, path: Path | str):
        self.reader = EnsembleReader(path)
        self.y_field: Field = self.reader.y
        self.x_field: Field | None = self.reader.x
        self.offsets, self.theta, self.theta_names = self.reader.offsets, self.reader.theta, self.reader.theta_names

    @cached_property
    def y(self) -> np.ndarray:
        """Observations (event, *y) in physical units."""
        return self.read("y")

    @cached_property
    def x(self) -> np.ndarray | None:
        """Truths (event, *x) in physical units; None where the family has none."""
        return self.read("x") if self.x_field else None

    @cached_property
    def weight(self) -> np.ndarray | None:
        """Event weights (event,), or (event, variation) where the file has several; None where it has none."""
        return self.read("weight") if "weight" in self.reader.columns else None

    @cached_property
    def group(self) -> np.ndarray:
        """The unit of the bootstrap that each event belongs to (event,)."""
        return self.read("group")

    def _dims(self, name: str) -> tuple[str, ...]:
        field = {"y": self.y_field, "x": self.x_field}.get(name)
        if field is not None:
            return field.dims
        return tuple(f"{name}_{axis}" for axis in range(1, self.read(name, 0, 1).ndim))

    def __repr__(self) -> str:
        truth = f", x {self.x_field.shape}" if self.x_field else ", no truth"
        return f"<Ensemble {self.path}: {len(self)} events, y {self.y_field.shape}{truth}>"


class Posterior(_File):
    """The draws of one method for one family: a posterior file of a study.

    Attributes:
        path, attrs, event_id: of the file.
        x_field: names, units and dimensions of x.
        diagnostics: what the inference noticed, the median over its sets of observations.
        cost: seconds, simulator calls, network calls ... of the inference.
    """

    reader: PosteriorReader

    def __init__(self, path: Path | str):
        self.reader = PosteriorReader(path)
        self.x_field: Field = self.reader.x
        self.diagnostics = self.reader.diagnostics
        self.cost = self.reader.cost

    @cached_property
    def x(self) -> np.ndarray:
        """Draws (event, draw, *x) in physical units; a failed draw is NaN."""
        return self.read("x")

    @cached_property
    def log_weight(self) -> np.ndarray:
        """Log weights of the draws (event, draw); zeros for equally weighted ones."""
        return self.read("log_weight")

    @cached_property
    def ok(self) -> np.ndarray:
        """Which draws did not fail (event, draw)."""
        return self.read("ok")

    def ensemble(self) -> Ensemble:
        """The observations that were answered.

        Raises:
            StoreError: they are not where they were, beside these results, or are others by now.
        """
        name = Path(self.attrs["ensemble_name"])
        places = [name, *(parent / name for parent in self.path.resolve().parents)]
        found = next((place for place in places if place.exists()), None)
        if found is None:
            raise StoreError(f"{self.path}: its observations, {name}, are not there; run the study, or bring them back")
        ensemble = Ensemble(found)
        if ensemble.reader.digest != self.reader.ensemble_digest:
            raise StoreError(f"{self.path}: answers other observations than {found} holds by now; infer again")
        return ensemble

    def truth(self) -> np.ndarray:
        """The truth of each event (event, *x).

        Raises:
            StoreError: the ensemble is not there, has changed, or has no truth.
        """
        with self.ensemble() as ensemble:
            if ensemble.x is None:
                raise StoreError(f"{ensemble.path}: holds observations without truth")
            order = np.argsort(ensemble.event_id)
            return ensemble.x[order[np.searchsorted(ensemble.event_id, self.event_id, sorter=order)]]

    def _dims(self, name: str) -> tuple[str, ...]:
        return {"x": ("draw", *self.x_field.dims), "event_id": ()}.get(name, ("draw",))

    def __repr__(self) -> str:
        return f"<Posterior {self.path}: {len(self)} events, {self.reader.draws} draws of x {self.x_field.shape}>"


def open_ensemble(path: Path | str) -> Ensemble:
    """Open an ensemble of a study; arrays are read when they are asked for.

    Args:
        path: an index ``<split>.h5`` or one shard.

    Raises:
        StoreError: the file or a shard is missing, truncated, changed, or not one of pullback's.
    """
    return Ensemble(path)


def open_posterior(path: Path | str) -> Posterior:
    """Open a posterior of a study; arrays are read when they are asked for.

    Args:
        path: an index ``<family>.h5`` or one part.

    Raises:
        StoreError: the file or a part is missing, truncated, changed, or not one of pullback's.
    """
    return Posterior(path)
