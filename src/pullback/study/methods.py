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


class SetTransformer(Closed):
    """Set Transformer (Lee et al. 2019): ISAB layers, pooling by attention, SAB."""

    kind: Literal["set-transformer"] = "set-transformer"
    hidden: int = Field(default=32, ge=4)
    heads: int = Field(default=4, ge=1)
    inducing: int = Field(default=16, ge=1)
    layers: int = Field(default=1, ge=1, description="ISAB layers before pooling")
    size_input: bool = Field(default=True, description="tell the encoder the log of the set's size")

    @model_validator(mode="after")
    def _divides(self) -> "SetTransformer":
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self


class DeepSets(Closed):
    """Mean over encoded observations, then a perceptron (Zaheer et al. 2017)."""

    kind: Literal["deep-sets"]
    hidden: int = Field(default=64, ge=1)
    size_input: bool = Field(default=True, description="tell the encoder the log of the set's size")


class Moments(Closed):
    """Moments of the observations through a perceptron: with a diffusion path this is GDDPM (arXiv 2406.01507)."""

    kind: Literal["moments"]
    moments: list[Literal["mean", "std", "skewness", "kurtosis", "correlation"]] = Field(
        default=["mean", "std", "skewness", "correlation"],
        min_length=1,
        description="of each feature of y as the networks see it; the correlation is of each pair",
    )
    hidden: int = Field(default=64, ge=1)
    size_input: bool = Field(default=True, description="tell the encoder the log of the set's size")


SetEncoder = Annotated[SetTransformer | DeepSets | Moments, Field(discriminator="kind")]


class Train(Closed):
    """The default training loop."""

    steps: int = Field(default=3000, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, description="peak of a cosine schedule with a short warm-up")
    optimizer: Literal["adam", "muon"] = Field(
        default="adam",
        description="muon: orthogonalised updates of the hidden matrices, Adam for the rest; for perceptrons and set "
        "encoders, which it trains to the same error in fewer steps (a convolution's weights are left to Adam)",
    )
    sets: int = Field(default=8, ge=1, description="ensembles in one step")
    set_size: tuple[int, int] = Field(
        default=(128, 512), description="least and most observations of a set; drawn for each step, log-uniformly"
    )
    targets: int | None = Field(
        default=None, ge=1, description="members of each set that are targets in the loss; all when not given"
    )
    tilt: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="fraction of the sets that are reweighted in x by a random window: priors beyond the seen ones, at "
        "no cost in simulations (x a vector)",
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
    """What every model of draws p(x | y, context) has beside its sampler."""

    refine: Refine | None = Field(default=None, description="fit the prior to the set that is answered")
    bootstrap: int = Field(
        default=0,
        ge=0,
        description="resamples of the conditioning set; draw j uses the embedding of resample j modulo this number, so "
        "that draws show how uncertain the embedding is. 0: the set itself",
    )
    duplicate_to: int | None = Field(
        default=None,
        ge=1,
        description="reproduction of the paper: a smaller set is repeated up to this size, the last copy cut. It adds "
        "no information",
    )


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


class MethodBase(Closed):
    """What every kind of method has."""

    needs: ClassVar[frozenset[Capability]]
    needs_either: ClassVar[tuple[Capability, ...]] = ()
    """One of these is enough, the first that the problem gives."""
    returns: ClassVar[Label]
    trains: ClassVar[bool] = False
    uses_prior: ClassVar[bool] = False
    gives: ClassVar[frozenset[Literal["posterior", "unfolded"]]] = frozenset({"posterior"})
    code: ClassVar[str]

    @property
    def told(self) -> bool:
        """Whether the method is told the true parameters of the family it answers."""
        return False


class Amortised(MethodBase):
    """A model of p(x | y, context), trained once on pairs of the seen families: a path x a context x a network."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"pairs"})
    returns: ClassVar[Label] = "approximate"
    trains: ClassVar[bool] = True
    code: ClassVar[str] = "pullback.methods.amortised.model:AmortisedModel"

    network: Network = Mlp()
    train: Train = Train()


class Told(Amortised):
    """Context: nothing, or the true parameters of the prior."""

    parameters: bool = Field(
        default=False,
        description="condition on the true parameters of the prior (cFM-gamma): what a perfect set encoder would give",
    )

    @property
    def told(self) -> bool:
        """Whether the method is told the true parameters of the family it answers."""
        return self.parameters


class Ensemble(Amortised):
    """Context: an embedding of the set of observations."""

    k: int = Field(default=8, ge=1, description="size of the embedding of the set")
    set_encoder: SetEncoder = SetTransformer()


class Flow(Closed):
    """Path: flow matching."""

    infer: dict[Name, FlowInfer] = Field(default={"default": FlowInfer()}, min_length=1)


class Diffusion(Closed):
    """Path: a DDPM. `schedule: paper` with `diffusion_steps: 100` reproduces the published one, its bias included."""

    schedule: Literal["cosine", "linear", "paper"] = Field(
        default="cosine",
        description="cosine, or linear scaled to the number of steps: both end in pure noise and predict v; paper: "
        "linear, not scaled, predicts the noise (a labelled reproduction)",
    )
    diffusion_steps: int = Field(default=1000, ge=2, description="T")
    infer: dict[Name, DdpmInfer] = Field(default={"default": DdpmInfer()}, min_length=1)


class Cfm(Flow, Told):
    """Conditional flow matching: q(x | y), one model on the union of the seen priors."""

    kind: Literal["cfm"]


class Cddpm(Diffusion, Told):
    """Conditional DDPM: q(x | y), one model on the union of the seen priors."""

    kind: Literal["cddpm"]


class EiFm(Flow, Ensemble):
    """Ensemble-inverse flow matching: q(x | y, e(Y)), e a permutation-invariant embedding of the observations."""

    kind: Literal["ei-fm"]


class EiDdpm(Diffusion, Ensemble):
    """Ensemble-inverse DDPM; with `set_encoder: {kind: moments}` it is GDDPM."""

    kind: Literal["ei-ddpm"]


class Regression(Amortised):
    """The direct learned inverse: a network that maps y to x, least squares on the union of the seen priors."""

    returns: ClassVar[Label] = "point estimate"

    kind: Literal["regression"]
    infer: dict[Name, PointInfer] = Field(default={"default": PointInfer()}, min_length=1)


class Hvae(Ensemble):
    """Hierarchical variational autoencoder: a latent of the set of observations (size `k`) and one of the event.

    The baseline of the ensemble-inverse paper is not defined there: this is the Neural Statistician (Edwards and
    Storkey 2017), conditioned on y. For x that is a vector.
    """

    code: ClassVar[str] = "pullback.methods.amortised.hvae:Hvae"

    kind: Literal["hvae"]
    latent: int = Field(default=4, ge=1, description="size of the event's latent")
    network: Mlp = Mlp()
    infer: dict[Name, AmortisedInfer] = Field(default={"default": AmortisedInfer()}, min_length=1)


class Oracle(MethodBase):
    """The posterior under the true prior: the best one can do.

    The problem's own exact posterior (as `pool` grows); of a problem that gives only the likelihood, the reference
    split of the family that is answered, weighted by it (as the reference grows).
    """

    needs: ClassVar[frozenset[Capability]] = frozenset()
    needs_either: ClassVar[tuple[Capability, ...]] = ("exact-posterior", "likelihood")
    returns: ClassVar[Label] = "asymptotic"
    code: ClassVar[str] = "pullback.methods.classical.oracle:Oracle"

    kind: Literal["oracle"]
    infer: dict[Name, ExactInfer] = Field(default={"default": ExactInfer()}, min_length=1)

    @property
    def told(self) -> bool:
        """Whether the method is told the true parameters of the family it answers."""
        return True


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


Method = Annotated[
    Cfm | Cddpm | EiFm | EiDdpm | Regression | Hvae | Oracle | RandomTruth | EnKG | PriorDraws,
    Field(discriminator="kind"),
]


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
