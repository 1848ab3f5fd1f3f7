"""A learned likelihood in a study."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pullback.diffusion.settings import Train
from pullback.networks.settings import check_shapes
from pullback.study.kinds import LikelihoodSpec, Message

if TYPE_CHECKING:
    from pullback.study.model import Problem


class GmmLikelihoodSpec(LikelihoodSpec):
    """Learned p(y|x), independent of the prior: a mixture density network (zuko)."""

    code: ClassVar[str] = "pullback.methods.likelihood:GmmLikelihood"

    components: int = Field(default=2, ge=1, description="Gaussians with full covariance")
    width: int = Field(default=64, ge=1, le=100_000, description="of the hidden layers")
    depth: int = Field(default=3, ge=1, le=1000, description="hidden layers")
    train: Train = Train(learning_rate=3e-3)

    def check_fields(self, x: Any, y: Any) -> None:
        """A density of vectors."""
        from pullback.methods.likelihood import refuse

        refuse(x, y)

    def check(self, problem: "Problem") -> Iterator[Message]:
        """A density of vectors."""
        yield from check_shapes(self, problem)
