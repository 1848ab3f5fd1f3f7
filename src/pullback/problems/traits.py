"""Amplitude, sign, bandwidth and rates of observations, beside those of families that are trained on."""

from dataclasses import dataclass

import numpy as np

from pullback.ensembles.fields import Field

EVENTS = 64
"""Events of each family that are looked at."""
LEAST_EVENTS = 8
"""With fewer seen events nothing is compared."""


@dataclass(frozen=True)
class Trait:
    """One quantity of observations.

    Attributes:
        name: ``amplitude``.
        unit: of its values.
        values: one for each event (event,).
        factor: how many times farther than the seen families' quantiles it may lie; 0 where it is no positive number,
            which may lie outside by half of their range.
        advice: what to do where it lies outside.
        slack: what it may lie outside at least, where the seen families hardly differ.
        by_sign: only a value of the other sign than theirs is told: a filter weakens polarity, it does not turn it.
    """

    name: str
    unit: str
    values: np.ndarray
    factor: float
    advice: str
    slack: float = 0.0
    by_sign: bool = False


def traits(field: Field, y: np.ndarray) -> list[Trait]:
    """The traits of observations y (event, *y)."""
    values = np.asarray(y, np.float64)
    if field.is_vector:
        return [
            Trait(name, unit, values[:, j], 0.0, "compare units and selection with the seen families'")
            for j, (name, unit) in enumerate(zip(field.features, field.units, strict=True))
            if field.transforms[j] != "periodic"
        ]
    flat = values.reshape(len(values), -1)
    cubes = np.abs(flat) ** 3
    found = [
        Trait("amplitude", field.units[0], np.sqrt((flat**2).mean(axis=1)), 2.0, "set read.scale"),
        Trait(
            "sign",
            "1",
            (np.sign(flat) * cubes).mean(axis=1) / np.maximum(cubes.mean(axis=1), np.finfo(float).tiny),
            0.0,
            "the polarity may be the other one: read.scale: -1",
            slack=0.2,
            by_sign=True,
        ),
        Trait("share of zeros", "1", (flat == 0).mean(axis=1), 0.0, "traces may be missing or muted", slack=0.1),
    ]
    if "time" in field.coordinates and len(field.coordinates["time"].values) > 2:
        times = field.coordinates["time"].values
        spectra = np.fft.rfft(np.moveaxis(values, 1 + field.dims.index("time"), -1))
        power = (np.abs(spectra) ** 2).reshape(len(values), -1, spectra.shape[-1]).sum(axis=1)
        frequencies = np.fft.rfftfreq(len(times), float(times[1] - times[0]))
        centre = power @ frequencies / np.maximum(power.sum(axis=1), np.finfo(float).tiny)
        found.append(
            Trait("mean frequency", "Hz", centre, 1.25, "filter the data, or set peak_frequency of the simulator")
        )
    return found


def compare_with_seen(field: Field, observed: np.ndarray, seen: np.ndarray) -> tuple[str, list[str]]:
    """One line with the medians of a family beside the seen families' 1 to 99 % quantiles, and warnings.

    Args:
        field: y.
        observed: some observations of the family (event, *y).
        seen: of the families that are trained on (event, *y).
    """
    said, warnings = [], []
    if len(seen) < LEAST_EVENTS:
        return "", []
    for ours, theirs in zip(traits(field, observed), traits(field, seen), strict=True):
        middle = float(np.median(ours.values))
        low, high = (float(v) for v in np.percentile(theirs.values, [1, 99]))
        line = f"{ours.name} {middle:.3g}{'' if ours.unit == '1' else f' {ours.unit}'} (seen {low:.3g} to {high:.3g})"
        said.append(line)
        reach = max((high - low) / 2, ours.slack, 1e-3 * max(abs(low), abs(high)))
        least, most = (low / ours.factor, high * ours.factor) if ours.factor else (low - reach, high + reach)
        same_sign = ours.by_sign and middle * (low + high) >= 0
        if not least <= middle <= most and not same_sign:
            warnings.append(f"{line}: {ours.advice}")
    return ", ".join(said), warnings
