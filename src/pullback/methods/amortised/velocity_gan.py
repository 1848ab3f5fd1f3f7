"""VelocityGAN: InversionNet trained against a critic (Zhang and Lin 2020; the baseline of OpenFWI, Deng et al. 2022).

The generator's loss is l1 |x - G(y)| + l2 |x - G(y)|^2 - D(G(y)), the critic's D(G(y)) - D(x) + 10 (|grad D| - 1)^2 (a
Wasserstein critic with gradient penalty, Gulrajani et al. 2017). Of every ``critic_steps + 1`` steps the last trains
the generator, the others the critic. What is kept is the generator whose validation error (l1 + l2, no critic) is
least; it gives a point estimate.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.diffusion.share import Noise
from pullback.ensembles.scaling import Scaling
from pullback.methods.amortised.model import AmortisedModel, ConditionalNet, target_weights
from pullback.methods.amortised.velocity_gan_spec import VelocityGanSpec
from pullback.networks.inversion_net import Critic, gradient_penalty

PENALTY = 10.0


class GanNet(ConditionalNet):
    """A generator and its critic; how many turns were taken is among the weights, so that a checkpoint knows it."""

    turn: Tensor

    def __init__(self, spec: VelocityGanSpec, x_shape: tuple[int, ...], y_shape: tuple[int, ...]):
        super().__init__(spec, x_shape, y_shape)
        self.critic = Critic(x_shape, spec.critic_width)
        self.critic_steps = spec.critic_steps
        self.register_buffer("turn", torch.zeros((), dtype=torch.long))

    def next_is_generators(self) -> bool:
        """Count a turn; whether it is the generator's."""
        self.turn += 1
        return int(self.turn) % (self.critic_steps + 1) == 0


class VelocityGan(AmortisedModel):
    """See the module."""

    spec: VelocityGanSpec  # type: ignore[assignment]

    def _network(self, scaling: Scaling, theta: np.ndarray | None) -> GanNet:
        return GanNet(self.spec, scaling.x_shape, scaling.y_shape)

    def _loss(self) -> Callable[[Any, dict[str, Tensor], Noise], tuple[Tensor, Tensor]]:
        targets, l1, l2 = self.spec.train.loss_members, self.spec.l1, self.spec.l2

        def loss(model: GanNet, sets: dict[str, Tensor], noise: Noise) -> tuple[Tensor, Tensor]:
            there = sets["mask"][:, :targets]
            # Without padding: it would enter the statistics that batches are normalised by.
            x, y = sets["x"][:, :targets][there], sets["y"][:, :targets][there]
            share = target_weights(sets, targets)[there.flatten()]
            if model.training and not model.next_is_generators():
                each = critic_loss(model, x, y, noise.uniform(there.shape)[there])
            else:
                made = generate(model, x, y)
                gap = (made - x).flatten(1)
                each = l1 * gap.abs().mean(dim=1) + l2 * gap.square().mean(dim=1)
                if model.training:
                    each = each - judgement(model, made)
            return (each * share).sum(), share.sum()

        return loss


def generate(model: GanNet, x: Tensor, y: Tensor) -> Tensor:
    """G(y), in the shape of x (B, *x)."""
    return model.network(x, torch.zeros(1, device=x.device), y)


def critic_loss(model: GanNet, x: Tensor, y: Tensor, place: Tensor) -> Tensor:
    """The critic's loss (B,) on truths x (B, *x) and what the generator, which learns nothing here, makes of y (B, *y).

    Args:
        model: both.
        x, y: pairs.
        place: (B,) uniform in [0, 1): where between the two the penalty is taken.
    """
    with torch.no_grad():
        made = generate(model, x, y)
    return model.critic(made) - model.critic(x) + PENALTY * gradient_penalty(model.critic, x, made, place)


def judgement(model: GanNet, made: Tensor) -> Tensor:
    """D of made models (B,); the critic, which learns nothing here, gets no gradient."""
    weights = {name: weight.detach() for name, weight in model.critic.named_parameters()}
    scores: Tensor = torch.func.functional_call(model.critic, weights, (made,))
    return scores
