"""Base types of the study: closed models, names, distributions of parameters, capabilities."""

import glob
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from pullback.registry import did_you_mean

ENDINGS = ("cost", "examples", "h5", "json", "jsonl", "log")
"""Endings of files that results have beside files and folders with a name of the study (`pullback.study.paths`)."""


def _free_name(name: str) -> str:
    """A name that gives no path of another name: methods ``cfm`` and ``cfm.cost``, a family ``preflight.json``."""
    stem, dot, ending = name.rpartition(".")
    if dot and ending in ENDINGS:
        raise ValueError(
            f"the name '{name}' ends in '.{ending}', as files of results do that it would overwrite: write another, "
            f"such as '{stem}_{ending}'"
        )
    return name


Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+.-]*$", max_length=60), AfterValidator(_free_name)
]
"""A study's own name for a family, problem, prior, method or infer block: it becomes a piece of a path."""

Capability = Literal[
    "pairs",
    "prior",
    "forward",
    "signal",
    "likelihood",
    "gradient",
    "linear",
    "log-prior",
    "mixture-prior",
    "exact-posterior",
]
"""What a problem can give: recorded pairs (x, y); draws of x from a prior; F as a black box; F(x) without noise; log
p(y|x); the derivative of F(x) by x; F as a linear operator; the density of a prior; a prior as a mixture of Gaussians;
draws from p(x|y) under the true prior."""

Label = Literal["exact", "asymptotic", "approximate", "point estimate"]
"""What a method's draws are; printed beside every number."""

Group = Literal["methods", "priors", "likelihoods"]
"""What is trained: the key of a problem's block."""

Split = Literal["train", "validation", "test", "reference"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "reference")


OWN_LIKELIHOOD = "exact"
"""What a setting calls the problem's own p(y|x), beside the names of learned ones under ``likelihoods:``."""

JOB_DIGEST_DIGITS = 16


def _blocks(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in the type of a field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _blocks(part)


def _is_by_name(annotation: Any) -> bool:
    """Whether a field holds blocks under names of the study's own."""
    return isinstance(origin := get_origin(annotation), type) and issubclass(origin, Mapping)


class Closed(BaseModel):
    """An immutable model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _name_unknown_keys(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            raise ValidationError.from_exception_data(cls.__name__, [cls._named(e) for e in error.errors()]) from None

    @classmethod
    def _named(cls, error: Any) -> InitErrorDetails:
        """One line error as it was; of an unknown key of this model with the keys that there are."""
        location = tuple(error["loc"])
        if error["type"] == "extra_forbidden" and len(location) == 1:
            known = sorted(cls.model_fields)
            hint = cls._place(str(location[0])) or did_you_mean(str(location[0]), known) or "."
            allowed = f"unknown key{hint} Allowed here: {', '.join(known)}."
            kind: Any = PydanticCustomError("unknown_key", "{text}", {"text": allowed})
        else:
            kind = PydanticCustomError(error["type"], "{text}", {"text": error["msg"], **error.get("ctx", {})})
        return InitErrorDetails(type=kind, loc=location, input=error["input"])

    @classmethod
    def _place(cls, key: str) -> str:
        """The blocks, one level down, that a key belongs into, as a part of a message; nothing where there is none."""
        places = []
        for name, field in cls.model_fields.items():
            if any(key in block.model_fields for block in _blocks(field.annotation)):
                by_name = f" ({name}: {{default: {{{key}: ...}}}})" if _is_by_name(field.annotation) else ""
                places.append(f"`{name}`{by_name}")
        return f"; it belongs into {' or '.join(places)}." if places else ""


class Uniform(Closed):
    """Uniform on one interval, or on a union of intervals of which each is drawn with equal probability."""

    uniform: tuple[float, float] | list[tuple[float, float]] = Field(
        description="[low, high], or a list of such intervals"
    )

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """The intervals as a list, also when there is one."""
        return list(self.uniform) if isinstance(self.uniform, list) else [self.uniform]

    @model_validator(mode="after")
    def _ordered(self) -> "Uniform":
        for low, high in self.intervals:
            if not low < high:
                raise ValueError(f"an interval needs low < high, found [{low}, {high}]")
        return self

    def contains(self, value: float) -> bool:
        """Whether the value lies in the support."""
        return any(low <= value <= high for low, high in self.intervals)

    def sample(self, rng: Any) -> float:
        """One value; ``rng`` is a numpy Generator."""
        low, high = self.intervals[int(rng.integers(len(self.intervals)))]
        return float(rng.uniform(low, high))


def is_distribution(value: Any) -> bool:
    """Whether a plain value of the study is a `Uniform`."""
    return isinstance(value, dict) and "uniform" in value


def draw_parameters(params: dict[str, Any], rng: Any) -> dict[str, Any]:
    """Fixed values for a sweep's distributions, drawn in the order of the names; ``rng`` is a numpy Generator."""
    return {
        name: Uniform.model_validate(value).sample(rng) if is_distribution(value) else value
        for name, value in sorted(params.items())
    }


def numeric_parameters(params: dict[str, Any]) -> list[str]:
    """The names of a sweep's parameters theta: those with a number or a distribution of numbers."""
    return sorted(name for name, value in params.items() if isinstance(value, int | float) or is_distribution(value))


Number = float | Uniform
"""A parameter of a family: a value, or (in a sweep) a distribution of values."""


def ends(number: Number) -> list[float]:
    """The value, or the ends of the intervals that values are drawn from."""
    return [number] if isinstance(number, float) else [end for interval in number.intervals for end in interval]


class Sweep(Closed):
    """A seen family given as a distribution over priors: many ensembles in one file, each with its own parameters."""

    ensembles: int = Field(gt=0, description="ensembles in the train split")
    validation_ensembles: int = Field(default=32, gt=0, description="other ensembles, in the validation split")
    events: int = Field(gt=1, description="events of each ensemble")


def outside_path(name: str) -> str:
    """The path of an outside file: variables expanded; ``$PULLBACK_DATA`` is ``../shared/data`` when not set."""
    return os.path.expandvars(name.replace("$PULLBACK_DATA", os.environ.get("PULLBACK_DATA", "../shared/data")))


def expand_patterns(names: list[Any]) -> list[Any]:
    """Names, or lists of names, with the files that there are in place of each pattern (``*``, ``[0-9]``), sorted.

    Variables stay in the names, as jobs do not depend on where the files are. What no file matches stays as it is.
    """
    found: list[Any] = []
    for name in names:
        if isinstance(name, list):
            found.append(expand_patterns(name))
            continue
        if not isinstance(name, str) or not glob.has_magic(name) or os.path.exists(outside_path(name)):
            found.append(name)
            continue
        head = re.split(r"[*?[]", name, maxsplit=1)[0].rpartition("/")[0] + "/" if "/" in name else ""
        folder = outside_path(head)
        matches = sorted(glob.glob(glob.escape(folder) + name.removeprefix(head), recursive=True))
        found += [head + match.removeprefix(folder) for match in matches] or [name]
    return found


def canonical(value: Any) -> str:
    """One JSON text for one value: sorted keys, no spaces. Rules carry their sub-config as this string."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def job_text(params: Iterable[Any]) -> str:
    """A job's text from the params of its rule, of which each holds a part by name (`workflow_inputs.named`)."""
    return canonical({name: value for part in params if isinstance(part, dict) for name, value in part.items()})


def job_digest(job: str) -> str:
    """The digest of a job's text. Files carry it; jobs name it for each of their inputs (`Plan`)."""
    return hashlib.sha256(job.encode()).hexdigest()[:JOB_DIGEST_DIGITS]
