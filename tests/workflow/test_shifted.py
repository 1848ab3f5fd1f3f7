"""Families that are simulated again or cut from a file, through the rules."""

import shutil

import numpy as np
import pytest
from dag import STUDIES, copy_repository, planned, pullback, rules, snakemake

from pullback.ensembles.store import EnsembleReader
from pullback.readers import segy
from pullback.study import paths, read_study
from pullback.study.problem_kind import problem_kind

STUDY = "shifted.yaml"
FAMILIES = ("salt", "tiles", "wavelet", "fine")
TESTS = {name: paths.ensemble("shifted", "waves", name, "test") for name in FAMILIES}


def run(folder) -> dict[str, EnsembleReader]:
    """The test ensembles of a run in ``folder``, by family."""
    ran = snakemake("--configfile", STUDY, "--", *TESTS.values(), folder=folder, repository=folder / "code")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return {name: EnsembleReader(folder / file) for name, file in TESTS.items()}


@pytest.mark.xdist_group("shifted")
def test_shifts_of_the_simulator_and_tiles_run(tmp_path):
    shutil.copy(STUDIES / STUDY, tmp_path)
    copy_repository(tmp_path / "code")
    simulator = read_study(tmp_path / STUDY).problems["waves"].simulator.model_dump(mode="json")
    found = run(tmp_path)
    salt = found["salt"].read("x")
    # Without its file the family has salt's events, and so has what is taken from it.
    for name in FAMILIES:
        np.testing.assert_array_equal(found[name].read("x"), salt)
    np.testing.assert_array_equal(found["tiles"].read("y"), found["salt"].read("y"))
    slow = problem_kind("fwi").build({**simulator, "peak_frequency": 6.0, "source_depth": 40.0})
    np.testing.assert_array_equal(found["wavelet"].read("y"), slow.apply(salt)[0])
    assert not np.array_equal(found["fine"].read("y"), found["salt"].read("y"))

    # What goes out says where these shots were.
    status, text = pullback(
        "export", TESTS["wavelet"], "--to", "y.segy", "--what", "y", "--events", "0", folder=tmp_path
    )
    assert status == 0, text
    np.testing.assert_array_equal(
        segy.read_gathers(tmp_path / "y.segy", slow.acquisition), found["wavelet"].read("y")[0]
    )

    # With the file: tiles of it, a uniform rock; salt and what is taken from it stay.
    np.save(tmp_path / "model.npy", np.full((60, 100), 2750.0))
    again = planned(tmp_path, tmp_path / STUDY, "--", *TESTS.values(), repository=tmp_path / "code")
    assert rules(again) == {"simulate", "derive", "index_ensemble"}
    assert {output.split("/")[4] for job in again for output in job.output} == {"tiles", "wavelet"}
    found = run(tmp_path)
    for name in ("tiles", "wavelet"):
        assert (found[name].read("x") == 2750).all()
    np.testing.assert_array_equal(found["wavelet"].read("y"), slow.apply(found["tiles"].read("x"))[0])
