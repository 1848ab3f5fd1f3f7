"""Small encoders that the networks share: of time, of one observation, of an observation on the grid of x.

An observation is a vector (feature,), an image (height, width) or shot gathers (source, time, receiver); sources are
channels. Convolutions shrink an array to a few cells and flatten them, which keeps arrival times and offsets: global
average pooling would lose them.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

Shape = tuple[int, ...]

COARSE_CELLS = 8
"""An array encoder halves an axis until it has at most this many cells."""


def image_shape(shape: Shape, what: str = "y") -> tuple[int, int, int]:
    """An array's shape as (channel, height, width).

    Raises:
        ValueError: when it has other than two or three axes.
    """
    if len(shape) == 2:
        return (1, *shape)
    if len(shape) == 3:
        return shape  # type: ignore[return-value]
    raise ValueError(
        f"{what} has shape {shape}; a convolution takes (height, width) or (channel, height, width). "
        "Reshape it in the problem, or give it as a vector"
    )


def as_image(values: Tensor, shape: Shape) -> Tensor:
    """Values (B, *shape) as (B, channel, height, width), channels last in memory (three times faster on a CPU)."""
    return values.reshape(-1, *image_shape(shape)).contiguous(memory_format=torch.channels_last)


def rows(values: Tensor, batch: int) -> Tensor:
    """Values (b, ...) repeated to (batch, ...): row i serves ``batch / b`` consecutive rows.

    Raises:
        ValueError: when b does not divide the batch.
    """
    if batch % len(values):
        raise ValueError(f"{len(values)} rows of a condition cannot serve {batch} rows of x: wanted a divisor")
    return values if len(values) == batch else values.repeat_interleave(batch // len(values), dim=0)


def channels_last(module: nn.Module) -> None:
    """Lay out a module's convolution weights as `as_image` lays out their input."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class TimeEmbedding(nn.Module):
    """Time (B,) -> (B, width): t itself with sines and cosines of 1/4 to 8 cycles per unit, then a small MLP.

    The range serves both flow time in [0, 1] and EDM's log(sigma) / 4 in about [-1.6, 1.1].
    """

    frequency: Tensor

    def __init__(self, width: int, frequencies: int = 8):
        super().__init__()
        self.register_buffer("frequency", 2 * math.pi * torch.logspace(-2, 3, frequencies, base=2.0), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies + 1, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Embed times (B,)."""
        angle = t[:, None] * self.frequency
        return self.mlp(torch.cat([t[:, None], angle.sin(), angle.cos()], dim=1))


class ArrayEncoder(nn.Module):
    """An image or gathers (B, *shape) -> (B, out): strided convolutions to a few cells, flattened, one linear layer."""

    def __init__(self, shape: Shape, out: int, width: int = 16):
        super().__init__()
        self.shape = shape
        channels, *size = image_shape(shape)
        layers: list[nn.Module] = []
        while not layers or max(size) > COARSE_CELLS:
            # The first layer sees the most cells: it strides by 4 along long axes.
            stride = [(4 if not layers and n >= 64 else 2) if n > COARSE_CELLS else 1 for n in size]
            next_channels = width if not layers else 2 * width
            layers += [nn.Conv2d(channels, next_channels, 5, stride, padding=2), nn.GELU()]  # type: ignore[arg-type]
            channels, size = next_channels, [(n - 1) // s + 1 for n, s in zip(size, stride, strict=True)]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(channels * math.prod(size), out)
        channels_last(self)

    def forward(self, y: Tensor) -> Tensor:
        """Encode observations (B, *shape)."""
        return self.out(self.layers(as_image(y, self.shape)).flatten(1))


class VectorEncoder(nn.Module):
    """A vector (B, feature) -> (B, out) by a two-layer perceptron."""

    def __init__(self, features: int, out: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, out), nn.GELU(), nn.Linear(out, out))

    def forward(self, y: Tensor) -> Tensor:
        """Encode observations (B, feature)."""
        return self.layers(y)


def observation_encoder(y_shape: Shape, out: int) -> nn.Module:
    """One observation -> a vector: (B, *y_shape) -> (B, out)."""
    return VectorEncoder(y_shape[0], out) if len(y_shape) == 1 else ArrayEncoder(y_shape, out)


class GridEncoder(nn.Module):
    """An image or gathers of any size -> maps on the grids of a U-Net, and a vector.

    Observations are first interpolated, upwards only, to a whole multiple of the finest grid; the first convolution
    strides by that multiple (time to depth, receivers to offset), each further one by 2. This lines up late arrivals
    with depth and receivers with offset only roughly: the vector, flattened from the coarsest cells, carries what is
    not local.

    Args:
        y_shape: shape of one observation.
        grids: (height, width) of each level, finest first, each half of the one before (rounded up).
        channels: channels of each level's map.
        vector: size of the vector.
    """

    def __init__(self, y_shape: Shape, grids: list[tuple[int, int]], channels: list[int], vector: int):
        super().__init__()
        self.shape = y_shape
        in_channels, *size = image_shape(y_shape)
        stride = [-(-n // cells) for n, cells in zip(size, grids[0], strict=True)]
        self.size = tuple(s * cells for s, cells in zip(stride, grids[0], strict=True))
        stages: list[nn.Module] = []
        for out_channels in channels:
            kernel = [2 * s + 1 for s in stride]
            stages.append(nn.Conv2d(in_channels, out_channels, kernel, stride, padding=stride))  # type: ignore[arg-type]
            in_channels, stride = out_channels, [2, 2]
        self.stages = nn.ModuleList(stages)
        self.vector = ArrayEncoder((in_channels, *grids[-1]), vector)
        channels_last(self)

    def forward(self, y: Tensor) -> tuple[list[Tensor], Tensor]:
        """Encode observations (B, *y): one map (B, channel, height, width) for each level, and (B, vector)."""
        h = as_image(y, self.shape)
        if h.shape[-2:] != self.size:
            h = functional.interpolate(h, self.size, mode="bilinear", align_corners=False)
        maps = []
        for stage in self.stages:
            h = functional.gelu(stage(h))
            maps.append(h)
        return maps, self.vector(h)
