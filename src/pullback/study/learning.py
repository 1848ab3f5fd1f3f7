"""How something is learned: networks, set encoders, the training loop."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pullback.study.base import Closed


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


class InversionNet(Closed):
    """InversionNet (Wu and Lin 2020): y (gathers or an image) to x on a 2-D grid through one vector."""

    kind: Literal["inversion-net"] = "inversion-net"
    width: int = Field(default=32, ge=4, description="channels of the first layer; the vector has 16 times as many")


Network = Annotated[Mlp | Unet, Field(discriminator="kind")]
DirectNetwork = Annotated[Mlp | Unet | InversionNet, Field(discriminator="kind")]
"""Of methods that map y to x."""

ImageNetwork = Annotated[Unet | InversionNet, Field(discriminator="kind")]
"""Of those that do so for x on a grid."""


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
