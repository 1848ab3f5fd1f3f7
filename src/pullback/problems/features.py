"""Any features of events from files: the study names those of x and y, their units and how networks see them.

There is no simulator: families are read (`pullback.readers`), objects (jets) or events with observables, and methods
that learn from pairs unfold them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field as Option
from pydantic import field_validator

from pullback.ensembles.fields import Field, Transform
from pullback.study.base import Closed
from pullback.study.kinds import Message, SimulatorSettings

if TYPE_CHECKING:
    from pullback.study.model import Problem as StudyProblem


class Feature(Closed):
    """One quantity of x or y."""

    units: str = Option(default="1", description="GeV, rad, cm; '1' where there is none")
    transform: Transform = Option(
        default="linear",
        description="how networks see it: linear; log, log1p of a positive quantity; symlog of one of both signs with "
        "tails; periodic of an angle in radians, which x needs in y too",
    )
    low: float | None = Option(default=None, description="bounds: files beyond them are refused")
    high: float | None = None


class FeaturesSettings(SimulatorSettings):
    """The features of x and of y, in order."""

    x: dict[str, Feature] = Option(min_length=1, description="truth: {pt: {units: GeV, transform: log}, n: {}}")
    y: dict[str, Feature] = Option(min_length=1, description="observation")

    @field_validator("x", "y")
    @classmethod
    def _angles_in_radians(cls, value: dict[str, Feature]) -> dict[str, Feature]:
        for name, feature in value.items():
            if feature.transform == "periodic" and feature.units != "rad":
                raise ValueError(f"{name} is periodic and in {feature.units}, wanted rad: readers convert by `units`")
            if feature.low is not None and feature.high is not None and not feature.low < feature.high:
                raise ValueError(f"{name}: found low {feature.low:g} and high {feature.high:g}, wanted low < high")
        return value


class Features:
    """Pairs with the features that the study names, read from files. No forward process is known.

    Args:
        options: the problem's ``simulator`` block.
    """

    Settings = FeaturesSettings
    arrays: frozenset[str] = frozenset()
    reads = frozenset({"jets"})
    resimulates = False
    fail = "error"
    block = 1000

    @staticmethod
    def check(problem: "StudyProblem") -> Iterator[Message]:
        """Families are read; an angle of x has its partner in y; what a prior of x alone cannot learn is refused."""
        settings: FeaturesSettings = problem.simulator
        angles = [name for name, feature in settings.x.items() if feature.transform == "periodic"]
        for name in angles:
            if name not in settings.y or settings.y[name].transform != "periodic":
                found = "not periodic" if name in settings.y else "not there"
                yield (
                    "simulator.x",
                    f"{name} is periodic: it is learnt as its difference to the {name} of y, which is {found}: give y "
                    "such a feature, or use cos and sin",
                )
        for name, family in problem.families.items():
            if family.read is None and family.events_from is None:
                yield f"families.{name}", "is simulated, and this kind has no simulator: give it `read`"
        guided = [*problem.priors, *problem.likelihoods] if angles else []
        if guided:
            yield (
                "simulator.x",
                f"{angles[0]} is periodic, and {guided[0]} learns truths without their y: use cos and sin",
            )

    def __init__(self, options: FeaturesSettings):
        self.options = options
        self.x, self.y = _field("x", options.x), _field("y", options.y)


def _field(name: Literal["x", "y"], features: dict[str, Feature]) -> Field:
    each = features.values()
    return Field.vector(
        name,
        features,
        tuple(feature.units for feature in each),
        transforms=tuple(feature.transform for feature in each),
        low=tuple(-np.inf if feature.low is None else feature.low for feature in each),
        high=tuple(np.inf if feature.high is None else feature.high for feature in each),
    )
