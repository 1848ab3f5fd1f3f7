"""Who shoots where, for how long and how finely: the settings of an acoustic simulation and the checks they must pass.

The scheme is the one of the OpenFWI data (Deng et al. 2022): constant density, second order in time, fourth (or
eighth) in space, absorbing sponge on all four sides, no free surface. Its numbers below are exact for this scheme,
not rules of thumb: the CFL limit comes from the Fourier symbol of the stencil, and includes what the sponge takes
from it.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.simulators.wavelets import BANDWIDTH, ricker_length

STENCILS: dict[int, tuple[float, ...]] = {
    4: (-5 / 2, 4 / 3, -1 / 12),
    8: (-205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560),
}
"""Weights of the centred second derivative times dx^2, by space order: centre, first neighbour, ..."""

LOG_ABSORPTION = math.log(1e7)
"""OpenFWI's sponge: kappa = 3 v_min ln(1e7) / (2 a), a the thickness, v_min the slowest velocity of the model."""

LEAST_POINTS_PER_WAVELENGTH = {4: 4.0, 8: 3.0}
"""Wanted at the highest frequency and the slowest velocity, by space order: there waves are 3 percent too slow (order
4, where the OpenFWI data are too) or 2 percent (order 8); at the peak frequency, 0.1 percent at most."""


class AcquisitionError(ValueError):
    """Settings of a wave simulation that cannot work, or a velocity model that it cannot take."""


def cfl_limit(space_order: int, dimensions: int = 2) -> float:
    """Largest stable v dt / dx of the interior scheme: 2 / sqrt(dim sum |w|), .612 (order 4) and .555 (order 8) in 2-D.

    The wave with the highest wavenumber has the symbol -dim sum |w| / dx^2 because the weights alternate in sign.
    """
    first, *others = STENCILS[space_order]
    return 2 / math.sqrt(dimensions * (abs(first) + 2 * sum(abs(w) for w in others)))


def sponge_strength(velocity_min: float | np.ndarray, thickness: float) -> float | np.ndarray:
    """kappa (1/s) at the outer edge of the sponge; ``thickness`` = (border cells - 1) spacing, in m."""
    return 1.5 * velocity_min * LOG_ABSORPTION / thickness


def phase_velocity_error(space_order: int, courant: float, points_per_wavelength: float, time_samples: float) -> float:
    """Relative error of the numerical phase velocity, the worse of a wave along an axis and along the diagonal.

    Solves sin^2(w dt / 2) = C^2 / 4 sum_d s(k_d dx) for k by bisection, s(q) = -(w_0 + 2 sum_j w_j cos(j q)).

    Args:
        space_order: 4 or 8.
        courant: C = v dt / dx.
        points_per_wavelength: true wavelength / dx.
        time_samples: period / dt.

    Returns:
        (numerical - true) / true; NaN if the grid cannot carry the wave.
    """
    weights = STENCILS[space_order]
    target = 4 * math.sin(math.pi / time_samples) ** 2 / courant**2

    def symbol(q: float) -> float:
        return -(weights[0] + 2 * sum(w * math.cos(j * q) for j, w in enumerate(weights) if j))

    errors = []
    for directions in (1, 2):
        # One wavenumber component along the axis; two equal ones, each k / sqrt(2), along the diagonal.
        low, high = 0.0, math.pi
        if directions * symbol(high) < target:
            return math.nan
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if directions * symbol(middle) < target else (low, middle)
        errors.append(2 * math.pi / points_per_wavelength / (low * math.sqrt(directions)) - 1)
    return max(errors, key=abs)


def _whole(value: float, unit: float, what: str, remedy: str) -> int:
    """value / unit as a whole number."""
    ratio = value / unit
    if abs(ratio - round(ratio)) > 1e-6 * max(1.0, ratio):
        raise AcquisitionError(f"{what} {value:g} is not a multiple of {unit:g}: {remedy}")
    return round(ratio)


@dataclass(frozen=True)
class Acquisition:
    """Settings of one simulation. Nodes are (depth index, offset index) of the velocity model; both start at 0.

    Attributes:
        depth_cells, offset_cells: size of the velocity model.
        spacing: m, the same in both directions.
        time_step: s.
        steps: time steps.
        output_every: time steps between recorded samples; sample k is the field at time (k + 1) output_every time_step.
        peak_frequency: Hz, of the Ricker wavelet.
        border_cells: absorbing cells on each side; velocities are continued into them from the edge.
        space_order: 4 or 8.
        sources, receivers: nodes.
        velocity_min, velocity_max: m/s, of the models to come.
    """

    depth_cells: int
    offset_cells: int
    spacing: float
    time_step: float
    steps: int
    output_every: int
    peak_frequency: float
    border_cells: int
    space_order: int
    sources: tuple[tuple[int, int], ...]
    receivers: tuple[tuple[int, int], ...]
    velocity_min: float
    velocity_max: float

    @staticmethod
    def surface(
        *,
        depth_cells: int,
        offset_cells: int,
        spacing: float,
        time_step: float,
        record_length: float,
        output_interval: float,
        peak_frequency: float,
        border_cells: int,
        space_order: int,
        sources: int,
        receivers: int,
        depth: float,
        velocity_min: float,
        velocity_max: float,
    ) -> "Acquisition":
        """Sources and receivers spread evenly over the whole offset, on nodes, all at one depth (m); times in s.

        Raises:
            AcquisitionError: a depth, output interval or record length that falls between nodes or steps.
        """
        row = _whole(depth, spacing, "the depth of sources and receivers (m)", "put them on a row of cells")
        every = _whole(
            output_interval, time_step, "the output interval (s)", "record at whole time steps (no interpolation)"
        )
        samples = _whole(record_length, output_interval, "the record length (s)", "take a whole number of samples")

        def spread(count: int) -> tuple[tuple[int, int], ...]:
            columns = np.rint(np.linspace(0, offset_cells - 1, count) if count > 1 else [(offset_cells - 1) / 2])
            return tuple((row, int(column)) for column in columns)

        return Acquisition(
            depth_cells=depth_cells,
            offset_cells=offset_cells,
            spacing=spacing,
            time_step=time_step,
            steps=samples * every,
            output_every=every,
            peak_frequency=peak_frequency,
            border_cells=border_cells,
            space_order=space_order,
            sources=spread(sources),
            receivers=spread(receivers),
            velocity_min=velocity_min,
            velocity_max=velocity_max,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (depth, offset) of a velocity model."""
        return self.depth_cells, self.offset_cells

    @property
    def data_shape(self) -> tuple[int, int, int]:
        """Shape (source, time, receiver) of the shot gathers of one model."""
        return len(self.sources), self.steps // self.output_every, len(self.receivers)

    @property
    def times(self) -> np.ndarray:
        """Times of the recorded samples, s."""
        return np.arange(1, self.data_shape[1] + 1) * self.output_every * self.time_step

    def courant_limit(self, velocity_min: Any, velocity_max: Any) -> Any:
        """Largest stable v_max dt / dx for models with these extreme velocities (arrays broadcast), sponge included.

        In the sponge one step multiplies a wave by the roots of z^2 - (2 - k - l) z + (1 - k), with k = kappa dt and
        l the symbol times alpha. They stay inside the unit circle for l < 4 - 2 k, so the limit shrinks by
        sqrt(1 - k / 2).
        """
        thickness = (self.border_cells - 1) * self.spacing
        k = sponge_strength(np.minimum(velocity_min, velocity_max), thickness) * self.time_step
        return cfl_limit(self.space_order) * np.sqrt(np.maximum(0.0, 1 - k / 2))


def check(a: Acquisition) -> dict[str, Any]:
    """Look at settings before anything is simulated.

    Returns:
        Plain numbers for the report, by name with units, and ``warnings``, a list of sentences.

    Raises:
        AcquisitionError: what cannot work, with the numbers and a remedy.
    """
    if a.space_order not in STENCILS:
        raise AcquisitionError(f"space order {a.space_order}: there are {sorted(STENCILS)}")
    if not 0 < a.velocity_min < a.velocity_max:
        raise AcquisitionError(
            f"velocities from {a.velocity_min:g} to {a.velocity_max:g} m/s: wanted 0 < velocity_min < velocity_max"
        )
    if a.velocity_max < 100:
        raise AcquisitionError(
            f"velocity_max is {a.velocity_max:g} m/s, which looks like km/s: give velocities in m/s (times 1000)"
        )
    _check_nodes(a)
    warnings: list[str] = []

    # The sponge is strongest in a uniform fast model: there velocity_min of the *model* is velocity_max.
    courant = a.velocity_max * a.time_step / a.spacing
    limit = float(a.courant_limit(a.velocity_max, a.velocity_max))
    if courant > limit:
        stable = _largest_time_step(a)
        raise AcquisitionError(
            f"unstable: Courant number v_max dt / dx = {a.velocity_max:g} * {a.time_step:g} / {a.spacing:g} = "
            f"{courant:.3f} is above {limit:.3f} ({cfl_limit(a.space_order):.3f} for order {a.space_order} in "
            f"2-D, less what a sponge of {a.border_cells} cells takes): use a time step of at most {_down(stable):g} s"
        )

    frequency_max = BANDWIDTH * a.peak_frequency
    points = a.velocity_min / frequency_max / a.spacing
    least = LEAST_POINTS_PER_WAVELENGTH[a.space_order]
    if points < 2.5:
        raise AcquisitionError(
            f"{points:.2f} points per wavelength at {frequency_max:g} Hz ({BANDWIDTH} times the peak) and "
            f"{a.velocity_min:g} m/s: the grid cannot carry these waves (wanted {least:g}); use cells of at most "
            f"{a.velocity_min / frequency_max / least:.3g} m, or a peak frequency of at most "
            f"{a.velocity_min / (BANDWIDTH * least * a.spacing):.3g} Hz"
        )
    if points < least * (1 - 1e-9):
        warnings.append(
            f"{points:.2f} points per wavelength at {frequency_max:g} Hz and {a.velocity_min:g} m/s, wanted "
            f"{least:g}: data are dispersive"
        )
    slow = a.velocity_min * a.time_step / a.spacing
    errors = {
        name: 100 * phase_velocity_error(a.space_order, slow, a.velocity_min / f / a.spacing, 1 / (f * a.time_step))
        for name, f in (("peak", a.peak_frequency), ("max", frequency_max))
    }

    output_interval = a.output_every * a.time_step
    if output_interval > 0.5 / frequency_max:
        raise AcquisitionError(
            f"recorded every {output_interval:g} s, which aliases {frequency_max:g} Hz: record at least every "
            f"{0.5 / frequency_max:.3g} s"
        )

    delay = ricker_length(a.peak_frequency, a.time_step) // 2 * a.time_step
    record = a.steps * a.time_step
    way = 2 * (a.depth_cells - 1) * a.spacing
    shortest, longest = delay + way / a.velocity_max, delay + way / a.velocity_min
    for way_time, velocity in ((shortest, a.velocity_max), (longest, a.velocity_min)):
        if record < way_time:
            warnings.append(
                f"the record of {record:g} s ends before the bottom answers in a model of {velocity:g} m/s "
                f"({way_time:.3g} s, wavelet delay {delay:.3g} s included)"
            )
            break

    border = a.border_cells * a.spacing
    thin, thick = (border * a.peak_frequency / v for v in (a.velocity_max, a.velocity_min))
    if thin < 0.5:
        warnings.append(
            f"the absorbing border is {thin:.2f} wavelengths thick at {a.velocity_max:g} m/s: low frequencies "
            f"come back from it; use at least {math.ceil(0.5 * a.velocity_max / a.peak_frequency / a.spacing)} cells"
        )
    return {
        "courant_number": courant,
        "courant_limit": limit,
        "courant_limit_without_border": cfl_limit(a.space_order),
        "frequency_max_hz": frequency_max,
        "points_per_wavelength_at_frequency_max": points,
        "points_per_wavelength_at_peak": points * BANDWIDTH,
        "phase_velocity_error_at_peak_percent": errors["peak"],
        "phase_velocity_error_at_frequency_max_percent": errors["max"],
        "output_samples_per_period_at_frequency_max": 1 / (frequency_max * output_interval),
        "wavelet_delay_s": delay,
        "record_length_s": record,
        "two_way_time_fastest_s": shortest,
        "two_way_time_slowest_s": longest,
        "border_wavelengths_slowest": thick,
        "border_wavelengths_fastest": thin,
        "depth_m": (a.depth_cells - 1) * a.spacing,
        "offset_m": (a.offset_cells - 1) * a.spacing,
        "sources": len(a.sources),
        "receivers": len(a.receivers),
        "samples": a.data_shape[1],
        "warnings": warnings,
    }


def _check_nodes(a: Acquisition) -> None:
    """Sources and receivers lie inside the velocity model; there are some; the border is one."""
    for what, nodes in (("source", a.sources), ("receiver", a.receivers)):
        if not nodes:
            raise AcquisitionError(f"no {what}: give at least one")
        for depth, offset in nodes:
            if not (0 <= depth < a.depth_cells and 0 <= offset < a.offset_cells):
                raise AcquisitionError(
                    f"{what} at depth {depth * a.spacing:g} m, offset {offset * a.spacing:g} m is outside the "
                    f"model, which reaches {(a.depth_cells - 1) * a.spacing:g} m deep and "
                    f"{(a.offset_cells - 1) * a.spacing:g} m wide: move it inside"
                )
    if a.border_cells < 2:
        raise AcquisitionError(f"{a.border_cells} border cells: the sponge needs at least 2")
    if min(a.steps, a.output_every) < 1 or a.steps % a.output_every:
        raise AcquisitionError(
            f"{a.steps} time steps recorded every {a.output_every}: wanted a whole number of samples"
        )


def _down(value: float) -> float:
    """Three significant digits, rounded down: a remedy must not round up into what it cures."""
    digit = 10 ** (math.floor(math.log10(value)) - 2)
    return math.floor(value / digit) * digit


def _largest_time_step(a: Acquisition) -> float:
    """Largest stable time step for ``velocity_max``: C = c0 sqrt(1 - b dt) with C = v dt / dx is a quadratic in dt."""
    p = (a.velocity_max / a.spacing / cfl_limit(a.space_order)) ** 2
    b = float(sponge_strength(a.velocity_max, (a.border_cells - 1) * a.spacing)) / 2
    return (-b + math.sqrt(b * b + 4 * p)) / (2 * p)
