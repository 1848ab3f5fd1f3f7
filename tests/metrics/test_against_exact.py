"""Posteriors against the exact one: a linear Gaussian problem whose posterior is known in closed form."""

import json

import numpy as np
import pytest
from judged_files import PLANE, job, plane, plane_posterior, write_ensemble, write_posterior
from test_evaluate import run

from pullback.ensembles.fields import Field
from pullback.metrics.bootstrap import Replicas
from pullback.metrics.c2st import correct, features
from pullback.metrics.calibration import SortedDraws
from pullback.metrics.draws import Space, wrap
from pullback.metrics.energy import energy_score
from pullback.metrics.exact import Exact, moments, unweighted
from pullback.study import load_study
from pullback.study.plan import Plan

COVARIANCE = np.array([[0.5, 0.3], [0.3, 0.4]])


class Linear:
    """p(x|y) = N(y, COVARIANCE); `pairs` says that the pool's effective size is given too."""

    gives = frozenset({"exact-posterior"})
    pairs = False

    def exact_posterior(self, y, params, draws, pool, rng):
        x = y[:, None] + rng.multivariate_normal([0, 0], params["scale"] * COVARIANCE, (len(y), draws))
        return (x.astype(np.float32), np.ones(len(y))) if self.pairs else x.astype(np.float32)


def family(n, draws=300, pairs=False):
    rng = np.random.default_rng(0)
    y = 2 * rng.normal(size=(n, 2))
    truth = y + rng.multivariate_normal([0, 0], COVARIANCE, n)
    problem = Linear()
    problem.pairs = pairs
    space = Space.of(PLANE[0], truth)
    return Exact(problem, {"scale": 1.0}, y, truth, space, PLANE[0], draws, 100, ("t",)), y, truth


def answer(exact, y, truth, draws, shift=0.0, covariance=COVARIANCE, seed=1):
    """The rows of draws from N(y + shift, covariance), by name."""
    rng = np.random.default_rng(seed)
    x = y[:, None] + shift + rng.multivariate_normal([0, 0], covariance, (len(y), draws))
    judged = unweighted(x)
    space = exact.space
    scores = {"energy_score": energy_score(judged, truth, space)}
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
        gives = frozenset({"exact-posterior"})

        def exact_posterior(self, y, params, draws, pool, rng):
            return rng.normal(size=(len(y), draws, 1))

    truth = rng.normal(size=(n, 1))
    field = Field.vector("x", ("a",), "m")
    space = Space.of(field, truth)
    exact = Exact(Line(), {}, np.zeros((n, 1)), truth, space, field, 100, 100, ("t",))
    judged = unweighted(s * rng.normal(size=(n, 100, 1)))
    crps = SortedDraws(judged, space).crps(truth, truth)[:, 0]
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
        weighted = unweighted(x)._replace(weight=np.full(x.shape[:2], 1 / draws))
        again = moments(weighted, np.zeros((10_000, 2)), np.ones(2), space)
        assert again.covariance == pytest.approx(found.covariance)
        assert again.size == pytest.approx(found.size)


def test_angles_have_no_edge():
    field = Field.vector("x", ("phi",), "rad", transforms=("periodic",))
    rng = np.random.default_rng(4)

    class Around:
        gives = frozenset({"exact-posterior"})

        def exact_posterior(self, y, params, draws, pool, rng):
            return wrap(np.pi + 0.3 * rng.normal(size=(len(y), draws, 1)))

    truth = wrap(np.pi + 0.3 * rng.normal(size=(400, 1)))
    exact = Exact(Around(), {}, np.zeros((400, 1)), truth, Space.of(field, truth), field, 300, 100, ("t",))
    judged = unweighted(wrap(np.pi + 0.15 + 0.3 * rng.normal(size=(400, 100, 1))))
    rows = exact.measure(exact.errors(judged), 100, {}, Replicas(np.arange(400), 20, rng))
    assert rows[0].value == pytest.approx(0.5, rel=0.05)
    assert features(np.full((3, 1), np.pi), field) == pytest.approx(np.tile([0.0, -1.0], (3, 1)), abs=1e-6)


def test_the_effective_size_beside_the_draws_is_no_draw():
    plain, *_ = family(300)
    pairs, *_ = family(300, pairs=True)
    assert (plain.first.x == pairs.first.x).all()


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
    gives = frozenset({"pairs", "prior", "forward", "likelihood", "exact-posterior"})

    def log_likelihood(self, y, x):
        return -2 * ((y - x) ** 2).sum(axis=-1)

    def exact_posterior(self, y, params, draws, pool, rng):
        mean = params["centre"] + 0.8 * (y - params["centre"])
        return (mean[:, None] + 0.2**0.5 * rng.standard_normal((len(y), draws, 2))).astype(np.float32)
"""


def test_rows_of_a_whole_evaluation(tmp_path, monkeypatch):
    """An exact method and one with the wrong prior; a shifted and an observed family have no exact posterior."""
    import judged_files

    monkeypatch.setattr(judged_files, "SIMULATOR", judged_files.SIMULATOR + EXACT)
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
    left_out["judging"]["exact_families"] = ["shifted"]
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


def test_only_a_job_that_asks_is_told_parameters():
    study = {
        "config_version": 1,
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
                    "noisy": {"role": "unseen", "take": {"family": "f"}, "shift": {"kind": "noise", "relative": 0.1}},
                },
                "methods": {"oracle": {"kind": "oracle"}},
            }
        },
    }

    def families(**judging):
        study["problems"]["line"]["judging"] = judging
        return json.loads(Plan(load_study(study)).evaluate_job("line", "oracle"))["families"]

    assert "params" not in families()["f"]
    for key in ("exact_events", "c2st_events"):
        asked = families(**{key: 100})
        assert asked["f"]["params"] == asked["noisy"]["params"] == {"gamma": 0.5}
