"""A residual multilayer perceptron for x that is a vector."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pullback.networks.encoders import Shape, TimeEmbedding, observation_encoder, rows


class ResidualMlp(nn.Module):
    """f(x, t, y, context): residual blocks h + V gelu(g_l * U h + c_l), c_l made of time, observation and context.

    The condition enters every block: c_l is added, and the context alone multiplies (g_l, and likewise within c_l), so
    that the context modulates the map from y to x (feature-wise modulation, Perez et al. 2018, arXiv 1709.07871).
    Blocks start as the identity (V = 0, g = 1) and the output at zero, so that deep ones train without normalisation
    layers, which would cost as much as the blocks at these widths.

    Args:
        x_shape: shape of x; more than one axis is flattened.
        y_shape: shape of an observation, or None without one. Images and gathers go through a small CNN.
        context: size of the context vector, 0 without one.
        width, depth: of the hidden layers.
    """

    def __init__(self, x_shape: Shape, y_shape: Shape | None, context: int, width: int, depth: int):
        super().__init__()
        self.x_shape, self.y_shape, self.context = x_shape, y_shape, context
        self.depth = depth
        size = math.prod(x_shape)
        self.time = TimeEmbedding(width)
        self.observe = None if y_shape is None else observation_encoder(y_shape, width)
        self.from_context = nn.Linear(context, width) if context else None
        self.gain = nn.Linear(width, (depth + 1) * width) if context else None
        self.enter = nn.Linear(size, width)
        self.condition = nn.Linear(width, (depth + 1) * width)
        self.up = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.down = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.leave = nn.Linear(width, size)
        for layer in [*self.down, self.leave, *([self.gain] if self.gain is not None else [])]:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Output of x's shape.

        Args:
            x: (B, *x).
            t: (b,), b a divisor of B: row i serves B / b consecutive rows of x.
            y: (b, *y) likewise, or None when built without.
            context: (b, context) likewise, or None.
        """
        batch = len(x)
        parts = [self.time(t)]
        if self.observe is not None:
            parts.append(self.observe(y))
        # Gains of the condition and of each block, (context row, 1, 1, width); context rows are few, a step's sets.
        gains: list[Tensor | None] = [None] * (self.depth + 1)
        groups = 1
        if self.from_context is not None and self.gain is not None:
            embedded = self.from_context(context)
            parts.append(embedded)
            groups = len(embedded)
            gains = list((1 + self.gain(functional.gelu(embedded)))[:, None, None].chunk(self.depth + 1, dim=-1))
        # The condition has as many rows as its finest part. In sampling that is one for each event, not for each draw:
        # most of the arithmetic is done once for all draws of an event.
        finest = max(len(part) for part in parts)
        if batch % finest:
            raise ValueError(f"{finest} rows of a condition cannot serve {batch} rows of x: wanted a divisor")
        c = torch.stack([rows(part, finest) for part in parts]).sum(dim=0).reshape(groups, finest // groups, 1, -1)
        c = c if gains[0] is None else c * gains[0]
        first, *shifts = self.condition(functional.gelu(c)).chunk(self.depth + 1, dim=-1)
        h = self.enter(x.reshape(groups, finest // groups, batch // finest, -1)) + first
        for up, down, gain, shift in zip(self.up, self.down, gains[1:], shifts, strict=True):
            inner = torch.add(up(h), shift) if gain is None else torch.addcmul(shift, up(h), gain)
            h = h + down(functional.gelu(inner))
        return self.leave(functional.gelu(h)).reshape(x.shape)
