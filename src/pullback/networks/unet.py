"""A compact U-Net for x on a 2-D grid, conditioned on time, an observation of another size, and a vector.

Ronneberger et al. 2015 for the shape, Perez et al. 2018 (FiLM) for the conditioning. Kept small on purpose: one
residual convolution for each level and direction, skips that are added instead of concatenated, attention on the
coarsest grid only.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pullback.networks.encoders import (
    GridEncoder,
    Shape,
    TimeEmbedding,
    VectorEncoder,
    as_image,
    channels_last,
    image_shape,
    rows,
)

CONDITION = 96
"""Size of the vector that modulates every block."""

ATTENTION_CELLS = 400
"""Attention on the coarsest grid only when it has at most this many cells: its cost grows with their square."""


def _groups(channels: int) -> int:
    return math.gcd(channels, 8)


class Block(nn.Module):
    """h + conv(silu(FiLM(norm(h)))): scale and shift come from the condition. Starts as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.film = nn.Linear(CONDITION, 2 * channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Maps (B, channel, height, width) and condition (B, CONDITION)."""
        scale, shift = self.film(c)[:, :, None, None].chunk(2, dim=1)
        return h + self.conv(functional.silu(self.norm(h) * (1 + scale) + shift))


class Attention(nn.Module):
    """Self-attention over the cells of a coarse map, with a learned position for each cell. Starts as the identity."""

    def __init__(self, channels: int, cells: int):
        super().__init__()
        self.heads = _groups(channels) // 2 or 1
        self.norm = nn.LayerNorm(channels)
        self.position = nn.Parameter(0.02 * torch.randn(cells, channels))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor) -> Tensor:
        """Maps (B, channel, height, width)."""
        batch, channels, height, width = h.shape
        tokens = h.flatten(2).transpose(1, 2)
        qkv = self.qkv(self.norm(tokens) + self.position)
        q, k, v = qkv.reshape(batch, -1, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, -1, channels)
        return h + self.out(mixed).transpose(1, 2).reshape(batch, channels, height, width)


class Unet(nn.Module):
    """f(x, t, y, context) on a 2-D grid of any size.

    Args:
        x_shape: (height, width) or (channel, height, width).
        y_shape: a vector, an image or gathers of any size; None without an observation.
        context: size of the context vector, 0 without one.
        width: channels at full resolution, doubled at each level.
        levels: resolutions; the grid is halved between them.

    Raises:
        ValueError: when x is not on a grid, or the grid is too small to be halved that often.
    """

    def __init__(self, x_shape: Shape, y_shape: Shape | None, context: int, width: int, levels: int):
        super().__init__()
        self.x_shape, self.y_shape, self.context = x_shape, y_shape, context
        in_channels, height, grid_width = image_shape(x_shape, "x")
        if min(height, grid_width) < 2 ** (levels - 1):
            raise ValueError(
                f"a U-Net of {levels} levels halves its grid {levels - 1} times, found {height} x {grid_width} cells; "
                "give fewer levels"
            )
        grids = [(height, grid_width)]
        for _ in range(levels - 1):
            grids.append(((grids[-1][0] + 1) // 2, (grids[-1][1] + 1) // 2))
        channels = [width * 2**level for level in range(levels)]
        self.grids = grids
        self.time = TimeEmbedding(CONDITION)
        self.from_context = nn.Linear(context, CONDITION) if context else None
        self.observe: nn.Module | None = None
        self.to_coarse: nn.Linear | None = None
        if y_shape is not None:
            is_vector = len(y_shape) == 1
            self.observe = (
                VectorEncoder(y_shape[0], CONDITION) if is_vector else GridEncoder(y_shape, grids, channels, CONDITION)
            )
            # A wave's data say something about every cell at once: the vector is also written onto the coarsest grid.
            self.to_coarse = nn.Linear(CONDITION, channels[-1] * math.prod(grids[-1]))
        self.enter = nn.Conv2d(in_channels, width, 3, padding=1)
        self.encode = nn.ModuleList(Block(c) for c in channels[1:])
        self.shrink = nn.ModuleList(nn.Conv2d(c, 2 * c, 3, stride=2, padding=1) for c in channels[:-1])
        self.middle = Block(channels[-1])
        has_attention = math.prod(grids[-1]) <= ATTENTION_CELLS
        self.attention = Attention(channels[-1], math.prod(grids[-1])) if has_attention else nn.Identity()
        self.widen = nn.ModuleList(nn.Conv2d(2 * c, c, 1) for c in channels[:-1])
        self.decode = nn.ModuleList(Block(c) for c in channels[:-1])
        self.norm = nn.GroupNorm(_groups(width), width)
        self.leave = nn.Conv2d(width, in_channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]
        channels_last(self)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Output of x's shape.

        Args:
            x: (B, *x).
            t: (B,).
            y: (b, *y), b a divisor of B: row i serves B / b consecutive rows of x; None when built without.
            context: (b, context) likewise, or None.
        """
        batch = len(x)
        c = rows(self.time(t), batch)
        maps: list[Tensor] = []
        coarse: Tensor | None = None
        if self.observe is not None and self.to_coarse is not None:
            observed = self.observe(y)
            levels, vector = observed if isinstance(observed, tuple) else ([], observed)
            maps = [rows(level, batch) for level in levels]
            coarse = rows(self.to_coarse(functional.silu(vector)).reshape(len(vector), -1, *self.grids[-1]), batch)
            c = c + rows(vector, batch)
        if self.from_context is not None:
            c = c + rows(self.from_context(context), batch)
        c = functional.silu(c)

        h = self.enter(as_image(x, self.x_shape))
        skips = []
        for level in range(len(self.grids)):
            if level:
                h = self.shrink[level - 1](h)
            if maps:
                h = h + maps[level]
            if level:
                h = self.encode[level - 1](h, c)
            skips.append(h)
        h = skips.pop()
        if coarse is not None:
            h = h + coarse
        h = self.attention(self.middle(h, c))
        for level in reversed(range(len(self.grids) - 1)):
            h = functional.interpolate(self.widen[level](h), self.grids[level], mode="nearest") + skips[level]
            h = self.decode[level](h, c)
        return self.leave(functional.silu(self.norm(h))).reshape(x.shape)
