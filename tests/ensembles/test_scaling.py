import json

import numpy as np
import pytest

from pullback.ensembles.fields import Field
from pullback.ensembles.scaling import Scaling, ScalingError

EPS = float(np.finfo(np.float32).eps)


def jets(rng, n):
    """Truth and observation with every transform in them."""
    x_field = Field.vector(
        "x",
        ["pt", "eta", "phi", "mass", "charge"],
        ["GeV", "1", "rad", "GeV", "1"],
        transforms=("log", "linear", "periodic", "log1p", "symlog"),
    )
    y_field = Field.vector("y", ["pt", "phi"], ["GeV", "rad"], transforms=("log", "periodic"))
    pt = np.exp(rng.normal(4, 1, n))
    phi = rng.uniform(-np.pi, np.pi, n)
    smeared = (phi + 0.05 * rng.standard_normal(n) + np.pi) % (2 * np.pi) - np.pi
    x = np.stack([pt, rng.normal(0, 2, n), phi, rng.exponential(5, n), rng.normal(0, 100, n)], axis=1)
    y = np.stack([pt * np.exp(0.1 * rng.standard_normal(n)), smeared], axis=1)
    return x_field, y_field, x.astype(np.float32), y.astype(np.float32)


def test_decode_inverts_encode():
    x_field, y_field, x, y = jets(np.random.default_rng(1), 5000)
    scaling = Scaling.fit(x_field, y_field, x, y)
    z = scaling.encode_x(x, y)
    back = scaling.decode_x(z, y)
    # z = (T(v) - mean) / std is rounded to float32: a relative step of EPS / 2 moves v by |dv/dT| std |z| EPS / 2.
    # |z| < 6 here; std (log pt) = 1, so pt moves by at most 6 EPS relative, plus its own rounding.
    np.testing.assert_allclose(back[:, 0], x[:, 0], rtol=8 * EPS)
    np.testing.assert_allclose(back[:, 1], x[:, 1], atol=8 * 2 * EPS)
    np.testing.assert_allclose(back[:, 2], x[:, 2], atol=4 * np.pi * EPS)
    np.testing.assert_allclose(back[:, 3], x[:, 3], rtol=8 * EPS, atol=8 * EPS)
    assert np.max(np.abs(back[:, 4] - x[:, 4]) / (100 + np.abs(x[:, 4]))) < 8 * EPS


def test_encoded_training_data_is_standardised():
    x_field, y_field, x, y = jets(np.random.default_rng(2), 5000)
    scaling = Scaling.fit(x_field, y_field, x, y)
    for values in (scaling.encode_x(x, y), scaling.encode_y(y)):
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(axis=0), 1, rtol=1e-5)
    # log pt is what the network sees of pt.
    assert np.corrcoef(scaling.encode_x(x, y)[:, 0], np.log(x[:, 0]))[0, 1] > 1 - 1e-6


def test_a_periodic_y_quantity_enters_as_sine_and_cosine():
    x_field, y_field, x, y = jets(np.random.default_rng(3), 1000)
    scaling = Scaling.fit(x_field, y_field, x, y)
    assert scaling.y_shape == (3,)
    assert scaling.encode_y(y).shape == (1000, 3)
    turned = y + np.array([0, 2 * np.pi], dtype=np.float32)
    np.testing.assert_allclose(scaling.encode_y(turned), scaling.encode_y(y), atol=1e-5)


def test_periodic_x_is_learnt_across_the_seam():
    x_field, y_field, x, y = jets(np.random.default_rng(4), 2000)
    scaling = Scaling.fit(x_field, y_field, x, y)
    # Truth and observation on the two sides of the seam are 0.02 rad apart, as a pair in the middle is.
    seam = scaling.encode_x(
        np.array([[50, 0, -np.pi + 0.01, 5, 1]], "f4"), np.array([[50, np.pi - 0.01]], dtype=np.float32)
    )
    middle = scaling.encode_x(np.array([[50, 0, 0.01, 5, 1]], "f4"), np.array([[50, -0.01]], dtype=np.float32))
    np.testing.assert_allclose(seam[0, 2], middle[0, 2], atol=1e-4)
    # Whatever the network answers, the angle is in [-pi, pi) and y + difference modulo a turn.
    z = np.zeros((2000, 7, 5), dtype=np.float32)
    z[..., 2] = np.random.default_rng(5).normal(0, 40, (2000, 7))
    decoded = scaling.decode_x(z, y[:, None])
    assert decoded.shape == (2000, 7, 5)
    angles = decoded[..., 2].astype(np.float64)
    assert angles.min() >= -np.pi
    assert angles.max() < np.pi
    column = scaling.to_dict()["x"][2]
    expected = y[:, None, 1].astype(np.float64) + z[..., 2] * column["std"] + column["mean"]
    np.testing.assert_allclose(np.cos(angles - expected), 1, atol=1e-9)


def test_leading_axes_broadcast():
    x_field, y_field, x, y = jets(np.random.default_rng(6), 60)
    scaling = Scaling.fit(x_field, y_field, x, y)
    z = np.random.default_rng(7).standard_normal((60, 4, 5)).astype(np.float32)
    together = scaling.decode_x(z, y[:, None])
    for draw in range(4):
        np.testing.assert_array_equal(together[:, draw], scaling.decode_x(z[:, draw], y))
    np.testing.assert_array_equal(
        scaling.encode_x(x.reshape(3, 20, 5), y.reshape(3, 20, 2)).reshape(60, 5), scaling.encode_x(x, y)
    )


def test_an_array_is_standardised_as_a_whole():
    rng = np.random.default_rng(8)
    x_field = Field.array("x", ["depth", "offset"], [6, 5], "m/s")
    y_field = Field.array("y", ["receiver", "time"], [5, 30], "Pa", transforms=("symlog",))
    x = rng.uniform(1500, 4500, (200, 6, 5)).astype(np.float32)
    y = (rng.standard_normal((200, 5, 30)) * 10.0 ** rng.uniform(-4, 2, (200, 1, 1))).astype(np.float32)
    scaling = Scaling.fit(x_field, y_field, x, y)
    assert scaling.x_shape == (6, 5)
    assert scaling.y_shape == (5, 30)
    z = scaling.encode_x(x, y)
    assert z.shape == x.shape
    # One mean and one deviation: the array of means over events is not flattened to zero.
    assert abs(float(z.mean())) < 1e-4
    assert abs(float(z.std()) - 1) < 1e-4
    np.testing.assert_allclose(np.polyfit(x.ravel(), z.ravel(), 1)[0], 1 / x.std(), rtol=1e-3)
    np.testing.assert_allclose(scaling.decode_x(z, y), x, rtol=4 * EPS)
    rms = np.sqrt(np.mean(np.square(y, dtype=np.float64)))
    seen = np.sign(y) * np.log1p(np.abs(y) / rms)
    np.testing.assert_allclose(scaling.encode_y(y), (seen - seen.mean()) / seen.std(), atol=1e-4)


def test_plain_values_carry_the_whole_scaling():
    x_field, y_field, x, y = jets(np.random.default_rng(9), 500)
    scaling = Scaling.fit(x_field, y_field, x, y)
    again = Scaling.from_dict(json.loads(json.dumps(scaling.to_dict())))
    np.testing.assert_array_equal(again.encode_x(x, y), scaling.encode_x(x, y))
    np.testing.assert_array_equal(again.encode_y(y), scaling.encode_y(y))
    assert (again.x_shape, again.y_shape) == (scaling.x_shape, scaling.y_shape)


def test_a_constant_quantity_is_only_centred():
    field = Field.vector("x", ["a", "b"], "1")
    y_field = Field.vector("y", ["c"], "1")
    x = np.stack([np.full(50, 3.3), np.arange(50.0)], axis=1).astype(np.float32)
    scaling = Scaling.fit(field, y_field, x, np.ones((50, 1), dtype=np.float32))
    assert np.isfinite(scaling.encode_x(x, x[:, :1])).all()
    np.testing.assert_allclose(scaling.encode_x(x, x[:, :1])[:, 0], 0, atol=1e-6)


@pytest.mark.parametrize(("value", "transform"), [(0.0, "log"), (-3.5, "log"), (-1.0, "log1p")])
def test_a_value_that_a_logarithm_cannot_take_is_named(value, transform):
    x_field = Field.vector("x", ["pt"], "GeV", transforms=(transform,))
    y_field = Field.vector("y", ["a", "energy"], "GeV", transforms=("linear", transform))
    good = np.ones((10, 1), dtype=np.float32) * np.arange(1, 11, dtype=np.float32)[:, None]
    y = np.concatenate([good, good], axis=1)
    scaling = Scaling.fit(x_field, y_field, good, y)
    bad = y.copy()
    bad[4, 1] = value
    with pytest.raises(ScalingError, match=rf"'energy' of y .*1 of 10 values.*first is {value:g};"):
        scaling.encode_y(bad)
    x = good.copy()
    x[2] = value
    with pytest.raises(ScalingError, match="'pt' of x"):
        Scaling.fit(x_field, y_field, x, y)


def test_a_periodic_truth_needs_its_observation():
    x_field = Field.vector("x", ["phi"], "rad", transforms=("periodic",))
    y_field = Field.vector("y", ["eta"], "1")
    with pytest.raises(ScalingError, match=r"'phi' of x is periodic.*y has eta"):
        Scaling.fit(x_field, y_field, np.zeros((5, 1)), np.zeros((5, 1)))


def test_draws_of_a_whole_number_are_rounded():
    fields = (Field.vector(name, ["jets"], "1", transforms=("whole",)) for name in ("x", "y"))
    x = np.arange(7, dtype=np.float32)[:, None]
    scaling = Scaling.fit(*fields, x, x)
    z = scaling.encode_x(x, x)
    np.testing.assert_allclose(z[:, 0], (x[:, 0] - 3) / 2, rtol=1e-6)  # mean and standard deviation of 0 to 6
    for off in (-0.24, 0.0, 0.24):  # 0.48 in units of x
        np.testing.assert_array_equal(scaling.decode_x(z + np.float32(off), x), x)
    assert not np.signbit(scaling.decode_x(z - np.float32(0.1), x)).any()


def test_what_is_relative_is_a_difference_that_comes_back_precisely():
    rng = np.random.default_rng(6)
    x_field = Field.vector("x", ["eta"], "1", transforms=("relative",))
    y_field = Field.vector("y", ["pt", "eta"], ["GeV", "1"], transforms=("log", "linear"))
    x = 2 * rng.standard_normal((1000, 1))
    y = np.hstack([rng.uniform(30, 90, (1000, 1)), x + 0.01 * rng.standard_normal((1000, 1))])
    scaling = Scaling.fit(x_field, y_field, x, y)
    z = scaling.encode_x(x, y)
    # Standardised as the difference is, a hundredth of what x varies by; y is as wide as it is.
    np.testing.assert_allclose(z[:, 0], (x[:, 0] - y[:, 1]) / (x[:, 0] - y[:, 1]).std(), atol=0.2)
    assert abs(z.std() - 1) < 1e-3
    np.testing.assert_allclose(scaling.decode_x(z, y), x, atol=1e-6)
    np.testing.assert_allclose(scaling.encode_y(y).std(axis=0), 1, atol=1e-3)
    with pytest.raises(ScalingError, match=r"'eta' of x is relative: it is learnt as its difference.*y has pt"):
        Scaling.fit(x_field, Field.vector("y", ["pt"], "GeV"), x, y[:, :1])
