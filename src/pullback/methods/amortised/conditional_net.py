"""The network of an amortised model with what makes its context, and the losses of its training steps."""

import numpy as np
import torch
from torch import Tensor, nn

from pullback.diffusion.share import Noise
from pullback.methods.amortised.acceptance import Purity
from pullback.methods.amortised.paths import Path as NoisePath
from pullback.methods.amortised.spec import Amortised, SetContext
from pullback.networks.build import build_network, build_set_encoder
from pullback.networks.encoders import Shape


class ConditionalNet(nn.Module):
    """The network and what makes its context: a set encoder, standardised parameters, or nothing; trained together.

    Args:
        spec: of the method.
        x_shape, y_shape: of truth and observation as networks see them.
        theta: mean and standard deviation of the parameters of the training priors, (2, parameter), for a model with
            ``parameters``.
        purity: whether to classify observations as real or fake.
    """

    theta: Tensor | None

    def __init__(
        self,
        spec: Amortised,
        x_shape: Shape,
        y_shape: Shape,
        theta: np.ndarray | None = None,
        purity: bool = False,
    ):
        super().__init__()
        k = spec.k if isinstance(spec, SetContext) else 0 if theta is None else theta.shape[1]
        self.network = build_network(spec.network, x_shape, y_shape, k)
        self.encoder = build_set_encoder(spec.set_encoder, y_shape, k) if isinstance(spec, SetContext) else None
        self.normalises_rows = any(isinstance(layer, nn.BatchNorm2d) for layer in self.network.modules())
        self.register_buffer("theta", None if theta is None else torch.from_numpy(theta).float())
        self.purity = Purity(y_shape, k) if purity else None

    def context(self, sets: dict[str, Tensor]) -> Tensor | None:
        """Contexts (set, k) of sets with y (set, member, *y), mask, and weight or theta where there are any."""
        if self.encoder is not None:
            return self.encoder(sets["y"], sets["mask"], sets.get("weight"))
        if self.theta is not None:
            return (sets["theta"].to(self.theta) - self.theta[0]) / self.theta[1]
        return None


def member_weights(sets: dict[str, Tensor]) -> Tensor:
    """Weight of each member (set, member), 0 in padding."""
    return sets["mask"] * sets["weight"] if "weight" in sets else sets["mask"]


def target_weights(sets: dict[str, Tensor], targets: int | None) -> Tensor:
    """Weight of the first ``targets`` members in a loss of x (set * target,): 0 in padding and for fakes."""
    share = member_weights(sets)
    if "real" in sets:
        share = share * sets["real"]
    return share[:, :targets].flatten()


def purity_loss(
    purity: Purity | None, sets: dict[str, Tensor], context: Tensor | None, targets: int | None
) -> tuple[Tensor | float, Tensor]:
    """Cross entropy of the first ``targets`` members times their weights, and the sum of weights that a loss is over.

    Without a purity 0 and the weights of the targets; with one fakes have a loss, too.
    """
    if purity is None:
        return 0.0, target_weights(sets, targets).sum()
    weight = member_weights(sets)[:, :targets]
    return purity.loss(sets, context, weight), weight.sum()


def path_loss(
    model: ConditionalNet,
    path: NoisePath,
    sets: dict[str, Tensor],
    noise: Noise,
    targets: int | None,
    absolute: bool = False,
) -> tuple[Tensor, Tensor]:
    """Squared error of the first ``targets`` members of each set (all when None), given the full set.

    Args:
        model: the network and what makes its context.
        path: what the network is trained on.
        sets: `Sets` as networks see them.
        noise: of this step.
        targets: members of each set in the loss.
        absolute: add the absolute error.

    Returns:
        The sum over members, times their weights where they have any, and the sum of weights; with the cross entropy of
        the purity where there are fakes.
    """
    context = model.context(sets)
    x, y, there = (sets[name][:, :targets] for name in ("x", "y", "mask"))
    x_t, t, target = path.point(x, y, noise)
    share = target_weights(sets, targets).reshape(there.shape)
    of_purity, total = purity_loss(model.purity, sets, context, targets)
    # Padding has no weight in the loss, but would have one in the statistics of a batch.
    x_t, t, y, target, share = (
        v[there] if model.normalises_rows else v.flatten(0, 1) for v in (x_t, t, y, target, share)
    )
    gap = (model.network(x_t, t, y, context) - target).flatten(1)
    error = gap.square().mean(dim=1)
    if absolute:
        error = error + gap.abs().mean(dim=1)
    return (error * share).sum() + of_purity, total
