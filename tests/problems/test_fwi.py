"""The fwi problem and what the rest of the package expects of a problem."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pullback.core.seeding import generator
from pullback.problems.base import Problem, simulate
from pullback.problems.fwi import Fwi, VelocityError
from pullback.problems.simulate import simulate as simulate_shard
from pullback.simulators.wave_settings import FwiSimulator
from pullback.study import load_study
from pullback.study.job_params import Plan
from pullback.study.problem_kind import ProblemKind, problem_kind

MARMOUSI = (
    Path(os.environ.get("PULLBACK_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")
    / "fwi/marmousi_vp_1601x401_float32.bin"
)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return problem_kind("fwi").build(FwiSimulator().model_dump(mode="json"))


def test_fields(problem):
    assert isinstance(problem, Fwi)
    assert ProblemKind(Fwi).capabilities() == {"pairs", "prior", "forward", "signal", "gradient"}
    assert (problem.block, problem.fail) == (20, "error")
    assert (problem.x.dims, problem.x.shape, problem.x.units) == (("depth", "offset"), (32, 32), ("m/s",))
    assert (problem.x.low, problem.x.high) == ((1500.0,), (4500.0,))
    assert (problem.y.dims, problem.y.shape) == (("source", "time", "receiver"), (3, 64, 32))
    for field in (problem.x, problem.y):
        assert set(field.coordinates) == set(field.dims)
        for dim, size in zip(field.dims, field.shape, strict=True):
            assert field.coordinates[dim].values.shape == (size,)
            assert field.coordinates[dim].units == ("s" if dim == "time" else "m")
    assert problem.x.coordinates["offset"].values[-1] == 620
    assert problem.y.coordinates["time"].values[[0, -1]] == pytest.approx([0.016, 1.024])


def test_prior_and_simulation(problem):
    params = {"geology": "curved-fault", "layers": [2, 5], "sorted": True}
    x, again = (problem.sample_prior(generator(1, "fwi", "a", "train", 0), 5, params) for _ in range(2))
    assert x.shape == (5, 32, 32)
    assert np.array_equal(x, again)
    y, ok = problem.apply(x)
    assert ok.all()
    assert y.shape == (5, *problem.y.shape)
    assert y.dtype == np.float32
    # No noise, and no other randomness either: any generator, the same data.
    assert np.array_equal(y, simulate(problem, x, generator(2))[0])


def test_first_arrivals_are_where_the_model_says(problem):
    """The direct wave of the first shot in a uniform model: distance over velocity after the wavelet's delay."""
    y, _ = problem.apply(np.full((1, 32, 32), 2500.0))
    times, offsets = (problem.y.coordinates[k].values for k in ("time", "receiver"))
    traces = np.abs(y[0, 0])
    onset = times[np.argmax(traces > 0.02 * traces.max(axis=0), axis=0)]
    slope = np.polyfit(offsets[8:], onset[8:], 1)[0]
    assert 1 / slope == pytest.approx(2500, rel=0.05)


def test_the_data_know_the_model(problem):
    """Every cell counts: data of a model and of the same with one block changed differ, near and deep."""
    base = np.full((32, 32), 2500.0)
    y0 = problem.apply(base[None])[0]
    for depth in (4, 16, 28):
        other = base.copy()
        other[depth : depth + 3, 14:18] = 3000.0
        change = np.linalg.norm(problem.apply(other[None])[0] - y0) / np.linalg.norm(y0)
        assert change > 1e-3


@pytest.mark.parametrize(
    ("velocity", "message"),
    [
        (-2000.0, "a velocity is positive"),
        (0.0, "a velocity is positive"),
        (2.5, r"from 2\.5 to 2\.5 m/s: wanted 1500 to 4500 m/s; these look like km/s: multiply by 1000"),
        (5000.0, "clip the models, or widen"),
    ],
)
def test_a_data_set_with_impossible_velocities(problem, velocity, message):
    with pytest.raises(VelocityError, match=message):
        problem.apply(np.full((1, 32, 32), velocity))


def test_a_diverged_particle_is_a_failure_not_an_error(problem):
    x = np.full((3, 32, 32), 2500.0, dtype=np.float32)
    x[1] = np.nan
    x, _ = problem.x.project(x)
    y, ok = problem.apply(x)
    assert ok.tolist() == [True, False, True]
    assert np.isfinite(y[[0, 2]]).all()


def test_projected_models_are_accepted():
    """Bounds that float32 cannot hold do not make a model on the bound an error."""
    problem = Fwi(FwiSimulator(velocity_min=1500.1, velocity_max=4400.3))
    x, _ = problem.x.project(np.array([np.full((32, 32), 1.0), np.full((32, 32), 9e3)], dtype=np.float32))
    assert problem.apply(x)[1].all()


def test_wrong_shape(problem):
    with pytest.raises(VelocityError, match=r"wanted \(event, 32, 32\)"):
        problem.apply(np.full((32, 32), 2500.0))


def test_preflight(problem):
    numbers = problem.preflight()
    assert json.loads(json.dumps(numbers)) == numbers
    assert numbers["warnings"] == []
    assert 0 < numbers["seconds_per_model"] < 5


def test_preflight_refuses_an_unstable_step():
    with pytest.raises(ValueError, match=r"unstable: Courant number .*use a time step of at most 0\.002\d+ s"):
        Fwi(FwiSimulator(time_step=0.004)).preflight()


COARSE = {"x_cells": [12, 10], "depth_cells": 34, "offset_cells": 28, "record_length": 0.64}


def test_x_on_fewer_nodes_is_interpolated():
    """The rule that is stated: linear between nodes, corners in one place."""
    problem = Fwi(FwiSimulator(**COARSE))
    assert problem.x.shape == (12, 10)
    assert problem.y.shape == (3, 40, 32)
    rng = np.random.default_rng(0)
    corners = rng.uniform(2000, 3000, (2, 2, 2))
    z, x = np.linspace(0, 1, 12)[:, None], np.linspace(0, 1, 10)
    plane = corners[:, :1, :1] * (1 - z) * (1 - x) + corners[:, :1, 1:] * (1 - z) * x
    plane = plane + corners[:, 1:, :1] * z * (1 - x) + corners[:, 1:, 1:] * z * x
    fine = problem.finer(plane)
    assert fine.shape == (2, 34, 28)
    np.testing.assert_allclose(fine[:, [0, 0, -1, -1], [0, -1, 0, -1]], corners.reshape(2, 4))
    # Bilinear stays bilinear.
    np.testing.assert_allclose(np.diff(fine, 2, axis=1), 0, atol=1e-9)
    y, ok = problem.apply(plane)
    assert ok.all()
    twin = Fwi(FwiSimulator(**{**COARSE, "x_cells": None}))
    assert np.array_equal(twin.apply(fine)[0], y)


def test_the_gradient_of_a_coarse_x():
    """By differences, in the direction of single nodes."""
    problem = Fwi(FwiSimulator(**COARSE, boundary="pml"))
    x = problem.sample_prior(np.random.default_rng(1), 2, {"geology": "gradient"}).astype(np.float64)
    observed, _ = problem.apply(1.02 * x)

    def gap(x):
        y, ok = problem.apply(x)
        assert ok.all()
        return (y - observed).astype(np.float64)

    slope = problem.vjp(x, gap(x))
    assert slope.shape == x.shape
    for node in ((3, 4), (8, 0), (11, 9)):
        step = np.zeros_like(x)
        step[:, node[0], node[1]] = 2.0
        ahead, behind = (0.5 * (gap(x + s * step) ** 2).sum(axis=(1, 2, 3)) for s in (1, -1))
        # float32 data: the difference of two sums that agree to a part in a hundred.
        np.testing.assert_allclose(
            slope[:, node[0], node[1]], (ahead - behind) / 4.0, rtol=0.02, atol=1e-3 * np.abs(slope).max()
        )


def test_noise_is_white_and_relative_to_each_event():
    clean, noisy = (problem_kind("fwi").build(FwiSimulator(noise=n).model_dump(mode="json")) for n in (0.0, 0.5))
    x = clean.sample_prior(generator("noise"), 3, {"geology": "curved-fault"})
    y, _ = simulate(clean, x, generator("n"))
    np.testing.assert_array_equal(noisy.apply(x)[0], y)
    found, ok = simulate(noisy, x, generator("n"))
    assert ok.all()
    assert found.dtype == np.float32
    added = (found - y) / np.sqrt((y**2).mean(axis=(1, 2, 3), keepdims=True))
    # 6144 samples of each event: their standard deviation is known to 0.9 %, a neighbour's correlation to 0.013.
    np.testing.assert_allclose(added.std(axis=(1, 2, 3)), 0.5, rtol=0.05)
    for axis in (1, 2, 3):
        a, b = (np.take(added, i, axis) for i in (range(1, added.shape[axis]), range(added.shape[axis] - 1)))
        assert abs((a * b).mean()) / 0.25 < 0.05
    np.testing.assert_array_equal(simulate(noisy, x, generator("n"))[0], found)


def test_geology_is_of_the_section_and_not_of_its_nodes():
    """x on fewer nodes, or on more along than down, is of the same rock: nodes that two grids share are equal."""
    section = {"depth_cells": 31, "offset_cells": 61}
    for geology in ("salt", "style", "thrust", "lens"):
        full, coarse = (
            Fwi(FwiSimulator(**section, x_cells=cells)).sample_prior(np.random.default_rng(0), 4, {"geology": geology})
            for cells in (None, (11, 13))
        )
        np.testing.assert_allclose(full[:, ::3, ::5], coarse, rtol=2e-6)


@pytest.fixture(scope="module")
def marmousi() -> dict:
    if not MARMOUSI.exists():
        pytest.skip(f"there is no {MARMOUSI} (set PULLBACK_DATA)")
    tiles = {"file": str(MARMOUSI), "shape": [1601, 401], "first_axis": "offset", "spacing": 7.5, "units": "km/s"}
    return {"geology": "tiles", "tiles": tiles}


def test_tiles_of_marmousi_are_simulated(marmousi):
    """The study's own setting: 690 m x 690 m anywhere in 12 km x 3 km, on 32 x 32 nodes."""
    problem = Fwi(FwiSimulator(preset="fwi32"))
    x = problem.sample_prior(np.random.default_rng(5), 40, marmousi)
    assert x.shape == (40, 32, 32)
    # The file has water of 1500 m/s, rock of up to 4700 and sand with gas of 1028: clipped to the problem's bounds.
    assert x.min() == 1500
    assert 4000 < x.max() <= 4500
    # Rock lies flat by and large: velocity varies more downwards than along.
    assert np.abs(x[:, -1] - x[:, 0]).mean() > 2 * np.abs(x[:, :, -1] - x[:, :, 0]).mean()
    y, ok = problem.apply(x[:8])
    assert ok.all()
    assert y.shape == (8, 5, 128, 32)
    assert np.isfinite(y).all()


def test_the_log_says_what_tiles_are_cut_from(tmp_path, monkeypatch, caplog):
    """Once for each shard, also where most of the source is clipped."""
    np.save(tmp_path / "fast.npy", np.full((70, 140), 5200.0))
    tiles = {"file": str(tmp_path / "fast.npy"), "spacing": 10.0}
    family = {"role": "unseen", "params": {"geology": "tiles", "tiles": tiles}}
    spec = {
        "kind": "fwi",
        "size": {"test": 41},
        "families": {"cut": family},
        "methods": {"l": {"kind": "lbfgs-fwi", "infer": {"one": {"start": [1800, 4000]}}}},
    }
    plan = Plan(load_study({"config_version": 2, "study": "s", "problems": {"w": spec}}))
    monkeypatch.setattr(Fwi, "apply", lambda self, x: (np.zeros((len(x), *self.y.shape), "f4"), np.ones(len(x), bool)))
    with caplog.at_level("INFO", logger="pullback"):
        simulate_shard(plan.simulate_job("w", "cut", "test", 0), tmp_path / "shard.h5")
    said = [record.getMessage() for record in caplog.records if "fast.npy" in record.getMessage()]
    assert "5200 m/s at the top" in said[0]
    assert said[0].endswith("tiles of test between offsets of 0 and 690 m")
    assert "100.0 % outside 1500 to 4500 m/s is clipped" in said[1]
    assert len(said) == 2


def test_the_whole_of_marmousi_fits_its_preset(marmousi):
    """Every second node of the file's 1601 x 401, and of all of them the smoothed values."""
    problem = Fwi(FwiSimulator(preset="marmousi"))
    one, two = problem.sample_prior(np.random.default_rng(0), 2, marmousi)
    np.testing.assert_array_equal(one, two)
    file = 1000 * np.fromfile(MARMOUSI, "<f4").reshape(1601, 401).T
    assert one.shape == (201, 801)
    gap = one - file[::2, ::2]
    assert np.sqrt((gap**2).mean()) < 0.05 * file.std()
    # The sea bed is where it was.
    assert np.abs((one == 1500).sum(axis=0) - (file[::2, ::2] == 1500).sum(axis=0)).max() <= 2
