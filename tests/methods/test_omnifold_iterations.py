"""OmniFold's iteration beside the published algorithm, iterative Bayesian unfolding and closed forms.

Classifiers are exact here: a ratio of histograms, a formula. `test_omnifold` is about trained ones.
"""

from typing import Any

import numpy as np
import pytest

from pullback.methods.unfolding.omnifold_iterations import (
    OmnifoldError,
    Ratio,
    Sample,
    Simulation,
    auc,
    closure,
    omnifold,
    start,
)

EDGES = np.linspace(-1.5, 2.5, 8)


def exact(first: Sample, second: Sample, log_ratio: Any) -> Ratio:
    """A ratio that a function of values (event, feature) gives; every event counts as held out."""

    def rows(values: np.ndarray) -> np.ndarray:
        return np.atleast_2d(log_ratio(values))

    ours, theirs = rows(first.values), rows(second.values)
    return Ratio(ours, theirs, (np.ones(ours.shape, bool), np.ones(theirs.shape, bool)), rows)


def bin_of(values: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(EDGES, values[:, 0]), 0, len(EDGES))


def counts(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.bincount(bin_of(values), weight, len(EDGES) + 1)


def histograms(step: str, iteration: int, first: Sample, second: Sample) -> Ratio:
    """The exact ratio in bins."""
    shapes = [counts(*sample) / sample.weight.sum() for sample in (first, second)]
    with np.errstate(divide="ignore", invalid="ignore"):
        table = np.log(shapes[0] / shapes[1])
    return exact(first, second, lambda values: table[bin_of(values)])


def toy(rng: np.random.Generator, n: int = 4000, mean: float = 0.0, signed: bool = False) -> Simulation:
    """Pairs, misses and fakes; values where there is none are NaN."""
    x = rng.normal(mean, 1.0, (n, 1))
    y = x + 0.5 * rng.normal(size=x.shape)
    has_y = rng.random(n) < 0.5 + 0.4 / (1 + np.exp(-x[:, 0]))
    fake = rng.random(n) < 0.1
    y[fake] = rng.normal(-1.0, 0.7, (fake.sum(), 1))
    has_y |= fake
    x[fake], y[~has_y] = np.nan, np.nan
    weight = rng.uniform(0.5, 1.5, n)
    if signed:
        weight *= np.where(rng.random(n) < 0.15, -1, 1)
    return Simulation(x, y, ~fake, has_y, weight)


def only_pairs(simulation: Simulation) -> Simulation:
    return Simulation(*(part[simulation.has_x & simulation.has_y] for part in simulation))


def observed(simulation: Simulation) -> Sample:
    return Sample(simulation.y[simulation.has_y], simulation.weight[simulation.has_y])


def the_package(simulation: Simulation, data: Sample, log_ratio: Any, iterations: int) -> list[np.ndarray]:
    """The NumPy core of the package omnifold 0.1.36, `Unfold` with `RunStep1` and `RunStep2`, written anew.

    ``log_ratio(step, iteration, first, second)`` stands for the trained network: a function that gives its logits, with
    classes as they are (the package does not scale them).
    """
    push = np.ones(len(simulation.weight))
    pushes = []
    for iteration in range(1, iterations + 1):
        simulated = Sample(simulation.y, push * simulation.weight)
        score = 1 / (1 + np.exp(-log_ratio("observations", iteration, data, simulated)(simulation.y)))
        pull = push * score / (1 - score)
        truths = Sample(simulation.x, simulation.weight * pull), Sample(simulation.x, simulation.weight)
        score = 1 / (1 + np.exp(-log_ratio("truths", iteration, *truths)(simulation.x)))
        push = score / (1 - score)
        pushes.append(push)
    return pushes


def the_paper(simulation: Simulation, data: Sample, log_ratio: Any, iterations: int) -> list[np.ndarray]:
    """Equations 5 and 6 of arXiv 1911.09107, with nu and omega as printed; both of unit generator weights there.

    omega_n(m) = nu_{n-1}(m) L[(1, data), (nu_{n-1}, sim)](m); nu_n(t) = nu_{n-1}(t) L[(omega_n, gen), (nu_{n-1},
    gen)](t). Generator weights multiply nu and omega wherever a sample is made of them.
    """
    nu = np.ones(len(simulation.weight))
    found = []
    for iteration in range(1, iterations + 1):
        w = simulation.weight
        omega = nu * np.exp(log_ratio("observations", iteration, data, Sample(simulation.y, w * nu))(simulation.y))
        both = Sample(simulation.x, w * omega), Sample(simulation.x, w * nu)
        nu = nu * np.exp(log_ratio("truths", iteration, *both)(simulation.x))
        found.append(nu)
    return found


def binned(step: str, iteration: int, first: Sample, second: Sample) -> Any:
    """Logits of the best classifier that sees bins only."""
    with np.errstate(divide="ignore", invalid="ignore"):
        table = np.log(counts(*first) / counts(*second))
    return lambda values: table[bin_of(values)]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("published", [the_package, the_paper])
def test_the_published_algorithm_for_equal_scores(published, signed):
    rng = np.random.default_rng(1)
    simulation = only_pairs(toy(rng, signed=signed))
    data = observed(only_pairs(toy(rng, mean=0.6)))
    theirs = published(simulation, data, binned, 4)
    for ours, push in zip(omnifold(simulation, *data, histograms, 4), theirs, strict=True):
        np.testing.assert_allclose(ours.push, push, rtol=1e-10)


def formula(step: str, iteration: int, first: Sample, second: Sample) -> Any:
    """A fixed function in place of a trained network."""
    slope = 0.6 / iteration if step == "observations" else 0.9 - 0.2 / iteration
    return lambda values: slope * values[:, 0] - 0.1 * values[:, 0] ** 2


def test_the_packages_weights_for_a_fixed_score_function():
    """Its weights carry no normalisation of their own: they are compared with mean 1."""
    rng = np.random.default_rng(2)
    simulation = only_pairs(toy(rng))
    data = observed(only_pairs(toy(rng, mean=0.6)))

    def classifier(step, iteration, first, second):
        return exact(first, second, formula(step, iteration, first, second))

    theirs = the_package(simulation, data, formula, 3)
    for ours, push in zip(omnifold(simulation, *data, classifier, 3), theirs, strict=True):
        np.testing.assert_allclose(ours.push / ours.push.mean(), push / push.mean(), rtol=1e-5)


def bayes(simulation: Simulation, data: Sample, iterations: int) -> list[np.ndarray]:
    """Iterative Bayesian unfolding in bins with efficiency (D'Agostini 1995, eqs. 3 and 4) and background.

    Background is as large for each truth as in the simulation; contents are scaled to the sum of the data.
    """
    bins = len(EDGES) + 1
    joint, prior = np.zeros((bins, bins)), np.zeros(bins)
    pairs, truths, seen = (simulation.has_x & simulation.has_y, simulation.has_x, simulation.has_y)
    np.add.at(joint, (bin_of(simulation.y[pairs]), bin_of(simulation.x[pairs])), simulation.weight[pairs])
    np.add.at(prior, bin_of(simulation.x[truths]), simulation.weight[truths])
    response = joint / prior
    background = counts(simulation.y[seen & ~truths], simulation.weight[seen & ~truths]) / prior.sum()
    efficiency, measured = response.sum(axis=0), counts(*data)
    content, found = prior.copy(), []
    for _ in range(iterations):
        folded = response @ content + background * content.sum()
        content = content / efficiency * (response.T @ (measured / folded))
        folded = response @ content + background * content.sum()
        content *= measured.sum() / folded.sum()
        found.append(content)
    return found


@pytest.mark.parametrize("signed", [False, True])
def test_in_bins_it_is_bayesian_unfolding_with_efficiency_and_background(signed):
    rng = np.random.default_rng(3)
    simulation, data = toy(rng, 20_000, signed=signed), observed(toy(rng, 20_000, 0.6))
    has_x = simulation.has_x
    misses, fakes = has_x & ~simulation.has_y, ~has_x
    for ours, theirs in zip(omnifold(simulation, *data, histograms, 5), bayes(simulation, data, 5), strict=True):
        weight = simulation.weight * ours.push
        np.testing.assert_allclose(counts(simulation.x[has_x], weight[has_x]), theirs, rtol=1e-10)
        np.testing.assert_array_equal(ours.pull[misses], ours.push[misses])
        assert np.ptp(ours.push[fakes]) == 0
        assert weight[simulation.has_y].sum() == pytest.approx(data.weight.sum(), rel=1e-12)


def test_the_exact_ratio_converges_to_the_truth():
    """x ~ N(0, 1) and N(1, 1), y = x + s eps: log push is a polynomial a x^2 + b x, followed in closed form.

    With v = s^2, push = exp(a x^2 + b x) makes x Gaussian of precision 1 - 2a and mean b / (1 - 2a); log r(y) is the
    difference of two Gaussian log densities, A y^2 + B y; and E[exp(A y^2 + B y) | x] = exp((A x^2 + B x) / (1 - 2 A
    v) + constant), for y given x is N(x, v).
    """
    v = 0.25
    a, b = [0.0], [0.0]
    steps = []
    for _ in range(6):
        variance, mean = 1 / (1 - 2 * a[-1]), b[-1] / (1 - 2 * a[-1])
        A = 0.5 / (variance + v) - 0.5 / (1 + v)
        B = 1 / (1 + v) - mean / (variance + v)
        steps.append((A, B))
        a.append(a[-1] + A / (1 - 2 * A * v))
        b.append(b[-1] + B / (1 - 2 * A * v))

    def classifier(step, iteration, first, second):
        A, B = steps[iteration - 1] if step == "observations" else (a[iteration], b[iteration])
        return exact(first, second, lambda values: A * values[:, 0] ** 2 + B * values[:, 0])

    rng = np.random.default_rng(4)
    n = 50_000
    x = rng.normal(size=(n, 1))
    data = rng.normal(1, np.sqrt(1 + v), (n, 1))
    both = np.ones(n, bool)
    simulation = Simulation(x, x + v**0.5 * rng.normal(size=x.shape), both, both, np.ones(n))
    means = [np.average(x[:, 0], weights=step.push) for step in omnifold(simulation, data, None, classifier, 6)]
    # The variance of the weighted mean is E[w^2 (x - 1)^2] / n = 2 e / n.
    error = np.sqrt(2 * np.e / n)
    expected = np.array([q / (1 - 2 * p) for p, q in zip(a[1:], b[1:], strict=True)])
    np.testing.assert_allclose(means, expected, atol=4 * error)
    # The distance from the truth shrinks by about v / (1 + v) = 1/5 in an iteration.
    assert expected[0] == pytest.approx(0.8)
    assert abs(expected[-1] - 1) < 1e-3


def test_efficiency_and_fakes_are_recovered(monkeypatch):
    """Another truth than the simulation's; bins are narrow, so that the response does not depend on it."""
    monkeypatch.setitem(globals(), "EDGES", np.linspace(-2.5, 3.5, 21))
    rng = np.random.default_rng(5)
    simulation, unknown = toy(rng, 15_000), toy(rng, 15_000, mean=0.5)
    data, truths = observed(unknown), unknown.weight[unknown.has_x].sum()
    pairs = unknown.weight[unknown.has_x & unknown.has_y].sum()
    expected = np.array([pairs / truths, pairs / data.weight.sum(), truths])

    def unfolded(weight: np.ndarray) -> np.ndarray:
        *_, last = omnifold(simulation, data.values, weight, histograms, 8)
        number = (simulation.weight * last.push)[simulation.has_x].sum()
        return np.array([last.diagnostics["efficiency"], last.diagnostics["purity"], number])

    found = unfolded(data.weight)
    spread = np.std([unfolded(data.weight * rng.poisson(1.0, len(data.weight))) for _ in range(5)], axis=0, ddof=1)
    # The simulation is as large as the data: its fakes and its efficiency are as uncertain, (1 - p) p / n each.
    n = len(simulation.weight)
    of_simulation = np.sqrt(expected[:2] * (1 - expected[:2]) / n)
    error = np.hypot(spread, [*of_simulation, truths * np.hypot(*(of_simulation / expected[:2]))])
    assert np.all(np.abs(found - expected) < 3 * error), (found, expected, error)
    efficiency = simulation.has_y[simulation.has_x].mean()
    assert abs(efficiency - expected[0]) > 5 * error[0]


def test_clipped_ratios_are_counted():
    rng = np.random.default_rng(6)
    simulation, data = only_pairs(toy(rng)), observed(only_pairs(toy(rng, mean=0.6)))

    def classifier(step, iteration, first, second):
        return exact(first, second, lambda values: np.where(values[:, 0] > 1, 7.0, 0.0))

    (only,) = omnifold(simulation, *data, classifier, 1, clip=2.0)
    share = np.mean([(simulation.y > 1).mean(), (simulation.x > 1).mean()])
    assert only.diagnostics["clipped"] == pytest.approx(share)
    np.testing.assert_allclose(only.push.max() / only.push.min(), np.exp(2))


def test_diagnostics_of_weights():
    rng = np.random.default_rng(7)
    simulation, data = toy(rng), observed(toy(rng, mean=0.6))
    *_, before, last = omnifold(simulation, *data, histograms, 3)
    w, v = ((simulation.weight * each.push)[simulation.has_x] for each in (last, before))
    assert last.diagnostics["ess"] == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert last.diagnostics["max_over_mean"] == pytest.approx(w.max() / w.mean())
    assert last.diagnostics["change"] == pytest.approx(np.abs(w / w.sum() - v / v.sum()).sum() / 2)
    assert "spread" not in last.diagnostics


def test_several_classifiers_are_averaged_and_compared():
    rng = np.random.default_rng(8)
    simulation, data = only_pairs(toy(rng)), observed(only_pairs(toy(rng, mean=0.6)))

    def classifier(step, iteration, first, second):
        return exact(first, second, lambda values: np.stack([0.1 * values[:, 0], 0.3 * values[:, 0]]))

    (only,) = omnifold(simulation, *data, classifier, 1)
    expected = np.exp(0.2 * simulation.x[:, 0])
    np.testing.assert_allclose(only.push / only.push.mean(), expected / expected.mean())
    # Two values a and b: standard deviation |a - b| / sqrt(2), over their mean.
    relative = np.sqrt(2) * np.abs(np.tanh(0.1 * simulation.x[:, 0]))
    weighted = np.average(relative, weights=simulation.weight * only.push)
    assert only.diagnostics["spread"] == pytest.approx(weighted)


def test_the_area_under_the_curve_is_that_of_all_pairs():
    rng = np.random.default_rng(9)
    ours, theirs = rng.normal(0.4, 1, 300).round(1), rng.normal(0, 1, 200).round(1)
    w, v = rng.random(300), rng.random(200) - 0.2
    a, b = rng.random(300) < 0.5, rng.random(200) < 0.5
    ratio = Ratio(ours[None], theirs[None], (a[None], b[None]), lambda values: values)
    found = auc(ratio, Sample(ours[:, None], w), Sample(theirs[:, None], v))
    above = (ours[a, None] > theirs[b]) + 0.5 * (ours[a, None] == theirs[b])
    assert found == pytest.approx(w[a] @ above @ v[b] / (w[a].sum() * v[b].sum()))


def test_closure_is_a_half_where_the_simulation_is_the_data():
    simulation = toy(np.random.default_rng(10))
    assert closure(simulation, observed(simulation), histograms, start(simulation)) == pytest.approx(0.5)


def broken(what: str) -> tuple[Simulation, Sample]:
    rng = np.random.default_rng(11)
    simulation, data = toy(rng, 50), observed(toy(rng, 50))
    nan = np.full_like(data.weight, 1.0)
    nan[3] = np.nan
    truthless = simulation._replace(x=np.full_like(simulation.x, np.nan))
    nowhere = simulation._replace(has_x=np.zeros(50, bool), has_y=np.zeros(50, bool))
    return {
        "no data": (simulation, Sample(np.empty((0, 1)), np.empty(0))),
        "data weights": (simulation, data._replace(weight=0 * data.weight)),
        "generator weights": (simulation._replace(weight=np.zeros(50)), data),
        "NaN in data": (simulation, data._replace(values=np.full_like(data.values, np.nan))),
        "NaN weight": (simulation, data._replace(weight=nan)),
        "NaN in truths": (truthless, data),
        "lengths": (simulation._replace(weight=np.ones(49)), data),
        "data lengths": (simulation, data._replace(weight=np.ones(3))),
        "nowhere": (nowhere, data),
        "no pairs": (simulation._replace(has_x=~simulation.has_y), data),
        "negative": (simulation._replace(weight=-simulation.weight), data),
    }[what]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no data", "there are no data"),
        ("data weights", "^data: .* sum to 0, wanted more than 0"),
        ("generator weights", r"observations of the simulation: \d+ weights sum to 0"),
        ("NaN in data", "data: .* values are not finite"),
        ("NaN weight", "data: 1 weights are not finite"),
        ("NaN in truths", r"truths of the simulation: \d+ values are not finite"),
        ("lengths", "x has 50 events, weight 49"),
        ("data lengths", "3 weights"),
        ("nowhere", "neither a truth nor an observation"),
        ("no pairs", "pairs of the simulation: 0 weights sum to 0"),
        ("negative", "sum to -.*, wanted more than 0"),
    ],
)
def test_what_cannot_be_unfolded_is_refused(what, message):
    with pytest.raises(OmnifoldError, match=message):
        list(omnifold(broken(what)[0], *broken(what)[1], histograms, 1))


def test_ratios_that_are_not_finite_are_refused():
    rng = np.random.default_rng(12)
    simulation, data = only_pairs(toy(rng)), observed(toy(rng))

    def classifier(step, iteration, first, second):
        return exact(first, second, lambda values: np.where(values[:, 0] > 1, np.nan, 0.0))

    with pytest.raises(OmnifoldError, match="ratios that are not finite: its training diverged"):
        list(omnifold(simulation, *data, classifier, 1))
