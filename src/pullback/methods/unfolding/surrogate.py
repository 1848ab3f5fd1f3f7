"""A learned forward process y = f(x, noise), differentiable: a conditional flow p(y|x) on pairs of the seen families.

The flow is zuko's neural spline flow (Durkan et al. 2019, arXiv 1906.04032). x and y enter through transforms and
standardisation with their roles exchanged (`exchanged`): an angle of x as (sin, cos), and one of y of the same name as
its difference to it. Pairs are events that were recorded: the flow is p(y | x, recorded).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pullback.core.optional import require
from pullback.diffusion.share import Noise
from pullback.ensembles.fields import Field
from pullback.ensembles.scaled_tensors import decode, encode
from pullback.ensembles.scaling import Scaling
from pullback.methods.unfolding.sourcerer_spec import Surrogate


def exchanged(x: Field, y: Field, x_values: np.ndarray, y_values: np.ndarray) -> Scaling:
    """A scaling with exchanged roles: its "x" is y, and its "y" is x."""
    transforms = tuple(
        "linear" if transform == "periodic" and name not in x.features else transform
        for name, transform in zip(y.features, y.transforms, strict=True)
    )
    target, condition = replace(y, name="x", transforms=transforms), replace(x, name="y")
    return Scaling.fit(target, condition, y_values, x_values)


class ForwardFlow(nn.Module):
    """p(y|x) of vectors in physical units.

    Args:
        size: of the flow.
        scaling: from `exchanged`.
    """

    def __init__(self, size: Surrogate, scaling: Scaling):
        super().__init__()
        zuko = require("zuko", "learn")
        self.scaling = scaling
        self.flow: Any = zuko.flows.NSF(
            features=scaling.x_shape[0],
            context=scaling.y_shape[0],
            transforms=size.transforms,
            bins=size.bins,
            hidden_features=(size.width,) * size.depth,
            activation=nn.SiLU,
        )

    def _given(self, x: Tensor) -> Any:
        return self.flow(encode(self.scaling.y_columns, x))

    def log_density(self, x: Tensor, y: Tensor) -> Tensor:
        """log p(y|x) (event,) of y (event, *y) and x (event, *x), per unit of the scaled y."""
        found: Tensor = self._given(x).log_prob(encode(self.scaling.x_columns, y, x))
        return found

    def forward(self, x: Tensor, normal: Tensor) -> Tensor:
        """y (event, *y) of x (event, *x) and standard normals (event, *y), differentiable in x."""
        z = self._given(x).transform.inv(normal)
        return decode(self.scaling.x_columns, z, x)


def flow_loss(
    model: ForwardFlow, sets: dict[str, Tensor], noise: Noise, targets: int | None = None
) -> tuple[Tensor, Tensor]:
    """Minus log p(y|x) of the first ``targets`` members of each set, in physical units, and their number.

    Event weights have no part in it: they say how often x occurs, not how y depends on it.
    """
    there = sets.get("real", sets["mask"])[:, :targets]
    # Narrow densities do not survive bfloat16.
    with torch.autocast(there.device.type, enabled=False):
        return -model.log_density(sets["x"][:, :targets][there], sets["y"][:, :targets][there]).sum(), there.sum()
