"""Kinds of ROOT files beside the reported ones: other placeholders, padding, quantities, numbers, and trees."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("uproot", reason="pip install 'pullback[hep]'")
import awkward as ak
import uproot
from pydantic import ValidationError
from rootfiles import MAP, collisions, read_job, write

from pullback.ensembles.store import EnsembleReader
from pullback.problems.read import read
from pullback.readers.base import OutsideFile, ReadError
from pullback.readers.jets import X_FIELD, Y_FIELD
from pullback.readers.root import RootFiles
from pullback.readers.root_contents import describe, propose


@pytest.fixture(scope="module")
def branches():
    return collisions()


def load(path):
    with EnsembleReader(path) as reader:
        return {name: reader.pairs().read(name) for name in reader.columns if name != "fake"} | {
            "attributes": reader.attributes
        }


def events(folder, branches, kind="TTree", **more):
    (folder / "a.h5").unlink(missing_ok=True)
    read(read_job({**MAP, **more}), [write(folder / "a.root", branches, kind)], [], folder / "a.h5")
    return load(folder / "a.h5")


@pytest.fixture(scope="module")
def plain(branches, tmp_path_factory):
    return events(tmp_path_factory.mktemp("plain"), branches)


def changed(branches, name, change):
    return {**branches, name: ak.Array([change(i, row) for i, row in enumerate(ak.to_list(branches[name]))])}


def first(value):
    """The first jet of the first five collisions that have one, with another value."""
    return lambda i, row: [value, *row[1:]] if i < 10 and row else row


@pytest.mark.parametrize(
    ("name", "value"),
    [("Jet_pt", 9999.0), ("GenJet_mass", 999.0), ("GenJet_mass", -1.0), ("Jet_eta", -9.0), ("Jet_eta", -10.0),
     ("Jet_genJetIdx", -9)],
)  # fmt: skip
def test_other_numbers_that_stand_for_a_missing_value(tmp_path, branches, name, value):
    bad = changed(branches, name, first(value))
    with pytest.raises(ReadError, match=f"branch '{name}' is a placeholder in entry"):
        events(tmp_path, bad)
    found = events(tmp_path, bad, invalid="drop")
    (said,) = json.loads(found["attributes"]["left_out"])
    assert said == f"'{name}' is a placeholder"


def test_no_jet_has_more_momentum_than_a_beam(tmp_path, branches):
    for name, value in (("Jet_pt", 2.0e5), ("GenJet_eta", 13.0)):
        with pytest.raises(ReadError, match=f"'{name}' is out of range in entry"):
            events(tmp_path, changed(branches, name, first(value)))


def test_a_list_that_is_missing(tmp_path, branches, plain):
    entry = int(plain["source_entry"][0])
    for names in (["Jet_pt"], [name for name in branches if name.startswith("Jet_")], ["Jet_genJetIdx"]):
        bad = branches
        for name in names:
            bad = changed(bad, name, lambda i, row: None if i == entry else row)
        with pytest.raises(ReadError, match=rf"'{names[0]}' is missing \(None\) in entry {entry} \(1 of 60 entries"):
            events(tmp_path, bad, "RNTuple")
        found = events(tmp_path, bad, "RNTuple", invalid="drop")
        np.testing.assert_array_equal(found["y"], plain["y"][plain["source_entry"] != entry])
        assert json.loads(found["attributes"]["left_out"]) == {f"'{names[0]}' is missing (None)": 1}


def padded(branches, fill, lists=False):
    """All lists of one length, with another fill of each name's end."""
    longest = max(int(ak.max(ak.num(values))) for values in branches.values() if values.ndim == 2)
    made = {}
    for name, values in branches.items():
        if values.ndim == 1:
            made[name] = values
            continue
        rest = -1 if name.endswith("Idx") else fill.get(name.rpartition("_")[2], fill[""])
        rows = [[*row, *[rest] * (longest - len(row))] for row in ak.to_list(values)]
        array = np.array(rows, np.int32 if name.endswith("Idx") else np.float32)
        made[name] = ak.Array(rows) if lists else array
    return made


FILLS = [({"": 9999.0}, False), ({"": 1e20}, False), ({"": np.nan, "mass": 0}, False), ({"": -10.0, "eta": 0}, False)]


@pytest.mark.parametrize(("fill", "lists"), [*FILLS, ({"": -1.0}, True), ({"": -999.0}, True)])
def test_other_padding(tmp_path, branches, plain, fill, lists):
    found = events(tmp_path, padded(branches, fill, lists))
    for name in ("x", "y", "event_id"):
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-6)
    assert "left_out" not in found["attributes"]


def test_a_branch_that_counts_the_jets_of_arrays(tmp_path, branches, plain):
    """What stands behind the last jet looks like one."""
    counted = padded(branches, {"": 25.0, "eta": 0.5, "phi": 1.0, "mass": 3.0})
    counted |= {"nJet": ak.to_numpy(ak.num(branches["Jet_pt"])), "nGen": ak.to_numpy(ak.num(branches["GenJet_pt"]))}
    with pytest.raises(
        ReadError, match=r"'nJet' counts \d in entry \d+, where 'Jet_pt' has more values: give `count: nJet`"
    ):
        events(tmp_path, counted)
    maps = {"y": {**MAP["y"], "count": "nJet"}, "x": {**MAP["x"], "count": "nGen"}}
    np.testing.assert_array_equal(events(tmp_path, counted, **maps)["x"], plain["x"])
    read_as = propose(describe(tmp_path / "a.root"))
    assert (read_as["y"]["count"], "count" in read_as["x"]) == ("nJet", False)
    with pytest.raises(ReadError, match="'genWeight' holds no whole number"):
        events(tmp_path, counted, y={**MAP["y"], "count": "genWeight"})
    with pytest.raises(ReadError, match=r"no branch 'nJets'.*did you mean 'nJet'"):
        events(tmp_path, counted, y={**MAP["y"], "count": "nJets"})


def both(name, change):
    return lambda b: {**b, **{f"{owner}_{name}": change(b[f"{owner}_{name}"]) for owner in ("Jet", "GenJet")}}


def exchanged(b):
    return {**b, **{f"{o}_{i}": b[f"{o}_{j}"] for o in ("Jet", "GenJet") for i, j in (("eta", "phi"), ("phi", "eta"))}}


UNUSUAL = [
    (both("mass", lambda m: m / 1000), "'GenJet_mass' is below 0.002 of pT for most jets: give `units: {mass: TeV}`"),
    (both("mass", lambda m: m**2 * 3), "is it a mass squared, or an energy?"),
    (both("phi", lambda p: p / (2 * np.pi)), "jets: give `units: {phi: turn}` if it is in turns"),
    (both("eta", np.tanh), "most near the ends: is it the cosine of an angle?"),
    (both("eta", lambda e: 2 * np.arctan(np.exp(-e))), "nowhere negative: is it an angle theta, or |eta|?"),
    (exchanged, "neither -pi to pi nor 0 to 2 pi: is it an azimuth?"),
]


@pytest.mark.parametrize(("change", "words"), UNUSUAL)
def test_quantities_that_look_like_others_are_warned_of(tmp_path, branches, caplog, change, words):
    with caplog.at_level(logging.WARNING, "pullback"):
        events(tmp_path, change(branches))
    assert words in caplog.text


@pytest.mark.parametrize("kind", ["TTree", "RNTuple"])
def test_names_with_dots(tmp_path, branches, plain, kind):
    dotted = {name.replace("_", "."): values for name, values in branches.items()}
    maps = {of: {key: name.replace("_", ".") for key, name in MAP[of].items()} for of in ("x", "y")}
    found = events(tmp_path, dotted, kind, **maps, match="Jet.genJetIdx")
    np.testing.assert_array_equal(found["x"], plain["x"])


def test_a_branch_is_named_once():
    spec = {**MAP, "files": {}}
    with pytest.raises(ValidationError, match="the branch 'Jet_phi' is named for two quantities"):
        RootFiles.model_validate({**spec, "y": {**MAP["y"], "eta": "Jet_phi"}})
    ((key, text),) = RootFiles.model_validate({**spec, "x": {**MAP["x"], "mass": "Jet_mass"}}).check(None)
    assert (key, text) == ("x", "names the branch 'Jet_mass' of `y`: name those of the truth")


REFUSED = [
    (both("pt", lambda pt: pt * 1e6), {}, "it looks like keV: give `units: keV`"),
    (both("mass", lambda m: m * 1e6), {}, "it looks like keV: give `units: {mass: keV}`"),
    (both("phi", lambda p: p * 1000), {}, "it looks like milliradians: give `units: mrad`"),
    (both("eta", lambda e: np.degrees(2 * np.arctan(np.exp(-e)))), {}, "wanted pseudorapidities; name the branch"),
    (dict, {"y": {"pt": "Jet_eta", "eta": "Jet_mass", "phi": "Jet_phi"}}, "'Jet_eta' is not positive for .* wanted pT"),
    (both("eta", lambda e: e > 0), {}, "branch 'Jet_eta' holds bool.., wanted a list per entry, of numbers"),
    (lambda b: {**b, "n": np.arange(60) // 2}, {"event": "n"}, r"in entry \d+ and in entry \d+, wanted each number"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "more", "words"), REFUSED)
def test_contradictions_are_refused(tmp_path, branches, change, more, words):
    with pytest.raises(ReadError, match=words) as caught:
        events(tmp_path, change(branches), **more)
    assert "\n" not in str(caught.value)


def test_unsigned_indices_have_their_largest_number_for_none(tmp_path, branches, plain, caplog):
    index = branches["Jet_genJetIdx"]
    flat = ak.to_numpy(ak.flatten(index)).astype(np.int64)
    with caplog.at_level(logging.WARNING, "pullback"):
        for dtype in (np.uint8, np.uint32, np.uint64):
            unsigned = ak.unflatten(flat.astype(dtype), ak.num(index))
            assert ak.max(unsigned) == np.iinfo(dtype).max
            np.testing.assert_array_equal(events(tmp_path, {**branches, "Jet_genJetIdx": unsigned})["y"], plain["y"])
    assert not caplog.text


def test_a_collision_may_have_the_number_9999(tmp_path, branches, plain):
    number = np.where(np.arange(60) == 3, 9999, np.arange(60))
    assert len(events(tmp_path, {**branches, "n": number}, event="n")["y"]) == len(plain["y"])


PROBLEM = SimpleNamespace(x=X_FIELD, y=Y_FIELD)


def test_warnings_are_those_of_the_check(tmp_path, branches):
    """They are complete when a small file's first block is given, and more may be left out than a study allows."""
    heavy = {**branches, "genWeight": np.where(np.arange(60) == 0, 1e9, 1.0)}
    spec = RootFiles.model_validate({**MAP, "files": {}})
    with spec.open(PROBLEM, OutsideFile(write(tmp_path / "a.root", heavy))) as found:
        next(iter(found.blocks))
        assert [text.partition(", ")[0].rpartition(": ")[2] for text in found.warnings] == [
            "the largest weight in 'genWeight'"
        ]
    bad = write(tmp_path / "b.root", changed(branches, "Jet_eta", lambda i, row: [-999.0, *row[1:]] if row else row))
    spec = RootFiles.model_validate({**MAP, "files": {}, "invalid": "drop"})
    with pytest.raises(ReadError, match="events are not valid"), spec.open(PROBLEM, OutsideFile(bad)) as found:
        next(iter(found.blocks))


def test_an_empty_tree_beside_a_full_one(tmp_path, branches):
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", branches)
        file.mktree("Events", {name: values[:0] for name, values in branches.items()})
        file.mktree("deep/Events", branches)
    with pytest.raises(ReadError, match=r"'Events' has no entries.* set `tree` to another \(Events;1, deep/Events\)"):
        read(read_job(), [path], [], tmp_path / "a.h5")
    with pytest.raises(ReadError, match=r"no TTree or RNTuple 'Events;7'; it has Events;1 \(TTree\), Events;2"):
        read(read_job({**MAP, "tree": "Events;7"}), [path], [], tmp_path / "a.h5")
    read(read_job({**MAP, "tree": "deep;1/Events;1"}), [path], [], tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"root is how this text begins, and it goes on for a while", "not a ROOT file, though"),
        (b"root\0\0", "truncated"),
    ],
)
def test_files_that_begin_like_one(tmp_path, content, words):
    (tmp_path / "a.root").write_bytes(content)
    with pytest.raises(ReadError, match=words):
        read(read_job(), [tmp_path / "a.root"], [], tmp_path / "a.h5")


def test_placeholders_and_padding_suggest_no_units(tmp_path, branches):
    bad = padded(changed(branches, "Jet_phi", first(-999.0)), {"": -10.0})
    assert propose(describe(write(tmp_path / "a.root", bad)))["preset"] == "nanoaod"
    heavy = {name: values * 1e6 if name.endswith("_pt") else values for name, values in branches.items()}
    heavy = padded(heavy, {"": -999.0})
    assert propose(describe(write(tmp_path / "b.root", heavy)))["y"]["units"] == {"pt": "keV"}
