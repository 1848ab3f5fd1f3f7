"""Hierarchical variational autoencoder: a latent of the data set and a latent of the event (Neural Statistician).

The ensemble-inverse paper (arXiv 2601.22029) compares with a "hierarchical VAE" that it does not define. This is our
reading: the Neural Statistician (Edwards and Storkey 2017, arXiv 1606.02185) with everything conditioned on y::

    c ~ N(0, I_k)                        the data set's latent, q(c|Y) from a set encoder
    z ~ p(z | y, c)                      the event's latent, learned; q(z | x, y, c) in training
    x ~ N(m(z, y, c), diag s^2(z, y, c))

All laws are Gaussians with diagonal covariance. q(c|Y) depends on the observations only, because the truth is unknown
at inference. For a set of N members the bound on log p(x_1 ... x_N | Y), per member, is

    E_q [ log p(x|z,y,c) - KL(q(z|x,y,c) || p(z|y,c)) ] - KL(q(c|Y) || N(0, I)) / N.

In training a component of the last term counts at least FREE_NATS (still a bound, a lower one): otherwise the posterior
of c collapses to the prior before the set encoder has learned (posterior collapse).

A draw takes c ~ q(c|Y), z ~ p(z|y,c) and x ~ p(x|z,y,c), so that draws include the uncertainty of the set about its
prior.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pullback.core.seeding import event_normals
from pullback.diffusion.share import Noise
from pullback.ensembles.scaling import Scaling
from pullback.methods.amortised.acceptance import Purity
from pullback.methods.amortised.conditional_net import purity_loss, target_weights
from pullback.methods.amortised.hvae_spec import HvaeSpec
from pullback.methods.amortised.model import VECTOR_ROWS, AmortisedModel
from pullback.networks.build import build_set_encoder
from pullback.networks.encoders import Shape, observation_encoder

LOG_STD = 7.0
"""Standard deviations lie within exp(+-LOG_STD), in units of the scaled x."""

SET_LOG_STD = -2.0
"""q(c|Y) starts this narrow: as wide as its prior, c would say nothing at first and the rest would learn without it."""

FREE_NATS = 2.0
"""What each component of c may say about the set at no cost (free bits; Kingma et al. 2016, arXiv 1606.04934)."""

CALLS_OF_A_DRAW = 2


def split(values: Tensor, start: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean and log of the standard deviation from a network's output (..., 2 n); the latter is ``start`` for zeros."""
    mean, raw = values.float().chunk(2, dim=-1)
    return mean, LOG_STD * torch.tanh((raw + start) / LOG_STD)


def kl_terms(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(0, 1)) of each component."""
    return 0.5 * ((2 * log_std).exp() + mean.square() - 1) - log_std


def kl(mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(other_mean, other_std^2)), diagonal, summed over the last axis."""
    return kl_terms((mean - other_mean) * (-other_log_std).exp(), log_std - other_log_std).sum(dim=-1)


def log_normal(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log of a Gaussian density with diagonal covariance, summed over the last axis."""
    away = (x - mean) * (-log_std).exp()
    return (-0.5 * away.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(dim=-1)


def refuse(x_shape: Shape) -> None:
    """Raise ValueError for truths that are not vectors."""
    if len(x_shape) != 1:
        raise ValueError(f"method 'hvae' models x that is a vector, found shape {x_shape}; use ei-fm with network unet")


class HvaeNet(nn.Module):
    """The set encoder and the three Gaussian networks: one module, trained together.

    Raises:
        ValueError: when x is not a vector.
    """

    def __init__(self, spec: HvaeSpec, scaling: Scaling, purity: bool = False):
        super().__init__()
        refuse(scaling.x_shape)
        size, width = scaling.x_shape[0], spec.network.width

        def gaussian(inputs: int, outputs: int) -> nn.Module:
            sizes = [inputs + width + spec.k, *[width] * spec.network.depth]
            layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.GELU())]
            return nn.Sequential(*layers, nn.Linear(width, 2 * outputs))

        self.encoder = build_set_encoder(spec.set_encoder, scaling.y_shape, 2 * spec.k)
        self.observe = observation_encoder(scaling.y_shape, width)
        self.purity = Purity(scaling.y_shape, 2 * spec.k) if purity else None
        self._prior = gaussian(0, spec.latent)
        self._posterior = gaussian(size, spec.latent)
        self._decoder = gaussian(spec.latent, size)

    def context(self, sets: dict[str, Tensor]) -> Tensor:
        """q(c|Y) as one vector (set, 2 k), for `split` with SET_LOG_STD; sets as in `ConditionalNet.context`."""
        return self.encoder(sets["y"], sets["mask"], sets.get("weight"))

    def prior(self, y: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """p(z|y,c): y (event, *y), c (event, k) -> mean and log standard deviation (event, latent)."""
        return split(self._prior(torch.cat([self.observe(y), c], dim=-1)))

    def posterior(self, x: Tensor, y: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """q(z|x,y,c), as `prior`, with x (event, *x)."""
        return split(self._posterior(torch.cat([x, self.observe(y), c], dim=-1)))

    def decode(self, z: Tensor, y: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """p(x|z,y,c): mean and log standard deviation (event, *x)."""
        return split(self._decoder(torch.cat([z, self.observe(y), c], dim=-1)))


def negative_elbo(
    model: HvaeNet, sets: dict[str, Tensor], noise: Noise, latent: int, targets: int | None
) -> tuple[Tensor, Tensor]:
    """Minus the bound of the first ``targets`` members of each set (all when None), given the full set.

    Returns:
        The sum over members, times their weights where they have any, and the sum of weights; with the cross entropy of
        the purity where there are fakes.
    """
    context = model.context(sets)
    mean, log_std = split(context, SET_LOG_STD)
    of_purity, total = purity_loss(model.purity, sets, context, targets)
    c = mean + log_std.exp() * noise.normal(mean.shape)
    x, y = sets["x"][:, :targets], sets["y"][:, :targets]
    share = target_weights(sets, targets)
    members = x.shape[1]
    eps = noise.normal((len(c), members, latent)).flatten(0, 1)
    x, y, each = x.flatten(0, 1), y.flatten(0, 1), c.repeat_interleave(members, dim=0)
    at, spread = model.posterior(x, y, each)
    bound = log_normal(x, *model.decode(at + spread.exp() * eps, y, each)) - kl(at, spread, *model.prior(y, each))
    of_set = kl_terms(mean, log_std).clamp_min(FREE_NATS).sum(dim=-1) / sets["mask"].sum(dim=1)
    return ((of_set.repeat_interleave(members) - bound) * share).sum() + of_purity, total


class Hvae(AmortisedModel):
    """The hierarchical VAE as an amortised model with its own network, loss and sampler."""

    spec: HvaeSpec  # type: ignore[assignment]
    model: HvaeNet  # type: ignore[assignment]

    def least_loss(self, scaling: Scaling) -> float:
        """A bound below which the loss of no member lies: minus the highest log density that the decoder can give."""
        return -math.prod(scaling.x_shape) * (LOG_STD - 0.5 * math.log(2 * math.pi))

    def _loss(self) -> Callable[[Any, dict[str, Tensor], Noise], tuple[Tensor, Tensor]]:
        latent, targets = self.spec.latent, self.spec.train.loss_members

        def loss(model: HvaeNet, sets: dict[str, Tensor], noise: Noise) -> tuple[Tensor, Tensor]:
            return negative_elbo(model, sets, noise, latent, targets)

        return loss

    def _network(self, scaling: Scaling, theta: np.ndarray | None) -> HvaeNet:  # type: ignore[override]
        return HvaeNet(self.spec, scaling, self.with_purity)

    def _draw(
        self, context: Tensor | None, noise: np.ndarray, seen: np.ndarray, event_id: np.ndarray, part: int
    ) -> np.ndarray:
        """Draws as the network sees them (event, draw, *x): ``noise`` is that of x, c and z have some of their own."""
        assert context is not None
        mean, log_std = split(context, SET_LOG_STD)
        sizes, draws = (self.spec.k, self.spec.latent), noise.shape[1]
        latent = event_normals((*self.context.address, "latent", part), event_id, (draws, sum(sizes)))
        step = max(1, VECTOR_ROWS // max(1, draws))
        pieces = []
        for some in (slice(i, i + step) for i in range(0, len(noise), step)):
            of_x, of_both = (torch.from_numpy(n[some]).flatten(0, 1).to(self.device) for n in (noise, latent))
            y = torch.from_numpy(seen[some]).to(self.device).repeat_interleave(draws, dim=0)
            of_c, of_z = of_both.split(sizes, dim=-1)
            c = mean + log_std.exp() * of_c
            at, spread = self.model.prior(y, c)
            at, spread = self.model.decode(at + spread.exp() * of_z, y, c)
            self.cost.network_calls += CALLS_OF_A_DRAW * len(c)
            pieces.append((at + spread.exp() * of_x).float().cpu().numpy().reshape(-1, draws, noise.shape[-1]))
        return np.concatenate(pieces)
