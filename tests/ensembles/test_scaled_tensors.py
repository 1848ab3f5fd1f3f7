"""Scaling of tensors against that of arrays."""

import numpy as np
import pytest
import torch

from pullback.ensembles.fields import Field
from pullback.ensembles.scaled_tensors import decode, encode
from pullback.ensembles.scaling import Scaling, ScalingError

TRANSFORMS = ("linear", "log", "log1p", "symlog", "periodic", "relative")
X = Field.vector("x", ["a", "b", "c", "d", "phi", "eta"], "1", transforms=TRANSFORMS)
Y = Field.vector("y", ["a", "b", "c", "d", "phi", "eta"], "1", transforms=TRANSFORMS)


def events(n):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 4))
    x[:, 1:3] = 0.1 + np.abs(x[:, 1:3])
    angle = rng.uniform(-np.pi, np.pi, (n, 1))
    near = (angle + 0.2 * rng.standard_normal((n, 1)) + np.pi) % (2 * np.pi) - np.pi
    eta = rng.normal(size=(n, 1))
    return np.hstack([x, angle, eta]), np.hstack([x * 1.5, near, eta + 0.03 * rng.standard_normal((n, 1))])


def test_tensors_are_scaled_as_arrays_are():
    x, y = events(500)
    scaling = Scaling.fit(X, Y, x, y)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    np.testing.assert_allclose(encode(scaling.y_columns, ty).numpy(), scaling.encode_y(y), rtol=1e-5, atol=1e-5)
    z = encode(scaling.x_columns, tx, ty)
    np.testing.assert_allclose(z.numpy(), scaling.encode_x(x, y), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(decode(scaling.x_columns, z, ty).numpy(), x, rtol=1e-6, atol=1e-6)
    with pytest.raises(ScalingError, match="'phi' of x is relative to that of y: give y"):
        encode(scaling.x_columns, tx)


def test_derivatives_are_those_of_differences():
    x, y = (torch.from_numpy(part) for part in events(20))
    scaling = Scaling.fit(X, Y, *events(500))
    assert torch.autograd.gradcheck(lambda v: encode(scaling.x_columns, v, y), x.requires_grad_())
    assert torch.autograd.gradcheck(lambda v: encode(scaling.y_columns, v), x)
