r"""The wave equation as Devito operators: one step of the field, its linearisation and its adjoint.

    p_tt + kappa p_t = v^2 (p_zz + p_xx) + v^2 dx^2 w(t) delta(source)

The source is that of OpenFWI's code, which drives the source's node with v^2 w and no 1 / dx^2: amplitudes go with the
square of the spacing. With alpha = (v dt / dx)^2 and L the stencil sum of the Laplacian times dx^2, one step is

    p^{n+1} = (2 - k) p^n - (1 - k) p^{n-1} + alpha (L p^n + q^n)  +  alpha dx^2 W^T w^n

where W^T spreads a source over the nodes around it. Two absorbing borders:

sponge
    That of the OpenFWI data (Deng et al. 2022): k = kappa dt grows quadratically through the border, q = 0.
pml
    A perfectly matched layer in second-order form (Pasalic and McGarry 2010): k = 0, and in the strips of each
    direction two memory fields, with D the centred first and D2 the second derivative times dx and dx^2,

        psi^n  = b psi^{n-1}  + a D p^n
        zeta^n = b zeta^{n-1} + a (D2 p^n + D psi^n),      q = sum over directions of (D psi + zeta)

A free surface is the row z = 0: p is zero there and odd about it, so L stays symmetric.

The adjoint. Let lambda be the multiplier of a step and mu = alpha lambda. Multiplied by alpha, the transposed
recurrence is the same scheme run backwards in time, driven at the receivers by alpha times the residual: alpha and k
act point by point, L is symmetric. Only the layer's memory is transposed (D^T = -D):

    z^n = b z^{n+1} + mu^{n+1},    c^n = b c^{n+1} - D (mu^{n+1} + a z^n),    q^n = D2 (a z^n) - D (a c^n)

The derivative by alpha of an objective of the record is then the sum over steps of mu^{n+1} r^{n+1} / alpha^2, with
r^{n+1} = p^{n+1} - (2 - k) p^n + (1 - k) p^{n-1}, which holds the source's own alpha too. The linearised (Born) field
runs beside the background and is driven by (delta alpha / alpha) r^{n+1}.

Operators hold no number but the stencil: alpha, damping, positions and wavelet are run-time arrays; models and shots
are two plain outer dimensions. One is built and compiled once per process and serves every size and geometry.
"""

import functools
import hashlib
import logging
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pullback.core.atomic import atomic
from pullback.core.locks import one_at_a_time
from pullback.core.optional import require

log = logging.getLogger("pullback")

STENCILS: dict[int, tuple[float, ...]] = {
    4: (-5 / 2, 4 / 3, -1 / 12),
    8: (-205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560),
}
"""Weights of the centred second derivative times dx^2, by space order: centre, first neighbour, ..."""

SLOPES: dict[int, tuple[float, ...]] = {4: (2 / 3, -1 / 12), 8: (4 / 5, -1 / 5, 4 / 105, -1 / 280)}
"""Weights of the centred first derivative times dx, by space order: first neighbour (odd), second, ..."""

LINE = 16
"""float32 numbers in a cache line."""

Boundary = Literal["sponge", "pml"]
Task = Literal["forward", "keep", "born", "adjoint", "image"]
"""forward: p alone, two time levels. keep: p of every step of a segment, for the image. born: p and its linearisation.
adjoint: mu, recorded at the sources. image: mu through a segment that was kept, and the derivative by alpha."""


@dataclass(frozen=True)
class Scheme:
    """Discretisation for which an operator is compiled."""

    space_order: int
    boundary: Boundary
    free_surface: bool
    dtype: Literal["float32", "float64"] = "float32"

    @property
    def reach(self) -> int:
        """Nodes to either side that a stencil reads."""
        return self.space_order // 2


@dataclass(frozen=True)
class Sizes:
    """Sizes of one allocation: the padded grid, and how many of everything."""

    padded: tuple[int, int]
    models: int
    sources: int
    source_nodes: int
    record_nodes: int
    steps: int


@dataclass(frozen=True)
class _Strip:
    """One strip of the matched layer: the axis that it is stretched along, its dimension, those of a wave field."""

    axis: str
    along: Any
    dimensions: tuple[Any, Any, Any, Any]

    def here(self, j: int) -> tuple[Any, ...]:
        """Indices of the node j further along the axis."""
        m, s, z, x = self.dimensions
        return (m, s, self.along + j, x) if self.axis == "z" else (m, s, z, self.along + j)

    @property
    def node(self) -> tuple[Any, ...]:
        """Indices of a node of one model: what all its shots share."""
        m, _, *where = self.here(0)
        return (m, *where)

    def of(self, field: Any, time: Any = None) -> Callable[[int], Any]:
        """A field's value j nodes further along the axis."""
        return lambda j: field[self.here(j) if time is None else (time, *self.here(j))]

    def names(self, wave: str) -> tuple[str, str, str, str]:
        """Names of psi, zeta, a and b."""
        return f"psi_{wave}{self.axis}", f"zeta_{wave}{self.axis}", f"a_{self.axis}", f"b_{self.axis}"


class Propagator:
    """Devito's objects for one scheme: operators by task, and fields of any size under the operators' names."""

    def __init__(self, scheme: Scheme):
        devito = require("devito", "waves")
        # A tiny 2-D grid per core: OpenMP barriers cost more than they give, and parallelism is over processes.
        devito.configuration["log-level"] = "ERROR"
        devito.configuration["language"] = "C"
        devito.configuration["autotuning"] = "off"
        self.devito = devito
        self.scheme = scheme
        self.model, self.shot, self.node, self.point = (devito.Dimension(name) for name in ("m", "s", "r", "p"))
        self.z, self.x = devito.SpaceDimension("z"), devito.SpaceDimension("x")
        self._operators: dict[Task, Any] = {}

    def fields(self, sizes: Sizes, task: Task) -> dict[str, Any]:
        """Arrays of one run of a task, by the operator's argument names."""
        devito, n = self.devito, sizes
        dtype = np.dtype(self.scheme.dtype).type
        grid = devito.Grid(shape=n.padded, dimensions=(self.z, self.x), dtype=dtype)
        step, time = grid.stepping_dim, grid.time_dim
        m, s, r, p, z, x = self.model, self.shot, self.node, self.point, self.z, self.x

        def table(name: str, dimensions: tuple, shape: tuple, kind: type = dtype) -> Any:
            return devito.Function(name=name, dimensions=dimensions, shape=shape, space_order=0, dtype=kind, grid=grid)

        # Rows start on a cache line and are whole lines apart: loads and stores that cross lines cost half the speed.
        after = -(n.padded[1] + LINE) % LINE
        halo = (self.scheme.space_order, LINE, after if after >= self.scheme.reach else after + LINE)
        lined = {"space_order": halo, "dtype": dtype, "grid": grid}

        def section(name: str, dimensions: tuple, shape: tuple) -> Any:
            return devito.Function(name=name, dimensions=dimensions, shape=shape, **lined)

        def wave(name: str, levels: int) -> Any:
            """A field of every model and shot, with so many time levels."""
            shape = (levels, n.models, n.sources, *n.padded)
            return devito.TimeFunction(
                name=name, dimensions=(step, m, s, z, x), shape=shape, time_order=levels - 1, **lined
            )

        # A segment keeps the two levels before it too, and Devito wants one length for all that time indexes.
        length = n.steps + 2 if task in ("keep", "image") else n.steps

        def history(name: str) -> Any:
            shape = (length, n.models, n.sources, *n.padded)
            return devito.TimeFunction(name=name, dimensions=(time, m, s, z, x), shape=shape, save=length, **lined)

        pml = self.scheme.boundary == "pml"
        out: dict[str, Any] = {"alpha": section("alpha", (m, z, x), (n.models, *n.padded))}
        if pml:
            for axis, d, size in (("z", z, n.padded[0]), ("x", x, n.padded[1])):
                out[f"a_{axis}"] = section(f"a_{axis}", (d,), (size,))
                out[f"b_{axis}"] = section(f"b_{axis}", (d,), (size,))
        else:
            out["damp"] = table("damp", (m,), (n.models,))
            out["ramp"] = section("ramp", (z, x), n.padded)
        names = {"born": ["u", "v"], "adjoint": ["v"], "image": ["v"]}.get(task, ["u"])
        for name in names:
            out[name] = history("u") if task == "keep" else wave(name, 3 if task == "born" and name == "u" else 2)
            if pml:
                for axis in "zx":
                    for memory in (f"psi_{name}{axis}", f"zeta_{name}{axis}"):
                        out[memory] = section(memory, (m, s, z, x), (n.models, n.sources, *n.padded))
        if task in ("forward", "keep", "born"):
            out["wavelet"] = table("wavelet", (time,), (length,))
            out["amplitude"] = table("amplitude", (m, s, p), (n.models, n.sources, n.source_nodes))
        if task == "adjoint":
            out["back"] = table("back", (time, m, s, p), (length, n.models, n.sources, n.source_nodes))
        if task != "image":
            out["source_z"] = table("source_z", (s, p), (n.sources, n.source_nodes), np.int32)
            out["source_x"] = table("source_x", (s, p), (n.sources, n.source_nodes), np.int32)
        out["node_z"] = table("node_z", (r,), (n.record_nodes,), np.int32)
        out["node_x"] = table("node_x", (r,), (n.record_nodes,), np.int32)
        out["record"] = table("record", (time, m, s, r), (length, n.models, n.sources, n.record_nodes))
        if task == "born":
            out["ratio"] = section("ratio", (m, z, x), (n.models, *n.padded))
            out["echo"] = table("echo", (time, m, s, r), (length, n.models, n.sources, n.record_nodes))
        if task == "image":
            out["u"] = history("u")
            out["image"] = section("image", (m, z, x), (n.models, *n.padded))
        return out

    def strips(self, task: Task, border: int, cells: int) -> dict[str, int]:
        """Thickness of the strips of the matched layer, by the operator's argument names: layer plus stencil.

        Along rows whole vectors, for the layer's coefficients are zero behind it; but in a section of few ``cells`` not
        as far as the layer of the other side, which would be stepped twice.
        """
        least = border + self.scheme.reach
        thickness = {"z": least, "x": min(-(-least // LINE) * LINE, cells + border - self.scheme.reach)}
        names = [parameter.name for parameter in self.operator(task).parameters]
        # Devito numbers the thicknesses of strips as it makes them: x_ltkn0, x_rtkn1.
        return {name: thickness[name[0]] for name in names if re.fullmatch(r"[zx]_[lr]tkn\d+", name)}

    def operator(self, task: Task) -> Any:
        """The compiled operator of a task: from this process, from the cache, or made now."""
        if task not in self._operators:
            folder = Path(self.devito.configuration["compiler"].get_jit_dir())
            with one_at_a_time(folder / "pullback.lock"):
                self._operators[task] = self._cached(folder, task)
        return self._operators[task]

    def _cached(self, folder: Path, task: Task) -> Any:
        """An operator that another process made, or a new one that is left for others.

        Devito keeps compiled code between processes, not what precedes it: a second for a sponge, seven for a layer.
        The pickled operator lies beside that code; one that another user has left there is not loaded.
        """
        named = [self._name(task), self.devito.__version__, str(self.devito.configuration["platform"]), sys.version]
        key = hashlib.sha256("\n".join([*named, Path(__file__).read_text()]).encode()).hexdigest()[:16]
        file = folder / f"pullback-{key}.pickle"
        try:
            if file.stat().st_uid == os.getuid():
                return pickle.loads(file.read_bytes())
        except Exception as error:
            # Not there yet, or cut short, or of packages that are no longer these: it is only a cache.
            log.debug("%s: %s", file, error)
        sizes = Sizes((16, 16), models=1, sources=1, source_nodes=1, record_nodes=1, steps=2)
        operator = self.devito.Operator(self._equations(task, self.fields(sizes, task)), name=self._name(task))
        self._compile(operator)
        with atomic(file) as path:
            path.write_bytes(pickle.dumps(operator))
        return operator

    def _name(self, task: Task) -> str:
        s = self.scheme
        return f"{task}_{s.boundary}{s.space_order}{'_surface' if s.free_surface else ''}_{s.dtype}"

    def _equations(self, task: Task, f: dict[str, Any]) -> list[Any]:
        eq, inc = self.devito.Eq, self.devito.Inc
        m, s, r, p, z, x = self.model, self.shot, self.node, self.point, self.z, self.x
        grid = f["alpha"].grid
        t, time = grid.stepping_dim, grid.time_dim

        def source(wave: Any, new: Any) -> Any:
            at = wave[new, m, s, f["source_z"][s, p], f["source_x"][s, p]]
            return inc(at, f["amplitude"][m, s, p] * f["wavelet"][time])

        def recorded(wave: Any, new: Any, name: str) -> Any:
            return eq(f[name][time, m, s, r], wave[new, m, s, f["node_z"][r], f["node_x"][r]])

        if task in ("adjoint", "image"):
            v = f["v"]
            at = v[t - 1, m, s, f["node_z"][r], f["node_x"][r]]
            drive = f["alpha"][m, f["node_z"][r], f["node_x"][r]] * f["record"][time, m, s, r]
            if task == "adjoint":
                result = eq(f["back"][time, m, s, p], v[t - 1, m, s, f["source_z"][s, p], f["source_x"][s, p]])
            else:
                driven = self._residual(f, f["u"], time, time + 1, time + 2)
                result = inc(f["image"][m, z, x], v[t - 1, m, s, z, x] * driven)
            step = self._step(f, "v", now=t, old=t - 1, new=t - 1, transposed=True)
            return [*step, inc(at, drive), *self._surface(v, t - 1), result]
        u = f["u"]
        old, now, new = {"keep": (time, time + 1, time + 2), "born": (t - 1, t, t + 1)}.get(task, (t + 1, t, t + 1))
        out = [
            *self._step(f, "u", now, old, new),
            source(u, new),
            *self._surface(u, new),
            recorded(u, new, "record"),
        ]
        if task == "born":
            v = f["v"]
            out += [
                *self._step(f, "v", t, t + 1, t + 1),
                inc(v[t + 1, m, s, z, x], f["ratio"][m, z, x] * self._residual(f, u, old, now, new)),
                *self._surface(v, t + 1),
                recorded(v, t + 1, "echo"),
            ]
        return out

    def _damping(self, f: dict[str, Any]) -> Any:
        return f["damp"][self.model] * f["ramp"][self.z, self.x] if self.scheme.boundary == "sponge" else 0

    def _residual(self, f: dict[str, Any], u: Any, old: Any, now: Any, new: Any) -> Any:
        """r^{n+1}: what alpha multiplied in the step that ended in ``new``, times alpha."""
        m, s, z, x = self.model, self.shot, self.z, self.x
        k = self._damping(f)
        return u[new, m, s, z, x] - (2 - k) * u[now, m, s, z, x] + (1 - k) * u[old, m, s, z, x]

    def _step(self, f: dict[str, Any], name: str, now: Any, old: Any, new: Any, transposed: bool = False) -> list[Any]:
        """p^{n+1} without its source; ``old`` may be the level that is overwritten."""
        eq = self.devito.Eq
        m, s, z, x = self.model, self.shot, self.z, self.x
        p, k = f[name], self._damping(f)
        weights = STENCILS[self.scheme.space_order]
        laplacian = 2 * weights[0] * p[now, m, s, z, x]
        for j, w in enumerate(weights[1:], start=1):
            around = p[now, m, s, z - j, x] + p[now, m, s, z + j, x] + p[now, m, s, z, x - j] + p[now, m, s, z, x + j]
            laplacian += w * around
        plain = (2 - k) * p[now, m, s, z, x] - (1 - k) * p[old, m, s, z, x] + f["alpha"][m, z, x] * laplacian
        step = eq(p[new, m, s, z, x], plain)
        if self.scheme.boundary == "sponge":
            return [step]
        before, after = self._layer(f, name, now, new, transposed)
        return [*before, step, *after]

    def _layer(self, f: dict[str, Any], name: str, now: Any, new: Any, transposed: bool) -> tuple[list[Any], list[Any]]:
        """Equations of the matched layer: what precedes the step, and what is added to it."""
        eq, inc, p = self.devito.Eq, self.devito.Inc, f[name]
        before, after = [], []
        # Each stage has strips of its own: Devito fuses loops over the same one, also where a stage reads what the one
        # before writes further along the strip.
        for stage in (0, 1, 2):
            for at in self._strips(stage):
                psi, zeta, a, b = (f[key] for key in at.names(name))
                wave, psi0, zeta0 = at.of(p, now), psi[at.here(0)], zeta[at.here(0)]

                def scaled(memory: Any, a: Any = a, at: _Strip = at) -> Callable[[int], Any]:
                    return lambda j: a[at.along + j] * memory[at.here(j)]

                slope, curvature = self._slope, self._curvature
                if stage == 0 and transposed:
                    before.append(eq(zeta0, b[at.along] * zeta0 + wave(0)))
                elif stage == 0:
                    before.append(eq(psi0, b[at.along] * psi0 + a[at.along] * slope(wave)))
                elif stage == 1 and transposed:
                    before.append(eq(psi0, b[at.along] * psi0 - slope(wave) - slope(scaled(zeta))))
                elif stage == 1:
                    driven = curvature(wave) + slope(at.of(psi))
                    before.append(eq(zeta0, b[at.along] * zeta0 + a[at.along] * driven))
                else:
                    q = curvature(scaled(zeta)) - slope(scaled(psi)) if transposed else slope(at.of(psi)) + zeta0
                    after.append(inc(at.of(p, new)(0), f["alpha"][at.node] * q))
        return before, after

    def _strips(self, stage: int) -> Iterator["_Strip"]:
        """The strips of the layer; none above a free surface."""
        for axis, whole in (("z", self.z), ("x", self.x)):
            for side in ("left", "right"):
                if axis == "z" and side == "left" and self.scheme.free_surface:
                    continue
                make = getattr(self.devito.SubDimension, side)
                along = make(name=f"{axis}_{side}{stage}", parent=whole, thickness=1)
                yield _Strip(axis, along, (self.model, self.shot, self.z, self.x))

    def _slope(self, value: Callable[[int], Any]) -> Any:
        weights = SLOPES[self.scheme.space_order]
        return sum(w * (value(j) - value(-j)) for j, w in enumerate(weights, start=1))

    def _curvature(self, value: Callable[[int], Any]) -> Any:
        centre, *weights = STENCILS[self.scheme.space_order]
        return centre * value(0) + sum(w * (value(j) + value(-j)) for j, w in enumerate(weights, start=1))

    def _surface(self, p: Any, new: Any) -> list[Any]:
        """p = 0 in the row z = 0, and odd about it."""
        if not self.scheme.free_surface:
            return []
        eq, m, s, x = self.devito.Eq, self.model, self.shot, self.x
        mirror = [eq(p[new, m, s, -j, x], -p[new, m, s, j, x]) for j in range(1, self.scheme.reach + 1)]
        return [eq(p[new, m, s, 0, x], 0), *mirror]

    def _compile(self, operator: Any) -> None:
        """Compile, or find the compiled code in Devito's cache; the caller holds the lock."""
        # codepy's own lock is a bare file: a process killed while compiling leaves it, and everyone after waits
        # forever. Nobody else compiles this operator while we hold ours, so one that is there is such a leftover.
        name = getattr(operator, "_soname", None)
        if name:
            compiler = self.devito.configuration["compiler"]
            (Path(compiler.get_codepy_dir()) / name[:7] / "lock").unlink(missing_ok=True)
        operator.cfunction  # noqa: B018 (the property compiles)


@functools.cache
def propagator(scheme: Scheme) -> Propagator:
    """The propagator of this scheme in this process."""
    return Propagator(scheme)
