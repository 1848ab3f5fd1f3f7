"""The engine against the OpenFWI recipe: a real record where there is one, a NumPy transcription always."""

import os
from pathlib import Path

import numpy as np
import pytest
from reference import shot
from settings import acquisition

from pullback.simulators.acoustic import AcousticEngine

DATA = Path(os.environ.get("PULLBACK_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data") / "fwi"
OPENFWI = {"preset": "openfwi"}


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(b))


def rounding(steps: int, peak_frequency: float, dt: float) -> float:
    """What float32 may cost: each step rounds by about 2^-24, and a kick in p grows to kick / (w dt) in the recurrence.

    Kicks of N steps add as sqrt(N). Ten times that covers the several roundings of one step and lower frequencies.
    """
    return 10 * 2**-24 * np.sqrt(steps) / (2 * np.pi * peak_frequency * dt)


@pytest.fixture(scope="module")
def record() -> tuple[np.ndarray, np.ndarray]:
    velocity, data = DATA / "openfwi_curvefault_velocity.npy", DATA / "openfwi_curvefault_data.npy"
    if not (velocity.exists() and data.exists()):
        pytest.skip(f"the OpenFWI record is not in {DATA} (set PULLBACK_DATA)")
    return np.load(velocity)[0, 0], np.load(data)[0]


def test_the_transcription_reproduces_a_real_record(record):
    velocity, data = record
    receivers = [(1, i) for i in range(70)]
    y = shot(
        velocity,
        dx=10.0,
        dt=1e-3,
        steps=1000,
        peak_frequency=15.0,
        border=120,
        source=(1, 0),
        receivers=receivers,
        dtype=np.float32,
    )
    assert relative(y, data[0]) <= 1e-3
    # The file's last sample is zero in every trace: without it the recipe holds to what float32 allows.
    assert not data[:, -1].any()
    assert relative(y[:-1], data[0, :-1]) <= rounding(1000, 15.0, 1e-3)
    # One sample later is not it: the convention of times is tested, not only the shape of the waves.
    assert relative(y[1:-1], data[0, :-2]) > 0.05


def test_the_engine_reproduces_a_real_record(record):
    velocity, data = record
    y = AcousticEngine(acquisition(**OPENFWI)).shots(velocity)
    assert y.shape == data.shape
    for shot_y, shot_data in zip(y, data, strict=True):
        assert relative(shot_y, shot_data) <= 1e-3


@pytest.mark.parametrize("space_order", [4, 8])
def test_the_engine_is_the_transcription(space_order):
    """The twin of the tests above on a made-up model: not square, three velocities, both space orders."""
    velocity = np.full((20, 26), 1700.0)
    velocity[8:] = 2600.0
    velocity[13:, 11:] = 3900.0
    size = {"depth_cells": 20, "offset_cells": 26, "record_length": 0.4, "absorbing_cells": 24}
    settings = {**OPENFWI, **size, "receivers": 9, "sources": 2}
    a = acquisition(**settings, space_order=space_order)
    y = AcousticEngine(a).shots(velocity)
    nodes = {
        where: [(round(z / 10), round(x / 10)) for z, x in getattr(a, where)] for where in ("sources", "receivers")
    }
    for index, source in enumerate(nodes["sources"]):
        expected = shot(
            velocity,
            dx=10.0,
            dt=1e-3,
            steps=400,
            peak_frequency=15.0,
            border=24,
            source=source,
            receivers=nodes["receivers"],
            space_order=space_order,
            wrap=False,
        )
        assert relative(y[index], expected) <= rounding(400, 15.0, 1e-3)


def test_output_is_every_kth_step():
    velocity = np.full((20, 26), 2000.0)
    settings = dict(
        OPENFWI, depth_cells=20, offset_cells=26, record_length=0.2, absorbing_cells=24, receivers=3, sources=1
    )
    fine = AcousticEngine(acquisition(**settings)).shots(velocity)
    a = acquisition(**{**settings, "output_interval": 0.004})
    coarse = AcousticEngine(a).shots(velocity)
    assert np.array_equal(coarse, fine[:, 3::4])
    assert np.allclose(a.times, np.arange(1, 51) * 0.004)


def test_output_between_steps():
    """Samples at .7 and at .77 of a step: what a spline makes of the steps is what steps of the right size give.

    dt^2 / 12 of p_tttt is the scheme's own error, which differs between the steps; at these frequencies it is below a
    part in a thousand, and one step is a tenth of a wavelength.
    """
    velocity = np.full((20, 26), 2000.0)
    settings = dict(OPENFWI, depth_cells=20, offset_cells=26, absorbing_cells=24, receivers=3, sources=1)
    settings |= {"record_length": 0.21, "output_interval": 0.0007, "peak_frequency": 10.0}
    between = AcousticEngine(acquisition(**settings, time_step=0.001)).shots(velocity)
    on_step = AcousticEngine(acquisition(**settings, time_step=0.0007)).shots(velocity)
    assert between.shape == on_step.shape == (1, 300, 3)
    # The wavelet of each is sampled at its own steps, its peak on one: shifted by less than half a step.
    assert relative(between, on_step) < 0.05


def test_samples_between_steps_are_those_of_their_times():
    """A pulse known at the steps, zero at time 0: at the times of the samples it is met to 1e-6 of its peak."""

    def pulse(t: np.ndarray) -> np.ndarray:
        b = (np.pi * 10.0 * (t - 0.15)) ** 2
        return (1 - 2 * b) * np.exp(-b)

    a = acquisition(**OPENFWI | {"record_length": 0.21, "output_interval": 0.0007, "time_step": 0.001})
    at_steps = pulse(np.arange(1, a.steps + 1) * a.time_step)
    np.testing.assert_allclose(a.sampled(at_steps), pulse(a.times), rtol=0, atol=1e-6)
    # A sample one step early is not it.
    assert np.abs(a.sampled(at_steps)[1:] - pulse(a.times)[:-1]).max() > 0.02
