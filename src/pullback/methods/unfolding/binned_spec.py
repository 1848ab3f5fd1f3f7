"""Options of the binned unfolding methods."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pullback.registry import did_you_mean
from pullback.study.base import Closed, Label, Name
from pullback.study.kinds import Infer, Message, MethodSpec

if TYPE_CHECKING:
    from pullback.study.model import Problem

BinsOrEdges = Annotated[int, Field(ge=2)] | Annotated[list[float], Field(min_length=3)]
CODE = "pullback.methods.unfolding.binned_method:"


class Binning(Closed):
    """Bins of one feature of the truth, and of the observed quantity that measures it.

    Underflow and overflow are bins of their own beside these.
    """

    bins: BinsOrEdges = Field(
        default=20,
        description="number of truth bins with equal numbers of simulated objects, 0.5 % outside at either end; or "
        "the edges",
    )
    observed: str | None = Field(default=None, description="quantity of y; the one of the same name when not given")
    observed_bins: BinsOrEdges | None = Field(
        default=None,
        description="the same for the observed quantity; when not given, the truth's edges, or as many bins as it has",
    )

    @model_validator(mode="after")
    def _increasing(self) -> "Binning":
        for key in ("bins", "observed_bins"):
            edges = getattr(self, key)
            if isinstance(edges, list) and not all(low < high for low, high in pairwise(edges)):
                raise ValueError(f"`{key}`: found the edges {edges}, wanted increasing ones")
        return self


class BinnedInfer(Infer):
    """Settings of one unfolding in bins."""

    replicas: int = Field(default=50, ge=0, description="bootstrap replicas of the data, by group")
    sample: int = Field(
        default=50_000, ge=1, description="most simulated truths in the weighted sample; chosen at random"
    )
    response_errors: Literal["multinomial", "poisson"] = Field(
        default="multinomial",
        description="statistics of the simulation: of the objects of a truth bin, which are a given number, or of each "
        "entry of the response by itself",
    )


class IbuInfer(BinnedInfer):
    """Settings of one iterative Bayesian unfolding."""

    iterations: int = Field(default=4, ge=1, description="how many, or the most with `statistic`")
    statistic: Literal["ks", "chi2", "rmd"] | None = Field(
        default=None,
        description="end the iteration when this difference between two iterations is below `tolerance`: "
        "Kolmogorov-Smirnov, chi-squared per bin, or the greatest relative difference of a bin",
    )
    tolerance: float = Field(default=0.01, gt=0, description="of `statistic`")


class TikhonovInfer(BinnedInfer):
    """Settings of one regularised unfolding."""

    strength: Annotated[float, Field(ge=0)] | Literal["global-correlation"] = Field(
        default="global-correlation",
        description="factor of the squared curvature of truth over prior; global-correlation: the strength with the "
        "least mean global correlation of the bins",
    )
    rank: int | None = Field(
        default=None,
        ge=2,
        description="number of singular values that are kept, in place of `strength` (SVD unfolding)",
    )

    @model_validator(mode="after")
    def _one_choice(self) -> "TikhonovInfer":
        # Not by what was given: a job is given every setting.
        if self.rank is not None and self.strength != "global-correlation":
            raise ValueError("give `strength` or `rank`, not both")
        return self


class BinnedSpec(MethodSpec):
    """Unfolding of binned features, one at a time."""

    reads_seen: ClassVar[bool] = True
    needs_seen: ClassVar[bool] = True
    samples: ClassVar[bool] = False
    unfolds: ClassVar[bool] = True

    features: Mapping[str, Binning] = Field(min_length=1, description="features of x that are unfolded, and their bins")
    response: str | Annotated[list[str], Field(min_length=1)] = Field(
        default="union",
        description="simulated events that the response is made of: a seen family, several in a list, or `union`, all; "
        "several have one total weight each",
    )
    prior_shape: str = Field(
        default="response",
        description="truth that the unfolding begins with or is regularised to: that of the `response`, a seen "
        "family's, or `flat` in the bins",
    )

    def in_response(self, family: str) -> bool:
        """Whether the response is made of a seen family's events."""
        named = self.response if isinstance(self.response, list) else [self.response]
        return named == ["union"] or family in named

    def check(self, problem: "Problem") -> Iterator[Message]:
        """The families that are named must be seen."""
        seen = [name for name, family in problem.families.items() if family.role == "seen"]
        responses = self.response if isinstance(self.response, list) else [self.response]
        for key, named, own in (
            ("response", responses, () if isinstance(self.response, list) else ("union",)),
            ("prior_shape", [self.prior_shape], ("response", "flat")),
        ):
            known = [*own, *seen]
            for name in named:
                if name not in known:
                    yield key, f"found '{name}', wanted one of {', '.join(known)}{did_you_mean(name, known)}"
            if len(set(named)) < len(named):
                yield key, f"found {', '.join(named)}, wanted each family once"

    def check_fields(self, x: Any, y: Any) -> None:
        """Raise ValueError where a feature is not there."""
        for name, binning in self.features.items():
            if name not in x.features:
                known = ", ".join(x.features) or "none, as it is an array"
                raise ValueError(f"features: x has no '{name}'{did_you_mean(name, x.features)}; it has {known}")
            if (observed := binning.observed or name) not in y.features:
                raise ValueError(
                    f"features.{name}.observed: y has no '{observed}'{did_you_mean(observed, y.features)}; it has "
                    f"{', '.join(y.features) or 'none, as it is an array'}"
                )


class IbuSpec(BinnedSpec):
    """Iterative Bayesian unfolding (D'Agostini 1995), regularised by the number of iterations."""

    returns: ClassVar[Label] = "approximate"
    colour: ClassVar[str] = "#8C564B"
    code: ClassVar[str] = CODE + "Ibu"

    infer: Mapping[Name, IbuInfer] = Field(default={"default": IbuInfer()}, min_length=1)


class BinByBinSpec(BinnedSpec):
    """Correction factors bin by bin: truth over observation in the simulation, correct where the data agree with it."""

    returns: ClassVar[Label] = "approximate"
    code: ClassVar[str] = CODE + "BinByBin"

    infer: Mapping[Name, BinnedInfer] = Field(default={"default": BinnedInfer()}, min_length=1)

    def check(self, problem: "Problem") -> Iterator[Message]:
        """Observed bins are the truth's."""
        yield from super().check(problem)
        for name, binning in self.features.items():
            if binning.observed_bins is not None:
                yield f"features.{name}.observed_bins", "bin by bin, observed bins are the truth's: leave it out"


class MatrixInversionSpec(BinnedSpec):
    """Inverse of the response matrix; least squares where there are more observed than truth bins."""

    returns: ClassVar[Label] = "asymptotic"
    code: ClassVar[str] = CODE + "MatrixInversion"

    infer: Mapping[Name, BinnedInfer] = Field(default={"default": BinnedInfer()}, min_length=1)


class TikhonovSpec(BinnedSpec):
    """Least squares with a penalty on the curvature of truth over prior; with `rank`, SVD unfolding."""

    returns: ClassVar[Label] = "approximate"
    code: ClassVar[str] = CODE + "Tikhonov"

    infer: Mapping[Name, TikhonovInfer] = Field(default={"default": TikhonovInfer()}, min_length=1)
