"""OmniFold in a study."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from pullback.registry import did_you_mean
from pullback.study.base import Capability, Closed, Label, Name
from pullback.study.kinds import Infer, Message, MethodSpec

if TYPE_CHECKING:
    from pullback.study.model import Problem


class MlpClassifier(Closed):
    """A perceptron, trained by Adam on the binary cross entropy; weights may be negative."""

    kind: Literal["mlp"] = "mlp"
    width: int = Field(default=64, ge=1, le=100_000, description="of the hidden layers")
    depth: int = Field(default=3, ge=1, le=1000, description="hidden layers")
    epochs: int = Field(default=15, ge=1, description="most passes through the events; the learning rate falls to 0")
    batch: int = Field(default=1000, ge=1, description="events of one step; fewer where an epoch had less than 50")
    learning_rate: float = Field(default=2e-3, gt=0, description="of the first step")
    patience: int = Field(default=5, ge=1, description="epochs without a lower loss on held-out events before it stops")
    validation: float = Field(default=0.2, gt=0, lt=1, description="fraction of the events that is held out")


class LightgbmClassifier(Closed):
    """Gradient-boosted trees (LightGBM, extra `boosted`); weights must not be negative."""

    kind: Literal["lightgbm"]
    trees: int = Field(default=500, ge=1, description="most trees")
    leaves: int = Field(default=31, ge=2, description="of each tree")
    learning_rate: float = Field(default=0.05, gt=0)
    patience: int = Field(default=20, ge=1, description="trees without a lower loss on held-out events before it stops")
    validation: float = Field(default=0.2, gt=0, lt=1, description="fraction of the events that is held out")


Classifier = Annotated[MlpClassifier | LightgbmClassifier, Field(discriminator="kind")]


class OmnifoldInfer(Infer):
    """Settings of one unfolding; nothing is trained before it."""

    simulation: Name = Field(
        default="union",
        description="events that are reweighted: the union of the seen families, each with the same sum of weights "
        "(OmniFold-combine); best: the seen family whose observations are nearest to those that are unfolded "
        "(OmniFold-best); or a seen family's name",
    )
    iterations: int = Field(default=4, ge=1, description="of both steps; fewer regularise more")
    classifier: Classifier = MlpClassifier()
    classifiers: int = Field(default=3, ge=1, description="of each step; their log ratios are averaged")
    warm_start: bool = Field(
        default=False, description="classifiers go on from those of the iteration before, in place of fresh ones"
    )
    clip: float = Field(
        default=10.0, gt=0, description="largest absolute log ratio of a step; those beyond are counted"
    )
    replicas: int = Field(
        default=0, ge=0, description="bootstrap replicas of the data by group; each trains all classifiers again"
    )
    bootstrap: bool = Field(
        default=False,
        description="the simulated events are a bootstrap sample of each family, by group, another one for each seed: "
        "the spread over seeds shows the finite simulated sample",
    )
    most_events: int = Field(
        default=200_000, ge=1, description="largest number of simulated events, shared equally among the families"
    )

    def check(self, problem: "Problem") -> Iterator[Message]:
        """The family that is named must be seen; trees start anew."""
        seen = [name for name, family in problem.families.items() if family.role == "seen"]
        if self.simulation not in ("union", "best", *seen):
            hint = did_you_mean(self.simulation, ["union", "best", *seen])
            yield (
                "simulation",
                f"found '{self.simulation}', wanted union, best or a seen family ({', '.join(seen)}){hint}",
            )
        if self.warm_start and self.classifier.kind == "lightgbm":
            yield "warm_start", "trees cannot go on from others: leave it out, or use `classifier: {kind: mlp}`"


class OmnifoldSpec(MethodSpec):
    """OmniFold: a simulation reweighted by classifiers to observations (Andreassen et al. 2020); unbinned.

    It gives weights of simulated truths, no draws; it trains again for each set of observations.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset({"pairs"})
    returns: ClassVar[Label] = "approximate"
    reads_seen: ClassVar[bool] = True
    needs_seen: ClassVar[bool] = True
    samples: ClassVar[bool] = False
    unfolds: ClassVar[bool] = True
    costly_condition: ClassVar[bool] = True
    misfit_advice: ClassVar[str] = "more iterations, or a simulation that covers the observations"
    code: ClassVar[str] = "pullback.methods.unfolding.omnifold:Omnifold"

    infer: Mapping[Name, OmnifoldInfer] = Field(default={"default": OmnifoldInfer()}, min_length=1)

    def check_fields(self, x: Any, y: Any) -> None:
        """For vectors of named quantities."""
        for field in (x, y):
            if not field.is_vector:
                raise ValueError(
                    f"'omnifold' weights vectors of named quantities, and {field.name} is an array of shape "
                    f"{field.shape}: use a method for arrays"
                )

    def check(self, problem: "Problem") -> Iterator[Message]:
        """For vectors of named quantities."""
        for name in sorted(problem.spec.arrays or ()):
            yield f"'omnifold' weights vectors of named quantities, and {name} of kind '{problem.kind}' is an array"
