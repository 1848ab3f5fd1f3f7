"""Collisions: real Pythia runs, small; clustering against a brute-force anti-kt."""

import json
import os
import sys

import numpy as np
import pytest

pytest.importorskip("pythia8mc", reason="pip install 'pullback[collider]'")
pytest.importorskip("fastjet", reason="pip install 'pullback[collider]'")
import awkward as ak
import uproot

from pullback.core.optional import MissingExtraError
from pullback.ensembles.hdf5 import StoreError
from pullback.simulators import collider, detector, generator
from pullback.simulators.collider_settings import UnfoldingParams, UnfoldingSimulator
from pullback.simulators.detectors.acceptance import Acceptance
from pullback.simulators.jets import cluster, visible

NO_MPI = UnfoldingSimulator(multi_parton_interactions=False)


def job(process="ttbar", events=60, first_block=0, block=20, simulator=None, **params):
    return json.dumps(
        {
            "seed": 11,
            "problem": "jets",
            "kind": "unfolding",
            "simulator": {"multi_parton_interactions": False, **(simulator or {})},
            "family": process,
            "split": "test",
            "params": {"process": process, **params},
            "sweep": False,
            "block": block,
            "first_block": first_block,
            "events": events,
        }
    )


def branches(path):
    with uproot.open(path) as file:
        return file["Events"].arrays()


@pytest.fixture(scope="module")
def ttbar(tmp_path_factory):
    path = tmp_path_factory.mktemp("collide") / "ttbar.root"
    collider.collide(job(), path)
    return branches(path)


def test_same_collisions_however_they_are_cut(ttbar, tmp_path):
    collider.collide(job(events=40), tmp_path / "a.root")
    collider.collide(job(events=20, first_block=2), tmp_path / "b.root")
    cut = ak.concatenate([branches(tmp_path / "a.root"), branches(tmp_path / "b.root")])
    assert ak.array_equal(cut, ttbar)
    assert len(set(ttbar.event.tolist())) == 60


def test_a_short_last_block_begins_like_the_whole_one(ttbar, tmp_path):
    collider.collide(job(events=27), tmp_path / "short.root")
    assert ak.array_equal(branches(tmp_path / "short.root"), ttbar[:27])


@pytest.mark.parametrize(
    ("process", "mpi"), [("dijets", False), ("wjets", False), ("zjets", True), ("leptoquarks", False)]
)
def test_a_block_does_not_remember_earlier_ones(process, mpi):
    simulator = UnfoldingSimulator(multi_parton_interactions=mpi)
    params = UnfoldingParams(process=process, pt_hat_min=40)
    runs = []
    for order in ((0, 1, 2), (2, 0)):
        pythia = generator.start_pythia(simulator, params)
        runs.append({b: collider.make_block(pythia, simulator, (1, "p", "f", "train"), b, 6) for b in order})
    for block in (0, 2):
        for name, values in runs[0][block].items():
            assert ak.array_equal(ak.Array(values), ak.Array(runs[1][block][name]))
    assert not ak.array_equal(runs[0][0]["GenJet"].pt, runs[0][1]["GenJet"].pt)


def test_truth_jets_of_ttbar(ttbar):
    assert ak.all(ttbar.GenJet_pt >= 30)
    assert ak.all(abs(ttbar.GenJet_eta) <= 4.5)
    assert ak.all(ttbar.GenJet_pt[:, 1:] <= ttbar.GenJet_pt[:, :-1])
    # 4.3 per collision were measured elsewhere, with multi-parton interactions (0.3 more); they scatter by about 1.5
    per_collision = ak.num(ttbar.GenJet_pt)
    assert abs(np.mean(per_collision) - 4.3) < 5 * 1.5 / np.sqrt(60) + 0.3
    hadronic_mass = ak.to_numpy(ak.flatten(ttbar.GenJet_mass))
    assert np.all((hadronic_mass >= 0) & (hadronic_mass < 200))


def test_reconstructed_jets_are_smeared_truth_jets(ttbar):
    truth = ttbar.GenJet_pt[ttbar.Jet_genJetIdx]
    pulls = []
    for feature, own, centre in (
        (1, ttbar.Jet_pt, None),
        (2, ttbar.Jet_eta, ttbar.GenJet_eta[ttbar.Jet_genJetIdx]),
        (3, ttbar.Jet_phi, ttbar.GenJet_phi[ttbar.Jet_genJetIdx]),
    ):
        parts = detector.response(ak.to_numpy(ak.flatten(truth)))
        middle = parts[0] if centre is None else ak.to_numpy(ak.flatten(centre))
        offset = ak.to_numpy(ak.flatten(own)) - middle
        pulls.append((np.angle(np.exp(1j * offset)) if feature == 3 else offset) / parts[feature])
    n = len(pulls[0])
    for pull in pulls:
        assert abs(pull.mean()) < 5 / np.sqrt(n)
        assert abs(pull.std() - 1) < 5 / np.sqrt(2 * n)
    assert ak.all(ttbar.Jet_mass == 0)
    for indices in ttbar.Jet_genJetIdx.tolist():
        assert len(set(indices)) == len(indices)

    columns = [ak.to_numpy(ak.flatten(ttbar[f"GenJet_{name}"])) for name in ("pt", "eta", "phi", "mass")]
    kept = np.exp(detector.log_kept(np.stack(columns, axis=1)))
    assert abs(n - kept.sum()) < 5 * np.sqrt((kept * (1 - kept)).sum()) + 1


@pytest.mark.parametrize(
    ("process", "identity", "leptons"), [("wjets", 13, 1), ("zjets", 13, 2), ("leptoquarks", 11, 2)]
)
def test_prompt_leptons_take_no_part(process, identity, leptons):
    pythia = generator.start_pythia(NO_MPI, UnfoldingParams(process=process))
    pythia.rndm.init(5)
    particles = pythia.nextBatch(25).prt
    seen = visible(particles)
    removed = particles[~seen & (particles.status > 0)]
    # The hard process decays to exactly these; more can come from virtual photons in the shower, far below one in 25.
    assert ak.to_list(ak.sum(abs(removed.id) == identity, axis=1)) == [leptons] * 25
    kept = particles[seen]
    assert not ak.any((abs(kept.id) == 12) | (abs(kept.id) == 14) | (abs(kept.id) == 16))
    assert ak.all(kept.status > 0)
    # What remains balances the removed: total transverse momentum is conserved.
    for component in ("px", "py"):
        total = ak.sum(kept.p[component], axis=1) + ak.sum(removed.p[component], axis=1)
        assert np.abs(ak.to_numpy(total)).max() < 1e-3


def record(*rows):
    """One event record from (id, status, mother) rows."""
    columns = {name: [[row[i] for row in rows]] for i, name in enumerate(("id", "status", "mother1"))}
    return ak.zip(columns)


def test_which_leptons_and_photons_are_prompt():
    rows = [
        (90, -11, 0),  # 0 system
        (24, -22, 0),  # 1 W
        (-13, -23, 1),  # 2 its muon, before radiation
        (-13, 51, 2),  # 3 after radiation: prompt
        (22, 51, 2),  # 4 photon from it: removed
        (14, 23, 1),  # 5 neutrino: removed
        (511, -83, 0),  # 6 B meson
        (13, 91, 6),  # 7 its muon: stays
        (111, -83, 0),  # 8 pi0
        (22, 91, 8),  # 9 its photon: stays
        (2, -51, 0),  # 10 quark
        (22, 51, 10),  # 11 photon from a quark: stays
        (24, -22, 0),  # 12 W
        (-15, -23, 12),  # 13 tau
        (-11, 91, 13),  # 14 electron of a prompt tau: removed
        (511, -83, 0),  # 15 B meson
        (15, -91, 15),  # 16 tau of a B
        (11, 91, 16),  # 17 its electron: stays
        (22, -51, 10),  # 18 photon that splits
        (11, 51, 18),  # 19 into an electron: stays
        (211, 83, 0),  # 20 pion: stays
    ]
    assert np.flatnonzero(ak.to_numpy(visible(record(*rows))[0])).tolist() == [7, 9, 11, 17, 19, 20]


def brute_force_anti_kt(momenta, radius, pt_min):
    """d_ij = min(1/pt_i^2, 1/pt_j^2) dR_ij^2 / R^2 and d_iB = 1/pt_i^2, four-momenta added, one step at a time."""
    left = [np.array(p) for p in momenta]
    jets = []
    while left:
        pt2 = [p[0] ** 2 + p[1] ** 2 for p in left]
        rapidity = [0.5 * np.log((p[3] + p[2]) / (p[3] - p[2])) for p in left]
        phi = [np.arctan2(p[1], p[0]) for p in left]
        best = min((1 / pt2[i], i, i) for i in range(len(left)))
        for i in range(len(left)):
            for j in range(i):
                turn = abs(phi[i] - phi[j])
                turn = min(turn, 2 * np.pi - turn)
                d = min(1 / pt2[i], 1 / pt2[j]) * ((rapidity[i] - rapidity[j]) ** 2 + turn**2) / radius**2
                best = min(best, (d, i, j))
        _, i, j = best
        if i == j:
            jets.append(left.pop(i))
        else:
            first, second = left.pop(i), left.pop(j)
            left.append(first + second)
    jets = [p for p in jets if np.hypot(p[0], p[1]) >= pt_min]
    return sorted(jets, key=lambda p: -np.hypot(p[0], p[1]))


def test_clustering_is_anti_kt():
    rng = np.random.default_rng(8)
    events = []
    for _ in range(4):
        axes = rng.uniform([-2, -np.pi], [2, np.pi], (4, 2))
        which = rng.integers(4, size=40)
        eta, phi = (axes[which] + rng.normal(0, 0.2, (40, 2))).T
        pt = rng.exponential(8.0, 40) + 0.1
        mass = rng.choice([0.0, 0.14], 40)
        energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
        events.append(np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy], axis=1))
    particles = ak.zip({name: [event[:, i] for event in events] for i, name in enumerate(("px", "py", "pz", "e"))})
    found = cluster(particles, 0.4, 10.0)
    jets_seen = 0
    for jets, momenta in zip(found, events, strict=True):
        wanted = brute_force_anti_kt(momenta, 0.4, 10.0)
        assert len(jets) == len(wanted)
        for jet, (px, py, pz, e) in zip(jets, wanted, strict=True):
            assert jet.pt == pytest.approx(np.hypot(px, py), rel=1e-9)
            assert jet.eta == pytest.approx(np.arctanh(pz / np.sqrt(px**2 + py**2 + pz**2)), abs=1e-9)
            assert jet.phi == pytest.approx(np.arctan2(py, px), abs=1e-9)
            # e^2 - p^2 loses about 1e-16 (e/m)^2 of m^2
            assert jet.mass == pytest.approx(np.sqrt(max(e**2 - px**2 - py**2 - pz**2, 0)), rel=1e-6, abs=1e-4)
            jets_seen += 1
    assert jets_seen > 8


def test_collisions_without_jets_stay(tmp_path):
    # The softest dijets rarely give a jet above 200 GeV: empty lists, but every collision is in the file.
    collider.collide(job("dijets", events=20, simulator={"truth_pt_min": 200.0}, pt_hat_min=20.0), tmp_path / "d.root")
    found = branches(tmp_path / "d.root")
    assert len(found) == 20
    assert ak.sum(ak.num(found.GenJet_pt)) == ak.sum(ak.num(found.Jet_pt)) == 0


def test_nothing_is_printed(tmp_path, capfd):
    collider.collide(job(events=5), tmp_path / "quiet.root")
    said = capfd.readouterr()
    assert said.out == ""
    assert "PYTHIA" not in said.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"simulator": {"tune": 99}}, "Tune:pp = 99"),
        ({"simulator": {"energy": 100.0}}, "could not start ttbar at 100 GeV"),
        ({"block": 2**21}, "block"),
    ],
)
def test_settings_that_cannot_run(tmp_path, change, words):
    with pytest.raises(generator.ColliderError, match=words):
        collider.collide(job(**change), tmp_path / "bad.root")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        collider.collide(job(events=1), tmp_path / "file" / "bad.root")


@pytest.mark.parametrize("package", ["pythia8mc", "fastjet"])
def test_a_missing_package_is_one_line(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*pullback\[collider\]"):
        collider.collide(job(events=1), tmp_path / "bad.root")
    assert not list(tmp_path.iterdir())


def test_efficiency_and_fakes_of_a_file_are_those_of_its_detector(tmp_path):
    collider.collide(
        job(events=100, simulator={"detector": {"kind": "acceptance", "fake_rate": 2.0}}), tmp_path / "a.root"
    )
    found = branches(tmp_path / "a.root")
    level_1 = Acceptance(kind="acceptance", fake_rate=2.0)
    assert 20 <= ak.min(found.GenJet_pt) < 30
    columns = [ak.to_numpy(ak.flatten(found[f"GenJet_{name}"])) for name in ("pt", "eta", "phi", "mass")]
    efficiency = level_1.efficiency(np.stack(columns, axis=1), 5.0)
    index = ak.to_numpy(ak.flatten(found.Jet_genJetIdx))
    assert abs((index >= 0).sum() - efficiency.sum()) < 5 * np.sqrt((efficiency * (1 - efficiency)).sum())
    assert abs((index < 0).sum() / 100 - 2) < 5 * np.sqrt(2 / 100)
    assert ak.all(found.Jet_pt[:, 1:] <= found.Jet_pt[:, :-1])


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: 2000 collisions")
def test_distances_of_top_pairs_are_the_published_ones(tmp_path):
    """W1 of reconstructed and truth jets, 24.2 +- 2 GeV in pT and 69.7 +- 4 GeV in E (GDDPM, ttbar)."""
    collider.collide(job(events=2000, block=200), tmp_path / "a.root")
    found = branches(tmp_path / "a.root")
    truth = {name: found[f"GenJet_{name}"][found.Jet_genJetIdx] for name in ("pt", "eta", "mass")}
    x, y = (ak.to_numpy(ak.flatten(pt)).astype(float) for pt in (truth["pt"], found.Jet_pt))
    cosh_x, cosh_y = (np.cosh(ak.to_numpy(ak.flatten(eta))) for eta in (truth["eta"], found.Jet_eta))
    energy = np.hypot(x * cosh_x, ak.to_numpy(ak.flatten(truth["mass"])))
    assert len(x) > 8000
    for one, other, wanted, tolerance in ((x, y, 24.2, 2.0), (energy, y * cosh_y, 69.7, 4.0)):
        # Of two samples of one size W1 is the mean distance of their order statistics; here nearly that of their means.
        error = (one - other).std() / np.sqrt(len(one))
        assert abs(np.abs(np.sort(one) - np.sort(other)).mean() - wanted) < tolerance + 3 * error
