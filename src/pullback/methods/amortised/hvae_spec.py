"""The hierarchical variational autoencoder in a study."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pullback.methods.amortised.spec import AmortisedInfer, SetContext
from pullback.networks.settings import Mlp
from pullback.study.base import Name
from pullback.study.kinds import Message

if TYPE_CHECKING:
    from pullback.study.model import Problem


class HvaeSpec(SetContext):
    """Hierarchical variational autoencoder: a latent of the set of observations (size `k`) and one of the event.

    The baseline of the ensemble-inverse paper is not defined there: this is the Neural Statistician (Edwards and
    Storkey 2017), conditioned on y. For x that is a vector.
    """

    code: ClassVar[str] = "pullback.methods.amortised.hvae:Hvae"

    latent: int = Field(default=4, ge=1, le=100_000, description="size of the event's latent")
    network: Mlp = Mlp()
    infer: Mapping[Name, AmortisedInfer] = Field(default={"default": AmortisedInfer()}, min_length=1)

    def check_fields(self, x: Any, y: Any) -> None:
        """For x that is a vector."""
        from pullback.methods.amortised.hvae import refuse

        refuse(x.shape)
        super().check_fields(x, y)

    def check(self, problem: "Problem") -> Iterator[Message]:
        """For x that is a vector."""
        yield from super().check(problem)
        if "x" in (problem.spec.arrays or ()):
            yield (
                f"'hvae' is for x that is a vector, and of problem kind '{problem.kind}' it is an array: use ei-fm "
                "with network unet"
            )
