"""Evaluation settings: numbers of directions, bootstrap replicas and draws; comparison with the exact posterior."""

from itertools import pairwise

from pydantic import Field, ValidationInfo, field_validator

from pullback import registry
from pullback.study.base import Closed, Name


class EvaluationSettings(Closed):
    """Settings of the evaluation (rule `evaluate`)."""

    bootstrap: int = Field(default=200, ge=0, description="bootstrap replicas, by group, for 95 % intervals")
    directions: int = Field(default=500, ge=1, description="directions of the larger sliced Wasserstein distance")
    direction_seeds: int = Field(default=5, ge=1, description="seeds of directions that are averaged")
    swd_events: int = Field(default=20_000, ge=1, description="most events in a distance; the first ones are taken")
    resimulate_events: int = Field(
        default=0, ge=0, description="events of each family whose draws go through the forward process again (misfit)"
    )
    resimulate_draws: int = Field(default=4, ge=1, description="draws of each such event")
    exact_events: int = Field(
        default=0,
        ge=0,
        description="events of each family whose posterior is compared with the exact one, where the problem gives "
        "it, or its likelihood and the family a reference split: mean, covariance, energy score, CRPS",
    )
    exact_draws: int = Field(default=200, ge=4, description="exact draws of each such event")
    exact_pool: int = Field(
        default=64,
        ge=8,
        description="candidates of exact draws, as of the oracle",
    )
    c2st_events: int = Field(
        default=0,
        ge=0,
        description="events on which a classifier tells draws from exact ones (C2ST), where there are any; "
        "5 trainings, seconds to minutes for each result; 0: none",
    )
    exact_families: list[Name] | None = Field(
        default=None, description="families that are compared with the exact posterior; every one when not given"
    )
    headline: str | None = Field(
        default=None, description="metric whose table stands first in the report, such as energy_score"
    )
    bins: dict[str, list[float]] = Field(
        default={},
        description="edges of bins of features of x, in their unit, for the triangular discriminator, chi-squared and "
        "migration; 10 bins with equal numbers of truths when not given",
    )
    metrics: list[str] = Field(
        default=[],
        description="further metrics: entry points of the group pullback.metrics, or ./my.py:NAME beside the study",
    )
    examples: int = Field(default=3, ge=1, description="example posteriors of each family in the report")

    @field_validator("bins")
    @classmethod
    def _increase(cls, bins: dict[str, list[float]]) -> dict[str, list[float]]:
        for feature, edges in bins.items():
            if len(edges) < 3 or any(not low < high for low, high in pairwise(edges)):
                raise ValueError(f"{feature}: found {edges}, wanted at least three edges that increase")
        return bins

    @field_validator("metrics")
    @classmethod
    def _are_there(cls, kinds: list[str], info: ValidationInfo) -> list[str]:
        for kind in kinds:
            try:
                registry.load("metrics", kind, (info.context or {}).get("folder", "."))
            except registry.KindError as error:
                raise ValueError(str(error)) from None
        return kinds
