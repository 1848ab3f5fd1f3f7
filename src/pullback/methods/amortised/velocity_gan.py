"""VelocityGAN: InversionNet trained against a critic (Zhang and Lin 2020; the baseline of OpenFWI, Deng et al. 2022).

The generator's loss is l1 |x - G(y)| + l2 |x - G(y)|^2 - D(G(y)), the critic's D(G(y)) - D(x) + 10 (|grad D| - 1)^2 (a
Wasserstein critic with gradient penalty, Gulrajani et al. 2017). In each cycle of ``critic_steps + 1`` steps the last
one trains the generator, the others the critic. The generator with the least validation error (l1 + l2, without the
critic) is kept; it gives a point estimate.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.diffusion.share import Noise
from pullback.ensembles.scaling import Scaling
from pullback.methods.amortised.conditional_net import ConditionalNet, target_weights
from pullback.methods.amortised.model import AmortisedModel
from pullback.methods.amortised.velocity_gan_spec import VelocityGanSpec
from pullback.networks.inversion_net import Critic, gradient_penalty

PENALTY = 10.0


class GanNet(ConditionalNet):
    """A generator and its critic; the step counter is a buffer, so that checkpoints contain it."""

    turn: Tensor

    def __init__(self, spec: VelocityGanSpec, x_shape: tuple[int, ...], y_shape: tuple[int, ...]):
        super().__init__(spec, x_shape, y_shape)
        self.critic = Critic(x_shape, spec.critic_width)
        self.critic_steps = spec.critic_steps
        self.register_buffer("turn", torch.zeros((), dtype=torch.long))

    def next_is_generators(self) -> bool:
        """Count a step; returns whether it trains the generator."""
        self.turn += 1
        return int(self.turn) % (self.critic_steps + 1) == 0


class VelocityGan(AmortisedModel):
    """VelocityGAN as an amortised model (see the module)."""

    spec: VelocityGanSpec  # type: ignore[assignment]

    def _network(self, scaling: Scaling, theta: np.ndarray | None) -> GanNet:
        return GanNet(self.spec, scaling.x_shape, scaling.y_shape)

    def _loss(self) -> Callable[[Any, dict[str, Tensor], Noise], tuple[Tensor, Tensor]]:
        targets, l1, l2 = self.spec.train.loss_members, self.spec.l1, self.spec.l2

        def loss(model: GanNet, sets: dict[str, Tensor], noise: Noise) -> tuple[Tensor, Tensor]:
            there = sets.get("real", sets["mask"])[:, :targets]
            # Without padding: it would enter the statistics that batches are normalised by.
            x, y = sets["x"][:, :targets][there], sets["y"][:, :targets][there]
            share = target_weights(sets, targets)[there.flatten()]
            if model.training and not model.next_is_generators():
                each = critic_loss(model, x, y, noise.uniform(there.shape)[there])
            else:
                generated = generate(model, x, y)
                gap = (generated - x).flatten(1)
                each = l1 * gap.abs().mean(dim=1) + l2 * gap.square().mean(dim=1)
                if model.training:
                    each = each - critic_score(model, generated)
            return (each * share).sum(), share.sum()

        return loss


def generate(model: GanNet, x: Tensor, y: Tensor) -> Tensor:
    """G(y), in the shape of x (B, *x)."""
    return model.network(x, torch.zeros(1, device=x.device), y)


def critic_loss(model: GanNet, x: Tensor, y: Tensor, fraction: Tensor) -> Tensor:
    """The critic's loss (B,) on truths x (B, *x) and models generated from y (B, *y); no gradient to the generator.

    Args:
        model: both.
        x, y: pairs.
        fraction: (B,) uniform in [0, 1): interpolation between real and generated models at which the penalty is
            evaluated.
    """
    with torch.no_grad():
        generated = generate(model, x, y)
    return model.critic(generated) - model.critic(x) + PENALTY * gradient_penalty(model.critic, x, generated, fraction)


def critic_score(model: GanNet, generated: Tensor) -> Tensor:
    """Scores D of generated models (B,), without gradients of the critic."""
    weights = {name: weight.detach() for name, weight in model.critic.named_parameters()}
    scores: Tensor = torch.func.functional_call(model.critic, weights, (generated,))
    return scores
