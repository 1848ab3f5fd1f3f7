"""Methods that carry weighted particles from noise to data by sequential Monte Carlo, in a study."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from pullback.methods.guided.spec import MOST_LEVELS
from pullback.study.base import Capability, Label, Name
from pullback.study.kinds import Infer, Message, MethodSpec

if TYPE_CHECKING:
    from pullback.study.model import Problem


Tempering = Literal["auto", "gaussian", "linear", "none"]
Weights = Literal["auto", "difference", "rate", "path", "none"]


class ParticleInfer(Infer):
    """Particles: their number, levels and resampling."""

    levels: int = Field(default=50, ge=2, le=MOST_LEVELS, description="noise levels (Karras grid, rho = 7), then 0")
    sigma_max: float | None = Field(
        default=None, gt=0, description="first noise level, in units of the scaled x; the prior's when not given"
    )
    particles: int | None = Field(
        default=None,
        ge=2,
        description="particles of each event; `draws` of them, by their weights, are kept. As many as draws, with "
        "their weights, when not given",
    )
    islands: int = Field(
        default=1,
        ge=1,
        description="populations that the particles of an event are divided into, each resampled by itself: draws "
        "of different islands share no ancestor, but each is as far from the posterior as its island's particles leave "
        "it",
    )
    resampler: Literal["multinomial", "stratified", "systematic", "residual"] = "systematic"
    resample_below: float = Field(
        default=0.5, ge=0, le=1, description="share of the particles that are effective below which they are resampled"
    )

    @property
    def population(self) -> int:
        """Particles of each event."""
        return self.particles or self.draws

    @model_validator(mode="after")
    def _several(self) -> "ParticleInfer":
        if self.population < 2:
            raise ValueError(f"weights are relative: at least 2 particles are needed, found {self.population}")
        if self.population % self.islands or self.population < 2 * self.islands:
            raise ValueError(
                f"islands: {self.islands} do not divide {self.population} particles into populations of at least 2: "
                "choose a divisor"
            )
        return self


class ParticleSpec(MethodSpec):
    """Weighted particles on a diffusion prior."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"gradient"})
    returns: ClassVar[Label] = "asymptotic"
    advice: ClassVar[str] = "more `particles` and `levels`"
    misfit_advice: ClassVar[str] = "more `particles` and `levels`, and a prior that knows such truths"

    prior: Name
    reduce: Literal["sample", "highest-weight"] = Field(
        default="sample",
        description="sample: weighted draws; highest-weight: the one particle with the largest weight, a point "
        "estimate (draws: 1)",
    )
    infer: Mapping[Name, ParticleInfer] = Field(default={"default": ParticleInfer()}, min_length=1)

    @property
    def label(self) -> Label:
        """A single particle is a point estimate."""
        return "point estimate" if self.reduce == "highest-weight" else self.returns

    def check(self, problem: "Problem") -> Iterator[Message]:
        """The heaviest particle is one draw. Not a validator: jobs parse a method apart from its inferences."""
        for name, settings in self.infer.items():
            if self.reduce == "highest-weight" and settings.draws != 1:
                yield (
                    f"infer.{name}.draws",
                    f"found {settings.draws}, and reduce: highest-weight gives one: set draws: 1, and particles",
                )
            if settings.sigma_max is None:
                continue
            low, high = prior_levels(problem, self.prior)
            if not low < settings.sigma_max <= high:
                yield (
                    f"infer.{name}.sigma_max",
                    f"found {settings.sigma_max:g}, and the prior '{self.prior}' has levels from {low:g} to {high:g}: "
                    "choose one of these",
                )


def prior_levels(problem: "Problem", name: str) -> tuple[float, float]:
    """Least and largest noise level of a prior of the study; 0 and inf where its block says neither (shared)."""
    prior = problem.priors.get(name)
    return getattr(prior, "sigma_min", 0.0), getattr(prior, "sigma_max", math.inf)


class AfdpsSpec(ParticleSpec):
    """Particles under the likelihood at the noisy state (AFDPS, arXiv 2506.03979), with a free guidance eta."""

    code: ClassVar[str] = "pullback.methods.guided.afdps:Afdps"

    eta: float = Field(
        default=0.5, ge=0, description="guidance by -eta V^2 grad mu; 1/2 has the flattest weights and no Laplacian"
    )
    variant: Literal["sde", "ode"] = Field(default="sde", description="V = G, or V = 0: no noise, no guidance")
    tempering: Tempering = Field(
        default="auto",
        description="likelihood at noise level t. linear: its power 1 - t / sigma_max; none: the full one, from a "
        "start under it (linear problems); gaussian: p(y | x_t) as it is for a Gaussian with the prior's mean and "
        "covariance, with the full one at the end (linear problems); auto: gaussian for linear problems of at most 512 "
        "components, linear for others",
    )
    weights: Weights = Field(
        default="auto",
        description="rate: as published, integrated from its value at the start of a step; difference: the flow's "
        "part as the exact difference of the likelihood; path: ratio of densities of the step without and with "
        "guidance, exact for long steps, no Laplacian at any eta; auto: path with gaussian tempering, else difference; "
        "none: guidance alone, all particles alike (approximate)",
    )
    likelihood: Literal["particle", "tweedie"] = Field(
        default="particle",
        description="particle: at the noisy particle, as AFDPS is defined; tweedie: at the denoised one with a wider "
        "noise, as ports to nonlinear problems do (approximate)",
    )
    inflation: float = Field(
        default=1.0,
        ge=0,
        description="tweedie: the noise's variance is multiplied by 1 + (inflation t)^2",
    )
    corrector_steps: int = Field(default=0, ge=0, description="Langevin steps (ULA) at each next level")
    corrector_size: float = Field(default=0.1, gt=0, description="time of a Langevin step in units of the level^2")

    @property
    def label(self) -> Label:
        """A likelihood at the denoised particle leaves a bias, and so does guidance without weights."""
        biased = self.likelihood == "tweedie" or self.weights == "none"
        return "approximate" if biased and self.reduce == "sample" else super().label

    @model_validator(mode="after")
    def _weighted(self) -> "AfdpsSpec":
        if self.weights == "none" and self.reduce == "highest-weight":
            raise ValueError("weights: none leaves no highest weight: take reduce: sample")
        return self

    @model_validator(mode="after")
    def _used(self) -> "AfdpsSpec":
        unused = {("tempering" if self.likelihood == "tweedie" else "inflation"): f"likelihood: {self.likelihood}"}
        if self.variant == "ode":
            unused["eta"] = "variant: ode, which has no guidance"
        for name, why in unused.items():
            # Not by what was given: a job is given every setting.
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect with {why}; leave it out")
        return self

    def check(self, problem: "Problem") -> Iterator[Message]:
        """Two ways to start need a linear problem."""
        yield from super().check(problem)
        if self.tempering in ("gaussian", "none") and "linear" not in problem.capabilities:
            yield (
                "tempering",
                f"{self.tempering} needs a linear problem, and kind '{problem.kind}' is not: take tempering: linear",
            )


class AfdpsSdeSpec(AfdpsSpec):
    """AFDPS-SDE as published (arXiv 2506.03979, algorithm 2, eq. 3.6): eta = 1, V = G."""

    eta: float = Field(default=1.0, ge=0)
    tempering: Tempering = "linear"
    weights: Weights = "rate"


class AfdpsOdeSpec(AfdpsSpec):
    """AFDPS-ODE as published (arXiv 2506.03979, algorithm 4): V = 0, with Langevin correctors."""

    variant: Literal["sde", "ode"] = "ode"
    tempering: Tempering = "linear"
    weights: Weights = "difference"
    corrector_steps: int = Field(default=2, ge=0)


class FkCorrectorSpec(AfdpsSpec):
    """Unguided particles with Feynman-Kac weights: AFDPS at eta = 0 (arXiv 2506.03979, remark B.8)."""

    eta: float = Field(default=0.0, ge=0)
    tempering: Tempering = "linear"
    weights: Weights = "rate"


class FkcSpec(AfdpsSpec):
    """Feynman-Kac corrector of a reward's tilt (arXiv 2503.02819, proposition D.6): eta = 1/2, weights by the rate."""

    tempering: Tempering = "linear"
    weights: Weights = "rate"


class TdsSpec(ParticleSpec):
    """Twisted diffusion sampler (arXiv 2306.17775): guided by the denoised particle's likelihood, exactly weighted."""

    code: ClassVar[str] = "pullback.methods.guided.tds:Tds"

    inflation: float = Field(
        default=1.0,
        ge=0,
        description="the noise's variance is multiplied by 1 + (inflation t)^2 on the way; 0 as published, whose twist "
        "is too sure at high noise",
    )


class FkSteeringSpec(ParticleSpec):
    """Feynman-Kac steering (arXiv 2501.06848): resampled by differences of the denoised particle's log-likelihood."""

    returns: ClassVar[Label] = "approximate"
    code: ClassVar[str] = "pullback.methods.guided.fk_steering:FkSteering"

    eta: float = Field(
        default=1.0,
        ge=0,
        description="guidance of the steps, which the weights leave out (a bias); 0: steps of the prior alone",
    )
