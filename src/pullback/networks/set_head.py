"""Parts that all set encoders share: mask, member weights, and the output head with the set's size as input.

Averages over a set do not depend on its size (repeating all members leaves the pooled vector unchanged), but the
embedding of a small set is less certain: the log of the size enters after pooling. With weights it is Kish's effective
size, (sum w)^2 / sum w^2.
"""

import math

import torch
from torch import Tensor, nn

SIZE_SCALE = 0.25
"""The size enters as SIZE_SCALE * (log N - log 100): within about one unit for sets of 2 to 5000."""


def members_weight(y: Tensor, mask: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Observations with padding zeroed, and the weight of each place (S, N), 0 in padding; None where all weigh 1.

    Padded entries are arbitrary; they are set to zero so that NaN in them cannot propagate.
    """
    # On a GPU looking at the mask would wait for it.
    if weight is None and mask.device.type == "cpu" and bool(mask.all()):
        return y, None
    y = torch.where(mask.reshape(*mask.shape, *(1,) * (y.dim() - 2)), y, 0)
    return y, mask.to(y.dtype) if weight is None else torch.where(mask, weight.to(y.dtype), 0)


def effective_size(mask: Tensor, weight: Tensor | None) -> Tensor:
    """Kish's effective size of each set, (S, 1); the number of members without weights."""
    if weight is None:
        return mask.sum(dim=1, keepdim=True).float()
    weight = torch.where(mask, weight, 0).float()
    squares = weight.square().sum(dim=1, keepdim=True)
    return (weight.sum(dim=1, keepdim=True).square() / squares.clamp_min(1e-30)).clamp_min(1.0)


class SetHead(nn.Module):
    """A pooled vector (S, size) and the set's size -> (S, k), by a perceptron.

    Args:
        size, hidden, k: of the pooled vector, the hidden layer and the embedding.
        size_input: whether the log of the set's size enters.
    """

    def __init__(self, size: int, hidden: int, k: int, size_input: bool):
        super().__init__()
        self.size_input = size_input
        self.layers = nn.Sequential(nn.Linear(size + size_input, hidden), nn.GELU(), nn.Linear(hidden, k))

    def forward(self, pooled: Tensor, mask: Tensor, weight: Tensor | None) -> Tensor:
        """Embeddings (S, k) of sets with this mask (S, N) and weights (S, N) or None."""
        if self.size_input:
            log_size = SIZE_SCALE * (effective_size(mask, weight).log() - math.log(100))
            pooled = torch.cat([pooled, log_size.to(pooled.dtype)], dim=1)
        return self.layers(pooled)
