"""Studies that run for real, from simulators to the report."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from dag import REPOSITORY, STUDIES, snakemake

from pullback.study import paths, read_study
from pullback.study.job_params import Plan


def run(study: Path, folder: Path, edit=None) -> Plan:
    """Run a study in ``folder`` and return its plan."""
    for file in study.parent.glob(f"{study.stem.split('-')[0]}*"):
        shutil.copy(file, folder)
    if edit:
        config = yaml.safe_load((folder / study.name).read_text())
        edit(config)
        (folder / study.name).write_text(yaml.safe_dump(config))
    done = snakemake("--configfile", study.name, folder=folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return Plan(read_study(folder / study.name), folder)


def table(folder: Path, study: str) -> list[dict[str, str]]:
    with (folder / paths.table(study)).open() as file:
        return list(csv.DictReader(file))


def shorten(config):
    for method in config["problems"]["decay"]["methods"].values():
        if "train" in method:
            method["train"] |= {"steps": 40, "validate_every": 20}
    config["problems"]["decay"]["size"] |= {"test": 300, "reference": 300}
    config["problems"]["decay"]["evaluation"] = {"resimulate_events": 20, "bootstrap": 20, "direction_seeds": 1}


OWN = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as kinds from outside, a minute")


@pytest.fixture(scope="module")
def decay(tmp_path_factory):
    """The README's own simulator, once through the chain."""
    folder = tmp_path_factory.mktemp("decay")
    return folder, run(REPOSITORY / "config/studies/decay.yaml", folder, shorten)


@OWN
@pytest.mark.xdist_group("decay")
def test_a_users_own_class_goes_through_the_whole_chain(decay):
    folder, plan = decay
    rows = table(folder, "decay")
    families = {row["family"]: row["role"] for row in rows}
    assert families == {"weak": "unseen", "strong": "unseen", "meter-b": "unseen", "field-day": "observed"}
    assert {row["method"] for row in rows} == {"random-truth", "cfm", "ei-fm"}
    # The noise of the meter is what the misfit of the truth itself amounts to: some, and more with the other meter.
    value = {(r["method"], r["family"], r["metric"]): float(r["value"]) for r in rows if r["value"]}
    assert value["cfm", "weak", "swd_draw"] < value["random-truth", "weak", "swd_draw"]
    assert (folder / paths.report("decay")).stat().st_size > 50_000
    assert plan.study.seed == json.loads((folder / paths.receipt("decay")).read_text())["study"]["seed"]


@OWN
@pytest.mark.xdist_group("decay")
def test_an_observed_family_is_judged_without_its_truth(decay):
    folder, _ = decay
    metrics = {row["metric"] for row in table(folder, "decay") if row["family"] == "field-day"}
    assert {"fold_back_swd", "misfit", "embedding_distance"} <= metrics
    assert not {m for m in metrics if m.startswith(("swd_", "w1_", "mse", "mae", "crps", "coverage"))}
    with xr.open_dataset(folder / paths.ensemble("decay", "decay", "field-day", "test")) as data:
        assert "x" not in data


@OWN
@pytest.mark.xdist_group("decay")
def test_every_file_opens_in_xarray_with_names_and_units(decay):
    folder, plan = decay
    for family in plan.study.problems["decay"].families:
        for split in plan.splits("decay", family):
            with xr.open_dataset(folder / paths.ensemble("decay", "decay", family, split)) as data:
                assert data["y"].dims == ("event", "time")
                assert data["y"].attrs["units"] == "V"
                assert data["time"].attrs["units"] == "s"
    with xr.open_dataset(folder / paths.posterior("decay", "decay", "ei-fm", "default", 0, "weak")) as data:
        assert data["x"].dims == ("event", "draw", "x_feature")
        assert list(data["x_feature"].values) == ["amplitude", "rate"]


@pytest.mark.xdist_group("whole")
def test_waves_and_jets_go_through_the_whole_chain(tmp_path):
    run(STUDIES / "whole.yaml", tmp_path)
    rows = table(tmp_path, "whole")
    found = {(row["problem"], row["method"], row["family"]) for row in rows}
    assert found == {
        ("waves", "ei-fm", "flat"),
        ("waves", "ei-fm", "salt"),
        ("waves", "cddpm", "salt"),
        ("waves", "enkg", "salt"),
        ("jets", "cfm", "ttbar"),
        ("jets", "cfm", "blind"),
    }
    with xr.open_dataset(tmp_path / paths.ensemble("whole", "waves", "salt", "test")) as data:
        assert data["x"].dims == ("event", "depth", "offset")
        assert data["x"].attrs["units"] == "m/s"
        assert np.isfinite(data["y"].values).all()
    with (tmp_path / paths.cost("whole", "waves", "enkg")).open() as file:
        (cost,) = csv.DictReader(file)
    # Levels 1 to 5 of 6 are guided, once each, with 6 particles, for 2 observations.
    assert float(cost["simulator_calls"]) == 5 * 6 * 2


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as an own class, a minute")
@pytest.mark.xdist_group("command")
def test_a_users_own_command_goes_through_the_whole_chain(tmp_path):
    def small(config):
        shorten(config)
        config["problems"]["decay"]["size"] = {"train": 600, "validation": 200, "test": 200, "reference": 200}

    run(REPOSITORY / "config/studies/decay-command.yaml", tmp_path, small)
    assert {row["family"] for row in table(tmp_path, "decay-command")} == {"weak", "strong", "middle"}
