"""EI-FM as its paper describes it (arXiv 2601.22029), written plainly: one set of N observations a step, every member
a target, eager operations one after another. What `bench.py` compares pullback's training and sampling with.

MLP of 64 x 4 with GELU, dropout 0.01 and skips; 1 ISAB, PMA, SAB with 16 inducing points, 32 hidden, 4 heads, no layer
norm, k = 3; Adam at a constant rate; explicit Euler.
"""

import math

import torch
from torch import Tensor, nn


class Mab(nn.Module):
    """Lee et al. 2019: separate projections, softmax of all scores, one ReLU layer."""

    def __init__(self, queries: int, keys: int, hidden: int, heads: int):
        super().__init__()
        self.hidden, self.heads = hidden, heads
        self.q, self.k, self.v = nn.Linear(queries, hidden), nn.Linear(keys, hidden), nn.Linear(keys, hidden)
        self.o = nn.Linear(hidden, hidden)

    def forward(self, Q: Tensor, K: Tensor) -> Tensor:
        q, k, v = (
            torch.cat(layer(of).split(self.hidden // self.heads, 2), 0)
            for layer, of in ((self.q, Q), (self.k, K), (self.v, K))
        )
        share = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(self.hidden), dim=2)
        H = torch.cat((q + share @ v).split(len(Q), 0), 2)
        return H + torch.relu(self.o(H))


class PlainEi(nn.Module):
    """Set encoder and velocity."""

    def __init__(self, size: int = 2, k: int = 3, hidden: int = 32, heads: int = 4, inducing: int = 16):
        super().__init__()
        self.inducing = nn.Parameter(torch.randn(1, inducing, hidden) / math.sqrt(hidden))
        self.seed = nn.Parameter(torch.randn(1, 1, hidden) / math.sqrt(hidden))
        self.gather, self.spread = Mab(hidden, size, hidden, heads), Mab(size, hidden, hidden, heads)
        self.pool, self.mix = Mab(hidden, hidden, hidden, heads), Mab(hidden, hidden, hidden, heads)
        self.embed = nn.Linear(hidden, k)
        self.time = nn.Sequential(nn.Linear(1, 64), nn.GELU())
        self.enter = nn.Linear(2 * size + k, 64)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Dropout(0.01)) for _ in range(4))
        self.leave = nn.Linear(64, size)

    def context(self, y: Tensor) -> Tensor:
        """Embedding of one set (N, size), repeated for each member (N, k)."""
        Y = y[None]
        Z = self.pool(self.seed, self.spread(Y, self.gather(self.inducing, Y)))
        return self.embed(self.mix(Z, Z))[:, 0].expand(len(y), -1)

    def velocity(self, x: Tensor, t: Tensor, y: Tensor, e: Tensor) -> Tensor:
        """Velocity (N, size) at x and times (N, 1)."""
        h = self.enter(torch.cat([x, y, e], 1)) + self.time(t)
        for block in self.blocks:
            h = h + block(h)
        return self.leave(h)

    def step(self, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        """One step on one set: x, y (N, size)."""
        t, start = torch.rand(len(x), 1), torch.randn_like(x)
        loss = (self.velocity((1 - t) * start + t * x, t, y, self.context(y)) - (x - start)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def sample(self, y: Tensor, steps: int = 100) -> Tensor:
        """One draw for each member of a set, by Euler's rule."""
        e, x = self.context(y), torch.randn_like(y)
        for i in range(steps):
            x = x + self.velocity(x, torch.full((len(y), 1), i / steps), y, e) / steps
        return x
