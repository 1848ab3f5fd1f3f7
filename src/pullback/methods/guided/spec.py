"""Diffusion priors and the methods that they guide, in a study."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from pullback.diffusion.settings import Train
from pullback.networks.settings import Network, Unet, check_networks, check_shapes
from pullback.study.base import Capability, Label, Name
from pullback.study.kinds import Infer, Message, MethodSpec, PriorSpec

if TYPE_CHECKING:
    from pullback.study.model import Problem


class DiffusionInfer(Infer):
    """Sampling of a diffusion prior: its probability-flow ODE by Euler steps."""

    levels: int = Field(
        default=20, ge=2, le=100_000, description="noise levels of the ODE (Karras grid, rho = 7), then 0"
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


class SharedPriorSpec(PriorSpec):
    """The prior of another problem of the study, which is trained once for both: x is the same in them."""

    trains: ClassVar[bool] = False
    code: ClassVar[str] = "pullback.methods.guided.edm:EdmPrior"

    problem: Name = Field(description="the problem whose prior it is")
    prior: Name = Field(description="its name there")

    @property
    def of(self) -> tuple[str, str]:
        """See `PriorSpec`."""
        return self.problem, self.prior


class EdmPriorSpec(PriorSpec):
    """A diffusion prior with EDM preconditioning (Karras et al. 2022), trained on the truth of the seen families."""

    code: ClassVar[str] = "pullback.methods.guided.edm:EdmPrior"

    network: Network = Unet()
    sigma_min: float = Field(default=0.002, gt=0, description="in units of the scaled x")
    sigma_max: float = Field(default=80.0, gt=0)
    train: Train = Train()

    @model_validator(mode="after")
    def _range(self) -> "EdmPriorSpec":
        if not self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min ({self.sigma_min}) must be below sigma_max ({self.sigma_max})")
        return self

    def check_fields(self, x: Any, y: Any) -> None:
        """A prior is of x alone."""
        from pullback.methods.guided.edm import refuse

        refuse(x)
        check_networks(self, x.shape, None)

    def check(self, problem: "Problem") -> Iterator[Message]:
        """A prior is of x alone."""
        yield from check_shapes(self, problem)
        if periodic := problem.periodic:
            yield (
                f"a prior is of x alone, and networks see {', '.join(periodic)} of x of problem kind '{problem.kind}' "
                "relative to y: leave it out, with the methods that use it"
            )
