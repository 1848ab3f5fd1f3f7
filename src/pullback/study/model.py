"""A study as one typed model."""

from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, Field, GetJsonSchemaHandler, PrivateAttr, ValidationInfo, field_validator
from pydantic_core import CoreSchema

from pullback import registry
from pullback.study import figures as study_figures
from pullback.study.base import Capability, Closed, Name, Split, outside_path
from pullback.study.evaluation import EvaluationSettings
from pullback.study.families import Family
from pullback.study.kinds import Kind, LikelihoodSpec, MethodSpec, PriorSpec, folder_of, load_kind
from pullback.study.problem_kind import ProblemKind, problem_kind
from pullback.study.reader_spec import names_of
from pullback.study.uncertainties import Uncertainties

MethodKind = Annotated[MethodSpec, Kind("methods")]
PriorKind = Annotated[PriorSpec, Kind("priors")]
LikelihoodKind = Annotated[LikelihoodSpec, Kind("likelihoods")]


class Size(Closed):
    """Events of each split (collisions, for unfolding: each gives a few jets), and how they are cut into files."""

    train: int = Field(default=4000, gt=0)
    validation: int = Field(default=500, gt=0)
    test: int = Field(default=1000, gt=0)
    reference: int = Field(default=1000, gt=0, description="independent truth, for sampling floors")
    shard: int = Field(
        default=100_000, gt=0, description="most events in one shard (one job); rounded up to whole blocks"
    )


class Problem(Closed):
    """One inverse problem: its forward process and its settings, families, priors, likelihoods and methods."""

    kind: str = Field(description="a built-in kind, an installed entry point, or ./my_sim.py:MySim")
    simulator: Any = Field(
        default={}, validate_default=True, description="options of the forward process: what its events depend on"
    )
    size: Size = Size()
    families: dict[Name, Family] = Field(min_length=1)
    priors: dict[Name, PriorKind] = Field(default={})
    likelihoods: dict[Name, LikelihoodKind] = Field(default={})
    methods: dict[Name, MethodKind] = Field(min_length=1)
    evaluation: EvaluationSettings = EvaluationSettings()
    uncertainties: Uncertainties | None = Field(
        default=None, description="an uncertainty budget of one method's unfolded distributions, by bins"
    )

    _spec: ProblemKind = PrivateAttr()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The frame, with the options of each known kind's simulator."""
        found = handler(schema)
        made = handler.resolve_ref_schema(found)
        made["allOf"] = [
            {
                "if": {"properties": {"kind": {"const": kind}}},
                "then": {"properties": {"simulator": handler(settings.__pydantic_core_schema__)}},
            }
            for kind in registry.kinds("problems")
            if (settings := problem_kind(kind).Settings)
        ]
        made["properties"]["kind"]["examples"] = list(registry.kinds("problems"))
        return found

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str, info: ValidationInfo) -> str:
        load_kind("problems", kind, info)
        return kind

    @field_validator("simulator")
    @classmethod
    def _settings(cls, values: Any, info: ValidationInfo) -> Any:
        # A kind that is wrong has been said.
        if "kind" not in info.data or isinstance(values, BaseModel):
            return values
        if not isinstance(values, dict):
            raise ValueError("wanted a block of options")
        return problem_kind(info.data["kind"], folder_of(info)).settings(values, info.context)

    def model_post_init(self, context: Any) -> None:
        """Store the description of the kind (`ProblemKind`)."""
        self._spec = problem_kind(self.kind, (context or {}).get("folder", "."))

    @property
    def spec(self) -> ProblemKind:
        """The description of the kind."""
        return self._spec

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the problem gives with these settings."""
        return self.spec.capabilities(self.simulator)

    @property
    def relative(self) -> tuple[str, ...]:
        """The quantities of x that networks see relative to y."""
        return self.spec.relative(self.simulator)

    @property
    def unlearnable(self) -> str:
        """Reason why p(y|x) cannot be learned as a density of vectors; empty where it can."""
        names = ", ".join(self.relative)
        return self.spec.unlearnable or (f"networks see {names} of x relative to {names} of y" if names else "")

    def why_without(self, *missing: Capability) -> str:
        """Why the settings take capabilities away, as the end of a message; nothing where they do not."""
        without = self.spec.without(self.simulator)
        return "".join(f"; {reason}" for reason in dict.fromkeys(without[each] for each in missing if each in without))

    @property
    def evaluated(self) -> list[str]:
        """Names of the families to infer and evaluate: all with a test split."""
        return [name for name, family in self.families.items() if "test" in family.splits]

    @property
    def uses_likelihood(self) -> bool:
        """Whether a method or the evaluation uses the problem's own likelihood."""
        return (
            any("likelihood" in method.needs_either for method in self.methods.values())
            or any(infer.uses_likelihood for method in self.methods.values() for infer in method.infer.values())
            or bool(self.evaluation.exact_events or self.evaluation.c2st_events)
        )

    @property
    def simulator_values(self) -> dict[str, Any]:
        """The ``simulator`` block as plain values, every default filled in."""
        values = self.simulator.model_dump(mode="json") if isinstance(self.simulator, BaseModel) else self.simulator
        return cast(dict[str, Any], values)


class Study(Closed):
    """A study: one self-contained config file."""

    config_version: Literal[2] = Field(description="version of this file format")
    study: Name = Field(description="name of the study and of its results folder, whatever the name of the file")
    title: str = Field(default="", description="headline of the report")
    seed: int = Field(default=0, ge=0, description="root of every random number of the study")
    seeds: int = Field(default=1, ge=1, description="repeats of training and inference: seed-0, seed-1, ...")
    threads: int = Field(default=1, ge=1, description="CPU threads of training and inference (part of the result)")
    accelerator: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="auto: a GPU where there is one")
    problems: dict[Name, Problem] = Field(min_length=1)
    figures: list[study_figures.Figure] = Field(
        default=[], description="what the report draws beside its tables: one metric against one quantity"
    )

    def family(self, problem: str, family: str) -> Family:
        """A family by name."""
        return self.problems[problem].families[family]

    def seen(self, problem: str) -> list[str]:
        """Names of the families that are trained on, in the order of the file."""
        return [name for name, family in self.problems[problem].families.items() if family.role == "seen"]

    def evaluated(self, problem: str) -> list[str]:
        """Names of the families to infer and evaluate: all with a test split."""
        return self.problems[problem].evaluated

    def infer_families(self, problem: str, method: str, infer: str) -> list[str]:
        """The families on which one inference runs."""
        chosen = self.problems[problem].methods[method].infer[infer].families
        return self.evaluated(problem) if chosen is None else chosen


def family_entries(family: Family, split: str) -> list[list[str]]:
    """The outside files of one split, by entry of `files`."""
    if family.read is None:
        return []
    return [[outside_path(name) for name in names_of(entry)] for entry in family.read.files.get(cast(Split, split), [])]


def family_files(family: Family, split: str) -> list[str]:
    """The outside files of one split."""
    return [name for entry in family_entries(family, split) for name in entry]


def family_models(family: Family, split: str) -> list[str]:
    """The outside files with the truth of one split, where they are files of their own and are read."""
    if family.read is None or family.role == "observed":
        return []
    return [outside_path(name) for name in family.read.model_files(cast(Split, split))]


def parameter_files(problem: Problem, family: Family) -> list[str]:
    """The outside files that a family's truth is made from."""
    return problem.spec.parameter_files(family.params)


def resolve_fallback(problem: Problem, family: Family) -> Family:
    """The family used on this machine: `fallback` where outside files (of `read`, of its parameters) are missing."""
    if family.fallback is None:
        return family
    read = family.read.files if family.read else {}
    files = [name for split in read for name in family_files(family, split) + family_models(family, split)]
    files += parameter_files(problem, family)
    if files and all(Path(name).exists() for name in files):
        return family.model_copy(update={"fallback": None})
    taken: dict[str, Any] = {"read": None, "params": {}, "events": {}, "events_from": family.fallback, "fallback": None}
    taken["own_forward"] = None
    return family.model_copy(update=taken)
