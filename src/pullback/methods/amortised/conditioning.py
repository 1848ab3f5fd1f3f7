"""Conditioning sets of amortised models: members, bootstrap resamples, and the distance from the training sets."""

import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pullback.ensembles.arrays import Ensemble
from pullback.ensembles.family_events import nominal
from pullback.ensembles.scaling import Scaling

log = logging.getLogger("pullback")

MAX_MEMBERS = 200_000
MAX_VALUES = 50_000_000
"""A conditioning set above either size (members, numbers in its observations) is represented by some of its members."""


LEAST_TRAINING_SETS = 30
"""Of fewer sets the 95 % quantile of distances is too uncertain to call another one unlike them."""


class Members(NamedTuple):
    """A conditioning set as networks see it.

    Attributes:
        y: (member, *y) float32.
        weight: (member,) float32, relative to the mean magnitude in the set as in training; or None.
        rows: of the ensemble (member,).
    """

    y: np.ndarray
    weight: np.ndarray | None
    rows: np.ndarray

    def take(self, index: np.ndarray) -> "Members":
        """Some members, with repeats."""
        return Members(self.y[index], None if self.weight is None else self.weight[index], self.rows[index])


def read_members(ensemble: Ensemble, scaling: Scaling, rng: np.random.Generator) -> Members:
    """The members of a set; above MAX_MEMBERS or MAX_VALUES a random subset, chosen by ``rng``.

    They are read in pieces, so that memory holds the chosen members and one piece.
    """
    most = min(MAX_MEMBERS, max(1, MAX_VALUES // math.prod(scaling.y_shape)))
    chosen = np.arange(ensemble.n)
    if ensemble.n > most:
        log.warning("a set of %d members is represented by %d of them, chosen at random", ensemble.n, most)
        chosen = np.sort(rng.choice(ensemble.n, most, replace=False))
    pieces, weights = [], []
    magnitude = 0.0
    for first in range(0, ensemble.n, max(1, most // 4)):
        last = min(first + max(1, most // 4), ensemble.n)
        inside = chosen[(chosen >= first) & (chosen < last)] - first
        pieces.append(scaling.encode_y(ensemble.read("y", first, last)[inside]))
        if "weight" in ensemble.columns:
            weight = nominal(ensemble.read("weight", first, last))
            magnitude += float(np.abs(weight).sum(dtype=np.float64))
            weights.append(weight[inside])
    scale = magnitude / ensemble.n or 1.0
    relative = (np.concatenate(weights) / scale).astype(np.float32) if weights else None
    return Members(np.concatenate(pieces), relative, chosen)


def repeated(members: Members, size: int) -> Members:
    """A set repeated up to ``size`` members, the last copy cut: the published treatment of small sets.

    Complete copies change no average, so the encoder gains no information but the size; a truncated copy biases it.
    """
    return members if len(members.y) >= size else members.take(np.arange(size) % len(members.y))


class Resamples(NamedTuple):
    """Bootstrap resamples of a set: as many groups, with replacement; jets of one collision are not independent.

    Attributes:
        event_id: of the set's events, in increasing order (event,).
        times: how often each resample holds each of them (event, resample), uint8.
    """

    event_id: np.ndarray
    times: np.ndarray

    def of(self, event_id: np.ndarray) -> np.ndarray:
        """Those of some events (event, resample); 1 of an event outside the set, which no resample leaves out."""
        place = np.minimum(np.searchsorted(self.event_id, event_id), len(self.event_id) - 1)
        found: np.ndarray = np.where((self.event_id[place] == event_id)[:, None], self.times[place], np.uint8(1))
        return found


def bootstrap(ensemble: Ensemble, rngs: Sequence[np.random.Generator]) -> tuple[Resamples, np.ndarray]:
    """Resamples of a set, one of each generator, and how often each holds the set's rows (row, resample)."""
    names, group = np.unique(ensemble.read("group"), return_inverse=True)
    if len(names) == 1 < ensemble.n:
        log.warning("bootstrap: all %d members are of one group, so that a resample is the set itself", ensemble.n)
    drawn = [np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names)) for rng in rngs]
    times = np.stack(drawn, axis=1).astype(np.uint8)[group]
    event_id = ensemble.read("event_id")
    order = np.argsort(event_id)
    return Resamples(event_id[order], times[order]), times


def signature(embedding: Tensor, y: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """Features for the distance between sets, (set, k + 2 features): embedding, mean and standard deviation of members.

    Attention averages are bounded, so that a set far outside may have the embedding of one at the edge; the moments
    distinguish them. An array counts as one feature.

    Args:
        embedding: (set, k).
        y: observations as networks see them (set, member, *y).
        mask: (set, member).
        weight: (set, member) of any sign, or None for equal weights.
    """
    values = y.flatten(2) if y.dim() == 3 else y.flatten(2).mean(dim=2, keepdim=True)
    counts = mask if weight is None else torch.where(mask, weight, 0)
    total = counts.sum(dim=1, keepdim=True)
    share = (counts / torch.where(total == 0, 1, total))[:, :, None]
    mean = (share * values).sum(dim=1)
    # Negative weights can make it negative.
    variance = (share * (values - mean[:, None]).square()).sum(dim=1).clamp_min(0)
    spread = variance.sqrt()
    return torch.cat([embedding, mean, spread], dim=1).float().cpu()


def distance_to_training(found: Tensor, training: Tensor) -> float | None:
    """Distance of a set's signature (k,) to the nearest training one (set, k), relative to distances among these.

    Coordinates are in units of the training sets' standard deviation. The unit is the 95 % quantile of the leave-one-
    out nearest-neighbour distance among the training sets: 1 in 20 sets from the training distribution lies above 1.
    None with fewer than `LEAST_TRAINING_SETS`, or where most of them are copies of each other: no quantile is known.
    """
    if len(training) < LEAST_TRAINING_SETS:
        return None
    spread = training.std(dim=0).clamp_min(1e-6)
    scaled = training / spread
    own = (scaled[:, None] - scaled).norm(dim=-1)
    own.fill_diagonal_(math.inf)
    unit = torch.quantile(own.min(dim=1).values, 0.95)
    return float((found / spread - scaled).norm(dim=-1).min() / unit) if unit > 0 else None
