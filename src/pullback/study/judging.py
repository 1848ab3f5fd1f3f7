"""How results are judged: numbers of directions, replicas and draws; what is drawn in the report."""

from pydantic import Field

from pullback.study.base import Closed


class Judging(Closed):
    """Settings of the evaluate rule."""

    bootstrap: int = Field(default=200, ge=0, description="bootstrap replicas, by group, for 95 % intervals")
    directions: int = Field(default=500, ge=1, description="directions of the larger sliced Wasserstein distance")
    direction_seeds: int = Field(default=5, ge=1, description="seeds of directions that are averaged")
    swd_events: int = Field(default=20_000, ge=1, description="most events in a distance; the first ones are taken")
    resimulate_events: int = Field(
        default=0, ge=0, description="events of each family whose draws go through the forward process again (misfit)"
    )
    resimulate_draws: int = Field(default=4, ge=1, description="draws of each such event")
    examples: int = Field(default=3, ge=1, description="example posteriors of each family in the report")
