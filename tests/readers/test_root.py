"""Reading ROOT files: self-made twins always, real CMS files where they are."""

import logging
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uproot", reason="pip install 'pullback[hep]'")
import awkward as ak
import uproot
from rootfiles import MAP, collisions, read_job, wanted_pairs, write

from pullback.core.optional import MissingExtraError
from pullback.ensembles.store import EnsembleReader
from pullback.problems.read import read as read_files
from pullback.readers.base import ReadError

CMS = Path(os.environ.get("PULLBACK_DATA", Path(__file__).parents[2] / "../shared/data")) / "cms"
TTBAR = CMS / "nanoAOD_2015_CMS_Open_Data_ttbar.root"
needs_cms = pytest.mark.skipif(not TTBAR.exists(), reason="no CMS files: set PULLBACK_DATA to the folder that has cms/")

KINDS = ["TTree", "RNTuple"]


def read(job, source, out):
    read_files(job, [source], [], out)


def load(path):
    with EnsembleReader(path) as reader:
        return {name: reader.pairs().read(name) for name in reader.columns if name != "fake"} | {
            "digest": reader.digest,
            "attributes": reader.attributes,
        }


@pytest.fixture(scope="module")
def branches():
    return collisions()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("radius", [None, 0.4], ids=["by index", "by distance"])
def test_matched_jets_are_those_of_plain_loops(tmp_path, branches, kind, radius):
    source = write(tmp_path / "a.root", branches, kind)
    mapping = {**MAP, "match": MAP["match"] if radius is None else None}
    read(read_job(mapping, shard=3), source, tmp_path / "a.h5")
    found = load(tmp_path / "a.h5")
    pairs = wanted_pairs(branches, radius)
    assert len(pairs) > 60
    for field, owner, pick in (("x", "GenJet", 2), ("y", "Jet", 1)):
        for i, name in enumerate(("pt", "eta", "phi", "mass")[: found[field].shape[1]]):
            values = [branches[f"{owner}_{name}"][pair[0]][pair[pick]] for pair in pairs]
            # float32 in the file and in the store; wrapping phi passes through float64
            np.testing.assert_allclose(found[field][:, i], values, rtol=0, atol=1e-6)
    assert found["source_entry"].tolist() == [entry for entry, _, _ in pairs]
    assert found["source_index"].tolist() == [jet for _, jet, _ in pairs]
    assert found["event_id"].tolist() == [(3 << 44) | (entry << 8) | jet for entry, jet, _ in pairs]
    assert found["group"].tolist() == [(3 << 36) | entry for entry, _, _ in pairs]
    np.testing.assert_array_equal(found["weight"], branches["genWeight"][found["source_entry"]].astype(np.float64))
    assert found["attributes"]["source_file"] == "a.root"
    assert found["attributes"]["source_tree"] == "Events"
    assert found["attributes"]["source_format"] == kind


@pytest.mark.parametrize("mapping", [MAP, {**MAP, "match": None}, {**MAP, "match": None, "weight": None}])
@pytest.mark.parametrize("truth", [True, False])
def test_twins_give_identical_arrays(tmp_path, branches, mapping, truth):
    digests = []
    for kind in KINDS:
        read(read_job(mapping, truth), write(tmp_path / f"{kind}.root", branches, kind), tmp_path / f"{kind}.h5")
        digests.append(load(tmp_path / f"{kind}.h5")["digest"])
    assert digests[0] == digests[1]


def test_collisions_that_are_numbered_are_known_by_their_number(tmp_path, branches):
    """However they are cut into files; nothing then says where in a file they stood."""
    n = len(branches["genWeight"])
    number = np.random.default_rng(2).permutation(n) + (5 << 20)
    numbered = {**branches, "event": number.astype(np.int64)}
    for name, part in (("whole", slice(None)), ("first", slice(0, 25)), ("second", slice(25, None))):
        cut = {key: values[part] for key, values in numbered.items()}
        read(read_job({**MAP, "event": "event"}), write(tmp_path / f"{name}.root", cut), tmp_path / f"{name}.h5")
    whole, first, second = (load(tmp_path / f"{name}.h5") for name in ("whole", "first", "second"))
    for name in ("x", "y", "event_id", "group", "weight"):
        np.testing.assert_array_equal(np.concatenate([first[name], second[name]]), whole[name])
    pairs = wanted_pairs(branches, None)
    assert whole["event_id"].tolist() == [(int(number[entry]) << 6) | jet for entry, jet, _ in pairs]
    assert "source_entry" not in whole
    twice = {**numbered, "event": np.full(n, 2**60)}
    with pytest.raises(ReadError, match=r"'event' holds int64 from .*wanted whole numbers from 0 to"):
        read(read_job({**MAP, "event": "event"}), write(tmp_path / "a.root", twice), tmp_path / "a.h5")


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_do_not_matter(tmp_path, branches, kind):
    source = write(tmp_path / "a.root", branches, kind)
    read(read_job(), source, tmp_path / "whole.h5")
    read(read_job({**MAP, "chunk": 7}), source, tmp_path / "cut.h5")
    assert load(tmp_path / "cut.h5")["digest"] == load(tmp_path / "whole.h5")["digest"]


def test_observed_data_have_no_truth_and_need_none(tmp_path, branches):
    data = {
        name: values for name, values in branches.items() if not name.startswith("GenJet") and name != "Jet_genJetIdx"
    }
    mapping = {**MAP, "x": None, "match": None}
    read(read_job(mapping, truth=False), write(tmp_path / "data.root", data), tmp_path / "data.h5")
    found = load(tmp_path / "data.h5")
    pt = ak.flatten(branches["Jet_pt"])
    assert "x" not in found
    np.testing.assert_array_equal(found["y"][:, 0], ak.to_numpy(pt[pt >= 15]))
    # The same observations whether or not the file has a truth that is not to be used.
    read(read_job(MAP, truth=False), write(tmp_path / "more.root", branches), tmp_path / "more.h5")
    assert load(tmp_path / "more.h5")["digest"] == found["digest"]


def test_jets_without_mass_are_massless(tmp_path, branches):
    mapping = {**MAP, "x": {**MAP["x"], "mass": None}, "y": {**MAP["y"], "mass": None}}
    read(read_job(mapping), write(tmp_path / "a.root", branches), tmp_path / "a.h5")
    assert np.all(load(tmp_path / "a.h5")["x"][:, 3] == 0)


def test_two_jets_that_name_one_truth_jet_leave_it_to_the_nearer(tmp_path):
    branches = {
        "GenJet_pt": [[100.0, 80.0]], "GenJet_eta": [[0.0, 2.0]], "GenJet_phi": [[0.0, 1.0]],
        "GenJet_mass": [[5.0, 5.0]],
        "Jet_pt": [[70.0, 60.0, 50.0]], "Jet_eta": [[0.2, 0.1, 2.0]], "Jet_phi": [[0.0, 0.0, 1.0]],
        "Jet_mass": [[0.0, 0.0, 0.0]], "Jet_genJetIdx": [[0, 0, 1]], "genWeight": [1.0],
    }  # fmt: skip
    read(read_job(), write(tmp_path / "a.root", {k: ak.Array(v) for k, v in branches.items()}), tmp_path / "a.h5")
    assert load(tmp_path / "a.h5")["source_index"].tolist() == [1, 2]


def test_angles_from_zero_to_two_pi_are_wrapped(tmp_path, branches, caplog):
    turned = {
        **branches,
        "Jet_phi": branches["Jet_phi"] % (2 * np.pi),
        "GenJet_phi": branches["GenJet_phi"] % (2 * np.pi),
    }
    read(read_job(), write(tmp_path / "a.root", branches), tmp_path / "a.h5")
    with caplog.at_level(logging.WARNING, "pullback"):
        read(read_job(), write(tmp_path / "b.root", turned), tmp_path / "b.h5")
    np.testing.assert_allclose(load(tmp_path / "b.h5")["y"], load(tmp_path / "a.h5")["y"], atol=1e-6)
    assert not caplog.text


def with_nan(branches):
    values = ak.to_list(branches["GenJet_eta"])
    entry = next(i for i, jets in enumerate(values) if len(jets) > 1)
    values[entry][1] = float("nan")
    return {**branches, "GenJet_eta": ak.Array(values)}


def test_columns_of_a_list_of_records(tmp_path, branches):
    """An RNTuple may hold jets as one list of records: its columns are named Jet.pt and so on."""
    grouped = {
        owner: ak.zip({name: branches[f"{owner}_{name}"] for name in names})
        for owner, names in (
            ("Jet", ("pt", "eta", "phi", "mass", "genJetIdx")),
            ("GenJet", ("pt", "eta", "phi", "mass")),
        )
    }
    source = write(tmp_path / "records.root", grouped | {"genWeight": branches["genWeight"]}, "RNTuple")
    dotted = {owner: {n: f"{o}.{n}" for n in MAP[owner]} for owner, o in (("x", "GenJet"), ("y", "Jet"))}
    read(read_job({**MAP, **dotted, "match": "Jet.genJetIdx"}), source, tmp_path / "records.h5")
    read(read_job(), write(tmp_path / "flat.root", branches), tmp_path / "flat.h5")
    assert load(tmp_path / "records.h5")["digest"] == load(tmp_path / "flat.h5")["digest"]


def shorter(branches):
    values = ak.to_list(branches["Jet_phi"])
    entry = next(i for i, jets in enumerate(values) if len(jets) > 1)
    values[entry].pop()
    return {**branches, "Jet_phi": ak.Array(values)}


def changed(name, change):
    return lambda branches: {**branches, name: change(branches[name])}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "mapping", "words"),
    [
        (with_nan, {}, "'GenJet_eta' is not finite in entry . .1 of 1"),
        (changed("genWeight", lambda w: np.where(w < 1, np.inf, w)), {}, "'genWeight' is not finite in entry"),
        (shorter, {}, "has . values and 'Jet_phi' .; lists of one kind of object must have the same length"),
        (changed("Jet_genJetIdx", lambda i: ak.where(i == 0, -5, i)), {}, "holds -5 in entry ., out of range"),
        (changed("Jet_genJetIdx", lambda i: ak.where(i >= 0, i + 7, i)), {}, "out of range of the list of truth jets"),
        (changed("Jet_genJetIdx", lambda i: i[:, :1]), {}, "match branch 'Jet_genJetIdx' has 1 values"),
        (changed("Jet_genJetIdx", lambda i: i * 1.0), {}, "wanted whole numbers"),
        (changed("Jet_pt", lambda pt: pt * 1000), {}, "looks like MeV"),
        (changed("GenJet_phi", lambda phi: phi * 180 / np.pi), {}, "looks like degrees"),
        (dict, {"tree": "events"}, r"no TTree or RNTuple 'events'; it has Events"),
        (dict, {"weight": "genweight"}, "no branch 'genweight' .*did you mean 'genWeight'"),
        (dict, {"y": {**MAP["y"], "pt": "Jet_pT"}}, "did you mean 'Jet_pt'"),
        (dict, {"weight": "Jet_pt"}, "wanted one number per entry"),
        (dict, {"y": {**MAP["y"], "pt": "genWeight"}}, "wanted a list per entry"),
        (dict, {"x_pt_min": 5000.0}, "no jets are left after selection"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, branches, kind, change, mapping, words):
    source = write(tmp_path / "bad.root", change(branches), kind)
    with pytest.raises(ReadError, match=words) as caught:
        read(read_job({**MAP, **mapping}), source, tmp_path / "out" / "bad.h5")
    assert "\n" not in str(caught.value)
    assert str(source) in str(caught.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_no_entries(tmp_path, branches, kind):
    source = write(tmp_path / "empty.root", {name: values[:0] for name, values in branches.items()}, kind)
    with pytest.raises(ReadError, match="has no entries"):
        read(read_job(), source, tmp_path / "bad.h5")


def test_entries_without_jets(tmp_path, branches):
    source = write(tmp_path / "a.root", {n: v[:, :0] if n != "genWeight" else v for n, v in branches.items()})
    with pytest.raises(ReadError, match=r"no jets are left after selection .*60 entries, 0 reconstructed jets"):
        read(read_job(), source, tmp_path / "bad.h5")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_truncated_files(tmp_path, branches, kind, part):
    source = write(tmp_path / "a.root", branches, kind)
    content = source.read_bytes()
    source.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ReadError, match="truncated"):
        read(read_job(), source, tmp_path / "bad.h5")
    assert not (tmp_path / "bad.h5").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(tmp_path, branches, kind):
    source = write(tmp_path / "a.root", branches, kind)
    content = bytearray(source.read_bytes())
    content[200:] = bytes(len(content) - 200)
    source.write_bytes(content)
    with pytest.raises(ReadError):
        read(read_job(), source, tmp_path / "bad.h5")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 something else entirely", b"ro"])
def test_not_a_root_file(tmp_path, content):
    (tmp_path / "a.root").write_bytes(content)
    with pytest.raises(ReadError, match="not a ROOT file"):
        read(read_job(), tmp_path / "a.root", tmp_path / "bad.h5")


def test_no_such_file(tmp_path):
    with pytest.raises(ReadError, match="cannot be read"):
        read(read_job(), tmp_path / "missing.root", tmp_path / "bad.h5")


def test_missing_uproot_is_one_line(tmp_path, branches, monkeypatch):
    source = write(tmp_path / "a.root", branches)
    monkeypatch.setitem(sys.modules, "uproot", None)
    with pytest.raises(MissingExtraError, match=r"'uproot'.*pullback\[hep\]"):
        read(read_job(), source, tmp_path / "bad.h5")


@needs_cms
def test_cms_ttbar(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "pullback"):
        read(read_job(), TTBAR, tmp_path / "index.h5")
    found = load(tmp_path / "index.h5")
    # The README of the data counts 537 reconstructed and 527 truth jets in 200 events.
    assert "373 named by the match branch, 11 of these beyond the truth list" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert found["x"][:, 0].min() >= 30
    assert found["y"][:, 0].min() >= 15
    assert 0 < len(found["x"]) <= 373
    assert len(np.unique(found["event_id"])) == len(found["event_id"])
    assert set(found["group"].tolist()) <= set(range(200))
    # CMS matched its jets itself; nearest in Delta R must find the same pairs.
    read(read_job({**MAP, "match": None}), TTBAR, tmp_path / "nearest.h5")
    assert load(tmp_path / "nearest.h5")["digest"] == found["digest"]
    read(read_job({**MAP, "y_pt_min": 5.0}, truth=False), TTBAR, tmp_path / "observed.h5")
    assert load(tmp_path / "observed.h5")["y"].shape == (537, 3)


@needs_cms
def test_a_flipped_bit_is_found_by_the_checksum_of_its_page(tmp_path):
    whole = CMS / "nano_dy_rntuple.root"
    with uproot.open(whole) as file:
        form = file["Events"]["Jet_pt"].to_akform()[0].to_json()
        column = int(re.findall(r"column-(\d+)", form)[-1])
        page = file["Events"].page_link_list[0][column].pages[0].locator
    content = bytearray(whole.read_bytes())
    content[page.offset + page.num_bytes - 1] ^= 1
    (tmp_path / "a.root").write_bytes(content)
    with pytest.raises(ReadError, match=r"a.root: branch 'Jet_pt' does not have its checksum"):
        read(read_job(truth=False), tmp_path / "a.root", tmp_path / "a.h5")


@pytest.mark.parametrize("split", ["train", "test", "reference"])
def test_negative_weights_are_read(tmp_path, branches, split):
    signed = {**branches, "genWeight": np.where(np.arange(60) < 9, -1.0, 1.0)}
    source = write(tmp_path / "a.root", signed, "TTree")
    read(read_job(split=split), source, tmp_path / "a.h5")
    assert load(tmp_path / "a.h5")["weight"].min() == -1


@needs_cms
@pytest.mark.parametrize("truth", [True, False])
def test_cms_twins_give_identical_arrays(tmp_path, truth):
    found = {}
    for name in ("nano_dy", "nano_dy_rntuple"):
        read(read_job(truth=truth), CMS / f"{name}.root", tmp_path / f"{name}.h5")
        found[name] = load(tmp_path / f"{name}.h5")
    assert found["nano_dy"]["digest"] == found["nano_dy_rntuple"]["digest"]
    assert {entry["attributes"]["source_format"] for entry in found.values()} == {"TTree", "RNTuple"}
    assert len(found["nano_dy"]["y"]) == (50 if truth else 188)
