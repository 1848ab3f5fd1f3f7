import numpy as np
import pytest
from scipy import stats

from pullback.core.angles import wrap
from pullback.ensembles.fields import Field
from pullback.metrics.expected_coverage import (
    Others,
    coverage,
    curve,
    local_references,
    project_observations,
    uniform_references,
)
from pullback.metrics.ranks import EXPECTED, distance_from_uniform, ranks
from pullback.metrics.sample import Sample, Space

FIELD = Field.vector("x", ("a", "b"), "m")
N, DRAWS = 3000, 60
CORRELATED = np.array([[1.0, 0.8], [0.8, 1.0]])


def plain(x, truth, field=None):
    ok = np.ones(x.shape[:2], bool)
    return Sample(x, None, ok, x[:, 0], ok[:, 0], truth, Space.of(field or FIELD, truth))


def posterior(rng, covariance):
    """Truths of y + N(0, correlated), draws with another covariance: (event, 2), (event, draw, 2) and y."""
    y = 2 * rng.normal(size=(N, 2))
    truth = y + rng.multivariate_normal([0, 0], CORRELATED, N)
    return truth, y[:, None] + rng.multivariate_normal([0, 0], covariance, (N, DRAWS)), y


def gaps(truth, x, y, rng):
    """Distances from uniform of both kinds of references."""
    space = Space.of(FIELD, truth)
    scale, ties = truth.std(axis=0), rng.random((2, len(truth)))
    other_y = 2 * rng.normal(size=(N, 2))
    others = Others(other_y + rng.multivariate_normal([0, 0], CORRELATED, N), other_y, None)
    references = uniform_references(truth, space, FIELD, others, ("t",)), local_references(y, others)
    return [
        distance_from_uniform(coverage(plain(x, truth), reference, scale, tie))
        for reference, tie in zip(references, ties, strict=True)
    ]


NOBODY = Others(np.empty((0, 2)), np.empty((0, 2)), None)
FLOOR = EXPECTED / np.sqrt(N)


def test_an_exact_posterior_is_covered():
    rng = np.random.default_rng(0)
    found = gaps(*posterior(rng, CORRELATED), rng)
    # 99.9 % of exact samplers lie below 1.95 / sqrt(n).
    assert max(found) < 1.95 / np.sqrt(N)


def test_the_gap_of_an_exact_posterior_scatters_as_its_floor_says():
    """Mean over repeats of sqrt(n) gap, with independent references and with the judged events as their own."""
    rng = np.random.default_rng(8)
    found = []
    for _ in range(60):
        y = 2 * rng.normal(size=(800, 2))
        truth, x = y[:400] + rng.normal(size=(400, 2)), y[:400, None] + rng.normal(size=(400, 20, 2))
        independent = Others(y[400:] + rng.normal(size=(400, 2)), y[400:], None)
        own = Others(truth, y[:400], np.arange(400))
        found.append(
            [
                distance_from_uniform(
                    coverage(plain(x, truth), local_references(y[:400], others), np.ones(2), rng.random(400))
                )
                for others in (independent, own)
            ]
        )
    mean = np.sqrt(400) * np.mean(found, axis=0) / EXPECTED
    assert mean[0] == pytest.approx(1, abs=4 * 0.3 / np.sqrt(60))
    assert 0.95 < mean[1] < 1.5


def test_a_wrong_correlation_is_caught_while_every_marginal_looks_right():
    rng = np.random.default_rng(1)
    truth, x, y = posterior(rng, np.array([[1.0, -0.8], [-0.8, 1.0]]))
    for j in range(2):
        assert stats.kstest(ranks(x[..., j], truth[:, j], None, rng.random(N)), "uniform").pvalue > 1e-3
    assert min(gaps(truth, x, y, rng)) > 3 * FLOOR


def test_draws_that_ignore_the_observation_are_caught_by_local_references_alone():
    rng = np.random.default_rng(2)
    truth, _, y = posterior(rng, CORRELATED)
    prior = 2 * rng.normal(size=(N, DRAWS, 2)) + rng.multivariate_normal([0, 0], CORRELATED, (N, DRAWS))
    blind, local = gaps(truth, prior, y, rng)
    assert blind < 1.95 / np.sqrt(N)
    assert local > 10 * FLOOR


def independent_ecp(x, truth, references, levels):
    """Expected coverage as algorithm 2 of Lemos et al. 2023 states it, event by event, on values scaled to [0, 1]."""
    low, high = truth.min(axis=0), truth.max(axis=0)
    shares = []
    for draws, true, reference in zip(x, truth, references, strict=True):
        scaled = [(values - low) / (high - low) for values in (draws, true, reference)]
        radius = np.sqrt(((scaled[1] - scaled[2]) ** 2).sum())
        shares.append(np.mean([np.sqrt(((one - scaled[2]) ** 2).sum()) < radius for one in scaled[0]]))
    return np.array([np.mean(np.array(shares) <= level) for level in levels])


@pytest.mark.parametrize("width", [1.0, 0.6])
def test_curve_is_that_of_an_independent_implementation(width):
    rng = np.random.default_rng(3)
    truth, x, _ = posterior(rng, width**2 * CORRELATED)
    truth, x = truth[:600], x[:600]
    space = Space.of(FIELD, truth)
    references = uniform_references(truth, space, FIELD, NOBODY, ("t",))
    scale = truth.max(axis=0) - truth.min(axis=0)
    u = coverage(plain(x, truth), references, scale, rng.random(600))
    found = curve(u, None)
    expected = independent_ecp(x, truth, references, np.linspace(0, 1, len(found)))
    # A share k/60 becomes (k + U)/61: the two curves are at most one draw's step and its scatter apart.
    assert np.abs(found - expected)[1:].max() < 2 / DRAWS + 2 / np.sqrt(600 * DRAWS)
    assert found[0] == 0
    assert found[-1] == 1
    assert (np.abs(found - np.linspace(0, 1, len(found))).max() < 1.95 / np.sqrt(600)) == (width == 1)


def test_all_that_enters_a_distance_has_one_scale():
    """Another unit of one component changes nothing; a reference left in the old one (a bug of sbi) would."""
    rng = np.random.default_rng(4)
    truth, x, _ = posterior(rng, CORRELATED)
    tie, unit = rng.random(N), np.array([1.0, 1000.0])
    found = []
    for factor in (np.ones(2), unit):
        space = Space.of(FIELD, truth * factor)
        references = uniform_references(truth * factor, space, FIELD, NOBODY, ("t",))
        found.append(coverage(plain(x * factor, truth * factor), references, (truth * factor).std(axis=0), tie))
    assert found[0] == pytest.approx(found[1])


def test_angles_are_wrapped():
    field = Field.vector("x", ("phi",), "rad", transforms=("periodic",))
    rng = np.random.default_rng(5)
    truth = wrap(np.pi + 0.3 * rng.normal(size=(N, 1)))
    x = wrap(np.pi + 0.3 * rng.normal(size=(N, DRAWS, 1)))
    reference = np.full((N, 1), -np.pi + 0.1)
    u = coverage(plain(x, truth, field), reference, np.ones(1), rng.random(N))
    assert stats.kstest(u, "uniform").pvalue > 1e-3


def test_references_are_of_other_groups_and_addressed():
    rng = np.random.default_rng(6)
    truth = rng.normal(size=(300, 2))
    group = np.arange(300) // 3
    # Events of a group share their observation: the nearest are of the same group.
    y = np.repeat(rng.normal(size=(100, 3)), 3, axis=0) + 1e-6 * rng.normal(size=(300, 3))
    near = local_references(y, Others(truth, y, group))
    where = np.array([np.flatnonzero((truth == one).all(axis=1))[0] for one in near])
    assert (group[where] != group).all()
    image = Field.array("x", ("row", "column"), (1, 2), "1")
    other = uniform_references(truth, Space.of(image, truth), image, Others(truth, y, group), ("t",))
    where = np.array([np.flatnonzero((truth == one).all(axis=1))[0] for one in other])
    assert (group[where] != group).all()
    space = Space.of(FIELD, truth)
    again = [uniform_references(truth, space, FIELD, NOBODY, ("t",)) for _ in range(2)]
    assert (again[0] == again[1]).all()
    assert ((again[0] >= space.low) & (again[0] <= space.high)).all()


def test_long_observations_keep_their_neighbours():
    """Random directions keep distances in proportion (Johnson and Lindenstrauss): near stays near."""
    rng = np.random.default_rng(7)
    y = rng.normal(size=(200, 500)).astype("f4")
    y[100:] = y[:100] + 0.05 * rng.normal(size=(100, 500))
    axes = project_observations(y, ("t",))
    found = local_references(axes, Others(np.arange(200.0)[:, None], axes, np.arange(200)))
    assert found[:100, 0] == pytest.approx(np.arange(100) + 100)
