"""Base classes of kinds: what the generic code knows of methods, priors, likelihoods, readers and problems' options.

A method, prior or likelihood is a Spec: a closed pydantic model of its options with class attributes (what it needs,
what it returns) and ``code``, the class that does the work. A reader is a Spec that reads files itself
(`pullback.study.reader_spec`). A problem is a class of its own (`pullback.study.problem_kind`), made of
`SimulatorSettings` and `Parameters`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, ValidationInfo
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from pullback import registry
from pullback.study.base import Capability, Closed, Label, Name

if TYPE_CHECKING:
    from pullback.study.model import Problem

Message = str | tuple[str, str]
"""What is wrong with a block of the study: a sentence, or the key below the block (``train.steps``) and a sentence."""


def folder_of(info: ValidationInfo) -> str:
    """The folder of the study that is validated."""
    return (info.context or {}).get("folder", ".")


def load_kind(group: str, kind: Any, info: ValidationInfo) -> Any:
    """The Spec of a kind from the registry, or an error that lists the known kinds."""
    try:
        return registry.load(group, str(kind), folder_of(info))
    except registry.KindError as error:
        known = ", ".join(registry.kinds(group))
        raise PydanticCustomError("kind", "{text}", {"text": f"{error}; allowed: {known}"}) from None


def _each_kind(group: str, handler: GetJsonSchemaHandler) -> list[dict[str, Any]]:
    """A schema for each known kind of a group, and one for kinds given by path."""
    known = registry.kinds(group)
    each: list[dict[str, Any]] = [
        {
            "allOf": [handler(registry.load(group, kind).__pydantic_core_schema__)],
            "properties": {"kind": {"const": kind}},
            "required": ["kind"],
        }
        for kind in known
    ]
    outside = {"type": "string", "not": {"enum": list(known)}}
    return [*each, {"type": "object", "properties": {"kind": outside}, "required": ["kind"]}]


class Kind:
    """The type of a block whose ``kind`` says which Spec of the registry it is.

    Args:
        group: of the registry.
        by_name: whether a name alone stands for a block with nothing but this ``kind``.
    """

    def __init__(self, group: str, by_name: bool = False):
        self.group, self.by_name = group, by_name

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validation by the Spec that ``kind`` names."""
        return core_schema.with_info_plain_validator_function(lambda value, info: self._validate(source, value, info))

    def _validate(self, base: type[Closed], value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Closed):
            return value
        if self.by_name and isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, dict):
            raise PydanticCustomError("kind", "wanted a block with a `kind`")
        try:
            if "kind" not in value:
                known = ", ".join(registry.kinds(self.group))
                text = f"this key is needed and is not there; allowed: {known}"
                raise PydanticCustomError("missing_kind", "{text}", {"text": text})
            spec = load_kind(self.group, value["kind"], info)
            if not (isinstance(spec, type) and issubclass(spec, base)):
                text = f"wanted a class made from {base.__module__}.{base.__name__}, found {spec!r}"
                raise PydanticCustomError("kind", "{text}", {"text": text})
        except PydanticCustomError as error:
            line = InitErrorDetails(type=error, loc=("kind",), input=value)
            raise ValidationError.from_exception_data(self.group, [line]) from None
        return spec.model_validate(value, context=info.context)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """One schema for each kind, and one for kinds from outside."""
        return {"oneOf": _each_kind(self.group, handler) + ([{"type": "string"}] if self.by_name else [])}


class Infer(Closed):
    """Settings of one inference that every method has."""

    draws: int = Field(default=32, ge=1, description="posterior draws of each event")
    max_events: int | None = Field(default=None, ge=1, description="the first events only; n is printed")
    set_size: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        default="all",
        description="observations in a conditioning set: all of the ensemble, or disjoint, even blocks of at most n",
    )
    families: list[Name] | None = Field(default=None, description="only these families; every one when not given")
    parts: int = Field(default=1, ge=1, description="pieces (jobs) that one family's events are cut into")

    sampling_only: ClassVar[frozenset[str]] = frozenset()
    """Settings that no conditioning depends on: an edit of them leaves the state."""

    @property
    def costly_condition(self) -> bool:
        """Whether these settings make conditioning a separate job."""
        return False

    @property
    def learned_likelihood(self) -> str | None:
        """The name under `likelihoods:` that this inference uses, if it uses one."""
        return None

    @property
    def uses_likelihood(self) -> bool:
        """Whether the problem's own likelihood is used."""
        return False

    def check(self, problem: "Problem") -> Iterator[Message]:
        """Cross-field validation against the problem that it is part of."""
        return iter(())

    @property
    def modules(self) -> tuple[str, ...]:
        """Further code that this inference runs, as ``"module:Class"``."""
        return ()

    def wrap(self, method: Any, likelihood: Path | None) -> Any:
        """The method to run: the loaded one, or a wrapper around it."""
        return method


class PointInfer(Infer):
    """A point estimate is one draw."""

    draws: Literal[1] = 1


class KindSpec(Closed):
    """A method, prior or likelihood in a study.

    Attributes:
        code: the class that does the work, made of (spec, problem, context): ``"module:Class"``, imported when a job
            needs it, or the class itself.
        reads_events: whether its training reads the events of the seen families.
    """

    code: ClassVar[Any]
    reads_events: ClassVar[bool] = True

    kind: str

    def build(self, problem: Any, context: Any, *settings: "Infer") -> Any:
        """Construct the method, prior or likelihood; ``settings`` are those of the inference, where there is one."""
        made = registry.load_object(self.code) if isinstance(self.code, str) else self.code
        return made(self, problem, context, *settings)

    def check(self, problem: "Problem") -> Iterator[Message]:
        """Cross-field validation against the problem that it is part of."""
        return iter(())

    def check_fields(self, x: Any, y: Any) -> None:
        """Raise ValueError where it cannot learn truths or observations of these fields."""

    @property
    def memory_mb(self) -> int:
        """Limit in megabytes for holding the training events in memory; larger data are read on demand."""
        return int(getattr(getattr(self, "train", None), "memory_mb", 2000))

    @property
    def left_out(self) -> frozenset[str]:
        """Seen families that it is not trained on."""
        return frozenset(getattr(getattr(self, "train", None), "leave_out", ()))

    @property
    def single_process_reason(self) -> str:
        """Reason why training needs a single process; empty where several can share it."""
        return ""


class MethodSpec(KindSpec):
    """A method: what it needs of a problem, what its draws are, and the settings of its inferences.

    Attributes:
        needs: capabilities that the problem must have.
        needs_either: one of these is enough, the first that the problem has.
        returns: what the draws are.
        trains: whether it has an artifact of its own.
        reads_seen: whether inference reads the seen pairs directly, without a training.
        needs_seen: whether there must be seen families.
        uses_true_prior: whether it uses the true prior: shown in the report but not ranked.
        baseline: whether its draws are independent of the observation.
        advice: what to change where its intervals are too narrow.
        misfit_advice: what to change where its draws do not explain their observations.
        colour: in figures, #RRGGBB; the next free one when empty.
        samples: whether it yields posterior samples (rule `infer`).
        unfolds: whether it yields the truth distribution of an ensemble (rule `unfold`).
        costly_condition: whether conditioning is a separate job, whose state all parts of an inference read (rule
            `condition`).
    """

    needs: ClassVar[frozenset[Capability]] = frozenset({"pairs"})
    needs_either: ClassVar[tuple[Capability, ...]] = ()
    returns: ClassVar[Label]
    trains: ClassVar[bool] = False
    reads_seen: ClassVar[bool] = False
    needs_seen: ClassVar[bool] = False
    uses_true_prior: ClassVar[bool] = False
    baseline: ClassVar[bool] = False
    advice: ClassVar[str] = ""
    misfit_advice: ClassVar[str] = "more training steps and events, or a larger network"
    colour: ClassVar[str] = ""
    samples: ClassVar[bool] = True
    unfolds: ClassVar[bool] = False
    costly_condition: ClassVar[bool] = False

    infer: Mapping[Name, Infer] = Field(default={"default": Infer()}, min_length=1)

    @property
    def label(self) -> Label:
        """What the draws are with these options: ``returns``, where no option changes it."""
        return self.returns

    @property
    def uses_prior_params(self) -> bool:
        """Whether the method is given the true parameters of the family's prior."""
        return False

    @property
    def prior_name(self) -> str | None:
        """The name under `priors:` of the diffusion prior that it is guided by."""
        return getattr(self, "prior", None)

    def uses_set(self, infer: Infer) -> bool:
        """Whether the draws depend on the set of observations that y is a member of."""
        return False

    def uses_reference(self, capabilities: frozenset[str]) -> bool:
        """Whether the family's reference split is used as a sample of its prior."""
        return "likelihood" in self.needs_either and "exact-posterior" not in capabilities

    @classmethod
    def infer_settings(cls, values: dict[str, Any]) -> Infer:
        """The settings of one inference from plain values."""
        blocks: Any = cls.model_fields["infer"].annotation
        settings: Infer = blocks.__args__[1].model_validate(values)
        return settings


class PriorSpec(KindSpec):
    """A diffusion prior: an artifact that its ``code`` makes, as a rule by training on the truth of the seen families.

    Attributes:
        uses_prior_params: whether it is given the parameters of the seen families' priors.
    """

    trains: ClassVar[bool] = True
    uses_prior_params: ClassVar[bool] = False

    @property
    def of(self) -> tuple[str, str] | None:
        """The problem and the name of another problem's prior that this one stands for."""
        return None


class LikelihoodSpec(KindSpec):
    """A learned p(y|x), trained on pairs of the seen families."""

    trains: ClassVar[bool] = True


class Package(NamedTuple):
    """An optional package: the module that is imported, its name, the extra that installs it, and what it is for."""

    module: str
    name: str
    extra: str
    purpose: str


class SimulatorSettings(Closed):
    """Options of a problem: exactly what its events depend on."""

    def user_files(self, folder: str) -> list[str]:
        """The user's own files that the events depend on; ``folder`` is that of the study."""
        return []

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """The kinds of the registry that make the events, as group and name: jobs follow their code."""
        return ()

    @property
    def of_files(self) -> "SimulatorSettings":
        """The options that files of a simulator depend on (rule `collide`), where events are read from such files."""
        return self

    @property
    def unused(self) -> dict[str, str]:
        """Options that have no effect beside the others -> why."""
        return {}


class Parameters(Closed):
    """Parameters of a problem's prior."""

    def user_files(self) -> list[str]:
        """The outside files that a family with these parameters is made from."""
        return []


class Review(NamedTuple):
    """Checks of a simulator's settings without a simulation: warnings, and a one-line summary."""

    warnings: list[str]
    summary: str


def parse(group: str, values: dict[str, Any], folder: Path | str = ".") -> Any:
    """A Spec from plain values with a ``kind``, as they stand in a job."""
    return registry.load(group, values["kind"], folder).model_validate(values)
