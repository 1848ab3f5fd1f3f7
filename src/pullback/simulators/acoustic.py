r"""Shot gathers of 2-D velocity models: the constant-density acoustic wave equation on Devito.

`propagators` has the scheme and its operators; this module allocates arrays, calls them in order and handles failures.
With its sponge and a border of 120 cells a real OpenFWI record is met to 7e-4: outside the border the field is zero, in
OpenFWI's programme it wraps around, and with the wrap the same scheme meets the record to rounding (1e-5). Velocities
are continued into the border from the edge of the model.

In float32; `dtype` float64 is for proofs.
"""

import functools
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from pullback.simulators.acquisition import Acquisition, AcquisitionError, sponge_strength
from pullback.simulators.preflight import check
from pullback.simulators.propagators import LINE, Sizes, Task, propagator

log = logging.getLogger("pullback")

WORKING_SET = 2 << 20
"""Bytes of wave fields that are stepped together: about a second-level cache."""

KEPT = 256 << 20
"""Bytes of fields that a gradient may keep at once. Few long segments are quicker than many short ones (each is three
calls of an operator, 6 ms of Devito's time); where this is not enough, the fewest fields are kept."""

LAYER_REFLECTION, LAYER_POWER = 1e-4, 2
"""The matched layer: what a plane wave at normal incidence at velocity_max should leave of itself, and the power with
which the damping rises. Of powers 2 and 3 and 1e-3 to 1e-6 the best for 8 to 15 nodes, -46 to -66 dB for point sources
at 1500 to 4500 m/s (test_acoustic.reflected); with 20 and more a steeper rise would gain what nobody hears."""


class SimulationError(ValueError):
    """The simulation of a single model failed."""


class AcousticEngine:
    """Waves of one acquisition. Settings are checked here; operators are shared, arrays made when first needed.

    Args:
        acquisition: the settings.
        models: models stepped together; by default as many as fit a second-level cache.
        dtype: of the wave fields.

    Attributes:
        checks: the numbers of the pre-flight checks.
        calls: simulations so far, of one model with all its shots; a derivative counts two more, a Born field two.
        segment: steps between checkpoints of a gradient: even, so that the adjoint's two time levels meet across
            segments. The default takes what `KEPT` allows, or keeps the fewest fields.

    Raises:
        AcquisitionError: settings that cannot work.
    """

    def __init__(
        self, acquisition: Acquisition, models: int | None = None, dtype: Literal["float32", "float64"] = "float32"
    ):
        a = self.acquisition = acquisition
        self.checks = check(a)
        self.calls = 0
        # Two time levels, and the four memories of a matched layer: what a checkpoint holds of each shot.
        levels = 6 if a.boundary == "pml" else 2
        self.dtype = np.dtype(dtype)
        field_bytes = self.dtype.itemsize * math.prod(a.padded)
        self.models = models or max(1, min(16, WORKING_SET // (field_bytes * (levels * len(a.sources) + 1))))
        # As Devito keeps a field, with whole cache lines around it.
        step_bytes = self.dtype.itemsize * math.prod(n + 2 * LINE for n in a.padded) * len(a.sources) * self.models
        fit = max(1, KEPT // step_bytes)
        self.segment = 2 * math.ceil(max(math.sqrt(levels * a.steps), a.steps / math.ceil(a.steps / fit)) / 2)
        self._propagator = propagator(replace(a.scheme, dtype=dtype))
        self._receivers = a.nodes(a.receivers)
        # Nodes and weights of each shot's source (source, point); shorter lists end in a node that is driven with zero.
        sources = [a.nodes([position]) for position in a.sources]
        most = max(len(source.rows) for source in sources)
        short = [(0, most - len(source.rows)) for source in sources]
        self._rows = np.stack([np.pad(s.rows, n, mode="edge") for s, n in zip(sources, short, strict=True)])
        self._columns = np.stack([np.pad(s.columns, n, mode="edge") for s, n in zip(sources, short, strict=True)])
        self._weights = np.stack([np.pad(s.weights[0], n) for s, n in zip(sources, short, strict=True)])
        self._wavelet = a.wavelet.sampled(a.time_step, a.steps)
        # A stable wave never exceeds what its source puts in, step by step; a hundredfold leaves focusing all its room.
        self._drive = 100 * float(np.abs(self._wavelet).sum())
        self._arrays: dict[tuple[Task, int], dict[str, Any]] = {}

    def shots(self, velocity: np.ndarray) -> np.ndarray:
        """Shot gathers (source, time, receiver) of one model (depth, offset) in m/s.

        Raises:
            AcquisitionError: a model of the wrong shape.
            SimulationError: not a velocity model, or unstable with this time step.
        """
        velocity = np.asarray(velocity)
        y, ok = self.batch(velocity[None])
        if not ok[0]:
            finite = velocity[np.isfinite(velocity)]
            span = f"{finite.min():g} to {finite.max():g} m/s" if finite.size else "no finite value"
            raise SimulationError(
                f"no result for a model with {velocity.size - finite.size} non-finite cells and velocities "
                f"{span}: "
                f"wanted positive velocities that are stable with a time step of {self.acquisition.time_step:g} s"
            )
        return y[0]

    def batch(self, velocities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shot gathers of many models; each result is independent of the batch.

        Args:
            velocities: (event, depth, offset), m/s.

        Returns:
            y (event, source, time, receiver) and ok (event,) bool. Where ok is False (non-finite or non-positive
            velocities, an unstable time step, a field that blew up), y is NaN.

        Raises:
            AcquisitionError: models of the wrong shape.
        """
        velocities = self._checked(velocities)
        y = np.full((len(velocities), *self.acquisition.data_shape), np.nan, dtype=self.dtype)
        ok = self._can_run(velocities)
        f = self._fields("forward")
        for events in self._batches(ok):
            limit = self._load(f, velocities[events])
            self._apply("forward", f, len(events))
            y[events], ok[events] = self._gathers(f["record"], len(events), limit)
        return self._counted(y, ok, 1)

    def born(self, velocities: np.ndarray, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shot gathers and their derivative in a direction: the single-scattered (Born) field.

        The damping of a sponge is held at what the background has.

        Args:
            velocities, changes: (event, depth, offset), m/s.

        Returns:
            y and its derivative (event, source, time, receiver), and ok (event,), as in `batch`.
        """
        a, velocities = self.acquisition, self._checked(velocities)
        changes = np.asarray(changes, dtype=np.float64)
        y = np.full((len(velocities), *a.data_shape), np.nan, dtype=self.dtype)
        dy = y.copy()
        ok = self._can_run(velocities)
        f = self._fields("born")
        for events in self._batches(ok):
            limit = self._load(f, velocities[events])
            f["ratio"].data[: len(events)] = self._padded(2 * changes[events] / velocities[events])
            self._apply("born", f, len(events))
            y[events], ok[events] = self._gathers(f["record"], len(events), limit)
            dy[events] = self._gathers(f["echo"], len(events), limit)[0]
        dy[~ok] = np.nan
        y, ok = self._counted(y, ok, 2)
        return y, dy, ok

    def adjoint(self, velocities: np.ndarray, gathers: np.ndarray) -> np.ndarray:
        """The transpose of the map from wavelets, one for each shot, to shot gathers.

        Args:
            velocities: (event, depth, offset), m/s; all must be able to run.
            gathers: (event, source, time, receiver).

        Returns:
            (event, source, step): the derivative of sum(gathers * y) by each shot's wavelet at each time step.
        """
        velocities = self._checked(velocities)
        out = np.empty((len(velocities), len(self._rows), self.acquisition.steps), self.dtype)
        f = self._fields("adjoint")
        for events in self._batches(np.ones(len(velocities), dtype=bool)):
            self._load(f, velocities[events])
            f["record"].data[:, : len(events)] = self._spread(gathers[events])
            self._apply("adjoint", f, len(events))
            back = np.asarray(f["back"].data[:, : len(events)])
            out[events] = np.einsum("tmsp,sp->mst", back, self._weights) * self.acquisition.spacing**2
        self.calls += len(velocities)
        return out

    def linearize(self, velocities: np.ndarray) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Shot gathers as `batch`, and their transposed derivative by the velocities, exact for the discrete scheme.

        Fields are kept at checkpoints, for each event as long as the pullback lives, and recomputed between them:
        memory grows with the number of steps up to `KEPT` and with its square root beyond. The damping of a sponge is
        held at what the model has.

        Args:
            velocities: (event, depth, offset), m/s.

        Returns:
            y and ok as `batch`, and the pullback: of cotangents (event, source, time, receiver) the derivative (event,
            depth, offset) by m/s of sum(cotangent * y), NaN where ok is False.
        """
        a, velocities = self.acquisition, self._checked(velocities)
        y = np.full((len(velocities), *a.data_shape), np.nan, dtype=self.dtype)
        ok = self._can_run(velocities)
        kept = []
        for events in self._batches(ok):
            y[events], good, segments = self._forward_with_checkpoints(velocities[events])
            ok[events] = good
            if good.any():
                kept.append((events[good], segments))
        y, ok = self._counted(y, ok, 1)

        def pullback(cotangent: np.ndarray) -> np.ndarray:
            slope = np.full(velocities.shape, np.nan)
            for events, segments in kept:
                by_alpha = self._backward(velocities[events], self._spread(cotangent[events]), segments)
                slope[events] = by_alpha * 2 * velocities[events] * (a.time_step / a.spacing) ** 2
            self.calls += 2 * len(velocities)
            return slope

        return y, ok, pullback

    def _forward_with_checkpoints(self, velocities: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Any]]:
        """Gathers, which are good, and the fields of those before each segment of steps."""
        f, steps, count = self._fields("forward"), self.acquisition.steps, len(velocities)
        limit = self._load(f, velocities)
        segments = []
        for first in range(0, steps, self.segment):
            segments.append((first, {name: np.array(values) for name, values in _waves(f, count)}))
            self._apply("forward", f, count, first, min(first + self.segment, steps))
        y, good = self._gathers(f["record"], count, limit)
        if not good.all():
            for _, state in segments:
                state.update({name: _of_models(name, values, good) for name, values in state.items()})
        return y, good, segments

    def _backward(self, velocities: np.ndarray, drive: np.ndarray, segments: list[Any]) -> np.ndarray:
        """The derivative by alpha (model, depth, offset) of the objective whose residual at the nodes is ``drive``."""
        steps, count = self.acquisition.steps, len(velocities)
        keep, image = self._fields("keep"), self._fields("image")
        self._load(keep, velocities)
        self._load(image, velocities)
        image["image"].data[...] = 0
        for first, state in reversed(segments):
            last = min(first + self.segment, steps)
            # Two levels in turn: step n reads p^n at n % 2, and p^{n-1} at the other.
            for level in (0, 1):
                keep["u"].data_with_halo[level, :count] = state["u"][(first + 1 - level) % 2]
            for name, memory in _waves(keep, count):
                memory[...] = state[name]
            keep["wavelet"].data[: last - first] = self._wavelet[first:last]
            self._apply("keep", keep, count, 0, last - first)
            image["record"].data[: last - first, :count] = drive[first:last]
            self._apply("image", {**image, "u": keep["u"]}, count, 0, last - first)
        alpha = np.asarray(image["alpha"].data[:count], dtype=np.float64)
        return self._folded(np.asarray(image["image"].data[:count], dtype=np.float64) / alpha**2)

    def _fields(self, task: Task) -> dict[str, Any]:
        """The arrays of a task, with what does not change from model to model filled in."""
        a = self.acquisition
        steps = self.segment if task in ("keep", "image") else a.steps
        if (task, steps) in self._arrays:
            return self._arrays[task, steps]
        sources, points = self._rows.shape
        sizes = Sizes(a.padded, self.models, sources, points, len(self._receivers.rows), steps)
        f = self._arrays[task, steps] = self._propagator.fields(sizes, task)
        if a.boundary == "sponge":
            f["ramp"].data[...] = _ramp(a)
        else:
            for axis, cells, (before, after) in zip("zx", a.shape, a.padding, strict=True):
                f[f"a_{axis}"].data[...], f[f"b_{axis}"].data[...] = _layer(a, cells, before, after)
        if "wavelet" in f and task != "keep":
            f["wavelet"].data[...] = self._wavelet
        if "source_z" in f:
            f["source_z"].data[...], f["source_x"].data[...] = self._rows, self._columns
        f["node_z"].data[...], f["node_x"].data[...] = self._receivers.rows, self._receivers.columns
        return f

    def _load(self, f: dict[str, Any], velocities: np.ndarray) -> np.ndarray:
        """Fill in models and empty the fields; what their records must stay below (model,)."""
        a, count = self.acquisition, len(velocities)
        alpha = self._padded((velocities * (a.time_step / a.spacing)) ** 2)
        f["alpha"].data[:count] = alpha
        if a.boundary == "sponge":
            thickness = (a.absorbing_cells - 1) * a.spacing
            f["damp"].data[:count] = sponge_strength(velocities.min(axis=(1, 2)), thickness) * a.time_step
        amplitude = alpha[:, self._rows, self._columns] * self._weights * a.spacing**2
        if "amplitude" in f:
            f["amplitude"].data[:count] = amplitude
        for _, values in _waves(f, count):
            values[...] = 0
        return self._drive * np.abs(amplitude).max(axis=(1, 2))

    def _apply(self, task: Task, f: dict[str, Any], count: int, first: int = 0, last: int | None = None) -> None:
        last = self.acquisition.steps if last is None else last
        more: dict[str, Any] = {}
        if self.acquisition.boundary == "pml":
            more = self._propagator.strips(task, self.acquisition.absorbing_cells, self.acquisition.offset_cells)
        self._propagator.operator(task).apply(time_m=first, time_M=last - 1, m_M=count - 1, **f, **more)

    def _gathers(self, record: Any, count: int, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Samples at the receivers (model, source, time, receiver), NaN where a field blew up, and where none did."""
        at_nodes = np.asarray(record.data[:, :count])
        # Written so that NaN counts as blown up, and without a copy of a long record.
        most, least = (extreme(at_nodes, axis=(0, 2, 3)) for extreme in (np.max, np.min))
        good = np.maximum(most, -least) <= limit
        y = self._receivers.read(self.acquisition.sampled(at_nodes)).transpose(1, 2, 0, 3)
        return np.where(good[:, None, None, None], y, np.nan).astype(self.dtype), good

    def _spread(self, gathers: np.ndarray) -> np.ndarray:
        """The transpose of `_gathers`: (model, source, time, receiver) -> (step, model, source, node)."""
        by_time = gathers.transpose(2, 0, 1, 3).astype(self.dtype, copy=False)
        return self.acquisition.unsampled(self._receivers.drive(by_time))

    def _padded(self, models: np.ndarray) -> np.ndarray:
        """Models (model, depth, offset) continued into the border from their edge."""
        return np.pad(models, ((0, 0), *self.acquisition.padding), mode="edge")

    def _folded(self, padded: np.ndarray) -> np.ndarray:
        """The transpose of `_padded`: what the border holds is added to the edge it came from."""
        for axis, (before, after) in enumerate(self.acquisition.padding, start=1):
            inner = np.moveaxis(padded, axis, -1)
            size = inner.shape[-1] - before - after
            folded = inner[..., before : before + size].copy()
            folded[..., 0] += inner[..., :before].sum(axis=-1)
            folded[..., -1] += inner[..., before + size :].sum(axis=-1)
            padded = np.moveaxis(folded, -1, axis)
        return padded

    def _checked(self, velocities: np.ndarray) -> np.ndarray:
        velocities = np.asarray(velocities, dtype=np.float64)
        if velocities.ndim != 3 or velocities.shape[1:] != self.acquisition.shape:
            raise AcquisitionError(
                f"velocities of shape {velocities.shape}: wanted (event, {', '.join(map(str, self.acquisition.shape))})"
            )
        return velocities

    def _can_run(self, velocities: np.ndarray) -> np.ndarray:
        """Which models are finite, positive and stable with this time step (event,)."""
        flat = velocities.reshape(len(velocities), -1)
        ok = np.isfinite(flat).all(axis=1) & (np.nan_to_num(flat, nan=-1.0) > 0).all(axis=1)
        low, high = (np.where(ok, extreme(flat, axis=1), 1.0) for extreme in (np.min, np.max))
        courant = high * self.acquisition.time_step / self.acquisition.spacing
        return ok & (courant <= self.acquisition.courant_limit(low, high))

    def _batches(self, ok: np.ndarray) -> list[np.ndarray]:
        """Indices of the events that can run, as many together as there are arrays for."""
        runnable = np.flatnonzero(ok)
        return [runnable[i : i + self.models] for i in range(0, len(runnable), self.models)]

    def _counted(self, y: np.ndarray, ok: np.ndarray, calls: int) -> tuple[np.ndarray, np.ndarray]:
        self.calls += calls * len(ok)
        if not ok.all():
            log.warning("%d of %d wave simulations failed", np.count_nonzero(~ok), len(ok))
        return y, ok


def _waves(f: dict[str, Any], count: int) -> list[tuple[str, Any]]:
    """What is stepped through time, of the first models: wave fields, and the memories of a matched layer.

    Histories are left out: Devito makes an array when it is first looked at, and every level of these is written.
    """
    found = [(name, f[name].data_with_halo[:, :count]) for name in ("u", "v") if name in f and not f[name].save]
    memories = [name for name in f if name.startswith(("psi_", "zeta_"))]
    return found + [(name, f[name].data_with_halo[:count]) for name in memories]


def _of_models(name: str, values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Some models (model,) bool of what `_waves` gives by this name."""
    return values[:, which] if name in ("u", "v") else values[which]


def _ramp(a: Acquisition) -> np.ndarray:
    """Damping of a sponge on the padded grid, 0 in the model to 1 at the outer edge; side strips own the corners."""
    border = a.absorbing_cells
    rise = (np.arange(border) / (border - 1)) ** 2
    ramp = np.zeros(a.padded)
    if not a.free_surface:
        ramp[:border] = rise[::-1, None]
    ramp[-border:] = rise[:, None]
    ramp[:, :border], ramp[:, -border:] = rise[::-1], rise
    return ramp


def _layer(a: Acquisition, cells: int, before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """a and b of the matched layer along one axis: b = exp(-(d + s) dt), a = d / (d + s) (b - 1).

    d rises through the layer, s falls: pi f_peak at its start, which spares grazing and evanescent waves (Roden and
    Gedney 2000).
    """
    position = np.arange(cells + before + after) - before
    into = np.maximum(np.maximum(-position, position - (cells - 1)), 0) / max(1, a.absorbing_cells)
    thickness = a.absorbing_cells * a.spacing
    damping = -(LAYER_POWER + 1) * a.velocity_max * math.log(LAYER_REFLECTION) / (2 * thickness) * into**LAYER_POWER
    shift = np.pi * a.wavelet.frequency * (1 - into)
    b = np.exp(-(damping + shift) * a.time_step)
    return np.where(damping > 0, damping / (damping + shift + (damping == 0)) * (b - 1), 0.0), b


@functools.cache
def shared_engine(acquisition: Acquisition, dtype: Literal["float32", "float64"] = "float32") -> AcousticEngine:
    """The engine of these settings in this process."""
    return AcousticEngine(acquisition, dtype=dtype)
