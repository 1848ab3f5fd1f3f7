"""Angles wrapped to [-pi, pi): one function for all, also where rounding would give pi itself."""

import importlib

import numpy as np
import pytest

from pullback.core.angles import wrap

USERS = (
    "ensembles.scaling",
    "methods.refinement.kernel",
    "metrics.calibration",
    "metrics.sample",
    "problems.unfolding",
    "core.pairing",
    "readers.jet_columns",
    "readers.table_side",
    "report.export",
    "simulators.detector",
    "simulators.energy_flow",
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_range_is_half_open(dtype):
    pi = dtype(np.pi)
    below = np.nextafter(-pi, dtype(-10))
    angles = np.array([0, 3, -3, 4, -4, 100, -pi, pi, 3 * pi, below, np.nextafter(below, dtype(-10))], dtype)
    wrapped = wrap(angles)
    assert wrapped.dtype == dtype
    assert (wrapped >= -pi).all()
    assert (wrapped < pi).all()
    # Up to 100 an angle of float32 is known to 4e-6.
    np.testing.assert_allclose(np.exp(1j * wrapped.astype(float)), np.exp(1j * angles.astype(float)), atol=2e-5)


@pytest.mark.parametrize("name", USERS)
def test_all_who_wrap_use_it(name):
    assert importlib.import_module(f"pullback.{name}").wrap is wrap
