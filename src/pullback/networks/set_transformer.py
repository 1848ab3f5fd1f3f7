"""Set Transformer: a permutation-invariant embedding of an ensemble of observations (Lee et al. 2019).

    MAB(X, Y)  = H + rFF(H),  H = X + Attention(X, Y, Y)                      (eqs. 6, 7)
    ISAB(X)    = MAB(X, MAB(I, X)), I learned inducing points, O(N m)         (eqs. 9, 10)
    PMA(Z)     = MAB(S, Z), S learned seeds                                   (eq. 11)
    SAB(X)     = MAB(X, X)                                                    (eq. 8)

Changes, and why: queries and keys are normalised before attention (pre-LN: stable at larger learning rates, and the
residual stream keeps the scale of the data); attention divides by sqrt(head width); the log of the set's size enters
after pooling, since softmax averages cannot see it (a set copied a whole number of times gives the same pooled
vector) and the embedding's trust in a small set should be less.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pullback.networks.encoders import Shape, observation_encoder

SEEDS = 4
"""Pooled vectors (seeds of PMA); they attend to each other and are concatenated."""

SIZE_SCALE = 0.25
"""The size enters as SIZE_SCALE * (log N - log 100): within about one unit for sets of 2 to 5000."""


class MAB(nn.Module):
    """Multihead attention block: X (S, n, hidden) attends to Y (S, N, hidden), both residual."""

    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_x, self.norm_y, self.norm_h = (nn.LayerNorm(hidden) for _ in range(3))
        self.q = nn.Linear(hidden, hidden)
        self.kv = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.rff = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden))

    def forward(self, X: Tensor, Y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Blocks of shape (S, n, hidden); ``mask`` (S, N) says which members of Y there are."""
        sets, n, hidden = X.shape
        q = self.q(self.norm_x(X)).reshape(sets, n, self.heads, -1).transpose(1, 2)
        k, v = self.kv(self.norm_y(Y)).reshape(sets, -1, 2, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4)
        seen = None if mask is None else mask[:, None, None, :]
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        H = X + self.out(attended.transpose(1, 2).reshape(sets, n, hidden))
        return H + self.rff(self.norm_h(H))


class ISAB(nn.Module):
    """Induced self-attention: members exchange through ``inducing`` learned points."""

    def __init__(self, hidden: int, heads: int, inducing: int):
        super().__init__()
        self.points = nn.Parameter(torch.randn(1, inducing, hidden) / math.sqrt(hidden))
        self.gather = MAB(hidden, heads)
        self.spread = MAB(hidden, heads)

    def forward(self, X: Tensor, mask: Tensor) -> Tensor:
        """Members (S, N, hidden) and their mask (S, N)."""
        return self.spread(X, self.gather(self.points.expand(len(X), -1, -1), X, mask))


class PMA(nn.Module):
    """Pooling by attention: ``seeds`` learned queries over the members."""

    def __init__(self, hidden: int, heads: int, seeds: int):
        super().__init__()
        self.seeds = nn.Parameter(torch.randn(1, seeds, hidden) / math.sqrt(hidden))
        self.pool = MAB(hidden, heads)

    def forward(self, X: Tensor, mask: Tensor) -> Tensor:
        """Members (S, N, hidden) and their mask (S, N) -> (S, seeds, hidden)."""
        return self.pool(self.seeds.expand(len(X), -1, -1), X, mask)


class SetTransformer(nn.Module):
    """Embedding e(Y): (S, N, *y) with a mask (S, N) -> (S, k). Every set has at least one member.

    Args:
        y_shape: shape of one observation; vectors are encoded by a perceptron, images and gathers by a small CNN.
        k: size of the embedding.
        hidden, heads, inducing, layers: of the attention blocks.
    """

    def __init__(self, y_shape: Shape, k: int, hidden: int, heads: int, inducing: int, layers: int):
        super().__init__()
        self.y_shape = y_shape
        self.member = observation_encoder(y_shape, hidden)
        self.layers = nn.ModuleList(ISAB(hidden, heads, inducing) for _ in range(layers))
        self.pool = PMA(hidden, heads, SEEDS)
        self.mix = MAB(hidden, heads)
        self.out = nn.Sequential(nn.Linear(SEEDS * hidden + 1, hidden), nn.GELU(), nn.Linear(hidden, k))

    def forward(self, y: Tensor, mask: Tensor) -> Tensor:
        """Embed sets of observations; entries where the mask is False are not looked at."""
        sets, size = mask.shape
        # What stands in a padded place is arbitrary: zeroed here, so that even a NaN there cannot spread.
        y = torch.where(mask.reshape(sets, size, *(1,) * len(self.y_shape)), y, 0)
        X = self.member(y.reshape(sets * size, *self.y_shape)).reshape(sets, size, -1)
        for layer in self.layers:
            X = layer(X, mask)
        Z = self.pool(X, mask)
        Z = self.mix(Z, Z).flatten(1)
        log_size = SIZE_SCALE * (mask.sum(dim=1, keepdim=True).float().log() - math.log(100))
        return self.out(torch.cat([Z, log_size], dim=1))
