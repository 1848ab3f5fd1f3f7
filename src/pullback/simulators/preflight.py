"""Pre-flight checks of a wave simulation: stability, numerical dispersion, absorbing boundary, record.

Numbers are exact for the scheme, not rules of thumb: the CFL limit comes from the Fourier symbol of the stencil and
includes its reduction by the absorbing boundary; dispersion is that of the discrete wave equation.
"""

import math
from typing import Any

from pullback.simulators.acquisition import Acquisition, AcquisitionError, cfl_limit, sponge_strength
from pullback.simulators.propagators import STENCILS

LEAST_POINTS_PER_WAVELENGTH = {4: 4.0, 8: 3.0}
"""Wanted at the highest frequency and the slowest velocity, by space order: there waves are 3 percent too slow (order
4, where the OpenFWI data are too) or 2 percent (order 8); at the peak frequency, 0.1 percent at most."""

LEAST_BORDER = {"sponge": 0.5, "pml": 0.25}
"""Wanted thickness of the border in wavelengths of the peak frequency at the fastest velocity."""


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


def check(a: Acquisition) -> dict[str, Any]:
    """Check settings before anything is simulated.

    Returns:
        Plain numbers for the report, by name with units, and ``warnings``, a list of sentences.

    Raises:
        AcquisitionError: invalid settings, with the numbers and a remedy.
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
    warnings: list[str] = []
    _check_positions(a, warnings)
    numbers = {**_stability(a), **_dispersion(a, warnings), **_record(a, warnings), **_border(a, warnings)}
    return {
        **numbers,
        "depth_m": (a.depth_cells - 1) * a.spacing,
        "offset_m": (a.offset_cells - 1) * a.spacing,
        "sources": len(a.sources),
        "receivers": len(a.receivers),
        "samples": a.samples,
        "time_steps": a.steps,
        "grid_points": math.prod(a.padded),
        "warnings": warnings,
    }


def refuse_unseen_bottom(numbers: dict[str, Any]) -> None:
    """Refuse, for an inversion, a record in which the bottom answers in no model; a simulation may want it.

    Args:
        numbers: as `check` gives them.

    Raises:
        AcquisitionError: with the record that is needed.
    """
    record, shortest = numbers["record_length_s"], numbers["two_way_time_fastest_s"]
    if record < shortest:
        raise AcquisitionError(
            f"the record of {record:g} s ends before the bottom answers even in the fastest model "
            f"({shortest:.3g} s): record longer, up to {numbers['two_way_time_slowest_s']:.3g} s"
        )


def _stability(a: Acquisition) -> dict[str, float]:
    # The sponge is strongest in a uniform fast model: there velocity_min of the *model* is velocity_max.
    courant = a.velocity_max * a.time_step / a.spacing
    limit = float(a.courant_limit(a.velocity_max, a.velocity_max))
    if courant > limit:
        taken = f", less what a sponge of {a.absorbing_cells} cells takes" if a.boundary == "sponge" else ""
        raise AcquisitionError(
            f"unstable: Courant number v_max dt / dx = {a.velocity_max:g} * {a.time_step:g} / {a.spacing:g} = "
            f"{courant:.3f} is above {limit:.3f} ({cfl_limit(a.space_order):.3f} for order {a.space_order} in "
            f"2-D{taken}): use a time step of at most {_down(_largest_time_step(a)):g} s"
        )
    return {
        "courant_number": courant,
        "courant_limit": limit,
        "courant_limit_without_border": cfl_limit(a.space_order),
    }


def _dispersion(a: Acquisition, warnings: list[str]) -> dict[str, float]:
    peak, highest = a.wavelet.frequency, a.wavelet.frequency_max
    points = a.velocity_min / highest / a.spacing
    least = LEAST_POINTS_PER_WAVELENGTH[a.space_order]
    slow = a.velocity_min * a.time_step / a.spacing
    errors = {
        name: 100 * phase_velocity_error(a.space_order, slow, a.velocity_min / f / a.spacing, 1 / (f * a.time_step))
        for name, f in (("peak", peak), ("max", highest))
    }
    if points < 2.5 or math.isnan(errors["max"]):
        raise AcquisitionError(
            f"{points:.2f} points per wavelength at {highest:g} Hz (the wavelet's peak is at {peak:g} Hz) and "
            f"{a.velocity_min:g} m/s: the grid cannot carry these waves (wanted {least:g}); use cells of at most "
            f"{a.velocity_min / highest / least:.3g} m, or a peak frequency of at most "
            f"{peak * points / least:.3g} Hz"
        )
    if points < least * (1 - 1e-9):
        warnings.append(
            f"{points:.2f} points per wavelength at {highest:g} Hz and {a.velocity_min:g} m/s, wanted "
            f"{least:g}: data are dispersive"
        )
    return {
        "frequency_peak_hz": peak,
        "frequency_max_hz": highest,
        "points_per_wavelength_at_frequency_max": points,
        "points_per_wavelength_at_peak": points * highest / peak,
        "phase_velocity_error_at_peak_percent": errors["peak"],
        "phase_velocity_error_at_frequency_max_percent": errors["max"],
    }


def _record(a: Acquisition, warnings: list[str]) -> dict[str, float]:
    highest = a.wavelet.frequency_max
    if a.output_interval > 0.5 / highest:
        raise AcquisitionError(
            f"recorded every {a.output_interval:g} s, which aliases {highest:g} Hz: record at least every "
            f"{0.5 / highest:.3g} s"
        )
    delay = a.wavelet.delay(a.time_step)
    record = a.samples * a.output_interval
    way = 2 * (a.depth_cells - 1) * a.spacing
    shortest, longest = delay + way / a.velocity_max, delay + way / a.velocity_min
    for way_time, velocity in ((shortest, a.velocity_max), (longest, a.velocity_min)):
        if record < way_time:
            warnings.append(
                f"the record of {record:g} s ends before the bottom answers in a model of {velocity:g} m/s "
                f"({way_time:.3g} s, wavelet delay {delay:.3g} s included)"
            )
            break
    return {
        "output_samples_per_period_at_frequency_max": 1 / (highest * a.output_interval),
        "wavelet_delay_s": delay,
        "record_length_s": record,
        "two_way_time_fastest_s": shortest,
        "two_way_time_slowest_s": longest,
    }


def _border(a: Acquisition, warnings: list[str]) -> dict[str, float]:
    border, peak = a.absorbing_cells * a.spacing, a.wavelet.frequency
    thin, thick = (border * peak / v for v in (a.velocity_max, a.velocity_min))
    least = LEAST_BORDER[a.boundary]
    if thin < least:
        warnings.append(
            f"the absorbing border is {thin:.2f} wavelengths thick at {a.velocity_max:g} m/s: low frequencies "
            f"come back from it; use at least {math.ceil(least * a.velocity_max / peak / a.spacing)} cells"
        )
    return {"border_wavelengths_slowest": thick, "border_wavelengths_fastest": thin}


def _check_positions(a: Acquisition, warnings: list[str]) -> None:
    """Sources and receivers lie inside the velocity model; there are some; border and record are there."""
    deep, wide = (a.depth_cells - 1) * a.spacing, (a.offset_cells - 1) * a.spacing
    for what, positions in (("source", a.sources), ("receiver", a.receivers)):
        if not positions:
            raise AcquisitionError(f"no {what}: give at least one")
        for depth, offset in positions:
            slack = 1e-6 * a.spacing
            if not (-slack <= depth <= deep + slack and -slack <= offset <= wide + slack):
                raise AcquisitionError(
                    f"{what} at depth {depth:g} m, offset {offset:g} m is outside the model, which reaches {deep:g} m "
                    f"deep and {wide:g} m wide: move it inside"
                )
            if a.free_surface and depth < slack:
                raise AcquisitionError(
                    f"{what} at depth {depth:g} m lies on the free surface, where the pressure is zero: put it deeper, "
                    f"by a cell ({a.spacing:g} m) or more"
                )
        if len(set(positions)) < len(positions):
            warnings.append(
                f"{len(positions)} {what}s at {len(set(positions))} places: they are spread over nodes, so ask for no "
                "more than there are, or give their offsets"
            )
    if a.absorbing_cells < 2:
        raise AcquisitionError(f"{a.absorbing_cells} border cells: an absorbing border needs at least 2")
    if a.samples < 1:
        raise AcquisitionError(f"{a.samples} recorded samples: wanted at least 1; record longer")


def _down(value: float) -> float:
    """Three significant digits, rounded down: a remedy must not round up into what it cures."""
    digit = 10 ** (math.floor(math.log10(value)) - 2)
    return math.floor(value / digit) * digit


def _largest_time_step(a: Acquisition) -> float:
    """Largest stable time step for ``velocity_max``: C = c0 sqrt(1 - b dt) with C = v dt / dx is a quadratic in dt."""
    p = (a.velocity_max / a.spacing / cfl_limit(a.space_order)) ** 2
    if a.boundary == "pml":
        return p**-0.5
    b = float(sponge_strength(a.velocity_max, (a.absorbing_cells - 1) * a.spacing)) / 2
    return (-b + math.sqrt(b * b + 4 * p)) / (2 * p)
