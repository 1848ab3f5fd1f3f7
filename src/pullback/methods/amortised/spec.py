"""Amortised methods in a study: a path x a context x a network, and the settings of their inferences."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from pullback import registry
from pullback.diffusion.settings import Train
from pullback.networks.settings import (
    DirectNetwork,
    InversionNet,
    Mlp,
    Network,
    SetEncoder,
    SetTransformer,
    check_networks,
    check_shapes,
)
from pullback.registry import did_you_mean
from pullback.study.base import OWN_LIKELIHOOD, Capability, Closed, Label, Name
from pullback.study.kinds import Infer, Message, MethodSpec, PointInfer

if TYPE_CHECKING:
    from pullback.study.model import Problem


class Refine(Closed):
    """Refinement outside the training priors, by expectation maximisation on the set of observations.

    The draws of the method are particles of a prior; their weights are fitted to the set, and new draws are sampled.
    """

    code: ClassVar[str] = "pullback.methods.refinement.refine:Refined"

    likelihood: Name = Field(
        default=OWN_LIKELIHOOD, description="p(y|x): exact, the problem's own, or the name of one under `likelihoods:`"
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

    def check(self, problem: "Problem") -> Iterator[tuple[str, str]]:
        """The likelihood that is named must be there."""
        known, of = problem.likelihoods, "under `likelihoods:`"
        if self.likelihood == OWN_LIKELIHOOD:
            if "likelihood" not in problem.capabilities:
                yield (
                    "likelihood",
                    f"'exact' needs a problem that gives likelihood, and problem kind '{problem.kind}' gives "
                    f"{', '.join(sorted(problem.capabilities))}; learn one {of} and name it"
                    f"{problem.why_without('likelihood')}",
                )
        elif self.likelihood not in known:
            yield (
                "likelihood",
                f"there is no likelihood '{self.likelihood}' {of} ({', '.join(known) or 'none'}), and it is not "
                f"'exact'{did_you_mean(self.likelihood, [*known, 'exact'])}",
            )


class AmortisedInfer(Infer):
    """Settings of an inference that all amortised models share."""

    refine: Refine | None = Field(default=None, description="fit the prior to the set of observations")
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

    @property
    def learned_likelihood(self) -> str | None:
        """The likelihood that the prior is refined with, where it is not the problem's own."""
        return self.refine.likelihood if self.refine and self.refine.likelihood != OWN_LIKELIHOOD else None

    @property
    def uses_likelihood(self) -> bool:
        """Whether the problem's own likelihood is used."""
        return bool(self.refine) and self.learned_likelihood is None

    @property
    def modules(self) -> tuple[str, ...]:
        """Code of the refinement, where there is one."""
        return (Refine.code,) if self.refine else ()

    def wrap(self, method: Any, likelihood: Path | None) -> Any:
        """The method, wrapped in the refinement where there is one."""
        return registry.load_object(Refine.code)(method, likelihood) if self.refine else method

    def check(self, problem: "Problem") -> Iterator[Message]:
        """Cross-field validation of the refinement."""
        for key, message in self.refine.check(problem) if self.refine else ():
            yield f"refine.{key}", message


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


class Amortised(MethodSpec):
    """A model of p(x | y, context), trained once on pairs of the seen families: a path x a context x a network."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"pairs"})
    returns: ClassVar[Label] = "approximate"
    trains: ClassVar[bool] = True
    code: ClassVar[str] = "pullback.methods.amortised.model:AmortisedModel"

    network: Network = Mlp()
    train: Train = Train()

    def uses_set(self, infer: Infer) -> bool:
        """Whether draws depend on the set: refinement fits the prior to it."""
        return bool(infer.modules)

    def check_fields(self, x: Any, y: Any) -> None:
        """Build the networks without memory."""
        check_networks(self, x.shape, y.shape)

    def check(self, problem: "Problem") -> Iterator[Message]:
        """Shapes, and steps that a network's normalisation needs."""
        yield from check_shapes(self, problem)
        train, network = self.train, self.network
        least = train.sets_per_step * min(train.set_size[0], train.loss_members or train.set_size[0])
        if isinstance(network, InversionNet) and least < 2:
            yield (
                "train",
                "network 'inversion-net' normalises over the targets of a step, and a step may have 1, wanted at "
                "least 2: raise `sets_per_step`, or `loss_members` and the least of `set_size`",
            )


class ParameterContext(Amortised):
    """Context: nothing, or the true parameters of the prior."""

    parameters: bool = Field(
        default=False,
        description="condition on the true parameters of the prior (cFM-gamma): an ideal set encoder",
    )

    @property
    def uses_prior_params(self) -> bool:
        """Whether the method is given the true parameters of the family's prior."""
        return self.parameters

    def check(self, problem: "Problem") -> Iterator[Message]:
        """Check that parameters are stated, and refuse options of a set encoder."""
        yield from super().check(problem)
        if self.parameters:
            yield from _check_parameters(problem)
            if self.train.prior_reweighting:
                yield (
                    "train.prior_reweighting",
                    f"found {self.train.prior_reweighting:g} with `parameters: true`: a reweighted set is of another "
                    "prior than the parameters beside it; leave one of the two out",
                )
        for name, infer in self.infer.items():
            for key, default in (("bootstrap", 0), ("duplicate_to", None)):
                if (value := getattr(infer, key)) != default:
                    yield (
                        f"infer.{name}.{key}",
                        f"found {value}, and '{self.kind}' has no set encoder that would see another set: leave it out",
                    )


class SetContext(Amortised):
    """Context: an embedding of the set of observations."""

    k: int = Field(default=8, ge=1, le=100_000, description="size of the embedding of the set")
    set_encoder: SetEncoder = SetTransformer()

    def uses_set(self, infer: Infer) -> bool:
        """The set is embedded."""
        return True


class Flow(Amortised):
    """Path: flow matching."""

    advice: ClassVar[str] = "more `steps` of the flow's solver (with few, draws stay near their mean)"

    infer: Mapping[Name, FlowInfer] = Field(default={"default": FlowInfer()}, min_length=1)


class Diffusion(Amortised):
    """Path: a DDPM. `schedule: paper` with `diffusion_steps: 100` reproduces the published schedule with its bias."""

    schedule: Literal["cosine", "linear", "paper"] = Field(
        default="cosine",
        description="cosine, or linear scaled to the number of steps: both end in pure noise and predict v; paper: "
        "linear, not scaled, predicts the noise (reproduces arXiv 2601.22029)",
    )
    diffusion_steps: int = Field(default=1000, ge=2, description="T")
    infer: Mapping[Name, DdpmInfer] = Field(default={"default": DdpmInfer()}, min_length=1)


class CfmSpec(Flow, ParameterContext):
    """Conditional flow matching: q(x | y), one model on the union of the seen priors."""

    colour: ClassVar[str] = "#D55E00"


class CddpmSpec(Diffusion, ParameterContext):
    """Conditional DDPM: q(x | y), one model on the union of the seen priors."""


class EiFmSpec(Flow, SetContext):
    """Ensemble-inverse flow matching: q(x | y, e(Y)), e a permutation-invariant embedding of the observations."""

    colour: ClassVar[str] = "#0072B2"


class EiDdpmSpec(Diffusion, SetContext):
    """Ensemble-inverse DDPM; with `set_encoder: {kind: moments}` it is GDDPM."""


class RegressionSpec(Amortised):
    """Direct regression: a network that maps y to x, trained on the union of the seen families.

    With `network: {kind: inversion-net}` and `loss: l1-l2` it is InversionNet as OpenFWI trains it.
    """

    returns: ClassVar[Label] = "point estimate"

    network: DirectNetwork = Mlp()  # type: ignore[assignment]
    loss: Literal["l2", "l1-l2"] = Field(
        default="l2",
        description="of x as networks see it, after its transforms: l2: least squares, the mean of the posterior (of "
        "log x where x is seen so: not the mean of x); l1-l2: the absolute and the squared error added",
    )
    infer: Mapping[Name, PointInfer] = Field(default={"default": PointInfer()}, min_length=1)

    @property
    def single_process_reason(self) -> str:
        """Reason why training needs a single process; empty where several can share it."""
        inversion_net = isinstance(self.network, InversionNet)
        return "inversion-net normalises over all events of a step" if inversion_net else ""


def _check_parameters(problem: "Problem") -> Iterator[Message]:
    """Parameters of the prior must be stated for every family that the method learns from or answers."""
    families = problem.families
    swept: dict[str, list[str]] = {}
    for name, family in families.items():
        if family.role != "seen":
            continue
        if not family.sweep:
            yield "parameters", f"the seen family '{name}' is not a sweep: its parameters are not recorded"
            return
        swept[name] = sorted(key for key, value in family.params.items() if isinstance(value, dict))
    first = next(iter(swept.values()), [])
    if any(names != first for names in swept.values()):
        yield "parameters", f"seen families sweep over different parameters ({swept}); they must be the same"
    for name in problem.evaluated:
        params = families[families[name].events_from or name].params
        missing = [key for key in first if not isinstance(params.get(key), int | float)]
        if missing and families[name].role != "seen":
            yield "parameters", f"family '{name}' states no number for {', '.join(missing)}"
