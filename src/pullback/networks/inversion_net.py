"""InversionNet: shot gathers to a velocity model through one vector (Wu and Lin 2020, IEEE TCI 6, 419).

An encoder of strided convolutions shrinks the gathers, time first until a sample is about as wide as a receiver, to
one vector with a global receptive field; a decoder of transposed convolutions grows a model from it. Every convolution
is followed by batch normalisation and a leaky rectifier. Depth follows the size of the data: for OpenFWI's 5 x 1000 x
70 gathers, its 70 x 70 models and width 32 these are the layers of OpenFWI's code (Deng et al. 2022, 24.4 M weights),
but for the last, which is linear here and not normalised and squashed by tanh, as x is standardised and not mapped to
[-1, 1].
"""

import math

import torch
from torch import Tensor, nn

from pullback.networks.encoders import Shape, as_image, channels_last, image_shape, rows

LEAK = 0.2
VECTOR = 16
"""Channels of the vector, in units of the width."""

START = 5
"""The decoder begins with a grid of at most this many cells each way; the encoder ends at twice as many or fewer."""


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation, leaky rectifier."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] | None = None,
    ):
        if padding is None:
            padding = (kernel[0] // 2, kernel[1] // 2)
        super().__init__(
            nn.Conv2d(channels, out, kernel, stride, padding), nn.BatchNorm2d(out), nn.LeakyReLU(LEAK, inplace=True)
        )


class InversionNet(nn.Module):
    """f(y) for x on a 2-D grid; the inputs x, time and context of other networks are ignored.

    Args:
        x_shape: (height, width) or (channel, height, width).
        y_shape: an image or gathers.
        width: channels of the first layers.

    Raises:
        ValueError: when x or y is neither an image nor gathers.
    """

    def __init__(self, x_shape: Shape, y_shape: Shape, width: int):
        super().__init__()
        self.x_shape, self.y_shape = x_shape, y_shape
        channels, height, across = image_shape(y_shape)
        layers: list[nn.Module] = [ConvBlock(channels, width, (7, 1), (2, 1))]
        channels, height, halved = width, math.ceil(height / 2), 1
        while max(height, across) > 2 * START:
            # Time alone, as long as it is the longer axis.
            kernel, stride = ((3, 1), (2, 1)) if height > 1.5 * across else ((3, 3), (2, 2))
            # Twice the channels with every second halving.
            out = width * min(8, 2 ** math.ceil(halved / 2))
            layers += [ConvBlock(channels, out, kernel, stride), ConvBlock(out, out, kernel)]
            channels, halved = out, halved + 1
            height, across = math.ceil(height / stride[0]), math.ceil(across / stride[1])
        layers.append(ConvBlock(channels, VECTOR * width, (height, across), padding=(0, 0)))
        self.encode = nn.Sequential(*layers)

        out_channels, *size = image_shape(x_shape, "x")
        doublings = max(0, math.ceil(math.log2(max(size) / START)))
        start = [math.ceil(n / 2**doublings) for n in size]
        channels = VECTOR * width
        grow: list[nn.Module] = [
            nn.ConvTranspose2d(channels, channels, start),  # type: ignore[arg-type]
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(LEAK, inplace=True),
            ConvBlock(channels, channels),
        ]
        for _ in range(doublings):
            out = max(width, channels // 2)
            grow += [
                nn.ConvTranspose2d(channels, out, 4, 2, 1),
                nn.BatchNorm2d(out),
                nn.LeakyReLU(LEAK, inplace=True),
                ConvBlock(out, out),
            ]
            channels = out
        self.decode = nn.Sequential(*grow)
        self.size = size
        self.leave = nn.Conv2d(channels, out_channels, 3, padding=1)
        channels_last(self)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Output of x's shape (B, *x) from y (b, *y): row i serves B / b consecutive rows of x."""
        assert y is not None
        h = self.decode(self.encode(as_image(y, self.y_shape)))
        # The decoder's grid is a little larger: its middle is taken.
        top, left = ((have - want) // 2 for have, want in zip(h.shape[-2:], self.size, strict=True))
        h = self.leave(h[..., top : top + self.size[0], left : left + self.size[1]])
        return rows(h.reshape(len(h), *self.x_shape), len(x))


class Critic(nn.Module):
    """Score (B,) of models x (B, *x): the Wasserstein critic of VelocityGAN (Zhang and Lin 2020).

    Without the batch normalisation of OpenFWI's code: the penalty is on the gradient of each score by its own model,
    which normalisation over a batch would mix with the other models' (Gulrajani et al. 2017, section 4).

    Args:
        x_shape: (height, width) or (channel, height, width).
        width: channels of the first layer.
    """

    def __init__(self, x_shape: Shape, width: int):
        super().__init__()
        self.x_shape = x_shape
        channels, height, across = image_shape(x_shape, "x")
        layers: list[nn.Module] = []
        out = width
        while max(height, across) > START:
            layers += [nn.Conv2d(channels, out, 3, 2, 1), nn.LeakyReLU(LEAK)]
            layers += [nn.Conv2d(out, out, 3, 1, 1), nn.LeakyReLU(LEAK)]
            channels, out = out, min(8 * width, 2 * out)
            height, across = math.ceil(height / 2), math.ceil(across / 2)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * across, 1))
        channels_last(self)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B,)."""
        return self.layers(as_image(x, self.x_shape))[:, 0]


def gradient_penalty(critic: nn.Module, real: Tensor, generated: Tensor, fraction: Tensor) -> Tensor:
    """(|grad D| - 1)^2 between pairs of real and generated models (B, *x), (B,) (Gulrajani et al. 2017, eq. 3).

    Args:
        critic: D.
        real, generated: (B, *x).
        fraction: (B,) in [0, 1]: interpolation between the two, 1 at the real model.
    """
    fraction = fraction.reshape(-1, *(1,) * (real.dim() - 1))
    between = (fraction * real + (1 - fraction) * generated).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square()
