import csv
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from evaluated_files import (
    IMAGE,
    PLANE,
    images,
    job,
    plane,
    plane_posterior,
    write_ensemble,
    write_posterior,
)

from pullback.ensembles.store import StoreError
from pullback.metrics import examples
from pullback.metrics.bootstrap import Replicas
from pullback.metrics.case import EvaluationError
from pullback.metrics.evaluate import evaluate
from pullback.metrics.table import COLUMNS, COST_COLUMNS

TRUTH_FREE = {"failed_draws", "fold_back_swd", "seen_swd", "misfit", "failed_resimulations", "embedding_distance"}


def run(folder: Path, text: str, posteriors, ensembles, references=None, seen=()):
    """Evaluate; the rows by (infer, family, metric), the cost rows, the examples."""
    outputs = [folder / name for name in ("metrics.csv", "cost.csv", "examples.h5")]
    evaluate(text, posteriors, ensembles, references or {}, list(seen), *outputs)
    with open(outputs[0], newline="") as file:
        rows = list(csv.DictReader(file))
    with open(outputs[1], newline="") as file:
        cost = list(csv.DictReader(file))
    table = {(row["infer"], row["family"], row["metric"]): row for row in rows}
    assert len(table) == len(rows)
    return table, cost, outputs[2]


@pytest.fixture(scope="module")
def plane_run(tmp_path_factory):
    """Two families with a truth and one observed; an exact and a shifted posterior."""
    folder = tmp_path_factory.mktemp("plane")
    rng = np.random.default_rng(0)
    n = 1500
    ensembles, references, posteriors = {}, {}, []
    data = {}
    for name, centre in (("in", 0.0), ("out", 1.0), ("data", 0.0)):
        x, y = plane(rng, n, centre)
        data[name] = (x, y)
        known = None if name == "data" else x
        group = np.arange(n) // 3
        ensembles[name] = write_ensemble(folder / f"{name}.h5", PLANE, known, y, group)
        if known is not None:
            references[name] = write_ensemble(folder / f"{name}-ref.h5", PLANE, *plane(rng, n, centre))
    results = [["few", 0, "in"], ["few", 0, "out"], ["few", 0, "data"], ["many", 0, "in"]]
    for infer, _, name in results:
        draws = plane_posterior(rng, data[name][1], 40 if infer == "few" else 12)[: n if infer == "few" else 600]
        posteriors.append(
            write_posterior(
                folder / f"{infer}-{name}.p.h5",
                ensembles[name],
                PLANE[0],
                draws,
                diagnostics={"embedding_distance": 0.7},
            )
        )
    text = job(
        folder,
        "Plane",
        {"in": {"role": "seen"}, "out": {"shift": "noise"}, "data": {"role": "observed"}},
        results,
        resimulate_events=20,
    )
    return (*run(folder, text, posteriors, ensembles, references, [ensembles["in"]]), folder)


def test_table_has_the_agreed_columns_and_types(plane_run):
    table, _, _, folder = plane_run
    assert (folder / "metrics.csv").read_text().splitlines()[0].split(",") == list(COLUMNS)
    for row in table.values():
        value = float(row["value"])
        assert np.isfinite(value)
        assert row["low"] == row["high"] == "" or float(row["low"]) <= value <= float(row["high"])
        assert int(row["n"]) <= int(row["n_observed"]) == 1500
        assert row["study"] == "s"
        assert row["returns"] == "approximate"
    assert table["few", "in", "swd_draw"]["role"] == "seen"
    assert table["few", "out", "swd_draw"]["shift"] == "noise"
    assert table["many", "in", "swd_draw"]["n"] == "600"


def test_exact_draws_reach_the_floor_and_wrong_ones_do_not(plane_run):
    table, *_ = plane_run
    exact, wrong = (table["few", family, "swd_draw"] for family in ("in", "out"))
    assert float(exact["value"]) < 1.5 * float(exact["floor"])
    assert float(wrong["low"]) > 2 * float(wrong["floor"])
    # Under the wrong centre draws are shifted by (1 - gain) = 0.2 in both features.
    assert float(wrong["value"]) == pytest.approx(0.2, abs=0.06)
    assert float(table["few", "out", "w1_draw.a"]["value"]) == pytest.approx(0.2, abs=0.06)
    assert float(table["few", "in", "swd100_draw"]["value"]) < 1.5 * float(exact["floor"])


def test_errors_of_the_exact_posterior(plane_run):
    """Posterior variance 0.2 in each feature: mse_point 0.2 (1 + 1/40), mse_draw 0.4."""
    table, *_ = plane_run
    for metric, expected in (("mse_draw", 0.4), ("mse_point", 0.2 * (1 + 1 / 40))):
        row = table["few", "in", metric]
        # A squared normal error has relative deviation sqrt(2); 3000 values.
        assert float(row["value"]) == pytest.approx(expected, rel=4 * np.sqrt(2 / 3000))
        assert float(row["low"]) < float(row["value"]) < float(row["high"])
        assert row["floor"] == ""
        assert row["unit"] == "m^2"
    assert float(table["few", "in", "spread_skill"]["value"]) == pytest.approx(1, abs=4 / np.sqrt(2 * 3000))
    assert float(table["few", "in", "coverage90"]["value"]) == pytest.approx(0.9, abs=4 * 0.3 / np.sqrt(1500))
    assert ("many", "in", "mse_point") not in table


def test_observed_data_get_only_truth_free_rows(plane_run):
    table, *_ = plane_run
    assert {metric for _, family, metric in table if family == "data"} == TRUTH_FREE
    assert {metric for _, family, metric in table if family == "in"} > TRUTH_FREE
    assert float(table["few", "data", "embedding_distance"]["value"]) == 0.7
    fold = table["few", "data", "fold_back_swd"]
    assert float(fold["value"]) < 2 * float(fold["floor"])
    assert float(table["few", "data", "failed_draws"]["value"]) == 0


def test_nothing_is_sent_through_a_forward_process_of_another_detector(tmp_path):
    rng = np.random.default_rng(0)
    x, y = plane(rng, 200)
    ensemble = write_ensemble(tmp_path / "data.h5", PLANE, x, y)
    answer = write_posterior(tmp_path / "p.h5", ensemble, PLANE[0], plane_posterior(rng, y, 12))
    found = []
    for own in ({}, {"own_forward": False}):
        text = job(tmp_path, "Plane", {"data": own}, [["few", 0, "data"]], resimulate_events=20)
        table, *_ = run(tmp_path, text, [answer], {"data": ensemble})
        found.append({metric for _, _, metric in table})
    assert found[0] - found[1] == {"fold_back_swd", "misfit", "failed_resimulations"}
    assert found[1] < found[0]


def test_groups_are_counted_by_the_variance_that_they_carry(tmp_path):
    """300 events in 100 groups; then 100 groups of which 10 weigh 10 times as much: 1090^2 / 100090."""
    rng = np.random.default_rng(0)
    x, y = plane(rng, 300)
    group = np.arange(300) // 3
    for weight, expected in ((None, 100), (np.where(group < 10, 10.0, 1.0), 1090**2 / 100090)):
        ensemble = write_ensemble(tmp_path / "in.h5", PLANE, x, y, group, weight)
        answer = write_posterior(tmp_path / "p.h5", ensemble, PLANE[0], plane_posterior(rng, y, 12))
        table, *_ = run(tmp_path, job(tmp_path, "Plane", {"in": {}}, [["few", 0, "in"]]), [answer], {"in": ensemble})
        assert float(table["few", "in", "coverage90"]["groups"]) == pytest.approx(expected)


def test_cost_table(plane_run):
    _, cost, *_ = plane_run
    assert tuple(cost[0]) == COST_COLUMNS
    assert [(row["infer"], row["family"]) for row in cost] == [
        ("few", "in"), ("few", "out"), ("few", "data"), ("many", "in"),
    ]  # fmt: skip
    assert cost[3] | {"seconds": "1.5", "network_calls": "8", "events": "600", "draws": "12"} == cost[3]
    assert cost[0]["simulator_calls"] == ""


def test_examples_of_features(plane_run):
    _, _, path, _ = plane_run
    with h5py.File(path) as file:
        names = {"problem": "p", "method": "m", "method_kind": "cfm", "returns": "approximate"}
        assert {name: file.attrs[name] for name in names} == names
        known, observed = file["few/0/in"], file["few/0/data"]
        assert (known.attrs["kind"], known.attrs["title"], observed.attrs["role"]) == ("features", "IN", "observed")
        feature = known["a"]
        assert feature.attrs["unit"] == "m"
        bins = len(feature["edges"]) - 1
        for name in ("truth", "observed", "unfolded", "unfolded_error", "ratio_error"):
            assert feature[name].shape == (bins,)
        # The outer 0.2 % on each side is in no bin.
        assert feature["truth"][()].sum() == pytest.approx(0.996 * 1500, abs=2)
        # Poisson errors of the counts; 50 replicas know them to 10 %, groups of 3 are independent here.
        inner = feature["unfolded"][()] > 50
        ratio = feature["unfolded_error"][()][inner] / np.sqrt(feature["unfolded"][()][inner])
        assert ratio.mean() == pytest.approx(1, abs=0.15)
        assert known["points_draws"].shape == known["points_truth"].shape == (1500, 2)
        assert set(observed["a"]) == {"edges", "observed", "unfolded", "unfolded_error", "edge", "bin"}
        assert "points_truth" not in observed
        assert known["misfit"].shape == (20,)


def test_examples_open_as_a_tree_with_dimension_names(plane_run, image_run):
    for run in (plane_run, image_run):
        with xr.open_datatree(run[2], engine="h5netcdf") as tree:
            dims = {name: data.dims for group in tree.subtree for name, data in group.data_vars.items()}
        assert dims
        assert not [name for name, names in dims.items() if any("phony" in str(dim) for dim in names)]
        assert dims["misfit"] == ("simulated",)
        assert dims["ranks"] == ("quantity", "rank_bin") or run is image_run


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_spectra_of_weighted_events_are_in_effective_ones(tmp_path, scale):
    rng = np.random.default_rng(0)
    x, y = plane(rng, 4000)
    weight = scale * np.where(np.arange(4000) % 2, 1.0, 3.0)
    replicas = Replicas(np.arange(4000), 200, rng, weight)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        examples.write_features(file, *PLANE, x, x, y, replicas)
        truth, error = file["a/truth"][()], file["a/unfolded_error"][()]
    # (sum w)^2 / sum w^2 = 4 / 5 of the events, and errors that follow from the number in each bin.
    assert truth.sum() == pytest.approx(0.996 * 3200, rel=0.01)
    inner = truth > 50
    assert (error[inner] / np.sqrt(truth[inner])).mean() == pytest.approx(1, abs=0.1)


def test_calibration_of_exact_and_shifted_draws(plane_run):
    table, _, path, _ = plane_run
    names = ("sbc_ks.a", "sbc_ks.b", "tarp_gap", "tarp_gap.local")
    for name in names:
        exact, wrong = (table["few", family, name] for family in ("in", "out"))
        assert float(exact["value"]) < 2.2 * float(exact["floor"])
        assert float(wrong["value"]) > 2.2 * float(wrong["floor"])
        # Kolmogorov's mean, of 1500 independent events; their variance by 500 groups is known to sqrt(2 / 500) = 6 %,
        # the floor to 3 %.
        assert float(exact["floor"]) == pytest.approx(0.8687 / np.sqrt(1500), rel=0.1)
        assert exact["groups"] == "500"
    assert not [key for key in table if key[1] == "data" and key[2].startswith(("sbc", "tarp", "energy"))]
    with h5py.File(path) as file:
        group = file["few/0/in"]
        assert list(group["ranks"].attrs["quantities"]) == ["a", "b"]
        assert group["ranks"][()].sum(axis=1) == pytest.approx(np.ones(2))
        for name in ("ranks", "coverage"):
            assert group[name].attrs["events"] == pytest.approx(1500, rel=0.2)
        assert list(group["coverage"].attrs["references"]) == ["uniform", "local"]
        for curve, name in zip(group["coverage"][()], names[2:], strict=True):
            gap = np.abs(curve - np.linspace(0, 1, len(curve))).max()
            assert gap <= float(table["few", "in", name]["value"]) + 1e-9
        assert "ranks" not in file["few/0/data"]


@pytest.fixture(scope="module")
def image_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    rng = np.random.default_rng(1)
    x, y = images(rng, 30)
    ensemble = write_ensemble(folder / "e.h5", IMAGE, x, y)
    reference = write_ensemble(folder / "r.h5", IMAGE, *images(rng, 30))
    observed = write_ensemble(folder / "o.h5", IMAGE, None, y)
    draws = x[:, None] + rng.normal(size=(30, 32, 12, 12)).astype("f4")
    draws[0, 1, 0, 0] = 50.0
    ok = np.ones((30, 32), bool)
    ok[1, :3] = False
    posteriors = [
        write_posterior(folder / f"{i}.p.h5", path, IMAGE[0], draws, ok=ok)
        for i, path in enumerate((ensemble, observed))
    ]
    text = job(
        folder,
        "Image",
        {"e": {}, "o": {"role": "observed", "base": "e"}},
        [["i", 0, "e"], ["i", 0, "o"]],
        resimulate_events=4,
        resimulate_draws=5,
    )
    return *run(folder, text, posteriors, {"e": ensemble, "o": observed}, {"e": reference}), x, draws


def test_scores_of_fields(image_run):
    table, *_ = image_run
    metrics = {metric for _, family, metric in table if family == "e"}
    paired = {f"{name}_{kind}" for name in ("mse", "mae", "relative_l2", "psnr", "ssim") for kind in ("draw", "point")}
    assert metrics == paired | {
        "swd_draw", "swd100_draw", "w1_draw.pixels", "crps", "energy_score", "coverage50", "coverage90", "spread_skill",
        "failed_draws", "misfit", "failed_resimulations", "sbc_ks.mean", "sbc_ks.spread", "tarp_gap", "tarp_gap.local",
    }  # fmt: skip
    assert float(table["i", "e", "ssim_point"]["value"]) > float(table["i", "e", "ssim_draw"]["value"])
    assert table["i", "e", "mae_draw"]["unit"] == "m/s"
    assert table["i", "e", "w1_draw.pixels"]["floor"] != ""
    assert float(table["i", "e", "failed_draws"]["value"]) == pytest.approx(3 / (30 * 32))
    assert {metric for _, family, metric in table if family == "o"} == {
        "failed_draws", "misfit", "failed_resimulations",
    }  # fmt: skip


def test_misfit_of_fields(image_run):
    """y = 2 x: the misfit of a draw is |draw - x| / |x| after projection; the truth's own, the floor, is 0."""
    table, _, path, x, draws = image_run
    inside = np.clip(draws[:4, :5], 0, 10).reshape(4, 5, -1)
    flat = x[:4].reshape(4, 1, -1)
    each = np.linalg.norm(inside - flat, axis=2) / np.linalg.norm(flat, axis=2)
    each[inside[..., 0] >= 9.9] = np.inf
    each[1, :3] = np.inf
    assert np.isinf(each[0, 1])
    expected = np.median(each, axis=1)
    row = table["i", "e", "misfit"]
    assert float(row["value"]) == pytest.approx(np.median(expected), rel=1e-5)
    assert float(row["floor"]) == pytest.approx(0, abs=1e-6)
    assert row["n"] == "4"
    assert float(table["i", "e", "failed_resimulations"]["value"]) == pytest.approx(np.isinf(each).mean())
    with h5py.File(path) as file:
        assert file["i/0/e/misfit"][()] == pytest.approx(expected, rel=1e-5)


def test_examples_of_fields(image_run):
    _, _, path, x, draws = image_run
    with h5py.File(path) as file:
        group = file["i/0/e"]
        assert group["truth"][()] == pytest.approx(x[:3])
        assert group["y"].shape == group["mean"].shape == (3, 12, 12)
        assert group["draws"].shape == (3, 2, 12, 12)
        assert np.isnan(group["draws"][1]).all()
        assert group["mean"][1] == pytest.approx(draws[1, 3:].mean(axis=0), rel=1e-5)
        assert group["std"][0] == pytest.approx(draws[0].std(axis=0, ddof=1), rel=1e-4)
        assert (list(group.attrs["x_dims"]), group.attrs["x_units"]) == (["depth", "offset"], "m/s")
        assert "truth" not in file["i/0/o"]


# failures, weights, foreign files


def simple(folder, x, y, draws, weight=None, **more):
    """One family, one posterior."""
    ensemble = write_ensemble(folder / "e.h5", PLANE, x, y, weight=weight)
    posterior = write_posterior(folder / "p.h5", ensemble, PLANE[0], draws, **more)
    reference = write_ensemble(folder / "r.h5", PLANE, *plane(np.random.default_rng(99), len(x)))
    text = job(folder, "Plane", {"f": {}}, [["i", 0, "f"]], bootstrap=10)
    table, *_ = run(folder, text, [posterior], {"f": ensemble}, {"f": reference})
    return {metric: float(row["value"]) for (_, _, metric), row in table.items()}


def test_failures_count_in_every_metric(tmp_path):
    rng = np.random.default_rng(2)
    x, y = plane(rng, 800)
    draws = plane_posterior(rng, y, 32)
    ok = np.ones((800, 32), bool)
    clean = simple(tmp_path, x, y, draws, ok=ok)
    ok[:160] = False
    failed = simple(tmp_path, x, y, draws, ok=ok)
    assert failed["failed_draws"] == pytest.approx(0.2)
    assert failed.keys() == clean.keys()
    worse = [name for name in clean if name.split("_")[0] in ("swd", "w1", "mse", "mae", "crps", "fold")]
    assert len(worse) >= 10
    for name in worse:
        assert failed[name] > clean[name], name
    assert failed["coverage50"] < clean["coverage50"]


def test_log_weights_turn_prior_draws_into_posterior_draws(tmp_path):
    """Draws of the prior with the likelihood as weight are what the posterior's own draws are."""
    rng = np.random.default_rng(3)
    x, y = plane(rng, 1500)
    draws = rng.standard_normal((1500, 400, 2)).astype("f4")
    log_weight = -((y[:, None] - draws) ** 2).sum(axis=2) / (2 * 0.25)
    found = simple(tmp_path, x, y, draws, log_weight=log_weight)
    # Posterior variance 0.2; importance weights of 400 draws have an effective size of tens: a few percent.
    assert found["mse_draw"] == pytest.approx(0.4, rel=0.15)
    assert found["mse_point"] == pytest.approx(0.2, rel=0.15)
    assert found["swd_draw"] < 0.12
    assert found["swd_weighted"] < 0.12
    unweighted = simple(tmp_path, x, y, draws)
    assert unweighted["mse_draw"] > 1.5
    assert "swd_weighted" not in unweighted


def test_event_weights_enter_means_and_distances(tmp_path):
    """Weights that double half of the events equal a file that has them twice."""
    rng = np.random.default_rng(4)
    x, y = plane(rng, 600)
    x[:300] += 1
    y[:300] += 1
    draws = plane_posterior(rng, y, 32)
    copies = np.repeat([2, 1], 300)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    weighted = simple(tmp_path / "a", x, y, draws, weight=copies.astype(float))
    rows = np.repeat(np.arange(600), copies)
    doubled = simple(tmp_path / "b", x[rows], y[rows], draws[rows])
    for name in (
        "swd_draw",
        "swd100_draw",
        "w1_draw.a",
        "mse_draw",
        "mae_point.b",
        "crps",
        "coverage90",
        "spread_skill",
    ):
        assert weighted[name] == pytest.approx(doubled[name], rel=1e-4), name


def test_negative_event_weights_are_resampled_or_refused(tmp_path):
    rng = np.random.default_rng(5)
    x, y = plane(rng, 50)
    draws = plane_posterior(rng, y, 4)
    rows = simple(tmp_path / "a", x, y, draws, weight=np.repeat([-1.0, 1.0], [3, 47]))
    assert rows["negative_weights"] == pytest.approx(3 / 50)
    assert rows["swd_draw"] > 0
    with pytest.raises(EvaluationError, match=r"sum of the event weights is -1.*leave `weight` out"):
        simple(tmp_path / "b", x, y, draws, weight=np.repeat([-48 / 3, 1.0], [3, 47]))


def test_event_weights_that_are_all_zero_are_refused(tmp_path):
    rng = np.random.default_rng(5)
    x, y = plane(rng, 50)
    with pytest.raises(EvaluationError, match=r"all weights of the first 50 events are zero"):
        simple(tmp_path, x, y, plane_posterior(rng, y, 4), weight=np.zeros(50))


def test_events_of_weight_zero_are_left_out_and_one_event_has_no_interval(tmp_path):
    rng = np.random.default_rng(6)
    x, y = plane(rng, 200)
    draws = plane_posterior(rng, y, 32)
    for name in ("half", "rest", "one"):
        (tmp_path / name).mkdir()
    half = simple(tmp_path / "half", x, y, draws, weight=np.repeat([1.0, 0.0], 100))
    rest = simple(tmp_path / "rest", x[:100], y[:100], draws[:100])
    for name in ("swd_draw", "w1_draw.a", "mse_draw", "crps", "coverage90", "spread_skill", "sbc_ks.a"):
        assert half[name] == pytest.approx(rest[name], rel=1e-5), name
    for row in csv.DictReader((tmp_path / "half" / "metrics.csv").read_text().splitlines()):
        assert row["low"] == "" or float(row["low"]) <= float(row["high"]), row["metric"]
    one = simple(tmp_path / "one", x, y, draws, weight=np.r_[1.0, np.zeros(199)])
    assert one["mse_draw"] == pytest.approx(((draws[0, 0] - x[0]) ** 2).mean(), rel=1e-5)
    for row in csv.DictReader((tmp_path / "one" / "metrics.csv").read_text().splitlines()):
        assert row["low"] == row["high"] == ""
        assert row["groups"] == "1"


def test_foreign_posteriors_are_refused_and_nothing_is_written(tmp_path):
    rng = np.random.default_rng(6)
    x, y = plane(rng, 50)
    ensemble = write_ensemble(tmp_path / "e.h5", PLANE, x, y)
    other = write_ensemble(tmp_path / "o.h5", PLANE, x, y + 1)
    posterior = write_posterior(tmp_path / "p.h5", ensemble, PLANE[0], plane_posterior(rng, y, 4))
    text = job(tmp_path, "Plane", {"f": {}}, [["i", 0, "f"]])
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(EvaluationError, match="made from observations with content"):
        run(tmp_path, text, [posterior], {"f": other})
    with pytest.raises(EvaluationError, match="1 results, found 2 posteriors"):
        run(tmp_path, text, [posterior, posterior], {"f": ensemble})
    with pytest.raises(StoreError):
        run(tmp_path, text, [tmp_path / "none.h5"], {"f": ensemble})
    late = write_posterior(tmp_path / "late.h5", ensemble, PLANE[0], plane_posterior(rng, y, 4))
    with h5py.File(late, "r+") as file:
        file["event_id"][...] = np.arange(50)[::-1]
    with pytest.raises(EvaluationError, match="not the first ones"):
        run(tmp_path, text, [late], {"f": ensemble})
    assert {path.name for path in tmp_path.iterdir()} == before | {"late.h5"}


def test_same_numbers_every_time_and_no_torch(tmp_path):
    """A fresh process gives the same table, and loads neither torch nor what draws figures."""
    rng = np.random.default_rng(7)
    x, y = plane(rng, 200)
    log_weight = rng.normal(size=(200, 8))
    first = simple(tmp_path, x, y, plane_posterior(rng, y, 8), log_weight=log_weight, weight=rng.uniform(1, 2, 200))
    assert first["swd_weighted"] > 0
    table = (tmp_path / "metrics.csv").read_bytes()
    text = job(tmp_path, "Plane", {"f": {}}, [["i", 0, "f"]], bootstrap=10)
    code = f"""
import json, sys
from pathlib import Path
from pullback.metrics.evaluate import evaluate
folder = Path({str(tmp_path)!r})
outputs = [folder / name for name in ("again.csv", "again-cost.csv", "again.h5")]
evaluate({text!r}, [folder / "p.h5"], {{"f": folder / "e.h5"}}, {{"f": folder / "r.h5"}}, [], *outputs)
print(json.dumps([name for name in ("torch", "jax", "tensorflow", "matplotlib", "devito") if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert (tmp_path / "again.csv").read_bytes() == table
