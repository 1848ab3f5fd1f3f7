import pytest
import torch

from pullback.networks.build import build_set_encoder
from pullback.networks.set_head import SIZE_SCALE
from pullback.networks.settings import SetTransformer

torch.set_num_threads(1)

SHAPES = [(3,), (2, 20, 9), (11, 11)]


def make(shape, k=5, layers=2):
    torch.manual_seed(0)
    return build_set_encoder(SetTransformer(hidden=16, heads=4, inducing=6, layers=layers), shape, k).double()


def sets(shape, n=13, count=2):
    generator = torch.Generator().manual_seed(1)
    y = torch.randn((count, n, *shape), generator=generator, dtype=torch.float64)
    return y, torch.ones(count, n, dtype=torch.bool)


@pytest.mark.parametrize("shape", SHAPES)
def test_order_of_members_does_not_matter(shape):
    encoder = make(shape)
    y, mask = sets(shape)
    order = torch.randperm(y.shape[1], generator=torch.Generator().manual_seed(2))
    embedding = encoder(y, mask)
    assert embedding.shape == (2, 5)
    torch.testing.assert_close(encoder(y[:, order], mask), embedding, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_padded_set_is_the_set_without_its_padding(shape):
    encoder = make(shape)
    y, mask = sets(shape)
    alone = encoder(y[:1, :8], mask[:1, :8])
    padded = y.clone()
    padded[0, 8:] = torch.nan
    mask = mask.clone()
    mask[0, 8:] = False
    embedding = encoder(padded, mask)
    torch.testing.assert_close(embedding[:1], alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(embedding[1:], encoder(y[1:], mask[1:]), rtol=0, atol=1e-12)


def test_every_member_and_its_value_matter():
    encoder = make((3,))
    y, mask = sets((3,), count=1)
    before = encoder(y, mask)
    for member in range(y.shape[1]):
        changed = y.clone()
        changed[0, member] += 1
        assert (encoder(changed, mask) - before).abs().max() > 1e-6


def test_copies_of_a_set_are_told_apart_by_the_size_alone():
    # Softmax averages do not change when every member is there three times (facts: ei_and_unfolding 1.4).
    encoder = make((3,))
    y, mask = sets((3,))
    single, triple = encoder(y, mask), encoder(y.repeat(1, 3, 1), mask.repeat(1, 3))
    assert (single - triple).abs().max() > 1e-4
    # The last column of the first layer after pooling reads the size: moving its bias undoes the change exactly.
    with torch.no_grad():
        first = encoder.head.layers[0]
        first.bias -= first.weight[:, -1] * SIZE_SCALE * torch.log(torch.tensor(3.0)).double()
    torch.testing.assert_close(encoder(y.repeat(1, 3, 1), mask.repeat(1, 3)), single, rtol=0, atol=1e-6)


def test_gradients_reach_every_weight():
    encoder = make((2, 20, 9))
    y, mask = sets((2, 20, 9))
    encoder(y, mask).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-12, name


def test_learns_the_spread_of_a_set():
    # The standard deviation of a set is not a mean of its members' coordinates: attention and perceptrons must find it.
    torch.manual_seed(0)
    encoder = build_set_encoder(SetTransformer(hidden=16, heads=2, inducing=4), (1,), 1)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(3)

    def batch(sets=16):
        scale = torch.rand(sets, 1, 1, generator=generator) * 2 + 0.2
        return torch.randn(sets, 64, 1, generator=generator) * scale, scale[:, 0]

    mask = torch.ones(16, 64, dtype=torch.bool)
    for _ in range(200):
        y, scale = batch()
        optimizer.zero_grad()
        (encoder(y, mask) - scale).square().mean().backward()
        optimizer.step()
    mask = torch.ones(256, 64, dtype=torch.bool)
    y, scale = batch(256)
    with torch.no_grad():
        error = (encoder(y, mask) - scale).square().mean()
    # The variance of U(0.2, 2.2) is 0.33; the estimate from 64 members has a relative variance of 1/128.
    assert error < 0.1 * 0.33
