"""SBUnfold in a study."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from pullback.methods.amortised.spec import AmortisedInfer, ParameterContext
from pullback.study.base import Name


class BridgeInfer(AmortisedInfer):
    """Sampling of a bridge, from the observation to x; one network call a step."""

    steps: int = Field(
        default=200,
        ge=1,
        description="network calls, at most the bridge's steps; n steps lose about 4/n of the variance of draws",
    )


class SbUnfoldSpec(ParameterContext):
    """SBUnfold: a Schroedinger bridge from y to x, conditional on y; one model on the union of the seen priors.

    Diefenbacher et al. 2023 (arXiv 2308.12351), with the observation kept as input (Butter et al. 2024, arXiv
    2411.02495), which makes its draws those of p(x|y).
    """

    code: ClassVar[str] = "pullback.methods.unfolding.sbunfold:SbUnfold"
    advice: ClassVar[str] = "more `steps` of the bridge, or a larger `beta`"

    start: Mapping[str, str] | None = Field(
        default=None,
        description="quantity of x -> quantity of y that it starts from; by default that of the same name. Those of x "
        "that are not named start from noise",
    )
    beta: tuple[float, float] = Field(
        default=(0.1, 0.3),
        description="variance that the noise of the bridge adds in a unit of time, at both ends and in the middle, in "
        "units of the scaled x",
    )
    bridge_steps: int = Field(default=1000, ge=2, description="steps of the bridge's schedule")
    infer: Mapping[Name, BridgeInfer] = Field(default={"default": BridgeInfer()}, min_length=1)

    @model_validator(mode="after")
    def _rates(self) -> "SbUnfoldSpec":
        low, high = self.beta
        if not 0 < low <= high:
            raise ValueError(f"beta needs 0 < ends <= middle, found {list(self.beta)}")
        return self

    def check_fields(self, x: Any, y: Any) -> None:
        """Something of x must start from something of y."""
        from pullback.methods.unfolding.sbunfold import start_columns

        start_columns(x, y, self.start)
        super().check_fields(x, y)
