"""The catalogue of methods and priors: for each kind its options, what it needs, what it returns, where its code is.

A new kind is one class here and one file in ``pullback.methods``.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pullback.study.base import Capability, Closed, Label, Name


class Mlp(Closed):
    """Residual multilayer perceptron, for x and y that are vectors."""

    kind: Literal["mlp"] = "mlp"
    width: int = Field(default=64, ge=1)
    depth: int = Field(default=4, ge=1, description="hidden blocks")


class Unet(Closed):
    """U-Net for x on a 2-D grid; y (gathers or an image) enters through a convolutional encoder."""

    kind: Literal["unet"] = "unet"
    width: int = Field(default=24, ge=4, description="channels at full resolution; doubled at each level")
    levels: int = Field(default=3, ge=1, le=5)


Network = Annotated[Mlp | Unet, Field(discriminator="kind")]


class SetEncoder(Closed):
    """Set Transformer (Lee et al. 2019): ISAB layers, pooling by attention, SAB layers."""

    hidden: int = Field(default=32, ge=4)
    heads: int = Field(default=4, ge=1)
    inducing: int = Field(default=16, ge=1)
    layers: int = Field(default=1, ge=1, description="ISAB layers before pooling")

    @model_validator(mode="after")
    def _divides(self) -> "SetEncoder":
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self


class Train(Closed):
    """The default training loop."""

    steps: int = Field(default=3000, ge=1)
    learning_rate: float = Field(
        default=1e-3, gt=0, description="peak of a cosine schedule with a short warm-up (Adam)"
    )
    sets: int = Field(default=8, ge=1, description="ensembles in one step")
    set_size: tuple[int, int] = Field(
        default=(128, 512), description="least and most observations of a set; drawn for each step, log-uniformly"
    )
    targets: int | None = Field(
        default=None, ge=1, description="members of each set that are targets in the loss; all when not given"
    )
    ema: float = Field(default=0.999, ge=0, lt=1, description="decay of the average of the weights that is kept")
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    precision: Literal["auto", "float32"] = Field(
        default="auto", description="auto: bfloat16 on a GPU, float32 elsewhere"
    )
    validate_every: int = Field(default=500, ge=1, description="steps between validations on held-out ensembles")
    checkpoint_every: int = Field(default=500, ge=1, description="steps between checkpoints")
    memory_mb: int = Field(default=2000, ge=1, description="keep the data in memory below this size, else read windows")

    @model_validator(mode="after")
    def _sizes(self) -> "Train":
        low, high = self.set_size
        if not 1 <= low <= high:
            raise ValueError(f"set_size needs 1 <= least <= most, found {list(self.set_size)}")
        return self


class Infer(Closed):
    """Settings of one inference that every method has."""

    draws: int = Field(default=32, ge=1, description="posterior draws of each event")
    max_events: int | None = Field(default=None, ge=1, description="the first events only; n is printed")
    set_size: Literal["whole"] | int = Field(
        default="whole", description="observations in a conditioning set: the whole ensemble, or disjoint blocks of n"
    )
    families: list[Name] | None = Field(default=None, description="only these families; every one when not given")
    parts: int = Field(default=1, ge=1, description="pieces (jobs) that one family's events are cut into")


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
    """Settings of one inference of an amortised method."""

    refine: Refine | None = Field(default=None, description="fit the prior to the set that is answered")


class FlowInfer(AmortisedInfer):
    """Sampling of a flow: an ODE from noise (t = 0) to x (t = 1)."""

    solver: Literal["euler", "midpoint", "heun"] = "midpoint"
    steps: int = Field(default=4, ge=1, description="equal steps; midpoint and heun call the network twice a step")


class ExactInfer(Infer):
    """Exact posterior draws by importance resampling from a pool of prior draws."""

    pool: int = Field(default=20_000, ge=100, description="prior draws that are resampled")


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


class MethodBase(Closed):
    """What every kind of method has."""

    needs: ClassVar[frozenset[Capability]]
    returns: ClassVar[Label]
    trains: ClassVar[bool] = False
    uses_prior: ClassVar[bool] = False
    gives: ClassVar[frozenset[Literal["posterior", "unfolded"]]] = frozenset({"posterior"})
    code: ClassVar[str]


class FlowMethod(MethodBase):
    """A flow-matching model of p(x | y, context)."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"pairs"})
    returns: ClassVar[Label] = "approximate"
    trains: ClassVar[bool] = True
    code: ClassVar[str] = "pullback.methods.amortised.flow:FlowModel"

    network: Network = Mlp()
    train: Train = Train()
    infer: dict[Name, FlowInfer] = Field(default={"default": FlowInfer()}, min_length=1)


class Cfm(FlowMethod):
    """Conditional flow matching: q(x | y), one model on the union of the seen priors."""

    kind: Literal["cfm"]


class EiFm(FlowMethod):
    """Ensemble-inverse flow matching: q(x | y, e(Y)), e a permutation-invariant embedding of the observations."""

    kind: Literal["ei-fm"]
    k: int = Field(default=8, ge=1, description="size of the embedding of the set")
    set_encoder: SetEncoder = SetEncoder()


class Oracle(MethodBase):
    """The posterior under the true prior, where the problem gives it (exact as `pool` grows): the best one can do."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"exact-posterior"})
    returns: ClassVar[Label] = "asymptotic"
    code: ClassVar[str] = "pullback.methods.classical.oracle:Oracle"

    kind: Literal["oracle"]
    infer: dict[Name, ExactInfer] = Field(default={"default": ExactInfer()}, min_length=1)


class RandomTruth(MethodBase):
    """Answers every observation with truths drawn at random from the seen families: the least a method must beat."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"pairs"})
    returns: ClassVar[Label] = "approximate"
    code: ClassVar[str] = "pullback.methods.classical.random_truth:RandomTruth"

    kind: Literal["random-truth"]
    infer: dict[Name, Infer] = Field(default={"default": Infer()}, min_length=1)


class EnKG(MethodBase):
    """Ensemble Kalman diffusion guidance: a diffusion prior and the simulator as a black box, no derivative of it."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"forward"})
    returns: ClassVar[Label] = "approximate"
    uses_prior: ClassVar[bool] = True
    code: ClassVar[str] = "pullback.methods.guided.enkg:EnKG"

    kind: Literal["enkg"]
    prior: Name
    infer: dict[Name, EnkgInfer] = Field(default={"default": EnkgInfer()}, min_length=1)


class PriorDraws(MethodBase):
    """Unguided draws of the diffusion prior: what EnKG would answer without looking at the observation."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"pairs"})
    returns: ClassVar[Label] = "approximate"
    uses_prior: ClassVar[bool] = True
    code: ClassVar[str] = "pullback.methods.guided.prior_draws:PriorDraws"

    kind: Literal["prior-draws"]
    prior: Name
    infer: dict[Name, DiffusionInfer] = Field(default={"default": DiffusionInfer()}, min_length=1)


Method = Annotated[Cfm | EiFm | Oracle | RandomTruth | EnKG | PriorDraws, Field(discriminator="kind")]


class EdmPrior(Closed):
    """A diffusion prior with EDM preconditioning (Karras et al. 2022), trained on the truth of the seen families."""

    trains: ClassVar[bool] = True
    code: ClassVar[str] = "pullback.methods.guided.edm:EdmPrior"

    kind: Literal["edm"]
    network: Network = Unet()
    sigma_min: float = Field(default=0.002, gt=0, description="in units of the scaled x")
    sigma_max: float = Field(default=80.0, gt=0)
    train: Train = Train()

    @model_validator(mode="after")
    def _range(self) -> "EdmPrior":
        if not self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min ({self.sigma_min}) must be below sigma_max ({self.sigma_max})")
        return self


Prior = EdmPrior


class GmmLikelihood(Closed):
    """A learned p(y|x), which no prior changes: a mixture of Gaussians whose parameters are a network of x (zuko)."""

    trains: ClassVar[bool] = True
    code: ClassVar[str] = "pullback.methods.likelihood:GmmLikelihood"

    kind: Literal["gmm"]
    components: int = Field(default=2, ge=1, description="Gaussians with full covariance")
    width: int = Field(default=64, ge=1, description="of the hidden layers")
    depth: int = Field(default=3, ge=1, description="hidden layers")
    train: Train = Train(learning_rate=3e-3)


Likelihood = GmmLikelihood
