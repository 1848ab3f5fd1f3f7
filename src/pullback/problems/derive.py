"""Driver of the rule `derive`: test events of another family, shifted, simulated again, or without truth."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from pullback.core.joblog import progress
from pullback.core.seeding import generator
from pullback.ensembles.acceptance import FAKE
from pullback.ensembles.fields import Field
from pullback.ensembles.stale_files import refuse_stale_files
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.problems.base import SimulationError, problem_of, simulate
from pullback.problems.noise import with_noise
from pullback.study.shifts import MissingShift, NoiseShift, ScaleShift, Shift, SimulatorShift

SHIFT_ROWS = 1000
"""Events whose shift is drawn from one generator."""
SHIFT_BYTES = 64 << 20
"""Bytes of x and y that are read and shifted at once: gathers are megabytes each."""


def derive(job: str, base: Path | str, out: Path | str) -> None:
    """Write another family's test events, shifted or without their truth.

    Args:
        job: `Plan.derive_job`.
        base: index of the family that the events are taken from.
        out: the shard.
    """
    spec = json.loads(job)
    refuse_stale_files(spec, base=[Path(base)])
    shift = TypeAdapter(Shift).validate_python(spec["shift"]) if spec["shift"] else None
    attributes = {"problem": spec["problem"], "family": spec["family"], "split": "test", "base": spec["base"]}
    again, plain = (Resimulation(spec, shift.change), None) if isinstance(shift, SimulatorShift) else (None, shift)
    step = again.block if again else SHIFT_ROWS
    with EnsembleReader(base) as reader:
        truth_columns = set() if spec["truth"] else {"x", FAKE}
        extra = [name for name in reader.columns if name not in {"x", "y", "event_id", "group", *truth_columns}]
        columns = {name: reader.read(name, 0, 1).dtype.str for name in extra}
        x = reader.x if spec["truth"] else None
        event_bytes = 4 * sum(math.prod(field.shape) for field in (reader.x, reader.y) if field)
        # A block that is simulated again may be drawn again, as a whole.
        at_once = step if again else max(1, SHIFT_BYTES // event_bytes)
        with EnsembleWriter(out, x=x, y=reader.y, spec=job, attributes=attributes, columns=columns) as writer:
            for start in progress(range(0, reader.n, step), -(-reader.n // step), "derive"):
                rng = generator(spec["seed"], spec["problem"], spec["family"], "shift", start)
                stop = min(start + step, reader.n)
                for first in range(start, stop, at_once):
                    last = min(first + at_once, stop)
                    rows = {name: reader.read(name, first, last) for name in reader.columns}
                    y = rows.pop("y")
                    if again:
                        y = again.observations(rows["x"], start // step, rng)
                    elif plain:
                        y = apply_shift(plain, y, reader.y, rng)
                    rows = {name: values for name, values in rows.items() if name not in truth_columns}
                    writer.append(y, rows.pop("event_id"), **rows)
            if x is not None and reader.missed is not None:
                writer.append_missed(reader.missed)


class Resimulation:
    """Truth simulated with other settings.

    Args:
        spec: `Plan.derive_job`, parsed.
        change: options of the simulator that differ.

    Raises:
        SimulationError: y would have another shape; x would be of another rock; or x would have another shape, of draws
            that cannot be made again.
    """

    def __init__(self, spec: dict[str, Any], change: dict[str, Any]):
        old, new = (problem_of({**spec, "simulator": spec["simulator"] | more}) for more in ({}, change))
        self.problem, self.spec, self.block = new, spec, spec["block"]
        self.factor = getattr(old, "amplitude_unit", 1.0) / getattr(new, "amplitude_unit", 1.0)
        if new.y.shape != old.y.shape:
            raise SimulationError(
                f"shift.change {change} gives y of shape {new.y.shape}, methods know {old.y.shape}: leave what y is "
                "made of as it is"
            )
        if new.x.shape != old.x.shape and new.fail == "redraw":
            raise SimulationError(
                f"shift.change {change} gives x of shape {new.x.shape} in place of {old.x.shape}, and draws that "
                "failed were drawn again: leave the shape of x as it is"
            )
        _check_same_truth(old.x, new.x, f"shift.change {change}")

    def observations(self, x: np.ndarray, block: int, rng: np.random.Generator) -> np.ndarray:
        """y (event, *y) of a block of truths (event, *x), or of the same draws in the other settings' shape.

        On the scale that methods know: a finer grid is no weaker source.
        """
        if x.shape[1:] != self.problem.x.shape:
            address = (self.spec["seed"], self.spec["problem"], self.spec["base"], "test", block)
            x = self.problem.sample_prior(generator(*address), len(x), self.spec["params"])
        y, ok = simulate(self.problem, x, rng)
        y, ok = np.asarray(y), np.array(ok, bool)
        if not ok.all():
            raise SimulationError(
                f"{int((~ok).sum())} of {len(ok)} truths cannot be simulated with the shift's settings, the first is "
                f"event {int(np.argmin(ok))} of block {block}: change less"
            )
        return y * self.factor


def _check_same_truth(old: Field, new: Field, change: str) -> None:
    """What is simulated again is the truth that is judged: the same places, and bounds where it is drawn again."""
    for name in (name for name in old.coordinates if name in new.coordinates):
        known, found = (field.coordinates[name].values[[0, -1]] for field in (old, new))
        if not np.allclose(found, known, rtol=1e-6, atol=1e-6 * np.ptp(known)):
            raise SimulationError(
                f"{change} puts {name} of x from {found[0]:g} to {found[1]:g} {old.coordinates[name].units}, methods "
                f"know {known[0]:g} to {known[1]:g}: change the number of nodes with their spacing, so that the ends "
                "stay where they are"
            )
    if new.shape != old.shape and (new.low, new.high) != (old.low, old.high):
        raise SimulationError(
            f"{change} draws x between {_bounds(new)}, methods know {_bounds(old)}: leave the bounds of x as they are "
            "where its shape changes"
        )


def _bounds(field: Field) -> str:
    return f"{list(field.low or ())} and {list(field.high or ())} {', '.join(dict.fromkeys(field.units))}"


def check_shift(shift: NoiseShift | ScaleShift | MissingShift, field: Field) -> None:
    """Whether a shift is one of this y.

    Raises:
        SimulationError: it names what y has not, adds to several units, or takes nothing or everything away.
    """
    if isinstance(shift, MissingShift):
        if shift.dimension not in field.dims:
            raise SimulationError(f"shift.dimension: found '{shift.dimension}', y has {', '.join(field.dims)}")
        size = field.shape[field.dims.index(shift.dimension)]
        gone = round(shift.fraction * size)
        if not 0 < gone < size:
            raise SimulationError(
                f"shift.fraction: {shift.fraction:g} of {size} along {shift.dimension} is {gone}, wanted at least one "
                "that is missing and one that is left: take a fraction nearer to a half, or another dimension"
            )
        return
    feature = shift.feature if isinstance(shift, ScaleShift) else None
    if feature is None and len(set(field.units)) > 1:
        raise SimulationError(
            f"a shift of kind '{shift.kind}' changes all of y alike, and its units are {', '.join(field.units)}: "
            "scale one `feature`"
        )
    if feature is not None and feature not in field.features:
        raise SimulationError(f"shift.feature: found '{feature}', y has {', '.join(field.features) or 'no features'}")


def apply_shift(
    shift: NoiseShift | ScaleShift | MissingShift, y: np.ndarray, field: Field, rng: np.random.Generator
) -> np.ndarray:
    """Observations (event, *y) as they would be under a changed forward process.

    Raises:
        SimulationError: as `check_shift`.
    """
    check_shift(shift, field)
    if isinstance(shift, NoiseShift):
        return with_noise(y, shift.relative, rng)
    if isinstance(shift, ScaleShift):
        if shift.feature is None:
            return y * shift.factor
        return y * np.where(np.array(field.features) == shift.feature, shift.factor, 1.0)
    axis = field.dims.index(shift.dimension)
    size = field.shape[axis]
    dead = rng.random((len(y), size)).argsort(axis=1) < round(shift.fraction * size)
    shape = [len(y)] + [size if i == axis else 1 for i in range(len(field.shape))]
    return np.where(dead.reshape(shape), 0.0, y)
