r"""Shot gathers of 2-D velocity models: the constant-density acoustic wave equation on Devito.

    p_tt + kappa p_t = v^2 (p_zz + p_xx) + v^2 w(t) delta(source)

One step of the scheme of the OpenFWI data (Deng et al. 2022), with alpha = (v dt / dx)^2, k = kappa dt, L the stencil
sum and the damping term taken backwards in time:

    p^{n+1} = (2 - k) p^n - (1 - k) p^{n-1} + alpha L p^n,    then  p^{n+1}_{source} += (v dt)^2 w^n

kappa grows quadratically through the border to 3 v_min ln(1e7) / (2 a), with v_min the slowest velocity of the model
(so it differs between models). Velocities are continued into the border from the edge of the model.

Outside the border the field is zero; in OpenFWI's programme it wraps around. A real OpenFWI record (border of 120
cells) is met to 7e-4 because of this, and to rounding (1e-5) by the same scheme with the wrap.

Devito's part is one operator without any number in it: alpha, k, positions and wavelet are run-time arrays, models and
shots are two plain outer dimensions. It is built and compiled once per process and serves every size, geometry and
velocity; a second process finds the compiled code in Devito's cache.
"""

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pullback.extras import require
from pullback.simulators.acquisition import STENCILS, Acquisition, AcquisitionError, check, sponge_strength
from pullback.simulators.wavelets import ricker

log = logging.getLogger("pullback")

WORKING_SET = 2 << 20
"""Bytes of wave fields that are stepped together: about a second-level cache."""


class SimulationError(ValueError):
    """A simulation that was asked for alone and has no result."""


class _Symbols:
    """Devito's objects for one space order: the operator, and functions of any size under the operator's names."""

    def __init__(self, space_order: int):
        devito = require("devito", "waves")
        # A tiny 2-D grid per core: OpenMP barriers cost more than they give, and parallelism is over processes.
        devito.configuration["log-level"] = "ERROR"
        devito.configuration["language"] = "C"
        devito.configuration["autotuning"] = "off"
        self.devito = devito
        self.space_order = space_order
        self.model, self.shot, self.receiver = (devito.Dimension(name) for name in ("m", "s", "r"))
        self.z, self.x = devito.SpaceDimension("z"), devito.SpaceDimension("x")
        fields = self.fields((8, 8), models=1, sources=1, receivers=1, steps=2)
        self.operator = self._operator(fields)

    def fields(
        self, padded: tuple[int, int], *, models: int, sources: int, receivers: int, steps: int
    ) -> dict[str, Any]:
        """Arrays of one run, by the operator's argument names."""
        devito, half = self.devito, self.space_order // 2
        grid = devito.Grid(shape=padded, dimensions=(self.z, self.x), dtype=np.float32)
        step, time = grid.stepping_dim, grid.time_dim
        m, s, r, z, x = self.model, self.shot, self.receiver, self.z, self.x

        def table(name: str, dimensions: tuple, shape: tuple, dtype: type = np.float32) -> Any:
            return devito.Function(name=name, dimensions=dimensions, shape=shape, space_order=0, dtype=dtype, grid=grid)

        return {
            "u": devito.TimeFunction(
                name="u",
                grid=grid,
                dimensions=(step, m, s, z, x),
                shape=(3, models, sources, *padded),
                time_order=2,
                space_order=(self.space_order, half, half),
            ),
            "alpha": table("alpha", (m, z, x), (models, *padded)),
            "damp": table("damp", (m,), (models,)),
            "ramp": table("ramp", (z, x), padded),
            "amplitude": table("amplitude", (m, s), (models, sources)),
            "wavelet": table("wavelet", (time,), (steps,)),
            "source_z": table("source_z", (s,), (sources,), np.int32),
            "source_x": table("source_x", (s,), (sources,), np.int32),
            "receiver_z": table("receiver_z", (r,), (receivers,), np.int32),
            "receiver_x": table("receiver_x", (r,), (receivers,), np.int32),
            "record": table("record", (time, m, s, r), (steps, models, sources, receivers)),
        }

    def _operator(self, f: dict[str, Any]) -> Any:
        m, s, r, z, x = self.model, self.shot, self.receiver, self.z, self.x
        u = f["u"]
        t, time = u.grid.stepping_dim, u.grid.time_dim
        weights = STENCILS[self.space_order]
        stencil = 2 * weights[0] * u[t, m, s, z, x]
        for j, w in enumerate(weights[1:], start=1):
            stencil += w * (u[t, m, s, z - j, x] + u[t, m, s, z + j, x] + u[t, m, s, z, x - j] + u[t, m, s, z, x + j])
        k = f["damp"][m] * f["ramp"][z, x]
        step = (2 - k) * u[t, m, s, z, x] - (1 - k) * u[t - 1, m, s, z, x] + f["alpha"][m, z, x] * stencil
        at_source = u[t + 1, m, s, f["source_z"][s], f["source_x"][s]]
        at_receiver = u[t + 1, m, s, f["receiver_z"][r], f["receiver_x"][r]]
        return self.devito.Operator(
            [
                self.devito.Eq(u[t + 1, m, s, z, x], step),
                self.devito.Inc(at_source, f["amplitude"][m, s] * f["wavelet"][time]),
                self.devito.Eq(f["record"][time, m, s, r], at_receiver),
            ],
            name=f"Acoustic{self.space_order}",
        )

    def compile(self) -> None:
        """Compile, or find the compiled code in Devito's cache; one process at a time."""
        compiler = self.devito.configuration["compiler"]
        with _one_at_a_time(Path(compiler.get_jit_dir()) / "pullback.lock"):
            # codepy's own lock is a bare file: a process killed while compiling leaves it, and everyone after waits
            # forever. Nobody else compiles this operator while we hold ours, so one that is there is such a leftover.
            name = getattr(self.operator, "_soname", None)
            if name:
                (Path(compiler.get_codepy_dir()) / name[:7] / "lock").unlink(missing_ok=True)
            self.operator.cfunction  # noqa: B018 (the property compiles)


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock between processes of this machine that the kernel drops when its holder dies."""
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@functools.cache
def _symbols(space_order: int) -> _Symbols:
    symbols = _Symbols(space_order)
    symbols.compile()
    return symbols


class AcousticEngine:
    """Shot gathers for one acquisition. Settings are checked and arrays allocated here, the operator is shared.

    Args:
        acquisition: the settings.
        models: models stepped together; by default as many as fit a second-level cache.

    Attributes:
        checks: the numbers of the pre-flight checks.
        calls: models simulated so far.

    Raises:
        AcquisitionError: settings that cannot work.
    """

    def __init__(self, acquisition: Acquisition, models: int | None = None):
        a = self.acquisition = acquisition
        self.checks = check(a)
        self.calls = 0
        padded = (a.depth_cells + 2 * a.border_cells, a.offset_cells + 2 * a.border_cells)
        model_bytes = 4 * (3 * len(a.sources) + 1) * padded[0] * padded[1]
        self.models = models or max(1, min(16, WORKING_SET // model_bytes))
        self._symbols = _symbols(a.space_order)
        f = self._fields = self._symbols.fields(
            padded, models=self.models, sources=len(a.sources), receivers=len(a.receivers), steps=a.steps
        )
        f["ramp"].data[...] = _ramp(*a.shape, a.border_cells)
        f["wavelet"].data[...] = ricker(a.peak_frequency, a.time_step, a.steps)
        for name, nodes in (("source", a.sources), ("receiver", a.receivers)):
            rows, columns = np.array(nodes).T + a.border_cells
            f[f"{name}_z"].data[...], f[f"{name}_x"].data[...] = rows, columns
        # A stable wave never exceeds what its source puts in, step by step; a hundredfold leaves focusing all its room.
        self._drive = 100 * float(np.abs(f["wavelet"].data).sum())

    def shots(self, velocity: np.ndarray) -> np.ndarray:
        """Shot gathers (source, time, receiver), float32, of one model (depth, offset) in m/s.

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
        """Shot gathers of many models; each is the same as if it were alone.

        Args:
            velocities: (event, depth, offset), m/s.

        Returns:
            y (event, source, time, receiver) float32 and ok (event,) bool. Where ok is False (non-finite or
            non-positive velocities, an unstable time step, a field that blew up), y is NaN.

        Raises:
            AcquisitionError: models of the wrong shape.
        """
        a = self.acquisition
        velocities = np.asarray(velocities, dtype=np.float64)
        if velocities.ndim != 3 or velocities.shape[1:] != a.shape:
            raise AcquisitionError(
                f"velocities of shape {velocities.shape}: wanted (event, {a.shape[0]}, {a.shape[1]})"
            )
        y = np.full((len(velocities), *a.data_shape), np.nan, dtype=np.float32)
        ok = self._can_run(velocities)
        runnable = np.flatnonzero(ok)
        for start in range(0, len(runnable), self.models):
            events = runnable[start : start + self.models]
            record, limit = self._run(velocities[events])
            # Written so that NaN counts as blown up.
            good = np.abs(record).max(axis=(1, 2, 3)) <= limit
            y[events[good]] = record[good]
            ok[events[~good]] = False
        self.calls += len(velocities)
        if not ok.all():
            log.warning("%d of %d wave simulations failed", np.count_nonzero(~ok), len(ok))
        return y, ok

    def _can_run(self, velocities: np.ndarray) -> np.ndarray:
        """Which models are finite, positive and stable with this time step (event,)."""
        flat = velocities.reshape(len(velocities), -1)
        ok = np.isfinite(flat).all(axis=1) & (np.nan_to_num(flat, nan=-1.0) > 0).all(axis=1)
        low, high = (np.where(ok, extreme(flat, axis=1), 1.0) for extreme in (np.min, np.max))
        courant = high * self.acquisition.time_step / self.acquisition.spacing
        return ok & (courant <= self.acquisition.courant_limit(low, high))

    def _run(self, velocities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Records (model, source, time, receiver) of at most ``self.models`` models, and what they stay below."""
        a, f, count = self.acquisition, self._fields, len(velocities)
        border = (a.border_cells, a.border_cells)
        thickness = (a.border_cells - 1) * a.spacing
        rows, columns = np.array(a.sources).T
        amplitude = (velocities[:, rows, columns] * a.time_step) ** 2
        alpha = (velocities * (a.time_step / a.spacing)) ** 2
        f["u"].data_with_halo[...] = 0
        f["alpha"].data[:count] = np.pad(alpha, ((0, 0), border, border), mode="edge")
        f["damp"].data[:count] = sponge_strength(velocities.min(axis=(1, 2)), thickness) * a.time_step
        f["amplitude"].data[:count] = amplitude
        self._symbols.operator.apply(time_m=0, time_M=a.steps - 1, m_M=count - 1, **f)
        every = a.output_every
        record = np.asarray(f["record"].data[every - 1 :: every, :count]).transpose(1, 2, 0, 3)
        return record, self._drive * amplitude.max(axis=1)


def _ramp(depth: int, offset: int, border: int) -> np.ndarray:
    """Damping on the padded grid, 0 in the model to 1 at the outer edge; the side strips own the corners."""
    rise = (np.arange(border) / (border - 1)) ** 2
    ramp = np.zeros((depth + 2 * border, offset + 2 * border))
    ramp[:border], ramp[-border:] = rise[::-1, None], rise[:, None]
    ramp[:, :border], ramp[:, -border:] = rise[::-1], rise
    return ramp


@functools.cache
def shared_engine(acquisition: Acquisition) -> AcousticEngine:
    """The engine of these settings in this process."""
    return AcousticEngine(acquisition)
