"""Base classes of kinds: what the generic code knows of methods, priors, likelihoods, readers and problems.

A method, prior or likelihood is a Spec: a closed pydantic model of its options with class attributes (what it needs,
what it returns) and ``code``, the class that does the work. A reader is a Spec that reads files itself. A problem is
a class: its options are ``Settings``, the parameters of its families ``Params``, and its capabilities are the methods
that it has. `ProblemKind` reads such a class and fills in what it leaves out.
"""

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import (
    BaseModel,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from pullback import registry
from pullback.study.base import (
    Capability,
    Closed,
    Label,
    Name,
    Split,
    Uniform,
    expand_patterns,
    is_distribution,
    outside_path,
)

if TYPE_CHECKING:
    from pullback.study.families import Family
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
    """

    def __init__(self, group: str):
        self.group = group

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validation by the Spec that ``kind`` names."""
        return core_schema.with_info_plain_validator_function(lambda value, info: self._validate(source, value, info))

    def _validate(self, base: type[Closed], value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Closed):
            return value
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
        return {"oneOf": _each_kind(self.group, handler)}


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
    """

    code: ClassVar[Any]

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
    """A diffusion prior, trained on the truth of the seen families."""

    trains: ClassVar[bool] = True


class LikelihoodSpec(KindSpec):
    """A learned p(y|x), trained on pairs of the seen families."""

    trains: ClassVar[bool] = True


class Package(NamedTuple):
    """An optional package: the module that is imported, its name, the extra that installs it, and what it is for."""

    module: str
    name: str
    extra: str
    purpose: str


FileNames = str | Annotated[list[str], Field(min_length=1)]
"""One entry of ``files``: a file, or files that hold one event together."""


def names_of(entry: FileNames) -> list[str]:
    """The files of one entry."""
    return [entry] if isinstance(entry, str) else list(entry)


PLACEHOLDERS = [-99.0, -999.0, -9999.0, -99999.0, -999999.0, 999.0, 9999.0, 99999.0, 999999.0]
"""Numbers that stand for a missing value in many files."""


class ReaderSpec(Closed):
    """Outside files of one format, as a family's block ``read`` names them.

    Attributes:
        records: what an event is read from, which a problem must name in its ``reads``: jets, gathers. ``arrays``: the
            fields x and y as they are, which every problem reads.
        truth: the option without which no truth is read; empty where the files always hold it.
        requires: optional packages that read the format.
        own_forward: whether the problem's forward process is that of such observations where a family does not say so.
        joins_files: whether an entry of ``files`` may be a list of files that hold one event together.
        takes_entries: whether ``open`` reads only the entries of a file that are asked for (`OutsideFile.span`).
        suffixes: endings of the files that ``inspect`` describes.
        NAMED: options that name files or entries, of which a job holds those of its own shard and split.
    """

    records: ClassVar[str] = "arrays"
    truth: ClassVar[str] = ""
    requires: ClassVar[tuple[Package, ...]] = ()
    own_forward: ClassVar[bool] = False
    joins_files: ClassVar[bool] = False
    takes_entries: ClassVar[bool] = False
    suffixes: ClassVar[tuple[str, ...]] = ()
    NAMED: ClassVar[frozenset[str]] = frozenset({"files", "models", "entries"})

    kind: str
    files: dict[Split, Annotated[list[FileNames], Field(min_length=1)]] = Field(
        description="files of each split, relative to the working directory; $PULLBACK_DATA and other variables "
        "expand, and a pattern such as data/*.root stands for the files that there are, by name. Of segy a list in the "
        "list is the files of one event"
    )
    entries: dict[Split, tuple[int | float, int | float]] = Field(
        default={},
        description="[from, to] of the entries of each file that a split reads, as numbers of entries (from counts, to "
        "does not) or, where one of the two has a decimal point, as fractions of the file: [0, 0.8] and [0.8, 1.0]",
    )
    scale: float | Literal["fit"] = Field(
        default=1.0,
        description="factor on y. fit: the factor by which the first pairs agree best with their simulation",
    )
    tolerance: float = Field(
        default=0.02,
        ge=0,
        description="relative misfit ||F(x) - y|| / ||y|| between recorded pairs and their simulation that nothing is "
        "said of, beside that of noise; of vectors relative to the spread of each component",
    )
    invalid: Literal["refuse", "drop"] = Field(
        default="refuse",
        description="what becomes of events with NaN, infinity, a missing value or a placeholder: the file is refused, "
        "or they are left out and counted",
    )
    invalid_fraction: float = Field(
        default=0.1, gt=0, le=1, description="most events of a file that may be left out with `invalid: drop`"
    )
    placeholders: list[float] = Field(
        default=PLACEHOLDERS,
        description="numbers that stand for a missing value, where they lie far outside of a column's other values",
    )

    @model_validator(mode="before")
    @classmethod
    def _files_of_patterns(cls, values: Any) -> Any:
        for option in cls.NAMED & values.keys() if isinstance(values, dict) else ():
            if isinstance(named := values[option], dict):
                expanded = {split: expand_patterns(n) if isinstance(n, list) else n for split, n in named.items()}
                values = {**values, option: expanded}
        return values

    @model_validator(mode="after")
    def _each_entry_once(self) -> "ReaderSpec":
        refuse_entries_twice(self)
        return self

    @property
    def has_truth(self) -> bool:
        """Whether the files hold a truth."""
        return True

    @property
    def columns(self) -> dict[str, str]:
        """Further variables with one value for each event, and their dtypes."""
        return {}

    def model_files(self, split: Split) -> list[str]:
        """The files that hold the truth of a split, where they are others than those with the observations."""
        return []

    def files_per_shard(self, events: int) -> int:
        """Files that one job reads, where a shard has at most so many events."""
        return 1

    def check(self, problem: "Problem") -> Iterator[Message]:
        """Cross-field validation against the problem that it is part of."""
        return iter(())

    def open(self, problem: Any, file: Any) -> AbstractContextManager[Any]:
        """Open one file and compare it with the fields of the problem.

        Args:
            problem: a `pullback.problems.base.Problem`.
            file: a `pullback.readers.base.OutsideFile`.

        Returns:
            A context that gives the file's `pullback.readers.base.Events`.

        Raises:
            ReadError: there, or from a block: whatever is wrong with the file.
            pullback.core.optional.MissingExtraError: a package is not installed.
        """
        raise NotImplementedError

    @classmethod
    def inspect(cls, path: Path) -> Any:
        """What a file holds, a `pullback.readers.base.Inspection`; for kinds with ``suffixes``.

        Raises:
            ReadError: it cannot be read.
        """
        raise NotImplementedError

    def job_digest(self, path: Path) -> str | None:
        """The digest of the job that made a file of this package's own; None of any other."""
        return None


def refuse_entries_twice(reader: ReaderSpec) -> None:
    """Refuse a file that is read twice, but for entries of splits that do not overlap; paths are resolved.

    Raises:
        ValueError: with the file and both splits.
    """
    for split, (start, stop) in reader.entries.items():
        if split not in reader.files:
            raise ValueError(f"`entries` names {split}, of which there are no files")
        if not reader.takes_entries:
            raise ValueError(f"`entries`: files of kind '{reader.kind}' are read as a whole; leave it out")
        if not 0 <= start < stop or (is_fraction((start, stop)) and stop > 1):
            raise ValueError(f"`entries.{split}`: found [{start}, {stop}], wanted 0 <= from < to, of fractions to <= 1")
    seen: dict[str, list[Split]] = {}
    for split, entries in reader.files.items():
        if not reader.joins_files and any(isinstance(entry, list) for entry in entries):
            raise ValueError(
                f"`files.{split}`: a list in the list, wanted files: kind '{reader.kind}' reads each alone"
            )
        for name in (name for entry in entries for name in names_of(entry)):
            path = os.path.realpath(outside_path(name))
            for other in seen.get(path, []):
                if other == split or not _are_apart(reader.entries.get(other), reader.entries.get(split)):
                    where = f"twice in {split}" if other == split else f"in {other} and in {split}"
                    remedy = "name it once" + ("" if other == split else _SPLIT_IT if reader.takes_entries else "")
                    raise ValueError(f"`files`: {name} is {where}: {remedy}")
            seen.setdefault(path, []).append(split)


_SPLIT_IT = ", or give each split entries of its own: entries: {train: [0, 0.8], test: [0.8, 1.0]}"

Span = tuple[int | float, int | float]


def is_fraction(span: Span) -> bool:
    """Whether entries are given as fractions of a file: one of the two has a decimal point."""
    return any(isinstance(end, float) for end in span)


def _are_apart(one: Span | None, other: Span | None) -> bool:
    if one is None or other is None or is_fraction(one) != is_fraction(other):
        return False
    return one[1] <= other[0] or other[1] <= one[0]


class SimulatorSettings(Closed):
    """Options of a problem: exactly what its events depend on."""

    def user_files(self, folder: str) -> list[str]:
        """The user's own files that the events depend on; ``folder`` is that of the study."""
        return []

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


CAPABILITIES: dict[Capability, tuple[str, ...]] = {
    "prior": ("sample_prior",),
    "forward": ("simulate", "apply"),
    "signal": ("apply",),
    "likelihood": ("log_likelihood",),
    "gradient": ("vjp", "linear", "autograd"),
    "linear": ("linear",),
    "log-prior": ("log_prior",),
    "exact-posterior": ("exact_posterior",),
}
"""Capability -> the names in a problem's class that give it, one of which is enough."""


class ProblemKind:
    """Description of a problem's class for the study.

    Args:
        cls: the class.

    Attributes:
        Settings: model of the ``simulator`` block, or None: the block is the keyword arguments of the class.
        Params: model of a family's parameters, or None: they are the user's own.
        arrays: which of x and y are arrays; None where only the problem itself knows.
        periodic: quantities of x that networks see relative to y.
        unlearnable: reason why p(y|x) cannot be learned as a density of vectors; empty where it can.
        resimulates: whether a shift can simulate the truth again with other settings.
        compiles: whether its simulator needs a C compiler.
        reads: what outside records its families may be read from.
        advice: hints of the report where a family's observations are unlike those in training (``outside``), where
            they hold more noise (``noise``), where draws do not explain them (``misfit``), and where they do not
            determine the truth (``undetermined``).
    """

    def __init__(self, cls: Any):
        self.cls = cls
        self.Settings: type[BaseModel] | None = getattr(cls, "Settings", None)
        self.Params: type[Parameters] | None = getattr(cls, "Params", None)
        self.arrays: frozenset[Literal["x", "y"]] | None = getattr(cls, "arrays", None)
        self.periodic: tuple[str, ...] = getattr(cls, "periodic", ())
        self.unlearnable: str = getattr(cls, "unlearnable", "")
        self.resimulates: bool = getattr(cls, "resimulates", True)
        self.compiles: bool = getattr(cls, "compiles", False)
        self.reads: frozenset[str] = frozenset(getattr(cls, "reads", ()))
        self.advice: Mapping[str, str] = getattr(cls, "advice", {})

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the problem gives: recorded pairs, and what it has methods for."""
        has = {name for name, methods in CAPABILITIES.items() if any(hasattr(self.cls, m) for m in methods)}
        return frozenset({"pairs", *has})  # type: ignore[arg-type]

    @property
    def uses_folder(self) -> bool:
        """Whether the class is made with the study's folder beside its settings."""
        return "folder" in inspect.signature(self.cls.__init__).parameters

    def requires(self, settings: Any) -> tuple["Package", ...]:
        """The optional packages that its simulation needs."""
        requires = getattr(self.cls, "requires", None)
        return tuple(requires(settings)) if requires else ()

    def block(self, settings: Any) -> int:
        """Events of one random block."""
        stated: int | None = getattr(settings, "block", None)
        return stated or int(getattr(self.cls, "block", 1000))

    def settings(self, values: dict[str, Any], context: Any = None) -> Any:
        """The ``simulator`` block, checked where the class has a model of it."""
        return self.Settings.model_validate(values, context=context) if self.Settings else values

    def build(self, values: dict[str, Any], folder: Path | str = ".") -> Any:
        """The problem from its ``simulator`` block.

        Raises:
            AttributeError: the class lacks a field of truth or observation.
        """
        more = {"folder": Path(folder)} if self.uses_folder else {}
        problem = self.cls(self.settings(values), **more) if self.Settings else self.cls(**values, **more)
        for needed in ("x", "y"):
            if not hasattr(problem, needed):
                raise AttributeError(
                    f"problem {self.cls.__name__}: the class has no field `{needed}` (pullback.ensembles.fields.Field)"
                )
        problem.block = getattr(problem, "block", None) or 1000
        problem.fail = getattr(problem, "fail", "error")
        return problem

    def user_files(self, settings: Any, folder: str) -> list[str]:
        """The user's own files that the events depend on; ``folder`` is that of the study."""
        return settings.user_files(folder) if isinstance(settings, SimulatorSettings) else []

    def own_files(self, settings: Any) -> ReaderSpec | None:
        """How files are read that the simulator writes (rule `collide`); None where it gives events itself."""
        own_files = getattr(self.cls, "own_files", None)
        return own_files(settings) if own_files else None

    def parameter_files(self, params: dict[str, Any]) -> list[str]:
        """The outside files that a family with these parameters is made from; none where they are not valid."""
        try:
            return self.Params.model_validate(params).user_files() if self.Params else []
        except ValueError:
            return []

    def complete(self, family: "Family") -> "Family":
        """A family with the parameters that follow from its role, where it states none."""
        complete = getattr(self.cls, "complete", None)
        return complete(family) if complete else family

    def split_params(self, problem: "Problem", family: "Family", split: Split) -> dict[str, Any]:
        """The parameters of a family's prior in one split, where its splits are drawn otherwise than alike.

        By the class's static ``split_params(problem, family, split)``, with the problem's block of the study; it opens
        no files. Jobs hold what it gives, and every method with parameters (``sample_prior``) is called with it.
        """
        split_params = getattr(self.cls, "split_params", None)
        return split_params(problem, family, split) if split_params else family.params

    def check(self, problem: "Problem") -> Iterator[Message]:
        """Cross-field validation of the problem's own block."""
        check = getattr(self.cls, "check", None)
        yield from check(problem) if check else ()

    def is_inside(self, params: dict[str, Any], sweep: dict[str, Any]) -> bool:
        """Whether fixed parameters lie inside the support of a sweep's; what one does not give has its default."""
        fields = self.Params.model_fields if self.Params else {}
        defaults = {name: field.default for name, field in fields.items() if not field.is_required()}
        known, trained = (_as_in_a_file(defaults | given) for given in (params, sweep))
        for name, support in trained.items():
            value = known.get(name)
            if is_distribution(support):
                if value is None or not Uniform(**support).contains(float(value)):
                    return False
            elif value != support and (name in sweep or isinstance(support, int | float)):
                return False
        return True


def _as_in_a_file(params: dict[str, Any]) -> dict[str, Any]:
    """Lists in place of tuples, as a default may be one."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in params.items()}


def problem_kind(kind: str, folder: Path | str = ".") -> ProblemKind:
    """The kind of a problem by its name or path."""
    return ProblemKind(registry.load("problems", kind, folder))


def parse(group: str, values: dict[str, Any], folder: Path | str = ".") -> Any:
    """A Spec from plain values with a ``kind``, as they stand in a job."""
    return registry.load(group, values["kind"], folder).model_validate(values)
