"""Muon against singular value decompositions, torch's own Muon, and torch's Adam for what is not a hidden matrix."""

import pytest
import torch
from torch import nn

from pullback.diffusion.muon import MATRIX_RATE, Muon, is_hidden_matrix, orthogonalised

RATE = 1e-2


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 32), nn.GELU(), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 20), nn.Linear(20, 1))


def gradients(network, step):
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=generator) for p in network.parameters()]


def advance(network, optimizer, step):
    """One step of an optimizer with the gradients of that step."""
    for p, gradient in zip(network.parameters(), gradients(network, step), strict=True):
        p.grad = gradient
    optimizer.step()


@pytest.mark.parametrize("shape", [(32, 32), (20, 50), (50, 20)])
def test_singular_values_become_about_one_and_vectors_stay(shape):
    torch.manual_seed(1)
    # Singular values over two decades.
    U, _, V = torch.linalg.svd(torch.randn(3, *shape, dtype=torch.float64), full_matrices=False)
    values = torch.logspace(0, -2, min(shape), dtype=torch.float64)
    found = U.mT @ orthogonalised(U * values @ V) @ V.mT
    diagonal = found.diagonal(dim1=-2, dim2=-1)
    # The iteration maps (.01 / norm, 1] into about [.68, 1.14]; the smallest values start below that range.
    assert diagonal.min() > 0.3
    assert diagonal.max() < 1.25
    assert (found - torch.diag_embed(diagonal)).abs().max() < 1e-12


def test_hidden_matrices_move_as_torch_s_own_muon_moves_them():
    ours, theirs = model(), model()
    mine = Muon(ours.parameters(), lr=RATE)
    hidden = [p for p in theirs.parameters() if is_hidden_matrix(p)]
    assert [tuple(p.shape) for p in hidden] == [(64, 32), (20, 64)]
    other = torch.optim.Muon(hidden, lr=MATRIX_RATE * RATE, weight_decay=0.0)
    start = [p.detach().clone() for p in hidden]
    for step in range(5):
        advance(ours, mine, step)
        advance(theirs, other, step)
    found = [p for p in ours.parameters() if is_hidden_matrix(p)]
    for a, b, first in zip(found, hidden, start, strict=True):
        # Torch's iterates in bfloat16 (8 bits): five steps amplify 2^-9 some ten times.
        assert (a - b).norm() < 0.05 * (b - first).norm()


def test_the_rest_moves_as_adam_moves_it():
    ours, theirs = model(), model()
    mine = Muon(ours.parameters(), lr=RATE)
    rest = [p for p in theirs.parameters() if not is_hidden_matrix(p)]
    other = torch.optim.Adam(rest, lr=RATE, fused=True)
    for step in range(5):
        advance(ours, mine, step)
        advance(theirs, other, step)
    for a, b in zip((p for p in ours.parameters() if not is_hidden_matrix(p)), rest, strict=True):
        assert torch.equal(a, b)


def test_its_state_is_saved_and_loaded():
    whole, first, second = model(), model(), model()
    optimizers = [Muon(network.parameters(), lr=RATE) for network in (whole, first, second)]

    for step in range(4):
        advance(whole, optimizers[0], step)
    for step in range(2):
        advance(first, optimizers[1], step)
    second.load_state_dict(first.state_dict())
    optimizers[2].load_state_dict(optimizers[1].state_dict())
    for step in range(2, 4):
        advance(second, optimizers[2], step)
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
