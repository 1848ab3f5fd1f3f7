import pytest
import torch
from torch import nn

from pullback.networks.build import build_network
from pullback.networks.inversion_net import Critic, gradient_penalty
from pullback.networks.settings import InversionNet

torch.set_num_threads(1)


def weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_at_openfwis_size_it_is_openfwis():
    """24,409,123 weights of InversionNet and 1,180,003 of Discriminator as lanl/OpenFWI builds them (network.py, 2025).

    Less here: the normalisation of the last layer (2), and all of the critic's, of 2 x (32 + 32 + 64 + 64 + 128 + 128 +
    256 + 256 + 1) weights.
    """
    network = build_network(InversionNet(), (70, 70), (5, 1000, 70), 0)
    assert weights(network) == 24_409_123 - 2
    assert weights(Critic((70, 70), 32)) == 1_180_003 - 2 * 961


@pytest.mark.parametrize(
    ("y_shape", "x_shape", "width"),
    [
        ((5, 128, 32), (32, 32), 16),
        ((3, 64, 32), (32, 32), 16),
        ((5, 1000, 70), (70, 70), 4),
        ((3, 21, 40), (13, 22), 4),
        ((9, 9), (2, 7, 5), 4),
    ],
)
def test_gathers_become_a_model(y_shape, x_shape, width):
    """Every sample of y matters to the model, and every cell is a function of y."""
    torch.manual_seed(0)
    network = build_network(InversionNet(width=width), x_shape, y_shape, 0)
    y = torch.randn(4, *y_shape, requires_grad=True)
    x = network(torch.zeros(4, *x_shape), torch.zeros(1), y)
    assert x.shape == (4, *x_shape)
    assert (x.detach().std(dim=0) > 0).all()
    (slope,) = torch.autograd.grad((x * torch.randn(x.shape)).sum(), y)
    # Strides leave out nothing: kernels overlap.
    assert (slope.abs().amax(dim=0) > 0).all()


def test_one_observation_serves_consecutive_rows():
    torch.manual_seed(0)
    network = build_network(InversionNet(width=4), (12, 12), (2, 40, 12), 0).eval()
    y = torch.randn(2, 2, 40, 12)
    x = network(torch.zeros(6, 12, 12), torch.zeros(1), y)
    assert torch.equal(x[0], x[2])
    assert torch.equal(x[3], x[5])
    assert not torch.equal(x[2], x[3])


def test_every_weight_learns():
    torch.manual_seed(0)
    network = build_network(InversionNet(width=4), (12, 12), (2, 40, 12), 0)
    network(torch.zeros(8, 12, 12), torch.zeros(1), torch.randn(8, 2, 40, 12)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
    critic = Critic((12, 12), 4)
    critic(torch.randn(8, 12, 12)).sum().backward()
    for name, parameter in critic.named_parameters():
        assert parameter.grad.abs().max() > 0, name


class Linear(nn.Module):
    """<w, x>."""

    def __init__(self, size):
        super().__init__()
        self.w = nn.Parameter(torch.randn(size, dtype=torch.float64))

    def forward(self, x):
        return x.flatten(1) @ self.w


def pairs():
    torch.manual_seed(1)
    return torch.randn(3, 5, 4, dtype=torch.float64), torch.randn(3, 5, 4, dtype=torch.float64)


def test_the_penalty_of_a_linear_critic():
    """Its slope is w everywhere: (|w| - 1)^2, with the derivative 2 (|w| - 1) w / |w|."""
    real, made = pairs()
    critic = Linear(20)
    penalty = gradient_penalty(critic, real, made, torch.rand(3, dtype=torch.float64))
    size = critic.w.detach().norm()
    torch.testing.assert_close(penalty, ((size - 1) ** 2).expand(3))
    penalty.mean().backward()
    torch.testing.assert_close(critic.w.grad, 2 * (size - 1) * critic.w.detach() / size)


def test_the_penalty_is_taken_between_the_models():
    """Of |x|^2 / 2 the slope is x itself: at the real model, at the made one, and half way."""
    real, made = pairs()
    place = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    penalty = gradient_penalty(lambda x: x.flatten(1).square().sum(dim=1) / 2, real, made, place)
    between = torch.stack([real[0], made[1], (real[2] + made[2]) / 2])
    torch.testing.assert_close(penalty, (between.flatten(1).norm(dim=1) - 1) ** 2)
