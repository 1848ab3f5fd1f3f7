"""The catalogue of problems: each kind's options, parameters of families, what it gives, where its code is.

A problem of a study is ``kind`` + ``simulator`` (exactly what its events depend on) + families + priors + methods.
A new built-in kind is one class here and one file in ``pullback.problems``.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from pullback.study.base import Capability, Closed, Name, Number, Uniform, is_distribution
from pullback.study.evaluation import EvaluationSettings
from pullback.study.families import Family
from pullback.study.methods import Likelihood, Method, Prior
from pullback.study.waves import FwiParams, FwiSimulator

PROBLEM_PLUGINS = "pullback.problems"
"""Entry-point group in which an installed package offers a problem kind."""


class Size(Closed):
    """Events of each split (collisions, for unfolding: each gives a few jets), and how they are cut into files."""

    train: int = Field(default=4000, gt=0)
    validation: int = Field(default=500, gt=0)
    test: int = Field(default=1000, gt=0)
    reference: int = Field(default=1000, gt=0, description="independent truth, for sampling floors")
    shard: int = Field(
        default=100_000, gt=0, description="most events in one shard (one job); rounded up to whole blocks"
    )


def _as_in_a_file(params: dict[str, Any]) -> dict[str, Any]:
    """Lists in place of tuples, as a default may be one."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in params.items()}


class ProblemBase(Closed):
    """What every kind of problem has."""

    gives: ClassVar[frozenset[Capability]]
    code: ClassVar[str]
    Params: ClassVar[type[Closed] | None] = None
    block: ClassVar[int] = 1000
    """Events that come from one random generator."""
    unlearnable: ClassVar[str] = ""
    """Why p(y|x) cannot be learned as a density of vectors; empty where nothing is known against it."""
    arrays: ClassVar[frozenset[Literal["x", "y"]] | None] = None
    """Which of x and y are arrays; None where only the problem's own code knows."""
    periodic: ClassVar[tuple[str, ...]] = ()
    """Quantities of x that networks see relative to y."""
    advice: ClassVar[Mapping[str, str]] = {}
    """What the report tells to try where a family's observations are unlike those in training (``outside``), where
    draws do not explain them (``misfit``), and where they do not determine the truth (``undetermined``)."""

    size: Size = Size()
    families: dict[Name, Family] = Field(min_length=1)
    priors: dict[Name, Prior] = Field(default={})
    likelihoods: dict[Name, Likelihood] = Field(default={})
    methods: dict[Name, Method] = Field(min_length=1)
    evaluation: EvaluationSettings = EvaluationSettings()

    def complete(self, family: Family) -> Family:
        """A family with the parameters that follow from its role, where it states none."""
        return family

    def is_inside(self, params: dict[str, Any], sweep: dict[str, Any]) -> bool:
        """Whether fixed parameters lie inside the support of a sweep's; what one does not give has its default."""
        fields = self.Params.model_fields if self.Params else {}
        defaults = {name: field.default for name, field in fields.items() if not field.is_required()}
        known, trained = (_as_in_a_file(defaults | given) for given in (params, sweep))
        for name, support in trained.items():
            value = known.get(name)
            if is_distribution(support):
                if value is None or not Uniform(**support).contains(float(value)):
                    return False
            elif value != support and (name in sweep or isinstance(support, int | float)):
                return False
        return True


class GaussianSimulator(Closed):
    """y = x M + noise |x| sqrt(2 / d) eps, eps ~ N(0, I_d): signal-dependent noise in d dimensions.

    M is banded: 2.2 and 3.2 by turns on the diagonal, 0.5 beside it; [[2.2, .5], [.5, 3.2]] in two dimensions.
    """

    dimension: int = Field(default=2, ge=1, description="components of x and of y")
    noise: float = Field(
        default=0.5, gt=0, description="noise standard deviation of one component as a fraction of |x| sqrt(2 / d)"
    )


class GaussianParams(Closed):
    """x ~ N(mu, Sigma), Sigma_ij = gamma^|i-j|. theta of a sweep holds what its `params` give: gamma, mu1, mu2."""

    gamma: Number = Field(description="correlation of neighbouring components, in [-1, 1]")
    mu1: Number = Field(default=0.0, description="mean of x1")
    mu2: Number = Field(default=0.0, description="mean of x2; components from the third on have mean 0")

    @model_validator(mode="after")
    def _is_correlation(self) -> "GaussianParams":
        ends = [self.gamma] if isinstance(self.gamma, float) else [v for pair in self.gamma.intervals for v in pair]
        if not all(-1 <= end <= 1 for end in ends):
            raise ValueError(f"gamma is a correlation: found {ends}, wanted values in [-1, 1]")
        return self


class GaussianProblem(ProblemBase):
    """The Gaussian problem with a known answer; in two dimensions that of the ensemble inverse problem paper."""

    gives: ClassVar[frozenset[Capability]] = frozenset({"pairs", "prior", "forward", "likelihood", "exact-posterior"})
    code: ClassVar[str] = "pullback.problems.gaussian:Gaussian"
    arrays: ClassVar[frozenset[Literal["x", "y"]] | None] = frozenset()
    Params: ClassVar[type[Closed] | None] = GaussianParams

    kind: Literal["gaussian"]
    simulator: GaussianSimulator = GaussianSimulator()

    @model_validator(mode="after")
    def _has_means(self) -> "GaussianProblem":
        for name, family in self.families.items():
            if self.simulator.dimension == 1 and "mu2" in family.params:
                raise ValueError(f"families.{name}.params: mu2 is the mean of x2, and dimension is 1")
        return self


class FwiProblem(ProblemBase):
    """Full-waveform inversion of 2-D velocity models with a real wave simulator (Devito)."""

    gives: ClassVar[frozenset[Capability]] = frozenset({"pairs", "prior", "forward", "gradient"})
    code: ClassVar[str] = "pullback.problems.fwi:Fwi"
    block: ClassVar[int] = 20
    unlearnable: ClassVar[str] = "x and y are arrays"
    arrays: ClassVar[frozenset[Literal["x", "y"]] | None] = frozenset({"x", "y"})
    Params: ClassVar[type[Closed] | None] = FwiParams
    advice: ClassVar[Mapping[str, str]] = {
        "outside": "or a method that needs no training data like it (lbfgs-fwi)",
        "misfit": "where the difference shows arrivals shifted by half a cycle, a descent from lower frequencies",
        "undetermined": "more shots, wider offsets, lower frequencies or a longer record; or a prior that knows more",
    }

    kind: Literal["fwi"]
    simulator: FwiSimulator = FwiSimulator()


FORMULA_PT_MIN = 20.0
"""GeV: the formulas of the built-in detector hold for truth jets above."""


class UnfoldingSimulator(Closed):
    """pp events by Pythia 8, anti-kt jets by fastjet, and object smearing as the detector."""

    energy: float = Field(default=13_000.0, gt=0, description="centre-of-mass energy, GeV")
    tune: int = Field(default=21, description="Pythia Tune:pp; 21 is A14 with NNPDF2.3 LO")
    multi_parton_interactions: bool = True
    jet_radius: float = Field(default=0.4, gt=0)
    truth_pt_min: float = Field(
        default=30.0, ge=FORMULA_PT_MIN, description="GeV; the smearing formula needs at least 20"
    )
    reco_pt_min: float = Field(
        default=5.0,
        ge=5,
        description="GeV, selection on reconstructed jets, of every family: p(y|x) is normalised on what it keeps; "
        "the detector loses jets below 5",
    )
    detector: Literal["smearing"] = Field(default="smearing", description="ATLAS-style smearing of each jet")
    block_collisions: int = Field(default=200, gt=0, description="collisions of one random block")


class UnfoldingParams(Closed):
    """A hard process, with cuts in GeV."""

    process: Literal["ttbar", "wjets", "zjets", "dijets", "leptoquarks"]
    pt_hat_min: float = Field(default=20.0, ge=0, description="GeV, PhaseSpace:pTHatMin")
    mass: float = Field(default=800.0, gt=0, description="GeV, leptoquark mass; other processes ignore it")


class UnfoldingProblem(ProblemBase):
    """Unfolding of jets: truth (pt, eta, phi, mass) from reconstructed (pt, eta, phi)."""

    gives: ClassVar[frozenset[Capability]] = frozenset({"pairs", "forward", "likelihood"})
    code: ClassVar[str] = "pullback.problems.unfolding:Unfolding"
    unlearnable: ClassVar[str] = "phi is periodic, and networks see phi of x relative to phi of y"
    arrays: ClassVar[frozenset[Literal["x", "y"]] | None] = frozenset()
    periodic: ClassVar[tuple[str, ...]] = ("phi",)
    Params: ClassVar[type[Closed] | None] = UnfoldingParams

    kind: Literal["unfolding"]
    simulator: UnfoldingSimulator = UnfoldingSimulator()


class DigitsSimulator(Closed):
    """Frames between a handwritten 9 and a 6, with noise, most pixels lost.

    scikit-learn's digits (8 x 8, values 0 to 16) unless idx files are named.
    """

    images: str | None = Field(
        default=None, description="idx file of images, as MNIST's (gzipped or not); $PULLBACK_DATA and others expand"
    )
    labels: str | None = Field(default=None, description="idx file of their labels")
    size: int | None = Field(
        default=None,
        ge=4,
        le=128,
        description="pixels along each side, interpolated to; when not given, 16 and for idx files 28",
    )
    noise_variance: float = Field(default=0.2, gt=0, description="of each pixel's Gaussian noise; values are in [0, 1]")
    keep: float = Field(default=0.1, gt=0, le=1, description="probability that a pixel is observed; others are 0")

    @property
    def pixels(self) -> int:
        """Pixels along each side."""
        return self.size or (28 if self.images else 16)

    @model_validator(mode="after")
    def _both(self) -> "DigitsSimulator":
        if (self.images is None) != (self.labels is None):
            raise ValueError("`images` and `labels` belong together: give both, or none for scikit-learn's digits")
        return self


class DigitsParams(Closed):
    """One frame of the way from a 9 to a 6, and the images that may be its ends."""

    alpha: Number = Field(description="0 the 9, 1 the 6")
    digits: Literal["train", "held-out", "all"] = Field(
        default="all",
        description="every fourth image of each digit is held out; families of a study take train when they are seen, "
        "held-out when they are not",
    )

    @model_validator(mode="after")
    def _on_the_way(self) -> "DigitsParams":
        ends = [self.alpha] if isinstance(self.alpha, float) else [v for pair in self.alpha.intervals for v in pair]
        if not all(0 <= end <= 1 for end in ends):
            raise ValueError(f"alpha is a share of the way: found {ends}, wanted values in [0, 1]")
        return self


class DigitsProblem(ProblemBase):
    """Image inversion: frames between a handwritten 9 and a 6 from a tenth of their pixels, noisy."""

    gives: ClassVar[frozenset[Capability]] = frozenset({"pairs", "prior", "forward", "likelihood", "exact-posterior"})
    code: ClassVar[str] = "pullback.problems.digits:Digits"
    block: ClassVar[int] = 128
    unlearnable: ClassVar[str] = "x and y are arrays"
    arrays: ClassVar[frozenset[Literal["x", "y"]] | None] = frozenset({"x", "y"})
    Params: ClassVar[type[Closed] | None] = DigitsParams

    kind: Literal["digits"]
    simulator: DigitsSimulator = DigitsSimulator()

    def complete(self, family: Family) -> Family:
        """Judged priors never use an image that training used, unless they say so."""
        if family.events_from or "digits" in family.params:
            return family
        digits = "train" if family.role == "seen" else "held-out"
        return family.model_copy(update={"params": {**family.params, "digits": digits}})


class FieldOptions(Closed):
    """Shape and units of x or y of an external command."""

    features: list[str] | None = Field(default=None, description="names, for a vector of named quantities")
    dims: list[str] | None = Field(default=None, description="dimension names, for an array")
    shape: list[int] | None = None
    units: str | list[str] = Field(description="one unit, or one for each feature; '1' where there is none")


class CommandSimulator(Closed):
    """A simulator that is a program: files in, files out (.npy, float arrays with the event axis first).

    Placeholders: {n}, {seed}, {params} (a JSON file) and {x} (written) in `prior`; {x} (read), {seed} and {y}
    (written) in `forward`. A row of NaN in {y} says that this simulation failed.
    """

    prior: str = Field(description="command that writes n draws of x")
    forward: str = Field(description="command that reads x and writes y")
    x: FieldOptions
    y: FieldOptions
    block: int = Field(default=1000, gt=0, description="events of one call")
    fail: Literal["error", "redraw"] = "error"
    files: list[str] = Field(
        default=[], description="files the commands are made of, relative to the study: a change in them reruns"
    )


class CommandProblem(ProblemBase):
    """The user's own simulator as an external command."""

    gives: ClassVar[frozenset[Capability]] = frozenset({"pairs", "prior", "forward"})
    code: ClassVar[str] = "pullback.problems.command:Command"
    kind: Literal["command"]
    simulator: CommandSimulator


class CustomProblem(ProblemBase):
    """The user's own simulator as a Python class: `./my_sim.py:MySim`, or the name of an installed entry point."""

    kind: Annotated[str, StringConstraints(pattern=r"^(.+\.py:[A-Za-z_]\w*|[A-Za-z][\w-]*)$")]
    simulator: dict[str, Any] = Field(default={}, description="options of the class, checked by its Spec if it has one")


BUILT_IN_PROBLEMS: dict[str, type[ProblemBase]] = {
    "gaussian": GaussianProblem,
    "fwi": FwiProblem,
    "unfolding": UnfoldingProblem,
    "digits": DigitsProblem,
    "command": CommandProblem,
}
