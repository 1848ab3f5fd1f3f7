"""Velocity models of made-up geology: priors of the fwi problem.

The layered families follow how those of OpenFWI (Deng et al. 2022) look: a stack of constant layers, interfaces that
share one shape, faults that shift whole blocks. The generator of OpenFWI is not public; ranges here are relative to
the model's size and stated below, so a model of 32 and one of 70 cells look alike. All velocities are in m/s, inside
[low, high]; layers have whole numbers, as in OpenFWI.

flat
    Horizontal layers, each at least an eighth of the depth (less when there are many); velocities uniform in [low,
    high].
curved
    Layers under one shared curve of 1 to 3 sinusoids: amplitude .04 to .17 depth, wavelength .4 to 1.7 offset.
flat-fault, curved-fault
    The same, cut by 1 or 2 faults: dip 45 to 90 degrees, throw .08 to .35 depth, up or down. With probability 1/2 the
    first fault has another stack behind it.
salt
    Curved layers in the slower 60 percent of the range, and one star-shaped body (radius .15 to .3 depth) in its top
    5 percent.
gradient
    No layers: velocity rises smoothly with depth to the power .6 to 1.6, and tilts sideways by up to a tenth of the
    range.
style
    A Gaussian field around a rising trend, as fits OpenFWI's Style: length .03 to .1 depth, sd .05 to .15 of the range.
channel
    Flat layers with 1 or 2 buried parabolic channels of other rock: width .25 to .6 offset, depth .1 to .25 depth.

Everything is drawn for all n models at once from one generator, so models depend on n as well as on the generator.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ground:
    """What every generator is told: sizes, layers (least, most), order of velocities, bounds in m/s."""

    n: int
    depth: int
    offset: int
    layers: tuple[int, int]
    sorted: bool
    low: float
    high: float

    @property
    def z(self) -> np.ndarray:
        """Depth of cells as a fraction of the model, (1, depth, 1)."""
        return ((np.arange(self.depth) + 0.5) / self.depth)[None, :, None]

    @property
    def x(self) -> np.ndarray:
        """Offset of cells as a fraction of the model, (1, 1, offset)."""
        return ((np.arange(self.offset) + 0.5) / self.offset)[None, None, :]

    @property
    def range(self) -> float:
        """high - low, m/s."""
        return self.high - self.low


class GeologyError(ValueError):
    """A geology that cannot be made."""


def sample(
    geology: str,
    rng: np.random.Generator,
    n: int,
    shape: tuple[int, int],
    *,
    layers: tuple[int, int] = (2, 5),
    sorted: bool = True,
    low: float = 1500.0,
    high: float = 4500.0,
) -> np.ndarray:
    """Draw velocity models.

    Args:
        geology: a name of the list above.
        rng: the generator; the only source of randomness.
        n: models.
        shape: cells (depth, offset).
        layers: least and most layers (gradient and style have none).
        sorted: velocity rises from layer to layer downwards; else any order.
        low, high: bounds, m/s.

    Returns:
        (n, depth, offset) float32, m/s.

    Raises:
        GeologyError: an unknown name, impossible layers or bounds.
    """
    if geology not in GEOLOGIES:
        raise GeologyError(f"geology {geology!r}: there are {', '.join(GEOLOGIES)}")
    if not 1 <= layers[0] <= layers[1] <= shape[0] // 2:
        raise GeologyError(
            f"layers from {layers[0]} to {layers[1]} in {shape[0]} cells of depth: wanted 1 <= least <= most "
            f"<= {shape[0] // 2}"
        )
    if not 0 < low < high:
        raise GeologyError(f"velocities from {low:g} to {high:g} m/s: wanted 0 < low < high")
    ground = Ground(n, *shape, (layers[0], layers[1]), sorted, low, high)
    return np.clip(GEOLOGIES[geology](rng, ground), low, high).astype(np.float32)


@dataclass(frozen=True)
class Stack:
    """Layers: interface depths (n, most - 1), infinite where there is none, and velocities (n, most)."""

    interfaces: np.ndarray
    velocities: np.ndarray

    def at(self, z: np.ndarray) -> np.ndarray:
        """Velocity (n, depth, offset) at stratigraphic depth z (n, depth, offset), a fraction of the model."""
        layer = np.zeros(z.shape, dtype=np.intp)
        for interface in self.interfaces.T:
            layer += z >= interface[:, None, None]
        return np.take_along_axis(self.velocities, layer.reshape(len(z), -1), axis=1).reshape(z.shape)


def _stack(rng: np.random.Generator, g: Ground, high: float | None = None) -> Stack:
    """Layers of random thickness and velocity, velocities up to ``high``."""
    least, most = g.layers
    count = rng.integers(least, most + 1, size=(g.n, 1))
    there = np.arange(most) < count
    share = np.where(there, rng.exponential(size=(g.n, most)), 0.0)
    share /= share.sum(axis=1, keepdims=True)
    thinnest = np.minimum(1 / 8, 0.75 / count)
    thickness = np.where(there, thinnest + (1 - count * thinnest) * share, 0.0)
    interfaces = np.where(np.arange(1, most) < count, np.cumsum(thickness, axis=1)[:, :-1], np.inf)
    velocities = np.round(rng.uniform(g.low, g.high if high is None else high, size=(g.n, most)))
    if g.sorted:
        velocities = np.sort(np.where(there, velocities, np.inf), axis=1)
    return Stack(interfaces, np.where(there, velocities, g.high))


def _curve(rng: np.random.Generator, g: Ground) -> np.ndarray:
    """Depth of one curve (n, 1, offset), fractions of the model: 1 to 3 sinusoids that share an amplitude."""
    terms = np.arange(3) < rng.integers(1, 4, size=(g.n, 1))
    weight = np.where(terms, rng.uniform(0.3, 1.0, size=(g.n, 3)), 0.0)
    weight *= rng.uniform(0.04, 0.17, size=(g.n, 1)) / weight.sum(axis=1, keepdims=True)
    wavelength = rng.uniform(0.4, 1.7, size=(g.n, 3))
    phase = rng.uniform(0, 2 * np.pi, size=(g.n, 3))
    angle = 2 * np.pi * g.x[0] / wavelength[:, :, None] + phase[:, :, None]
    return (weight[:, :, None] * np.sin(angle)).sum(axis=1)[:, None, :]


def _flat(rng: np.random.Generator, g: Ground) -> np.ndarray:
    return _stack(rng, g).at(np.broadcast_to(g.z, (g.n, g.depth, g.offset)))


def _curved(rng: np.random.Generator, g: Ground) -> np.ndarray:
    return _stack(rng, g).at(g.z - _curve(rng, g))


def _fault(rng: np.random.Generator, g: Ground) -> tuple[np.ndarray, np.ndarray]:
    """One fault: which cells lie beyond it (n, depth, offset) bool, and by how much these are shifted (n, 1, 1)."""
    where = rng.uniform(0.25, 0.75, size=(g.n, 1, 1))
    lean = np.tan(np.radians(rng.uniform(0, 45, size=(g.n, 1, 1)))) * rng.choice([-1.0, 1.0], size=(g.n, 1, 1))
    throw = rng.uniform(0.08, 0.35, size=(g.n, 1, 1)) * rng.choice([-1.0, 1.0], size=(g.n, 1, 1))
    # Dips are true angles: fractions of depth and of offset are brought to the same length.
    return g.x > where + lean * (g.z - 0.5) * g.depth / g.offset, throw


def _faulted(rng: np.random.Generator, g: Ground, curve: np.ndarray | float) -> np.ndarray:
    z = np.broadcast_to(g.z - curve, (g.n, g.depth, g.offset))
    near, far = _stack(rng, g), _stack(rng, g)
    other = rng.random((g.n, 1, 1)) < 0.5
    beyond, throw = _fault(rng, g)
    second, second_throw = _fault(rng, g)
    second &= rng.random((g.n, 1, 1)) < 0.5
    z = z - throw * beyond - second_throw * second
    return np.where(beyond & other, far.at(z), near.at(z))


def _flat_fault(rng: np.random.Generator, g: Ground) -> np.ndarray:
    return _faulted(rng, g, 0.0)


def _curved_fault(rng: np.random.Generator, g: Ground) -> np.ndarray:
    return _faulted(rng, g, _curve(rng, g))


def _salt(rng: np.random.Generator, g: Ground) -> np.ndarray:
    sediment = _stack(rng, g, high=g.low + 0.6 * g.range).at(g.z - _curve(rng, g))
    centre_x = rng.uniform(0.3, 0.7, size=(g.n, 1, 1))
    centre_z = rng.uniform(0.45, 0.75, size=(g.n, 1, 1))
    radius = rng.uniform(0.15, 0.3, size=(g.n, 1, 1))
    stretch = rng.uniform(0.8, 1.8, size=(g.n, 1, 1))
    dx, dz = (g.x - centre_x) * g.offset / g.depth / stretch, g.z - centre_z
    angle = np.arctan2(dz, dx)
    for k in (2, 3, 4):
        bump = rng.uniform(0, 0.3 / k, size=(g.n, 1, 1))
        phase = rng.uniform(0, 2 * np.pi, size=(g.n, 1, 1))
        radius = radius * (1 + bump * np.cos(k * angle + phase))
    velocity = np.round(rng.uniform(g.high - 0.05 * g.range, g.high, size=(g.n, 1, 1)))
    return np.where(np.hypot(dx, dz) < radius, velocity, sediment)


def _gradient(rng: np.random.Generator, g: Ground) -> np.ndarray:
    top = g.low + g.range * rng.uniform(0.1, 0.4, size=(g.n, 1, 1))
    bottom = top + (g.high - 0.1 * g.range - top) * rng.uniform(0.3, 1.0, size=(g.n, 1, 1))
    exponent = rng.uniform(0.6, 1.6, size=(g.n, 1, 1))
    tilt = 0.1 * g.range * rng.uniform(-1, 1, size=(g.n, 1, 1))
    return top + (bottom - top) * g.z**exponent + 2 * tilt * (g.x - 0.5)


def _style(rng: np.random.Generator, g: Ground) -> np.ndarray:
    length = rng.uniform(0.03, 0.1, size=(g.n, 1, 1)) * g.depth
    sd = rng.uniform(0.05, 0.15, size=(g.n, 1, 1)) * g.range
    top = g.low + g.range * rng.uniform(0.1, 0.4, size=(g.n, 1, 1))
    bottom = top + (g.high - top) * rng.uniform(0.3, 0.9, size=(g.n, 1, 1))
    # White noise filtered on a torus of twice the size: the half that is kept does not see the wrap.
    size = (2 * g.depth, 2 * g.offset)
    k2 = np.fft.fftfreq(size[0])[:, None] ** 2 + np.fft.rfftfreq(size[1])[None, :] ** 2
    kernel = np.exp(-((np.pi * length) ** 2) * k2)  # half the exponent of the SE spectrum: its square root
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((g.n, *size))) * kernel, s=size)
    noise /= noise.std(axis=(1, 2), keepdims=True)
    return top + (bottom - top) * g.z + sd * noise[:, : g.depth, : g.offset]


def _channel(rng: np.random.Generator, g: Ground) -> np.ndarray:
    model = _flat(rng, g)
    for chance in (1.0, 0.5):
        centre = rng.uniform(0.2, 0.8, size=(g.n, 1, 1))
        half = rng.uniform(0.125, 0.3, size=(g.n, 1, 1))
        top = rng.uniform(0.15, 0.6, size=(g.n, 1, 1))
        deep = rng.uniform(0.1, 0.25, size=(g.n, 1, 1))
        there = rng.random((g.n, 1, 1)) < chance
        floor = top + deep * (1 - ((g.x - centre) / half) ** 2)
        inside = there & (g.z >= top) & (g.z < floor)
        # The fill differs from the rock at the channel's top by at least .15 of the range, up or down as there is room.
        row = np.minimum((top[:, 0, 0] * g.depth).astype(int), g.depth - 1)
        rock = model[np.arange(g.n), row, 0][:, None, None]
        fill = g.low + (rock - g.low + g.range * rng.uniform(0.15, 0.85, size=(g.n, 1, 1))) % g.range
        model = np.where(inside, np.round(fill), model)
    return model


GEOLOGIES: dict[str, Callable[[np.random.Generator, Ground], np.ndarray]] = {
    "flat": _flat,
    "curved": _curved,
    "flat-fault": _flat_fault,
    "curved-fault": _curved_fault,
    "salt": _salt,
    "gradient": _gradient,
    "style": _style,
    "channel": _channel,
}
"""Generators by name."""
