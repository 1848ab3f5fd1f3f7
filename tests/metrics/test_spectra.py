"""Rows of spectra of posteriors and of unfolded distributions, through the evaluation of a study."""

import csv
import json

import h5py
import numpy as np
import pytest
from evaluated_files import NOISE, PLANE, job, plane, plane_posterior, write_ensemble, write_posterior
from scipy.special import expit

from pullback.ensembles.acceptance import Missed
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.ensembles.unfolded import Bins, Unfolded, UnfoldedReader, write_unfolded
from pullback.metrics.case import Case, EvaluationError
from pullback.metrics.contents import QUANTILE_BINS, quantile_edges
from pullback.metrics.evaluate import evaluate
from pullback.metrics.migration import write_migration
from pullback.metrics.unfolding import judge
from pullback.problems.base import problem_of

BINS = {"a": [-2.0, -1.0, -0.3, 0.3, 1.0, 2.0]}
N = 3000


def judged(folder, posteriors, ensembles, references, unfolded=(), role="unseen", **evaluation):
    """Rows by (family, metric) of one inference of each family."""
    families = list(ensembles)
    results = [["i", 0, name] for name in families[: len(posteriors)]]
    text = json.loads(job(folder, "Plane", {name: {"role": role} for name in families}, results, **evaluation))
    text["unfolded"] = [["i", 0, name] for name in families[: len(unfolded)]]
    outputs = [folder / name for name in ("metrics.csv", "cost.csv", "examples.h5")]
    evaluate(json.dumps(text), list(posteriors), ensembles, references, [], *outputs, unfolded=list(unfolded))
    with open(outputs[0], newline="") as file:
        return {(row["family"], row["metric"]): row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A family whose draws are exact, one whose draws come from another prior; both with independent truths."""
    folder = tmp_path_factory.mktemp("spectra")
    rng = np.random.default_rng(0)
    ensembles, references, posteriors = {}, {}, []
    for name, centre in (("in", 0.0), ("out", 1.0)):
        x, y = plane(rng, N, centre)
        ensembles[name] = write_ensemble(folder / f"{name}.h5", PLANE, x, y, np.arange(N) // 3)
        references[name] = write_ensemble(folder / f"{name}-ref.h5", PLANE, *plane(rng, N, centre))
        draws = plane_posterior(rng, y, 8)
        posteriors.append(write_posterior(folder / f"{name}.p.h5", ensembles[name], PLANE[0], draws))
    return folder, ensembles, references, posteriors


def test_exact_draws_differ_from_the_truth_by_statistics_alone(files):
    folder, ensembles, references, posteriors = files
    table = judged(folder, posteriors, ensembles, references, bins=BINS)
    value = {key: float(row["value"]) for key, row in table.items()}
    for metric, dof in (("chi2_draw.a", 4), ("chi2_draw.b", 9), ("chi2_draw", 13)):
        row = metric.replace("chi2_", "chi2_dof_")
        assert value["in", row] == dof
        # Mean 1 and variance 2 / dof, of the draws and of the floor.
        assert abs(value["in", metric] - 1) < 4 * np.sqrt(2 / dof)
        assert abs(float(table["in", metric]["floor"]) - 1) < 4 * np.sqrt(2 / dof)
        assert float(table["out", metric]["low"]) > 2
    # Of n independent truths in k bins D is chi^2 / (2 n), mean (k - 1) / (2 n) and deviation sqrt(2 (k - 1)) / (2 n);
    # pairs of draw and truth have less.
    most = 1000 * (9 + 4 * np.sqrt(18)) / (2 * N)
    assert value["in", "triangular_draw.b"] < most
    assert float(table["in", "triangular_draw.b"]["floor"]) < most
    assert float(table["out", "triangular_draw.b"]["low"]) > float(table["out", "triangular_draw.b"]["floor"])
    assert table["in", "triangular_draw.a"]["unit"] == "1e-3"
    # Draws of another centre are shifted by 0.2, known to sqrt(0.4 / N); the injected mean is the truth's.
    for family, shift, centre in (("in", 0.0, 0.0), ("out", -0.2, 1.0)):
        row = table[family, "mean_bias_draw.a"]
        assert abs(value[family, "mean_bias_draw.a"] - shift) < 4 * np.sqrt(0.4 / N)
        assert float(row["low"]) < float(row["value"]) < float(row["high"])
        assert abs(value[family, "injected_mean_draw.a"] - centre) < 4 / np.sqrt(N)
    assert not [metric for _, metric in table if metric.startswith("chi2_counts")]


def test_weighted_draws_have_rows_of_their_own(files, tmp_path):
    """Draws of the wrong prior with weights p(x) / p'(x) have the right spectrum."""
    _, ensembles, references, _ = files
    with EnsembleReader(ensembles["out"]) as reader:
        draws = plane_posterior(np.random.default_rng(1), reader.read("y"), 30)
    log_weight = draws.astype(np.float64).sum(axis=2)  # N(1, 1) over N(0, 1): exp(a + b), up to a factor
    answer = write_posterior(tmp_path / "w.p.h5", ensembles["out"], PLANE[0], draws, log_weight)
    table = judged(tmp_path, [answer], {"out": ensembles["out"]}, {"out": references["out"]}, bins=BINS)
    for metric in ("chi2_draw.a", "chi2_weighted.a"):
        assert abs(float(table["out", metric]["value"]) - 1) < 5 * np.sqrt(2 / 4)
    assert float(table["out", "triangular_weighted.a"]["value"]) < 3 * float(table["out", "triangular_draw.a"]["floor"])


def test_a_feature_that_x_does_not_have_is_one_clear_error(files, tmp_path):
    _, ensembles, references, posteriors = files
    with pytest.raises(EvaluationError, match=r"evaluation.bins: found 'aa', wanted features of x \(a, b\); did you"):
        judged(tmp_path, posteriors, ensembles, references, bins={"aa": [0.0, 1.0, 2.0]})


def write(path, found, ensemble):
    """An unfolded distribution of the plane."""
    with EnsembleReader(ensemble) as reader:
        write_unfolded(path, found, PLANE[0], reader, "{}", {"seconds": 1.0}, {})
    return path


def test_unfolded_bins_and_sample_are_judged_with_their_covariances(files, tmp_path):
    """Contents that scatter about the truth as they state; of b a sample with bootstrap replicas."""
    _, ensembles, references, _ = files
    rng = np.random.default_rng(2)
    ensembles, references = {"in": ensembles["in"]}, {"in": references["in"]}
    edges = np.array([-2.0, -1.5, -1.0, -0.3, 0.3, 1.0, 2.0])
    with EnsembleReader(ensembles["in"]) as reader:
        truth = reader.read("x")
    content = np.histogram(truth[:, 0], edges)[0].astype(float)
    # Other statistics than the truth's own: an unfolding of bad resolution.
    covariance = np.diag(9 * content)
    other = rng.standard_normal((N, 2)).astype(np.float32)
    weight = np.column_stack([np.ones(N), rng.poisson(1.0, (N, 60))])
    bins = {"a": Bins(edges, content + rng.multivariate_normal(np.zeros(6), covariance), covariance)}
    path = write(tmp_path / "u.h5", Unfolded(other, weight, bins), ensembles["in"])
    table = judged(tmp_path, [], ensembles, references, [path], bins=BINS)
    value = {metric: float(row["value"]) for (_, metric), row in table.items()}
    # The study's edges are among the method's: [-2, -1] is one bin.
    assert value["chi2_dof_unfolded.a"] == 4
    assert value["chi2_counts_dof_unfolded.a"] == 5
    assert value["chi2_dof_unfolded.b"] == 9
    for metric, dof in (("chi2_unfolded.a", 4), ("chi2_counts_unfolded.a", 5), ("chi2_unfolded.b", 9)):
        # Replicas widen the law of b by (R - 1) / (R - k - 2) = 1.2.
        assert abs(value[metric] - 1) < 5 * np.sqrt(2 / dof)
    # Nothing is known of how a and b vary together.
    assert "chi2_unfolded" not in value
    assert value["triangular_unfolded.a"] > float(table["in", "triangular_unfolded.a"]["floor"])
    assert abs(value["mean_bias_unfolded.b"]) < 4 * np.sqrt(2 / N)

    moved = {"a": Bins(edges, np.roll(content, 1), covariance)}
    path = write(tmp_path / "v.h5", Unfolded(bins=moved, joint=covariance), ensembles["in"])
    table = judged(tmp_path, [], ensembles, references, [path], bins=BINS)
    assert float(table["in", "chi2_unfolded.a"]["low"]) > 2
    # Twice the luminosity has the same shape.
    twice = {"a": Bins(edges, 2 * content, covariance)}
    path = write(tmp_path / "w.h5", Unfolded(bins=twice), ensembles["in"])
    table = judged(tmp_path, [], ensembles, references, [path], bins=BINS)
    assert float(table["in", "chi2_unfolded.a"]["value"]) < 2
    assert float(table["in", "chi2_counts_unfolded.a"]["low"]) > 5


def test_migration_and_correlation_are_kept_for_the_report(files, tmp_path):
    _, ensembles, _, posteriors = files
    known = np.array([[1.0, 0.5], [0.5, 1.0]])
    edges = np.array([-9.0, 0.0, 9.0])
    bins = {name: Bins(edges, np.array([40.0, 60.0]), 4 * known) for name in "ab"}
    joint = 4 * np.block([[known, 0.1 * known], [0.1 * known, known]])
    for covariance, between in ((joint, 0.1 * known), (None, np.full((2, 2), np.nan))):
        path = write(tmp_path / "u.h5", Unfolded(bins=bins, joint=covariance), ensembles["in"])
        judged(tmp_path, posteriors[:1], {"in": ensembles["in"]}, {}, [path], role="seen", bins={"a": [-1, 0, 1.0]})
        with h5py.File(tmp_path / "examples.h5") as file:
            group = file["i/0/in"]
            table = group["correlation"]
            assert list(table.attrs["features"]) == ["a", "b"]
            assert list(table.attrs["bins"]) == [2, 2]
            np.testing.assert_allclose(table[()], np.block([[known, between], [between.T, known]]))
            migration, purity = group["a/migration"][()], group["a/bin_purity"][()]
            assert "efficiency" not in group["a"]
            assert group["a"].attrs["truths"] == "all"
    with EnsembleReader(ensembles["in"]) as reader:
        x, y = (reader.read(name)[:, 0] for name in "xy")
    inside = [(x >= low) & (x < low + 1) for low in (-1, 0)]
    seen = [(y >= low) & (y < low + 1) for low in (-1, 0)]
    np.testing.assert_allclose(migration, [[(s & t).sum() / t.sum() for t in inside] for s in seen])
    np.testing.assert_allclose(purity, [(s & t).sum() / s.sum() for s, t in zip(seen, inside, strict=True)])


class Counter:
    """Truths are recorded with a probability that depends on them, and then smeared."""

    x, y = PLANE
    fail = "error"

    def efficiency(self, x):
        return expit(2 * x[:, 0].astype(float))

    def simulate(self, x, rng):
        return (x + NOISE * rng.standard_normal(x.shape)).astype(np.float32), np.ones(len(x), bool)


def test_unfolded_truths_are_folded_back_with_their_efficiency(tmp_path):
    rng = np.random.default_rng(3)
    x, y = plane(rng, 2 * N)
    recorded = rng.random(2 * N) < Counter().efficiency(x)
    group = np.arange(2 * N)
    with EnsembleWriter(tmp_path / "e.h5", x=PLANE[0], y=PLANE[1], spec="{}") as writer:
        writer.append(y[recorded], np.arange(recorded.sum()), x=x[recorded], group=group[recorded])
        writer.append_missed(Missed(x[~recorded], np.ones((~recorded).sum()), group[~recorded]))
    truths = plane(rng, 10_000)[0]
    weight = rng.poisson(2 * N / 10_000, (10_000, 81)).astype(float)
    weight[:, 0] = 2 * N / 10_000
    path = write(tmp_path / "u.h5", Unfolded(truths, weight, counts=True), tmp_path / "e.h5")
    text = json.loads(job(tmp_path, "Plane", {"in": {}}, []))
    found = {}
    for name, problem in (("counter", Counter()), ("plane", problem_of(text["problem"]))):
        case = Case("in", text, tmp_path / "e.h5", None, problem)
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            found[name] = {row.metric: row for row in judge(case, UnfoldedReader(path), ("t",), file)}
            write_migration(file, case, case.reader.n)
            edges, efficiency = file["a/migration_edges"][()], file["a/efficiency"][()]
        case.recorded.close()
    kept, every = (np.histogram(each, edges)[0] for each in (x[recorded, 0], x[:, 0]))
    np.testing.assert_allclose(efficiency, kept / every)
    rows = found["counter"]
    folded = rows["fold_back_swd_unfolded"]
    assert folded.value < 2 * folded.floor
    # Truths of all, not of those that are recorded: means differ by 0.5 and more.
    assert "fold_back_swd_unfolded" not in found["plane"]
    weighted = Counter().efficiency(x)
    assert abs((x[:, 0] * weighted).sum() / weighted.sum()) > 10 * folded.floor
    # Numbers of truths are counted, pairs and misses: equal by construction, replicas are known to 1 / sqrt(2 N).
    ratio = rows["truths_ratio_unfolded"]
    assert ratio.value == pytest.approx(1)
    assert (ratio.high - ratio.low) / 2 / 1.96 == pytest.approx(1 / np.sqrt(2 * N), rel=0.35)
    for metric, dof in (("chi2_unfolded.a", 9), ("chi2_counts_unfolded.a", 10), ("chi2_counts_unfolded", 20)):
        # Covariances of replicas and of the truths add, as the sample is independent of the truths.
        assert abs(rows[metric].value - 1) < 5 * np.sqrt(2 / dof)


def test_edges_of_signed_weights_are_those_of_their_sizes():
    rng = np.random.default_rng(3)
    values, sign = rng.exponential(size=1000), np.where(rng.random(1000) < 0.2, -1.0, 1.0)
    np.testing.assert_array_equal(quantile_edges(values, sign), quantile_edges(values, np.ones(1000)))
    assert len(quantile_edges(values, sign)) == QUANTILE_BINS + 1
