"""What every set encoder promises: order, padding, weights of any sign, copies, and the size."""

import numpy as np
import pytest
import torch

from pullback.networks.build import build_set_encoder
from pullback.networks.set_head import effective_size
from pullback.networks.set_transformer import MAB, attention, normalised
from pullback.networks.settings import DeepSets, Moments, SetTransformer

torch.set_num_threads(1)

KINDS = {
    "set-transformer": lambda **more: SetTransformer(hidden=16, heads=4, inducing=6, **more),
    "deep-sets": lambda **more: DeepSets(kind="deep-sets", hidden=16, **more),
    "moments": lambda **more: Moments(
        kind="moments", moments=["mean", "std", "skewness", "kurtosis", "correlation"], **more
    ),
}


def make(kind, **more):
    torch.manual_seed(0)
    return build_set_encoder(KINDS[kind](**more), (3,), 5).double()


def members(n=13, count=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn((count, n, 3), generator=generator, dtype=torch.float64)


def ones(y):
    return torch.ones(y.shape[:2], dtype=torch.bool)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_order_and_padding_do_not_matter(kind):
    encoder, y = make(kind), members()
    order = torch.randperm(13, generator=torch.Generator().manual_seed(2))
    close(encoder(y[:, order], ones(y)), encoder(y, ones(y)))
    mask = ones(y)
    mask[0, 8:] = False
    padded = y.clone()
    padded[0, 8:] = torch.nan
    close(encoder(padded, mask)[:1], encoder(y[:1, :8], ones(y[:1, :8])))


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_a_number_of_copies(kind):
    encoder, y = make(kind, size_input=False), members()
    weight = torch.tensor([1.0, 3, 2] + [1] * 10, dtype=torch.float64).expand(2, -1)
    copies = torch.cat([y, y[:, 1:3], y[:, 1:2]], dim=1)
    close(encoder(y, ones(y), weight), encoder(copies, ones(copies)))
    close(encoder(y, ones(y), 7 * weight), encoder(y, ones(y), weight))


@pytest.mark.parametrize("kind", KINDS)
def test_opposite_weights_cancel(kind):
    """A member and its copy of weight -1, as signed events of a generator, are not there."""
    encoder, y = make(kind, size_input=False), members()
    signed = torch.cat([y, y[:, 4:7], members(n=3)[:, :1] * 0 + 5, members(n=3)[:, :1] * 0 + 5], dim=1)
    weight = torch.ones(signed.shape[:2], dtype=torch.float64)
    weight[:, 13:16] = -1
    weight[:, 17] = -1
    left = torch.cat([y[:, :4], y[:, 7:]], dim=1)
    close(encoder(signed, ones(signed), weight), encoder(left, ones(left)))


@pytest.mark.parametrize("kind", KINDS)
def test_whole_copies_of_a_set_leave_its_embedding_unchanged(kind):
    """Duplication up to a fixed size adds no information; a cut copy biases (facts 1.4)."""
    encoder, y = make(kind, size_input=False), members(n=100, count=1)
    once = encoder(y, ones(y))
    copied = y.repeat(1, 40, 1)
    torch.testing.assert_close(encoder(copied, ones(copied)), once, rtol=0, atol=1e-9)
    uneven = copied[:, :130]
    assert (encoder(uneven, ones(uneven)) - once).abs().max() > 1e-4
    # The size input is what tells the two apart.
    told = make(kind)
    assert (told(copied, ones(copied)) - told(y, ones(y))).abs().max() > 1e-4


def test_effective_size():
    weight = torch.tensor([[2.0, 2, 2, 2], [4, 0, 0, 0], [3, -1, 3, -1]])
    mask = torch.ones(3, 4, dtype=torch.bool)
    close(effective_size(mask, weight), torch.tensor([[4.0], [1], [16 / 20]]).clamp_min(1))
    mask[0, 2:] = False
    close(effective_size(mask, None), torch.tensor([[2.0], [4], [4]]))


@pytest.mark.parametrize(("n", "keys"), [(4, 50), (50, 4)])
def test_both_associations_are_multihead_attention(n, keys):
    """The block against torch's own multihead attention."""
    torch.manual_seed(3)
    block = MAB(16, 4, normalise=True).double()
    other = torch.nn.MultiheadAttention(16, 4, batch_first=True).double()
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([block.q.weight, block.k.weight, block.v.weight]))
        other.in_proj_bias.copy_(torch.cat([block.q.bias, torch.zeros(16).double(), block.v.bias]))
        other.out_proj.weight.copy_(block.out.weight)
        other.out_proj.bias.copy_(block.out.bias)
    X, Y = torch.randn(2, n, 16).double(), torch.randn(2, keys, 16).double()
    mask = torch.rand(2, keys) < 0.7
    mask[:, 0] = True
    x, y = normalised(X), normalised(Y)
    attended = other(x, y, y, key_padding_mask=~mask)[0]
    H = X + attended
    close(block(X, Y, mask.double()), H + torch.relu(block.rff(normalised(H))))


def test_signed_shares_stay_bounded_where_weights_cancel():
    scores = torch.zeros(1, 1, 4, dtype=torch.float64)
    share = attention(scores, torch.tensor([[1.0, 1, -1, -1 + 1e-9]], dtype=torch.float64))
    assert share.abs().sum() <= 1 / 0.05 + 1e-6


def test_moments_are_those_of_numpy_and_scipy():
    from scipy import stats

    from pullback.networks.deep_sets import MOMENTS, _means

    y = members(n=400) ** 3
    mean, spread, z = _means(y, None)
    found = {name: rule(mean, spread, z, None)[0].numpy() for name, rule in MOMENTS.items()}
    sample = y[0].numpy()
    np.testing.assert_allclose(found["mean"], sample.mean(axis=0))
    np.testing.assert_allclose(found["std"], sample.std(axis=0))
    np.testing.assert_allclose(found["skewness"], stats.skew(sample))
    np.testing.assert_allclose(found["kurtosis"], stats.kurtosis(sample))
    np.testing.assert_allclose(found["correlation"], np.corrcoef(sample.T)[np.triu_indices(3, 1)])


def test_moments_of_an_array_are_refused():
    with pytest.raises(ValueError, match="takes observations that are vectors"):
        build_set_encoder(KINDS["moments"](), (4, 4), 2)
