"""VelocityGAN in a study."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from pullback.methods.amortised.spec import Amortised
from pullback.networks.settings import ImageNetwork, InversionNet
from pullback.study.base import Label, Name
from pullback.study.kinds import PointInfer


class VelocityGanSpec(Amortised):
    """VelocityGAN (Zhang and Lin 2020): a direct inverse trained against a Wasserstein critic.

    One of `critic_steps` + 1 training steps updates the generator: give it that many times the `steps` of a regression.
    """

    returns: ClassVar[Label] = "point estimate"
    code: ClassVar[str] = "pullback.methods.amortised.velocity_gan:VelocityGan"

    network: ImageNetwork = InversionNet()  # type: ignore[assignment]
    l1: float = Field(default=100.0, ge=0, description="weight of the absolute error, in standard deviations of x")
    l2: float = Field(default=100.0, ge=0, description="weight of the squared error; the critic's score has weight 1")
    critic_steps: int = Field(default=5, ge=1, description="steps of the critic before each of the generator's")
    critic_width: int = Field(default=32, ge=4, le=100_000, description="channels of the critic's first layer")
    infer: Mapping[Name, PointInfer] = Field(default={"default": PointInfer()}, min_length=1)

    @property
    def single_process_reason(self) -> str:
        """Reason why training needs a single process."""
        return "its generator and its critic learn in turns"
