"""How observations are answered: the settings of one entry of `infer`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pullback.study.base import Closed, Name


class Infer(Closed):
    """Settings of one inference that every method has."""

    draws: int = Field(default=32, ge=1, description="posterior draws of each event")
    max_events: int | None = Field(default=None, ge=1, description="the first events only; n is printed")
    set_size: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        default="all", description="observations in a conditioning set: the whole ensemble, or disjoint blocks of n"
    )
    families: list[Name] | None = Field(default=None, description="only these families; every one when not given")
    parts: int = Field(default=1, ge=1, description="pieces (jobs) that one family's events are cut into")

    sampling_only: ClassVar[frozenset[str]] = frozenset()
    """Settings that no conditioning depends on: an edit of them leaves the state."""

    @property
    def costly_condition(self) -> bool:
        """Whether these settings make conditioning a job of its own."""
        return False


class Refine(Closed):
    """Refinement outside the training priors, by expectation maximisation on the set that is answered.

    The draws of the method are particles of a prior; their weights are fitted to the set, and draws are made anew.
    """

    code: ClassVar[str] = "pullback.methods.refine:Refined"

    likelihood: Name = Field(
        default="exact", description="p(y|x): exact, the problem's own, or the name of one under `likelihoods:`"
    )
    particles: int = Field(default=8000, ge=100, description="draws of the method that carry the prior")
    members: int = Field(
        default=8000, ge=10, description="most observations of a set that the prior is fitted to, chosen at random"
    )
    most_iterations: int = Field(
        default=50, ge=1, description="most iterations of a round; how many is chosen by members that are held out"
    )
    holdout: float = Field(default=0.2, gt=0, lt=1, description="fraction of the members that is held out")
    rounds: int = Field(
        default=3, ge=1, description="most rounds; particles are resampled and jittered between two of them"
    )
    jitter: float = Field(
        default=1.0,
        ge=0,
        description="width of the kernel that moves resampled particles and draws, in units of the "
        "normal reference rule; covariances are kept, 0 moves nothing",
    )


class AmortisedInfer(Infer):
    """What every model of draws p(x | y, context) has beside its sampler."""

    refine: Refine | None = Field(default=None, description="fit the prior to the set that is answered")
    bootstrap: int = Field(
        default=0,
        ge=0,
        description="resamples of the conditioning set, by group; draw j uses the embedding of resample j modulo this "
        "number, so that draws show how uncertain the embedding is. 0: the set itself",
    )
    duplicate_to: int | None = Field(
        default=None,
        ge=1,
        description="reproduction of the paper: a smaller set is repeated up to this size, the last copy cut. It adds "
        "no information",
    )

    sampling_only: ClassVar[frozenset[str]] = frozenset({"draws"})

    @property
    def costly_condition(self) -> bool:
        """Refinement fits its prior once for all parts."""
        return self.refine is not None


class FlowInfer(AmortisedInfer):
    """Sampling of a flow: an ODE from noise (t = 0) to x (t = 1)."""

    solver: Literal["euler", "midpoint", "heun", "dopri5"] = "midpoint"
    steps: int = Field(
        default=4,
        ge=1,
        description="equal steps; midpoint and heun call the network twice a step; dopri5 chooses its own",
    )
    tolerance: float = Field(default=1e-3, gt=0, description="of dopri5, in units of the scaled x")


class DdpmInfer(AmortisedInfer):
    """Sampling of a DDPM, from t = T to 0; one network call a step."""

    sampler: Literal["ddim", "ancestral"] = "ddim"
    steps: int = Field(default=50, ge=1, description="network calls, at most the schedule's steps")


class PointInfer(Infer):
    """A point estimate is one draw."""

    draws: Literal[1] = 1


class LbfgsInfer(PointInfer):
    """Descent of the waveform misfit by L-BFGS-B, band after band."""

    lowpass_hz: list[Annotated[float, Field(gt=0)] | None] = Field(
        default=[2.0, 3.0, 5.0, 8.0, 14.0],
        min_length=1,
        description="Hz: corner of the low-pass filter of each band, the first as low as the data go; null: no filter",
    )
    iterations: int = Field(default=40, ge=1, description="most iterations of each band")
    start: tuple[float, float] | None = Field(
        default=None,
        description="x at the top and at the bottom of a straight line to start from; when not given, the mean profile "
        "with depth of the seen families' truths",
    )
    scan: int = Field(
        default=5,
        ge=0,
        description="values of x, evenly between its bounds: a descent begins with the straight line between two of "
        "them (top, bottom) where one fits the first band better than `start`; 0: never",
    )
    smooth: float = Field(default=0.1, ge=0, description="smoothing of that profile: standard deviation over the depth")
    tv: float = Field(
        default=0.005, ge=0, description="weight of the total variation of x in units of its bounds' width"
    )
    tikhonov: float = Field(default=0.0, ge=0, description="weight of its squared gradient")


class ExactInfer(Infer):
    """Exact posterior draws, each chosen by weight from a pool of candidates."""

    pool: int = Field(
        default=64,
        ge=8,
        description="weighted candidates that each draw is chosen from; a reference is used whole",
    )


class DiffusionInfer(Infer):
    """Sampling of a diffusion prior: its probability-flow ODE by Euler steps."""

    levels: int = Field(default=20, ge=2, description="noise levels of the ODE (Karras grid, rho = 7), then 0")


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
