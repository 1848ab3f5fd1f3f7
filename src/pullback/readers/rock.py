"""Velocity models (event, depth, offset): what is told of them, and signs that their axes are exchanged."""

import numpy as np

from pullback.ensembles.fields import Field

LAYERED = {1: 3.0, 4: 1.5}
"""Events -> columns differ from each other by this many times as much as rows, in variance: no rock lies so. By the
geologies of `pullback.simulators.geology`, 1 % of single events reach 3, and 1 % of four 1.5."""


def is_section(field: Field) -> bool:
    """Whether a field is a velocity model."""
    return field.dims == ("depth", "offset") and field.units == ("m/s",)


def told(field: Field, model: np.ndarray) -> str:
    """What one model (depth, offset) is like: ``1510 m/s at the top, 3420 at the bottom; 487.5 m x 287.5 m``."""
    top, bottom = (float(row.mean()) for row in (model[0], model[-1]))
    wide, deep = (float(np.ptp(field.coordinates[name].values)) for name in ("offset", "depth"))
    return f"{top:.0f} m/s at the top, {bottom:.0f} at the bottom; {wide:g} m x {deep:g} m"


def is_on_its_side(models: np.ndarray) -> bool:
    """Whether models (event, depth, offset) are layered from side to side, as with exchanged axes."""
    models = models[np.isfinite(models).all(axis=(1, 2))].astype(np.float64)
    across, down = models.mean(axis=1).var(axis=1).sum(), models.mean(axis=2).var(axis=1).sum()
    return bool(across > LAYERED[4 if len(models) >= 4 else 1] * down)
