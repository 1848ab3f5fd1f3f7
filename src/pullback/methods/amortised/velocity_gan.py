"""VelocityGAN: InversionNet trained against a critic (Zhang and Lin 2020; the baseline of OpenFWI, Deng et al. 2022).

The generator's loss is l1 |x - G(y)| + l2 |x - G(y)|^2 - D(G(y)), the critic's D(G(y)) - D(x) + 10 (|grad D| - 1)^2 (a
Wasserstein critic with gradient penalty). Of every ``critic_steps + 1`` steps the last trains the generator, the others
the critic. It returns a point estimate; what is kept is the generator whose validation error (l1 + l2, no critic) is
least.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.ensembles.scaling import Scaling
from pullback.generative.numerics import seeded
from pullback.generative.share import Noise
from pullback.methods.amortised.model import AmortisedModel, ConditionalNet, ModelError, target_weights
from pullback.networks.inversion_net import Critic, gradient_penalty
from pullback.seeding import integer_seed
from pullback.study import methods as study

PENALTY = 10.0


class GanNet(ConditionalNet):
    """A generator and its critic; whose turn it is survives a checkpoint."""

    turn: Tensor

    def __init__(self, spec: study.VelocityGan, x_shape: tuple[int, ...], y_shape: tuple[int, ...]):
        super().__init__(spec, x_shape, y_shape)
        self.critic = Critic(x_shape, spec.critic_width)
        self.critic_steps = spec.critic_steps
        self.register_buffer("turn", torch.zeros((), dtype=torch.long))

    def next_is_generator(self) -> bool:
        """Advance by a step; whether it is the generator's."""
        self.turn += 1
        return int(self.turn) % (self.critic_steps + 1) == 0


class VelocityGan(AmortisedModel):
    """See the module."""

    spec: study.VelocityGan  # type: ignore[assignment]

    def _build(self, scaling: Scaling, theta: np.ndarray | None) -> GanNet:
        with seeded(integer_seed(*self.context.address, "weights")):
            return GanNet(self.spec, scaling.x_shape, scaling.y_shape)

    def _loss(self) -> Callable[[Any, dict[str, Tensor], Noise], tuple[Tensor, Tensor]]:
        spec, targets = self.spec, self.spec.train.targets

        def loss(model: GanNet, sets: dict[str, Tensor], noise: Noise) -> tuple[Tensor, Tensor]:
            if noise.share.processes > 1:
                raise ModelError(
                    f"velocity-gan trains on one device, found {noise.share.processes} processes: give it one GPU"
                )
            x, y = sets["x"][:, :targets].flatten(0, 1), sets["y"][:, :targets].flatten(0, 1)
            share = target_weights(sets, targets)
            generator = not model.training or model.next_is_generator()
            with torch.set_grad_enabled(generator and torch.is_grad_enabled()):
                made = model.network(x, torch.zeros(1, device=x.device), y)
            if not generator:
                where = noise.uniform((*sets["x"][:, :targets].shape[:2],)).flatten()
                penalty = gradient_penalty(model.critic, x, made, where)
                each = model.critic(made) - model.critic(x) + PENALTY * penalty
                return (each * share).sum(), share.sum()
            error = (made - x).flatten(1)
            each = spec.l1 * error.abs().mean(dim=1) + spec.l2 * error.square().mean(dim=1)
            if model.training:
                # The critic judges and does not learn: its weights get no gradient.
                for weight in model.critic.parameters():
                    weight.requires_grad_(False)
                each = each - model.critic(made)
                for weight in model.critic.parameters():
                    weight.requires_grad_(True)
            return (each * share).sum(), share.sum()

        return loss
