import numpy as np
import pytest
from scipy import stats

from pullback.core.angles import wrap
from pullback.ensembles.fields import Field
from pullback.metrics.bootstrap import Replicas
from pullback.metrics.ranks import (
    EXPECTED,
    distance_from_uniform,
    effective,
    histogram,
    quantities,
    quantity_names,
    ranks,
    tie_breakers,
    under,
    uniformity,
)
from pullback.metrics.sample import Sample, Space

PLANE = Field.vector("x", ("a", "b"), "m")
MIXED = Field.vector("x", ("pt", "phi"), ("GeV", "rad"), transforms=("log", "periodic"))


def gaussian(rng, n, draws, width=1.0, shift=0.0):
    """Truths and draws of N(mu, 1), of draws that are too narrow or shifted: (event,) and (event, draw)."""
    mu = rng.normal(size=n)
    return mu + rng.normal(size=n), mu[:, None] + shift + width * rng.normal(size=(n, draws))


def plain(x, truth, field, **more):
    ok = np.ones(x.shape[:2], bool)
    return Sample(x, None, ok, x[:, 0], ok[:, 0], truth, Space.of(field, truth), field, **more)


@pytest.mark.parametrize("draws", [1, 10, 100])
def test_ranks_of_an_exact_sampler_are_uniform_for_any_number_of_draws(draws):
    rng = np.random.default_rng(0)
    truth, x = gaussian(rng, 4000, draws)
    u = ranks(x, truth, None, rng.random(4000))
    assert stats.kstest(u, "uniform").pvalue > 1e-3


def test_distance_is_that_of_scipy_and_its_floor_the_mean_of_exact_ones():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(400):
        u = rng.random(250)
        found.append(distance_from_uniform(u))
        assert found[-1] == pytest.approx(stats.kstest(u, "uniform").statistic)
    # Kolmogorov's law is the limit of many events; at 250 its mean is right to about one per cent.
    assert np.mean(found) == pytest.approx(EXPECTED / np.sqrt(250), rel=0.05)
    assert stats.kstwobign.mean() == pytest.approx(EXPECTED)
    assert stats.kstwobign.ppf(0.95) / EXPECTED == pytest.approx(1.56, abs=0.005)


def test_weights_of_events_are_copies():
    rng = np.random.default_rng(2)
    u, copies = rng.random(50), rng.integers(1, 4, 50)
    twice = np.repeat(u, copies)
    assert distance_from_uniform(u, copies.astype(float)) == pytest.approx(distance_from_uniform(twice))
    assert histogram(u, copies.astype(float)) == pytest.approx(histogram(twice, None))
    hits = under(u, 10)
    for weight in (None, np.ones(50)):
        assert effective(hits, Replicas(np.arange(50), 0, rng, weight)) == pytest.approx(50)


def test_ties_are_shared_at_random():
    """Draws that are all equal to the truth say nothing: uniform ranks, with two draws and with a thousand."""
    rng = np.random.default_rng(3)
    for draws in (2, 1000):
        u = ranks(np.zeros((2000, draws)), np.zeros(2000), None, rng.random(2000))
        assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert tie_breakers(("a",), 5, 3) == pytest.approx(tie_breakers(("a",), 9, 3)[:5])


def test_weighted_draws_are_ranked_as_their_copies():
    """Importance weights turn draws of a wide Gaussian into those of a narrow one."""
    rng = np.random.default_rng(4)
    truth, x = gaussian(rng, 3000, 400)
    x, mu = x * 2 - x.mean(axis=1, keepdims=True), x.mean(axis=1, keepdims=True)
    weight = stats.norm.pdf(x, mu, 1) / stats.norm.pdf(x, mu, 2)
    weight /= weight.sum(axis=1, keepdims=True)
    tie = rng.random(3000)
    assert stats.kstest(ranks(x, truth, weight, tie), "uniform").pvalue > 1e-3
    assert distance_from_uniform(ranks(x, truth, None, tie)) > 0.1
    equal = np.full(x.shape, 1 / 400)
    assert ranks(x, truth, equal, tie) == pytest.approx(ranks(x, truth, None, tie))


def test_an_exact_importance_sampler_is_calibrated_with_few_effective_draws():
    """Prior draws by likelihood, 10 of 1000 effective: shares of weight covered 94.5 % for 90 %."""
    rng = np.random.default_rng(11)
    n, noise = 3000, 0.01
    truth, x = rng.normal(size=n), rng.normal(size=(n, 1000))
    y = truth + noise * rng.normal(size=n)
    log_weight = -0.5 * ((y[:, None] - x) / noise) ** 2
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    assert np.median(1 / (weight**2).sum(axis=1)) < 12
    gap = distance_from_uniform(ranks(x, truth, weight, rng.random(n)))
    # 99.9 % of exact samplers lie below 1.95 / sqrt(n).
    assert gap < 1.95 / np.sqrt(n)
    covered = Sample.of_arrays(x, truth, weight).ordered
    for percent in (50, 90):
        share = percent / 100
        assert covered.coverage(percent).mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / n))


def test_groups_count_as_fewer_events():
    """Truths of a group are correlated by a half, posteriors exact: 1 in 3 was above 1.56 floors of single events."""
    rng = np.random.default_rng(12)
    group, above, repeats = np.repeat(np.arange(40), 10), 0, 200
    copies = uniformity("sbc_ks.a", rng.random(40)[group], Replicas(group, 0, rng))
    assert copies.floor == pytest.approx(EXPECTED / np.sqrt(40), rel=0.02)
    for _ in range(repeats):
        x = np.sqrt(0.5) * (rng.normal(size=40)[group] + rng.normal(size=400))
        y = x + 3 * rng.normal(size=400)
        u = stats.norm.cdf((x - 0.1 * y) / np.sqrt(0.9))
        row = uniformity("sbc_ks.a", u, Replicas(group, 0, rng))
        above += row.value > 1.56 * row.floor
    assert above / repeats < 0.05 + 2 * np.sqrt(0.05 * 0.95 / repeats)
    assert uniformity("sbc_ks.a", rng.random(400), Replicas(group % 4, 0, rng)).floor is None


@pytest.mark.parametrize(("defect", "least"), [({"width": 0.5}, 0.08), ({"shift": 0.5}, 0.1), ({}, 0.0)])
def test_narrow_and_shifted_draws_are_told_from_exact_ones(defect, least):
    rng = np.random.default_rng(5)
    truth, x = gaussian(rng, 2000, 50, **defect)
    replicas = Replicas(np.arange(2000), 100, rng)
    row = uniformity("sbc_ks.a", ranks(x, truth, None, rng.random(2000)), replicas)
    assert row.low <= row.value <= row.high
    assert row.floor == pytest.approx(EXPECTED / np.sqrt(2000))
    assert (row.low > least) if defect else (row.value < 2 * row.floor)


def test_an_angle_has_no_edge():
    """Turning all angles by anything leaves ranks as they are, and exact ones uniform."""
    rng = np.random.default_rng(6)
    centre = rng.uniform(-np.pi, np.pi, (3000, 1))
    phi = wrap(centre + rng.normal(0, 0.8, (3000, 31)))
    both = np.stack([rng.exponential(1, phi.shape), phi], axis=-1)
    tie = rng.random(3000)
    found = []
    for turn in (0.0, 2.5):
        moved = np.array(both)
        moved[..., 1] = wrap(both[..., 1] + turn)
        draws, truth = quantities(plain(moved[:, 1:], moved[:, 0], MIXED))
        found.append(ranks(draws[1], truth[1], None, tie))
    assert found[0] == pytest.approx(found[1])
    assert stats.kstest(found[0], "uniform").pvalue > 1e-3


class Known:
    """y = x + normal, with its likelihood."""

    def log_likelihood(self, y, x):
        return -0.5 * ((y - x) ** 2).sum(axis=-1)


def test_the_likelihood_sees_draws_that_ignore_the_observation():
    """Draws of the prior have uniform ranks in every component (Modrak et al. 2023)."""
    rng = np.random.default_rng(7)
    truth = rng.normal(size=(2000, 2))
    y = truth + rng.normal(size=truth.shape)
    exact = 0.5 * y[:, None] + np.sqrt(0.5) * rng.normal(size=(2000, 50, 2))
    prior = rng.normal(size=exact.shape)
    assert quantity_names(PLANE, Known()) == ["a", "b", "log_likelihood"]
    for x, seen in ((exact, False), (prior, True)):
        draws, true = quantities(plain(x, truth, PLANE, problem=Known(), y=y))
        values = [
            stats.kstest(ranks(d, t, None, rng.random(2000)), "uniform").pvalue
            for d, t in zip(draws, true, strict=True)
        ]
        assert min(values[:2]) > 1e-3
        assert bool(values[2] < 1e-6) is seen


def test_arrays_are_ranked_by_mean_and_spread():
    field = Field.array("x", ("depth", "offset"), (4, 4), "m")
    rng = np.random.default_rng(8)
    truth, x = rng.normal(size=(300, 16)), rng.normal(size=(300, 20, 16))
    assert quantity_names(field, None) == ["mean", "spread"]
    draws, true = quantities(plain(x, truth, field))
    assert draws[0] == pytest.approx(x.mean(axis=2))
    assert true[1] == pytest.approx(truth.std(axis=1))
