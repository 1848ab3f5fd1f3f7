"""Unfolded events in ROOT, Parquet and CSV: the numbers of the study's own file, and where they came from."""

import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import pullback
from pullback.core.optional import MissingExtraError
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.store import EnsembleReader
from pullback.ensembles.unfolded import UnfoldedReader
from pullback.report.export import ExportError
from pullback.report.unfolded import files
from pullback.report.unfolded.opening import open_rows
from unfolded_results import DISTRIBUTION, DRAWS, EDGES, ENSEMBLE, EVENTS, PLAIN, POSTERIOR, READ, REPLICAS, TRUTHS

uproot = pytest.importorskip("uproot")
parquet = pytest.importorskip("pyarrow.parquet")
FORMATS = {"ttree.root": files.write_ttree, "rntuple.root": files.write_rntuple, "a.parquet": files.write_parquet}


def exported(source, target, write, events=None):
    with ExitStack() as stack:
        write(open_rows(Path(source), stack, events), target)
    return target


@pytest.fixture(params=FORMATS)
def target(request, tmp_path):
    """A file in each format."""
    return tmp_path / request.param


@pytest.mark.parametrize("source", [DISTRIBUTION, POSTERIOR, PLAIN])
def test_a_file_gives_what_the_study_has(study, target, source, monkeypatch):
    """Columns, weights and bins are the same to the last bit, also where a file is written in many blocks."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 20_000)
    exported(source, target, FORMATS[target.name])
    with pullback.open_unfolded(source) as wanted, pullback.open_unfolded(target) as found:
        assert len(found) == len(wanted) == (TRUTHS if source == DISTRIBUTION else EVENTS * DRAWS)
        assert set(found.columns) == set(wanted.columns)
        assert (found.features, found.units) == (["pt", "eta"], ["GeV", "1"])
        for name in wanted.columns:
            ours = found.read(name)
            assert ours.dtype == wanted.read(name).dtype
            np.testing.assert_array_equal(ours, wanted.read(name))
            np.testing.assert_array_equal(found.read(name, 7, 99), ours[7:99])
        np.testing.assert_array_equal(found.x, wanted.x)
        np.testing.assert_array_equal(found.weight, wanted.weight)
        for ours, theirs in zip(found.histogram("pt", EDGES), wanted.histogram("pt", EDGES), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert found.metadata == wanted.metadata


def test_a_distribution_as_other_programs_read_it(study, tmp_path):
    unfolded = UnfoldedReader(DISTRIBUTION).unfolded
    for name, write in FORMATS.items():
        exported(DISTRIBUTION, tmp_path / name, write)
    for name in ("ttree.root", "rntuple.root"):
        with uproot.open(tmp_path / name) as file:
            assert file.classnames()["unfolded;1"] == ("TTree" if name == "ttree.root" else "ROOT::RNTuple")
            arrays = file["unfolded"].arrays(library="np")
        np.testing.assert_array_equal(np.column_stack([arrays["pt"], arrays["eta"]]), unfolded.x)
        np.testing.assert_array_equal(arrays["weight"], unfolded.weight[:, 0])
        np.testing.assert_array_equal(arrays["replica_weight"], unfolded.weight[:, 1:])
    table = parquet.read_table(tmp_path / "a.parquet")
    np.testing.assert_array_equal(table["eta"].to_numpy(), unfolded.x[:, 1])
    assert table.schema.field("replica_weight").type.list_size == REPLICAS
    exported(DISTRIBUTION, tmp_path / "a.csv", files.write_csv)
    read = np.genfromtxt(tmp_path / "a.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(read["pt"].astype(np.float32), unfolded.x[:, 0])
    np.testing.assert_array_equal(read[f"replica_weight_{REPLICAS - 1}"], unfolded.weight[:, -1])


def test_draws_can_be_put_back_into_collisions(study, tmp_path):
    exported(POSTERIOR, tmp_path / "a.root", files.write_ttree)
    with uproot.open(tmp_path / "a.root") as file:
        rows = file["unfolded"].arrays(library="np")
    with PosteriorReader(POSTERIOR) as posterior, EnsembleReader(ENSEMBLE) as events:
        assert (rows["event_id"].reshape(-1, DRAWS) == posterior.read("event_id")[:, None]).all()
        assert (rows["draw"].reshape(-1, DRAWS) == np.arange(DRAWS)).all()
        np.testing.assert_array_equal(rows["pt"].reshape(-1, DRAWS), posterior.read("x")[..., 0])
        np.testing.assert_array_equal(rows["log_weight"].reshape(-1, DRAWS), posterior.read("log_weight"))
        ok, weight = posterior.read("ok"), events.read("weight")
        np.testing.assert_array_equal(rows["ok"].reshape(-1, DRAWS), ok)
        for name in ("group", "source_entry", "source_index"):
            np.testing.assert_array_equal(rows[name][::DRAWS], events.read(name))
        np.testing.assert_array_equal(rows["event_weight"][::DRAWS], weight)
        # The draws of an event share its weight, in the ratio of theirs; where all failed nothing is left of it.
        share = np.where(ok, np.exp(posterior.read("log_weight")), 0.0)
        total = share.sum(axis=1, keepdims=True)
        share = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
        share *= weight[:, None]
        np.testing.assert_array_equal(rows["purity"][::DRAWS], posterior.read("purity"))
        np.testing.assert_array_equal(rows["efficiency"].reshape(-1, DRAWS), posterior.read("efficiency"))
        truths = posterior.read("purity")[:, None] * share / np.where(ok, posterior.read("efficiency"), 1)
        np.testing.assert_allclose(rows["weight"].reshape(-1, DRAWS), truths, rtol=1e-6)
    with pullback.open_unfolded(PLAIN) as plain:
        np.testing.assert_allclose(plain.weight.reshape(-1, DRAWS), share, rtol=1e-12)
        assert "the method gives no purity and efficiency" in plain.metadata["weights"]
    assert rows["source_file"].reshape(-1, DRAWS)[:, 0].tolist() == [0] * 25 + [1] * (EVENTS - 25)
    with pullback.open_unfolded(tmp_path / "a.root") as found:
        said = found.metadata
    assert said["weights"] == "truth level: each event's weight times purity / efficiency, shared by its draws"
    assert said["inputs"]["ensemble"]["source_files"] == ["run0.root", "run1.root"]
    assert said["inputs"]["ensemble"]["sum_of_weights"] == 66
    assert said["inputs"]["ensemble"]["cross_section_mb"] == 1e-6
    assert said["inputs"]["result"]["content_digest"] == PosteriorReader(POSTERIOR).digest
    assert (said["selection"]["read"], said["seeds"]) == (READ, {"root": 2026, "repeat": 1})
    assert (said["events"], said["draws"], said["failed_draws"]) == (EVENTS, DRAWS, 1 + DRAWS)
    assert (said["returns"], said["job"]["method"]) == ("approximate", {"kind": "ei-fm"})
    assert said["versions"]["uproot"] == uproot.__version__


def test_some_events(study, tmp_path):
    exported(POSTERIOR, tmp_path / "a.parquet", files.write_parquet, range(24, 31))
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table["event_id"].to_pylist() == [100 + event for event in range(24, 31) for _ in range(DRAWS)]
    assert table["source_file"].to_pylist() == [0] * DRAWS + [1] * 6 * DRAWS
    with pullback.open_unfolded(tmp_path / "a.parquet") as found:
        assert (found.metadata["events"], found.metadata["failed_draws"]) == (7, DRAWS)


def test_memory_is_bounded_and_a_failure_leaves_nothing(study, target, monkeypatch):
    """Rows are read some at a time; what stops on the way leaves no file."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 3000)
    with ExitStack() as stack:
        rows = open_rows(Path(DISTRIBUTION), stack)
        sizes, read = [], rows.read

        def counted(names, start, stop):
            sizes.append(stop - start)
            if len(sizes) == fail:
                raise RuntimeError("stopped")
            return read(names, start, stop)

        monkeypatch.setattr(rows, "read", counted)
        fail = 3
        with pytest.raises(RuntimeError, match="stopped"):
            FORMATS[target.name](rows, target)
        assert list(target.parent.iterdir()) == []
        sizes.clear()
        fail = 0
        FORMATS[target.name](rows, target)
        # pt and eta of 4 bytes, and the weights of 8.
        assert max(sizes) == 3000 // (8 + 8 * (1 + REPLICAS))
        assert sum(sizes) == TRUTHS


def test_what_is_no_export_is_refused(study, tmp_path, monkeypatch):
    (tmp_path / "a.root").write_bytes(b"root")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with uproot.recreate(tmp_path / "b.root") as file:
        file["Events"] = {"pt": np.ones(3)}
    for name in ("a.root", "b.root", "a.parquet"):
        with pytest.raises(ExportError, match="not a file of unfolded events"):
            pullback.open_unfolded(tmp_path / name)
    with pytest.raises(ExportError, match="there is no such file"):
        pullback.open_unfolded(tmp_path / "none.root")
    with pytest.raises(ExportError, match="a file of kind 'ensemble-index', wanted a posterior or an unfolded"):
        pullback.open_unfolded(ENSEMBLE)
    with pullback.open_unfolded(DISTRIBUTION) as found:
        with pytest.raises(ExportError, match="no feature 'Pt', wanted one of pt, eta; did you mean 'pt'"):
            found.histogram("Pt", EDGES)
        with pytest.raises(KeyError, match="no column 'event_id'; it has pt, eta, weight, replica_weight"):
            found.read("event_id")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'pyarrow'.*pip install 'pullback\[hep\]'"):
        exported(DISTRIBUTION, tmp_path / "c.parquet", files.write_parquet)
