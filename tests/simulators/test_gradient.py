"""The linearised wave, its adjoint and the gradient, held against each other and against differences."""

import math

import numpy as np
import pytest
from settings import small

from pullback.simulators import acoustic
from pullback.simulators.acoustic import AcousticEngine

SCHEMES = [
    pytest.param("sponge", False, 4, id="sponge"),
    pytest.param("sponge", True, 8, id="sponge-surface-order8"),
    pytest.param("pml", False, 4, id="pml"),
    pytest.param("pml", True, 4, id="pml-surface"),
]


def model(a) -> np.ndarray:
    """Two models (event, depth, offset) with layers and a block."""
    velocity = np.full((2, *a.shape), 2000.0)
    velocity[:, 9:] = 2600.0
    velocity[:, 16:, 12:] = 3400.0
    velocity[1] *= 1.15
    # The slowest node sets the damping of a sponge, which the derivative holds.
    velocity[:, 0, 0] = 1500.0
    return velocity


def change(a, rng) -> np.ndarray:
    out = rng.standard_normal((2, *a.shape)) * 20
    out[:, 0, 0] = 0
    return out


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner product of each event."""
    return (a.astype(np.float64) * b).reshape(len(a), -1).sum(axis=1)


def norm(a: np.ndarray) -> np.ndarray:
    return np.sqrt(dot(a, a.astype(np.float64)))


@pytest.mark.parametrize(
    ("boundary", "surface", "order", "dtype", "tolerance"),
    [
        *(pytest.param(*scheme.values, "float64", 1e-10, id=f"{scheme.id}-float64") for scheme in SCHEMES),
        pytest.param("sponge", False, 4, "float32", 1e-5, id="sponge-float32"),
        pytest.param("pml", False, 4, "float32", 1e-5, id="pml-float32"),
    ],
)
def test_the_adjoints_are_adjoint(boundary, surface, order, dtype, tolerance):
    """<J dv, r> = <dv, J^T r> and <F w, r> = <w, F^T r>, relative to the norms on the side of the data.

    Output between time steps and receivers between nodes are part of the map.
    """
    a = small(
        boundary=boundary, free_surface=surface, space_order=order, output_interval=0.0025, receivers=[13.0, 201.7]
    )
    engine = AcousticEngine(a, dtype=dtype)
    rng = np.random.default_rng(1)
    velocity, dv = model(a), change(a, rng)
    y, dy, ok = engine.born(velocity, dv)
    r = rng.standard_normal(y.shape).astype(dtype)
    alone, ok_too, pullback = engine.linearize(velocity)
    slope = pullback(r)
    assert ok.all()
    assert ok_too.all()
    np.testing.assert_array_equal(alone, engine.batch(velocity)[0])
    # Another operator sums in another order: float32 rounds otherwise, and the recurrence amplifies it.
    assert (norm(y - alone) <= 1000 * np.finfo(dtype).eps * norm(alone)).all()
    assert (np.abs(dot(dy, r) - dot(slope, dv)) < tolerance * norm(dy) * norm(r)).all()
    back = engine.adjoint(velocity, r)
    wavelet = a.wavelet.sampled(a.time_step, a.steps)
    assert (np.abs(dot(y, r) - (back * wavelet).sum(axis=(1, 2))) < tolerance * norm(y) * norm(r)).all()


@pytest.mark.parametrize(("boundary", "surface", "order"), SCHEMES)
def test_taylor(boundary, surface, order):
    """J(v + h dv) - J(v) - h <grad, dv> falls with h^2; without the gradient's term, with h."""
    a = small(boundary=boundary, free_surface=surface, space_order=order)
    engine = AcousticEngine(a, models=1, dtype="float64")
    rng = np.random.default_rng(2)
    velocity, dv = model(a)[:1], change(a, rng)[:1]
    observed = engine.batch(velocity * (1 + 0.05 * np.linspace(0, 1, a.shape[0])[:, None]))[0]

    def objective(y):
        return 0.5 * dot(y - observed, y - observed)[0]

    y, _, pullback = engine.linearize(velocity)
    value, slope = objective(y), pullback(y - observed)
    steps = 0.4 / 2.0 ** np.arange(4)
    values = [objective(engine.batch(velocity + h * dv)[0]) for h in steps]
    without = [abs(v - value) for v in values]
    with_slope = [abs(v - value - h * dot(slope, dv)[0]) for v, h in zip(values, steps, strict=True)]
    assert np.polyfit(np.log(steps), np.log(with_slope), 1)[0] == pytest.approx(2, abs=0.1)
    assert np.polyfit(np.log(steps), np.log(without), 1)[0] < 1.5


def test_the_born_field_is_the_derivative():
    """Against a central difference, of which the error is h^2 times the third derivative."""
    a = small(boundary="pml")
    engine = AcousticEngine(a, dtype="float64")
    velocity, dv = model(a), change(a, np.random.default_rng(3))
    _, dy, _ = engine.born(velocity, dv)
    errors = []
    for h in (0.1, 0.05):
        difference = (engine.batch(velocity + h * dv)[0] - engine.batch(velocity - h * dv)[0]) / (2 * h)
        errors.append(norm(difference - dy) / norm(dy))
    assert (errors[1] < 1e-4).all()
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(("boundary", "free_surface", "order"), SCHEMES)
def test_checkpoints_change_nothing(boundary, free_surface, order):
    """The gradient from segments of any even length, a short last one included, is that of one long segment."""
    a = small(boundary=boundary, free_surface=free_surface, space_order=order)
    velocity = model(a)
    r = np.random.default_rng(4).standard_normal((2, *a.data_shape))
    found = []
    for segment in (2, 38, 2 * a.steps):
        engine = AcousticEngine(a, dtype="float64")
        engine.segment = segment
        found.append(engine.linearize(velocity)[2](r))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-9, atol=1e-12 * np.abs(found[0]).max())


def test_memory_of_the_gradient_is_bounded(monkeypatch):
    """Four times the steps: twice the fields that are kept, not four times; no other segment keeps many fewer.

    Fields that fit KEPT are kept in few segments of equal length.
    """
    a = small(record_length=4.0)
    step_bytes = 4 * AcousticEngine(a).models * len(a.sources) * math.prod(n + 32 for n in a.padded)
    for share, segments in ((1.0, 1), (0.7, 2), (0.3, 4)):
        monkeypatch.setattr(acoustic, "KEPT", math.ceil(share * a.steps) * step_bytes)
        segment = AcousticEngine(a).segment
        assert segment % 2 == 0
        assert a.steps / segments <= segment < a.steps / segments + 2
    monkeypatch.setattr(acoustic, "KEPT", 0)

    def kept(samples, boundary, segment=None):
        a = small(record_length=samples * 0.002, boundary=boundary)
        engine = AcousticEngine(a)
        segment = segment or engine.segment
        return segment + (6 if boundary == "pml" else 2) * -(-a.steps // segment)

    for boundary, share in (("sponge", 0.1), ("pml", 0.17)):
        assert kept(2000, boundary) < 2.2 * kept(500, boundary)
        assert kept(500, boundary) < share * 1000
        assert kept(500, boundary) < 1.1 * min(kept(500, boundary, segment) for segment in range(2, 300, 2))


def test_the_layers_of_a_narrow_section_do_not_meet():
    """A section narrower than a strip: its shots are those in the middle of a wide one, and the adjoint is exact."""
    a = small(depth_cells=24, offset_cells=8, absorbing_cells=15, boundary="pml", receivers=8, sources=1)
    engine = AcousticEngine(a, models=1, dtype="float64")
    rng = np.random.default_rng(6)
    velocity = np.full((1, *a.shape), 2600.0)
    y, ok = engine.batch(velocity)
    assert ok.all()
    # What a wide section of the same rock shows of its middle.
    wide = small(
        depth_cells=24,
        offset_cells=40,
        absorbing_cells=15,
        boundary="pml",
        receivers=[160.0 + 10 * i for i in range(8)],
        sources=[160.0 + s for _, s in a.sources],
    )
    free, _ = AcousticEngine(wide, models=1, dtype="float64").batch(np.full((1, *wide.shape), 2600.0))
    assert np.abs(y - free).max() < 0.01 * np.abs(free).max()
    r = rng.standard_normal(y.shape)
    back = engine.adjoint(velocity, r)
    wavelet = a.wavelet.sampled(a.time_step, a.steps)
    assert (np.abs(dot(y, r) - (back * wavelet).sum(axis=(1, 2))) < 1e-10 * norm(y) * norm(r)).all()


def test_a_failed_model_leaves_the_others():
    a = small()
    engine = AcousticEngine(a, models=3)
    velocity = np.concatenate([model(a), model(a)[:1]])
    r = np.random.default_rng(5).standard_normal((3, *a.data_shape)).astype(np.float32)
    alone = [engine.linearize(velocity[[i]])[2](r[[i]]) for i in (0, 2)]
    velocity[1, 3, 3] = np.nan
    y, ok, pullback = engine.linearize(velocity)
    slope = pullback(r)
    assert ok.tolist() == [True, False, True]
    assert np.isnan(y[1]).all()
    assert np.isnan(slope[1]).all()
    for i, g in zip((0, 2), alone, strict=True):
        np.testing.assert_allclose(slope[i], g[0], rtol=1e-4, atol=1e-5 * np.abs(g).max())


@pytest.mark.parametrize("boundary", ["sponge", "pml"])
def test_a_model_that_blows_up_leaves_the_others_of_its_batch(boundary, monkeypatch):
    a = small(boundary=boundary)
    engine = AcousticEngine(a, models=3)
    engine.segment = 100
    velocity = np.concatenate([model(a), model(a)[:1]])
    r = np.random.default_rng(7).standard_normal((3, *a.data_shape)).astype(np.float32)
    wanted = engine.linearize(velocity)[2](r)
    gathers = engine._gathers
    monkeypatch.setattr(engine, "_gathers", lambda *given: (gathers(*given)[0], np.array([True, False, True])))
    _, ok, pullback = engine.linearize(velocity)
    assert ok.tolist() == [True, False, True]
    slope = pullback(r)
    assert np.isnan(slope[1]).all()
    np.testing.assert_allclose(slope[[0, 2]], wanted[[0, 2]], rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
