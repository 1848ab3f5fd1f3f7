r"""Shot gathers of 2-D velocity models in one call, from numpy or torch, with a gradient by the adjoint.

The equation is that of `pullback.simulators.propagators`, constant density:

    p_tt + kappa p_t = v^2 (p_zz + p_xx) + v^2 dx^2 w(t) delta(source)

Example: ten gathers of a medium whose velocity rises with depth.

    >>> import numpy as np
    >>> from pullback import waves
    >>> velocity = np.linspace(1500, 3000, 40)[:, None] * np.ones((1, 60))            # (depth, offset), m/s
    >>> gathers = waves.simulate(
    ...     velocity,
    ...     spacing=10.0,
    ...     sources=waves.line(np.linspace(0, 590, 10), depth=10.0),
    ...     receivers=waves.line(np.linspace(0, 590, 30), depth=10.0),
    ...     peak_frequency=12.0,
    ...     record_length=0.8,
    ...     time_step=0.001,
    ...     output_interval=0.004,
    ... )
    >>> gathers.shape                                                       # (source, time, receiver)
    (10, 200, 30)
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from pullback.simulators.acquisition import Acquisition, VelocityError, refuse_velocities, whole_samples
from pullback.simulators.wavelets import Recorded, Ricker, Wavelet

Positions = np.ndarray | Sequence[Sequence[float]]
"""(position, 2): depth and offset in m of each."""


def line(offsets: Any, depth: float) -> np.ndarray:
    """Positions (position, 2) at one depth in m, from their offsets in m."""
    offsets = np.asarray(offsets, np.float64)
    return np.stack([np.full_like(offsets, depth), offsets], axis=1)


def simulate(
    velocity: Any,
    *,
    spacing: float,
    sources: Positions,
    receivers: Positions,
    record_length: float,
    time_step: float,
    peak_frequency: float | None = None,
    wavelet: Any = None,
    output_interval: float | None = None,
    boundary: Literal["pml", "sponge"] = "pml",
    absorbing_cells: int = 10,
    free_surface: bool = False,
    space_order: Literal[4, 8] = 4,
    velocity_min: float = 1500.0,
    velocity_max: float = 4500.0,
    dtype: Literal["float32", "float64"] = "float32",
) -> Any:
    """Simulate shot gathers of velocity models.

    A torch tensor gives a tensor that is differentiable by the velocity: the derivative is exact for the discrete
    scheme (the damping of a sponge, which depends on the slowest velocity, is held fixed), by Devito's adjoint
    operators; gathers and gradient take the time of four to five simulations. The operators are compiled in the first
    call and reused; arrays are reused for each geometry. It runs on one thread; distribute many models over processes.

    Args:
        velocity: (depth, offset) or (event, depth, offset), m/s: numpy array or torch tensor on any device. Values are
            those at the nodes of the grid; node (0, 0) is at depth 0 m and offset 0 m.
        spacing: m between nodes, the same in depth and offset.
        sources: (source, 2), depth and offset of each shot in m, inside the model; on nodes or between them.
        receivers: (receiver, 2), likewise. Every shot is recorded by all.
        record_length: s. Recording starts with the wavelet, at time 0.
        time_step: s. A stable one is below 0.61 spacing / velocity_max for space order 4 (0.55 for order 8), less with
            a sponge; an unstable one is refused with the largest that works.
        peak_frequency: of a Ricker wavelet, Hz. Its peak is 1 and comes 1.1 periods after time 0.
        wavelet: in place of ``peak_frequency``: (sample,) an array sampled every ``time_step`` from time 0 on, or a
            `Ricker` or `Recorded` of `pullback.simulators.wavelets`.
        output_interval: s between recorded samples; the time step when not given. Samples between time steps are
            interpolated by a quintic spline.
        boundary: absorbing border: ``"pml"``, a matched layer, or ``"sponge"``, that of the OpenFWI data.
        absorbing_cells: nodes of the border on each side, outside the model.
        free_surface: pressure is zero at depth 0, which reflects waves with opposite sign; without, it absorbs.
        space_order: of the stencil, 4 or 8.
        velocity_min, velocity_max: m/s, of all models of this geometry. They set the matched layer and the checks of
            stability and dispersion; models outside are refused.
        dtype: of the wave fields; float64 for tests of accuracy.

    Returns:
        (source, time, receiver), or (event, source, time, receiver), array or tensor of type ``dtype``: the pressure,
        dimensionless, at times output_interval, 2 output_interval, ... record_length. An event's gathers do not depend
        on the events beside it. Amplitudes are proportional to the square of ``spacing``.

    Raises:
        AcquisitionError: settings that cannot work, with the numbers and a remedy.
        VelocityError: models that are no velocity models, or outside ``velocity_min`` and ``velocity_max``.
        SimulationError: the wave field of an event became infinite or NaN.
        MissingExtraError: Devito is not installed.
    """
    from pullback.simulators.acoustic import shared_engine

    if (peak_frequency is None) == (wavelet is None):
        raise ValueError("give either `peak_frequency` (Hz, of a Ricker wavelet) or `wavelet`")
    if velocity.ndim not in (2, 3):
        raise VelocityError(
            f"velocity has shape {tuple(velocity.shape)}: wanted (depth, offset) or (event, depth, offset)"
        )
    output_interval = time_step if output_interval is None else output_interval
    acquisition = Acquisition(
        depth_cells=velocity.shape[-2],
        offset_cells=velocity.shape[-1],
        spacing=float(spacing),
        time_step=float(time_step),
        samples=whole_samples(record_length, output_interval),
        output_interval=float(output_interval),
        wavelet=_wavelet(peak_frequency, wavelet, time_step),
        absorbing_cells=absorbing_cells,
        boundary=boundary,
        free_surface=free_surface,
        space_order=space_order,
        sources=_positions(sources, "sources"),
        receivers=_positions(receivers, "receivers"),
        velocity_min=float(velocity_min),
        velocity_max=float(velocity_max),
    )
    engine = shared_engine(acquisition, dtype)
    models = velocity[None] if velocity.ndim == 2 else velocity
    torch = sys.modules.get("torch")
    if torch is None or not torch.is_tensor(velocity):
        gathers, _ = _gathers(engine.batch, acquisition, models)
    else:
        run = engine.linearize if torch.is_grad_enabled() and velocity.requires_grad else engine.batch
        gathers = _differentiable().apply(models, run, acquisition)
    return gathers[0] if velocity.ndim == 2 else gathers


def _gathers(run: Callable[..., Any], acquisition: Acquisition, velocity: np.ndarray) -> tuple[np.ndarray, Any]:
    """Shot gathers (event, source, time, receiver) of all models, or an error that names the first that has none.

    ``run`` is ``batch`` or ``linearize`` of an engine; of the latter the pullback is given beside the gathers.
    """
    from pullback.simulators.acoustic import SimulationError

    if not np.isfinite(velocity).all():
        event = int(np.argwhere(~np.isfinite(velocity))[0][0])
        raise VelocityError(f"velocity has values that are not finite, the first in event {event}: repair the model")
    refuse_velocities(acquisition, velocity)
    y, ok, pullback = (*run(velocity), None)[:3]
    if not ok.all():
        raise SimulationError(f"the wave field of {int((~ok).sum())} models blew up, the first is event {ok.argmin()}")
    return y, pullback


@functools.cache
def _differentiable() -> Any:
    """The simulation as a torch function; made when the first tensor comes, so that torch stays optional."""
    import torch

    class Simulation(torch.autograd.Function):
        """Velocities (event, depth, offset) -> gathers (event, source, time, receiver)."""

        @staticmethod
        def forward(ctx: Any, velocity: Any, run: Any, acquisition: Acquisition) -> Any:
            y, ctx.pullback = _gathers(run, acquisition, velocity.detach().cpu().numpy())
            ctx.to = {"dtype": velocity.dtype, "device": velocity.device}
            return torch.from_numpy(y).to(velocity.device)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, cotangent: Any) -> Any:
            return torch.from_numpy(ctx.pullback(cotangent.cpu().numpy())).to(**ctx.to), None, None

    return Simulation


def _wavelet(peak_frequency: float | None, wavelet: Any, time_step: float) -> Wavelet:
    if isinstance(wavelet, Ricker | Recorded):
        return wavelet
    if peak_frequency is not None:
        return Ricker(float(peak_frequency))
    return Recorded.of(wavelet, time_step)


def _positions(positions: Positions, name: str) -> tuple[tuple[float, float], ...]:
    found = np.asarray(positions, np.float64)
    if found.ndim != 2 or found.shape[1] != 2 or not np.isfinite(found).all():
        raise ValueError(f"{name} has shape {found.shape}: wanted (position, 2), depth and offset of each in m, finite")
    return tuple((float(depth), float(offset)) for depth, offset in found)
