"""What a user gives as data: arrays, files and what is held out for validation, as ensembles."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pullback.api.files import Ensemble as EnsembleFile
from pullback.ensembles.arrays import ArrayEnsemble, ArrayError, Ensemble, as_events, field_of
from pullback.ensembles.fields import Field
from pullback.ensembles.store import EnsembleReader

log = logging.getLogger("pullback")

ENSEMBLES_TO_SPARE = 20
"""From as many on, whole ensembles are held out for validation; of fewer, some events of each."""


def hold_out(
    ensembles: Sequence[Any], fraction: float, rng: np.random.Generator
) -> tuple[list[Ensemble], list[Ensemble]]:
    """Training and validation ensembles.

    Args:
        ensembles: of which some, or of which some events, are held out.
        fraction: how much is.
        rng: chooses them; of a file the last events are.

    Raises:
        ArrayError: a fraction outside (0, 1), or an ensemble that cannot be cut.
    """
    if not 0 < fraction < 1:
        raise ArrayError(f"validation is the fraction that is held out, wanted above 0 and below 1, found {fraction}")
    if len(ensembles) >= ENSEMBLES_TO_SPARE:
        count = max(1, round(fraction * len(ensembles)))
        chosen = set(rng.choice(len(ensembles), count, replace=False).tolist())
        log.info("validation: %d of %d ensembles are held out", count, len(ensembles))
        return [e for i, e in enumerate(ensembles) if i not in chosen], [ensembles[i] for i in sorted(chosen)]
    train: list[Ensemble] = []
    held: list[Ensemble] = []
    for one in ensembles:
        if one.n < 2 or len(one.offsets) > 2:
            what = f"{one.n} event" if one.n < 2 else f"{len(one.offsets) - 1} ensembles"
            raise ArrayError(f"{one.path}: holds {what}, of which none can be held out; give `validation` ensembles")
        count = min(one.n - 1, max(1, round(fraction * one.n)))
        if isinstance(one, ArrayEnsemble):
            order = rng.permutation(one.n)
            train.append(one.select(np.sort(order[count:])))
            held.append(one.select(np.sort(order[:count])))
        else:
            train.append(one.window(0, one.n - count))
            held.append(one.window(one.n - count, one.n))
    log.info("validation: %d of %d events are held out", sum(e.n for e in held), sum(e.n for e in ensembles))
    return train, held


def given_ensembles(given: Any, name: str, how: dict[Any, Any], parameters: Any = None) -> Iterator[Ensemble]:
    """The ensembles of what a user gives; ``how`` are names and transforms of x and y."""
    if isinstance(given, str | Path | EnsembleFile) or (isinstance(given, tuple) and hasattr(given[0], "ndim")):
        given = [given]
    given = list(given)
    if not given:
        raise ArrayError(f"found no {name}, wanted a list with (x, y) of each prior")
    if parameters is not None and len(parameters) != len(given):
        raise ArrayError(
            f"found parameters of {len(parameters)} priors and {len(given)} ensembles: give one row for each"
        )
    for i, one in enumerate(given):
        if isinstance(one, EnsembleFile):
            yield one.reader
        elif isinstance(one, str | Path):
            yield EnsembleReader(one)
        elif isinstance(one, tuple | list) and len(one) in (2, 3):
            x, y = (as_events(values, f"{name} {i}: {key}") for key, values in zip("xy", one, strict=False))
            yield ArrayEnsemble(
                y,
                x,
                x_field=field_of("x", x, *how["x"]),
                y_field=field_of("y", y, *how["y"]),
                weight=one[2] if len(one) == 3 else None,
                theta=None if parameters is None else parameters[i],
                name=f"{name} {i}",
            )
        else:
            raise ArrayError(f"{name} {i} is {type(one).__name__}: wanted (x, y), (x, y, weight), or an HDF5 ensemble")


def observations(y: Any, field: Field, **columns: Any) -> Ensemble:
    """What is answered, checked against the field of the training."""
    if isinstance(y, str | Path):
        y = EnsembleFile(y)
    if isinstance(y, EnsembleFile):
        found: Ensemble = y.reader
    else:
        found = ArrayEnsemble(y, y_field=None, name="the observations", **columns)
    if found.y.shape != field.shape:
        raise ArrayError(f"{found.path}: y of each event has shape {found.y.shape}; trained on {field.shape}")
    return found
