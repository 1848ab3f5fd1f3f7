"""Diffusion priors in a study: a trained network, the prior of the problem itself, one that another problem has."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from pullback.diffusion.settings import Train
from pullback.networks.settings import Network, Unet, check_networks, check_shapes
from pullback.registry import did_you_mean
from pullback.study.base import Name
from pullback.study.kinds import Message, PriorSpec

if TYPE_CHECKING:
    from pullback.study.model import Problem


class LevelsSpec(PriorSpec):
    """A diffusion prior with a range of noise levels."""

    sigma_min: float = Field(default=0.002, gt=0, description="least positive noise level, in units of the scaled x")
    sigma_max: float = Field(default=80.0, gt=0, description="noise level that sampling starts from")

    @model_validator(mode="after")
    def _range(self) -> "LevelsSpec":
        if not self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min ({self.sigma_min}) must be below sigma_max ({self.sigma_max})")
        return self

    def check(self, problem: "Problem") -> Iterator[Message]:
        """A prior is of x alone."""
        if relative := problem.relative:
            yield (
                f"a prior is of x alone, and networks see {', '.join(relative)} of x of problem kind '{problem.kind}' "
                "relative to y: leave it out, with the methods that use it"
            )


class EdmPriorSpec(LevelsSpec):
    """A diffusion prior with EDM preconditioning (Karras et al. 2022), trained on the truth of the seen families."""

    code: ClassVar[str] = "pullback.methods.guided.edm:EdmPrior"

    network: Network = Unet()
    train: Train = Train()

    def check_fields(self, x: Any, y: Any) -> None:
        """A prior is of x alone."""
        from pullback.methods.guided.priors import refuse

        refuse(x)
        check_networks(self, x.shape, None)

    def check(self, problem: "Problem") -> Iterator[Message]:
        """A network takes arrays or vectors."""
        yield from check_shapes(self, problem)
        yield from super().check(problem)


class ExactPriorSpec(LevelsSpec):
    """The prior of the seen families themselves, where it is a Gaussian or a mixture of Gaussians: no network."""

    code: ClassVar[str] = "pullback.methods.guided.exact_prior:ExactPrior"
    uses_prior_params: ClassVar[bool] = True

    family: Name | None = Field(
        default=None,
        description="the seen family whose prior it is; without it the mixture of all, with equal weights",
    )

    @property
    def single_process_reason(self) -> str:
        """Why only one process can make it."""
        return "it has no network to train"

    def check(self, problem: "Problem") -> Iterator[Message]:
        """The prior of each family that it is made of must have a closed form."""
        yield from super().check(problem)
        seen = [name for name, family in problem.families.items() if family.role == "seen"]
        if self.family is not None and self.family not in seen:
            yield "family", f"'{self.family}' is no seen family{did_you_mean(self.family, seen)}"
            return
        if "mixture-prior" not in problem.capabilities:
            yield (
                f"problem kind '{problem.kind}' gives no prior in closed form (mixture-prior): train one, with kind: "
                "edm"
            )
            return
        for name in seen if self.family is None else [self.family]:
            family = problem.families[name]
            if family.sweep or family.read:
                why = "is a distribution over priors" if family.sweep else "is read from files"
                yield (
                    f"'{name}' {why}, which has no closed form: name another seen family in `family`, or use kind: edm"
                )


class SharedPriorSpec(PriorSpec):
    """The prior of another problem of the study, made once for both: x is the same in them."""

    trains: ClassVar[bool] = False
    reads_events: ClassVar[bool] = False
    # Of the prior that it stands for.
    code: ClassVar[None] = None

    problem: Name = Field(description="the problem whose prior it is")
    prior: Name = Field(description="its name there")

    @property
    def of(self) -> tuple[str, str]:
        """See `PriorSpec`."""
        return self.problem, self.prior
