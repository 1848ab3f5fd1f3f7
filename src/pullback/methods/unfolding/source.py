"""A source distribution q(x) as a neural sampler, and what it is fitted by: sliced distance and entropy.

Vetter et al. 2024 (Sourcerer, arXiv 2402.07808): of all sources whose push-forward through the forward process is the
distribution of the observations, the one with the most entropy is unique. A sampler x = g(n), n ~ N(0, I), is fitted by

    min  (1 - lam) SW_2^2( g # n pushed forward, observations ) - lam H(q),

with lam falling from a first to a last value, so that entropy chooses among sources before the observations fix q.

All of it is in the space of networks (`Scaling`). Entropy depends on coordinates: it is that of the scaled x.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import digamma
from torch import Tensor, nn

from pullback.networks.build import build_network
from pullback.networks.settings import Mlp

KNOTS = 65
TAIL_EVENTS = 20
"""Seen truths beyond the last knot of a table, on each side."""
NEIGHBOUR = 4
"""Of the entropy's estimate: more give less noise and, where the density bends, more bias."""


class Space(NamedTuple):
    """The region of scaled truths v where a source lives, per quantity.

    Attributes:
        low, high: bounds (quantity,), finite; those of an angle are a turn apart.
        angle: whether the quantity is an angle (quantity,).
    """

    low: np.ndarray
    high: np.ndarray
    angle: np.ndarray


class Source(nn.Module):
    """A sampler of q(v), v the scaled x: v_j = T_j(n_j + f_j(n)), n ~ N(0, I).

    f is a network that starts at zero and T_j the map from N(0, 1) to the seen truths' marginal distribution, linear
    between quantiles and beyond the last ones: at first q is the product of the seen marginals, edges of cuts included.
    Values beyond a bound are reflected at it, and angles wrapped, so that no truth piles up where x ends.

    Args:
        tables: v_j at the knots (quantity, knot), from `quantile_tables`.
        knots: n_j there (knot,).
        space: where v lives.
        network: size of f.
    """

    tables: Tensor
    knots: Tensor
    low: Tensor
    high: Tensor
    angle: Tensor

    def __init__(self, tables: np.ndarray, knots: np.ndarray, space: Space, network: Mlp):
        super().__init__()
        for name, values in {"tables": tables, "knots": knots, "low": space.low, "high": space.high}.items():
            self.register_buffer(name, torch.from_numpy(values).float())
        self.register_buffer("angle", torch.from_numpy(space.angle))
        self.network = build_network(network, (len(tables),), None, 0)

    def forward(self, normal: Tensor) -> Tensor:
        """v (event, quantity) from standard normals of that shape."""
        z = (normal + self.network(normal, normal.new_zeros(1))).T.contiguous()
        right = torch.searchsorted(self.knots, z.detach()).clamp(1, len(self.knots) - 1)
        low, high = self.tables.gather(1, right - 1), self.tables.gather(1, right)
        start = self.knots[right - 1]
        return self._inside((low + (high - low) * (z - start) / (self.knots[right] - start)).T)

    def _inside(self, v: Tensor) -> Tensor:
        width = self.high - self.low
        turned = torch.remainder(v - self.low, width)
        # A triangle wave: also of what lies beyond the other bound after one reflection.
        reflected = width - (torch.remainder(v - self.low, 2 * width) - width).abs()
        return self.low + torch.where(self.angle, turned, reflected)

    def embedded(self, v: Tensor) -> Tensor:
        """v with each angle as a point on a circle of its length: distances of near truths are those of v."""
        turn = torch.where(self.angle, (self.high - self.low) / (2 * math.pi), 1.0)
        circle = [part[:, self.angle] for part in ((v / turn).sin() * turn, (v / turn).cos() * turn)]
        return torch.cat([v[:, ~self.angle], *circle], dim=1)


class Observations(NamedTuple):
    """What a source is fitted to.

    Attributes:
        z: observations as networks see them (event, d), float32.
        cumulative: their weights, added up and normalised (event,).
        total: sum of the event weights.
    """

    z: np.ndarray
    cumulative: np.ndarray
    total: float

    @staticmethod
    def of(z: np.ndarray, weight: np.ndarray) -> "Observations":
        """Observations (event, d) with non-negative weights (event,), not all zero."""
        cumulative = np.cumsum(weight, dtype=np.float64)
        return Observations(z, cumulative / cumulative[-1], float(cumulative[-1]))

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n of them in proportion to their weights (n, d)."""
        return self.z[_places(self.cumulative, rng.random(n))]

    def quantiles(self, lines: np.ndarray, n: int) -> np.ndarray:
        """Quantiles (i + 1/2) / n, i = 0 ... n - 1, of the projections on lines (line, d): (line, n), float32."""
        weight = np.diff(self.cumulative, prepend=0.0)
        at, equal = (np.arange(n) + 0.5) / n, bool(np.ptp(weight) < 1e-9 * weight.max())
        found = np.empty((len(lines), n), np.float32)
        for row, line in zip(found, lines, strict=True):
            projected = self.z @ line
            if equal:
                row[:] = np.sort(projected)[(at * len(projected)).astype(int)]
            else:
                order = np.argsort(projected)
                row[:] = projected[order[_places(np.cumsum(weight[order]), at)]]
        return found


def _places(cumulative: np.ndarray, share: np.ndarray) -> np.ndarray:
    return np.minimum(np.searchsorted(cumulative, share, "right"), len(cumulative) - 1)


def quantile_tables(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of each column of v (event, quantity): their values (quantity, knot), and standard normals' (knot,)."""
    normal = NormalDist()
    most = -normal.inv_cdf(min(0.4, max(TAIL_EVENTS / len(v), 1e-6)))
    knots = np.linspace(-most, most, KNOTS)
    return np.quantile(v.astype(np.float64), [normal.cdf(k) for k in knots], axis=0).T, knots


def sliced_distance(sample: Tensor, lines: Tensor, quantiles: Tensor) -> Tensor:
    """SW_2^2 of a sample (event, d) and another distribution: the mean over lines (line, d) of W_2^2 of projections.

    Args:
        sample: in which it is differentiable.
        lines: unit vectors.
        quantiles: of the projections of the other (line, n), sorted, at (i + 1/2) / n; n at least the sample's size.
    """
    projected = torch.sort(lines @ sample.T, dim=1).values
    n = len(sample)
    nearest = ((torch.arange(n, device=sample.device) + 0.5) * (quantiles.shape[1] / n)).long()
    return (projected - quantiles[:, nearest]).square().mean()


def directions(n: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors (n, d), uniform on the sphere, float32."""
    found = rng.standard_normal((n, dimension))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def entropy(v: Tensor, d: int | None = None, neighbour: int = NEIGHBOUR) -> Tensor:
    """Differential entropy of a sample (event, column) in nats, by Kozachenko and Leonenko's estimate, differentiable.

        H = psi(N) - psi(k) + log V_d + d / N sum_i log r_i,

    r_i the distance of i to its k-th neighbour, V_d the volume of the unit ball (Kraskov et al. 2004, eq. 20).

    Args:
        v: the sample.
        d: its dimension, less than the number of columns where angles have two; as many when not given.
        neighbour: k.
    """
    n, d = len(v), d or v.shape[1]
    ball = 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1)
    with torch.no_grad():
        # The nearest is the event itself.
        kth = torch.cdist(v, v).topk(neighbour + 1, dim=1, largest=False).indices[:, -1]
    # The distance itself is taken without the matrix product, in which near events lose it to rounding.
    squared = (v - v[kth]).square().sum(dim=1)
    psi = float(digamma(n) - digamma(neighbour))
    # Events on top of each other have no distance: their logarithm is bounded.
    return psi + ball + 0.5 * d * squared.clamp_min(1e-24).log().mean()


def anneal(step: int, steps: int, ends: tuple[float, float]) -> float:
    """lam of a step: from the first to the last value geometrically over the first half of the steps, then constant."""
    first, last = ends
    done = min(1.0, 2 * step / steps)
    return first ** (1 - done) * last**done if last > 0 else first * (1 - done)
