"""Set Transformer: a permutation-invariant embedding of an ensemble of observations (Lee et al. 2019).

    MAB(X, Y)  = H + rFF(H),  H = X + Attention(X, Y, Y),  rFF(H) = relu(H W + b)     (eqs. 6, 7)
    ISAB(X)    = MAB(X, MAB(I, X)), I learned inducing points, O(N m)                 (eqs. 9, 10)
    PMA(Z)     = MAB(S, Z), S learned seeds                                           (eq. 11)
    SAB(X)     = MAB(X, X)                                                            (eq. 8)

Changes, and why: attention divides by sqrt(head width); members may carry weights; for images and gathers what is
attended to and the input of rFF are normalised (pre-LN: stable at larger learning rates). Observations that are vectors
are not, as published: for them the softmax average of y under scores q.y is the gradient of the log moment generating
function, which for Gaussian observations is mean + covariance q, linear in the moments.

A member of weight w is equivalent to w copies: a_j = w_j exp(s_j) / sum_i w_i exp(s_i), the average under the
reweighted ensemble. Weights may be negative, as those of next-to-leading-order event generators are: a member and its
copy of opposite weight then cancel. The sum below can come close to zero for such sets; it is kept at least
`LEAST_SHARE` of the sum of magnitudes.

Most of the arithmetic is between N members and a few points (m inducing ones, seeds), so products are associated such
that nothing of size N x hidden is projected that need not be: s = x W_q (p W_k)^T = x (W_q W_k^T p^T), and likewise
for values.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pullback.networks.encoders import Shape, observation_encoder
from pullback.networks.set_head import SetHead, members_weight

SEEDS = 4
"""Pooled vectors (seeds of PMA); they attend to each other and are concatenated."""

LEAST_SHARE = 0.05


def normalised(values: Tensor) -> Tensor:
    """Each vector with mean 0 and variance 1; a scale and offset would add nothing to the linear maps that follow."""
    return functional.layer_norm(values, values.shape[-1:])


class MAB(nn.Module):
    """Multihead attention block: X (S, n, hidden) attends to Y (S, N, hidden), both residual."""

    def __init__(self, hidden: int, heads: int, normalise: bool):
        super().__init__()
        self.heads = heads
        self.norm = normalised if normalise else _as_they_are
        self.q = nn.Linear(hidden, hidden)
        # A key's bias would add one number to all scores of a query: softmax does not see it.
        self.k = nn.Linear(hidden, hidden, bias=False)
        self.v = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, hidden)
        self.rff = nn.Linear(hidden, hidden)

    def forward(self, X: Tensor, Y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Blocks of shape (S, n, hidden); ``weight`` (S, N) of the members of Y, 0 where there is none; None: all 1."""
        return self.between(X, self.norm(X), self.norm(Y), weight)

    def between(self, X: Tensor, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The same, from what is already normalised."""
        H = self._few_queries(X, x, y, weight) if x.shape[1] <= y.shape[1] else self._few_keys(X, x, y, weight)
        return H + functional.relu(self.rff(self.norm(H)))

    def _split(self, values: Tensor) -> Tensor:
        """(S, n, hidden) -> (S, head, n, width)."""
        return values.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _heads_of(self, weight: Tensor) -> Tensor:
        """A projection's weight (hidden, hidden) by heads of its output: (head, width, hidden)."""
        return weight.unflatten(0, (self.heads, -1))

    def _few_queries(self, X: Tensor, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        q = self._split(self.q(x))
        folded = (q @ self._heads_of(self.k.weight)).flatten(1, 2) / math.sqrt(q.shape[-1])
        share = attention(folded @ y.transpose(1, 2), weight)
        pooled = (share @ y).unflatten(1, (self.heads, -1))
        values = pooled @ self._heads_of(self.v.weight).transpose(1, 2)
        return X + self.out(values.transpose(1, 2).flatten(2) + self.v.bias)

    def _few_keys(self, X: Tensor, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        k = self._split(self.k(y))
        k = k / math.sqrt(k.shape[-1])
        folded = (k @ self._heads_of(self.q.weight)).flatten(1, 2)
        offset = (k @ self.q.bias.reshape(self.heads, -1, 1)).flatten(1)
        scores = torch.baddbmm(offset[:, None], x, folded.transpose(1, 2)).unflatten(2, (self.heads, -1))
        share = attention(scores, None if weight is None else weight[:, None, None])
        # Output columns of a head: out.weight (hidden, head x width) -> (head, width, hidden). Shares of a head sum to
        # 1, so that the output's bias may stand in each value.
        out = self.out.weight.t().unflatten(0, (self.heads, -1))
        values = (self._split(self.v(y)) @ out + self.out.bias / self.heads).flatten(1, 2)
        return torch.baddbmm(X, share.flatten(2), values)


def attention(scores: Tensor, weight: Tensor | None) -> Tensor:
    """Shares of keys (..., key): softmax of the scores, each key counted ``weight`` times.

    Args:
        scores: (S, ..., key).
        weight: (S, key), or with the axes of the scores; any sign, 0 leaves a key out; None: all 1.
    """
    if weight is None:
        return torch.softmax(scores, dim=-1)
    if weight.dim() < scores.dim():
        weight = weight.reshape(len(weight), *(1,) * (scores.dim() - 2), -1)
    present = torch.where(weight == 0, -math.inf, scores)
    power = (present - present.detach().amax(dim=-1, keepdim=True)).exp()
    share = power * weight
    total, size = share.sum(dim=-1, keepdim=True), share.abs().sum(dim=-1, keepdim=True)
    least = LEAST_SHARE * size
    total = torch.where(total.abs() < least, torch.where(total < 0, -least, least), total)
    return share / total


def _as_they_are(values: Tensor) -> Tensor:
    return values


class ISAB(nn.Module):
    """Induced self-attention: members exchange through ``inducing`` learned points."""

    def __init__(self, hidden: int, heads: int, inducing: int, normalise: bool):
        super().__init__()
        self.points = nn.Parameter(torch.randn(1, inducing, hidden) / math.sqrt(hidden))
        self.gather = MAB(hidden, heads, normalise)
        self.spread = MAB(hidden, heads, normalise)

    def forward(self, X: Tensor, weight: Tensor | None) -> Tensor:
        """Members (S, N, hidden) and their weights (S, N)."""
        points, x = self.points.expand(len(X), -1, -1), self.spread.norm(X)
        gathered = self.gather.between(points, self.gather.norm(points), x, weight)
        return self.spread.between(X, x, self.spread.norm(gathered))


class PMA(nn.Module):
    """Pooling by attention: ``seeds`` learned queries over the members."""

    def __init__(self, hidden: int, heads: int, seeds: int, normalise: bool):
        super().__init__()
        self.seeds = nn.Parameter(torch.randn(1, seeds, hidden) / math.sqrt(hidden))
        self.pool = MAB(hidden, heads, normalise)

    def forward(self, X: Tensor, weight: Tensor | None) -> Tensor:
        """Members (S, N, hidden) and their weights (S, N) -> (S, seeds, hidden)."""
        return self.pool(self.seeds.expand(len(X), -1, -1), X, weight)


class SetTransformer(nn.Module):
    """Embedding e(Y): (S, N, *y) with a mask (S, N) -> (S, k). Every set has at least one member.

    Args:
        y_shape: shape of one observation; vectors enter by a linear map, images and gathers by a small CNN.
        k: size of the embedding.
        hidden, heads, inducing, layers: of the attention blocks.
        size_input: whether the set's size is an input of the head.
    """

    def __init__(
        self, y_shape: Shape, k: int, hidden: int, heads: int, inducing: int, layers: int, size_input: bool = True
    ):
        super().__init__()
        self.y_shape = y_shape
        array = len(y_shape) > 1
        self.member = observation_encoder(y_shape, hidden) if array else nn.Linear(y_shape[0], hidden)
        self.layers = nn.ModuleList(ISAB(hidden, heads, inducing, array) for _ in range(layers))
        self.pool = PMA(hidden, heads, SEEDS, array)
        self.mix = MAB(hidden, heads, array)
        self.head = SetHead(SEEDS * hidden, hidden, k, size_input)

    def forward(self, y: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Embed sets of observations; entries where the mask is False are ignored.

        Args:
            y: (S, N, *y).
            mask: (S, N) bool.
            weight: (S, N) of any sign, or None for equal weights.
        """
        y, share = members_weight(y, mask, weight)
        X = self.member(y.flatten(0, 1)).unflatten(0, mask.shape)
        for layer in self.layers:
            X = layer(X, share)
        Z = self.pool(X, share)
        return self.head(self.mix(Z, Z).flatten(1), mask, weight)
