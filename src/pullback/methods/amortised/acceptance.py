"""Purity and efficiency: what an amortised model learns of fakes and misses.

- Purity, P(the observation has a truth | y, e(Y)): a classifier of the members of training sets, trained with the model
  and its set encoder, since the fraction of fakes depends on the prior.
- Efficiency, P(the truth is recorded | x): a property of the detector alone, so that one classifier is trained on the
  pairs and misses of all seen families together, after the model.

A draw x of an observation y then stands for purity(y) / efficiency(x) truths before the detector.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pullback.core.seeding import generator, integer_seed
from pullback.diffusion.numerics import numerics, seeded
from pullback.ensembles.fields import Field
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import Part, TrainingData
from pullback.networks.encoders import Shape

log = logging.getLogger("pullback")

WIDTH = 64
STEPS = 3000
BATCH = 2048
LEARNING_RATE = 2e-3
CHECK_EVERY = 100
"""Steps between two looks at the validation loss; the best weights are kept."""
EVENTS = 400_000
"""Most truths that the efficiency is fitted to."""
LEAST_EFFICIENCY = 1e-3
"""No draw stands for more than 1 / this many truths."""


def classifier(inputs: int) -> nn.Sequential:
    """A logit (row, 1) of inputs (row, inputs)."""
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1))


class Purity(nn.Module):
    """The logit of the purity of observations that are vectors.

    Args:
        y_shape: shape of an observation as networks see it.
        context: size of the context vector, 0 without one.
    """

    def __init__(self, y_shape: Shape, context: int):
        super().__init__()
        self.net = classifier(y_shape[0] + context)

    def forward(self, y: Tensor, context: Tensor | None) -> Tensor:
        """Logits (set, member) of y (set, member, *y) and a context (set, context)."""
        if context is not None:
            y = torch.cat([y, context[:, None].expand(-1, y.shape[1], -1)], dim=-1)
        return self.net(y)[..., 0]

    def loss(self, sets: dict[str, Tensor], context: Tensor | None, weight: Tensor) -> Tensor:
        """Sum of the cross entropies of members, times their weights (set, member)."""
        targets = weight.shape[1]
        logits = self(sets["y"][:, :targets], context)
        wanted = sets["real"][:, :targets].to(logits)
        return (functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * weight).sum()


class _Truths(NamedTuple):
    """Truths of several families, and which were recorded."""

    x: np.ndarray
    recorded: np.ndarray
    weight: np.ndarray


class Efficiency:
    """A fitted efficiency.

    Args:
        scaling: how the classifier sees x: as an observation, angles as sine and cosine.
        net: the classifier.
        low, high: least and largest value of each feature among the truths that it was fitted to (feature,).
    """

    def __init__(self, scaling: Scaling, net: nn.Sequential, low: np.ndarray, high: np.ndarray):
        self.scaling, self.net = scaling, net
        self.low, self.high = low, high

    @torch.no_grad()
    def of(self, x: np.ndarray) -> np.ndarray:
        """P(recorded | x) of truths (..., *x), float64; not below `LEAST_EFFICIENCY`. NaN where x is not finite.

        Values beyond those that it was fitted to have the efficiency at the edge. Draws leak over a cut on the truth
        (pT > 30), where efficiencies fall steeply: extrapolated, some of them would stand for many truths each.
        """
        flat = x.reshape(-1, x.shape[-1])
        found = np.full(len(flat), np.nan)
        good = np.isfinite(flat).all(axis=1)
        seen = torch.from_numpy(self.scaling.encode_y(np.clip(flat[good], self.low, self.high)))
        parts = [torch.sigmoid(self.net(rows)[:, 0].double()) for rows in seen.split(1 << 16)]
        found[good] = torch.cat(parts).clamp_min(LEAST_EFFICIENCY).numpy() if parts else []
        return found.reshape(x.shape[:-1])

    def pack(self) -> dict[str, Any]:
        """Plain values and tensors, for an artifact."""
        edges = {"low": self.low.tolist(), "high": self.high.tolist()}
        return {"scaling": self.scaling.to_dict(), "weights": self.net.state_dict(), **edges}

    @classmethod
    def unpack(cls, packed: dict[str, Any]) -> "Efficiency":
        """The inverse of `pack`."""
        scaling = Scaling.from_dict(packed["scaling"])
        net = classifier(scaling.y_shape[0])
        net.load_state_dict(packed["weights"])
        return cls(scaling, net.eval(), *(np.array(packed[edge], np.float32) for edge in ("low", "high")))


def fit_efficiency(data: TrainingData, address: tuple[Any, ...], threads: int) -> Efficiency | None:
    """The efficiency from pairs and misses of the seen families; None where none records misses, or x is an array."""
    if len(data.x.shape) != 1:
        return None
    train, held = (_truths(data, split, generator(*address, "efficiency", split)) for split in ("train", "validation"))
    if train is None:
        return None
    scaling = Scaling.fit(_as_observation(data.x), _as_observation(data.x), train.x, train.x)
    with seeded(integer_seed(*address, "efficiency", "weights")):
        net = classifier(scaling.y_shape[0])
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    rng = generator(*address, "efficiency", "batches")
    best, kept = np.inf, {name: value.clone() for name, value in net.state_dict().items()}
    # The loop calls this at its end, without gradients.
    with numerics(threads, False), torch.enable_grad():
        x, recorded, weight = _tensors(train, scaling)
        checked = _tensors(held if held is not None else train, scaling)
        for step in range(STEPS):
            rows = torch.from_numpy(rng.integers(len(x), size=min(BATCH, len(x))))
            optimizer.zero_grad()
            _cross_entropy(net, x[rows], recorded[rows], weight[rows]).backward()
            optimizer.step()
            schedule.step()
            if (step + 1) % CHECK_EVERY == 0:
                with torch.no_grad():
                    loss = float(_cross_entropy(net, *checked))
                if loss < best:
                    best, kept = loss, {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(kept)
    share = float((train.recorded * train.weight).sum() / train.weight.sum())
    log.info("efficiency: fitted to %d truths, %.4g of them recorded; validation loss %.5g", len(train.x), share, best)
    return Efficiency(scaling, net.eval(), train.x.min(axis=0), train.x.max(axis=0))


def _as_observation(x: Field) -> Field:
    """The field of x as one that networks see without a y beside it."""
    return replace(x, name="y", dims=("y_feature",))


def _truths(data: TrainingData, split: Part, rng: np.random.Generator) -> _Truths | None:
    """Pairs and misses of the families that record misses; weights relative to the mean magnitude in their family."""
    found = list(_families(data, split))
    if not found:
        return None
    x, recorded, weight = map(np.concatenate, zip(*found, strict=True))
    if len(x) > EVENTS:
        rows = rng.choice(len(x), EVENTS, replace=False)
        x, recorded, weight = x[rows], recorded[rows], weight[rows]
    return _Truths(x, recorded, weight)


def _families(data: TrainingData, split: Part) -> Iterator[_Truths]:
    for pairs, missed in data.recorded_and_missed(split):
        weight = np.concatenate([pairs.weight, missed.weight])
        recorded = np.arange(len(weight)) < len(pairs.weight)
        yield _Truths(np.concatenate([pairs.x, missed.x]), recorded, weight / np.abs(weight).mean())


def _tensors(truths: _Truths, scaling: Scaling) -> tuple[Tensor, Tensor, Tensor]:
    seen = torch.from_numpy(scaling.encode_y(truths.x))
    return seen, torch.from_numpy(truths.recorded).float(), torch.from_numpy(truths.weight).float()


def _cross_entropy(net: nn.Module, x: Tensor, recorded: Tensor, weight: Tensor) -> Tensor:
    each = functional.binary_cross_entropy_with_logits(net(x)[:, 0], recorded, reduction="none")
    return (each * weight).mean()
