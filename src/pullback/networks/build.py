"""Networks from their specs: shapes in, shapes out."""

from torch import nn

from pullback.networks import settings as study
from pullback.networks.deep_sets import DeepSets, Moments
from pullback.networks.encoders import Shape
from pullback.networks.inversion_net import InversionNet
from pullback.networks.mlp import ResidualMlp
from pullback.networks.set_transformer import SetTransformer
from pullback.networks.unet import Unet


def build_network(
    spec: study.Network | study.InversionNet, x_shape: Shape, y_shape: Shape | None, context: int
) -> nn.Module:
    """A network f(x (B, *x), t (B,), y (b, *y) | None, context (b, context) | None) -> (B, *x).

    The rows b of y and context divide B; each serves B / b consecutive rows of x, so that many draws of one event
    encode its observation once.

    Args:
        spec: kind and size.
        x_shape, y_shape: shapes as networks see them (`Scaling.x_shape`); y_shape None builds an unconditional network.
        context: size of the vector beside y (embedding of a set, parameters); 0 for none.

    Raises:
        ValueError: when the kind cannot take these shapes.
    """
    if spec.kind == "mlp":
        return ResidualMlp(x_shape, y_shape, context, spec.width, spec.depth)
    if len(x_shape) == 1:
        raise ValueError(f"network '{spec.kind}' needs x on a 2-D grid, found a vector of {x_shape[0]}; use kind: mlp")
    if isinstance(spec, study.InversionNet):
        assert y_shape is not None
        return InversionNet(x_shape, y_shape, spec.width)
    return Unet(x_shape, y_shape, context, spec.width, spec.levels)


def build_set_encoder(spec: study.SetEncoder, y_shape: Shape, k: int) -> nn.Module:
    """A set encoder f(y (S, N, *y), mask (S, N) bool, weight (S, N) | None) -> (S, k), permutation invariant.

    Raises:
        ValueError: when the kind cannot take this shape of y.
    """
    if isinstance(spec, study.SetTransformer):
        return SetTransformer(y_shape, k, spec.hidden, spec.heads, spec.inducing, spec.layers, spec.size_input)
    if isinstance(spec, study.DeepSets):
        return DeepSets(y_shape, k, spec.hidden, spec.size_input)
    if len(y_shape) != 1:
        raise ValueError(
            f"set_encoder 'moments' takes observations that are vectors, found {y_shape}; use set-transformer"
        )
    return Moments(y_shape[0], k, spec.moments, spec.hidden, spec.size_input)
