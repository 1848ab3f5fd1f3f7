"""Islands of particles: each is a run of its own, and together they count alike."""

import math

import numpy as np
import pytest
from gaussian_twins import Line, Twin, tensor

from pullback.core import particles
from pullback.methods.base import Cost
from pullback.methods.guided.islands import Islands
from pullback.methods.guided.population import Scheme, evolve
from pullback.methods.guided.quadratic import TemperedQuadratic


class Halves:
    """Uniform numbers of 1/2: systematic resampling without chance."""

    def random(self, size=None):
        return 0.5 if size is None else np.full(size, 0.5)


def test_islands_are_runs_of_their_own():
    """Particles, ancestors and evidence of three islands against three populations that never met."""
    twin = Twin([1.0], [np.zeros(2)], [np.diag([1.0, 0.5])], Line([[1.0, 0.3]], [1.5], 0.2))
    levels = np.geomspace(2.0, 0.02, 12)
    x = twin.start(2.0, 12, 0)

    def noise(stage):
        return tensor(np.random.default_rng(list(stage.encode())).normal(size=(12, 2)))

    def run(rows, islands):
        twist = TemperedQuadratic(twin.denoiser, twin.line, None, Cost())
        scheme = Scheme(eta=0.0, resample_below=0.7)
        return evolve(
            twist, scheme, x[rows], np.zeros(len(x[rows])), levels, lambda stage: noise(stage)[rows], Halves(),
            islands=islands,
        )  # fmt: skip

    together, apart = run(slice(None), 3), [run(slice(4 * k, 4 * k + 4), 1) for k in range(3)]
    assert min(one.resamplings for one in apart) > 0
    assert together.resamplings == pytest.approx(np.mean([one.resamplings for one in apart]))
    for k, one in enumerate(apart):
        rows = slice(4 * k, 4 * k + 4)
        assert together.x[rows].numpy() == pytest.approx(one.x.numpy(), rel=1e-9, abs=1e-12)
        assert (together.ancestors[rows] == one.ancestors + 4 * k).all()
        weight = particles.normalise(together.log_weight)[rows]
        assert weight == pytest.approx(particles.normalise(one.log_weight) / 3)
    mean = np.mean([np.exp(one.log_evidence) for one in apart])
    assert together.log_evidence == pytest.approx(math.log(mean))
    assert together.ess == pytest.approx(np.mean([one.ess for one in apart], axis=0))


def test_a_dead_island_weighs_nothing():
    found = Islands(np.zeros(6), 3)
    found.grow(np.array([0.0, 1.0, np.nan, 3.0, -2.0, 5.0]), np.array([True, True, True, False, True, True]))
    assert found.died == 2
    weight = particles.normalise(found.pooled()).reshape(3, 2).sum(1)
    assert weight == pytest.approx([0.5, 0, 0.5])
    # Of three islands, one of which has Z = 0.
    assert found.log_evidence() == pytest.approx(math.log((1 + math.e + math.exp(-2) + math.exp(5)) / 6))
    kept = found.resample(0.5, 1.0, "systematic", np.random.default_rng(0))
    assert (kept[2:4] == [2, 3]).all()
    assert not np.isfinite(found.log_weight[1]).any()


def test_the_dead_alone_end():
    found = Islands(np.zeros(4), 2)
    found.grow(np.full(4, np.nan), np.ones(4, bool))
    assert not found.alive.any()
    assert found.shares[-1] == 0
    assert found.log_evidence() == -math.inf
    assert (found.pooled() == -math.inf).all()
    assert found.resample(0.5, 1.0, "systematic", np.random.default_rng(0)) is None


@pytest.mark.parametrize("islands", [1, 2])
@pytest.mark.parametrize("seed", range(20))
def test_the_last_common_ancestors(seed, islands):
    """Against labels that are given before each resampling and carried to the end."""
    rng = np.random.default_rng(seed)
    found, size = Islands(np.zeros(6), islands), 6 // islands
    kept = []
    for i in range(rng.integers(0, 12)):
        found.grow(rng.normal(size=6) * 3, np.ones(6, bool))
        kept.append((1 / (i + 1), found.resample(1 / (i + 1), 1.0, "multinomial", rng)))
    alive = rng.random(6) < 0.8
    alive[rng.integers(6)] = True
    found.grow(np.where(alive, 0.0, np.nan), np.ones(6, bool))
    wanted = math.inf
    for i, (level, _) in enumerate(kept):
        labels = np.arange(6)
        for _, parents in kept[i:]:
            labels = labels[parents]
        parts = [set(labels[k : k + size][alive[k : k + size]]) for k in range(0, 6, size)]
        if all(len(part) <= 1 for part in parts):
            wanted = level
    assert found.common_level() == wanted
