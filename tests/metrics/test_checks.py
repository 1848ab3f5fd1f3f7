import numpy as np
import pytest
from evaluated_files import NOISE, PLANE, plane, plane_posterior, write_ensemble

from pullback.ensembles.fields import Field
from pullback.ensembles.store import EnsembleWriter
from pullback.metrics import checks
from pullback.metrics.bootstrap import Replicas
from pullback.metrics.floors import DIRECTIONS
from pullback.metrics.seen import SeenObservations


class Noisy:
    """y = x + noise; some simulations fail, those with a > limit always."""

    x, y = PLANE

    def __init__(self, fail="error", limit=np.inf, chance=0.0):
        self.fail, self.limit, self.chance, self.calls = fail, limit, chance, 0

    def simulate(self, x, rng):
        self.calls += len(x)
        y = x + NOISE * rng.standard_normal(x.shape)
        return y.astype("f4"), (rng.random(len(x)) >= self.chance) & (x[:, 0] < self.limit)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def fold(problem, y, one, ok=None):
    ok = np.ones(len(y), bool) if ok is None else ok
    replicas = Replicas(np.arange(len(y)), 20, np.random.default_rng(0))
    return checks.fold_back(problem, PLANE[1], y, one, ok, replicas, ("c",), 3)


def test_exact_draws_fold_back_to_the_observations(rng):
    _, y = plane(rng, 4000)
    exact = fold(Noisy(), y, plane_posterior(rng, y, 1)[:, 0])
    wrong = fold(Noisy(), y, plane_posterior(rng, y, 1, centre=1.0)[:, 0])
    assert exact.value < 2 * exact.floor
    assert wrong.low > 3 * wrong.floor
    assert (exact.metric, exact.unit, exact.n) == ("fold_back_swd", "m", 4000)


SPACE = checks.Space((), ("m",), np.zeros(2, bool), np.ones(2), "m", -np.ones(2), np.ones(2))
LAWS = {
    "normal": lambda rng, n: rng.normal(size=(n, 2)),
    "two blobs": lambda rng, n: 0.3 * rng.normal(size=(n, 2)) + [5, 0] * rng.integers(2, size=(n, 1)),
    "heavy tails": lambda rng, n: rng.standard_t(3, size=(n, 2)),
}


@pytest.mark.parametrize(("law", "weighted"), [("normal", False), ("two blobs", True), ("heavy tails", False)])
def test_floor_of_parts_is_that_of_the_whole(law, weighted):
    """What two independent samples of this size are apart; halves over sqrt(2) are 15 % less for the last two."""
    found, fresh = [], []
    rng, n, repeats = np.random.default_rng(3), 400, 40
    # Events of weight zero are none.
    weight = np.repeat([1.0, 0.0], n // 2) if weighted else None
    for _ in range(repeats):
        y, other = LAWS[law](rng, n), LAWS[law](rng, n)
        judge = checks.Distances(y, SPACE, Replicas(np.arange(n), 0, rng, weight), ("d",), 1, 1)
        found.append(checks.floor_of_parts(judge, rng))
        fresh.append(judge.swd(other, y, weight, weight)["swd_draw"])
    error = np.hypot(np.std(found) / np.mean(found), np.std(fresh) / np.mean(fresh)) / np.sqrt(repeats)
    assert np.mean(found) / np.mean(fresh) == pytest.approx(1, abs=0.05 + 3 * error)


def test_few_observations_have_no_floor(rng):
    y = rng.normal(size=(7, 2))
    judge = checks.Distances(y, SPACE, Replicas(np.arange(7), 0, rng), ("d",), 1, 1)
    assert checks.floor_of_parts(judge, rng) is None


def test_failed_draws_and_simulations_move_the_fold_away(rng):
    _, y = plane(rng, 2000)
    one = plane_posterior(rng, y, 1)[:, 0]
    clean = fold(Noisy(), y, one).value
    failed = fold(Noisy(), y, one, rng.random(2000) > 0.2).value
    assert failed > 3 * clean
    assert fold(Noisy(chance=0.2), y, one).value > 3 * clean
    assert fold(Noisy(), y, np.full_like(one, np.nan), np.zeros(2000, bool)).value > failed


def test_redraws_until_success_where_data_are_redrawn(rng):
    _, y = plane(rng, 500)
    problem = Noisy("redraw", chance=0.5)
    _, ok = checks.simulate(problem, y, rng)
    assert ok.all()
    # A geometric number of tries with mean 2; standard deviation sqrt(2).
    assert problem.calls / 500 == pytest.approx(2, abs=4 * np.sqrt(2 / 500))
    assert not checks.simulate(Noisy("redraw", limit=0.0), np.ones((3, 2), "f4"), rng)[1].any()


def test_misfit_of_a_linear_problem(rng):
    class Doubling(Noisy):
        def simulate(self, x, rng):
            return 2 * x, np.ones(len(x), bool)

    x = rng.normal(size=(5, 4, 2)).astype("f4")
    y = (2 * x[:, 0]).astype("f4")
    found = checks.misfit(Doubling(), PLANE[1], y, x, np.ones((5, 4), bool), ("m",))
    expected = np.linalg.norm(2 * x - y[:, None], axis=2) / np.linalg.norm(y, axis=1)[:, None]
    assert found.each == pytest.approx(expected, rel=1e-5)
    assert found.event == pytest.approx(np.median(expected, axis=1), rel=1e-5)


def test_failed_simulations_rank_last(rng):
    x = rng.normal(size=(6, 4, 2)).astype("f4")
    y = rng.normal(size=(6, 2)).astype("f4")
    ok = np.ones((6, 4), bool)
    ok[0, :3] = ok[1, 0] = False
    found = checks.misfit(Noisy(), PLANE[1], y, x, ok, ("m",))
    assert np.isinf(found.event[0])
    assert np.isfinite(found.event[1:]).all()
    assert np.isinf(found.each[~ok]).all()
    misfit, failed = checks.misfit_rows(found, None, Replicas(np.arange(6), 50, rng))
    assert misfit.value == pytest.approx(np.median(found.event))
    assert not np.isnan([misfit.low, misfit.high]).any()
    assert failed.value == pytest.approx(4 / 24)


def test_draws_are_projected_to_the_bounds(rng):
    class Bounded(Noisy):
        x = Field.vector("x", ("a", "b"), "m", low=(0.0, 0.0), high=(1.0, 1.0))

        def simulate(self, x, rng):
            assert x.min() >= 0
            assert x.max() <= 1
            return x, np.ones(len(x), bool)

    y, ok = checks.simulate(Bounded(), np.array([[-3.0, 0.5], [0.5, 7.0]]), rng)
    assert y == pytest.approx(np.array([[0, 0.5], [0.5, 1]]))
    assert ok.all()


def test_distance_to_the_nearest_seen_family(rng, tmp_path):
    seen = []
    for name, centre in (("near", 0.5), ("far", 4.0)):
        x, y = plane(rng, 3000, centre)
        seen.append(write_ensemble(tmp_path / f"{name}.h5", PLANE, x, y))
    _, y = plane(rng, 2000)
    found = SeenObservations(seen, 20_000).distance(y, None, ("s",))
    # Means differ by (0.5, 0.5): SWD = sqrt(0.5/2) = 0.5; directions scatter by 1/sqrt(8) / sqrt(50) * 0.5.
    assert found.value == pytest.approx(0.5, abs=0.1)
    assert found.n == 2000
    assert SeenObservations(seen, 100).events(2000, 2) == 100
    assert SeenObservations(seen, 20_000).events(2000, 5 * 1000 * 70) < 2000
    assert SeenObservations([], 20_000).distance(y, None, ("s",)) is None


@pytest.mark.parametrize("n", [1, 3, 30, 1000])
def test_sets_are_compared_with_seen_ones_of_as_many_events(rng, tmp_path, n):
    """In tests/audit for more laws and sets; 40 sets of each of two trainings here."""
    ratios, outside = [], []
    for training in range(2):
        seen = [
            write_ensemble(tmp_path / f"{training}-{i}.h5", PLANE, *plane(rng, 3000, centre))
            for i, centre in enumerate((0.0, 6.0))
        ]
        compare = SeenObservations(seen, 20_000)
        for centre, found in ((0.0, ratios), (-20.0, outside)):
            for _ in range(40):
                one = compare.distance(plane(rng, n, centre)[1], None, ("s", training))
                found.append(one.value / one.floor)
    # 1 in 20, and 3 standard errors of 80 sets.
    assert np.mean(np.array(ratios) > 1) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 80)
    assert min(outside) > 2


def test_the_usual_distance_is_that_of_sets_drawn_anew(rng, tmp_path):
    """The 95 % quantile of 20 sets, beside that of 300 pairs of fresh sets by POT."""
    ot = pytest.importorskip("ot")
    seen = [write_ensemble(tmp_path / "seen.h5", PLANE, *plane(rng, 4000))]
    theta = checks.distances.directions(("s", "y", "directions", 0), 2, DIRECTIONS)
    for n in (3, 100):
        fresh = [
            ot.sliced_wasserstein_distance(plane(rng, n)[1], plane(rng, n)[1], projections=theta.T) for _ in range(300)
        ]
        found = SeenObservations(seen, 20_000).usual(n, ("s",))
        # The largest of 20 lies between their 75 % and 99.99 % quantiles in all but 1 of 300 cases (0.75^20).
        assert np.quantile(fresh, 0.75) < found < 1.2 * max(fresh)


def test_units_are_those_of_what_was_trained_on(rng, tmp_path):
    """Two observations have no spread to measure in, and families with other spreads are compared in one unit."""
    fields = (PLANE[0], Field.vector("y", ("a", "b"), ("GeV", "rad")))
    seen = np.column_stack([100 * rng.standard_normal(4000), rng.standard_normal(4000)]).astype("f4")
    path = write_ensemble(tmp_path / "seen.h5", fields, seen, seen)
    compare = SeenObservations([path], 20_000)
    wide, narrow = 2 * seen[:2000] + np.float32([0, 3]), 0.5 * seen[:2000] + np.float32([0, 3])
    found = [compare.distance(y, None, ("s",)).value for y in (wide, narrow)]
    # Squared and per direction: a shift of 3 and a change of spread by 1 or 1/2 in each of two quantities, halved.
    assert found[0] == pytest.approx(np.sqrt((9 + 1 + 1) / 2), rel=0.25)
    assert found[1] == pytest.approx(np.sqrt((9 + 0.25 + 0.25) / 2), rel=0.25)
    near = compare.distance(seen[5:7] + np.float32(0.1), None, ("s",))
    assert near.value < near.floor


def test_of_a_sweep_the_nearest_ensemble_counts(rng, tmp_path):
    near, far = plane(rng, 2000, 0.5), plane(rng, 2000, 4.0)
    path = tmp_path / "sweep.h5"
    with EnsembleWriter(path, x=PLANE[0], y=PLANE[1], spec="{}") as writer:
        x, y = (np.concatenate([far[i], near[i]]) for i in range(2))
        writer.append(y, np.arange(4000), x=x)
        writer.ensembles(np.array([0, 2000, 4000]), np.array([[4.0], [0.5]]), ["centre"])
    _, y = plane(rng, 2000)
    found = SeenObservations([path], 20_000).distance(y, None, ("s",))
    assert found.value == pytest.approx(0.5, abs=0.1)


def test_the_distance_to_seen_families_is_of_weighted_distributions(rng, tmp_path):
    # A simulation flat in what the data fall off in, and weights that make it the data's law.
    y = rng.uniform(-4, 4, (6000, 2)).astype("f4")
    weight = np.exp(-(y.astype("f8") ** 2).sum(1) / 2)
    seen = [write_ensemble(tmp_path / "flat.h5", PLANE, y, y, weight=weight)]
    signed = write_ensemble(tmp_path / "signed.h5", PLANE, y, y, weight=np.where(y[:, 0] > 3, -1.0, 1.0))
    data = rng.standard_normal((6000, 2)).astype("f4")
    near = SeenObservations(seen, 20_000).distance(data, None, ("s",))
    far = SeenObservations(seen, 20_000).distance(y, None, ("s",))
    same = SeenObservations(seen, 20_000).distance(y, weight, ("s",))
    # A tenth of the events count: two samples of 600 lie about 1.5 / sqrt(600) apart.
    assert near.value < 0.12
    # Standard deviations of 8 / sqrt(12) and 1.
    assert far.value == pytest.approx(8 / np.sqrt(12) - 1, abs=0.15)
    assert same.value == pytest.approx(0, abs=1e-6)
    # Weights of both signs are resampled: the law is flat up to 3, less what lies near the edge.
    resampled = SeenObservations([signed], 20_000).distance(y[y[:, 0] < 2], None, ("s",))
    assert resampled.value < 0.3 < SeenObservations([signed], 20_000).distance(data, None, ("s",)).value
    none = write_ensemble(tmp_path / "none.h5", PLANE, y, y, weight=-np.ones(6000))
    assert SeenObservations([none], 20_000).distance(data, None, ("s",)) is None


def test_the_misfit_is_the_median_of_weighted_events(rng):
    event = np.r_[np.ones(60), np.full(40, 0.1)]
    found = checks.Misfit(event[:, None], event, np.zeros((100, 2)))
    weight = np.r_[np.full(60, 1e-3), np.ones(40)]
    misfit, _ = checks.misfit_rows(found, found, Replicas(np.arange(100), 50, rng, weight))
    assert [misfit.value, misfit.low, misfit.high, misfit.floor] == [0.1] * 4
    plain, _ = checks.misfit_rows(found, found, Replicas(np.arange(100), 50, rng))
    assert plain.value == 1


def test_the_weighted_median_is_that_of_copies(rng):
    values, copies = rng.normal(size=9), rng.integers(0, 4, 9)
    for each, weight in (
        (values, copies),
        (np.array([1.0, 2, 3, 10]), np.ones(4)),
        (np.array([1.0, 2, 9]), np.r_[1, 0, 1]),
    ):
        expected = np.median(np.repeat(each, weight.astype(int)))
        assert checks._median(each, weight.astype(float)) == pytest.approx(expected)
        assert checks._median(each, weight * (1 + 1e-13 * rng.random(len(each)))) == pytest.approx(expected)
