"""Posteriors against the exact one: a linear Gaussian problem whose posterior is known in closed form."""

import json
from dataclasses import replace

import numpy as np
import pytest
from evaluated_files import PLANE, job, plane, plane_posterior, write_ensemble, write_posterior
from test_evaluate import run

from pullback.core.angles import wrap
from pullback.ensembles.fields import Field
from pullback.metrics.bootstrap import Replicas
from pullback.metrics.classifier import correct, features
from pullback.metrics.energy import energy_scores
from pullback.metrics.exact import Exact, ExactError, moments, unweighted
from pullback.metrics.sample import Space
from pullback.problems.true_prior import ByParameters, ByTruth
from pullback.study import load_study
from pullback.study.job_params import Plan

COVARIANCE = np.array([[0.5, 0.3], [0.3, 0.4]])


class Linear:
    """p(x|y) = N(y, COVARIANCE)."""

    def exact_posterior(self, y, params, draws, pool, rng):
        x = y[:, None] + rng.multivariate_normal([0, 0], params["scale"] * COVARIANCE, (len(y), draws))
        return x.astype(np.float32), np.full(len(y), np.inf)


def twice(problem, params):
    prior = ByParameters(problem, params, 100)
    return prior, prior


def family(n, draws=300):
    rng = np.random.default_rng(0)
    y = 2 * rng.normal(size=(n, 2))
    truth = y + rng.multivariate_normal([0, 0], COVARIANCE, n)
    space = Space.of(PLANE[0], truth)
    return Exact(*twice(Linear(), {"scale": 1.0}), y, truth, space, PLANE[0], draws, ("t",)), y, truth


def answer(exact, y, truth, draws, shift=0.0, covariance=COVARIANCE, seed=1):
    """The rows of draws from N(y + shift, covariance), by name."""
    rng = np.random.default_rng(seed)
    x = y[:, None] + shift + rng.multivariate_normal([0, 0], covariance, (len(y), draws))
    judged = replace(unweighted(x), truth=truth, space=exact.space)
    scores = {"energy_score": energy_scores(judged)}
    rows = exact.measure(exact.errors(judged), draws, scores, Replicas(np.arange(len(y)), 100, rng))
    return {row.metric: row for row in rows}


@pytest.mark.parametrize("draws", [8, 50])
def test_exact_draws_have_no_error_whatever_their_number(draws):
    exact, y, truth = family(800)
    found = answer(exact, y, truth, draws)
    for name in ("posterior_mean_error", "posterior_covariance_error"):
        row = found[name]
        assert row.low <= row.value <= row.high
        # The floor holds one standard error of the square; with the estimate's own noise three are never far away.
        assert row.value < 2.5 * row.floor
        assert row.low == 0
    excess = found["energy_score_excess"]
    assert excess.low < 0 < excess.high
    assert excess.value == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("draws", [8, 100])
def test_errors_are_those_of_the_closed_form_whatever_the_number_of_draws(draws):
    exact, y, truth = family(800)
    shift, covariance = np.array([0.3, -0.2]), np.array([[0.6, 0.1], [0.1, 0.9]])
    found = answer(exact, y, truth, draws, shift, covariance)
    deviation = np.sqrt(np.diag(COVARIANCE))
    mean = np.sqrt(((shift / deviation) ** 2).mean())
    assert found["posterior_mean_error"].value == pytest.approx(mean, rel=0.06)
    unit = truth.std(axis=0)
    ours, theirs = (c / np.outer(unit, unit) for c in (covariance, COVARIANCE))
    relative = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    assert found["posterior_covariance_error"].value == pytest.approx(relative, rel=0.1)
    assert found["posterior_covariance_error"].low > found["posterior_covariance_error"].floor


def test_the_excess_is_that_of_the_scores_themselves():
    """N(0, s) for a truth of N(0, 1) has a mean CRPS of sqrt((1 + s^2) 2 / pi) - s / sqrt(pi)."""
    rng = np.random.default_rng(2)
    n, s = 4000, 1.5

    class Line:
        def exact_posterior(self, y, params, draws, pool, rng):
            return rng.normal(size=(len(y), draws, 1)), np.full(len(y), np.inf)

    truth = rng.normal(size=(n, 1))
    field = Field.vector("x", ("a",), "m")
    space = Space.of(field, truth)
    exact = Exact(*twice(Line(), {}), np.zeros((n, 1)), truth, space, field, 100, ("t",))
    judged = replace(unweighted(s * rng.normal(size=(n, 100, 1))), truth=truth, space=space)
    crps = judged.ordered.crps()[:, 0]
    rows = exact.measure(exact.errors(judged), 100, {"crps": crps}, Replicas(np.arange(n), 100, rng))
    found = {row.metric: row for row in rows}["crps_excess"]
    known = np.sqrt((1 + s**2) * 2 / np.pi) - s / np.sqrt(np.pi)
    expected = known / (np.sqrt(4 / np.pi) - 1 / np.sqrt(np.pi)) - 1
    assert found.value == pytest.approx(expected, abs=0.02)
    assert found.low < expected < found.high


@pytest.mark.parametrize("draws", [4, 12])
def test_moments_of_few_draws_are_unbiased(draws):
    """Also where draws are not Gaussian: of skewed ones with the same covariance."""
    rng = np.random.default_rng(3)
    root = np.linalg.cholesky(COVARIANCE)
    for z in (rng.normal(size=(10_000, draws, 2)), rng.exponential(size=(10_000, draws, 2)) - 1):
        x = z @ root.T
        space = Space.of(PLANE[0], x[:, 0])
        found = moments(unweighted(x), np.zeros((10_000, 2)), np.ones(2), space)
        for values, expected in (
            (found.size, (COVARIANCE**2).sum()),
            (found.mean[:, 0] ** 2 - found.variance_of_mean[:, 0], 0.0),
            (found.covariance[:, 0, 1], COVARIANCE[0, 1]),
        ):
            assert values.mean() == pytest.approx(expected, abs=4 * values.std() / 100)
        weighted = replace(unweighted(x), weight=np.full(x.shape[:2], 1 / draws))
        again = moments(weighted, np.zeros((10_000, 2)), np.ones(2), space)
        assert again.covariance == pytest.approx(found.covariance)
        assert again.size == pytest.approx(found.size)


def test_angles_have_no_edge():
    field = Field.vector("x", ("phi",), "rad", transforms=("periodic",))
    rng = np.random.default_rng(4)

    class Around:
        def exact_posterior(self, y, params, draws, pool, rng):
            return wrap(np.pi + 0.3 * rng.normal(size=(len(y), draws, 1))), np.full(len(y), np.inf)

    truth = wrap(np.pi + 0.3 * rng.normal(size=(400, 1)))
    exact = Exact(*twice(Around(), {}), np.zeros((400, 1)), truth, Space.of(field, truth), field, 300, ("t",))
    judged = unweighted(wrap(np.pi + 0.15 + 0.3 * rng.normal(size=(400, 100, 1))))
    rows = exact.measure(exact.errors(judged), 100, {}, Replicas(np.arange(400), 20, rng))
    assert rows[0].value == pytest.approx(0.5, rel=0.05)
    assert features(np.full((3, 1), np.pi), field) == pytest.approx(np.tile([0.0, -1.0], (3, 1)), abs=1e-6)


class Twin(Linear):
    """The same posterior, known by its likelihood: y = x + noise, a prior so wide that it does not count."""

    def log_likelihood(self, y, x):
        away = y - x
        return -0.5 * np.einsum("...i,ij,...j->...", away, np.linalg.inv(COVARIANCE), away)


def test_truth_weighted_by_the_likelihood_gives_the_closed_form():
    """x ~ U[-6, 6]^2 and y = x + N(0, COVARIANCE): p(x|y) = N(y, COVARIANCE) away from the edges."""
    rng = np.random.default_rng(6)
    y = rng.uniform(-3, 3, (300, 2))
    truth = y + rng.multivariate_normal([0, 0], COVARIANCE, 300)
    reference = ByTruth(Twin(), rng.uniform(-6, 6, (40_000, 2)), np.zeros(40_000))
    space = Space.of(PLANE[0], truth)
    exact = Exact(*reference.halves(), y, truth, space, PLANE[0], 200, ("t",))
    # A half has 20,000 truths in 144 of area, and 2 pi sqrt(det) = 2.1 of posterior: some 290, so that means and
    # covariances of finite draws have errors of about sqrt(1 / 290) and sqrt(2 / 290).
    rows = {
        row.metric: row for row in exact.measure(exact.errors(exact.sample(300, 200, "other")), 200, {}, replicas())
    }
    assert rows["posterior_mean_error"].value < 2 * 290**-0.5
    assert rows["posterior_covariance_error"].value < 2 * (2 / 290) ** 0.5
    known = answer(exact, y, truth, 100)
    assert known["posterior_mean_error"].value < 2 * 290**-0.5
    shifted = answer(exact, y, truth, 100, shift=np.array([0.4, -0.4]))
    expected = np.sqrt((0.16 / np.diag(COVARIANCE)).mean())
    assert shifted["posterior_mean_error"].value == pytest.approx(expected, rel=0.1)


def test_the_floor_weighs_events_as_the_value_does():
    """Of 800 events 200 weigh: the floor is that of these alone."""
    exact, *_ = family(800)
    weight = (np.arange(800) < 200).astype(float)
    floors = exact.floors(800, 20, weight)
    fewer = exact.errors(exact.sample(800, 20, "floor"))[:200]
    mean, error = fewer.mean(axis=0), fewer.std(axis=0) / np.sqrt(200)
    high = np.maximum(mean, 0) + error
    assert floors == pytest.approx((np.sqrt(high[0]), np.sqrt(high[1] / mean[2])))
    rows = exact.measure(
        exact.errors(exact.sample(800, 20, "other")),
        20,
        {},
        Replicas(np.arange(800), 0, np.random.default_rng(0), weight),
    )
    assert [row.floor for row in rows] == list(floors)


def replicas():
    return Replicas(np.arange(300), 20, np.random.default_rng(7))


def test_an_observation_that_no_truth_can_have_made_is_said():
    class Sharp(Twin):
        def log_likelihood(self, y, x):
            return np.where(np.abs(y - x).max(axis=-1) < 1, 0.0, -np.inf)

    reference = ByTruth(Sharp(), np.random.default_rng(8).uniform(-6, 6, (4000, 2)), np.zeros(4000))
    y = np.array([[0.0, 0.0], [20.0, 0.0]])
    exact = Exact(*reference.halves(), y, y, Space.of(PLANE[0], y), PLANE[0], 10, ("t",))
    with pytest.raises(ExactError, match="1 of 2 observations cannot have been made"):
        exact.sample(2, 10)


# C2ST


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(5)
    y = rng.normal(size=(300, 1))
    return y, y + 0.5 * rng.normal(size=(300, 1)), y + 0.5 * rng.normal(size=(300, 1))


def test_a_classifier_cannot_tell_exact_draws(pairs):
    y, ours, theirs = pairs
    right = correct(y, ours, theirs, ("t",))
    assert set(right) <= {0.0, 0.5, 1.0}
    # Rows of one event are not independent, but hardly more alike than independent ones.
    assert right.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(600))
    assert (right == correct(y, ours, theirs, ("t",))).all()


def test_accuracy_is_near_that_of_the_best_classifier(pairs):
    """Draws shifted by one standard deviation: the best classifier is right with probability Phi(1/2) = 0.69."""
    y, ours, theirs = pairs
    found = correct(y, ours + 0.5, theirs, ("t",)).mean()
    assert 0.69 - 0.09 < found < 0.69 + 0.06


def test_an_observation_in_both_folds_would_leak(pairs):
    """Rows that share y to all digits: an accuracy away from one half would show a fold with one of the two."""
    y, ours, _ = pairs
    assert correct(y, ours, ours, ("t",)) == pytest.approx(np.full(300, 0.5))


# whole evaluation

EXACT = """

class Known(Plane):

    def log_likelihood(self, y, x):
        return -2 * ((y - x) ** 2).sum(axis=-1)

    def exact_posterior(self, y, params, draws, pool, rng):
        mean = params["centre"] + 0.8 * (y - params["centre"])
        x = mean[:, None] + 0.2**0.5 * rng.standard_normal((len(y), draws, 2))
        return x.astype(np.float32), np.full(len(y), np.inf)


class Likely(Plane):
    log_likelihood = Known.log_likelihood
"""


def test_rows_of_a_whole_evaluation(tmp_path, monkeypatch):
    """An exact method and one with the wrong prior; a shifted and an observed family have no exact posterior."""
    import evaluated_files

    monkeypatch.setattr(evaluated_files, "SIMULATOR", evaluated_files.SIMULATOR + EXACT)
    rng = np.random.default_rng(6)
    x, y = plane(rng, 400)
    ensemble = write_ensemble(tmp_path / "e.h5", PLANE, x, y)
    blind = write_ensemble(tmp_path / "o.h5", PLANE, None, y)
    results = [["good", 0, "f"], ["bad", 0, "f"], ["good", 0, "shifted"], ["good", 0, "o"], ["short", 0, "f"]]
    posteriors = []
    for i, (infer, _, name) in enumerate(results):
        draws = plane_posterior(rng, y, 40, 1.0 if infer == "bad" else 0.0)[: 100 if infer == "short" else 400]
        path = write_posterior(tmp_path / f"{i}.p.h5", blind if name == "o" else ensemble, PLANE[0], draws)
        posteriors.append(path)
    text = job(
        tmp_path,
        "Known",
        {
            "f": {"params": {"centre": 0.0}},
            "shifted": {"params": {"centre": 0.0}, "shift": "noise"},
            "o": {"params": {"centre": 0.0}, "role": "observed"},
        },
        results,
        exact_events=300,
        c2st_events=40,
    )
    ensembles = {"f": ensemble, "shifted": ensemble, "o": blind}
    table, _, _ = run(tmp_path, text, posteriors, ensembles)
    left_out = json.loads(text)
    left_out["evaluation"]["exact_families"] = ["shifted"]
    skipped, _, _ = run(tmp_path, json.dumps(left_out), posteriors, ensembles)
    assert not any(metric in ("c2st", "posterior_mean_error") for _, _, metric in skipped)
    names = {
        "posterior_mean_error",
        "posterior_covariance_error",
        "energy_score_excess",
        "crps_excess",
        "c2st",
    }
    found = {family: {m for i, f, m in table if f == family and m in names} for family in ensembles}
    assert found == {"f": names, "shifted": set(), "o": set()}
    assert table["good", "f", "posterior_mean_error"]["n"] == "300"
    assert table["short", "f", "posterior_mean_error"]["n"] == "100"
    assert table["good", "f", "c2st"]["n"] == "40"
    value = {key: float(row["value"]) for key, row in table.items()}
    # A prior centred at 1 moves the posterior mean by 0.2, 0.45 of its standard deviation, and not its width.
    assert value["bad", "f", "posterior_mean_error"] == pytest.approx(0.2 / 0.2**0.5, rel=0.05)
    assert value["good", "f", "posterior_mean_error"] < 0.1 * value["bad", "f", "posterior_mean_error"] + 0.05
    assert value["bad", "f", "posterior_covariance_error"] < 0.1
    assert value["bad", "f", "energy_score_excess"] > 0.03 > abs(value["good", "f", "energy_score_excess"])
    assert float(table["bad", "f", "energy_score_excess"]["low"]) > 0
    assert value["bad", "f", "sbc_ks.log_likelihood"] > 0
    assert {"sbc_ks.a", "sbc_ks.b", "tarp_gap", "tarp_gap.local"} <= {m for i, f, m in table if f == "shifted"}


def test_a_whole_evaluation_against_the_reference_split(tmp_path, monkeypatch):
    """The problem gives its likelihood alone; without a reference there is nothing to compare with."""
    import evaluated_files

    monkeypatch.setattr(evaluated_files, "SIMULATOR", evaluated_files.SIMULATOR + EXACT)
    rng = np.random.default_rng(9)
    x, y = plane(rng, 400)
    ensemble = write_ensemble(tmp_path / "e.h5", PLANE, x, y)
    reference = write_ensemble(tmp_path / "r.h5", PLANE, *plane(rng, 20_000))
    results = [["good", 0, "f"], ["bad", 0, "f"], ["good", 0, "without"]]
    posteriors = [
        write_posterior(tmp_path / f"{i}.p.h5", ensemble, PLANE[0], plane_posterior(rng, y, 40, centre))
        for i, centre in enumerate((0.0, 1.0, 0.0))
    ]
    text = job(tmp_path, "Likely", {"f": {}, "without": {}}, results, exact_events=400, c2st_events=300)
    ensembles = {"f": ensemble, "without": ensemble}
    table, _, _ = run(tmp_path, text, posteriors, ensembles, {"f": reference})
    assert ("good", "without", "posterior_mean_error") not in table
    value = {key: float(row["value"]) for key, row in table.items()}
    unasked = job(tmp_path, "Likely", {"f": {}, "without": {}}, results)
    plain, _, _ = run(tmp_path, unasked, posteriors, ensembles, {"f": reference})
    assert ("good", "f", "energy_score") in plain
    assert ("good", "f", "energy_score_excess") not in plain
    # Half of the reference has 10,000 truths in 2 pi; posteriors of 2 pi 0.2: some 2,000 in the middle, tens outside.
    assert value["good", "f", "posterior_mean_error"] < 0.12
    assert value["bad", "f", "posterior_mean_error"] == pytest.approx(0.2 / 0.2**0.5, rel=0.1)
    assert abs(value["good", "f", "energy_score_excess"]) < 0.02 < value["bad", "f", "energy_score_excess"]
    # Exact draws follow their y: below the floor, as the good method's, and far below those of the bad one.
    assert (
        value["good", "f", "swd_exact"]
        == value["bad", "f", "swd_exact"]
        < float(table["good", "f", "swd_draw"]["floor"])
    )
    assert value["good", "f", "swd_draw"] < 1.5 * value["good", "f", "swd_exact"] < value["bad", "f", "swd_draw"]
    # Means 0.45 standard deviations apart in each of two directions: at best 0.5 + erf(0.63 / 2^1.5) / 2 = 0.62.
    assert value["good", "f", "c2st"] < 0.56 < value["bad", "f", "c2st"]


def test_only_a_job_that_asks_is_told_parameters():
    study = {
        "config_version": 2,
        "study": "s",
        "problems": {
            "line": {
                "kind": "gaussian",
                "families": {
                    "sweep": {
                        "role": "seen",
                        "params": {"gamma": {"uniform": [[0.1, 0.5]]}},
                        "sweep": {"ensembles": 2, "events": 8},
                    },
                    "f": {"role": "unseen", "params": {"gamma": 0.5}},
                    "noisy": {"role": "unseen", "events_from": "f", "shift": {"kind": "noise", "relative": 0.1}},
                },
                "methods": {"oracle": {"kind": "oracle"}},
            }
        },
    }

    def families(**evaluation):
        study["problems"]["line"]["evaluation"] = evaluation
        return json.loads(Plan(load_study(study)).evaluate_job("line", "oracle"))["families"]

    assert "params" not in families()["f"]
    for key in ("exact_events", "c2st_events"):
        asked = families(**{key: 100})
        assert asked["f"]["params"] == asked["noisy"]["params"] == {"gamma": 0.5}


def test_classifier_at_one_observation_at_a_time(tmp_path, monkeypatch):
    """Draws moved by 0.6 posterior standard deviations in each of two directions: Phi(0.85 / 2) = 0.66 at best."""
    import evaluated_files

    monkeypatch.setattr(evaluated_files, "SIMULATOR", evaluated_files.SIMULATOR + EXACT)
    rng = np.random.default_rng(12)
    x, y = plane(rng, 60)
    ensemble = write_ensemble(tmp_path / "e.h5", PLANE, x, y)
    exact = plane_posterior(rng, y, 200)
    draws = {"exact": exact, "moved": exact + np.float32(0.6 * 0.2**0.5)}
    files = [write_posterior(tmp_path / f"{name}.h5", ensemble, PLANE[0], each) for name, each in draws.items()]
    results = [[name, 0, "f"] for name in draws]
    text = job(tmp_path, "Known", {"f": {"params": {"centre": 0.0}}}, results, exact_events=60, c2st_events=60)
    table, _, _ = run(tmp_path, text, files, {"f": ensemble})
    rows = {name: table[name, "f", "c2st.observation"] for name in draws}
    # Ten observations of 400 rows: a standard error of 0.008, and what the classifier does not learn.
    assert float(rows["exact"]["value"]) == pytest.approx(0.5, abs=0.032)
    assert float(rows["exact"]["floor"]) == pytest.approx(0.5, abs=0.032)
    assert 0.6 < float(rows["moved"]["value"]) < 0.68
    assert rows["moved"]["n"] == "10"
