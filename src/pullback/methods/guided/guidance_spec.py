"""Methods that guide a diffusion prior by an approximation of grad log p(y | z_t), in a study."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from pullback.methods.guided.spec import MOST_LEVELS, DiffusionInfer
from pullback.study.base import Capability, Label, Name
from pullback.study.kinds import Message, MethodSpec, PointInfer

if TYPE_CHECKING:
    from pullback.study.model import Problem


class GuidanceInfer(DiffusionInfer):
    """Sampling with a guided score: levels and the process between them."""

    levels: int = Field(default=200, ge=2, le=MOST_LEVELS, description="noise levels, then 0")
    grid: Literal["karras", "vp"] = Field(
        default="karras",
        description="karras: rho = 7; vp: those of the variance-preserving SDE with linear beta from 0.1 to 20, at "
        "equal steps of its time from 1 to 0.001",
    )
    sampler: Literal["sde", "sde-2", "ode"] = Field(
        default="sde",
        description="sde: the reverse SDE by ancestral steps; sde-2: the same of order 2, from the last two denoised "
        "means (DPM-Solver++); ode: its probability flow by Euler steps",
    )


class DpsInfer(GuidanceInfer):
    """Diffusion posterior sampling: form, strength and range of its step."""

    step: Literal["norm", "likelihood"] = Field(
        default="norm",
        description="norm: as published, down the gradient of |y - F(x0)|, whatever the noise of y is; likelihood: "
        "down that of |y - F(x0)|^2 / (2 sigma_y^2), in the score",
    )
    scale: float = Field(
        default=1.0, gt=0, description="factor of the guidance; of norm published as 0.3 to 1, of likelihood 1"
    )
    jacobian: Literal["full", "identity"] = Field(
        default="full", description="full: through the prior's network; identity: d x0 / d x_t = 1 / alpha"
    )
    guidance_cutoff: float = Field(
        default=0.0, ge=0, lt=1, description="no guidance while alpha = 1 / sqrt(1 + t^2) is below; 0: always guided"
    )

    @model_validator(mode="after")
    def _form(self) -> "DpsInfer":
        if self.step == "norm" and self.sampler != "sde":
            raise ValueError("step: norm is a part of an ancestral step: take sampler: sde, or step: likelihood")
        return self


class TmpdInfer(GuidanceInfer):
    """Tweedie moments: how well the covariance is solved for."""

    iterations: int = Field(
        default=5, ge=1, description="most conjugate-gradient iterations at a level; each takes one network gradient"
    )


class DdrmInfer(PointInfer):
    """Denoising diffusion restoration; the defaults are published."""

    levels: int = Field(default=20, ge=2, le=MOST_LEVELS, description="noise levels, then 0")
    grid: Literal["karras", "vp"] = Field(default="vp", description="as for guided methods")
    eta: float = Field(default=0.85, ge=0, le=1, description="share of new noise where the observation is noisier")
    eta_b: float = Field(default=1.0, ge=0, le=1, description="weight of the observation where it is less noisy")


class _GuidanceSpec(MethodSpec):
    advice: ClassVar[str] = "more `levels`, or a method whose guidance is nearer to the exact one"
    misfit_advice: ClassVar[str] = "more `levels`, and a prior that knows such truths"

    prior: Name
    infer: Mapping[Name, GuidanceInfer] = Field(default={"default": GuidanceInfer()}, min_length=1)


class DpsSpec(_GuidanceSpec):
    """Diffusion posterior sampling (DPS): guided by the likelihood of the denoised state, through the network."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"gradient"})
    returns: ClassVar[Label] = "approximate"
    code: ClassVar[str] = "pullback.methods.guided.dps:Dps"

    infer: Mapping[Name, DpsInfer] = Field(default={"default": DpsInfer()}, min_length=1)


class PigdmSpec(_GuidanceSpec):
    """Pseudo-inverse guidance (PiGDM): x_0 given x_t as a round Gaussian of a fixed width around its mean."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"linear"})
    returns: ClassVar[Label] = "approximate"
    code: ClassVar[str] = "pullback.methods.guided.pigdm:Pigdm"


class TmpdSpec(_GuidanceSpec):
    """Tweedie moments (TMPD, MMPS): x_0 given x_t as a Gaussian with the covariance of the denoiser's Jacobian."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"linear"})
    returns: ClassVar[Label] = "approximate"
    code: ClassVar[str] = "pullback.methods.guided.tmpd:Tmpd"

    infer: Mapping[Name, TmpdInfer] = Field(default={"default": TmpdInfer()}, min_length=1)


class FlatSpec(_GuidanceSpec):
    """Guidance with a flat prior of x_0 given x_t: its mean is x_t / alpha (DMPS; not exact, whatever its name)."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"linear"})
    returns: ClassVar[Label] = "approximate"
    code: ClassVar[str] = "pullback.methods.guided.flat:Flat"


class ExactScoreSpec(_GuidanceSpec):
    """The exact score of the noisy posterior, for linear problems and priors that are Gaussian or mixtures of them."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"linear"})
    returns: ClassVar[Label] = "asymptotic"
    advice: ClassVar[str] = "more `levels`"
    code: ClassVar[str] = "pullback.methods.guided.exact_score:ExactScore"

    def check(self, problem: "Problem") -> Iterator[Message]:
        """Networks have no known posterior."""
        prior = problem.priors.get(self.prior)
        if prior is not None and "network" in type(prior).model_fields:
            yield "prior", f"a prior of kind '{prior.kind}' is a network, of which no exact score is known: kind: exact"


class DdrmSpec(MethodSpec):
    """Denoising diffusion restoration (DDRM): one restored x for a linear observation, no posterior draw."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"linear"})
    returns: ClassVar[Label] = "point estimate"
    misfit_advice: ClassVar[str] = "a prior that knows such truths"
    code: ClassVar[str] = "pullback.methods.guided.ddrm:Ddrm"

    prior: Name
    infer: Mapping[Name, DdrmInfer] = Field(default={"default": DdrmInfer()}, min_length=1)
