"""Acquisition geometry, record and discretisation: the settings of an acoustic simulation.

Distances are in metres, times in seconds. The velocity model is a grid of nodes (depth, offset); both start at 0 m, and
sources and receivers may lie between nodes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pullback.simulators.propagators import STENCILS, Boundary, Scheme
from pullback.simulators.wavelets import Wavelet

LOG_ABSORPTION = math.log(1e7)
"""OpenFWI's sponge: kappa = 3 v_min ln(1e7) / (2 a), a the thickness, v_min the slowest velocity of the model."""

ON_NODE = 1e-6
"""A position this near to a node, in cells, is on it."""

SINC_RADIUS, SINC_SHAPE = 4, 6.31
"""Radius in cells and Kaiser shape of the windowed sinc that carries positions between nodes (Hicks 2002, table 1):
good up to half the Nyquist wavenumber, four points per wavelength."""


class AcquisitionError(ValueError):
    """Invalid settings of a wave simulation, or an invalid velocity model."""


class VelocityError(ValueError):
    """A velocity model with the wrong shape or velocities outside the settings."""


def cfl_limit(space_order: int, dimensions: int = 2) -> float:
    """Largest stable v dt / dx of the interior scheme: 2 / sqrt(dim sum |w|), .612 (order 4) and .555 (order 8) in 2-D.

    The wave with the highest wavenumber has the symbol -dim sum |w| / dx^2 because the weights alternate in sign.
    """
    first, *others = STENCILS[space_order]
    return 2 / math.sqrt(dimensions * (abs(first) + 2 * sum(abs(w) for w in others)))


def sponge_strength(velocity_min: float | np.ndarray, thickness: float) -> float | np.ndarray:
    """kappa (1/s) at the outer edge of the sponge; ``thickness`` = (border cells - 1) spacing, in m."""
    return 1.5 * velocity_min * LOG_ABSORPTION / thickness


@dataclass(frozen=True)
class Nodes:
    """A linear map between a wave field on its grid and positions in it.

    Attributes:
        rows, columns: (node,) the distinct nodes that positions touch.
        weights: (position, node); the value at a position is the weighted sum over its nodes.
    """

    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    @cached_property
    def _single(self) -> np.ndarray | None:
        """The node of each position, where each is on one and no two share theirs."""
        node = self.weights.argmax(axis=1)
        on_nodes = ((self.weights != 0).sum(axis=1) == 1).all() and (self.weights.max(axis=1) == 1).all()
        return node if on_nodes and len(set(node.tolist())) == len(node) else None

    def read(self, values: np.ndarray) -> np.ndarray:
        """Values at the positions (..., position) from those at the nodes (..., node)."""
        if self._single is not None:
            return values[..., self._single]
        return values @ self.weights.T.astype(values.dtype)

    def drive(self, values: np.ndarray) -> np.ndarray:
        """The transpose of `read`: (..., position) -> (..., node)."""
        return values @ self.weights.astype(values.dtype)


@dataclass(frozen=True)
class Acquisition:
    """Settings of one simulation.

    Attributes:
        depth_cells, offset_cells: nodes of the velocity model.
        spacing: m between nodes, the same in both directions.
        time_step: s.
        samples, output_interval: recorded samples, and s between them; sample k is the field at time (k + 1)
            output_interval. If the interval is not a multiple of the time step, records are interpolated by a quintic
            spline.
        wavelet: of every source.
        absorbing_cells: absorbing nodes on each side; velocities are continued into them from the edge.
        boundary: sponge (that of the OpenFWI data) or pml.
        free_surface: the row of depth 0 is a free surface, with no absorbing border above it.
        space_order: 4 or 8.
        sources, receivers: (depth, offset) in m, on nodes or between them.
        velocity_min, velocity_max: m/s, of the models to come.
    """

    depth_cells: int
    offset_cells: int
    spacing: float
    time_step: float
    samples: int
    output_interval: float
    wavelet: Wavelet
    absorbing_cells: int
    boundary: Boundary
    free_surface: bool
    space_order: int
    sources: tuple[tuple[float, float], ...]
    receivers: tuple[tuple[float, float], ...]
    velocity_min: float
    velocity_max: float

    @property
    def scheme(self) -> Scheme:
        """The scheme for which its operator is compiled, in float32."""
        return Scheme(self.space_order, self.boundary, self.free_surface)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (depth, offset) of a velocity model."""
        return self.depth_cells, self.offset_cells

    @property
    def top(self) -> int:
        """Absorbing nodes above the model."""
        return 0 if self.free_surface else self.absorbing_cells

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Absorbing nodes (before, after) the model in depth and in offset."""
        return (self.top, self.absorbing_cells), (self.absorbing_cells, self.absorbing_cells)

    @property
    def padded(self) -> tuple[int, int]:
        """Shape of the simulated grid, border included."""
        return self.depth_cells + self.top + self.absorbing_cells, self.offset_cells + 2 * self.absorbing_cells

    @property
    def data_shape(self) -> tuple[int, int, int]:
        """Shape (source, time, receiver) of the shot gathers of one model."""
        return len(self.sources), self.samples, len(self.receivers)

    @property
    def times(self) -> np.ndarray:
        """Times of the recorded samples, s."""
        return np.arange(1, self.samples + 1) * self.output_interval

    @property
    def output_every(self) -> int | None:
        """Time steps between recorded samples; None when that is not an integer."""
        ratio = self.output_interval / self.time_step
        return round(ratio) if abs(ratio - round(ratio)) < 1e-9 * ratio and ratio >= 0.5 else None

    @property
    def steps(self) -> int:
        """Time steps: to the last sample, and a few more where a spline needs them."""
        if self.output_every:
            return self.samples * self.output_every
        return math.ceil(self.samples * self.output_interval / self.time_step) + 3

    @cached_property
    def _spline(self) -> np.ndarray:
        """(sample, step): recorded samples from the field after each step, which was zero at time 0."""
        from scipy.interpolate import make_interp_spline

        after = np.arange(self.steps + 1) * self.time_step
        return make_interp_spline(after, np.eye(self.steps + 1), k=5)(self.times)[:, 1:]

    def sampled(self, record: np.ndarray) -> np.ndarray:
        """Recorded samples (sample, ...) from the field after every time step (step, ...)."""
        if self.output_every:
            return record[self.output_every - 1 :: self.output_every]
        return np.tensordot(self._spline.astype(record.dtype), record, axes=1)

    def unsampled(self, samples: np.ndarray) -> np.ndarray:
        """The transpose of `sampled`: (sample, ...) -> (step, ...)."""
        if not self.output_every:
            return np.tensordot(self._spline.T.astype(samples.dtype), samples, axes=1)
        record = np.zeros((self.steps, *samples.shape[1:]), samples.dtype)
        record[self.output_every - 1 :: self.output_every] = samples
        return record

    def nodes(self, positions: Sequence[tuple[float, float]]) -> Nodes:
        """The nodes that positions (depth, offset) in m touch, as indices of the padded grid, and their weights.

        Between nodes a Kaiser-windowed sinc carries a position (Hicks 2002). Values above a free surface are mirrored
        with the opposite sign (odd symmetry).
        """
        weights: list[dict[tuple[int, int], float]] = []
        for depth, offset in positions:
            touched: dict[tuple[int, int], float] = {}
            for row, by_row in _spread(depth / self.spacing):
                sign = -1.0 if self.free_surface and row < 0 else 1.0
                for column, by_column in _spread(offset / self.spacing):
                    node = (abs(row) if self.free_surface else row) + self.top, column + self.absorbing_cells
                    node = tuple(int(np.clip(i, 0, n - 1)) for i, n in zip(node, self.padded, strict=True))  # type: ignore[assignment]
                    touched[node] = touched.get(node, 0.0) + sign * by_row * by_column
            weights.append(touched)
        distinct = sorted({node for touched in weights for node in touched})
        index = {node: i for i, node in enumerate(distinct)}
        matrix = np.zeros((len(positions), len(distinct)))
        for i, touched in enumerate(weights):
            for node, weight in touched.items():
                matrix[i, index[node]] = weight
        rows, columns = np.array(distinct, dtype=np.int32).reshape(-1, 2).T
        return Nodes(rows, columns, matrix)

    def courant_limit(self, velocity_min: Any, velocity_max: Any) -> Any:
        """Largest stable v_max dt / dx for models with these extreme velocities (arrays broadcast), border included.

        In the sponge one step multiplies a wave by the roots of z^2 - (2 - k - l) z + (1 - k), with k = kappa dt and
        l the symbol times alpha. They stay inside the unit circle for l < 4 - 2 k, so the limit shrinks by
        sqrt(1 - k / 2). The matched layer keeps the limit of the interior.
        """
        limit = cfl_limit(self.space_order)
        if self.boundary == "pml":
            return limit * np.ones(np.broadcast_shapes(np.shape(velocity_min), np.shape(velocity_max)))
        thickness = (self.absorbing_cells - 1) * self.spacing
        k = sponge_strength(np.minimum(velocity_min, velocity_max), thickness) * self.time_step
        return limit * np.sqrt(np.maximum(0.0, 1 - k / 2))


def whole_samples(record_length: float, output_interval: float) -> int:
    """Samples of a record, both in s.

    Raises:
        AcquisitionError: the number is not an integer.
    """
    samples = record_length / output_interval
    if abs(samples - round(samples)) > 1e-6 * samples:
        raise AcquisitionError(
            f"a record of {record_length:g} s sampled every {output_interval:g} s has {samples:.6g} samples: "
            f"take a whole number, a record of {max(1, round(samples)) * output_interval:g} s for one"
        )
    return round(samples)


def refuse_velocities(a: Acquisition, velocities: np.ndarray) -> None:
    """Raise VelocityError for models (event, depth, offset) whose finite values leave what ``a`` is set for."""
    finite = velocities[np.isfinite(velocities)]
    if not finite.size:
        return
    low, high = float(finite.min()), float(finite.max())
    # float32 cannot hold every bound exactly; one part in a million is no error of the data.
    if low >= a.velocity_min * (1 - 1e-6) and high <= a.velocity_max * (1 + 1e-6):
        return
    if low <= 0:
        remedy = "a velocity is positive: repair the model"
    elif high < 20:
        remedy = "these look like km/s: multiply by 1000"
    else:
        remedy = "clip the models, or widen velocity_min and velocity_max of the simulator"
    raise VelocityError(
        f"velocities from {low:g} to {high:g} m/s: wanted {a.velocity_min:g} to {a.velocity_max:g} m/s; {remedy}"
    )


def evenly(count: int, cells: int, spacing: float) -> list[float]:
    """Offsets in m spread evenly over the nodes 0 to ``cells`` - 1, each on the nearest; the middle for one."""
    return (np.rint(np.linspace(0, cells - 1, count) if count > 1 else [(cells - 1) / 2]) * spacing).tolist()


def _spread(position: float) -> list[tuple[int, float]]:
    """Nodes and weights of a position along one axis, in cells; one node for a position on it."""
    nearest = round(position)
    if abs(position - nearest) < ON_NODE:
        return [(nearest, 1.0)]
    first = math.floor(position) - SINC_RADIUS + 1
    nodes = np.arange(first, first + 2 * SINC_RADIUS)
    away = position - nodes
    window = np.i0(SINC_SHAPE * np.sqrt(np.maximum(0.0, 1 - (away / SINC_RADIUS) ** 2))) / np.i0(SINC_SHAPE)
    return list(zip(nodes.tolist(), (np.sinc(away) * window).tolist(), strict=True))
