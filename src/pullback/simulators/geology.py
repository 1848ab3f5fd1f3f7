"""Velocity models of synthetic geology: priors of the fwi problem.

The layered families resemble those of OpenFWI (Deng et al. 2022): a stack of constant layers, interfaces that
share one shape, faults that shift blocks. The generator of OpenFWI is not public; ranges here are relative to
the model's size and stated below, so a model of 32 and one of 70 cells look alike. All velocities are in m/s, inside
[low, high]; layers have integer velocities, as in OpenFWI.

flat
    Horizontal layers, each at least a twelfth of the depth (less when there are ten or more); velocities uniform in
    [low, high].
curved
    Layers under one shared curve of 1 to 3 sinusoids: amplitude .04 to .25 depth, wavelength .3 to 1.7 offset.
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
    A Gaussian field around a rising trend, as fits OpenFWI's Style: length .03 to .1 depth, sd .04 to .12 of the range.
    With ``rough`` (Style-B): length .015 to .05 depth, and on top a field of sd .01 to .03 of the range that is as good
    as white on the 70 nodes of OpenFWI.
channel
    Flat layers with 1 or 2 buried parabolic channels of other rock: width .25 to .6 offset, depth .1 to .25 depth.
lens
    Curved layers, none in the slowest 15 percent of the range, with gas or CO2 trapped in a crest: below a cap at .3
    to .6 depth that follows the layers, down to a level contact .06 to .2 depth below the crest, velocity is lower by
    12 to 35 percent (and not below the slowest allowed).
thrust
    Curved layers cut by a fault that dips 15 to 35 degrees, left or right; the hanging wall has moved up by .12 to
    .35 depth, so that old, fast rock rests on young, slow rock.
water
    Water (1500 m/s, or the slowest velocity allowed) down to a curved bottom at .1 to .3 depth; curved layers below, no
    slower than water plus a tenth of the range.

Geology is drawn in continuous coordinates: nodes that two grids share have the same velocity, so a finer grid samples
the same model. Everything is drawn for all n models at once from one generator, so models depend on n as well as on the
generator.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

WAVES = 64
"""Wavenumbers of a random field, in half cycles per depth: enough for lengths down to .015 depth."""

CREST_NODES = 1025
"""Where the crest of a lens is looked for: independent of the model's own nodes."""


@dataclass(frozen=True)
class Ground:
    """Input of every generator: sizes, offset over depth, layers (least, most), their order, bounds in m/s."""

    n: int
    depth: int
    offset: int
    aspect: float
    layers: tuple[int, int]
    sorted: bool
    low: float
    high: float
    rough: bool = False

    @property
    def z(self) -> np.ndarray:
        """Depth of nodes as a fraction of the model, 0 to 1, (1, depth, 1)."""
        return np.linspace(0, 1, self.depth)[None, :, None]

    @property
    def x(self) -> np.ndarray:
        """Offset of nodes as a fraction of the model, 0 to 1, (1, 1, offset)."""
        return np.linspace(0, 1, self.offset)[None, None, :]

    @property
    def range(self) -> float:
        """high - low, m/s."""
        return self.high - self.low


class GeologyError(ValueError):
    """An unknown geology, or impossible layers or bounds."""


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
    rough: bool = False,
    aspect: float | None = None,
) -> np.ndarray:
    """Draw velocity models.

    Args:
        geology: a name of the list above.
        rng: the generator; the only source of randomness.
        n: models.
        shape: nodes (depth, offset).
        layers: least and most layers (gradient and style have none).
        sorted: velocity rises from layer to layer downwards; else any order.
        low, high: bounds, m/s.
        rough: of style, the rougher of its two kinds.
        aspect: length of the offset over that of the depth; where not given, nodes are as far apart both ways.

    Returns:
        (n, depth, offset) float32, m/s.

    Raises:
        GeologyError: an unknown name, impossible layers or bounds.
    """
    if geology not in GEOLOGIES:
        raise GeologyError(f"geology {geology!r}: there are {', '.join(GEOLOGIES)}")
    if not 1 <= layers[0] <= layers[1] <= shape[0] // 2:
        raise GeologyError(
            f"layers from {layers[0]} to {layers[1]} on {shape[0]} nodes of depth: wanted 1 <= least <= most "
            f"<= {shape[0] // 2}"
        )
    if not 0 < low < high:
        raise GeologyError(f"velocities from {low:g} to {high:g} m/s: wanted 0 < low < high")
    aspect = aspect or (shape[1] - 1) / (shape[0] - 1)
    ground = Ground(n, *shape, aspect, (layers[0], layers[1]), sorted, low, high, rough)
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


def _stack(rng: np.random.Generator, g: Ground, low: float | None = None, high: float | None = None) -> Stack:
    """Layers of random thickness and velocity, velocities from ``low`` to ``high``."""
    least, most = g.layers
    count = rng.integers(least, most + 1, size=(g.n, 1))
    there = np.arange(most) < count
    share = np.where(there, rng.exponential(size=(g.n, most)), 0.0)
    share /= share.sum(axis=1, keepdims=True)
    thinnest = np.minimum(1 / 12, 0.75 / count)
    thickness = np.where(there, thinnest + (1 - count * thinnest) * share, 0.0)
    interfaces = np.where(np.arange(1, most) < count, np.cumsum(thickness, axis=1)[:, :-1], np.inf)
    velocities = rng.uniform(g.low if low is None else low, g.high if high is None else high, size=(g.n, most))
    velocities = np.round(velocities)
    if g.sorted:
        velocities = np.sort(np.where(there, velocities, np.inf), axis=1)
    return Stack(interfaces, np.where(there, velocities, g.high))


@dataclass(frozen=True)
class Curve:
    """1 to 3 sinusoids: weights in depths, wavelengths in offsets and phases, (n, 3) each."""

    weight: np.ndarray
    wavelength: np.ndarray
    phase: np.ndarray

    def at(self, x: np.ndarray) -> np.ndarray:
        """Depth (n, 1, offset) of the curve at offsets x (1, 1, offset), fractions of the model."""
        angle = 2 * np.pi * x / self.wavelength[:, :, None] + self.phase[:, :, None]
        return (self.weight[:, :, None] * np.sin(angle)).sum(axis=1, keepdims=True)


def _curve(rng: np.random.Generator, g: Ground) -> Curve:
    terms = np.arange(3) < rng.integers(1, 4, size=(g.n, 1))
    weight = np.where(terms, rng.uniform(0.3, 1.0, size=(g.n, 3)), 0.0)
    weight *= rng.uniform(0.04, 0.25, size=(g.n, 1)) / weight.sum(axis=1, keepdims=True)
    wavelength = rng.uniform(0.3, 1.7, size=(g.n, 3))
    return Curve(weight, wavelength, rng.uniform(0, 2 * np.pi, size=(g.n, 3)))


def _flat(rng: np.random.Generator, g: Ground) -> np.ndarray:
    return _stack(rng, g).at(np.broadcast_to(g.z, (g.n, g.depth, g.offset)))


def _curved(rng: np.random.Generator, g: Ground) -> np.ndarray:
    return _stack(rng, g).at(g.z - _curve(rng, g).at(g.x))


def _fault(rng: np.random.Generator, g: Ground) -> tuple[np.ndarray, np.ndarray]:
    """One fault: which nodes lie beyond it (n, depth, offset) bool, and by how much these are shifted (n, 1, 1)."""
    where = rng.uniform(0.25, 0.75, size=(g.n, 1, 1))
    lean = np.tan(np.radians(rng.uniform(0, 45, size=(g.n, 1, 1)))) * rng.choice([-1.0, 1.0], size=(g.n, 1, 1))
    throw = rng.uniform(0.08, 0.35, size=(g.n, 1, 1)) * rng.choice([-1.0, 1.0], size=(g.n, 1, 1))
    # Dips are true angles: fractions of depth and of offset are brought to the same length.
    return g.x > where + lean * (g.z - 0.5) / g.aspect, throw


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
    return _faulted(rng, g, _curve(rng, g).at(g.x))


def _salt(rng: np.random.Generator, g: Ground) -> np.ndarray:
    sediment = _stack(rng, g, high=g.low + 0.6 * g.range).at(g.z - _curve(rng, g).at(g.x))
    centre_x = rng.uniform(0.3, 0.7, size=(g.n, 1, 1))
    centre_z = rng.uniform(0.45, 0.75, size=(g.n, 1, 1))
    radius = rng.uniform(0.15, 0.3, size=(g.n, 1, 1))
    stretch = rng.uniform(0.8, 1.8, size=(g.n, 1, 1))
    dx, dz = (g.x - centre_x) * g.aspect / stretch, g.z - centre_z
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


def _random_field(rng: np.random.Generator, g: Ground, length: np.ndarray) -> np.ndarray:
    """A Gaussian field (n, depth, offset) of variance 1 with covariance exp(-r^2 / (2 length^2)), lengths in depths.

    A sum of waves that repeat after twice the model, of which half is seen, up to one wavenumber in all directions. Of
    length 0 it has all waves alike, and is as good as white on up to 70 nodes of depth.
    """
    down = np.arange(1 - WAVES, WAVES)[:, None] / 2
    along = np.arange(np.ceil(WAVES * g.aspect))[None, :] / 2 / g.aspect
    weight = np.exp(-((np.pi * length) ** 2) * (down**2 + along**2))
    # Of each pair of opposite waves one is kept; the constant is none.
    weight = weight * ((along > 0) | (down > 0))
    a, b = rng.standard_normal((2, g.n, *weight.shape[1:])) * weight
    rows = np.exp(2j * np.pi * np.outer(g.z, down))
    columns = np.exp(2j * np.pi * np.outer(along, g.x * g.aspect))
    noise = (rows @ (a - 1j * b) @ columns).real
    return noise / np.sqrt((weight**2).sum(axis=(1, 2), keepdims=True))


def _style(rng: np.random.Generator, g: Ground) -> np.ndarray:
    shortest, longest = (0.015, 0.05) if g.rough else (0.03, 0.1)
    length = rng.uniform(shortest, longest, size=(g.n, 1, 1))
    sd = rng.uniform(0.04, 0.12, size=(g.n, 1, 1)) * g.range
    top = g.low + g.range * rng.uniform(0.1, 0.4, size=(g.n, 1, 1))
    bottom = top + (g.high - top) * rng.uniform(0.3, 0.9, size=(g.n, 1, 1))
    field = top + (bottom - top) * g.z + sd * _random_field(rng, g, length)
    if g.rough:
        speckle = rng.uniform(0.01, 0.03, size=(g.n, 1, 1)) * g.range
        field = field + speckle * _random_field(rng, g, np.zeros_like(length))
    return field


def _channel(rng: np.random.Generator, g: Ground) -> np.ndarray:
    stack = _stack(rng, g)
    model = stack.at(np.broadcast_to(g.z, (g.n, g.depth, g.offset)))
    for chance in (1.0, 0.5):
        centre = rng.uniform(0.2, 0.8, size=(g.n, 1, 1))
        half = rng.uniform(0.125, 0.3, size=(g.n, 1, 1))
        top = rng.uniform(0.15, 0.6, size=(g.n, 1, 1))
        deep = rng.uniform(0.1, 0.25, size=(g.n, 1, 1))
        there = rng.random((g.n, 1, 1)) < chance
        floor = top + deep * (1 - ((g.x - centre) / half) ** 2)
        inside = there & (g.z >= top) & (g.z < floor)
        # The fill differs from the rock at the channel's top by at least .15 of the range, up or down as there is room.
        rock = stack.at(top)
        fill = g.low + (rock - g.low + g.range * rng.uniform(0.15, 0.85, size=(g.n, 1, 1))) % g.range
        model = np.where(inside, np.round(fill), model)
    return model


def _lens(rng: np.random.Generator, g: Ground) -> np.ndarray:
    curve = _curve(rng, g)
    model = _stack(rng, g, low=g.low + 0.15 * g.range).at(g.z - curve.at(g.x))
    cap = rng.uniform(0.3, 0.6, size=(g.n, 1, 1))
    crest = cap + curve.at(np.linspace(0, 1, CREST_NODES)[None, None, :]).min(axis=2, keepdims=True)
    contact = crest + rng.uniform(0.06, 0.2, size=(g.n, 1, 1))
    slower = 1 - rng.uniform(0.12, 0.35, size=(g.n, 1, 1))
    return np.where((g.z >= cap + curve.at(g.x)) & (g.z < contact), np.round(model * slower), model)


def _thrust(rng: np.random.Generator, g: Ground) -> np.ndarray:
    z = g.z - _curve(rng, g).at(g.x)
    side = rng.choice([-1.0, 1.0], size=(g.n, 1, 1))
    # Dips are true angles: fractions of depth and of offset are brought to the same length.
    rise = np.tan(np.radians(rng.uniform(15, 35, size=(g.n, 1, 1)))) * side * g.aspect
    plane = rng.uniform(0.35, 0.65, size=(g.n, 1, 1)) + rise * (g.x - 0.5)
    throw = rng.uniform(0.12, 0.35, size=(g.n, 1, 1))
    return _stack(rng, g).at(z + throw * (g.z < plane))


def _water(rng: np.random.Generator, g: Ground) -> np.ndarray:
    water = min(max(1500.0, g.low), g.high)
    curve = _curve(rng, g).at(g.x)
    # The bottom follows the layers at a third of their relief and stays in the upper third of the model.
    bottom = np.clip(rng.uniform(0.1, 0.3, size=(g.n, 1, 1)) + curve / 3, 0.05, 0.35)
    rock = _stack(rng, g, low=min(water + 0.1 * g.range, g.high)).at(g.z - curve)
    return np.where(g.z < bottom, water, rock)


GEOLOGIES: dict[str, Callable[[np.random.Generator, Ground], np.ndarray]] = {
    "flat": _flat,
    "curved": _curved,
    "flat-fault": _flat_fault,
    "curved-fault": _curved_fault,
    "salt": _salt,
    "gradient": _gradient,
    "style": _style,
    "channel": _channel,
    "lens": _lens,
    "thrust": _thrust,
    "water": _water,
}
"""Generators by name."""
