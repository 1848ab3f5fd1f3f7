"""Sourcerer in a study."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pullback.diffusion.settings import Train
from pullback.networks.settings import Mlp
from pullback.study.base import Closed, Label, Name
from pullback.study.kinds import Infer, Message, MethodSpec

if TYPE_CHECKING:
    from pullback.study.model import Problem


class Surrogate(Closed):
    """A conditional spline flow p(y|x) (zuko)."""

    transforms: int = Field(default=3, ge=1, le=100, description="autoregressive transforms")
    bins: int = Field(default=8, ge=2, le=1000, description="of each spline")
    width: int = Field(default=64, ge=1, le=100_000, description="of the hidden layers")
    depth: int = Field(default=2, ge=1, le=1000, description="hidden layers of each transform")


class SourcererInfer(Infer):
    """How one source is fitted to the observations."""

    network: Mlp = Field(default=Mlp(), description="of the sampler")
    steps: int = Field(default=3000, ge=1, description="steps of Adam")
    learning_rate: float = Field(default=3e-3, gt=0, description="at first; half a cosine down to zero")
    batch: int = Field(default=1024, ge=16, description="truths drawn in a step")
    slices: int = Field(default=100, ge=1, description="directions of the sliced distance in a step, of 500")
    entropy: tuple[float, float] = Field(
        default=(0.5, 1e-3),
        description="lam, the weight of the entropy, at first and from the middle of the steps on; 0 leaves it out",
    )
    samples: int = Field(default=10_000, ge=16, description="truths of the unfolded distribution, of each replica")
    replicas: int = Field(
        default=0,
        ge=0,
        description="bootstrap replicas of the observations, by group; a source is fitted to each",
    )
    checkpoint_every: int = Field(default=500, ge=1, description="steps between checkpoints")

    @model_validator(mode="after")
    def _weights(self) -> "SourcererInfer":
        first, last = self.entropy
        if not 0 <= last <= first < 1:
            raise ValueError(f"entropy needs 0 <= last <= first < 1, found {list(self.entropy)}")
        return self


class SourcererSpec(MethodSpec):
    """Sourcerer: the source of most entropy whose push-forward through the forward process matches the observations.

    Vetter et al. 2024 (arXiv 2402.07808). It gives the truth distribution of an ensemble and no posterior of an event.
    """

    code: ClassVar[str] = "pullback.methods.unfolding.sourcerer:Sourcerer"
    returns: ClassVar[Label] = "approximate"
    trains: ClassVar[bool] = True
    needs_seen: ClassVar[bool] = True
    samples: ClassVar[bool] = False
    unfolds: ClassVar[bool] = True
    costly_condition: ClassVar[bool] = True

    simulator: Literal["auto", "learned"] = Field(
        default="auto",
        description="auto: the problem's own signal and noise where it gives a derivative and the covariance of "
        "Gaussian noise, else learned: a conditional flow p(y|x) on the seen pairs",
    )
    surrogate: Surrogate = Surrogate()
    train: Train = Field(default=Train(learning_rate=3e-3), description="of the surrogate")
    infer: Mapping[Name, SourcererInfer] = Field(default={"default": SourcererInfer()}, min_length=1)

    @property
    def single_process_reason(self) -> str:
        """Reason why training needs a single process: it is short."""
        return "its surrogate is a small network"

    def uses_set(self, infer: Infer) -> bool:
        """The source is that of the set."""
        return True

    def check_fields(self, x: Any, y: Any) -> None:
        """For vectors."""
        from pullback.methods.unfolding.sourcerer import refuse

        refuse(x, y)

    def check(self, problem: "Problem") -> Iterator[Message]:
        """For vectors."""
        arrays = sorted(problem.spec.arrays or ())
        if arrays:
            yield (
                f"'sourcerer' is for x and y that are vectors of a few quantities, and of problem kind "
                f"'{problem.kind}' {' and '.join(arrays)} {'is an array' if len(arrays) == 1 else 'are arrays'}: leave "
                "it out, or use an amortised method"
            )
