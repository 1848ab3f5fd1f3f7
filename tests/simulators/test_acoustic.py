"""The engine as physics and as a machine: waves that are right, models that do not touch each other, failures that
show."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pullback.problems.fwi import Fwi
from pullback.simulators import acoustic, geology
from pullback.simulators.acoustic import AcousticEngine, SimulationError, shared_engine
from pullback.simulators.acquisition import AcquisitionError
from pullback.simulators.wavelets import ricker
from pullback.study.problems import FwiSimulator

COMPACT = Fwi(FwiSimulator()).acquisition


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


def test_the_wave_of_a_point_source():
    """A uniform model against the exact 2-D solution, p(r, t) = dx^2 / 2 pi * int w(t - s) / sqrt(s^2 - r^2 / v^2) ds.

    The discrete source adds (v dt)^2 w to one node: a source density v^2 w dx^2 delta. Receivers at 10 to 20 cells; the
    record stops before the sponge, 50 cells away, could answer. With 25 points per wavelength at the peak the
    scheme's own errors are parts in a thousand.
    """
    v, dx, dt, f = 2000.0, 10.0, 1e-3, 8.0
    cells, middle, steps = 101, 50, 400
    a = replace(
        COMPACT,
        depth_cells=cells,
        offset_cells=cells,
        spacing=dx,
        time_step=dt,
        steps=steps,
        output_every=1,
        peak_frequency=f,
        border_cells=20,
        sources=((middle, middle),),
        receivers=((middle, middle + 10), (middle, middle + 20), (middle + 12, middle + 16)),
    )
    y = AcousticEngine(a).shots(np.full((cells, cells), v))[0]
    # With s = r / v cosh(q) the kernel's singularity goes away: ds / sqrt(s^2 - r^2 / v^2) = dq.
    wavelet, grid = ricker(f, dt, steps), np.arange(steps) * dt
    for trace, (iz, ix) in zip(y.T, a.receivers, strict=True):
        arrival = np.hypot(iz - middle, ix - middle) * dx / v
        q = np.linspace(0, np.arccosh(steps * dt / arrival), 4000)
        delays = arrival * np.cosh(q)
        values = np.interp(a.times[:, None] - delays, grid, wavelet, left=0.0, right=0.0)
        exact = dx**2 / (2 * np.pi) * np.trapezoid(values, q, axis=1)
        assert relative(trace, exact) < 0.01


def test_reciprocity():
    """Source and receiver change places: p_tt / v^2 - (p_zz + p_xx) = w delta is symmetric, whatever v is at either."""
    velocity = geology.sample("curved-fault", np.random.default_rng(2), 1, (32, 32))[0].astype(np.float64)
    nodes = ((1, 4), (25, 27))
    there, back = (
        AcousticEngine(replace(COMPACT, sources=(nodes[i],), receivers=(nodes[1 - i],))).shots(velocity)[0, :, 0]
        for i in (0, 1)
    )
    assert velocity[nodes[0]] != velocity[nodes[1]]
    # What is left is float32: 512 roundings of 2^-24 that the recurrence amplifies by 1 / (w dt) = 11 (see
    # test_openfwi).
    assert relative(there, back) < 1e-4


def test_the_border_absorbs(engine, models):
    """Against a domain so wide that nothing comes back in time: what the sponge reflects stays below a tenth."""
    wide = int(np.ceil(COMPACT.velocity_max * COMPACT.steps * COMPACT.time_step / 2 / COMPACT.spacing))
    sources, receivers = (tuple((z + wide, x + wide) for z, x in n) for n in (COMPACT.sources, COMPACT.receivers))
    free = replace(COMPACT, depth_cells=32 + 2 * wide, offset_cells=32 + 2 * wide, sources=sources, receivers=receivers)
    for model in models[[0, 3, 6]]:
        expected = AcousticEngine(free).shots(np.pad(model, wide, mode="edge"))
        assert relative(engine.shots(model), expected) < 0.1
        assert relative(engine.shots(np.full((32, 32), 3000.0)), expected) > 0.3


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
    small = replace(
        COMPACT, depth_cells=20, offset_cells=16, sources=((1, 3),), receivers=((1, 15), (19, 0)), steps=256
    )
    other = AcousticEngine(small)
    assert other.shots(np.full((20, 16), 2000.0)).shape == (1, 32, 2)
    assert other._symbols is engine._symbols
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


def test_one_failing_model_raises(engine):
    with pytest.raises(SimulationError, match=r"9000 to 9000 m/s.*time step of 0\.002 s"):
        engine.shots(np.full((32, 32), 9000.0))
    with pytest.raises(SimulationError, match="1024 non-finite cells"):
        engine.shots(np.full((32, 32), np.nan))
    with pytest.raises(AcquisitionError, match=r"wanted \(event, 32, 32\)"):
        engine.shots(np.full((32, 31), 2000.0))


def test_processes_share_the_compiled_code(engine, tmp_path):
    """Two processes start in an empty cache where a killed one left codepy's lock: same results, no endless wait."""
    name = engine._symbols.operator._soname
    lock = tmp_path / f"devito-codepy-uid{os.getuid()}" / name[:7] / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    code = (
        "import hashlib, numpy as np\n"
        "from pullback.problems.fwi import Fwi\n"
        "from pullback.study.problems import FwiSimulator\n"
        "y, ok = Fwi(FwiSimulator()).forward(np.full((1, 32, 32), 2000.0))\n"
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
    assert len(answers) == 1
    assert answers.pop().startswith("True")
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
        acoustic._Symbols(4)
