"""Where a ROOT file has what is read: trees, parts of a file, and what a look at it tells."""

import json

import numpy as np
import pytest

pytest.importorskip("uproot", reason="pip install 'pullback[hep]'")
import awkward as ak
import uproot
from pydantic import ValidationError
from rootfiles import MAP, collisions, read_job, write

from pullback.ensembles.store import EnsembleReader
from pullback.problems.read import read
from pullback.readers.base import ReadError
from pullback.readers.root import RootFiles
from pullback.readers.root_contents import describe, propose


def load(path):
    with EnsembleReader(path) as reader:
        return {name: reader.pairs().read(name) for name in reader.columns if name != "fake"}


@pytest.fixture(scope="module")
def branches():
    return collisions(30)


@pytest.fixture(scope="module")
def several(branches, tmp_path_factory):
    """Events of three cycles, the last a histogram, and another one in a folder."""
    path = tmp_path_factory.mktemp("several") / "r{1} [a]*.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: values[:5] for name, values in branches.items()})
        file.mktree("Events", branches)
        file["Events"] = np.histogram([1.0, 2.0])
        file.mkdir("deep")
        file.mktree("deep/Events", {name: values[:9] for name, values in branches.items()})
    return path


TREES = {"Events": 30, "/Events": 30, "Events;2": 30, "Events;1": 5, "deep/Events": 9, "/deep/Events;1": 9}


@pytest.mark.parametrize("tree", TREES)
def test_a_tree_is_named_as_in_uproot(tmp_path, several, tree):
    read(read_job({**MAP, "tree": tree}), [several], [], tmp_path / "a.h5")
    with EnsembleReader(tmp_path / "a.h5") as reader:
        assert reader.attributes["source_entries"] == TREES[tree]


def test_a_table_that_is_not_there(tmp_path, several):
    for tree in ("Events;3", "Other", "deep"):
        with pytest.raises(ReadError, match=f"no TTree or RNTuple '{tree}'; it has .*deep/Events .TTree"):
            read(read_job({**MAP, "tree": tree}), [several], [], tmp_path / "a.h5")


def spec(files, **more):
    return RootFiles.model_validate({**MAP, "files": files, **more})


def without_tree(files, **more):
    return RootFiles.model_validate({**{k: v for k, v in MAP.items() if k != "tree"}, "files": files, **more})


def test_a_tree_may_stand_behind_the_file():
    found = without_tree(
        {"train": ["mc/a.root:deep/Events", "mc/{b}.root:/deep/Events"], "test": ["c.pool.root.1:deep/Events"]}
    )
    assert found.files == {"train": ["mc/a.root", "mc/{b}.root"], "test": ["c.pool.root.1"]}
    assert found.tree == "deep/Events"
    assert without_tree({"test": ["a.root"]}).tree == "Events"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"test": ["a.root:Other"]}, "name the trees Events, Other: give a family one tree"),
        ({"test": ["root://eos.example//a.root"]}, "root://eos.example//a.root is not on a disk here.*xrdcp"),
        ({"test": ["https://a.example/b.root"]}, "is not on a disk here"),
    ],
)
def test_files_that_are_not_taken(files, words):
    with pytest.raises(ValidationError, match=words):
        spec(files)


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ("furlong", "found 'furlong', wanted a unit of momentum .MeV. or of angle"),
        ({"pt": "m"}, "'m' is no unit of the same quantity as GeV"),
        ({"eta": "1"}, "eta"),
    ],
)
def test_units_that_are_none(units, words):
    with pytest.raises(ValidationError, match=words):
        spec({}, y={**MAP["y"], "units": units})


def test_a_factor_on_angles_is_refused():
    assert not list(spec({}).check(None))
    ((key, text),) = spec({}, scale=1.02).check(None)
    assert (key, "would stretch angles" in text) == ("scale", True)


def test_a_part_of_a_file(tmp_path, branches):
    """Events keep the number that they have in the whole file."""
    source = write(tmp_path / "a.root", branches)
    read(read_job(), [source], [], tmp_path / "whole.h5")
    parts = [(0, 12), (0.4, 1.0)]
    for number, part in enumerate(parts):
        job = json.dumps({**json.loads(read_job()), "entries": part})
        read(job, [source], [], tmp_path / f"{number}.h5")
    whole, *cut = (load(tmp_path / f"{name}.h5") for name in ("whole", 0, 1))
    for name in ("x", "y", "event_id", "group", "weight", "source_entry"):
        np.testing.assert_array_equal(np.concatenate([part[name] for part in cut]), whole[name])
    assert cut[0]["source_entry"].max() < 12 <= cut[1]["source_entry"].min()
    with pytest.raises(ReadError, match="30 entries, none of them from 40 to 50: correct `entries`"):
        read(json.dumps({**json.loads(read_job()), "entries": [40, 50]}), [source], [], tmp_path / "b.h5")


@pytest.mark.parametrize("kind", ["TTree", "RNTuple"])
def test_what_a_file_holds(tmp_path, branches, kind):
    text = {"name": ak.Array(["a"] * 30)} if kind == "RNTuple" else {}
    source = write(tmp_path / "a.root", {**branches, **text}, kind)
    found = describe(source)
    (tree,) = found["trees"]
    assert (tree["tree"], tree["kind"], tree["entries"]) == ("Events", kind, 30)
    columns = {column["name"]: column for column in tree["columns"]}
    assert set(branches) <= columns.keys()
    pt = ak.to_numpy(ak.flatten(branches["Jet_pt"]))
    assert columns["Jet_pt"]["lists"] is True
    assert columns["Jet_pt"]["range"] == [float(pt.min()), float(pt.max())]
    assert columns["genWeight"]["lists"] is False
    assert all(columns[name]["range"] is None for name in text)
    json.dumps(found)


def test_a_file_suggests_how_it_is_read(tmp_path, branches):
    """The suggestion is a block that reads the file."""
    turned = {**branches, "Jet_phi": branches["Jet_phi"] * 180 / np.pi}
    heavy = {name: values * 1000 if name.endswith(("pt", "mass")) else values for name, values in branches.items()}
    for number, (changed, units) in enumerate(
        [(branches, {}), (turned, {"phi": "deg"}), (heavy, {"pt": "MeV", "mass": "MeV"})]
    ):
        source = write(tmp_path / f"{number}.root", changed)
        block = propose(describe(source))
        assert block["files"] == {"test": [str(source)]}
        assert ("preset" in block) == (not units)
        full = RootFiles.model_validate(block)
        assert (full.match, full.weight) == ("Jet_genJetIdx", "genWeight")
        assert full.x.columns == MAP["x"]
        assert full.y.units == units
        read(read_job({**block, "files": {}}), [source], [], tmp_path / f"{number}.h5")
        if number:
            np.testing.assert_allclose(
                load(tmp_path / f"{number}.h5")["y"], load(tmp_path / "0.h5")["y"], rtol=1e-5, atol=1e-5
            )


def test_an_inspection_has_a_line_for_each_column(tmp_path, branches):
    source = write(tmp_path / "a.root", branches)
    found = RootFiles.inspect(source)
    lines = dict(found.lines)
    assert lines["Events"].startswith("TTree, 30 entries")
    assert "a list in each entry" in lines["  Jet_pt"]
    assert found.read == propose(describe(source))
    assert len(found.plots["GenJet_mass"]) == ak.sum(ak.num(branches["GenJet_mass"]))
    signed = RootFiles.inspect(write(tmp_path / "c.root", {**branches, "genWeight": -branches["genWeight"]}))
    assert signed.read.keys() == {"kind", "files", "tree", "y", "x", "match"}
    assert ("  genWeight", "is not in the block") in [(name, text[:19]) for name, text in signed.lines]
    nothing = RootFiles.inspect(write(tmp_path / "b.root", {"genWeight": branches["genWeight"]}))
    assert nothing.read is None
    assert "name them in `y`" in nothing.hint


@pytest.mark.parametrize(
    ("names", "y", "x"),
    [
        (("reco_jet_pt", "reco_jet_eta", "reco_jet_phi"), "reco_jet", None),
        (("jets.pt", "jets.eta", "jets.phi", "truthjets.pt", "truthjets.eta", "truthjets.phi"), "jets", "truthjets"),
        (("Jet_pt", "Jet_eta", "Jet_phi", "FatJet_pt", "FatJet_eta", "FatJet_phi", "Muon_pt"), "Jet", None),
        (("Muon_pt", "Muon_eta", "Muon_phi", "Tau_pt", "Tau_eta", "Tau_phi"), None, None),
    ],
)
def test_jets_are_known_by_their_names(names, y, x):
    columns = [{"name": name, "type": "float[]", "lists": True, "range": [0.0, 3.0], "median": 1.0} for name in names]
    found = propose({"path": "a.root", "trees": [{"tree": "T", "columns": columns}]})
    if y is None:
        assert found is None
        return
    assert found["y"]["pt"].removesuffix("_pt").removesuffix(".pt") == y
    assert ("x" in found) == (x is not None)
    assert x is None or found["x"]["pt"].startswith(x)


def test_a_damaged_file_has_no_contents(tmp_path):
    (tmp_path / "a.root").write_bytes(b"PK" + bytes(100))
    with pytest.raises(ReadError, match=r"a\.root: not a ROOT file"):
        describe(tmp_path / "a.root")


def test_presets_are_branch_maps(tmp_path, branches):
    """Keys beside a preset replace its own; data have no truth and no weights."""
    source = write(tmp_path / "a.root", branches)
    read(read_job(MAP), [source], [], tmp_path / "plain.h5")
    read(read_job({"kind": "root", "preset": "nanoaod", "y_pt_min": 15.0}), [source], [], tmp_path / "preset.h5")
    with EnsembleReader(tmp_path / "plain.h5") as plain, EnsembleReader(tmp_path / "preset.h5") as preset:
        assert preset.digest == plain.digest
    data = RootFiles(kind="root", files={}, preset="nanoaod-data", y_pt_min=15.0)
    assert not data.has_truth
    assert data.weight is None
    jets = {name: values for name, values in branches.items() if name in MAP["y"].values()}
    found = RootFiles.inspect(write(tmp_path / "data.root", jets))
    assert found.read == {"kind": "root", "files": {"test": [str(tmp_path / "data.root")]}, "preset": "nanoaod-data"}
    assert len(found.plots) == 4
