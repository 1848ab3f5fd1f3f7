"""The checks before a simulation: limits that are true, refusals that carry numbers and a remedy that works."""

import logging
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from reference import shot
from settings import COMPACT, SPONGE

from pullback.problems.fwi import Fwi
from pullback.simulators.acquisition import Acquisition, AcquisitionError, Nodes, cfl_limit
from pullback.simulators.preflight import check, phase_velocity_error
from pullback.simulators.wave_settings import FwiSimulator
from pullback.simulators.wavelets import BANDWIDTH, FAINT, Recorded, Ricker, WaveletError


def test_the_default_settings_pass_without_a_warning():
    numbers = check(COMPACT)
    assert numbers["warnings"] == []
    assert numbers["courant_number"] < numbers["courant_limit"] == numbers["courant_limit_without_border"]
    damped = check(SPONGE)
    assert damped["courant_number"] < damped["courant_limit"] < damped["courant_limit_without_border"]
    assert numbers["record_length_s"] > numbers["two_way_time_slowest_s"]
    assert numbers["points_per_wavelength_at_frequency_max"] == pytest.approx(1500 / (2.5 * 7.5) / 20)
    assert all(isinstance(value, (int, float, list)) for value in numbers.values())


def test_the_cfl_limit_of_the_stencils():
    # Facts: .612 and .555 in 2-D; the formula's inputs are tested by the engine against the transcription.
    assert cfl_limit(4) == pytest.approx(np.sqrt(3 / 8))
    assert cfl_limit(8) == pytest.approx(0.5546, abs=5e-4)
    assert cfl_limit(4, dimensions=1) == pytest.approx(np.sqrt(3) / 2)


def limit_of_time_step(a: Acquisition, velocity: float) -> float:
    """The time step at which a uniform model's Courant number meets its limit, which falls with the time step."""
    low, high = 0.0, 1.0
    for _ in range(60):
        dt = (low + high) / 2
        stable = velocity * dt / a.spacing < replace(a, time_step=dt).courant_limit(velocity, velocity)
        low, high = (dt, high) if stable else (low, dt)
    return low


@pytest.mark.parametrize("border", [3, 8, 20])
def test_the_limit_is_where_the_scheme_blows_up(border):
    """The transcription in a uniform fast model: bounded just below the limit, lost 15 percent above it.

    The sponge takes up to three quarters of the limit (3 cells). It is strongest in the outermost cells alone, and a
    wave that lives there has not quite the shortest wavelength: hence the gap.
    """
    n, velocity = 12, 4500.0
    a = replace(SPONGE, absorbing_cells=border, spacing=10.0, depth_cells=n, offset_cells=n)
    limit = limit_of_time_step(a, velocity)
    late = {}
    for share in (0.99, 1.15):
        with np.errstate(all="ignore"):
            y = shot(
                np.full((n, n), velocity),
                dx=10.0,
                dt=share * limit,
                steps=1500,
                peak_frequency=30.0,
                border=border,
                source=(6, 6),
                receivers=[(2, 2)],
                wrap=False,
            )
        late[share] = np.abs(y[-100:]).max()
    assert late[0.99] < 1
    assert not late[1.15] < 1e3
    assert velocity * limit / 10 < cfl_limit(4)


def test_an_unstable_time_step_is_refused_with_a_remedy_that_works():
    bad = replace(SPONGE, time_step=0.0025)
    with pytest.raises(AcquisitionError, match=r"4500 \* 0\.0025 / 20 = 0\.5\d+ is above 0\.5") as refusal:
        check(bad)
    remedy = float(re.search(r"at most ([\d.e-]+) s", str(refusal.value)).group(1))
    assert 0.002 < remedy < 0.0025
    check(replace(bad, time_step=remedy))
    with pytest.raises(AcquisitionError, match="unstable"):
        check(replace(bad, time_step=remedy * 1.01))


@pytest.mark.parametrize("order", [4, 8])
def test_dispersion_falls_with_the_order_of_the_stencil(order):
    """Twice the points per wavelength, a time step too small to matter: the error falls by 2^order, in the limit."""
    fine, coarse = (phase_velocity_error(order, 1e-4, p, p / 1e-4) for p in (16.0, 8.0))
    assert coarse < fine < 0
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.35)


def test_dispersion_of_the_time_step_alone():
    """Finely sampled in space, sin(w dt / 2) / (w dt / 2) is what remains: waves are too fast by (w dt)^2 / 24."""
    error = phase_velocity_error(8, 0.5, 40.0, 80.0)
    assert error == pytest.approx((2 * np.pi / 80) ** 2 / 24, rel=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wavelet": Ricker(20.0)}, r"1\.50 points per wavelength at 50 Hz.*at most 7\.5 Hz"),
        (
            {"output_interval": 0.04, "samples": 25},
            r"recorded every 0\.04 s, which aliases 18\.75 Hz: record at least every 0\.0267",
        ),
        (
            {"receivers": ((20.0, 0.0), (20.0, 640.0))},
            r"receiver at depth 20 m, offset 640 m is outside the model.*620 m wide",
        ),
        ({"sources": ((-20.0, 60.0),)}, r"source at depth -20 m"),
        ({"sources": ((0.0, 60.0),), "free_surface": True}, r"source at depth 0 m lies on the free surface"),
        ({"sources": ()}, "no source"),
        ({"velocity_min": 1.5, "velocity_max": 4.5}, r"4\.5 m/s, which looks like km/s"),
        ({"velocity_min": 4500.0, "velocity_max": 1500.0}, "wanted 0 < velocity_min < velocity_max"),
        ({"absorbing_cells": 1}, "at least 2"),
        ({"samples": 0}, "at least 1"),
        ({"space_order": 6}, r"there are \[4, 8\]"),
    ],
)
def test_settings_that_cannot_work(change, message):
    with pytest.raises(AcquisitionError, match=message):
        check(replace(COMPACT, **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wavelet": Ricker(9.0), "output_interval": 0.008}, r"3\.33 points per wavelength at 22\.5 Hz"),
        ({"samples": 50}, r"the record of 0\.8 s ends before the bottom answers in a model of 1500 m/s \(0\.973 s"),
        (
            {"absorbing_cells": 12, "time_step": 0.0016, "output_interval": 0.0128},
            r"border is 0\.40 wavelengths.*at least 15 cells",
        ),
    ],
)
def test_settings_that_are_doubtful(change, message):
    (warning,) = [w for w in check(replace(SPONGE, **change))["warnings"] if re.search(message, w)]
    assert warning


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"record_length": 1.0}, r"62\.5 samples: take a whole number, a record of 0\.992 s"),
        ({"output_interval": 0.015}, r"68\.2667 samples"),
    ],
)
def test_a_record_of_half_a_sample(change, message):
    with pytest.raises(AcquisitionError, match=message):
        Fwi(FwiSimulator(**change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "opnfwi"}, "'compact', 'openfwi'"),
        ({"sources": 0}, "at least one"),
        ({"receivers": []}, "at least one"),
        ({"x_cells": (40, 32)}, r"found \[40, 32\], wanted at least 2 nodes"),
        ({"wavelet": "w.npy"}, "belong together"),
    ],
)
def test_settings_that_contradict_each_other(change, message):
    with pytest.raises(ValueError, match=message):
        FwiSimulator(**change)


def test_presets_fill_what_is_not_given():
    simulator = FwiSimulator(preset="openfwi", absorbing_cells=40)
    assert (simulator.depth_cells, simulator.absorbing_cells, simulator.peak_frequency) == (70, 40, 15.0)
    # What is written into a job has every value, and means the same when it is read back.
    assert FwiSimulator.model_validate(simulator.model_dump(mode="json")) == simulator
    assert check(Fwi(FwiSimulator(preset="fwi32")).acquisition)["grid_points"] == 150 * 150
    assert check(Fwi(FwiSimulator(preset="marmousi")).acquisition)["warnings"] == []


@pytest.mark.parametrize("share", [0.0, 0.3, 0.77])
def test_positions_between_nodes(share):
    """The windowed sinc reads a wave of four points per wavelength, at any angle, to parts in a hundred."""
    a = replace(COMPACT, boundary="pml")
    position = (200.0 + share * 20, 300.0 + (1 - share) * 20)
    nodes = a.nodes([position])
    assert len(nodes.rows) == (1 if share == 0 else 64)
    z, x = (nodes.rows - a.absorbing_cells) * 20.0, (nodes.columns - a.absorbing_cells) * 20.0
    for angle in (0.0, 0.4, np.pi / 4):
        k = 2 * np.pi / 80 * np.array([np.cos(angle), np.sin(angle)])
        read = nodes.read(np.exp(1j * (k[0] * z + k[1] * x)))
        assert abs(read[0] - np.exp(1j * (k[0] * position[0] + k[1] * position[1]))) < 0.02


def test_reading_and_driving_are_transposed():
    rng = np.random.default_rng(0)
    a = replace(COMPACT, free_surface=True, receivers=((7.0, 33.0), (20.0, 40.0), (25.0, 0.0)), output_interval=0.0137)
    nodes = a.nodes(a.receivers)
    values, positions = rng.standard_normal((3, len(nodes.rows))), rng.standard_normal((3, 3))
    assert (nodes.read(values) * positions).sum() == pytest.approx((values * nodes.drive(positions)).sum())
    record, samples = rng.standard_normal((a.steps, 2)), rng.standard_normal((a.samples, 2))
    assert (a.sampled(record) * samples).sum() == pytest.approx((record * a.unsampled(samples)).sum())


def test_openfwi_positions():
    a = Fwi(FwiSimulator(preset="openfwi")).acquisition
    assert [offset for _, offset in a.sources] == [0, 170, 340, 520, 690]
    assert a.receivers == tuple((10.0, 10.0 * i) for i in range(70))


def test_ricker_wavelet():
    f, dt = 7.5, 0.002
    w = Ricker(f).sampled(dt, 400)
    length = 2 * int(1.1 / (f * dt)) + 1
    assert np.argmax(w) == length // 2
    assert w.max() == 1
    assert not w[length:].any()
    # Its spectrum peaks at f, and has u^2 exp(1 - u^2) of that at the frequency that the checks look at.
    frequencies = np.fft.rfftfreq(4096, dt)
    spectrum = np.abs(np.fft.rfft(w, 4096))
    assert frequencies[np.argmax(spectrum)] == pytest.approx(f, abs=0.15)
    u = BANDWIDTH
    at_edge = np.interp(u * f, frequencies, spectrum) / spectrum.max()
    assert at_edge == pytest.approx(u**2 * np.exp(1 - u**2), rel=0.05)


def test_a_recorded_wavelet(tmp_path):
    """A Ricker wavelet in a file is the Ricker wavelet: its values between samples, its frequencies, its peak."""
    ricker = Ricker(10.0)
    np.save(tmp_path / "w.npy", ricker.sampled(0.002, 121))
    np.savetxt(tmp_path / "w.txt", ricker.sampled(0.002, 121))
    for name in ("w.npy", "w.txt"):
        read = Recorded.read(tmp_path / name, 0.002)
        b = (np.pi * 10.0 * (np.arange(200) * 0.001 - ricker.delay(0.002))) ** 2
        np.testing.assert_allclose(read.sampled(0.001, 200), (1 - 2 * b) * np.exp(-b), atol=0.01)
        assert read.frequency == pytest.approx(10, abs=0.3)
        assert read.frequency_max == pytest.approx(25, rel=0.05)
        assert read.delay(0.001) == ricker.delay(0.002)
    assert pytest.approx(BANDWIDTH**2 * np.exp(1 - BANDWIDTH**2)) == FAINT
    np.save(tmp_path / "bad.npy", np.zeros((3, 3)))
    with pytest.raises(WaveletError, match=r"shape \(3, 3\).*along one axis"):
        Recorded.read(tmp_path / "bad.npy", 0.002)
    (tmp_path / "empty.npy").touch()
    np.savez(tmp_path / "several.npz", a=np.ones(9), b=np.ones(9))
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    np.save(tmp_path / "text.npy", np.array(["a", "b", "c", "d"]))
    for name in ("none.txt", "empty.npy", "several.npy", "text.npy"):
        with pytest.raises(WaveletError, match="not a wavelet"):
            Recorded.read(tmp_path / name, 0.002)


def test_a_record_without_the_bottom_is_refused_for_inversion(caplog):
    """By the first job and by `pullback check`, which does not simulate."""
    waves = Fwi(FwiSimulator(record_length=0.32))
    for look in (waves.preflight, waves.review):
        with pytest.raises(
            AcquisitionError, match=r"0\.32 s ends before the bottom answers even in the fastest model \(0\.422 s\)"
        ):
            look()
    with caplog.at_level(logging.WARNING, logger="pullback"):
        numbers = Fwi(FwiSimulator(record_length=0.8)).preflight()
    assert numbers["warnings"]
    assert "ends before the bottom answers" in caplog.text


@pytest.mark.parametrize(
    ("weights", "single"),
    [
        (np.eye(3)[[2, 0]], [2, 0]),
        (np.eye(3)[[2, 2]], None),
        (0.5 * np.eye(3), None),
        (-np.eye(3), None),
        (np.eye(3) + np.eye(3)[::-1], None),
    ],
)
def test_positions_that_are_read_without_a_sum(weights, single):
    """Each on one node of its own, with weight 1."""
    found = Nodes(np.arange(3), np.arange(3), weights)._single
    assert (found if found is None else found.tolist()) == single


def test_many_nodes_take_no_square_of_their_number():
    weights = np.full((2, 3000), 0.1)
    tracemalloc.start()
    assert Nodes(np.arange(3000), np.arange(3000), weights)._single is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
