"""The bottom-line test where everything is Gaussian and linear: y = x + noise, hypotheses with other means."""

import csv
import json

import numpy as np
import pytest
from evaluated_files import NOISE, PLANE, job, plane, plane_posterior, write_ensemble, write_posterior
from scipy.stats import norm

from pullback.ensembles.store import EnsembleReader
from pullback.ensembles.unfolded import Bins, Unfolded, write_unfolded
from pullback.metrics.bottom_line import ratio
from pullback.metrics.contents import ChiSquared
from pullback.metrics.evaluate import evaluate

N, SHIFT = 8000, 0.3


def noncentrality(edges, deviation, shift):
    """Of shares of two sets of N events from N(0, deviation) and N(shift, deviation)."""
    p, q = (np.diff(norm.cdf(edges, mean, deviation)) for mean in (0.0, shift))
    p, q = p / p.sum(), q / q.sum()
    covariance = sum(np.diag(s) - np.outer(s, s) for s in (p, q)) / N
    return (p - q) @ np.linalg.pinv(covariance, hermitian=True) @ (p - q)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of a family: exact draws, and bins unfolded by the inverse response with the right covariance."""
    folder = tmp_path_factory.mktemp("bottom-line")
    rng = np.random.default_rng(0)
    ensembles = {}
    for name, centre in (("own", 0.0), ("near", SHIFT), ("far", 1.0), ("same", 0.0)):
        ensembles[name] = write_ensemble(folder / f"{name}.h5", PLANE, *plane(rng, N, centre))
    with EnsembleReader(ensembles["own"]) as reader:
        y = reader.read("y")
        draws = write_posterior(folder / "p.h5", ensembles["own"], PLANE[0], plane_posterior(rng, y, 4))
        bins = {name: unfolded_by_inversion(rng, y[:, j]) for j, name in enumerate("ab")}
        write_unfolded(folder / "u.h5", Unfolded(bins=bins), PLANE[0], reader, "{}", {"seconds": 1.0}, {})
    text = json.loads(job(folder, "Plane", {name: {} for name in ensembles}, [["i", 0, "own"]]))
    text["unfolded"] = [["i", 0, "own"]]
    outputs = [folder / name for name in ("metrics.csv", "cost.csv", "examples.h5")]
    evaluate(json.dumps(text), [draws], ensembles, {}, [], *outputs, unfolded=[folder / "u.h5"])
    with open(outputs[0], newline="") as file:
        found = [row for row in csv.DictReader(file) if row["metric"].startswith("bottom_line")]
    return {row["metric"]: {name: float(row[name]) for name in ("value", "low", "high")} for row in found}


EDGES = np.array([-3.0, -0.8, 0.0, 0.8, 3.0])


def unfolded_by_inversion(rng, y):
    """Contents R^-1 y of four bins with R^-1 C R^-T, the response from events of their own."""
    x = rng.standard_normal(400_000)
    response = np.histogram2d(x + NOISE * rng.standard_normal(len(x)), x, bins=EDGES)[0] / np.histogram(x, EDGES)[0]
    inverse, data = np.linalg.inv(response), np.histogram(y, EDGES)[0].astype(float)
    return Bins(EDGES, inverse @ data, inverse @ np.diag(data) @ inverse.T)


def test_draws_of_an_exact_posterior_take_the_prior_for_data(rows):
    """Their shares scatter as those of truths do, and not as much as observations know: N shift^2 for N shift^2 / 1.25.

    The nearest family that is told apart is `near`; `same` has the same prior.
    """
    deciles = np.concatenate([[-4.5], norm.ppf(np.linspace(0.1, 0.9, 9)), [4.5]])
    spread = np.sqrt(1 + NOISE**2)
    twentieths = spread * np.concatenate([[-4.5], norm.ppf(np.linspace(0.05, 0.95, 19)), [4.5]])
    after, before = 2 * noncentrality(deciles, 1.0, SHIFT), 2 * noncentrality(twentieths, spread, SHIFT)
    assert 1.15 < after / before < 1.25  # 1.25 but for what ten bins lose
    found = rows["bottom_line_draw"]
    # Deviations of noncentral chi^2 with 18 and 38 degrees of freedom.
    error = np.hypot(np.sqrt(2 * (18 + 2 * after)) / after, np.sqrt(2 * (38 + 2 * before)) / before)
    assert abs(found["value"] / (after / before) - 1) < 4 * error
    assert (found["high"] - found["low"]) / 2 / 1.96 == pytest.approx(error * after / before, rel=0.2)


def test_an_unfolding_with_the_right_covariance_stays_below_one(rows):
    found = rows["bottom_line_unfolded"]
    # One of two features, whose separation the other doubles before unfolding: one half, but for what four bins lose.
    assert 0.3 < found["value"] < 0.6
    assert found["low"] < found["value"] < found["high"] < 1


def test_ratio_of_noncentralities_and_its_error_by_simulation():
    rng = np.random.default_rng(1)
    up, down = 120.0, 150.0
    drawn = [rng.noncentral_chisquare(k, nc, 20_000) - k for k, nc in ((9, up), (19, down))]
    value, error = ratio(*(ChiSquared(nc + k, k, np.eye(1)) for k, nc in ((9, up), (19, down))))
    assert value == pytest.approx(up / down)
    # To first order: the second is (relative error)^2 = 3 %.
    assert error == pytest.approx((drawn[0] / drawn[1]).std(), rel=0.1)
