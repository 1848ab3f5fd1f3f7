import pytest
import torch

from pullback.networks.build import build_network
from pullback.networks.encoders import rows
from pullback.networks.settings import Mlp, Unet

torch.set_num_threads(1)

MLP, UNET = Mlp(width=16, depth=2), Unet(width=8, levels=3)
CASES = [
    (MLP, (2,), (3,), 4),
    (MLP, (2,), None, 0),
    (MLP, (3,), (2, 30, 9), 0),
    (UNET, (16, 16), (3, 50, 12), 4),
    (UNET, (13, 22), (3, 20, 40), 0),
    (UNET, (16, 16), (16, 16), 0),
    (UNET, (16, 16), (5,), 2),
    (UNET, (2, 12, 12), None, 0),
]


def make(spec, x_shape, y_shape, context):
    """A network in float64 whose weights are all random: as built, its output is zero whatever goes in."""
    torch.manual_seed(0)
    network = build_network(spec, x_shape, y_shape, context).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.2)
    return network


def inputs(x_shape, y_shape, context, batch=6, observations=6):
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    y = None if y_shape is None else normal(observations, *y_shape)
    c = normal(observations, context) if context else None
    return normal(batch, *x_shape), torch.rand(batch, generator=generator, dtype=torch.float64), y, c


@pytest.mark.parametrize("case", CASES)
def test_output_has_the_shape_of_x_and_depends_on_everything(case):
    spec, *shapes = case
    network = make(spec, *shapes)
    values = inputs(*shapes)
    given = [value.requires_grad_() for value in values if value is not None]
    output = network(*values)
    assert output.shape == values[0].shape
    for value in torch.autograd.grad(output.square().sum(), given):
        assert (value.flatten(1) if value.ndim > 1 else value[:, None]).abs().amax(dim=1).min() > 0


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_every_weight(case):
    spec, *shapes = case
    network = make(spec, *shapes)
    network(*inputs(*shapes)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("case", [case for case in CASES if case[2] is not None])
def test_one_observation_serves_consecutive_rows(case):
    spec, *shapes = case
    network = make(spec, *shapes)
    x, t, y, c = inputs(*shapes, observations=2)
    repeated = network(x, t, y.repeat_interleave(3, dim=0), None if c is None else c.repeat_interleave(3, dim=0))
    torch.testing.assert_close(network(x, t, y, c), repeated, rtol=1e-10, atol=1e-10)
    alone = network(x[3:], t[3:], y[1:], None if c is None else c[1:])
    torch.testing.assert_close(repeated[3:], alone, rtol=1e-10, atol=1e-10)


def test_a_new_network_gives_zero():
    torch.manual_seed(0)
    for spec, *shapes in CASES:
        network = build_network(spec, *shapes).double()
        assert network(*inputs(*shapes)).abs().max() == 0


def fit(network, batch, steps, rate=3e-3):
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(steps):
        values, target = batch()
        optimizer.zero_grad()
        loss = (network(*values) - target).square().mean()
        loss.backward()
        optimizer.step()
    return float(loss.detach() / target.var())


def test_mlp_learns_a_function_of_all_its_inputs():
    torch.manual_seed(0)
    network = build_network(Mlp(width=32, depth=2), (2,), (2,), 1)
    generator = torch.Generator().manual_seed(2)

    def batch():
        x, y = torch.randn(2, 128, 2, generator=generator)
        t, c = torch.rand(128, generator=generator), torch.randn(128, 1, generator=generator)
        return (x, t, y, c), x * torch.sin(3 * t)[:, None] + y * torch.tanh(c)

    assert fit(network, batch, 200, 1e-2) < 0.05


def test_unet_learns_an_image_from_gathers_of_another_size():
    torch.manual_seed(0)
    network = build_network(Unet(width=8, levels=2), (8, 8), (2, 21, 10), 0)
    generator = torch.Generator().manual_seed(2)
    # A linear and non-local map: every cell is in every sample of the data.
    G = torch.randn(64, 2 * 21 * 10, generator=generator) / 8
    modes = torch.randn(3, 64, generator=generator)

    def batch():
        truth = torch.randn(32, 3, generator=generator) @ modes
        x = torch.randn(32, 8, 8, generator=generator)
        return (x, torch.rand(32, generator=generator), (truth @ G).reshape(32, 2, 21, 10), None), truth.reshape(
            x.shape
        )

    assert fit(network, batch, 60, 1e-2) < 0.1


def test_what_a_kind_cannot_take_is_refused():
    with pytest.raises(ValueError, match="vector of 4; use kind: mlp"):
        build_network(UNET, (4,), (2,), 0)
    with pytest.raises(ValueError, match="found 3 x 9 cells; give fewer levels"):
        build_network(UNET, (3, 9), None, 0)
    with pytest.raises(ValueError, match=r"y has shape \(2, 3, 4, 5\)"):
        build_network(MLP, (4,), (2, 3, 4, 5), 0)
    with pytest.raises(ValueError, match="4 rows of a condition cannot serve 6"):
        rows(torch.zeros(4, 2), 6)
