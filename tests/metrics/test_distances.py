import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from pullback.core import seeding
from pullback.metrics import distances

ot = pytest.importorskip("ot")


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize(
    ("n", "m", "weighted"), [(300, 300, False), (300, 211, False), (300, 211, True), (50, 50, True)]
)
def test_sliced_distance_is_that_of_pot(rng, n, m, weighted):
    u, v = rng.standard_normal((n, 3)), 1.5 * rng.standard_normal((m, 3)) + 1
    weights = [rng.uniform(0.1, 1, size) for size in (n, m)] if weighted else [None, None]
    theta = distances.directions(("t",), 3, 50)
    normalised = [w / w.sum() if w is not None else None for w in weights]
    theirs = ot.sliced_wasserstein_distance(u, v, *normalised, projections=theta.T)
    # float32 projections: relative rounding 1e-7 of values of order 1.
    assert distances.sliced_wasserstein(u, v, theta, *weights) == pytest.approx(theirs, rel=1e-5)


def test_sliced_distance_of_a_shift(rng):
    """A shift m moves each projection by theta.m: SWD^2 = mean (theta.m)^2 -> |m|^2 / d."""
    d, count = 3, 4000
    u, m = rng.standard_normal((200, d)), np.array([1.0, -2.0, 2.0])
    theta = distances.directions(("shift",), d, count)
    found = distances.sliced_wasserstein(u + m, u, theta) ** 2
    # (theta.m)^2/|m|^2 has mean 1/d and second moment 3/(d(d+2)).
    error = 9 * np.sqrt((3 / (d * (d + 2)) - 1 / d**2) / count)
    assert found == pytest.approx(9 / d, abs=4 * error)


def test_directions_are_uniform_unit_and_addressed():
    theta = distances.directions(("a", 0), 4, 5000)
    assert np.allclose(np.linalg.norm(theta, axis=1), 1)
    # Covariance of a uniform direction is I/d; entries have a standard deviation below 1/(d sqrt(5000)) * sqrt(2).
    assert np.abs(np.cov(theta.T) - np.eye(4) / 4).max() < 5 * np.sqrt(2) / 4 / np.sqrt(5000)
    assert np.array_equal(theta, distances.directions(("a", 0), 4, 5000))
    assert not np.array_equal(theta, distances.directions(("a", 1), 4, 5000))


def test_w1_of_exponentials(rng):
    """W1 of exponentials with scales a > b is a - b (one is the other stretched); a shift by c > 0 adds c."""
    n, a, b, c = 20_000, 2.0, 1.0, 3.0
    u, v = rng.exponential(a, n) + c, rng.exponential(b, n)
    found = distances.wasserstein_powers(u[None].astype("f4"), v[None].astype("f4"), 1)[0]
    assert found == pytest.approx(a - b + c, abs=5 * np.sqrt((a**2 + b**2) / n))
    assert found == pytest.approx(wasserstein_distance(u, v), rel=1e-6)


def test_weighted_is_duplicated(rng):
    u, v = rng.standard_normal((40, 2)), rng.standard_normal((70, 2))
    copies = rng.integers(1, 4, 40)
    theta = distances.directions(("w",), 2, 20)
    weighted = distances.sliced_wasserstein(u, v, theta, copies.astype(float))
    assert weighted == pytest.approx(distances.sliced_wasserstein(np.repeat(u, copies, axis=0), v, theta), rel=1e-6)


def test_large_offset_loses_no_precision(rng):
    u, v = (rng.standard_normal((500, 4)) for _ in range(2))
    theta = distances.directions(("o",), 4, 50)
    moved = distances.sliced_wasserstein(u + 1e5, v + 1e5, theta)
    assert moved == pytest.approx(distances.sliced_wasserstein(u, v, theta), rel=1e-4)


@pytest.mark.parametrize("p", [1, 2])
def test_replicas_are_distances_of_the_resampled_events(rng, p):
    u, v = rng.standard_normal((2, 60)), rng.standard_normal((2, 60)) + 1
    events = [rng.integers(60, size=size) for size in (60, 45)]
    weight = rng.uniform(0.5, 1, 60)
    plain = distances.replicate_powers(u, v, p, events)
    weighted = distances.replicate_powers(u, v, p, events, weight)
    for r, drawn in enumerate(events):
        for j in range(2):
            args = (u[j, drawn], v[j, drawn])
            assert plain[r, j] == pytest.approx(ot.wasserstein_1d(*args, p=p), rel=1e-4)
            w = weight[drawn] / weight[drawn].sum()
            assert weighted[r, j] == pytest.approx(ot.wasserstein_1d(*args, w, w, p=p), rel=1e-4)


def test_histogram_distance_is_w1_to_a_bin(rng):
    u, v = rng.normal(2000, 300, (20, 64)), rng.normal(2400, 200, (20, 64))
    edges = np.linspace(500, 4500, 401)
    hist = [distances.value_histograms(sample, edges) for sample in (u, v)]
    assert all((each.sum(axis=1) == 64).all() for each in hist)
    found = distances.histogram_distance(hist[0].sum(axis=0), hist[1].sum(axis=0), 10.0)
    assert found == pytest.approx(wasserstein_distance(u.ravel(), v.ravel()), abs=10.0)


def test_oracle_floor_of_the_gaussian_problem():
    """Facts 2.1: two independent truths of 40000 points, gamma = 0: 0.0124 +- 0.0016 (50 directions)."""
    draw = [seeding.generator("floor", i).standard_normal((40_000, 2)) for i in range(6)]
    found = [
        distances.sliced_wasserstein(draw[2 * i], draw[2 * i + 1], distances.directions(("f", i), 2, 50))
        for i in range(3)
    ]
    assert np.mean(found) == pytest.approx(0.0124, abs=4 * 0.0016 / np.sqrt(3))


@pytest.mark.parametrize("weighted", [False, True])
def test_influence_is_the_derivative_by_the_weights(rng, weighted):
    """Of the mean of W_2^2 over directions, by each event's weight: a little weight is moved between two events."""
    u, v = rng.standard_normal((60, 3)), rng.standard_normal((60, 3)) * 1.5 + 0.5
    theta, small = distances.directions(("d",), 3, 20), 1e-6
    weight = rng.uniform(0.5, 2, 60) if weighted else np.ones(60)
    given = weight if weighted else None
    phi, psi = distances.influence(u, v, theta, given, given)
    event = phi[0] + psi[0]
    for a, b in ((3, 40), (17, 5)):
        step = np.zeros(60)
        step[a], step[b] = small, -small
        up, down = (distances.sliced_wasserstein(u, v, theta, w, w) ** 2 for w in (weight + step, weight - step))
        assert (up - down) / (2 * small) * weight.sum() == pytest.approx(event[a] - event[b], rel=2e-2, abs=2e-3)


def test_influence_of_two_samples_of_other_sizes_is_that_of_each(rng):
    """POT's potentials of the 1-D problem, up to their constant."""
    u, v = rng.standard_normal(40), rng.standard_normal(70) + 1
    phi, psi = distances.influence(u[:, None], v[:, None], np.ones((1, 1)))
    cost = (u[:, None] - v) ** 2
    total = phi[0].mean() + psi[0].mean()
    assert np.all(phi[0][:, None] + psi[0] - total + ot.wasserstein_1d(u, v, p=2) <= cost + 0.35)
    plan = ot.emd(np.full(40, 1 / 40), np.full(70, 1 / 70), cost)
    on = plan > 0
    gap = cost - (phi[0][:, None] + psi[0] - total + ot.wasserstein_1d(u, v, p=2))
    assert np.abs(gap[on]).mean() < 0.05
