"""The wave engine as one call: the gathers of the fwi problem, and a gradient that torch finds."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from settings import small

from pullback import waves
from pullback.problems.fwi import Fwi
from pullback.simulators.acquisition import AcquisitionError, VelocityError
from pullback.simulators.wave_settings import FwiSimulator
from pullback.simulators.wavelets import Ricker, WaveletError

A = small()
SMALL = {
    "spacing": 10.0,
    "sources": A.sources,
    "receivers": A.receivers,
    "peak_frequency": 20.0,
    "record_length": 0.3,
    "time_step": 0.001,
    "output_interval": 0.002,
    "absorbing_cells": 14,
    "velocity_max": 4000.0,
}


def model() -> np.ndarray:
    velocity = np.full((24, 30), 2000.0)
    velocity[9:] = 2600.0
    velocity[16:, 12:] = 3400.0
    return velocity


def test_gathers_are_those_of_the_fwi_problem():
    options = FwiSimulator(boundary="sponge", absorbing_cells=28, free_surface=True, space_order=8)
    problem = Fwi(options)
    x = problem.sample_prior(np.random.default_rng(0), 3, {"geology": "curved-fault"})
    y, _ = problem.apply(x)
    offsets = [offset for _, offset in problem.acquisition.sources]
    same = waves.simulate(
        x,
        spacing=options.spacing,
        sources=waves.line(offsets, options.source_depth),
        receivers=waves.line([offset for _, offset in problem.acquisition.receivers], options.source_depth),
        peak_frequency=options.peak_frequency,
        record_length=options.record_length,
        time_step=options.time_step,
        output_interval=options.output_interval,
        boundary="sponge",
        absorbing_cells=28,
        free_surface=True,
        space_order=8,
    )
    np.testing.assert_array_equal(same, y)


def test_one_model_is_the_first_of_many_and_a_tensor_the_same_as_an_array():
    alone = waves.simulate(model(), **SMALL)
    many = waves.simulate(torch.from_numpy(np.stack([model(), 1.1 * model()])), **SMALL)
    assert alone.shape == (2, 150, 9)
    assert many.dtype == torch.float32
    np.testing.assert_array_equal(many[0].numpy(), alone)


def test_the_gradient_is_that_of_differences():
    """Of a weighted sum of the gathers, in float64, along random directions."""
    velocity = torch.from_numpy(np.stack([model(), 1.1 * model()])).requires_grad_()
    rng = np.random.default_rng(1)
    weights = torch.from_numpy(rng.standard_normal((2, 2, 150, 9)))
    (weights * waves.simulate(velocity, **SMALL, dtype="float64")).sum().backward()
    assert velocity.grad is not None
    step = rng.standard_normal((2, 24, 30))
    with torch.no_grad():
        # The step is short enough for the cubic term and long enough for rounding: both are below 1e-6 of the slope.
        ends = [waves.simulate(velocity + h * torch.from_numpy(step), **SMALL, dtype="float64") for h in (1e-2, -1e-2)]
    for event in range(2):
        differences = float((weights[event] * (ends[0][event] - ends[1][event])).sum()) / 2e-2
        slope = float((velocity.grad[event] * torch.from_numpy(step[event])).sum())
        assert slope == pytest.approx(differences, rel=1e-5)


def test_a_chain_with_a_network_in_front():
    """The gradient goes on to what the velocity was made of, in the type of that."""
    slowness = torch.full((24, 30), 1 / 2000.0, requires_grad=True)
    gathers = waves.simulate(1 / slowness, **SMALL)
    gathers.square().sum().backward()
    assert slowness.grad is not None
    assert slowness.grad.dtype == torch.float32
    velocity = torch.full((24, 30), 2000.0, requires_grad=True)
    waves.simulate(velocity, **SMALL).square().sum().backward()
    np.testing.assert_allclose(
        slowness.grad, -velocity.grad * 2000.0**2, rtol=1e-3, atol=1e-3 * slowness.grad.abs().max()
    )


def test_a_wavelet_by_its_samples():
    ricker = Ricker(20.0).sampled(0.001, 120)
    given = {**SMALL, "peak_frequency": None, "wavelet": ricker}
    by_frequency = waves.simulate(model(), **SMALL)
    np.testing.assert_allclose(
        waves.simulate(model(), **given), by_frequency, rtol=0, atol=1e-5 * np.abs(by_frequency).max()
    )
    with pytest.raises(WaveletError, match="at least 4 samples"):
        waves.simulate(model(), **{**given, "wavelet": np.zeros(100)})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"time_step": 0.01, "output_interval": 0.01}, AcquisitionError, "unstable"),
        ({"record_length": 0.3011}, AcquisitionError, "take a whole number"),
        ({"sources": [(10.0, 5000.0)]}, AcquisitionError, "outside the model"),
        ({"receivers": [10.0, 20.0]}, ValueError, r"receivers has shape \(2,\): wanted \(position, 2\)"),
        ({"peak_frequency": None}, ValueError, "give either"),
        ({"velocity_max": 3000.0}, VelocityError, "from 2000 to 3400 m/s: wanted 1500 to 3000 m/s; clip"),
    ],
)
def test_settings_that_cannot_work(change, error, message):
    with pytest.raises(error, match=message):
        waves.simulate(model(), **{**SMALL, **change})


def test_models_that_are_none():
    for velocity, message in (
        (model() / 1000, "multiply by 1000"),
        (np.where(model() > 3000, np.nan, model()), "not finite, the first in event 0"),
        (np.full(9, 2000.0), r"has shape \(9,\)"),
    ):
        with pytest.raises(VelocityError, match=message):
            waves.simulate(velocity, **SMALL)


def test_arrays_need_no_torch():
    code = "import pullback.waves, sys; assert not {'torch', 'devito'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
