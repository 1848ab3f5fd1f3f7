"""Any observables of events: the study names those of truth and observation, their units and how networks see them.

An event is an object (a jet) or a whole collision with its jets' number, scalar sum of pT, masses and so on. Families
are read from files, or made by the generator of `pullback.simulators.collider`: then each observable is an expression
over the generator's branches, and one collision is one event. The detector is learned from pairs; a user's own one
(`pullback.simulators.detectors.base.Detector`) adds what follows from its methods.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field as Option
from pydantic import StringConstraints, field_serializer, field_validator, model_validator

from pullback import registry
from pullback.ensembles.fields import RELATIVE, Field, Transform
from pullback.readers.expressions import Expression, checked
from pullback.readers.table_files import TableFiles
from pullback.simulators.collider_checks import check_generated, generator_checks
from pullback.simulators.collider_settings import UnfoldingParams, UnfoldingSimulator
from pullback.simulators.detectors.base import Detector, kept_draws
from pullback.study.base import Capability, Closed
from pullback.study.kinds import Kind, Message, SimulatorSettings

if TYPE_CHECKING:
    from pullback.study.model import Problem as StudyProblem

log = logging.getLogger("pullback")

Side = Literal["x", "y"]
_JETS: dict[Side, str] = {"x": "GenJet", "y": "Jet"}
"""Lists of the generator that each side is computed from."""


class Observable(Closed):
    """One quantity of x or y."""

    units: str = Option(default="1", description="GeV, rad, cm; '1' where there is none")
    transform: Transform = Option(
        default="linear",
        description="how networks see it: linear; log, log1p of a positive quantity; symlog of one of both signs with "
        "tails; whole of a whole number, whose draws are rounded; periodic of an angle in radians, which x needs in y "
        "too; relative of a quantity of x that y measures precisely: its difference to that of y",
    )
    low: float | None = Option(default=None, description="least possible value: files with smaller ones are refused")
    high: float | None = Option(default=None, description="largest possible value, likewise")
    expression: str | None = Option(
        default=None,
        description="with `generator`: one number of each collision from its branches, of x from GenJet_pt, "
        "GenJet_eta, GenJet_phi, GenJet_mass, of y from the same of Jet: sum(Jet_pt[Jet_pt > 30])",
    )

    @field_validator("expression")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        return value if value is None else checked(value)

    @model_validator(mode="after")
    def _consistent(self) -> "Observable":
        if self.transform == "periodic" and self.units != "rad":
            raise ValueError(
                f"units: found {self.units} of a periodic quantity, wanted rad: readers convert by `units`"
            )
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low: found {self.low:g} and high {self.high:g}, wanted low < high")
        return self


Observed = dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=40)], Observable]


class ObservablesSettings(SimulatorSettings):
    """The observables of x and of y, in order, and where events come from beside files."""

    x: Observed = Option(min_length=1, description="truth: {pt: {units: GeV, transform: log}, jets: {}}")
    y: Observed = Option(min_length=1, description="observation, likewise; of the same name: the same quantity")
    generator: UnfoldingSimulator | None = Option(
        default=None,
        description="collisions and their jets, with the settings of kind unfolding: families that are not read are "
        "made by it, one event for each collision",
    )
    pass_x: str | None = Option(
        default=None,
        description="with `generator`: condition on the true jets that a collision is measured under, count(GenJet_pt "
        "> 30) >= 2; a collision that fails it and is recorded is a fake. Without it all pass",
    )
    pass_y: str | None = Option(
        default=None,
        description="with `generator`: condition on the reconstructed jets, count(Jet_pt > 30) >= 2; a collision that "
        "fails it and passes `pass_x` is a miss. Without it all pass",
    )
    detector: Annotated[Detector, Kind("detectors", by_name=True)] = Option(
        default={"kind": "learned"},
        validate_default=True,
        description="learned: from pairs alone. ./my.py:MyDetector: a class with smear(x, rng) and perhaps "
        "log_likelihood(y, x) of these observables",
    )

    @field_validator("x", "y", mode="before")
    @classmethod
    def _in_order(cls, value: Any) -> Any:
        """A list of blocks with names, as jobs hold it: keys of a job are sorted, and observables have an order."""
        if not isinstance(value, list):
            return value
        if not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in value):
            raise ValueError("wanted a block of observables by name, {HT: {units: GeV}}")
        names = [each["name"] for each in value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"'{twice[0]}' is there twice: keep one")
        return {each["name"]: {key: of for key, of in each.items() if key != "name"} for each in value}

    @field_serializer("x", "y")
    def _as_list(self, value: Observed) -> list[dict[str, Any]]:
        return [{"name": name, **each.model_dump(mode="json")} for name, each in value.items()]

    @field_validator("pass_x", "pass_y")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        return value if value is None else checked(value)

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """The detector's kind, and what makes the collisions."""
        return (("detectors", self.detector.kind), *(self.generator.parts if self.generator else ()))

    @property
    def of_files(self) -> SimulatorSettings:
        """Collisions are the same for all observables of them."""
        return self.generator or self

    @property
    def block(self) -> int:
        """Events, or collisions, of one random block."""
        return self.generator.block if self.generator else 1000


class Observables:
    """Truth and observation with the quantities that the study names, of objects or of whole collisions.

    What can be done beside learning from pairs follows from the detector: an instance has `simulate` and
    `log_likelihood` where the detector has `smear` and `log_likelihood` (AttributeError otherwise).

    Args:
        options: the problem's ``simulator`` block.
    """

    Settings = ObservablesSettings
    Params = UnfoldingParams
    arrays: frozenset[str] = frozenset()
    reads = frozenset({"jets"})
    resimulates = False
    fail = "error"

    @staticmethod
    def relative(options: ObservablesSettings) -> tuple[str, ...]:
        """The angles of x."""
        return tuple(name for name, each in options.x.items() if each.transform in RELATIVE)

    @staticmethod
    def without(options: ObservablesSettings) -> Mapping[Capability, str]:
        """The capabilities that the detector does not have, and why."""
        kind, found = options.detector.kind, dict[Capability, str]()
        if not hasattr(options.detector, "smear"):
            found["forward"] = f"detector '{kind}' does not simulate observations from a truth"
        if not hasattr(options.detector, "log_likelihood"):
            found["likelihood"] = f"of detector '{kind}' no likelihood is known"
        return found

    @staticmethod
    def check(problem: "StudyProblem") -> Iterator[Message]:
        """Angles of x have partners; expressions are of the generator's branches; each family has a source."""
        options: ObservablesSettings = problem.simulator
        for name in Observables.relative(options):
            transform = options.x[name].transform
            if name not in options.y or (transform == "periodic" and options.y[name].transform != "periodic"):
                found = "is not periodic" if name in options.y else "is not there"
                yield (
                    f"simulator.x.{name}.transform",
                    f"networks see a {transform} quantity of x as its difference to that of y, and {name} of y "
                    f"{found}: give y the same{', or name its cosine and sine' if transform == 'periodic' else ''}",
                )
        for name in options.x.keys() & options.y.keys():
            units = options.x[name].units, options.y[name].units
            if units[0] != units[1]:
                yield (
                    f"simulator.y.{name}.units",
                    f"found {units[1]}, and {name} of x is in {units[0]}: observables of one name are one quantity, in "
                    "one unit; files are converted by `units` of their block `read`",
                )
        yield from _check_detector(options)
        if options.generator is None:
            yield from _refuse_generated(problem)
        else:
            yield from check_generated(options.generator, problem.families, "simulator.generator")
            yield from _check_expressions(options, options.generator)

    @staticmethod
    def own_files(options: ObservablesSettings) -> TableFiles | None:
        """How collisions that `pullback.simulators.collider` wrote are read: one event for each."""
        if options.generator is None:
            return None
        return TableFiles(
            kind="table",
            files={},
            y={name: each.expression or "" for name, each in options.y.items()},
            x={name: each.expression or "" for name, each in options.x.items()},
            pass_x=options.pass_x,
            pass_y=options.pass_y,
            event="event",
            weight="genWeight",
            weights={name: f"weight_{name}" for name in options.generator.shower_variations},
        )

    def __init__(self, options: ObservablesSettings):
        self.options = options
        self.detector: Any = options.detector
        self.block = options.block
        self.x, self.y = _field("x", options.x), _field("y", options.y)

    @property
    def simulate(self) -> Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]:
        """Observations y (event, *y) of x (event, *x) that were recorded, and which could be made (event,)."""
        self.detector.smear  # noqa: B018  AttributeError: this detector does not simulate.
        return self._simulate

    @property
    def log_likelihood(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """log p(y|x) of a recorded observation, broadcast over leading axes, float64."""
        self.detector.log_likelihood  # noqa: B018  AttributeError: this detector has none.
        return self._log_likelihood

    def _simulate(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = np.asarray(x, np.float64)
        y, ok = kept_draws(lambda each: self._smeared(each, rng), x, self.detector.in_domain(x), len(self.y.features))
        return y.astype(np.float32), ok

    def _smeared(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        y, kept = (np.asarray(each) for each in self.detector.smear(x, rng))
        wanted = (len(x), len(self.y.features))
        if y.shape != wanted or kept.shape != wanted[:1]:
            raise ValueError(
                f"detector '{self.detector.kind}': smear gave y of shape {y.shape} and kept of shape {kept.shape}, "
                f"wanted {wanted} and {wanted[:1]}"
            )
        return y, kept.astype(bool)

    def _log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        value = np.asarray(self.detector.log_likelihood(y, x), np.float64)
        wanted = np.broadcast_shapes(y.shape[:-1], x.shape[:-1])
        if value.shape != wanted:
            raise ValueError(
                f"detector '{self.detector.kind}': log_likelihood gave shape {value.shape} for y {y.shape} and x "
                f"{x.shape}, wanted {wanted}"
            )
        return value

    def preflight(self) -> dict[str, Any]:
        """The observables, and the checks of the generator, where there is one.

        Raises:
            pullback.core.optional.MissingExtraError: a package that reads collisions is not installed.
        """
        checks: dict[str, Any] = {
            **{side.name: ", ".join(side.features) for side in (self.x, self.y)},
            "detector of observables": self.detector.kind,
        }
        if self.options.generator is not None:
            checks |= generator_checks(self.options.generator)
        for name, value in checks.items():
            log.info("observables: %s: %s", name, value)
        return checks


def _field(name: Side, observables: Mapping[str, Observable]) -> Field:
    each = observables.values()
    return Field.vector(
        name,
        observables,
        tuple(one.units for one in each),
        transforms=tuple(one.transform for one in each),
        low=tuple(-np.inf if one.low is None else one.low for one in each),
        high=tuple(np.inf if one.high is None else one.high for one in each),
    )


def _check_detector(options: ObservablesSettings) -> Iterator[Message]:
    """A detector of these observables; none where collisions have theirs."""
    kind = options.detector.kind
    if kind == "learned":
        return
    if kind in registry.BUILT_IN["detectors"]:
        where = "generator.detector" if options.generator else "kind: unfolding"
        yield (
            "simulator.detector",
            f"'{kind}' is of jets' pt, eta, phi and mass, and has no formulas of other observables: it belongs to "
            f"`{where}`; here wanted a class of your own, ./my.py:MyDetector, or learned",
        )
    elif options.generator is not None:
        yield (
            "simulator.detector",
            "y of generated collisions is what `generator.detector` and the expressions give, and no other detector "
            "describes it: leave this one out",
        )


def _refuse_generated(problem: "StudyProblem") -> Iterator[Message]:
    """Without a generator every family is read, and its block `read` has the expressions."""
    options: ObservablesSettings = problem.simulator
    for key in ("pass_x", "pass_y"):
        if getattr(options, key) is not None:
            yield f"simulator.{key}", "is of generated collisions, and there is no `generator`: write it in `read`"
    for side in ("x", "y"):
        for name, each in getattr(options, side).items():
            if each.expression is not None:
                yield (
                    f"simulator.{side}.{name}.expression",
                    "is of generated collisions, and there is no `generator`: name columns in `read`",
                )
    for name, family in problem.families.items():
        if family.read is None and family.events_from is None:
            yield f"families.{name}", "there is no `simulator.generator` to make its events: give it files to `read`"


def _check_expressions(options: ObservablesSettings, generator: UnfoldingSimulator) -> Iterator[Message]:
    """Every observable has an expression over branches of its own side."""
    if "reco_pt_min" in generator.model_fields_set and generator.reco_pt_min != 5.0:
        yield "simulator.generator.reco_pt_min", "is of kind unfolding: cut in the expressions, Jet_pt[Jet_pt > 30]"
    sides: tuple[Side, ...] = ("x", "y")
    for side in sides:
        observables: Observed = getattr(options, side)
        for name, each in observables.items():
            here = f"simulator.{side}.{name}.expression"
            if each.expression is None:
                yield here, f"with `generator`, {name} is computed from its branches: sum({_JETS[side]}_pt)"
            else:
                yield from _check_branches(here, each.expression, side, generator)
        if condition := getattr(options, f"pass_{side}"):
            yield from _check_branches(f"simulator.pass_{side}", condition, side, generator)


def _check_branches(here: str, text: str, side: Side, generator: UnfoldingSimulator) -> Iterator[Message]:
    """An expression of one side reads branches of that side that there are."""
    branches = generator.branches
    other = "x" if side == "y" else "y"
    for name in Expression(text).columns:
        if name not in branches:
            near = registry.did_you_mean(name, branches)
            yield here, f"the generator writes no branch '{name}'{near}; there are {', '.join(branches)}"
        elif name.startswith(f"{_JETS[other]}_"):  # type: ignore[index]
            what = "true" if side == "y" else "reconstructed"
            yield here, f"'{name}' is of {what} jets, and {side} is computed from {_JETS[side]}_pt and the like"
