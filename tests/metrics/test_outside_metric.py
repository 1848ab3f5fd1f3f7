"""Metrics of the user's own: rows of the table and words of the report, without a change in the package."""

import numpy as np
import pytest
from evaluated_files import PLANE, job, plane, plane_posterior, write_ensemble, write_posterior
from test_evaluate import run

from pullback import registry
from pullback.metrics.metric import Metric, built_in, load_metrics, words

OWN = """
import numpy as np
from pullback.metrics import Metric


def worst(sample):
    return np.abs(sample.space.difference(sample.one, sample.truth)).max(axis=1)


def both(sample):
    share = sample.vote.max(axis=1)
    return {"largest_vote": (share, "1"), "largest_vote.percent": (100 * share, "%")}


def gap(sample):
    return np.abs(np.average(sample.one[:, 0], weights=sample.event_weight) - sample.truth[:, 0].mean())


WORST = Metric("worst", "Largest error of a component", "of one draw", "lower", unit="m", compute=worst)
VOTE = Metric("largest_vote", "Largest vote", "of a draw", compute=both, needs_truth=False)
GAP = Metric("mean_gap", "Gap of means", "of the first feature", "lower", unit="m", compute=gap, of_set=True)
NOTHING = 3
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    (folder / "own.py").write_text(OWN)
    rng = np.random.default_rng(0)
    x, y = plane(rng, 400)
    ensembles = {"in": write_ensemble(folder / "in.h5", PLANE, x, y, np.arange(400) // 2)}
    references = {"in": write_ensemble(folder / "ref.h5", PLANE, *plane(rng, 400))}
    draws = plane_posterior(rng, y, 12)
    posterior = write_posterior(folder / "p.h5", ensembles["in"], PLANE[0], draws)
    text = job(folder, "Plane", {"in": {}}, [["d", 0, "in"]],
               metrics=["./own.py:WORST", "./own.py:VOTE", "./own.py:GAP"])  # fmt: skip
    found, *_ = run(folder, text, [posterior], ensembles, references)
    return {metric: row for (_, _, metric), row in found.items()}, draws, x, references["in"], folder


def test_scores_of_events_become_a_mean_with_an_interval(table):
    rows, draws, x, _, _ = table
    row = rows["worst"]
    assert float(row["value"]) == pytest.approx(np.abs(draws[:, 0] - x).max(axis=1).mean(), rel=1e-6)
    assert float(row["low"]) < float(row["value"]) < float(row["high"])
    assert (row["unit"], row["n"], row["floor"]) == ("m", "400", "")


def test_several_rows_come_from_one_function(table):
    rows, *_ = table
    assert float(rows["largest_vote"]["value"]) == pytest.approx(1 / 12)
    assert float(rows["largest_vote.percent"]["value"]) == pytest.approx(100 / 12)
    assert rows["largest_vote.percent"]["unit"] == "%"


def test_a_number_of_a_set_has_a_floor_from_independent_truths(table):
    rows, draws, x, reference, _ = table
    from pullback.ensembles.store import EnsembleReader

    with EnsembleReader(reference) as reader:
        other = reader.read("x")[:, 0].mean(dtype=float)
    row = rows["mean_gap"]
    assert float(row["value"]) == pytest.approx(abs(draws[:, 0, 0].mean() - x[:, 0].mean()), rel=1e-4)
    assert float(row["floor"]) == pytest.approx(abs(other - x[:, 0].mean()), rel=1e-4)
    assert 0 <= float(row["low"]) <= float(row["value"]) <= float(row["high"])


def test_the_report_has_its_words(table):
    *_, folder = table
    load_metrics(["./own.py:WORST"], folder)
    found = words("worst")
    assert (found.title, found.better, found.description) == ("Largest error of a component", "lower", "of one draw")
    assert words("worst.a").title == "Largest error of a component (a)"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("./own.py:NOTHING", "of type int, wanted a pullback.metrics.Metric"),
        ("./own.py:MISSING", "holds no 'MISSING'"),
        ("./other.py:WORST", "there is no file"),
        ("energy_scor", "did you mean 'energy_score'"),
    ],
)
def test_what_is_no_metric_is_an_error(table, kind, message):
    *_, folder = table
    with pytest.raises(registry.KindError, match=message):
        load_metrics([kind], folder)


def test_built_in_metrics_are_registered_under_their_names():
    assert [metric.name for metric in built_in()] == list(registry.BUILT_IN["metrics"])
    for metric in built_in():
        assert isinstance(metric, Metric)
        assert metric.compute is None or metric.measure is None
        assert metric.better in ("lower", "higher", "target", "")
