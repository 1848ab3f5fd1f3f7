"""HEPData submissions: accepted by HEPData's validator, and the same bins when they are read back."""

import json
import sys
import tarfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import yaml
from unfolded_results import BINNED, DISTRIBUTION, EDGES

import pullback
from pullback.core.optional import MissingExtraError
from pullback.report.export import ExportError
from pullback.report.unfolded.hepdata import write_hepdata
from pullback.report.unfolded.normalisation import Normalisation
from pullback.report.unfolded.opening import open_rows
from pullback.report.unfolded.spectra import spectra_of

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
        "Statistical covariance of pt and eta",
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
    assert json.loads(json.dumps(files["metadata.json"]))["systematics"] == ["jes", "jer"]


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
