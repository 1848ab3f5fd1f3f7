"""A problem's class as the study sees it.

A problem is a class: its options are ``Settings``, the parameters of its families ``Params``, and its capabilities are
the methods that it has, without those that its settings take away. `ProblemKind` reads such a class and fills in what
it leaves out.
"""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from pullback import registry
from pullback.study.base import Capability, Split, Uniform, is_distribution
from pullback.study.kinds import Message, Package, Parameters, SimulatorSettings

if TYPE_CHECKING:
    from pullback.study.families import Family
    from pullback.study.model import Problem
    from pullback.study.reader_spec import ReaderSpec

CAPABILITIES: dict[Capability, tuple[str, ...]] = {
    "prior": ("sample_prior",),
    "forward": ("simulate", "apply"),
    "signal": ("apply",),
    "likelihood": ("log_likelihood",),
    "gradient": ("vjp", "linear", "autograd"),
    "linear": ("linear",),
    "log-prior": ("log_prior",),
    "mixture-prior": ("mixture_prior",),
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
        self.unlearnable: str = getattr(cls, "unlearnable", "")
        self.resimulates: bool = getattr(cls, "resimulates", True)
        self.compiles: bool = getattr(cls, "compiles", False)
        self.reads: frozenset[str] = frozenset(getattr(cls, "reads", ()))
        self.advice: Mapping[str, str] = getattr(cls, "advice", {})

    def capabilities(self, settings: Any = None) -> frozenset[Capability]:
        """What the problem gives: recorded pairs, and what it has methods for; with settings, what they leave."""
        has = {name for name, methods in CAPABILITIES.items() if any(hasattr(self.cls, m) for m in methods)}
        return frozenset({"pairs", *has} - set(self.without(settings)))  # type: ignore[arg-type]

    def without(self, settings: Any) -> Mapping[Capability, str]:
        """Capabilities of the class that these settings take away, and why.

        By the class's static ``without(settings)``; an instance then lacks the methods too.
        """
        without = getattr(self.cls, "without", None)
        return without(settings) if without and settings is not None else {}

    def relative(self, settings: Any) -> tuple[str, ...]:
        """The quantities of x that networks see relative to y, by the class's ``relative``.

        That is a tuple, or a static method of the settings.
        """
        relative = getattr(self.cls, "relative", ())
        return tuple(relative(settings) if callable(relative) else relative)

    @property
    def takes_folder(self) -> bool:
        """Whether the class is made with the study's folder beside its settings."""
        return "folder" in inspect.signature(self.cls.__init__).parameters

    def uses_folder(self, settings: Any) -> bool:
        """Whether a job needs the study's folder: the class takes it, or a part of the settings is named by path."""
        return self.takes_folder or any(registry.is_path(kind) for _, kind in self.parts(settings))

    def parts(self, settings: Any) -> tuple[tuple[str, str], ...]:
        """The kinds that make the events, as group and name."""
        return settings.parts if isinstance(settings, SimulatorSettings) else ()

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
        more = {"folder": Path(folder)} if self.takes_folder else {}
        settings = self.settings(values, {"folder": str(folder)})
        problem = self.cls(settings, **more) if self.Settings else self.cls(**values, **more)
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

    def own_files(self, settings: Any) -> "ReaderSpec | None":
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
