"""Settings of the default training loop."""

from typing import Literal

from pydantic import Field, model_validator

from pullback.study.base import Closed, Name


class Train(Closed):
    """The default training loop."""

    steps: int = Field(default=3000, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, description="peak of a cosine schedule with a short warm-up")
    optimizer: Literal["adam", "muon"] = Field(
        default="adam",
        description="muon: orthogonalised updates of the hidden matrices, Adam for the rest; for perceptrons and set "
        "encoders, which it trains to the same error in fewer steps (a convolution's weights are left to Adam)",
    )
    sets_per_step: int = Field(default=8, ge=1, description="ensembles in one step")
    set_size: tuple[int, int] = Field(
        default=(128, 512), description="least and most observations of a set; drawn for each step, log-uniformly"
    )
    loss_members: int | None = Field(
        default=None, ge=1, description="members of each set that are targets in the loss; all when not given"
    )
    prior_reweighting: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="fraction of the sets that are reweighted in x by a random window: priors beyond the seen ones, at "
        "no cost in simulations (x a vector)",
    )
    leave_out: list[Name] = Field(
        default=[], description="seen families that are not trained on: how much a result depends on each"
    )
    bootstrap: bool = Field(
        default=False,
        description="train on events drawn with replacement, by group and anew for each seed: the spread over seeds "
        "then also holds what the finite training sample makes of the result",
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
