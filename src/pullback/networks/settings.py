"""Settings of networks and set encoders, with checks of the shapes that they accept."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from pullback.study.base import Closed
from pullback.study.kinds import Message


class Mlp(Closed):
    """Residual multilayer perceptron, for x and y that are vectors."""

    kind: Literal["mlp"] = "mlp"
    width: int = Field(default=64, ge=1, le=100_000)
    depth: int = Field(default=4, ge=1, le=1000, description="hidden blocks")


class Unet(Closed):
    """U-Net for x on a 2-D grid; y (gathers or an image) enters through a convolutional encoder."""

    kind: Literal["unet"] = "unet"
    width: int = Field(default=24, ge=4, le=100_000, description="channels at full resolution; doubled at each level")
    levels: int = Field(default=3, ge=1, le=5)


class InversionNet(Closed):
    """InversionNet (Wu and Lin 2020): y (gathers or an image) to x on a 2-D grid through one vector."""

    kind: Literal["inversion-net"] = "inversion-net"
    width: int = Field(
        default=32, ge=4, le=100_000, description="channels of the first layer; the vector has 16 times as many"
    )


Network = Annotated[Mlp | Unet, Field(discriminator="kind")]
DirectNetwork = Annotated[Mlp | Unet | InversionNet, Field(discriminator="kind")]
"""Of methods that map y to x."""

ImageNetwork = Annotated[Unet | InversionNet, Field(discriminator="kind")]
"""Of those that do so for x on a grid."""


class SetTransformer(Closed):
    """Set Transformer (Lee et al. 2019): ISAB layers, pooling by attention, SAB."""

    kind: Literal["set-transformer"] = "set-transformer"
    hidden: int = Field(default=32, ge=4, le=100_000)
    heads: int = Field(default=4, ge=1, le=100_000)
    inducing: int = Field(default=16, ge=1, le=100_000)
    layers: int = Field(default=1, ge=1, le=1000, description="ISAB layers before pooling")
    size_input: bool = Field(default=True, description="log of the set's size as an input of the encoder")

    @model_validator(mode="after")
    def _divides(self) -> "SetTransformer":
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self


class DeepSets(Closed):
    """Mean over encoded observations, then a perceptron (Zaheer et al. 2017)."""

    kind: Literal["deep-sets"]
    hidden: int = Field(default=64, ge=1, le=100_000)
    size_input: bool = Field(default=True, description="log of the set's size as an input of the encoder")


class Moments(Closed):
    """Moments of the observations through a perceptron: with a diffusion path this is GDDPM (arXiv 2406.01507)."""

    kind: Literal["moments"]
    moments: list[Literal["mean", "std", "skewness", "kurtosis", "correlation"]] = Field(
        default=["mean", "std", "skewness", "correlation"],
        min_length=1,
        description="of each feature of y as the networks see it; the correlation is of each pair",
    )
    hidden: int = Field(default=64, ge=1, le=100_000)
    size_input: bool = Field(default=True, description="log of the set's size as an input of the encoder")


SetEncoder = Annotated[SetTransformer | DeepSets | Moments, Field(discriminator="kind")]


def check_networks(learner: Any, x_shape: tuple[int, ...], y_shape: tuple[int, ...] | None) -> None:
    """Build a learner's networks without memory; ``y_shape`` None for a network of x alone.

    Raises:
        ValueError: a network cannot take these shapes.
    """
    import torch

    from pullback.networks.build import build_network, build_set_encoder

    network, encoder = getattr(learner, "network", None), getattr(learner, "set_encoder", None)
    with torch.device("meta"):
        if network is not None:
            build_network(network, x_shape, y_shape, 0)
        if encoder is not None:
            assert y_shape is not None
            build_set_encoder(encoder, y_shape, 1)


def check_shapes(learner: Any, problem: Any) -> Iterator[Message]:
    """Networks and set encoders that cannot serve a problem's truths or observations, where their shapes are known.

    Args:
        learner: a Spec, with ``network`` or ``set_encoder`` where it has them.
        problem: the `Problem` of the study.
    """
    arrays, of_kind = problem.spec.arrays, f"of problem kind '{problem.kind}'"
    if arrays is None:
        return
    network = getattr(learner, "network", None)
    if "x" not in arrays and isinstance(network, Unet | InversionNet):
        takes_vectors = Mlp in get_args(type(learner).model_fields["network"].annotation)
        other = "kind: mlp" if takes_vectors else "another method, with network mlp"
        yield "network.kind", f"'{network.kind}' is for x on a grid, and {of_kind} it is a vector: use {other}"
    train = getattr(learner, "train", None)
    if "x" in arrays and train and train.prior_reweighting:
        yield (
            "train.prior_reweighting",
            f"sets are reweighted by truths that are vectors, and {of_kind} they are arrays: set it to 0",
        )
    if "y" in arrays and isinstance(getattr(learner, "set_encoder", None), Moments):
        yield (
            "set_encoder.kind",
            f"'moments' is for y that is a vector, and {of_kind} it is an array: use set-transformer or deep-sets",
        )
