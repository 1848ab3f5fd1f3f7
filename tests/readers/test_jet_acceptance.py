"""Fakes, misses, selections and expressions of the reader `root`, against plain loops."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uproot", reason="pip install 'pullback[hep]'")
import awkward as ak
from rootfiles import MAP, collisions, read_job, wanted_pairs, write

from pullback.ensembles.store import EnsembleReader
from pullback.problems.read import read
from pullback.readers.base import ReadError

DATA = Path(os.environ.get("PULLBACK_DATA", Path(__file__).parents[2] / "../shared/data"))
TTBAR = DATA / "cms/nanoAOD_2015_CMS_Open_Data_ttbar.root"
CASES = DATA.parent / "cases/root"
needs_cms = pytest.mark.skipif(not TTBAR.exists(), reason="no CMS files: set PULLBACK_DATA to the folder that has cms/")
needs_cases = pytest.mark.skipif(not CASES.exists(), reason="no files in ../shared/cases/root")
KINDS = ["TTree", "RNTuple"]


@pytest.fixture(scope="module")
def branches():
    return collisions()


def load(path):
    with EnsembleReader(path) as reader:
        found = {name: reader.read(name) for name in reader.columns}
        return {**found, "fake": reader.fake(), "missed": reader.missed, "pairs": reader.pairs().read("y")}


def run(tmp_path, branches, mapping=MAP, kind="TTree", **more):
    source = write(tmp_path / "a.root", branches, kind)
    read(read_job(mapping, **more), [source], [], tmp_path / "a.h5")
    found = load(tmp_path / "a.h5")
    (tmp_path / "a.h5").unlink()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("radius", [None, 0.4], ids=["by index", "by distance"])
@pytest.mark.parametrize("chunk", [7, 1000])
def test_fakes_and_misses_are_those_of_plain_loops(tmp_path, branches, kind, radius, chunk):
    mapping = {**MAP, "match": MAP["match"] if radius is None else None, "chunk": chunk}
    found = run(tmp_path, branches, mapping, kind)
    pairs = wanted_pairs(branches, radius)
    in_pair, met = {(e, j) for e, j, _ in pairs}, {(e, t) for e, _, t in pairs}
    events = [(e, j) for e, pts in enumerate(branches["Jet_pt"]) for j, pt in enumerate(pts) if pt >= 15]
    missed = [
        (e, t)
        for e, pts in enumerate(branches["GenJet_pt"])
        for t, pt in enumerate(pts)
        if pt >= 30 and (e, t) not in met
    ]
    assert len(events) > len(pairs) + 20
    assert len(missed) > 5
    assert list(zip(found["source_entry"], found["source_index"], strict=True)) == events
    assert found["fake"].tolist() == [event not in in_pair for event in events]
    np.testing.assert_array_equal(np.isnan(found["x"]).all(axis=1), found["fake"])
    np.testing.assert_array_equal(np.isnan(found["x"]).any(axis=1), found["fake"])
    x, weight, group = found["missed"]
    assert group.tolist() == [e for e, _ in missed]
    np.testing.assert_array_equal(weight, branches["genWeight"].astype(float)[group])
    for i, name in enumerate(("pt", "eta", "phi", "mass")):
        np.testing.assert_allclose(x[:, i], [branches[f"GenJet_{name}"][e][t] for e, t in missed], atol=1e-6)


def test_a_jet_whose_partner_has_no_valid_value_is_neither_fake_nor_miss(tmp_path, branches):
    """By index the jet and its partner are left out; by distance any jet without a partner of that collision may be."""
    plain = run(tmp_path, branches)
    entry, jet, truth = wanted_pairs(branches, None)[0]
    for name, place in (("Jet_mass", jet), ("GenJet_mass", truth), ("Jet_genJetIdx", jet)):
        values = ak.to_list(branches[name])
        values[entry][place] = -999
        damaged = {**branches, name: ak.Array(values)}
        found = run(tmp_path, damaged, {**MAP, "invalid": "drop"})
        assert len(found["pairs"]) == len(plain["pairs"]) - 1
        assert found["fake"].sum() == plain["fake"].sum()
        if name == "Jet_genJetIdx":  # which truth jet it names is not known
            assert set(plain["missed"].group) - set(found["missed"].group) <= {entry}
        else:
            np.testing.assert_array_equal(found["missed"].x, plain["missed"].x)
        if name != "Jet_genJetIdx":
            near = run(tmp_path, damaged, {**MAP, "match": None, "invalid": "drop"})
            assert entry not in near["missed"].group or name == "GenJet_mass"
            assert not near["fake"][near["source_entry"] == entry].any() or name == "Jet_mass"


def test_a_file_of_misses_and_pairs_in_other_chunks(tmp_path, branches):
    """A chunk may hold misses alone."""
    first = {name: values[:20] for name, values in branches.items()}
    none = {name: values[20:40] for name, values in branches.items()}
    none |= {name: values[:, :0] for name, values in none.items() if name.startswith("Jet")}
    both = {name: ak.concatenate([first[name], none[name]]) for name in first}
    found = run(tmp_path, both, {**MAP, "chunk": 20})
    truth = ak.flatten(none["GenJet_pt"])
    assert (found["missed"].group >= 20).sum() == int(ak.sum(truth >= 30))
    assert found["source_entry"].max() < 20


def test_observed_data_have_no_column_of_fakes(tmp_path, branches):
    source = write(tmp_path / "a.root", branches)
    read(read_job(MAP, truth=False), [source], [], tmp_path / "a.h5")
    with EnsembleReader(tmp_path / "a.h5") as reader:
        assert "fake" not in reader.columns
        assert reader.missed is None


@pytest.mark.parametrize("kind", KINDS)
def test_selections_of_entries_and_jets(tmp_path, branches, kind):
    """What is not selected is not there: its partner is a fake or a miss."""
    cut = {
        "y": {**MAP["y"], "selection": "(abs(Jet_eta) < 1) & (Jet_pt < 200)"},
        "x": {**MAP["x"], "selection": "abs(GenJet_eta) < 1"},
        "selection": "(count(Jet_pt) >= 2) & (genWeight > 0.9)",
    }
    found = run(tmp_path, branches, {**MAP, **cut}, kind)
    kept = (ak.num(branches["Jet_pt"]) >= 2) & (branches["genWeight"] > 0.9)
    inside = {
        owner: (abs(ak.values_astype(branches[f"{owner}_eta"], float)) < 1) & (branches[f"{owner}_pt"] < most)
        for owner, most in (("Jet", 200), ("GenJet", np.inf))
    }
    pairs = [p for p in wanted_pairs(branches, None) if kept[p[0]]]
    pairs = [(e, j, t) for e, j, t in pairs if inside["Jet"][e][j] and inside["GenJet"][e][t]]
    assert len(found["pairs"]) == len(pairs) > 10
    fakes = int(ak.sum(inside["Jet"][kept] & (branches["Jet_pt"][kept] >= 15))) - len(pairs)
    misses = int(ak.sum(inside["GenJet"][kept] & (branches["GenJet_pt"][kept] >= 30))) - len(pairs)
    assert (found["fake"].sum(), len(found["missed"].x)) == (fakes, misses)
    with pytest.raises(ReadError, match="none of 60 entries is selected by `genWeight > 99`"):
        run(tmp_path, branches, {**MAP, "selection": "genWeight > 99"})
    with pytest.raises(ReadError, match=r"no branch 'genWeigth'.*\(in `genWeigth > 0`\); did you mean 'genWeight'"):
        run(tmp_path, branches, {**MAP, "selection": "genWeigth > 0"})
    with pytest.raises(ReadError, match="wanted a truth value for each entry"):
        run(tmp_path, branches, {**MAP, "selection": "genWeight * 2"})
    with pytest.raises(ReadError, match="gives no truth value for each jet"):
        run(tmp_path, branches, {**MAP, "y": {**MAP["y"], "selection": "genWeight > 0"}})


def test_values_of_jets_that_are_not_selected_do_not_matter(tmp_path, branches):
    values = ak.to_list(branches["Jet_eta"])
    values[0][0] = -999.0
    damaged = {**branches, "Jet_eta": ak.Array(values)}
    with pytest.raises(ReadError, match="a placeholder"):
        run(tmp_path, damaged)
    run(tmp_path, damaged, {**MAP, "y": {**MAP["y"], "selection": "Jet_eta > -900"}})
    run(tmp_path, damaged, {**MAP, "selection": "min(Jet_eta, default=0) > -900"})


def cartesian(branches):
    """The same jets as px, py, pz and E."""
    found = {name: values for name, values in branches.items() if name in ("genWeight", "Jet_genJetIdx")}
    for owner in ("Jet", "GenJet"):
        pt, eta, phi, mass = (
            ak.values_astype(branches[f"{owner}_{name}"], np.float64) for name in ("pt", "eta", "phi", "mass")
        )
        pz = pt * np.sinh(eta)
        values = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pz, "E": np.sqrt(pt**2 + pz**2 + mass**2)}
        found |= {f"{owner}_{name}": each for name, each in values.items()}
    return found


def from_momenta(owner, energy):
    px, py, pz = (f"{owner}_{name}" for name in ("px", "py", "pz"))
    pt = f"hypot({px}, {py})"
    return {
        "pt": pt,
        "eta": f"arcsinh({pz} / {pt})",
        "phi": f"arctan2({py}, {px})",
        "mass": f"sqrt(maximum({energy}**2 - {px}**2 - {py}**2 - {pz}**2, 0))",
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_features_by_expressions(tmp_path, branches, kind, scale):
    """Momenta and energies as EDM4hep and ntuples hold them; units are those of what an expression gives."""
    plain = run(tmp_path, branches, kind=kind)
    given = cartesian(branches)
    given |= {name: values * scale for name, values in given.items() if name[-2:] in ("px", "py", "pz", "_E")}
    units = {"units": "MeV"} if scale != 1 else {}
    maps = {field: {**from_momenta(owner, f"{owner}_E"), **units} for field, owner in (("x", "GenJet"), ("y", "Jet"))}
    found = run(tmp_path, given, {**MAP, **maps}, kind)
    # float32 of the store; the mass is a difference of squares of energies in float64
    for name in ("x", "y"):
        np.testing.assert_allclose(found[name], plain[name], rtol=3e-7, atol=1e-6)
    np.testing.assert_array_equal(found["event_id"], plain["event_id"])
    if scale != 1:
        bare = {field: from_momenta(owner, f"{owner}_E") for field, owner in (("x", "GenJet"), ("y", "Jet"))}
        with pytest.raises(ReadError, match="looks like MeV: give `units: MeV`"):
            run(tmp_path, given, {**MAP, **bare}, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_placeholders_do_not_become_momenta(tmp_path, branches, kind):
    given = cartesian(branches)
    entry, jet, _ = wanted_pairs(branches, None)[3]
    for name in ("Jet_px", "Jet_py", "Jet_pz"):
        values = ak.to_list(given[name])
        values[entry][jet] = -999.0
        given[name] = ak.Array(values)
    maps = {field: from_momenta(owner, f"{owner}_E") for field, owner in (("x", "GenJet"), ("y", "Jet"))}
    with pytest.raises(ReadError, match=rf"is made from placeholders in entry {entry}"):
        run(tmp_path, given, {**MAP, **maps}, kind)


def test_further_features_of_jets(tmp_path, branches):
    """A problem names features beside the four of a jet; their order is the problem's."""
    width = {"Jet_width": branches["Jet_mass"] / branches["Jet_pt"] * 10, "GenJet_n": ak.num(branches["GenJet_pt"])}
    width["GenJet_n"] = width["GenJet_n"] * (branches["GenJet_pt"] > 0)
    simulator = {
        "x": {"n": {}, "pt": {"units": "GeV", "transform": "log"}},
        "y": {"width": {"units": "mm"}, "eta": {}, "pt": {"units": "GeV"}},
    }
    maps = {
        "y": {**MAP["y"], "features": {"width": "Jet_width"}, "units": {"width": "cm"}},
        "x": {**MAP["x"], "features": {"n": "GenJet_n"}},
    }
    task = json.loads(read_job({**MAP, **maps}))
    source = write(tmp_path / "a.root", {**branches, **width})
    read(json.dumps({**task, "kind": "observables", "simulator": simulator}), [source], [], tmp_path / "f.h5")
    found, plain = load(tmp_path / "f.h5"), run(tmp_path, branches)
    np.testing.assert_array_equal(found["y"][:, 1], plain["y"][:, 1])
    np.testing.assert_array_equal(found["y"][:, 2], plain["y"][:, 0])
    jets = list(zip(plain["source_entry"], plain["source_index"], strict=True))
    np.testing.assert_allclose(found["y"][:, 0], [10 * width["Jet_width"][e][j] for e, j in jets], rtol=1e-6)
    real = ~found["fake"]
    np.testing.assert_array_equal(found["x"][real, 0], ak.num(branches["GenJet_pt"])[found["source_entry"][real]])
    np.testing.assert_array_equal(found["x"][:, 1], plain["x"][:, 0])
    with pytest.raises(ReadError, match=r"has the feature 'width': name its branch in `y\.features`"):
        read(
            json.dumps({**task, "kind": "observables", "simulator": simulator, "read": MAP}),
            [source],
            [],
            tmp_path / "g.h5",
        )


def test_a_chunk_of_fakes_alone(tmp_path, branches):
    none = {name: values[:, :0] if name.startswith("GenJet") else values for name, values in branches.items()}
    none["Jet_genJetIdx"] = ak.full_like(branches["Jet_genJetIdx"], -1)
    both = {name: ak.concatenate([branches[name], none[name]]) for name in branches}
    for match in (MAP["match"], None):
        found = run(tmp_path, both, {**MAP, "match": match, "chunk": 60})
        assert found["fake"][found["source_entry"] >= 60].all()
        assert found["source_entry"].max() >= 60


def test_azimuths_of_both_conventions_are_told(tmp_path, branches, caplog):
    caplog.set_level(logging.INFO, "pullback")
    run(tmp_path, {**branches, "GenJet_phi": branches["GenJet_phi"] % (2 * np.pi)})
    assert "azimuths of x from 0 to 2 pi are wrapped to -pi to pi" in caplog.text


def test_further_weights_are_columns(tmp_path, branches):
    mapping = {**MAP, "weights": {"up": "genWeight * 1.1", "squared": "genWeight ** 2"}}
    found = run(tmp_path, branches, mapping)
    np.testing.assert_allclose(found["weight_up"], 1.1 * found["weight"], rtol=1e-15)
    np.testing.assert_allclose(found["weight_squared"], found["weight"] ** 2, rtol=1e-15)


@needs_cases
@pytest.mark.parametrize("ending", [".root", ".rntuple.root"])
def test_the_reported_file_of_momenta(tmp_path, ending):
    truth = from_momenta("GenJet", "GenJet_energy")
    reco = {key: text for key, text in from_momenta("Jet", "0").items() if key != "mass"}
    read(
        read_job({**MAP, "y_pt_min": 5.0, "x": truth, "y": reco}), [CASES / f"cartesian{ending}"], [], tmp_path / "c.h5"
    )
    base = {**MAP, "y_pt_min": 5.0, "y": {key: MAP["y"][key] for key in ("pt", "eta", "phi")}}
    read(read_job(base), [CASES / f"base{ending}"], [], tmp_path / "b.h5")
    found, base = load(tmp_path / "c.h5"), load(tmp_path / "b.h5")
    assert len(found["pairs"]) == 153
    np.testing.assert_allclose(found["y"], base["y"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["x"][:, :3], base["x"][:, :3], rtol=1e-6, atol=1e-6)
    # E^2 - p^2 of float32: E / m reaches about 100, so that 6e-8 of E^2 is 6e-4 of m^2
    np.testing.assert_allclose(found["x"][:, 3], base["x"][:, 3], rtol=2e-3)


@needs_cms
def test_cms_jets_without_a_partner_are_fakes(tmp_path, caplog):
    """152 of 537 jets have a truth jet above 30 GeV."""
    with caplog.at_level(logging.INFO, "pullback"):
        read(read_job({**MAP, "y_pt_min": 5.0}), [TTBAR], [], tmp_path / "a.h5")
    found = load(tmp_path / "a.h5")
    assert (len(found["y"]), len(found["pairs"]), int(found["fake"].sum())) == (537, 152, 385)
    assert f"152 pairs, 385 fakes, {len(found['missed'].x)} misses" in caplog.text
    with pytest.raises(ReadError, match="no branch"):
        read(read_job({**MAP, "weight": "genweight"}), [TTBAR], [], tmp_path / "b.h5")
