"""Muon for the hidden matrices of a network, Adam for everything else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum of a matrix by the nearest
orthogonal one, so that all its directions learn at one rate, not only those of the largest gradients.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

LEAST_SIDE = 16
"""A matrix with fewer rows or columns is an input, an output or a seed rather than a hidden layer: Adam's."""

MATRIX_RATE = 5.0
"""Rate of the matrices in units of the learning rate of the rest."""

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def is_hidden_matrix(parameter: Tensor) -> bool:
    """Whether Muon takes a parameter."""
    return parameter.ndim == 2 and min(parameter.shape) >= LEAST_SIDE


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices (..., n, m) with singular values of about one (between .7 and 1.2) and the same singular vectors.

    Five steps of the quintic Newton-Schulz iteration X <- a X + (b A + c A^2) X, A = X X^T.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    X = matrices.mT if tall else matrices
    X = X / X.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return X.mT if tall else X


class Muon(torch.optim.Adam):
    """One step moves a hidden matrix (n, m) by MATRIX_RATE lr sqrt(max(1, n / m)) times an orthogonal matrix.

    Matrices of one shape are orthogonalised together, in float32: `torch.optim.Muon` takes them one by one in bfloat16,
    which on a CPU costs ten times as much at these sizes.

    Args:
        parameters: of the model.
        lr: learning rate of Adam, and the matrices' in units of MATRIX_RATE.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float):
        every = list(parameters)
        matrices = [p for p in every if is_hidden_matrix(p)]
        rest = [p for p in every if not is_hidden_matrix(p)]
        super().__init__([{"params": matrices}, {"params": rest}], lr=lr, fused=True)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; the gradients of the matrices are taken away by it."""
        assert closure is None
        matrices = self.param_groups[0]
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in matrices["params"]:
            if parameter.grad is not None:
                by_shape.setdefault(parameter.shape, []).append(parameter)
        for (n, m), alike in by_shape.items():
            moments = torch.stack([self._momentum(p) for p in alike])
            rate = MATRIX_RATE * matrices["lr"] * max(1.0, n / m) ** 0.5
            for parameter, update in zip(alike, orthogonalised(moments), strict=True):
                parameter.sub_(update, alpha=rate)
                parameter.grad = None  # Adam leaves a parameter without a gradient as it is
        return super().step()

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """Nesterov's: the average of the gradients, looked at one step ahead."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if "exp_avg" not in state:
            # Adam's names, which its `load_state_dict` looks for.
            state.update(step=torch.zeros(()), exp_avg=torch.zeros_like(parameter))
        average = state["exp_avg"].lerp_(parameter.grad, 1 - MOMENTUM)
        return parameter.grad.lerp(average, MOMENTUM)
