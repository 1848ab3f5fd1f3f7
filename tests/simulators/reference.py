"""The OpenFWI forward recipe in plain NumPy: what the Devito engine is held against.

A transcription of the published scheme (Deng et al. 2022, OpenFWI, whose data come from the KAUST finite-difference
laboratory): second order in time, fourth or eighth in space, a sponge whose strength follows the slowest velocity of
the padded model, damping by the backward time difference, and a source that adds (v dt)^2 w(t) at its node. One shot
at a time, in the precision asked for. It shares no line with ``pullback.simulators``.

OpenFWI's differences wrap around the padded grid (``circshift``), so what passes through one side of the sponge
enters through the other; Devito has zeros outside. ``wrap`` chooses.
"""

import numpy as np

STENCILS = {4: (-5 / 2, 4 / 3, -1 / 12), 8: (-205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560)}


def ricker(peak_frequency: float, dt: float, steps: int) -> np.ndarray:
    """Ricker wavelet of 2 floor(1.1 / (f dt)) + 1 samples, peak in the middle, zeros after it."""
    length = 2 * int(np.floor(2.2 / (peak_frequency * dt) / 2)) + 1
    centre = length // 2
    beta = (np.pi * peak_frequency * dt * (np.arange(length) - centre)) ** 2
    out = np.zeros(max(steps, length))
    out[:length] = (1 - 2 * beta) * np.exp(-beta)
    return out[:steps]


def sponge(velocity_min: float, depth: int, offset: int, border: int, dx: float) -> np.ndarray:
    """Damping rate kappa (1/s) on the padded grid; the side strips own the corners."""
    thickness = (border - 1) * dx
    kappa = 3 * velocity_min * np.log(1e7) / (2 * thickness)
    strip = kappa * (np.arange(border) * dx / thickness) ** 2
    out = np.zeros((depth + 2 * border, offset + 2 * border))
    out[:border] = strip[::-1, None]
    out[-border:] = strip[:, None]
    out[:, :border] = strip[::-1]
    out[:, -border:] = strip
    return out


def shot(
    velocity: np.ndarray,
    *,
    dx: float,
    dt: float,
    steps: int,
    peak_frequency: float,
    border: int,
    source: tuple[int, int],
    receivers: list[tuple[int, int]],
    space_order: int = 4,
    dtype: type = np.float64,
    wrap: bool = True,
) -> np.ndarray:
    """Pressure (time, receiver) after each of ``steps`` steps; nodes as (depth index, offset index)."""
    v = np.pad(np.asarray(velocity, dtype=np.float64), border, mode="edge")
    alpha = ((v * dt / dx) ** 2).astype(dtype)
    kappa = (sponge(v.min(), *velocity.shape, border, dx) * dt).astype(dtype)
    weights = [dtype(w) for w in STENCILS[space_order]]
    half = len(weights) - 1
    centre = 2 + 2 * weights[0] * alpha - kappa
    wavelet = ricker(peak_frequency, dt, steps)
    isz, isx = source[0] + border, source[1] + border
    amplitude = (v[isz, isx] * dt) ** 2
    rz, rx = (np.array(receivers).T + border).astype(int)
    old, now = np.zeros_like(alpha), np.zeros_like(alpha)
    out = np.empty((steps, len(rz)), dtype=dtype)
    for n in range(steps):
        halo = np.pad(now, half, mode="wrap" if wrap else "constant")
        around = np.zeros_like(now)
        for k, w in enumerate(weights[1:], start=1):
            for down, right in ((k, 0), (-k, 0), (0, k), (0, -k)):
                around += w * halo[half + down :, half + right :][: now.shape[0], : now.shape[1]]
        new = centre * now - (1 - kappa) * old + alpha * around
        new[isz, isx] += dtype(amplitude * wavelet[n])
        old, now = now, new
        out[n] = now[rz, rx]
    return out
