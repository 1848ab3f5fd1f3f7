"""Methods that a diffusion prior guides, in a study."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, model_validator

from pullback.study.base import Capability, Label, Name
from pullback.study.kinds import Infer, MethodSpec

MOST_LEVELS = 100_000
"""Most noise levels of an inference."""


class DiffusionInfer(Infer):
    """Sampling of a diffusion prior: its probability-flow ODE by Euler steps."""

    levels: int = Field(
        default=20, ge=2, le=MOST_LEVELS, description="noise levels of the ODE (Karras grid, rho = 7), then 0"
    )


class EnkgInfer(DiffusionInfer):
    """Ensemble Kalman diffusion guidance: update rule and schedule. `draws` is the number of particles N."""

    updates: int = Field(default=2, ge=1, description="guidance updates at each guided level")
    guidance: float = Field(
        default=2.0, gt=0, description="Frobenius norm of the update matrix; with rescale_guidance, at N = 2048"
    )
    rescale_guidance: bool = Field(
        default=True, description="keep the mean row norm of the published N = 2048: guidance * sqrt(N / 2048)"
    )
    skip_start: float = Field(default=0.05, ge=0, lt=1, description="fraction of levels without guidance at the start")
    skip_end: float = Field(default=0.05, ge=0, lt=1, description="fraction of levels without guidance at the end")
    inner_steps: int = Field(default=20, ge=1, description="most Euler steps from x_t to x_0 before the simulator")
    inner_divisor: int = Field(default=4, ge=1, description="inner steps are 1 + (levels left) // divisor")

    @property
    def guided_levels(self) -> list[int]:
        """Levels (0 is sigma_max) at which particles are guided; both ends are strict, as in the released code."""
        first, last = self.skip_start * self.levels, (1 - self.skip_end) * self.levels
        return [level for level in range(self.levels) if first < level < last]

    @model_validator(mode="after")
    def _guides(self) -> "EnkgInfer":
        if not self.guided_levels:
            raise ValueError(
                f"skip_start {self.skip_start} and skip_end {self.skip_end} leave none of {self.levels} levels guided"
            )
        if self.draws < 2:
            raise ValueError(f"draws is the number of particles: at least 2 are needed, found {self.draws}")
        return self


class EnkgSpec(MethodSpec):
    """Ensemble Kalman diffusion guidance: a diffusion prior and the simulator as a black box (derivative-free)."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"forward"})
    returns: ClassVar[Label] = "approximate"
    advice: ClassVar[str] = "more particles (`draws`) of EnKG, less `guidance`"
    misfit_advice: ClassVar[str] = "more particles, levels or updates of EnKG, and a prior that knows such truths"
    colour: ClassVar[str] = "#CC79A7"
    code: ClassVar[str] = "pullback.methods.guided.enkg:EnKG"

    prior: Name
    infer: Mapping[Name, EnkgInfer] = Field(default={"default": EnkgInfer()}, min_length=1)


class PriorDrawsSpec(MethodSpec):
    """Unguided draws of the diffusion prior: the baseline of EnKG, independent of y."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"pairs"})
    returns: ClassVar[Label] = "approximate"
    baseline: ClassVar[bool] = True
    code: ClassVar[str] = "pullback.methods.guided.prior_draws:PriorDraws"

    prior: Name
    infer: Mapping[Name, DiffusionInfer] = Field(default={"default": DiffusionInfer()}, min_length=1)
