"""The catalogue of methods and priors: for each kind its options, what it needs, what it returns, where its code is.

A new kind is one class here and one file in ``pullback.methods``.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pullback.study.base import Capability, Closed, Label, Name
from pullback.study.inference import (
    AmortisedInfer,
    DdpmInfer,
    DiffusionInfer,
    EnkgInfer,
    ExactInfer,
    FlowInfer,
    Infer,
    LbfgsInfer,
    PointInfer,
)
from pullback.study.learning import (
    DirectNetwork,
    ImageNetwork,
    InversionNet,
    Mlp,
    Network,
    SetEncoder,
    SetTransformer,
    Train,
    Unet,
)


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
    conditions_on_set: ClassVar[bool] = False
    """Whether an answer depends on the other observations of its set."""
    uses_true_prior: ClassVar[bool] = False
    """Whether it knows the prior of the family it answers: the report never ranks it."""
    baseline: ClassVar[bool] = False
    """Whether it answers without looking at the observation."""
    advice: ClassVar[str] = ""
    """What to change where its intervals are too narrow."""
    misfit_advice: ClassVar[str] = "more training steps and events, or a larger network"
    """What to change where its draws do not explain their observations."""
    colour: ClassVar[str] = ""
    """In figures, #RRGGBB; the next free one when empty."""

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

    @property
    def alone(self) -> str:
        """Why one process alone can train it; empty where several can."""
        return ""


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

    conditions_on_set: ClassVar[bool] = True

    k: int = Field(default=8, ge=1, description="size of the embedding of the set")
    set_encoder: SetEncoder = SetTransformer()


FLOW_ADVICE = "more `steps` of the flow's solver (with few, draws stay near their mean)"


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

    advice: ClassVar[str] = FLOW_ADVICE
    colour: ClassVar[str] = "#D55E00"

    kind: Literal["cfm"]


class Cddpm(Diffusion, Told):
    """Conditional DDPM: q(x | y), one model on the union of the seen priors."""

    kind: Literal["cddpm"]


class EiFm(Flow, Ensemble):
    """Ensemble-inverse flow matching: q(x | y, e(Y)), e a permutation-invariant embedding of the observations."""

    advice: ClassVar[str] = FLOW_ADVICE
    colour: ClassVar[str] = "#0072B2"

    kind: Literal["ei-fm"]


class EiDdpm(Diffusion, Ensemble):
    """Ensemble-inverse DDPM; with `set_encoder: {kind: moments}` it is GDDPM."""

    kind: Literal["ei-ddpm"]


class Regression(Amortised):
    """The direct learned inverse: a network that maps y to x, on the union of the seen priors.

    With `network: {kind: inversion-net}` and `loss: l1-l2` it is InversionNet as OpenFWI trains it.
    """

    returns: ClassVar[Label] = "point estimate"

    kind: Literal["regression"]
    network: DirectNetwork = Mlp()  # type: ignore[assignment]
    loss: Literal["l2", "l1-l2"] = Field(
        default="l2",
        description="of x as networks see it, after its transforms: l2: least squares, the mean of the posterior (of "
        "log x where x is seen so: not the mean of x); l1-l2: the absolute and the squared error added",
    )
    infer: dict[Name, PointInfer] = Field(default={"default": PointInfer()}, min_length=1)

    @property
    def alone(self) -> str:
        """Why one process alone can train it; empty where several can."""
        inversion_net = isinstance(self.network, InversionNet)
        return "inversion-net normalises over all events of a step" if inversion_net else ""


class VelocityGan(Amortised):
    """VelocityGAN (Zhang and Lin 2020): a direct inverse trained against a Wasserstein critic.

    Of every `critic_steps` + 1 training steps one is the generator's: it needs that many times a regression's `steps`.
    """

    returns: ClassVar[Label] = "point estimate"
    code: ClassVar[str] = "pullback.methods.amortised.velocity_gan:VelocityGan"

    kind: Literal["velocity-gan"]
    network: ImageNetwork = InversionNet()  # type: ignore[assignment]
    l1: float = Field(default=100.0, ge=0, description="weight of the absolute error, in standard deviations of x")
    l2: float = Field(default=100.0, ge=0, description="weight of the squared error; the critic's word has weight 1")
    critic_steps: int = Field(default=5, ge=1, description="steps of the critic before each of the generator's")
    critic_width: int = Field(default=32, ge=4, description="channels of the critic's first layer")
    infer: dict[Name, PointInfer] = Field(default={"default": PointInfer()}, min_length=1)

    @property
    def alone(self) -> str:
        """Why one process alone can train it."""
        return "its generator and its critic learn in turns"


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

    uses_true_prior: ClassVar[bool] = True
    colour: ClassVar[str] = "#009E73"

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

    baseline: ClassVar[bool] = True
    colour: ClassVar[str] = "#7A7A7A"

    kind: Literal["random-truth"]
    infer: dict[Name, Infer] = Field(default={"default": Infer()}, min_length=1)


class LbfgsFwi(MethodBase):
    """Full-waveform inversion by L-BFGS with the adjoint of the simulator, low frequencies first."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"pairs", "forward", "gradient"})
    returns: ClassVar[Label] = "point estimate"
    code: ClassVar[str] = "pullback.methods.classical.lbfgs:Lbfgs"

    misfit_advice: ClassVar[str] = "another start, lower first corners or more iterations of L-BFGS"

    kind: Literal["lbfgs-fwi"]
    infer: dict[Name, LbfgsInfer] = Field(default={"default": LbfgsInfer()}, min_length=1)


class EnKG(MethodBase):
    """Ensemble Kalman diffusion guidance: a diffusion prior and the simulator as a black box, no derivative of it."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"forward"})
    returns: ClassVar[Label] = "approximate"
    uses_prior: ClassVar[bool] = True
    code: ClassVar[str] = "pullback.methods.guided.enkg:EnKG"

    advice: ClassVar[str] = "more particles (`draws`) of EnKG, less `guidance`"
    misfit_advice: ClassVar[str] = "more particles, levels or updates of EnKG, and a prior that knows such truths"
    colour: ClassVar[str] = "#CC79A7"

    kind: Literal["enkg"]
    prior: Name
    infer: dict[Name, EnkgInfer] = Field(default={"default": EnkgInfer()}, min_length=1)


class PriorDraws(MethodBase):
    """Unguided draws of the diffusion prior: what EnKG would answer without looking at the observation."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"pairs"})
    returns: ClassVar[Label] = "approximate"
    uses_prior: ClassVar[bool] = True
    code: ClassVar[str] = "pullback.methods.guided.prior_draws:PriorDraws"

    baseline: ClassVar[bool] = True

    kind: Literal["prior-draws"]
    prior: Name
    infer: dict[Name, DiffusionInfer] = Field(default={"default": DiffusionInfer()}, min_length=1)


Method = Annotated[
    Cfm | Cddpm | EiFm | EiDdpm | Regression | VelocityGan | Hvae | Oracle | RandomTruth | LbfgsFwi | EnKG | PriorDraws,
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
