"""HEPData submissions: accepted by HEPData's validator, and the same bins when they are read back."""

import json
import sys
import tarfile
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

import pullback
from pullback.core.optional import MissingExtraError
from pullback.report.export import ExportError
from pullback.report.unfolded.budgets import budget_of, sources_of
from pullback.report.unfolded.hepdata import write_hepdata
from pullback.report.unfolded.normalisation import WEIGHTS, Normalisation
from pullback.report.unfolded.opening import open_rows
from pullback.report.unfolded.spectra import spectra_of
from unfolded_results import BINNED, BUDGET, BUDGET_EDGES, DISTRIBUTION, EDGES

pytest.importorskip("hepdata_lib")
ETA = np.array([-1.0, 0.0, 4.0])


@pytest.fixture
def submission(study, tmp_path):
    """Spectra of two features with a one-sided and a two-sided systematic, as a submission."""
    with ExitStack() as stack:
        rows = open_rows(Path(DISTRIBUTION), stack)
        found = spectra_of(rows, {"pt": EDGES, "eta": ETA})
        pt, eta = found.bins("pt").content, found.bins("eta").content
        shifts = {"jes": {"pt": 1.1 * pt, "eta": 0.9 * eta}, "jer": {"pt": np.array([pt - 3, pt + 5])}}
        names = write_hepdata(rows, found, tmp_path / "a.tar.gz", Normalisation(138), shifts)
    return tmp_path / "a.tar.gz", names, found


def test_the_validator_accepts_it(submission):
    from hepdata_validator.full_submission_validator import FullSubmissionValidator

    path, names, _ = submission
    validator = FullSubmissionValidator(schema_version="1.1.1")
    assert validator.validate(archive=str(path)), validator.get_messages()
    assert names == [
        "Distribution of pt", "Statistical covariance of pt", "Systematic covariance of pt",
        "Distribution of eta", "Statistical covariance of eta", "Systematic covariance of eta",
        "Statistical covariance of pt and eta", "Systematic covariance of pt and eta",
    ]  # fmt: skip
    # What is checked in a folder of its own is not left behind.
    assert [each.name for each in path.parent.iterdir()] == ["a.tar.gz"]
    assert not Path("submission.tar.gz").exists()


def test_the_bins_come_back(submission):
    path, _, wanted = submission
    with pullback.open_unfolded(path) as found:
        for feature, edges in (("pt", EDGES), ("eta", ETA)):
            for ours, theirs in zip(found.bins[feature], wanted.bins(feature), strict=True):
                np.testing.assert_array_equal(ours, theirs)
            contents, covariance = found.histogram(feature, edges)
            np.testing.assert_array_equal(contents, wanted.bins(feature).content)
            np.testing.assert_array_equal(covariance, wanted.bins(feature).covariance)
        merged, covariance = found.histogram("pt", [30, 80, 200])
        np.testing.assert_allclose(merged, wanted.bins("pt").content.reshape(2, 2).sum(axis=1))
        assert (len(found), found.columns) == (0, [])
        assert found.metadata["luminosity_fb"] == 138
        assert found.metadata["inputs"]["result"]["file"] == DISTRIBUTION


def test_what_its_tables_hold(submission):
    path, _, found = submission
    with tarfile.open(path) as archive:
        files = {
            member.name: yaml.safe_load(archive.extractfile(member))
            for member in archive
            if "submission" not in member.name
        }
    pt = files["distribution_of_pt.yaml"]
    bins = pt["independent_variables"][0]
    assert bins["header"] == {"name": "pt", "units": "GeV"}
    assert [each["low"] for each in bins["values"]] == EDGES[:-1].tolist()
    contents, differential = pt["dependent_variables"]
    assert (contents["header"], differential["header"]) == (
        {"name": "Number of events"},
        {"name": "dsigma/dpt", "units": "pb/GeV"},
    )
    content = found.bins("pt").content
    for i, each in enumerate(contents["values"]):
        stat, jes, jer = each["errors"]
        assert stat["label"] == "stat"
        assert stat["symerror"] == np.sqrt(found.bins("pt").covariance[i, i])
        assert (jes["label"], jes["symerror"]) == ("sys,jes", pytest.approx(0.1 * content[i]))
        assert jer["asymerror"] == {"minus": pytest.approx(-3), "plus": pytest.approx(5)}
    np.testing.assert_allclose(
        [each["value"] for each in differential["values"]], content / np.diff(EDGES) / 138e3, rtol=1e-14
    )
    covariance, correlation = files["statistical_covariance_of_pt_and_eta.yaml"]["dependent_variables"]
    joint = found.covariance[0:4, 5:7]
    np.testing.assert_array_equal([each["value"] for each in covariance["values"]], joint.ravel())
    deviation = np.sqrt(np.diag(found.covariance))
    wanted = joint / np.outer(deviation[0:4], deviation[5:7])
    np.testing.assert_allclose([each["value"] for each in correlation["values"]], wanted.ravel(), rtol=1e-12)
    systematic = files["systematic_covariance_of_eta.yaml"]["dependent_variables"][0]["values"]
    change = 0.1 * found.bins("eta").content
    np.testing.assert_allclose([each["value"] for each in systematic], np.outer(change, change).ravel(), rtol=1e-9)
    # jes is of both features, jer of one.
    between = files["systematic_covariance_of_pt_and_eta.yaml"]["dependent_variables"][0]["values"]
    np.testing.assert_allclose([each["value"] for each in between], -np.outer(0.1 * content, change).ravel(), rtol=1e-9)
    assert json.loads(json.dumps(files["metadata.json"]))["systematics"] == ["jes", "jer"]


def test_the_sources_of_a_budget(study, tmp_path):
    """Covariances of the sources are added up to the bins, those between features are kept."""
    with ExitStack() as stack:
        rows = open_rows(Path(DISTRIBUTION), stack)
        found = budget_of(Path(BUDGET), rows)
        edges = {"pt": np.array([30.0, 80.0, 200.0]), "eta": BUDGET_EDGES["eta"]}
        sources = sources_of(Path(BUDGET), found, edges)
        assert set(sources) == {"process", "seeds"}
        names = write_hepdata(rows, spectra_of(rows, edges), tmp_path / "a.tar.gz", WEIGHTS, {}, sources)
        assert "Systematic covariance of pt and eta" in names
        with pytest.raises(ExportError, match="bins of pt with edges 30, 50, 80, 200: bins can be added up, not"):
            sources_of(Path(BUDGET), found, {"pt": np.array([30.0, 60.0])})
        rows.metadata["family"] = "other"
        with pytest.raises(ExportError, match="has no budget of 'other', only of data"):
            budget_of(Path(BUDGET), rows)
        with pytest.raises(
            ExportError, match="an uncertainty budget of jets/hep/omnifold/default, wanted one of jets/hep/ibu/def"
        ):
            budget_of(Path(BUDGET), open_rows(Path(BINNED), stack))
    with h5py.File(BUDGET) as file:
        process, seeds = (file[f"data/covariance/{name}"][()] for name in ("process", "seeds"))
    members = [[0, 1], [2], [3], [4]]
    process, seeds = (
        np.array([[matrix[np.ix_(one, other)].sum() for other in members] for one in members])
        for matrix in (process, seeds)
    )
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        tables = {
            name: yaml.safe_load(archive.extractfile(f"{name}.yaml"))["dependent_variables"][0]["values"]
            for name in ("distribution_of_pt", "systematic_covariance_of_eta", "systematic_covariance_of_pt_and_eta")
        }
    errors = [{each["label"]: each["symerror"] for each in line["errors"]} for line in tables["distribution_of_pt"]]
    for name, matrix in (("process", process), ("seeds", seeds)):
        np.testing.assert_allclose([each[f"sys,{name}"] for each in errors], np.sqrt(np.diag(matrix))[:2])
    for name, part in (("eta", (slice(2, 4), slice(2, 4))), ("pt_and_eta", (slice(0, 2), slice(2, 4)))):
        values = [each["value"] for each in tables[f"systematic_covariance_of_{name}"]]
        np.testing.assert_allclose(values, (process + seeds)[part].ravel())


def test_the_bins_of_a_method(study, tmp_path, monkeypatch):
    with ExitStack() as stack:
        rows = open_rows(Path(BINNED), stack)
        found = spectra_of(rows, {"pt": EDGES})
        names = write_hepdata(rows, found, tmp_path / "a.tar.gz")
        assert names == ["Distribution of pt", "Statistical covariance of pt"]
        with pytest.raises(ExportError, match="is there already"):
            write_hepdata(rows, found, tmp_path / "a.tar.gz")
        monkeypatch.setitem(sys.modules, "hepdata_lib", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'pullback\[hepdata\]'"):
            write_hepdata(rows, found, tmp_path / "b.tar.gz")
    with pullback.open_unfolded(tmp_path / "a.tar.gz") as ours, pullback.open_unfolded(BINNED) as theirs:
        for one, other in zip(ours.bins["pt"], theirs.bins["pt"], strict=True):
            np.testing.assert_array_equal(one, other)
    (tmp_path / "c.tar.gz").write_bytes(b"x")
    with pytest.raises(ExportError, match="not a file of unfolded events"):
        pullback.open_unfolded(tmp_path / "c.tar.gz")
