"""Set encoders without attention: a mean over encoded members (DeepSets), and moments of the observations.

Both average with weights of any sign, sum w f / sum w, with the (effective) size of the set as an input of the head.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pullback.networks.encoders import Shape, observation_encoder
from pullback.networks.set_head import SetHead, members_weight

LEAST_SPREAD = 1e-3
"""Least standard deviation, in units of the scaled y, that higher moments are divided by."""


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Means over members of (S, N, feature), (S, feature)."""
    if weight is None:
        return values.mean(dim=1)
    total = weight.sum(dim=1, keepdim=True)
    return torch.einsum("sn,snf->sf", weight, values) / torch.where(total == 0, 1.0, total)


class DeepSets(nn.Module):
    """rho(mean phi(y)) (Zaheer et al. 2017): (S, N, *y) with a mask (S, N) -> (S, k).

    Args:
        y_shape: shape of one observation.
        k: size of the embedding.
        hidden: width of phi and rho.
        size_input: whether the set's size is an input of the head.
    """

    def __init__(self, y_shape: Shape, k: int, hidden: int, size_input: bool = True):
        super().__init__()
        self.phi = nn.Sequential(observation_encoder(y_shape, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.head = SetHead(hidden, hidden, k, size_input)

    def forward(self, y: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Embed sets of observations, as `SetTransformer.forward`."""
        y, share = members_weight(y, mask, weight)
        phi = self.phi(y.flatten(0, 1)).unflatten(0, mask.shape)
        return self.head(weighted_mean(phi, share), mask, weight)


def _means(y: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    mean = weighted_mean(y, weight)
    centred = y - mean[:, None]
    spread = weighted_mean(centred.square(), weight).clamp_min(LEAST_SPREAD**2).sqrt()
    return mean, spread, centred / spread[:, None]


def _correlation(z: Tensor, weight: Tensor | None) -> Tensor:
    first, second = torch.triu_indices(z.shape[2], z.shape[2], offset=1, device=z.device)
    return weighted_mean(z[:, :, first] * z[:, :, second], weight)


MOMENTS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]] = {
    "mean": lambda mean, spread, z, weight: mean,
    "std": lambda mean, spread, z, weight: spread,
    "skewness": lambda mean, spread, z, weight: weighted_mean(z**3, weight),
    "kurtosis": lambda mean, spread, z, weight: weighted_mean(z**4, weight) - 3,
    "correlation": lambda mean, spread, z, weight: _correlation(z, weight),
}
"""Of each feature of the scaled y, but for the correlation of each pair."""


class Moments(nn.Module):
    """Moments of the observations -> (S, k): what GDDPM conditions on (arXiv 2406.01507), through a perceptron.

    Args:
        features: of an observation, which is a vector.
        k: size of the embedding.
        moments: names in `MOMENTS`.
        hidden: of the perceptron.
        size_input: whether the set's size is an input of the head.
    """

    def __init__(self, features: int, k: int, moments: Sequence[str], hidden: int, size_input: bool = True):
        super().__init__()
        self.moments = tuple(moments)
        pairs = features * (features - 1) // 2
        size = sum(pairs if name == "correlation" else features for name in self.moments)
        self.head = SetHead(size, hidden, k, size_input)

    def forward(self, y: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Embed sets of observations, as `SetTransformer.forward`."""
        y, share = members_weight(y, mask, weight)
        mean, spread, z = _means(y, share)
        values = torch.cat([MOMENTS[name](mean, spread, z, share) for name in self.moments], dim=1)
        return self.head(values, mask, weight)
