"""The rules `condition` and `unfold`: one state for all parts, and an unfolded distribution down to the report."""

import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import xarray
import yaml
from dag import STUDIES, counts, planned, snakemake

from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.unfolded import UnfoldedReader


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with the study, run to the end."""
    folder = tmp_path_factory.mktemp("unfold")
    for name in ("unfold.yaml", "ratio.py"):
        shutil.copy(STUDIES / name, folder)
    done = snakemake("--configfile", "unfold.yaml", folder=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_jobs(tmp_path):
    for name in ("unfold.yaml", "ratio.py"):
        shutil.copy(STUDIES / name, tmp_path)
    found = counts(planned(tmp_path, tmp_path / "unfold.yaml"))
    # One state for each family that is unfolded or refined, whose two parts share one; the bridge has none.
    assert {rule: found[rule] for rule in ("condition", "infer", "unfold")} == {
        "condition": 1 + 1 + 1,
        "infer": 2 + 1,
        "unfold": 1 + 1 + 1,
    }


def test_the_truth_is_recovered(run):
    """x ~ N(0.5, 1) from a prior N(0, 1), y = 2.2 x + 0.3 sqrt(2) |x| eps."""
    path = run / "results/unfold/unfolded/line/ibu/default/seed-0/moved.h5"
    found = UnfoldedReader(path).unfolded
    mean, spread = [], []
    for weight in found.weight.T:
        mean.append(np.average(found.x[:, 0], weights=weight))
        spread.append(np.sqrt(np.average((found.x[:, 0] - mean[-1]) ** 2, weights=weight)))
    # 4000 events: the mean is known to 1 / sqrt(4000) at best; the bins and the last iteration add a little.
    assert mean[0] == pytest.approx(0.5, abs=0.06)
    assert spread[0] == pytest.approx(1.0, abs=0.06)
    assert 0.5 < np.std(mean[1:]) * np.sqrt(4000) < 2
    bins = found.bins["x1"]
    # One half in a hundred of the seen truths lies outside on either side, more of those that moved.
    assert 0.95 * 4000 < bins.content.sum() < 0.995 * 4000
    assert found.weight[:, 0].sum() == pytest.approx(4000, rel=0.01)
    np.testing.assert_allclose(bins.covariance, bins.covariance.T, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found.joint, bins.covariance)
    with xarray.open_dataset(path) as data:
        assert data["weight"].dims == ("sample", "replica")
        assert data["x"].dims[0] == "sample"


def test_rows(run):
    table = pd.read_csv(run / "results/unfold/metrics/line/ibu.csv").set_index(["family", "metric"])
    moved = table.loc["moved"]
    assert {"swd_unfolded", "w1_unfolded.x1", "unfolded_ess", "chi2_unfolded.x1", "bins_w1.x1"} <= set(moved.index)
    # Before unfolding the distance is that of the means, 0.5.
    assert moved.loc["w1_unfolded.x1", "value"] < 0.1
    assert moved.loc["swd_unfolded", ["low", "high", "floor"]].notna().all()
    assert moved.loc["bins_w1.x1", "value"] < 0.1
    assert moved.loc["chi2_unfolded.x1", "value"] > 0
    assert moved.loc["refolded_chi2.x1", "value"] > 0
    ratio = pd.read_csv(run / "results/unfold/metrics/line/ratio.csv").set_index(["family", "metric"]).loc["moved"]
    assert moved.loc["w1_unfolded.x1", "value"] < ratio.loc["w1_unfolded.x1", "value"] < 0.5
    cost = pd.read_csv(run / "results/unfold/metrics/line/ibu.cost.csv")
    assert (cost["events"] == 4000).all()
    report = pd.read_csv(run / "results/unfold/report/metrics.csv")
    assert (report["metric"] == "swd_unfolded").sum() == 1 + 1 + 1
    with h5py.File(run / "results/unfold/metrics/line/ibu.examples.h5") as file:
        spectrum = file["default/0/moved/x1"]
        np.testing.assert_allclose(spectrum["unfolded"][()].sum(), 4000, rtol=0.01)
        assert (spectrum["unfolded_error"][()] >= 0).all()


def test_a_source_has_replicas_and_says_how_it_agrees(run):
    found = UnfoldedReader(run / "results/unfold/unfolded/line/source/default/seed-0/moved.h5")
    assert found.unfolded.x.shape == (3 * 500, 1)
    np.testing.assert_allclose(found.unfolded.weight.sum(axis=0), 4000)
    assert found.cost["network_calls"] > 0
    table = pd.read_csv(run / "results/unfold/metrics/line/source.csv").set_index(["family", "metric"]).loc["moved"]
    assert table.loc[["swd_unfolded", "w1_unfolded.x1"], ["value", "low", "high"]].notna().all().all()
    assert {"source_misfit", "source_entropy"} <= set(table.index)
    draws = PosteriorReader(run / "results/unfold/posteriors/line/bridge/default/seed-0/moved.h5")
    assert draws.read("x").shape == (200, 4, 1)
    assert draws.read("ok").all()


def test_parts_share_the_state(run):
    """The network is called for the particles of one fit, not of two."""
    folder = run / "results/unfold"
    state = torch.load(folder / "states/line/cfm/refined/seed-0/moved.pt", weights_only=True)["meta"]
    calls = PosteriorReader(folder / "posteriors/line/cfm/refined/seed-0/moved.h5").cost["network_calls"]
    # One draw of each of 300 members, by one step of the midpoint rule.
    assert calls == state["cost"]["network_calls"] == 300 * 2


def edited(folder, key, value):
    study = yaml.safe_load((folder / "unfold.yaml").read_text())
    *parents, last = key.split(".")
    node = study
    for name in parents:
        node = node[name]
    node[last] = value
    (folder / "unfold.yaml").write_text(yaml.safe_dump(study))


def test_more_draws_keep_the_state(run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    edited(folder, "problems.line.methods.cfm.infer.refined.draws", 5)
    found = counts(planned(folder, folder / "unfold.yaml"))
    assert found["infer"] == 2  # the parts of one family
    assert "condition" not in found
    edited(folder, "problems.line.methods.cfm.infer.refined.refine.jitter", 0.5)
    assert counts(planned(folder, folder / "unfold.yaml"))["condition"] == 1
