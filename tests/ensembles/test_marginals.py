"""Noisy marginals: what is kept of particles on their way from noise, and what the report is given of them."""

import h5py
import numpy as np
import pytest
from scipy.stats import norm

from pullback.ensembles import marginals
from pullback.ensembles.fields import Field
from pullback.ensembles.marginals import MOST_LEVELS, MOST_PARTICLES, Marginals, Recorder
from pullback.metrics.examples import write_marginals

X = Field.vector("x", ["depth"], "km")


def test_a_file_gives_back_what_was_recorded(tmp_path):
    recorder = Recorder(7, 1.5, 0.5)
    for t in (2.0, 1.0, 0.0):
        recorder(t, [t, np.nan, 3.0], None if t == 2.0 else np.array([1.0, 5.0, 3.0]))
    kept = recorder.marginals()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        assert marginals.read(file) is None
        kept.write(file)
        found = marginals.read(file)
    assert (found.event_id, found.mean, found.std) == (7, 1.5, 0.5)
    # Without the data's own level, which has no noise; a particle that is no number weighs nothing.
    assert found.level.tolist() == [2.0, 1.0]
    assert found.weight == pytest.approx(np.array([[0.5, 0, 0.5], [0.25, 0, 0.75]]))
    assert found.bounded()[:, 2] == pytest.approx(1.5 + 0.5 * 3 / np.sqrt([5, 2]))


def test_a_picture_needs_no_more():
    recorder = Recorder(0, 0.0, 1.0)
    for t in np.geomspace(80, 0.01, 1000):
        recorder(t, np.zeros(3 * MOST_PARTICLES))
    found = recorder.marginals()
    assert found.state.shape == (MOST_LEVELS, MOST_PARTICLES)
    assert (found.level[0], found.level[-1]) == pytest.approx((80, 0.01))
    assert Recorder(0, 0.0, 1.0).marginals() is None


def test_densities_of_a_gaussian(tmp_path):
    """x ~ N(2, .3^2) a posteriori, seen as (x - 1) / .5 with noise t: particles and exact draws agree."""
    rng = np.random.default_rng(0)
    level = np.array([5.0, 1.0, 0.05])
    x = rng.normal(2.0, 0.3, 400_000)
    state = (x - 1) / 0.5 + level[:, None] * rng.normal(size=(3, len(x)))
    kept = Marginals(0, 1.0, 0.5, level, state, np.full(state.shape, 1 / len(x)))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write_marginals(file, X, kept, rng.normal(2.0, 0.3, 20_000), 4)
        edges, density, exact = (file[f"marginals{name}"][...] for name in ("_edges", "", "_exact"))
        assert dict(file["marginals"].attrs) == {"quantity": "depth", "unit": "km", "event": 4}
    scale = np.hypot(1, level)
    mean, deviation = 1 + (2.0 - 1) / scale, np.hypot(0.3, 0.5 * level) / scale
    width = edges[1] - edges[0]
    for row in range(3):
        wanted = np.diff(norm.cdf(edges, mean[row], deviation[row])) / width
        # Five standard errors of 400,000 counts, and of 20,000 kernels that are a bin wide at least.
        assert density[row] == pytest.approx(wanted, abs=5 * np.sqrt(wanted.max() / width / len(x)))
        wider = np.diff(norm.cdf(edges, mean[row], np.hypot(deviation[row], width))) / width
        assert exact[row] == pytest.approx(wider, abs=5 * np.sqrt(wanted.max() / width / 20_000))
