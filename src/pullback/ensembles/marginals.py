"""Noisy marginals: where a sampler's particles are at each noise level, for one observation with few unknowns."""

from typing import Any, NamedTuple

import h5py
import numpy as np

from pullback.ensembles import hdf5

MOST_LEVELS = 100
MOST_PARTICLES = 500
"""Of what is kept: a picture shows no more."""

GROUP = "marginals"


class Marginals(NamedTuple):
    """States z_t = z_0 + t n of the first quantity of x, z_0 = (x - mean) / std as networks see it.

    Attributes:
        event_id: of the observation.
        mean, std: of the quantity, in its unit.
        level: t (level,), falling.
        state: z_t (level, particle), float32.
        weight: of the particles (level, particle), float32, with sum 1.
    """

    event_id: int
    mean: float
    std: float
    level: np.ndarray
    state: np.ndarray
    weight: np.ndarray

    def bounded(self) -> np.ndarray:
        """mean + std z_t / sqrt(1 + t^2) (level, particle): of the width of x at all levels, and x at the last."""
        return self.mean + self.std * self.state / np.hypot(1, self.level)[:, None]

    def write(self, file: h5py.File) -> None:
        """Into a group of its own."""
        group = file.create_group(GROUP)
        group.attrs.update(event_id=self.event_id, mean=self.mean, std=self.std)
        for name, dims in _DIMS.items():
            group[name] = getattr(self, name)
            hdf5.attach(group, group[name], dims)


_LEVELS = f"{GROUP}_level"
_DIMS = {"level": (_LEVELS,), "state": (_LEVELS, "particle"), "weight": (_LEVELS, "particle")}


def read(file: h5py.File) -> Marginals | None:
    """What `Marginals.write` wrote, or None."""
    if GROUP not in file:
        return None
    group = file[GROUP]
    event_id, mean, std = (group.attrs[name] for name in ("event_id", "mean", "std"))
    return Marginals(int(event_id), float(mean), float(std), *(group[name][...] for name in _DIMS))


class Recorder:
    """Collects `Marginals` level by level.

    Args:
        event_id, mean, std: see `Marginals`.
    """

    def __init__(self, event_id: int, mean: float, std: float):
        self._of = event_id, mean, std
        self._levels: list[tuple[float, np.ndarray, np.ndarray]] = []

    def __call__(self, t: float, state: Any, weight: np.ndarray | None = None) -> None:
        """Keep the states (particle,) at one level, and their weights of any scale; None for equal ones."""
        if t <= 0:
            return
        state = np.array(state, np.float32)[:MOST_PARTICLES]
        weight = np.ones(len(state)) if weight is None else np.asarray(weight, np.float64)[:MOST_PARTICLES]
        weight = np.where(np.isfinite(state), weight, 0.0)
        self._levels.append((t, state, weight / (weight.sum() or 1.0)))

    def marginals(self) -> Marginals | None:
        """Evenly spaced ones of the levels; None where there are none."""
        if not self._levels:
            return None
        rows = np.unique(np.linspace(0, len(self._levels) - 1, MOST_LEVELS).round().astype(int))
        level, state, weight = zip(*(self._levels[row] for row in rows), strict=True)
        return Marginals(*self._of, np.array(level), np.array(state), np.array(weight, np.float32))
