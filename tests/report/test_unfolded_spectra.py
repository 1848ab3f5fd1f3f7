"""Contents of bins and their covariance, against numpy's histograms, sums over groups, and differences."""

import json
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

import pullback
from pullback.ensembles.store import EnsembleReader
from pullback.ensembles.unfolded import Bins, Unfolded, UnfoldedReader, write_unfolded
from pullback.report.export import ExportError
from pullback.report.unfolded import spectra
from pullback.report.unfolded.normalisation import Normalisation
from pullback.report.unfolded.opening import open_rows
from pullback.report.unfolded.published import published, write_spectra_csv
from pullback.report.unfolded.spectra import spectra_of, usual_edges
from unfolded_results import BINNED, DISTRIBUTION, DRAWS, EDGES, ENSEMBLE, POSTERIOR, X, job

ETA = np.array([-1.0, 0.0, 0.5, 4.0])


@pytest.fixture
def opened(study):
    with ExitStack() as stack:
        yield lambda path: open_rows(Path(path), stack)


def test_replicas_are_counted_one_by_one(opened, monkeypatch):
    """Contents and joint covariance are those of a numpy histogram of each replica; blocks do not matter."""
    monkeypatch.setattr(spectra, "BLOCK_ROWS", 77)
    found = spectra_of(opened(DISTRIBUTION), {"pt": EDGES, "eta": ETA})
    x, weight = UnfoldedReader(DISTRIBUTION).unfolded[:2]
    each = []
    for w in weight.T:
        contents = [np.histogram(x[:, j], edges, weights=w)[0] for j, edges in enumerate((EDGES, ETA))]
        each.append(np.concatenate([contents[0], [w.sum()], contents[1], [w.sum()]]))
    np.testing.assert_allclose(found.content, each[0], rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(np.transpose(each[1:])), rtol=1e-9)
    assert found.joint
    contents, covariance = pullback.open_unfolded(DISTRIBUTION).histogram("eta", ETA)
    np.testing.assert_allclose(contents, each[0][5:8], rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(np.transpose(each[1:])[5:8]), rtol=1e-9)


def test_edges_belong_to_bins_as_numpy_has_it():
    x = np.array([30, 50, 49.999, 200, 200.1, 29, np.nan, 80])
    rows = SimpleNamespace(
        n=len(x),
        columns={"pt": 0, "weight": 0, "group": 0},
        metadata={"features": {"pt": "GeV"}},
        read=lambda names, start, stop: {"pt": x, "weight": np.ones(len(x)), "group": np.arange(len(x))},
    )
    found = spectra_of(rows, {"pt": EDGES})
    assert found.content.tolist() == [*np.histogram(x, EDGES)[0], len(x)]


@pytest.mark.parametrize("in_order", [True, False])
def test_draws_vary_by_their_collisions(opened, monkeypatch, in_order):
    """The covariance is that of a Poisson bootstrap of the groups: sums over groups, and within errors a bootstrap."""
    monkeypatch.setattr(spectra, "GROUPS", 7)
    monkeypatch.setattr(spectra, "BLOCK_ROWS", 11)
    rows = opened(POSTERIOR)
    assert spectra._in_order(rows)
    monkeypatch.setattr(spectra, "_in_order", lambda rows: in_order)
    found = spectra_of(rows, {"pt": EDGES})
    block = rows.read(["pt", "weight"], 0, rows.n)
    with EnsembleReader(ENSEMBLE) as events:
        group = np.repeat(events.read("group"), DRAWS)
    each = []
    for number in np.unique(group):
        inside = (group == number) & np.isfinite(block["pt"])
        contents = np.histogram(block["pt"][inside], EDGES, weights=block["weight"][inside])[0]
        each.append([*contents, block["weight"][group == number].sum()])
    each = np.array(each)
    np.testing.assert_allclose(found.content, each.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, each.T @ each, rtol=1e-10)
    replicas = np.random.default_rng(0).poisson(1.0, (4000, len(each))) @ each
    away = (replicas - each.sum(axis=0)) ** 2
    # The error of a mean of squares, from their own spread.
    assert (np.abs(away.mean(axis=0) - np.diag(found.covariance)) < 4 * away.std(axis=0) / np.sqrt(4000)).all()


def test_bins_are_added_up(opened):
    bins = UnfoldedReader(BINNED).bins["pt"]
    contents, covariance = pullback.open_unfolded(BINNED).histogram("pt", [30, 80, 200])
    np.testing.assert_allclose(contents, [bins.content[:2].sum(), bins.content[2:].sum()])
    blocks = bins.covariance.reshape(2, 2, 2, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(covariance, blocks)
    found = spectra_of(opened(BINNED), {"pt": EDGES[1:3]})
    assert found.content.tolist() == [bins.content[1], bins.content.sum()]
    with pytest.raises(ExportError, match=r"bins of pt with edges 30, 50, 80, 120, 200: bins can be added up, not div"):
        spectra_of(opened(BINNED), {"pt": [30, 60, 200]})
    with pytest.raises(ExportError, match="has no bins of 'eta', only of pt"):
        spectra_of(opened(BINNED), {"eta": ETA})
    assert usual_edges(opened(BINNED))["pt"].tolist() == EDGES.tolist()


def test_the_joint_covariance_of_a_method(study, tmp_path):
    spread = np.random.default_rng(6).normal(size=(3, 3))
    joint = spread @ spread.T
    # Not in the order of the alphabet, which HDF5 keeps.
    bins = {"pt": Bins(EDGES[:3], np.ones(2), joint[:2, :2]), "eta": Bins(ETA[:2], np.ones(1), joint[2:, 2:])}
    with EnsembleReader(ENSEMBLE) as events:
        more = [X, events, job("ibu"), {}, {}, {"returns": "approximate"}]
        write_unfolded(tmp_path / "a.h5", Unfolded(bins=bins, joint=joint), *more)
    with ExitStack() as stack:
        found = spectra_of(open_rows(tmp_path / "a.h5", stack), {"pt": EDGES[:3], "eta": ETA[:2]})
    assert found.joint
    np.testing.assert_allclose(found.covariance[np.ix_([0, 1, 3], [0, 1, 3])], joint)


def test_edges_of_the_metrics(jets, tmp_path, monkeypatch):
    """Of a distribution without bins those of its spectra in the metrics of the study."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        rows = open_rows(jets / DISTRIBUTION, stack)
        with pytest.raises(ExportError, match=r"omnifold.examples.h5 has no spectra of it: give them, --bins pt=EDGE"):
            usual_edges(rows)
        path = Path("results/jets/metrics/hep/omnifold.examples.h5")
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            file["default/0/data/pt/edges"] = EDGES[:2]
            file["default/1/data/eta/edges"] = ETA
        assert {name: edges.tolist() for name, edges in usual_edges(rows).items()} == {"eta": ETA.tolist()}


def test_bins_of_two_features_with_a_joint_covariance():
    """A line for each bin, and for all of a feature; what is added up has the sum of the covariances."""
    rng = np.random.default_rng(5)
    spread = rng.normal(size=(7, 7))
    joint, contents = spread @ spread.T, rng.uniform(1, 9, 7)
    bins = {"pt": Bins(EDGES, contents[:4], joint[:4, :4]), "eta": Bins(ETA, contents[4:], joint[4:, 4:])}
    units = {"features": {"pt": "GeV", "eta": "1"}}
    rows = SimpleNamespace(n=0, columns={}, metadata=units, bins=bins, joint=joint, path="a.h5")
    found = spectra_of(rows, {"eta": ETA[::3], "pt": EDGES[[0, 2, 3]]})
    members = [[4, 5, 6], [4, 5, 6], [0, 1], [2], [0, 1, 2, 3]]
    np.testing.assert_allclose(found.content, [contents[each].sum() for each in members])
    wanted = np.array([[joint[np.ix_(one, other)].sum() for other in members] for one in members])
    np.testing.assert_allclose(found.covariance, wanted)
    assert found.joint
    rows.joint = None
    apart = spectra_of(rows, {"eta": ETA[::3], "pt": EDGES[[0, 2, 3]]})
    np.testing.assert_allclose(apart.covariance[2:, 2:], wanted[2:, 2:])
    assert not apart.covariance[:2, 2:].any()
    assert not apart.joint


@pytest.mark.parametrize(
    "scale", [Normalisation(), Normalisation(138), Normalisation(None, 830), Normalisation(138, 830)]
)
def test_absolute_numbers(opened, scale):
    """Covariances follow from derivatives; a cross-section is that of all rows; a luminosity turns it into events."""
    rows = opened(DISTRIBUTION)
    everything = spectra_of(rows, {"eta": np.array([-10.0, 0.0, 10.0])})
    found = spectra_of(rows, {"pt": EDGES})
    (all_of_it,), (some,) = (list(published(rows, each, scale, {})) for each in (everything, found))
    total = {(): found.content[-1], (138,): found.content[-1], (830,): 830.0, (138, 830): 830.0 * 138e3}
    known = tuple(value for value in scale if value is not None)
    assert all_of_it.contents.value.sum() == pytest.approx(total[known], rel=1e-12)
    integral = {(): 1.0, (138,): found.content[-1] / 138e3, (830,): 830.0, (138, 830): 830.0}
    assert (all_of_it.differential.value * 10).sum() == pytest.approx(integral[known], rel=1e-12)
    assert some.differential.quantity.unit == ("1/GeV" if not known else "pb/GeV")
    # A change of the contents along the first two principal axes, both ways.
    entries = found.content
    for quantity, values, width in (
        (scale.contents, some.contents, 1.0),
        (scale.differential, some.differential, np.diff(EDGES)),
    ):
        step = 1e-4
        basis = np.eye(len(entries)) * step
        slope = np.transpose([quantity.value(entries + e) - quantity.value(entries - e) for e in basis]) / (2 * step)
        slope /= np.reshape(width, (-1, 1))
        np.testing.assert_allclose(values.covariance, slope @ found.covariance @ slope.T, rtol=1e-5)


def test_a_line_for_each_bin(opened, tmp_path):
    rows = opened(DISTRIBUTION)
    found = spectra_of(rows, {"pt": EDGES, "eta": ETA})
    up = found.bins("pt").content * 1.1
    both = np.array([found.bins("pt").content - 3, found.bins("pt").content + 5])
    shifts = {"jes": {"pt": up}, "jer": {"pt": both, "eta": found.bins("eta").content}}
    write_spectra_csv(rows, found, tmp_path / "a.csv", Normalisation(138), shifts)
    table = np.genfromtxt(tmp_path / "a.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert table["feature"].tolist() == ["pt"] * 4 + ["eta"] * 3
    np.testing.assert_array_equal(table["low"][:4], EDGES[:-1])
    np.testing.assert_array_equal(table["content"], [*found.bins("pt").content, *found.bins("eta").content])
    np.testing.assert_array_equal(table["content_stat"][:4], np.sqrt(np.diag(found.bins("pt").covariance)))
    np.testing.assert_allclose(table["content_jes"][:4], 0.1 * found.bins("pt").content, rtol=1e-9)
    np.testing.assert_allclose(table["content_jer"], [4] * 4 + [0] * 3, rtol=1e-9)
    assert np.isnan(table["content_jes"][4:]).all()
    np.testing.assert_allclose(table["differential"] * (table["high"] - table["low"]) * 138e3, table["content"])
    said = json.loads((tmp_path / "a.csv.json").read_text())
    assert said["luminosity_fb"] == 138
    np.testing.assert_array_equal(said["content_covariance"]["eta"], found.bins("eta").covariance)
    (values,) = (each.contents for each in published(rows, found, Normalisation(), shifts) if each.feature == "pt")
    change = 0.1 * found.bins("pt").content
    np.testing.assert_allclose(values.systematic, np.outer(change, change) + 16.0, rtol=1e-9)
    with pytest.raises(ExportError, match="systematic jes: of 'phi', wanted pt, eta"):
        list(published(rows, found, Normalisation(), {"jes": {"phi": up}}))
    with pytest.raises(ExportError, match=r"systematic jes: contents of pt of shape \(3,\), wanted \(4,\) or \(2, 4\)"):
        list(published(rows, found, Normalisation(), {"jes": {"pt": up[:3]}}))


@pytest.mark.parametrize("edges", [[30], [50, 30], [30, np.inf], [30, 30, 50]])
def test_edges_that_are_none(opened, edges):
    with pytest.raises(ExportError, match=r"edges of pt: found .*, wanted two or more increasing numbers"):
        spectra_of(opened(DISTRIBUTION), {"pt": edges})
