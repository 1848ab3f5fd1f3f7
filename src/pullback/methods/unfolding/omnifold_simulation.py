"""The simulated sample that OmniFold reweights: read from the seen families, chosen, and scaled for classifiers."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pullback.core.seeding import Address, generator
from pullback.ensembles.family_events import nominal, windows
from pullback.ensembles.fields import Field
from pullback.ensembles.resampling import bootstrap_sample
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.store import EnsembleReader
from pullback.methods.unfolding.omnifold_iterations import OmnifoldError, Sample, Simulation

log = logging.getLogger("pullback")

DIRECTIONS = 64
COMPARED = 20_000
"""Events of each side in the distance that chooses a family."""


def read_family(path: Path, most: int, rng: np.random.Generator, bootstrap: bool = False) -> tuple[str, Simulation]:
    """A seen family's name and at most about ``most`` of its events, in physical units; NaN where there is none.

    Of more events, windows at random places; pairs, fakes and misses are cut alike. With ``bootstrap`` they are drawn
    from the family with replacement, by group.
    """
    with EnsembleReader(path) as file:
        name = str(file.attributes.get("family", file.path))
        reader = bootstrap_sample(file, rng) if bootstrap else file
        missed = reader.missed
        misses = 0 if missed is None else len(missed.x)
        share = min(1.0, most / (reader.n + misses))
        weighted = "weight" in reader.columns
        x, y, fake, weight = [], [], [], []
        for rows in windows(reader.n, math.ceil(share * reader.n), rng):
            x.append(reader.read("x", *rows))
            y.append(reader.read("y", *rows))
            fake.append(reader.fake(*rows))
            weight.append(nominal(reader.read("weight", *rows)) if weighted else np.ones(len(y[-1])))
        recorded = sum(map(len, y))
        if missed is not None and misses:
            for start, stop in windows(misses, math.ceil(share * misses), rng):
                x.append(missed.x[start:stop])
                y.append(np.full((stop - start, *reader.y.shape), np.nan, np.float32))
                fake.append(np.zeros(stop - start, bool))
                weight.append(missed.weight[start:stop])
    has_x = ~np.concatenate(fake)
    has_y = np.arange(len(has_x)) < recorded
    return name, Simulation(np.concatenate(x), np.concatenate(y), has_x, has_y, np.concatenate(weight))


def union(families: dict[str, Simulation]) -> Simulation:
    """Several families as one sample; each has the same sum of weights, whatever their cross-sections and sizes.

    Raises:
        OmnifoldError: the weights of a family do not sum to more than zero.
    """
    mean = np.mean([len(family.weight) for family in families.values()])
    parts = []
    for name, family in families.items():
        total = float(family.weight.sum())
        if not 0 < total < math.inf:
            raise OmnifoldError(
                f"family '{name}': {len(family.weight)} event weights sum to {total:g}, wanted more than 0: correct "
                "them, or name another family in `simulation`"
            )
        parts.append(family._replace(weight=family.weight * (mean / total)))
    return Simulation(*map(np.concatenate, zip(*parts, strict=True)))


def chosen(
    families: dict[str, Simulation], simulation: str, data: Sample, y_field: Field, address: Address
) -> tuple[Simulation, dict[str, float]]:
    """The sample that is reweighted, and diagnostics of the choice.

    ``best`` is the family whose reconstructed events have the least sliced Wasserstein-1 distance from the data, with
    weights and in the scaling of classifiers: it needs no truth. The distances are diagnostics,
    ``distance_<family>``.

    Args:
        families: by name.
        simulation: ``"union"``, ``"best"`` or a name.
        data: the observations, physical units.
        y_field: their field.
        address: of random directions and of the choice of events.

    Raises:
        OmnifoldError: there is no such family, or weights do not sum to more than zero.
    """
    if simulation == "union":
        return union(families), {}
    if simulation != "best":
        if simulation not in families:
            raise OmnifoldError(f"there is no seen family '{simulation}', wanted one of {', '.join(families)}")
        return union({simulation: families[simulation]}), {}
    everything = union(families)
    encode = encoder(y_field, everything.y[everything.has_y])
    rng = generator(*address, "choice")
    directions = rng.standard_normal((encode(data.values[:1]).shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    ours = _projected(data, encode, directions, rng)
    distances = {}
    for name, family in families.items():
        theirs = _projected(Sample(family.y[family.has_y], family.weight[family.has_y]), encode, directions, rng)
        pairs = zip(ours.values.T, theirs.values.T, strict=True)
        distances[name] = float(np.mean([wasserstein(u, v, ours.weight, theirs.weight) for u, v in pairs]))
    name = min(distances, key=distances.__getitem__)
    log.info("the observations are nearest to those of family '%s': %s", name, distances)
    return union({name: families[name]}), {f"distance_{key}": value for key, value in distances.items()}


def _projected(
    sample: Sample, encode: Callable[[np.ndarray], np.ndarray], directions: np.ndarray, rng: np.random.Generator
) -> Sample:
    rows = np.sort(rng.choice(len(sample.values), min(COMPARED, len(sample.values)), replace=False))
    return Sample(encode(sample.values[rows]) @ directions, sample.weight[rows])


def wasserstein(u: np.ndarray, v: np.ndarray, u_weight: np.ndarray, v_weight: np.ndarray) -> float:
    """Integral of the absolute difference of two weighted distribution functions (event,); weights may be negative."""
    values = np.concatenate([u, v])
    order = np.argsort(values)
    step = np.concatenate([u_weight / u_weight.sum(), -v_weight / v_weight.sum()])[order]
    return float(np.abs(np.cumsum(step)[:-1]) @ np.diff(values[order]))


def encoder(field: Field, values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """How classifiers see a field: its transforms, standardised on ``values`` (event, feature); angles as sin and cos.

    x on its own has no partner that an angle could be relative to: both fields are scaled as observations are.
    """
    plain = replace(field, name="x", transforms=tuple("linear" for _ in field.transforms))
    return Scaling.fit(plain, replace(field, name="y"), values, values).encode_y
