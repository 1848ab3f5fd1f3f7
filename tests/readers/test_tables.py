"""The reader `table`: flat tables with pass flags, event-wise observables, formats, and what is refused."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uproot", reason="pip install 'pullback[hep]'")
pytest.importorskip("pyarrow", reason="pip install 'pullback[hep]'")
import awkward as ak
from rootfiles import collisions
from tablefiles import FEATURES, events, job, write

from pullback.problems.read import read
from pullback.readers.base import ReadError
from pullback.readers.table_files import TableFiles
from pullback.study import load_study

CASES = Path(os.environ.get("PULLBACK_DATA", Path(__file__).parents[2] / "../shared/data")).parent / "cases/root"
needs_cases = pytest.mark.skipif(not CASES.exists(), reason="no files in ../shared/cases/root")
FORMS = ["TTree", "RNTuple", "parquet", "npz", "npz compressed"]
READ = {
    "x": {name: f"gen_{name}" for name in ("pt", "eta", "phi", "mass")},
    "y": {name: f"reco_{name}" for name in ("pt", "eta", "phi")},
    "pass_x": "pass_truth",
    "pass_y": "pass_reco",
    "weight": "weight",
}
N = 153


@pytest.fixture(scope="module")
def flat():
    """One jet an entry, of which some fail a flag and hold -999."""
    rng = np.random.default_rng(3)
    x = np.stack([rng.exponential(40, N) + 30, rng.normal(0, 1, N), rng.uniform(-3, 3, N), rng.exponential(8, N)])
    y = x[:3] * [[0.9], [1.0], [1.0]] + rng.normal(0, 0.02, (3, N))
    kind = rng.permutation(np.repeat([0, 1, 2, 3], [130, 15, 4, 4]))  # pairs, misses, fakes, neither
    found = {f"gen_{name}": np.where(kind < 2, values, -999.0) for name, values in zip(READ["x"], x, strict=True)}
    found |= {f"reco_{name}": np.where(kind % 2, -999.0, values) for name, values in zip(READ["y"], y, strict=True)}
    found |= {"pass_truth": kind < 2, "pass_reco": kind % 2 == 0, "weight": rng.normal(1, 0.1, N), "kind": kind}
    return found | {"number": (rng.permutation(N) + 1000).astype(np.int64)}


def wanted(flat):
    x = np.stack([flat[name] for name in READ["x"].values()], axis=1).astype(np.float32)
    y = np.stack([flat[name] for name in READ["y"].values()], axis=1).astype(np.float32)
    return x, y


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [10, 1000])
def test_pairs_fakes_and_misses_by_flags(tmp_path, flat, caplog, form, chunk):
    caplog.set_level(logging.INFO, "pullback")
    found = events(tmp_path, {**READ, "chunk": chunk}, write(tmp_path, flat, form))
    x, y = wanted(flat)
    kind = flat["kind"]
    recorded, pair = np.flatnonzero(kind % 2 == 0), kind == 0
    assert found["source_entry"].tolist() == recorded.tolist()
    np.testing.assert_allclose(found["y"], y[recorded], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found["fake"], ~pair[recorded])
    np.testing.assert_allclose(found["x"][~found["fake"]], x[pair], rtol=1e-6, atol=1e-6)
    assert np.isnan(found["x"][found["fake"]]).all()
    np.testing.assert_array_equal(found["weight"], flat["weight"][recorded])
    np.testing.assert_allclose(found["missed"].x, x[kind == 1], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found["missed"].weight, flat["weight"][kind == 1])
    np.testing.assert_array_equal(found["missed"].group, np.flatnonzero(kind == 1))
    assert not (found["y"] < -900).any()
    assert "4 entries with neither truth nor observation" in caplog.text
    assert "130 pairs, 4 fakes, 15 misses" in caplog.text


def test_an_observed_family_needs_no_truth(tmp_path, flat):
    data = {name: values for name, values in flat.items() if name.startswith("reco") or name == "pass_reco"}
    found = events(tmp_path, {"y": READ["y"], "pass_y": "pass_reco"}, write(tmp_path, data, "TTree"), truth=False)
    assert len(found["y"]) == 134
    assert found["missed"] is None
    both = {**READ, "weight": None}
    again = events(tmp_path, both, write(tmp_path, data, "npz"), truth=False)
    np.testing.assert_allclose(again["y"], found["y"], rtol=1e-6)


def test_arrays_of_features_by_column(tmp_path, flat):
    """As OmniFold's arrays are."""
    x, y = wanted(flat)
    source = tmp_path / "a.npz"
    np.savez(source, gen_features=x, reco_features=y, **{n: flat[n] for n in ("pass_truth", "pass_reco", "weight")})
    by_column = {
        "x": {name: f"gen_features[{i}]" for i, name in enumerate(READ["x"])},
        "y": {name: f"reco_features[{i}]" for i, name in enumerate(READ["y"])},
    }
    found = events(tmp_path, {**READ, **by_column}, source)
    plain = events(tmp_path, READ, write(tmp_path, flat, "TTree"))
    for name in ("x", "y", "event_id", "fake"):
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-6, atol=1e-6)


def test_numbers_units_selection_and_further_weights(tmp_path, flat):
    scaled = {**flat, "reco_pt": np.where(flat["reco_pt"] > -900, flat["reco_pt"] * 1000, -999.0)}
    more = {
        "units": {"y": {"pt": "MeV"}},
        "event": "number",
        "selection": "weight > 1",
        "weights": {"up": "weight * 2"},
    }
    found = events(tmp_path, {**READ, **more}, write(tmp_path, scaled, "parquet"))
    rows = np.flatnonzero((flat["kind"] % 2 == 0) & (flat["weight"] > 1))
    _, y = wanted(flat)
    np.testing.assert_allclose(found["y"], y[rows], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found["event_id"], flat["number"][rows])
    np.testing.assert_array_equal(found["weight_up"], 2 * flat["weight"][rows])
    missed = (flat["kind"] == 1) & (flat["weight"] > 1)
    np.testing.assert_array_equal(found["missed"].group, flat["number"][missed])


def test_entries_split_a_file(tmp_path, flat):
    source = write(tmp_path, flat, "npz compressed")
    parts = [events(tmp_path, READ, source, entries=span) for span in ([0, 60], [60, 153])]
    whole = events(tmp_path, READ, source)
    np.testing.assert_array_equal(np.concatenate([part["event_id"] for part in parts]), whole["event_id"])
    np.testing.assert_array_equal(np.concatenate([part["missed"].x for part in parts]), whole["missed"].x)


OBSERVABLES = {
    "jets": "count(Jet_pt)",
    "hard": "count(Jet_pt > 30)",
    "ht": "sum(Jet_pt)",
    "lead": "max(Jet_pt, default=0)",
    "soft": "min(Jet_pt, default=0)",
    "central": "sum(Jet_pt[abs(Jet_eta) < 1])",
    "px": "sum(Jet_pt * cos(Jet_phi))",
    "py": "sum(Jet_pt * sin(Jet_phi))",
    "mass": "max(Jet_mass, default=0)",
    "spread": "max(Jet_eta, default=0) - min(Jet_eta, default=0)",
}


@pytest.mark.parametrize("form", ["TTree", "RNTuple", "parquet"])
def test_ten_observables_of_events(tmp_path, form):
    branches = collisions(n=80)
    truth = {name: text.replace("Jet_", "GenJet_") for name, text in OBSERVABLES.items()}
    fields = {field: {name: {} for name in OBSERVABLES} for field in "xy"}
    mapping = {"x": truth, "y": OBSERVABLES, "weight": "genWeight"}
    found = events(tmp_path, mapping, write(tmp_path, branches, form), simulator=fields)

    def plain(owner):
        rows = []
        features = (ak.to_list(branches[f"{owner}_{name}"]) for name in ("pt", "eta", "phi", "mass"))
        for pt, eta, phi, mass in zip(*features, strict=True):
            jets = range(len(pt))
            rows.append(
                [len(pt), sum(p > 30 for p in pt), sum(pt), max(pt, default=0), min(pt, default=0),
                 sum(pt[j] for j in jets if abs(eta[j]) < 1), sum(pt[j] * np.cos(phi[j]) for j in jets),
                 sum(pt[j] * np.sin(phi[j]) for j in jets), max(mass, default=0),
                 max(eta, default=0) - min(eta, default=0)]
            )  # fmt: skip
        return np.array(rows)

    np.testing.assert_allclose(found["y"], plain("Jet"), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found["x"], plain("GenJet"), rtol=1e-6, atol=1e-5)
    with pytest.raises(ReadError, match=r"'max\(Jet_pt\)' is missing \(None\) in entry"):
        one = {field: {"lead": {}} for field in "xy"}
        events(tmp_path, {"x": {"lead": "max(Jet_pt)"}, "y": {"lead": "max(Jet_pt)"}}, tmp_path / f"table.{form}.root"
               if form != "parquet" else tmp_path / "table.parquet", simulator=one)  # fmt: skip


def trees(flat):
    """Truth and observation in trees of their own, each in an order of its own."""
    rng = np.random.default_rng(0)
    reco, truth = (rng.permutation(np.flatnonzero(flat[flag])) for flag in ("pass_reco", "pass_truth"))
    own = {n: flat[n][reco] for n in (*READ["y"].values(), "weight", "number")}
    return own, {n: flat[n][truth] for n in (*READ["x"].values(), "weight", "number")}


@pytest.mark.parametrize("form", ["TTree", "RNTuple"])
def test_two_trees_are_matched_by_number(tmp_path, flat, form):
    import uproot

    own, truth = trees(flat)
    source = tmp_path / "a.root"
    with uproot.recreate(source) as file:
        for name, columns in (("reco", own), ("particleLevel", truth)):
            (file.mktree if form == "TTree" else file.mkrntuple)(name, columns)
    mapping = {"x": READ["x"], "y": READ["y"], "weight": "weight", "tree": "reco", "x_tree": "particleLevel"}
    mapping |= {"match": "number", "event": "number", "chunk": 40}
    found = events(tmp_path, mapping, source)
    plain = events(tmp_path, {**READ, "event": "number"}, write(tmp_path, flat, "TTree"))
    order, other = np.argsort(found["event_id"]), np.argsort(plain["event_id"])
    for name in ("event_id", "x", "y", "weight", "fake"):
        np.testing.assert_array_equal(found[name][order], plain[name][other])
    mine, theirs = (each["missed"] for each in (found, plain))
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a[np.argsort(mine.group)], b[np.argsort(theirs.group)])
    spans = [events(tmp_path, mapping, source, entries=span) for span in ([0.0, 0.5], [0.5, 1.0])]
    for name in ("event_id", "missed"):
        parts = [part[name] if name == "event_id" else part[name].group for part in spans]
        whole = found[name] if name == "event_id" else mine.group
        assert sorted(np.concatenate(parts)) == sorted(whole)
    with pytest.raises(ReadError, match=r"'reco' has 134 entries and 'particleLevel' 145, wanted the same.*`match`"):
        events(tmp_path, {**mapping, "match": None}, source)


def with_value(flat, name, value, row):
    values = np.array(flat[name], dtype=np.asarray(value).dtype if name == "number" else float)
    values[row] = value
    return {**flat, name: values}


@pytest.mark.parametrize("form", ["TTree", "parquet", "npz"])
@pytest.mark.parametrize(
    ("change", "mapping", "words"),
    [
        ({}, {"pass_y": "pass_rec"}, "there is no .* 'pass_rec'.*did you mean 'pass_reco'"),
        ({}, {"y": {**READ["y"], "pt": "log(reco_p)"}}, r"'reco_p'.*\(in `log\(reco_p\)`\); did you mean 'reco_pt'"),
        (
            {},
            {"y": {**READ["y"], "mass": "gen_mass"}},
            "read.y names mass, which is no feature of y.*wanted pt, eta, phi",
        ),
        ({}, {"y": {"pt": "reco_pt", "eta": "reco_eta"}}, "read.y names no column for phi"),
        ({}, {"selection": "weight > 99"}, "none of 153 entries is selected by `weight > 99`"),
        ({}, {"pass_y": "weight > 99"}, "there is no pair of truth and observation in 153 entries"),
        ({}, {"pass_y": None}, "'reco_pt' is a placeholder in entry|-999"),
        ({}, {"pass_y": "kind"}, r"`pass_y: kind` is [23] in entry [0-9]+, wanted a condition.*\(kind > 0\)"),
        ({}, {"event": "kind"}, "'kind' is 0 in entry 0 and in entry ., wanted each number once"),
        ({}, {"event": "weight"}, "`event: weight` holds float64, wanted whole numbers"),
        ({"gen_pt": lambda v: v * 1000}, {}, r"the median of pt is .* GeV in x \('gen_pt'\) and .* in y"),
        ({"reco_phi": lambda v: v * 180 / np.pi}, {}, "looks like degrees: give `units: {y: {phi: deg}}`"),
        ({"weight": lambda v: 0 * v}, {}, "are zero, so that there is nothing"),
        ({"weight": lambda v: v - 2}, {}, "sum to -.*, wanted more than zero"),
        ({"weight": lambda v: np.where(np.arange(N) == 5, np.nan, v)}, {}, "'weight' is not finite in entry 5"),
        ({"weight": lambda v: np.where(np.arange(N) == 5, np.inf, v)}, {}, "'weight' is not finite in entry 5"),
    ],
)
def test_what_is_refused(tmp_path, flat, form, change, mapping, words):
    columns = {**flat, **{name: turn(flat[name]) for name, turn in change.items()}}
    source = write(tmp_path, columns, form)
    with pytest.raises(ReadError, match=words) as caught:
        events(tmp_path, {**READ, **mapping}, source)
    assert "\n" not in str(caught.value)
    assert str(source) in str(caught.value)
    assert not (tmp_path / "read.h5").exists()


def test_values_that_are_none_where_the_flag_holds(tmp_path, flat):
    pairs = np.flatnonzero(flat["kind"] == 0)
    for row, column, value, what in (
        (pairs[3], "reco_pt", np.nan, "not finite"),
        (pairs[3], "gen_mass", -999.0, "a placeholder"),
        (np.flatnonzero(flat["kind"] == 1)[2], "gen_pt", np.inf, "not finite"),
    ):
        source = write(tmp_path, with_value(flat, column, value, row), "npz")
        with pytest.raises(ReadError, match=f"'{column}' is {what} in entry {row}"):
            events(tmp_path, READ, source)
        found = events(tmp_path, {**READ, "invalid": "drop"}, source)
        assert row not in found["source_entry"]
        assert row not in found["missed"].group
        assert len(found["y"]) + len(found["missed"].x) == 148


def test_angles_of_both_conventions_are_wrapped(tmp_path, flat, caplog):
    caplog.set_level(logging.INFO, "pullback")
    turned = {**flat, "reco_phi": np.where(flat["reco_phi"] > -900, flat["reco_phi"] % (2 * np.pi), -999.0)}
    found = events(tmp_path, READ, write(tmp_path, turned, "TTree"))
    assert "angles of y from 0 to 2 pi are wrapped to -pi to pi" in caplog.text
    plain = events(tmp_path, READ, write(tmp_path, flat, "TTree", name="other"))
    np.testing.assert_allclose(found["y"], plain["y"], atol=1e-6)


def test_negative_weights_are_read_in_all_splits(tmp_path, flat):
    signed = {**flat, "weight": np.where(np.arange(N) % 9 == 0, -1.0, 1.0)}
    for split in ("train", "test"):
        found = events(tmp_path, READ, write(tmp_path, signed, "npz"), split=split)
        assert (found["weight"] < 0).sum() > 10


def test_unequal_lengths_and_damage(tmp_path, flat):
    np.savez(tmp_path / "a.npz", **{**flat, "gen_pt": flat["gen_pt"][:-1]})
    with pytest.raises(ReadError, match="'gen_pt' 152, wanted arrays of the same length"):
        events(tmp_path, READ, tmp_path / "a.npz")
    for form in ("parquet", "npz", "TTree"):
        source = write(tmp_path, flat, form)
        source.write_bytes(source.read_bytes()[:-100])
        with pytest.raises(ReadError):
            events(tmp_path, READ, source)
        source.write_bytes(b"something else")
        with pytest.raises(ReadError):
            events(tmp_path, READ, source)


def test_an_inspection_lists_the_columns(tmp_path, flat):
    found = TableFiles.inspect(write(tmp_path, flat, "parquet"))
    assert dict(found.lines)["  reco_pt"] == "double"
    assert "kind: table" in found.hint


def test_what_a_study_may_not_say(tmp_path):
    def study(**reader):
        family = {"role": "seen", "read": {"kind": "table", "files": {"train": ["a.npz"]}, **READ, **reader}}
        problem = {"kind": "observables", "simulator": FEATURES, "families": {"a": family}, "methods": {}}
        return {"config_version": 2, "study": "s", "problems": {"p": problem}}

    for reader, words in (
        ({"pass_y": "a and b"}, "write & | ~"),
        ({"y": {"pt": "hypt(a, b)"}}, "did you mean 'hypot'"),
        ({"match": "number"}, "name that of the truth in `x_tree`"),
        ({"x": None}, "is of the truth: name its features in `x`"),
        ({"weights": {"a-b": "w"}}, "is no name of a column"),
    ):
        with pytest.raises(ValueError, match=words):
            load_study(study(**reader))


@needs_cases
@pytest.mark.parametrize("name", ["flat_with_flags.root", "flat_with_flags.rntuple.root", "omnifold.npz"])
def test_the_reported_files(tmp_path, name):
    mapping = READ
    if name == "omnifold.npz":
        columns = {
            "x": {feature: f"gen_features[{i}]" for i, feature in enumerate(READ["x"])},
            "y": {feature: f"reco_features[{i}]" for i, feature in enumerate(READ["y"])},
        }
        mapping = {**READ, **columns, "pass_x": "pass_gen", "weight": "weights"}
    for kind, simulator in (("observables", FEATURES), ("unfolding", {})):
        read(job(mapping, simulator, kind=kind), [CASES / name], [], tmp_path / "a.h5")
        found = events(tmp_path, mapping, CASES / name, simulator=simulator, kind=kind)
        assert int((~found["fake"]).sum()) == 133
        assert len(found["missed"].x) == 16
        assert int(found["fake"].sum()) == 3
        assert found["y"].min() > -100
        assert found["missed"].x.min() > -100
        (tmp_path / "a.h5").unlink()
