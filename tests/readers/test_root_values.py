"""Values of ROOT files that are none, in other units, or that contradict each other: twins of reported files."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uproot", reason="pip install 'pullback[hep]'")
import awkward as ak
from rootfiles import MAP, collisions, read_job, write

from pullback.ensembles.store import EnsembleReader
from pullback.problems.read import read
from pullback.readers.base import ReadError
from pullback.readers.root_table import RootTable

CASES = Path(os.environ.get("PULLBACK_DATA", Path(__file__).parents[2] / "../shared/data")).parent / "cases/root"
needs_cases = pytest.mark.skipif(not CASES.exists(), reason="no files in ../shared/cases/root")


def load(path):
    with EnsembleReader(path) as reader:
        return {name: reader.pairs().read(name) for name in reader.columns if name != "fake"} | {
            "attributes": reader.attributes
        }


@pytest.fixture(scope="module")
def branches():
    return collisions()


@pytest.fixture(scope="module")
def plain(branches, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    read(read_job(), [write(folder / "a.root", branches)], [], folder / "a.h5")
    return load(folder / "a.h5")


def matched(branches, n):
    """Entry and place of the first n reconstructed jets that are events."""
    found = [
        (entry, jet)
        for entry, (pts, indices) in enumerate(zip(branches["Jet_pt"], branches["Jet_genJetIdx"], strict=True))
        for jet, (pt, index) in enumerate(zip(pts, indices, strict=True))
        if index >= 0 and pt >= 15 and branches["GenJet_pt"][entry][index] >= 30
    ]
    return found[:n]


def put(branches, name, places, value):
    """A branch with another value at some (entry, jet)."""
    values = ak.to_list(branches[name])
    for entry, jet in places:
        values[entry][jet] = value
    return {**branches, name: ak.Array(values)}


def partners(branches, places):
    return [(entry, int(branches["Jet_genJetIdx"][entry][jet])) for entry, jet in places]


VALUES = [
    ("Jet_eta", -999.0, "a placeholder"),
    ("Jet_phi", -99.0, "a placeholder"),
    ("GenJet_mass", -999.0, "a placeholder"),
    ("GenJet_mass", -1.0e3, "out of range"),
    ("Jet_pt", -999.0, "a placeholder"),
    ("Jet_pt", np.nan, "not finite"),
    ("GenJet_eta", 1.0e10, "out of range"),
    ("Jet_pt", None, "missing (None)"),
    ("Jet_genJetIdx", -99, "a placeholder"),
]


@pytest.mark.parametrize(("name", "value", "what"), VALUES, ids=[f"{name} {value}" for name, value, _ in VALUES])
def test_jets_without_a_value_are_refused_or_left_out(tmp_path, branches, plain, caplog, name, value, what):
    places = matched(branches, 8)
    where = partners(branches, places) if name.startswith("Gen") else places
    source = write(tmp_path / "a.root", put(branches, name, where, value), "RNTuple" if value is None else "TTree")
    with pytest.raises(ReadError) as caught:
        read(read_job(), [source], [], tmp_path / "a.h5")
    said = str(caught.value)
    assert f"{source}: branch '{name}' is {what} in entry {places[0][0]}" in said
    assert "read.invalid: drop" in said
    assert "\n" not in said
    with caplog.at_level(logging.WARNING, "pullback"):
        read(read_job({**MAP, "invalid": "drop"}), [source], [], tmp_path / "a.h5")
    found = load(tmp_path / "a.h5")
    assert len(found["y"]) == len(plain["y"]) - 8
    np.testing.assert_array_equal(found["y"], plain["y"][8:])
    assert json.loads(found["attributes"]["left_out"]) == {f"'{name}' is {what}": 8}
    assert f"8 jets left out: branch '{name}' is {what}, first in entry {places[0][0]}" in caplog.text


def test_too_many_without_a_value(tmp_path, branches):
    source = write(tmp_path / "a.root", put(branches, "Jet_eta", matched(branches, 8), -999.0))
    words = r"8 of .* events are not valid .*wanted at most 5%.*raise read\.invalid_fraction"
    with pytest.raises(ReadError, match=words):
        read(read_job({**MAP, "invalid": "drop", "invalid_fraction": 0.05}), [source], [], tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()


def test_jets_below_the_cut_are_no_events_that_are_left_out(tmp_path, branches, plain):
    soft = [(entry, jet) for entry, pts in enumerate(branches["GenJet_pt"]) for jet, pt in enumerate(pts) if pt < 30]
    assert len(soft) > 20
    source = write(tmp_path / "a.root", put(branches, "GenJet_mass", soft, -999.0))
    read(read_job({**MAP, "invalid": "drop"}), [source], [], tmp_path / "a.h5")
    found = load(tmp_path / "a.h5")
    np.testing.assert_array_equal(found["x"], plain["x"])
    assert "left_out" not in found["attributes"]


def test_a_value_is_a_placeholder_where_the_study_lists_it(tmp_path, branches):
    source = write(tmp_path / "a.root", put(branches, "Jet_eta", matched(branches, 3), -7.0))
    read(read_job(), [source], [], tmp_path / "a.h5")
    with pytest.raises(ReadError, match=r"'Jet_eta' is a placeholder.*`placeholders` lists"):
        read(read_job({**MAP, "placeholders": [-7]}), [source], [], tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("value", "what"), [(None, "missing (None)"), (-999.0, "a placeholder"), (np.nan, "not finite")]
)
def test_collisions_without_a_weight(tmp_path, branches, plain, value, what):
    entry = matched(branches, 1)[0][0]
    weights = branches["genWeight"].tolist()
    weights[entry] = value
    source = write(tmp_path / "a.root", {**branches, "genWeight": ak.Array(weights)}, "RNTuple")
    with pytest.raises(ReadError) as caught:
        read(read_job(), [source], [], tmp_path / "a.h5")
    assert f"branch 'genWeight' is {what} in entry {entry} (1 of 60 entries" in str(caught.value)
    read(read_job({**MAP, "invalid": "drop"}), [source], [], tmp_path / "a.h5")
    found, kept = load(tmp_path / "a.h5"), plain["source_entry"] != entry
    lost = int(ak.sum(branches["Jet_pt"][entry] >= 15))  # pairs and fakes
    np.testing.assert_array_equal(found["y"], plain["y"][kept])
    np.testing.assert_array_equal(found["weight"], plain["weight"][kept])
    assert json.loads(found["attributes"]["left_out"]) == {f"'genWeight' is {what}": lost}


def whole_weights(branches):
    """Weights as whole numbers, of which one is missing."""
    return {**branches, "genWeight": ak.Array([1, None, *[1] * 58])}


def test_an_optional_whole_number_is_missing_too(tmp_path, branches):
    with pytest.raises(ReadError, match=r"'genWeight' is missing \(None\) in entry 1"):
        read(read_job(), [write(tmp_path / "a.root", whole_weights(branches), "RNTuple")], [], tmp_path / "a.h5")


def scaled(branches, **factors):
    """Branches whose names end so, multiplied."""
    ends = {name: factor for name in branches for end, factor in factors.items() if name.endswith(end)}
    return {name: values * ends[name] if name in ends else values for name, values in branches.items()}


def with_units(units, *of):
    return {owner: {**MAP[owner], "units": units} for owner in of}


DEGREES = 180 / np.pi
UNITS = [
    (
        {"pt": 1e3, "mass": 1e3},
        with_units("MeV", "x", "y"),
        r"the median of 'Jet_pt' is .* looks like MeV: give `units: MeV`",
    ),
    ({"GenJet_mass": 1e3}, with_units({"mass": "MeV"}, "x"), r"'GenJet_mass' is above 10 times .*`units: {mass: MeV}`"),
    ({"phi": DEGREES}, with_units("degrees", "x", "y"), r"'Jet_phi' reaches .*looks like degrees: give `units: deg`"),
    (
        {"pt": 1e6, "mass": 1e3, "phi": DEGREES},
        with_units({"pt": "keV", "mass": "MeV/c^2", "phi": "deg"}, "x", "y"),
        "looks like keV: give `units: keV`",
    ),
]


@pytest.mark.parametrize(("factors", "units", "refusal"), UNITS)
def test_units_are_a_key_of_the_branch_map(tmp_path, branches, plain, factors, units, refusal):
    source = write(tmp_path / "a.root", scaled(branches, **factors))
    with pytest.raises(ReadError, match=refusal):
        read(read_job(), [source], [], tmp_path / "a.h5")
    read(read_job({**MAP, **units}), [source], [], tmp_path / "a.h5")
    found = load(tmp_path / "a.h5")
    np.testing.assert_allclose(found["x"], plain["x"], rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(found["y"], plain["y"], rtol=1e-6, atol=2e-6)


def test_a_title_says_the_unit(tmp_path, branches, plain, monkeypatch):
    source = write(tmp_path / "a.root", scaled(branches, pt=1e3, mass=1e3))
    monkeypatch.setattr(RootTable, "unit", lambda table, name: "MeV" if name.endswith(("pt", "mass")) else "nJet")
    read(read_job(), [source], [], tmp_path / "a.h5")
    np.testing.assert_allclose(load(tmp_path / "a.h5")["x"], plain["x"], rtol=1e-6)
    with pytest.raises(ReadError, match=r"'Jet_pt' is in MeV by its title and in keV by `units`; correct `units`"):
        read(read_job({**MAP, **with_units("keV", "y")}), [source], [], tmp_path / "b.h5")


def test_units_that_the_values_contradict(tmp_path, branches):
    source = write(tmp_path / "a.root", branches)
    for units, words in (("MeV", "median of 'Jet_pt' is .* GeV, wanted at least"), ("deg", "no 'Jet_phi' is beyond")):
        with pytest.raises(ReadError, match=f"{words}.*correct `units` of the branch map"):
            read(read_job({**MAP, **with_units(units, "y")}), [source], [], tmp_path / "a.h5")


def padded(branches, value):
    """All lists as arrays of fixed length."""
    longest = max(int(ak.max(ak.num(values))) for values in branches.values() if values.ndim == 2)

    def pad(values, fill):
        return np.array([[*row, *[fill] * (longest - len(row))] for row in ak.to_list(values)])

    return {
        name: (pad(v, -1).astype(np.int32) if name.endswith("Idx") else pad(v, value)) if v.ndim == 2 else v
        for name, v in branches.items()
    }


@pytest.mark.parametrize("value", [0.0, -1.0, -999.0, np.nan])
def test_padding_holds_no_jets(tmp_path, branches, plain, value):
    source = write(tmp_path / "a.root", padded(branches, value))
    read(read_job(), [source], [], tmp_path / "a.h5")
    found = load(tmp_path / "a.h5")
    for name in ("x", "y", "event_id", "weight"):
        np.testing.assert_array_equal(found[name], plain[name])
    with pytest.raises(ReadError, match="looks like MeV"):
        read(read_job(), [write(tmp_path / "b.root", padded(scaled(branches, pt=1e3), value))], [], tmp_path / "b.h5")


WEIGHTS = [
    (lambda w: 0 * w, "the weights in 'genWeight' of all .* collisions with jets are zero, so that there is nothing"),
    (lambda w: np.where(np.arange(60) % 2, -1.0, 0.5), r"weights in 'genWeight' of .* sum to -.*wanted more than zero"),
]


@pytest.mark.parametrize(("change", "words"), WEIGHTS)
def test_weights_that_nothing_can_be_learned_from(tmp_path, branches, change, words):
    source = write(tmp_path / "a.root", {**branches, "genWeight": change(branches["genWeight"])})
    with pytest.raises(ReadError, match=words):
        read(read_job(), [source], [], tmp_path / "a.h5")


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30, 1e200])
def test_one_weight_that_decides_all_is_warned_of(tmp_path, branches, caplog, scale):
    entry = matched(branches, 4)[3][0]
    weight = np.where(np.arange(60) == entry, 1e9, 1.0) * scale
    with caplog.at_level(logging.WARNING, "pullback"):
        read(read_job(), [write(tmp_path / "a.root", {**branches, "genWeight": weight})], [], tmp_path / "a.h5")
    assert (
        f"in entry {entry}, is far above the median, {scale:.4g}: the effective sample size is 1.0 of 60" in caplog.text
    )
    found = load(tmp_path / "a.h5")
    np.testing.assert_array_equal(found["weight"], weight[found["source_entry"]])


def test_one_of_several_weights(tmp_path, branches, plain):
    several = np.stack([np.arange(60.0), branches["genWeight"], np.ones(60)], axis=1)
    for kind, weights in (("TTree", several), ("RNTuple", ak.Array(several.tolist()))):
        source = write(tmp_path / f"{kind}.root", {**branches, "weights": weights}, kind)
        read(read_job({**MAP, "weight": "weights[1]"}), [source], [], tmp_path / "a.h5")
        np.testing.assert_allclose(load(tmp_path / "a.h5")["weight"], plain["weight"])
        (tmp_path / "a.h5").unlink()
        for name, words in (
            ("weights", r"wanted one number per entry; name another, or one of the list: weights\[0\]"),
            ("weights[3]", "has 3 values in entry 0, wanted one of number 3; numbers start at 0"),
            ("genWeight[0]", r"holds one number per entry; leave \[0\] out"),
        ):
            with pytest.raises(ReadError, match=words):
                read(read_job({**MAP, "weight": name}), [source], [], tmp_path / "b.h5")


FAR = [
    ("all name the first", lambda i, n: ak.where(i >= 0, 0, i)),
    ("one too high", lambda i, n: ak.where(i >= 0, (i + 1) % ak.where(n > 0, n, 1), i)),
]


@pytest.mark.parametrize(("name", "change"), FAR, ids=[name for name, _ in FAR])
def test_pairs_are_held_against_their_distance(tmp_path, branches, caplog, name, change):
    index = change(branches["Jet_genJetIdx"], ak.num(branches["GenJet_pt"]))
    source = write(tmp_path / "a.root", {**branches, "Jet_genJetIdx": ak.values_astype(index, np.int32)})
    words = r"pairs by 'Jet_genJetIdx' are further apart than match_radius 0.4, wanted at most 20% \(`far_matches`\)"
    with pytest.raises(ReadError, match=words):
        read(read_job(), [source], [], tmp_path / "a.h5")
    with caplog.at_level(logging.WARNING, "pullback"):
        read(read_job({**MAP, "far_matches": 1.0}), [source], [], tmp_path / "a.h5")
    assert "matched jets are further from their truth jet than match_radius 0.4: kept" in caplog.text


@needs_cases
@pytest.mark.parametrize("ending", [".root", ".rntuple.root"])
def test_the_reported_files(tmp_path, ending):
    """Mean pT, truth pT and truth mass are those of the clean file where units are given or placeholders left out."""
    mapping = {**MAP, "y": {key: MAP["y"][key] for key in ("pt", "eta", "phi")}, "y_pt_min": 5.0}

    def units(value, *of):
        return {owner: {**mapping[owner], "units": value} for owner in of}

    answers = [
        ("base", {}, 153),
        ("eta_placeholder", {"invalid": "drop"}, 145),
        ("mass_in_mev", units({"mass": "MeV"}, "x"), 153),
        ("all_in_mev", units("MeV", "x", "y"), 153),
        ("degrees", units("deg", "x", "y"), 153),
        ("weight_huge", {}, 153),
    ]
    for name, more, n in answers:
        read(read_job({**mapping, **more}), [CASES / f"{name}{ending}"], [], tmp_path / "a.h5")
        found = load(tmp_path / "a.h5")
        (tmp_path / "a.h5").unlink()
        assert len(found["y"]) == n
        if n == 153:
            means = found["y"][:, 0].mean(), found["x"][:, 0].mean(), found["x"][:, 3].mean()
            np.testing.assert_allclose(means, (71.184, 71.507, 10.726), rtol=1e-4)
    for split in ("train", "test"):
        read(read_job(mapping, split=split), [CASES / f"weights_negative{ending}"], [], tmp_path / "a.h5")
        found = load(tmp_path / "a.h5")
        (tmp_path / "a.h5").unlink()
        assert len(found["y"]) == 153
        assert (np.unique(found["weight"][found["weight"] < 0]).size, found["weight"].sum() > 0) == (1, True)
    for name in ("eta_placeholder", "mass_in_mev", "all_in_mev", "degrees", "weights_zero", "match_all_zero"):
        with pytest.raises(ReadError, match=name):
            read(read_job(mapping), [CASES / f"{name}{ending}"], [], tmp_path / "a.h5")
    for name in ("truth_mass_m999", "opt_iweight", "opt_pt", "pad_mev", "shift1"):
        with pytest.raises(ReadError, match=name):
            read(read_job(mapping), [CASES / f"{name}.root"], [], tmp_path / "a.h5")
