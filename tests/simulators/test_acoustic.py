"""The engine as physics and as a machine: waves that are right, models that do not touch each other, failures that
show."""

import hashlib
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from settings import COMPACT, SPONGE

from pullback.simulators import geology
from pullback.simulators.acoustic import AcousticEngine, SimulationError, shared_engine
from pullback.simulators.acquisition import AcquisitionError, cfl_limit
from pullback.simulators.propagators import Propagator
from pullback.simulators.wavelets import Ricker


@pytest.fixture(scope="module")
def engine() -> AcousticEngine:
    return AcousticEngine(COMPACT)


@pytest.fixture(scope="module")
def models() -> np.ndarray:
    rng = np.random.default_rng(7)
    return np.concatenate(
        [geology.sample(name, rng, 3, (32, 32)) for name in ("flat", "curved-fault", "salt", "style")]
    )


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(b))


V = 2000.0


def point_source(dx: float, dt: float, source: tuple[float, float], receivers, **more) -> tuple[np.ndarray, np.ndarray]:
    """Traces (time, receiver) of a uniform model of 1 km x 1 km, and the exact ones.

    p(r, t) = dx^2 / 2 pi * int w(t - s) / sqrt(s^2 - r^2 / v^2) ds: the discrete source adds (v dt)^2 w to one node, a
    source density v^2 w dx^2 delta. The record stops before the border, 500 m away, could answer. With a free surface
    the source has an image above it, of the other sign.
    """
    cells = round(1000 / dx) + 1
    wavelet = Ricker(8.0)
    a = replace(
        COMPACT,
        depth_cells=cells,
        offset_cells=cells,
        spacing=dx,
        time_step=dt,
        samples=100,
        output_interval=0.004,
        wavelet=wavelet,
        absorbing_cells=20,
        sources=(source,),
        receivers=tuple(receivers),
        **more,
    )
    y = AcousticEngine(a, dtype="float64").shots(np.full((cells, cells), V))[0]
    fine = np.arange(4001) * 1e-4
    centre = wavelet.delay(dt)
    b = (np.pi * wavelet.frequency * (fine - centre)) ** 2
    smooth = (1 - 2 * b) * np.exp(-b) * (fine <= 2 * centre)

    def wave(depth: float, z: float, x: float) -> np.ndarray:
        # With s = r / v cosh(q) the kernel's singularity goes away: ds / sqrt(s^2 - r^2 / v^2) = dq.
        arrival = np.hypot(z - depth, x - source[1]) / V
        q = np.linspace(0, np.arccosh(0.41 / arrival), 4000)
        values = np.interp(a.times[:, None] - arrival * np.cosh(q), fine, smooth, left=0.0, right=0.0)
        return dx**2 / (2 * np.pi) * np.trapezoid(values, q, axis=1)

    exact = [wave(source[0], z, x) - (wave(-source[0], z, x) if a.free_surface else 0) for z, x in a.receivers]
    return y, np.stack(exact, axis=1)


@pytest.mark.parametrize("boundary", ["sponge", "pml"])
@pytest.mark.parametrize("space_order", [4, 8])
def test_the_wave_of_a_point_source(space_order, boundary):
    """25 points per wavelength at the peak: the scheme's own errors are parts in a thousand."""
    receivers = [(500.0, 600.0), (500.0, 700.0), (620.0, 660.0)]
    y, exact = point_source(10.0, 0.001, (500.0, 500.0), receivers, space_order=space_order, boundary=boundary)
    assert relative(y, exact) < 0.01


def test_the_wave_of_a_source_between_nodes():
    """Neither source nor receivers on a node: the windowed sinc costs no more than the scheme itself."""
    receivers = [(503.7, 611.3), (496.2, 705.0), (617.5, 662.5)]
    y, exact = point_source(10.0, 0.001, (502.5, 497.5), receivers)
    assert relative(y, exact) < 0.01


def test_a_free_surface_is_an_image_of_the_other_sign():
    """Also for a source and receivers whose sinc reaches through the surface."""
    receivers = [(10.0, 600.0), (100.0, 650.0), (13.0, 433.0)]
    for depth in (40.0, 17.5):
        y, exact = point_source(10.0, 0.001, (depth, 500.0), receivers, free_surface=True, boundary="pml")
        assert relative(y, exact) < 0.01


def test_the_scheme_converges_with_its_order():
    """Half the spacing and a quarter of the time step: both errors, dx^4 and dt^2, fall by 16."""
    receivers = [(500.0, 600.0), (620.0, 660.0)]
    errors = [relative(*point_source(dx, dt, (500.0, 500.0), receivers)) for dx, dt in ((20.0, 0.002), (10.0, 0.0005))]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.5)


def test_reciprocity():
    """Source and receiver change places: p_tt / v^2 - (p_zz + p_xx) = w delta is symmetric, whatever v is at either."""
    velocity = geology.sample("curved-fault", np.random.default_rng(2), 1, (32, 32))[0].astype(np.float64)
    on_nodes, between = ((20.0, 80.0), (500.0, 540.0)), ((27.0, 83.1), (497.3, 548.8))
    assert velocity[1, 4] != velocity[25, 27]
    # In a sponge it is exact: what is left is float32, 512 roundings of 2^-24 that the recurrence amplifies by 11 = 1 /
    # (w dt), see test_openfwi. The matched layer is symmetric but for what it reflects.
    for a, tolerance in ((SPONGE, 1e-4), (COMPACT, 0.01)):
        for positions in (on_nodes, between):
            there, back = (
                AcousticEngine(replace(a, sources=(positions[i],), receivers=(positions[1 - i],))).shots(velocity)[0]
                for i in (0, 1)
            )
            assert relative(there, back) < tolerance


def reflected(a, velocity: np.ndarray) -> float:
    """What the border sends back, in dB: the largest amplitude that a much wider domain does not have, to the largest.

    The wide domain ends so far away that nothing comes back from there in time.
    """
    cells = int(np.ceil(velocity.max() * a.steps * a.time_step / 2 / a.spacing)) + 1
    move = cells * a.spacing
    above = 0.0 if a.free_surface else move
    sources, receivers = (tuple((z + above, x + move) for z, x in p) for p in (a.sources, a.receivers))
    sizes = {
        "depth_cells": a.depth_cells + cells + round(above / a.spacing),
        "offset_cells": a.offset_cells + 2 * cells,
    }
    wide = replace(a, boundary="pml", absorbing_cells=20, sources=sources, receivers=receivers, **sizes)
    padding = ((round(above / a.spacing), cells), (cells, cells))
    expected = AcousticEngine(wide).shots(np.pad(velocity, padding, mode="edge"))
    found = AcousticEngine(a).shots(velocity)
    return 20 * np.log10(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("speed", [1500.0, 3000.0, 4500.0])
@pytest.mark.parametrize("surface", [False, True], ids=["open", "surface"])
def test_the_matched_layer_reflects_less_than_a_hundredth(speed, surface):
    """-40 dB with the 10 nodes of the presets, at every speed allowed, for waves at every angle."""
    a = replace(
        COMPACT,
        free_surface=surface,
        sources=((320.0, 300.0), (20.0, 40.0)),
        receivers=((20.0, 600.0), (600.0, 20.0), (320.0, 620.0), (600.0, 600.0)),
    )
    assert reflected(a, np.full((32, 32), speed)) < -40


@pytest.mark.parametrize("space_order", [4, 8])
def test_the_matched_layer_takes_nothing_from_the_stable_time_step(space_order):
    """At 99 percent of the interior's limit a fast model is quiet after 3000 steps; at 102 percent it is lost."""
    limit = COMPACT.spacing / COMPACT.velocity_max * cfl_limit(space_order)
    last = {}
    for share in (0.99, 1.02):
        dt = share * limit
        a = replace(
            COMPACT,
            space_order=space_order,
            time_step=dt,
            samples=3000,
            output_interval=dt,
            velocity_max=4500.0 / share,
        )
        engine = AcousticEngine(a)
        velocity = np.full((1, 32, 32), 4500.0)
        f = engine._fields("forward")
        engine._load(f, velocity)
        engine._apply("forward", f, 1)
        record = np.abs(np.asarray(f["record"].data))
        last[share] = record[-100:].max() / record[:500].max()
    assert last[0.99] < 1e-3
    assert not last[1.02] < 1e3


def test_the_borders_absorb(models):
    """In layered models: a sponge of 60 nodes below -20 dB, the matched layer of 10 below -40 dB."""
    for velocity in models[[0, 3, 6]].astype(np.float64):
        assert reflected(replace(COMPACT, boundary="sponge", absorbing_cells=60), velocity) < -20
        assert reflected(COMPACT, velocity) < -40


def test_models_do_not_touch_each_other(engine, models):
    """In a batch, in any order, alone, again, and in a new engine: the same numbers, exactly."""
    y, ok = engine.batch(models)
    assert ok.all()
    assert len({gather.tobytes() for gather in y}) == len(models)
    order = np.random.default_rng(0).permutation(len(models))
    assert np.array_equal(engine.batch(models[order])[0], y[order])
    fresh = AcousticEngine(COMPACT, models=1)
    for index in (0, 5, 11):
        assert np.array_equal(engine.shots(models[index]), y[index])
        assert np.array_equal(fresh.shots(models[index]), y[index])


def test_one_operator_serves_every_engine(engine, models):
    """Another size and geometry in between changes nothing, and no second operator is built."""
    y = engine.shots(models[0])
    sizes = {"depth_cells": 20, "offset_cells": 16, "samples": 32}
    other = AcousticEngine(replace(COMPACT, **sizes, sources=((20.0, 60.0),), receivers=((20.0, 300.0), (380.0, 0.0))))
    assert other.shots(np.full((20, 16), 2000.0)).shape == (1, 32, 2)
    assert other._propagator is engine._propagator
    assert np.array_equal(engine.shots(models[0]), y)
    assert shared_engine(COMPACT) is shared_engine(replace(COMPACT))


def test_failures_are_reported_and_counted(engine, models):
    bad = models[:5].astype(np.float64)
    bad[0, 3, 3] = np.nan
    bad[1, 0, 0] = -2000.0
    bad[2, 10, 10] = np.inf
    bad[3] = 9000.0
    calls = engine.calls
    y, ok = engine.batch(bad)
    assert ok.tolist() == [False, False, False, False, True]
    assert np.isnan(y[:4]).all()
    assert np.array_equal(y[4], engine.shots(models[4]))
    assert engine.calls == calls + 6


def test_a_field_that_blows_up_is_a_failure(engine, models, monkeypatch):
    """What the stability check lets through by mistake is still caught by looking at the result."""
    monkeypatch.setattr(engine, "_can_run", lambda velocities: np.ones(len(velocities), dtype=bool))
    fast = models[:3].copy()
    fast[1, 8:24, 8:24] = 7000.0
    y, ok = engine.batch(fast)
    assert ok.tolist() == [True, False, True]
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[[0, 2]]).all()


def test_a_long_record_is_not_copied():
    """Receivers between nodes, of which every eighth step is a sample: what is made of a record is a part of it."""
    engine = AcousticEngine(replace(COMPACT, receivers=((20.0, 27.0), (20.0, 133.0))))
    record = np.zeros((engine.acquisition.steps, 1, 3, len(engine._receivers.rows)), np.float32)
    record[7, 0, 1] = -2.0
    tracemalloc.start()
    y, ok = engine._gathers(SimpleNamespace(data=record), 1, np.array([3.0]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ok.all()
    assert y[0, 1, 0].min() < -1
    assert peak < record.nbytes / 2
    assert not engine._gathers(SimpleNamespace(data=record), 1, np.array([1.0]))[1].any()
    record[9] = np.nan
    assert not engine._gathers(SimpleNamespace(data=record), 1, np.array([3.0]))[1].any()
    # Residuals come in the dtype of an objective, and go back in that of the fields.
    assert engine._spread(y.astype(np.float64)).dtype == np.float32


def test_one_failing_model_raises(engine):
    with pytest.raises(SimulationError, match=r"9000 to 9000 m/s.*time step of 0\.002 s"):
        engine.shots(np.full((32, 32), 9000.0))
    with pytest.raises(SimulationError, match="1024 non-finite cells"):
        engine.shots(np.full((32, 32), np.nan))
    with pytest.raises(AcquisitionError, match=r"wanted \(event, 32, 32\)"):
        engine.shots(np.full((32, 31), 2000.0))


def test_processes_share_the_compiled_code(engine, tmp_path):
    """Two processes start in an empty cache where a killed one left codepy's lock: no endless wait, same numbers."""
    name = engine._propagator.operator("forward")._soname
    lock = tmp_path / f"devito-codepy-uid{os.getuid()}" / name[:7] / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    code = (
        "import hashlib, numpy as np\n"
        "from pullback.problems.fwi import Fwi\n"
        "from pullback.simulators.wave_settings import FwiSimulator\n"
        "y, ok = Fwi(FwiSimulator()).apply(np.full((1, 32, 32), 2000.0))\n"
        "print(ok.all(), hashlib.sha256(y.tobytes()).hexdigest())\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        answers = {process.communicate(timeout=90)[0] for process in processes}
    finally:
        for process in processes:
            process.kill()
    # Nor does it matter what this process has simulated before.
    here = engine.batch(np.full((1, 32, 32), 2000.0))[0]
    assert answers == {f"True {hashlib.sha256(here.tobytes()).hexdigest()}\n"}
    assert not lock.exists()
    assert len(list(Path(tmp_path).glob("devito-jitcache-*/*.so"))) == 1


def test_devito_stays_out_of_imports():
    modules = "pullback.problems.fwi, pullback.simulators.geology, pullback.simulators.acoustic"
    code = f"import sys, {modules}; print('devito' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_a_missing_devito_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "devito", None)
    with pytest.raises(ImportError, match=r"pullback\[waves\]"):
        Propagator(COMPACT.scheme)
