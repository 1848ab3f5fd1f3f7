"""A study is checked before any job starts, and says what is wrong."""

import copy
from pathlib import Path

import pytest
import yaml

from pullback.study import StudyError, load_study, read_study

BASE = {
    "config_version": 2,
    "study": "small",
    "problems": {
        "toy": {
            "kind": "gaussian",
            "families": {
                "sweep": {
                    "role": "seen",
                    "params": {"gamma": {"uniform": [[-0.75, -0.25], [0.25, 0.75]]}},
                    "sweep": {"ensembles": 4, "events": 50},
                },
                "half": {"role": "unseen", "params": {"gamma": 0.5}},
            },
            "methods": {"oracle": {"kind": "oracle"}, "ei": {"kind": "ei-fm", "train": {"steps": 10}}},
        }
    },
}
WAVES = {
    "kind": "fwi",
    "families": {"flat": {"role": "seen", "params": {"geology": "flat"}}},
    "methods": {"cfm": {"kind": "cfm"}},
}

TILES = {"geology": "tiles", "tiles": {"file": "none.npy", "spacing": 10}}
OTHERWISE = {"fallback": "flat"}
READ = {
    "role": "observed",
    "read": {"kind": "root", "files": {"test": ["a.root"]}, "y": {"pt": "Jet_pt", "eta": "Jet_eta", "phi": "Jet_phi"}},
}


def changed_simulator(change):
    return {"role": "unseen", "events_from": "flat", "shift": {"kind": "simulator", "change": change}}


FILES = {"test": ["a.npy", "b.npy"]}


def waves(role: str, **read):
    """WAVES with a family that is read from files."""
    return {**WAVES, "families": {**WAVES["families"], "data": {"role": role, "read": read}}}


def jets_read(simulator=None, **cuts):
    """Jets with a family that is read from ROOT files."""
    return {
        "kind": "unfolding",
        "simulator": simulator or {},
        "families": {"flat": {"role": "unseen", "params": {"process": "ttbar"}}, "data": with_cuts(**cuts)},
        "methods": {"o": {"kind": "oracle", "infer": {"a": {"families": ["flat"]}}}},
    }


def with_cuts(**cuts):
    return {**READ, "read": {**READ["read"], **cuts}}


def with_truth(**cuts):
    x = {"x": {"pt": "GenJet_pt", "eta": "GenJet_eta", "phi": "GenJet_phi"}}
    return {"role": "unseen", "read": {**READ["read"], **x, **cuts}}


def changed(path: str, value):
    config = copy.deepcopy(BASE)
    node = config
    *parents, last = path.split("/")
    for key in parents:
        node = node[key]
    node[last] = value
    return config


def test_a_study_that_is_right_is_read():
    study = load_study(BASE)
    assert study.evaluated("toy") == ["half"]
    assert study.seen("toy") == ["sweep"]
    assert study.problems["toy"].methods["ei"].train.steps == 10


@pytest.mark.parametrize(
    ("params", "sweep", "inside"),
    [
        ({"gamma": 0.5}, {}, True),
        ({"gamma": 0.9}, {}, False),
        ({"gamma": 0.5, "mu1": 3.0}, {}, False),
        ({"gamma": 0.5, "mu1": 0.0}, {}, True),
        ({"gamma": 0.5}, {"mu1": 0.0}, True),
        ({"gamma": 0.5}, {"mu1": {"uniform": [-1, 1]}}, True),
        ({"gamma": 0.5}, {"mu1": {"uniform": [1, 2]}}, False),
    ],
)
def test_a_parameter_that_is_not_stated_has_its_default(params, sweep, inside):
    waves = load_study({**BASE, "problems": {"waves": WAVES}}).problems["waves"]
    assert waves.spec.is_inside({"geology": "flat"}, {"geology": "flat", "layers": [2, 5]})
    sweep = {**BASE["problems"]["toy"]["families"]["sweep"]["params"], **sweep}
    assert load_study(BASE).problems["toy"].spec.is_inside(params, sweep) == inside


def test_figures_are_of_numbers_that_the_study_has():
    xs = ["network_calls", "set_size", "seen_swd", "family", "params.gamma", "simulator.dimension", "method.k"]
    figures = [{"y": "swd_draw", "x": x} for x in [*xs, "method.train.learning_rate", "infer.steps"]]
    study = load_study({**BASE, "figures": [*figures, {"y": "crps", "x": "infer.steps", "methods": ["e*"]}]})
    assert [f.takes(methods="ei", families="half") for f in study.figures] == [True] * 10
    assert not study.figures[-1].takes(methods="oracle")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("problems/toy/methods/ei/train/stepz", 3, ["problems.toy.methods.ei.train.stepz", "did you mean 'steps'?"]),
        ("problems/toy/methods/ei/infer", {"a": {"set_size": 0}}, ["infer.a.set_size"]),
        (
            "problems/toy/methods/ei/infer",
            {"draws": 8},
            ["infer.draws: wanted a block of options, by name: infer: {default: {draws: ...}} (found 8)"],
        ),
        (
            "problems/toy/methods/ei/draws",
            8,
            ["ei.draws: unknown key; it belongs into `infer` (infer: {default: {draws: ...}}). Allowed here:"],
        ),
        (
            "problems/toy/methods/ei/steps",
            8,
            ["ei.steps: unknown key; it belongs into `infer` (infer: {default: {steps: ...}}) or `train`. Allowed"],
        ),
        ("problems/toy/methods/oracle/wrong", 8, ["oracle.wrong: unknown key. Allowed here: infer, kind"]),
        ("problems/toy/simulator", 3, ["problems.toy.simulator: wanted a block of options (found 3)"]),
        (
            "problems/modes",
            {"kind": "gaussian-mixture", "simulator": {"covariances": [[[1.0]]] * 3, "deviations": [1.0] * 3}},
            ["modes.simulator: modes have deviations or covariances: leave out one of the two"],
        ),
        (
            "problems/toy/families/sweep/events",
            {"train": 9},
            ["families.sweep", "the events of a sweep stand in `sweep`"],
        ),
        (
            "problems/toy/families/half/events",
            {"train": 9},
            ["`events` names train: a family in the role 'unseen' has test, reference"],
        ),
        ("problems/waves", waves("seen", kind="netcdf", files={"test": ["a.nc"]}), ["there is no train, and a family"]),
        (
            "problems/waves",
            waves("seen", kind="netcdf", files={"test": ["a.nc"], "train": ["b.nc"]}),
            ["there is no validation, and a family"],
        ),
        (
            "problems/waves",
            waves("unseen", kind="netcdf", files={"test": ["a.nc"], "train": ["b.nc"]}),
            ["`read.files` names train: a family in the role 'unseen'"],
        ),
        (
            "problems/waves",
            {**WAVES, "families": {"own": {"role": "unseen", "params": TILES, "fallback": "own"}}},
            ["families.own.fallback: 'own' may not be there either"],
        ),
        ("problems/toy/familes", {}, ["problems.toy.familes", "did you mean 'families'?"]),
        ("problems/toy/families/half/rolee", "x", ["problems.toy.families.half.rolee", "'role'"]),
        (
            "problems/toy/families/half/role",
            "sen",
            ["problems.toy.families.half.role", "'seen', 'unseen' or 'observed'"],
        ),
        ("problems/toy/methods/ei/kind", "eifm", ["methods.ei.kind", "did you mean 'ei-fm'?", "oracle"]),
        ("problems/toy/kind", "gausian", ["problems.toy.kind", "did you mean 'gaussian'?"]),
        ("problems/toy/families/half/params", {"gama": 0.5}, ["params.gama", "did you mean 'gamma'?"]),
        ("problems/toy/families/half/params", {"gamma": {"uniform": [0, 1]}}, ["params.gamma", "sweep"]),
        ("problems/toy/methods/ei/infer", {"a": {"stepz": 1}}, ["infer.a.stepz", "'steps'"]),
        ("problems/toy/methods/ei/network", {"kind": "mlp", "widht": 3}, ["network.widht", "'width'"]),
        (
            "problems/toy/methods/ei/network",
            {"kind": "inversion-net"},
            ["methods.ei.network.kind: found 'inversion-net', allowed: mlp, unet"],
        ),
        (
            "problems/toy/methods/ei",
            {"kind": "velocity-gan", "network": {"kind": "mlp"}},
            ["methods.ei.network.kind: found 'mlp', allowed: unet, inversion-net"],
        ),
        (
            "problems/toy/priors",
            {"p": {"kind": "edm", "network": {"kind": "inversion-net"}}},
            ["priors.p.network.kind: found 'inversion-net', allowed: mlp, unet"],
        ),
        (
            "problems/toy/methods/ei/set_encoder",
            {"kind": "set-transformer", "hidden": 30, "heads": 4},
            ["multiple of heads"],
        ),
        ("problems/toy/methods/ei/set_encoder", {"hidden": 8}, ["methods.ei.set_encoder.kind", "is needed"]),
        (
            "problems/waves",
            {**WAVES, "methods": {"c": {"kind": "cfm", "parameters": True}}},
            ["methods.c.parameters", "'flat' is not a sweep"],
        ),
        (
            "problems/toy/methods/told",
            {"kind": "cfm", "parameters": True, "train": {"prior_reweighting": 0.5}},
            ["methods.told.train.prior_reweighting: found 0.5 with `parameters: true`", "leave one of the two out"],
        ),
        (
            "problems/toy/methods/c",
            {"kind": "cfm", "infer": {"a": {"bootstrap": 4}}},
            ["methods.c.infer.a.bootstrap: found 4, and 'cfm' has no set encoder"],
        ),
        (
            "problems/toy/methods/c",
            {"kind": "cddpm", "infer": {"a": {"duplicate_to": 400}}},
            ["methods.c.infer.a.duplicate_to: found 400, and 'cddpm' has no set encoder"],
        ),
        (
            "problems/jets",
            {**jets_read(), "priors": {"p": {"kind": "edm"}}},
            ["problems.jets.priors.p: a prior is of x alone, and networks see eta, phi of x of problem kind"],
        ),
        ("problems/toy/priors", {"p": {"kind": "edm"}}, ["priors.p.network.kind: 'unet' is for x on a grid", "mlp"]),
        (
            "problems/toy/methods/ei/network",
            {"kind": "unet"},
            ["methods.ei.network.kind: 'unet' is for x on a grid, and of problem kind 'gaussian' it is a vector"],
        ),
        (
            "problems/toy/methods/gan",
            {"kind": "velocity-gan"},
            [
                "methods.gan.network.kind: 'inversion-net' is for x on a grid",
                "use another method, with network mlp",
            ],
        ),
        (
            "problems/waves",
            {**WAVES, "methods": {"h": {"kind": "hvae"}}},
            ["waves.methods.h: 'hvae' is for x that is a vector, and of problem kind 'fwi' it is an array: use ei-fm"],
        ),
        (
            "problems/waves",
            {**WAVES, "methods": {"c": {"kind": "cfm", "train": {"prior_reweighting": 0.5}}}},
            ["waves.methods.c.train.prior_reweighting: sets are reweighted by truths that are vectors"],
        ),
        (
            "problems/waves",
            {**WAVES, "methods": {"e": {"kind": "ei-fm", "set_encoder": {"kind": "moments"}}}},
            ["waves.methods.e.set_encoder.kind: 'moments' is for y that is a vector", "deep-sets"],
        ),
        (
            "problems/images",
            {
                "kind": "digits",
                "families": {"half": {"role": "seen", "params": {"alpha": 0.5}}},
                "methods": {"o": {"kind": "oracle"}},
                "likelihoods": {"gmm": {"kind": "gmm"}},
            },
            ["problems.images.likelihoods: of problem kind 'digits' none can be learned: x and y are arrays"],
        ),
        ("problems/toy/methods/ei/train", {"set_size": [9, 3]}, ["set_size needs"]),
        ("problems/toy/methods/g", {"kind": "enkg", "prior": "none"}, ["no prior 'none'", "problems.toy.priors"]),
        ("problems/toy/methods/ei/infer", {"a": {"families": ["hlaf"]}}, ["infer.a.families", "did you mean 'half'?"]),
        ("problems/toy/methods/ei/infer", {"a": {"families": ["half", "half"]}}, ["'half' is there twice"]),
        ("problems/toy/families/twin", {"role": "unseen", "events_from": "halff"}, ["did you mean 'half'?"]),
        ("problems/toy/families/twin", {"role": "unseen", "events_from": "sweep"}, ["no test events"]),
        (
            "problems/toy/families/twin",
            {"role": "unseen", "params": {"gamma": 0.1}, "shift": {"kind": "noise", "relative": 1}},
            ["a shift changes test observations only"],
        ),
        ("problems/toy/families/data", {"role": "observed", "params": {"gamma": 0.1}}, ["observed family needs"]),
        (
            "problems/waves",
            {**WAVES, "methods": {"o": {"kind": "oracle"}}},
            ["needs exact-posterior or likelihood", "kind 'fwi' gives"],
        ),
        (
            "problems/waves",
            {**WAVES, "evaluation": {"exact_events": 10}},
            ["waves.evaluation.exact_events", "kind 'fwi' gives", "leave it out"],
        ),
        ("problems/toy/evaluation", {"exact_families": ["haf"]}, ["evaluation.exact_families", "did you mean 'half'?"]),
        (
            "problems/toy/families/half/read",
            {"kind": "root", "files": {"test": ["a.root"]}, "y": {"pt": "a", "eta": "b", "phi": "c"}},
            ["read.x"],
        ),
        (
            "problems/toy/families/half/read",
            {"files": {"test": ["a.root"]}, "y": {"pt": "a", "eta": "b", "phi": "c"}},
            ["toy.families.half.read.kind: this key is needed and is not there; allowed: root, openfwi, segy, netcdf"],
        ),
        (
            "problems/toy/methods/ei/infer",
            {"a": {"refine": {"likelihood": "gmn"}}},
            ["infer.a.refine.likelihood", "no likelihood 'gmn'", "under `likelihoods:` (none)"],
        ),
        ("problems/toy/methods/ei/infer", {"a": {"refine": {"likelihood": "exakt"}}}, ["did you mean 'exact'?"]),
        ("problems/toy/methods/ei/infer", {"a": {"refine": {"particels": 9}}}, ["refine.particels", "'particles'"]),
        (
            "problems/waves",
            {**WAVES, "methods": {"cfm": {"kind": "cfm", "infer": {"a": {"refine": {}}}}}},
            ["infer.a.refine.likelihood: 'exact' needs a problem that gives likelihood", "kind 'fwi' gives"],
        ),
        (
            "problems/waves",
            {**WAVES, "likelihoods": {"gmm": {"kind": "gmm"}}},
            ["problems.waves.likelihoods", "x and y are arrays"],
        ),
        *(
            ("problems/waves", {**WAVES, "families": {**WAVES["families"], "other": family}}, says)
            for family, says in (
                (
                    changed_simulator({"peak_freqency": 13}),
                    ["families.other.shift.change.peak_freqency", "did you mean 'peak_frequency'?"],
                ),
                (
                    changed_simulator({"peak_frequency": -1}),
                    ["families.other.shift.change.peak_frequency", "greater than 0"],
                ),
                (
                    changed_simulator({"wavelet": "estimated.npy"}),
                    ["families.other.shift.change: `wavelet` and `wavelet_interval` belong together"],
                ),
                (changed_simulator({"preset": "fwi32"}), ["shift.change.preset", "name what changes"]),
                (changed_simulator({}), ["shift", "at least 1 item"]),
                (changed_simulator({"peak_frequency": 7.5}), ["shift.change: all is as the problem has it"]),
                (
                    changed_simulator({"wavelet": "a.npy", "wavelet_interval": 0.001, "peak_frequency": 13}),
                    ["shift.change.peak_frequency: has no effect where there is a `wavelet`"],
                ),
                (
                    {"role": "unseen", "params": {"geology": "tiles", "tiles": {"file": "a.npy", "spacin": 1}}},
                    ["families.other.params.tiles.spacin", "did you mean 'spacing'?", "first_axis"],
                ),
                (
                    {"role": "unseen", "params": {"geology": "tiles"}},
                    ["families.other.params", "geology 'tiles' and the block `tiles` belong together"],
                ),
                (
                    {"role": "unseen", "params": {"geology": "flat", "rough": True}},
                    ["families.other.params", "`rough` is of geology 'style', found geology 'flat'"],
                ),
                (
                    {"role": "unseen", "params": {"geology": "salt", "layers": [5, 2]}},
                    ["families.other.params", "`layers` needs 1 <= least <= most, found [5, 2]"],
                ),
                (
                    {"role": "unseen", "params": {"geology": "salt", "layers": [2, 20]}},
                    ["families.other.params.layers", "32 nodes of depth, which hold 16 layers, found at most 20"],
                ),
                (
                    {"role": "unseen", "params": {"geology": "salty"}},
                    ["families.other.params.geology", "'salt'"],
                ),
                (
                    {"role": "seen", "params": {"geology": "tiles", "tiles": {"file": "a.npy"}}, **OTHERWISE},
                    ["`fallback` has another family's test events", "nothing can be trained"],
                ),
                (
                    {"role": "unseen", "params": {"geology": "salt"}, **OTHERWISE},
                    ["there is no `read`, and its parameters name no file"],
                ),
            )
        ),
        (
            "problems/waves",
            {**WAVES, "simulator": {"preset": "fwi33"}},
            ["simulator.preset", "'compact', 'openfwi', 'fwi32' or 'marmousi'"],
        ),
        (
            "problems/toy/families/half/params/gamma",
            1.5,
            ["families.half.params", "gamma is a correlation: found [1.5], wanted values in [-1, 1]"],
        ),
        *(
            (
                "problems/waves",
                {**WAVES, "methods": {"net": {"kind": kind, **network, "train": {"sets_per_step": 1, **train}}}},
                ["waves.methods.net.train: network 'inversion-net'", "a step may have 1, wanted at least 2: raise"],
            )
            for kind, network in (("regression", {"network": {"kind": "inversion-net"}}), ("velocity-gan", {}))
            for train in ({"set_size": [1, 8]}, {"set_size": [4, 8], "loss_members": 1})
        ),
        (
            "problems/images",
            {
                "kind": "digits",
                "families": {
                    "flat": {"role": "unseen", "params": {"alpha": 0.5}},
                    "other": {"role": "unseen", "events_from": "flat", "shift": {"kind": "noise", "relative": 1}},
                },
                "methods": {"o": {"kind": "oracle"}},
            },
            ["images.families.other.shift: noise would fall on lost pixels", "change: {noise_variance: ...}"],
        ),
        (
            "problems/jets",
            {
                "kind": "unfolding",
                "families": {
                    "flat": {"role": "unseen", "params": {"process": "ttbar"}},
                    "other": changed_simulator({"jet_radius": 0.8}),
                },
                "methods": {"o": {"kind": "oracle"}},
            },
            ["jets.families.other.shift", "'unfolding' cannot be simulated again from their truth"],
        ),
        (
            "problems/jets",
            {
                "kind": "unfolding",
                "families": {"flat": READ, "other": changed_simulator({"jet_radius": 0.8})},
                "methods": {"o": {"kind": "oracle"}},
            },
            ["jets.families.other.shift: 'flat' is read from files: there is no simulation to change"],
        ),
        (
            "problems/jets",
            jets_read(y_pt_min=20),
            ["jets.families.data.read.y_pt_min: found 20 GeV", "from 5 GeV on", "`simulator.reco_pt_min` the same cut"],
        ),
        ("problems/jets", jets_read({"reco_pt_min": 20}), ["families.data.read.y_pt_min: found 5 GeV", "from 20 GeV"]),
        ("problems/jets", jets_read({"reco_pt_min": 4}), ["jets.simulator.reco_pt_min", "greater than or equal to 5"]),
        ("problems/jets", jets_read(y_pt_min=4), ["families.data.read", "y_pt_min", "greater than or equal to 5"]),
        (
            "problems/jets",
            {**jets_read(), "families": {"data": with_truth(x_pt_min=10), "flat": READ}},
            ["families.data.read.x_pt_min: found 10 GeV", "holds from 20 GeV on"],
        ),
        (
            "problems/waves",
            waves("observed", kind="root", files={"test": ["a.root"]}, y={"pt": "a", "eta": "b", "phi": "c"}),
            ["problems.waves.families.data.read: the files hold jets, and problems of kind 'fwi' read arrays, gathers"],
        ),
        (
            "problems/toy/families/data",
            {"role": "observed", "read": {"kind": "segy", "files": {"test": ["a.segy"]}}},
            ["problems.toy.families.data.read: the files hold gathers, and problems of kind 'gaussian' read arrays"],
        ),
        ("problems/waves", waves("unseen", kind="openfwi", files=FILES), ["families.data: `read.models` names the"]),
        (
            "problems/waves",
            waves("unseen", kind="openfwi", files=FILES, models={"test": ["m.npy"]}),
            ["families.data.read: test: 2 files of y and 1 of models, wanted one for each"],
        ),
        (
            "problems/waves",
            waves("unseen", kind="segy", files=FILES, models={"train": ["m.segy"]}),
            ["families.data.read: test: 2 files of y and 0 of models"],
        ),
        (
            "problems/waves",
            waves("unseen", kind="netcdf", files=FILES, models=FILES),
            ["families.data.read.models: unknown key"],
        ),
        (
            "problems/waves",
            waves("seen", kind="netcdf", files={"train": ["a.nc"]}),
            ["families.data.read.files: there are no test files; a family in the role 'seen' is evaluated on them"],
        ),
        ("problems/waves", waves("unseen", kind="netcdf", files={"test": []}), ["families.data.read.files.test"]),
        (
            "problems/waves",
            waves("observed", kind="opnfwi", files=FILES),
            ["families.data.read.kind", "'openfwi'?; allowed: root"],
        ),
        (
            "problems/waves",
            waves("observed", kind="segy", files=FILES, modls={}),
            ["families.data.read.modls: unknown key; did you mean 'models'?"],
        ),
        ("problems/toy/likelihoods", {"exact": {"kind": "gmm"}}, ["likelihoods.exact", "another name"]),
        ("problems/toy/likelihoods", {"gmm": {"kind": "gmm", "comonents": 2}}, ["likelihoods.gmm", "'components'"]),
        ("figures", [{"y": "crps", "x": "method.k", "titel": "a"}], ["figures[0].titel", "did you mean 'title'?"]),
        ("figures", [{"y": "crps", "x": "network_cals"}], ["figures[0].x", "did you mean 'network_calls'?"]),
        ("figures", [{"y": "crps", "x": "params.gama"}], ["figures[0].x", "did you mean 'params.gamma'?"]),
        ("figures", [{"y": "crps", "x": "method.k", "methods": ["oracle"]}], ["'method.k' is no number here"]),
        ("figures", [{"y": "crps", "x": "method.train.step"}], ["did you mean 'method.train.steps'?"]),
        (
            "figures",
            [{"y": "crps", "x": "method", "families": ["hal"]}],
            ["figures[0].families: 'hal' is none of half", "'half'?"],
        ),
        ("figures", [{"y": "crps", "x": "method", "infer": ["fast-*"]}], ["figures[0].infer: 'fast-*' is none of"]),
        ("figures", [{"y": "crps", "x": "method", "log": "z"}], ["figures[0].log"]),
        ("config_version", 1, ["config_version", "found 1"]),
        ("study", "a/b", ["study"]),
    ],
)
def test_a_mistake_is_named_with_its_place_and_a_remedy(path, value, says):
    with pytest.raises(StudyError) as error:
        load_study(changed(path, value), ".", "small.yaml")
    assert str(error.value).startswith("small.yaml cannot run:")
    for text in says:
        assert text in str(error.value)


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "config").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_that_is_shipped_can_run(file):
    assert read_study(file).problems


def test_one_cut_for_all_jets_is_right():
    config = changed("problems/jets", jets_read({"reco_pt_min": 20}, y_pt_min=20))
    assert load_study(config).problems["jets"].simulator.reco_pt_min == 20


def test_every_mistake_is_listed_at_once():
    config = changed("problems/toy/familes", {})
    config["problems"]["toy"]["methods"]["ei"]["train"]["stepz"] = 1
    with pytest.raises(StudyError, match=r"(?s)stepz.*familes|familes.*stepz"):
        load_study(config)


def test_a_family_cannot_be_seen_and_unseen():
    config = copy.deepcopy(BASE)
    config["problems"]["waves"] = copy.deepcopy(WAVES)
    config["problems"]["waves"]["families"]["again"] = {"role": "unseen", "params": {"geology": "flat"}}
    with pytest.raises(StudyError, match="the same prior is seen as 'flat' and unseen here"):
        load_study(config)


def test_learning_needs_a_seen_family():
    config = copy.deepcopy(BASE)
    del config["problems"]["toy"]["families"]["sweep"]
    with pytest.raises(StudyError, match="learns from seen families"):
        load_study(config)


def test_a_study_may_stand_in_a_file_of_any_name(tmp_path: Path):
    file = tmp_path / "other.yaml"
    file.write_text(yaml.safe_dump(BASE))
    assert read_study(file).study == "small"


def test_a_key_given_twice_is_refused(tmp_path: Path):
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(BASE) + "study: small\n")
    with pytest.raises(StudyError, match="'study' stands twice"):
        read_study(file)


def test_a_file_that_is_not_there_or_not_yaml(tmp_path: Path):
    with pytest.raises(StudyError, match="cannot be read"):
        read_study(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(StudyError, match="not valid YAML"):
        read_study(tmp_path / "bad.yaml")


def test_the_default_study_is_right():
    root = Path(__file__).parents[2]
    study = read_study(root / "config/config.yaml")
    assert {problem.kind for problem in study.problems.values()} == {"gaussian", "fwi", "unfolding"}
