"""Jobs carry exactly what their result depends on, and cut the work without changing it."""

import json
from pathlib import Path

import pytest
from test_config import BASE

from pullback import registry
from pullback.study import load_study, read_study
from pullback.study.base import job_digest
from pullback.study.job_params import Plan
from pullback.study.kinds import parse
from pullback.study.reading import StudyError
from pullback.study.workflow_inputs import Graph


def plan(**size) -> Plan:
    config = json.loads(json.dumps(BASE))
    config["problems"]["toy"]["size"] = size
    return Plan(load_study(config))


def test_shards_cover_every_event_once():
    for shard in (1000, 1500, 3000, 10_000):
        cut = plan(test=5300, shard=shard)
        jobs = [
            json.loads(cut.simulate_job("toy", "half", "test", i)) for i in range(cut.shards("toy", "half", "test"))
        ]
        assert sum(job["events"] for job in jobs) == 5300
        position = 0
        for job in jobs:
            assert job["first_block"] * job["block"] == position
            position += job["events"]


def test_no_shard_cuts_an_ensemble():
    cut = plan(shard=120)
    jobs = [
        json.loads(cut.simulate_job("toy", "sweep", "train", i)) for i in range(cut.shards("toy", "sweep", "train"))
    ]
    assert len(jobs) == 2
    assert all(job["events"] % 50 == 0 for job in jobs)


def test_roles_have_their_splits():
    cut = plan()
    assert cut.splits("toy", "sweep") == ("train", "validation")
    assert cut.splits("toy", "half") == ("test", "reference")


@pytest.mark.parametrize(
    ("edit", "changes"),
    [
        (("problems", "toy", "methods", "ei", "train", "steps"), {"train"}),
        (("problems", "toy", "methods", "ei", "k"), {"train", "infer"}),
        (("problems", "toy", "families", "half", "params", "gamma"), {"simulate"}),
        (("problems", "toy", "families", "half", "title"), {"evaluate", "report"}),
        (("title",), {"report"}),
        (("seed",), {"simulate", "train", "infer", "evaluate", "report"}),
        (("threads",), {"train", "infer", "report"}),
    ],
)
def test_editing_a_key_changes_the_jobs_that_read_it(edit, changes):
    """The report carries the whole study; `k` names the instance, so inference knows it too.

    A job also names what its inputs were asked to be, so that every job which follows has another text.
    """
    value = {"title": "other", "steps": 11, "k": 3, "seed": 9, "threads": 2, "gamma": 0.4}[edit[-1]]
    config = json.loads(json.dumps(BASE))
    node = config
    for key in edit[:-1]:
        node = node[key]
    node[edit[-1]] = value
    old, new = Plan(load_study(BASE)), Plan(load_study(config))
    jobs = {
        "simulate": lambda p: p.simulate_job("toy", "half", "test", 0),
        "train": lambda p: p.train_job("toy", "methods", "ei", 0),
        "infer": lambda p: p.infer_job("toy", "ei", "default", 0, "half", 0),
        "evaluate": lambda p: p.evaluate_job("toy", "ei"),
        "report": lambda p: p.report_job(),
    }
    follows = {
        "simulate": {"infer", "evaluate"},
        "train": {"infer", "evaluate"},
        "infer": {"evaluate"},
        "evaluate": set(),
        "report": set(),
    }

    def own(text):
        return {key: value for key, value in json.loads(text).items() if key != "inputs"}

    changes = changes | {"report"}
    assert {name for name, job in jobs.items() if own(job(old)) != own(job(new))} == changes
    followed = set().union(*(follows[name] for name in changes))
    assert {name for name, job in jobs.items() if job(old) != job(new)} == changes | followed


def test_a_text_names_what_its_inputs_were_asked_to_be():
    cut = plan()
    shard = job_digest(cut.simulate_job("toy", "half", "test", 0))
    index = cut.index_job("toy", "half", "test")
    assert json.loads(index)["inputs"] == {"shards": [shard]}
    inputs = json.loads(cut.infer_job("toy", "ei", "default", 0, "half", 0))["inputs"]
    assert inputs["ensemble"] == [job_digest(index)]
    assert inputs["artifact"] == [job_digest(cut.train_job("toy", "methods", "ei", 0))]
    assert cut.report_job() == plan().report_job()
    assert json.loads(cut.report_job())["study"] == json.loads(cut.resolved())["study"]


REFINED = {
    "draws": {},
    "exact": {"refine": {"particles": 500}},
    "learned": {"refine": {"likelihood": "gmm"}},
}


def refined() -> dict:
    config = json.loads(json.dumps(BASE))
    config["problems"]["toy"]["methods"]["ei"]["infer"] = json.loads(json.dumps(REFINED))
    config["problems"]["toy"]["likelihoods"] = {"gmm": {"kind": "gmm"}}
    return config


def test_refining_trains_nothing_again():
    cut, plain = Plan(load_study(refined())), plan()
    assert cut.train_job("toy", "methods", "ei", 0) == plain.train_job("toy", "methods", "ei", 0)
    config = refined()
    config["problems"]["toy"]["methods"]["ei"]["infer"]["exact"]["refine"]["particles"] = 600
    edited = Plan(load_study(config))
    changed = {
        name: edited.infer_job("toy", "ei", name, 0, "half", 0) != cut.infer_job("toy", "ei", name, 0, "half", 0)
        for name in REFINED
    }
    assert changed == {"draws": False, "exact": True, "learned": False}
    assert edited.train_job("toy", "likelihoods", "gmm", 0) == cut.train_job("toy", "likelihoods", "gmm", 0)


def test_only_what_is_refined_with_a_learned_likelihood_reads_it():
    cut = Plan(load_study(refined()))
    wanted = {"draws": [], "exact": [], "learned": [job_digest(cut.train_job("toy", "likelihoods", "gmm", 0))]}
    for name in REFINED:
        inputs = json.loads(cut.infer_job("toy", "ei", name, 0, "half", 0))["inputs"]
        assert inputs["likelihood"] == wanted[name]


def test_otherwise_stands_in_for_files_that_are_not_there(tmp_path, monkeypatch):
    config = json.loads(json.dumps(BASE))
    branches = {"pt": "Jet_pt", "eta": "Jet_eta", "phi": "Jet_phi"}
    config["problems"] = {
        "jets": {
            "kind": "unfolding",
            "families": {
                "ttbar": {"role": "seen", "params": {"process": "ttbar"}},
                "data": {
                    "role": "observed",
                    "read": {"kind": "root", "files": {"test": ["$PULLBACK_DATA/data.root"]}, "y": branches},
                    "fallback": "ttbar",
                },
            },
            "methods": {"cfm": {"kind": "cfm"}},
        }
    }
    monkeypatch.setenv("PULLBACK_DATA", str(tmp_path))
    assert Plan(load_study(config)).source("jets", "data") == "derive"
    (tmp_path / "data.root").touch()
    assert Plan(load_study(config)).source("jets", "data") == "read"
    assert Plan(load_study(config)).outside_files("jets", "data", "test", 0) == [str(tmp_path / "data.root")]


def waves(file: str, **families) -> dict:
    """A study in which tiles of a file are judged, or another family where the file is not there."""
    tiles = {"file": file, "shape": [40, 40], "spacing": 20.0}
    families = {
        "flat": {"role": "seen", "params": {"geology": "flat"}},
        "salt": {"role": "unseen", "params": {"geology": "salt"}},
        "tiles": {
            "role": "unseen",
            "params": {"geology": "tiles", "tiles": tiles},
            "fallback": "salt",
        },
        "fine": {
            "role": "unseen",
            "events_from": "tiles",
            "shift": {"kind": "simulator", "change": {"x_cells": [24, 24]}},
        },
        **families,
    }
    spec = {"kind": "fwi", "families": families, "methods": {"random": {"kind": "random-truth"}}}
    return {"config_version": 2, "study": "s", "problems": {"waves": spec}}


def test_otherwise_stands_in_for_tiles_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PULLBACK_DATA", str(tmp_path))
    config = waves("$PULLBACK_DATA/model.bin")
    missing = Plan(load_study(config))
    assert missing.source("waves", "tiles") == "derive"
    assert missing.splits("waves", "tiles") == ("test",)
    # What takes events from the family has those of the one that stands in, drawn as that one's are.
    job = json.loads(missing.derive_job("waves", "fine"))
    assert (job["base"], job["params"]) == ("salt", {"geology": "salt"})
    assert job["inputs"]["base"] == [job_digest(missing.index_job("waves", "salt", "test"))]
    assert missing.floors("waves", "random") == ["flat", "salt"]
    # Nobody reads the numbers as those of the files.
    titles = {name: family["title"] for name, family in judged_families(missing).items()}
    wanted = {
        "flat": "flat",
        "salt": "salt",
        "tiles": "tiles (no files here: salt)",
        "fine": "fine (no files here: salt)",
    }
    assert titles == wanted
    Graph(missing, Path("workflow/scripts"))
    (tmp_path / "model.bin").write_bytes(bytes(4 * 40 * 40))
    there = Plan(load_study(config))
    assert there.source("waves", "tiles") == "simulate"
    assert there.splits("waves", "tiles") == ("test", "reference")
    assert json.loads(there.derive_job("waves", "fine"))["params"]["tiles"]["file"] == "$PULLBACK_DATA/model.bin"
    assert there.floors("waves", "random") == ["flat", "salt", "tiles"]
    assert {family["title"] for family in judged_families(there).values()} == {"flat", "salt", "tiles", "fine"}


def test_tiles_of_different_splits_come_from_areas_apart(tmp_path):
    """The job says which; what is judged lies apart from what another family of the same file is trained on."""
    model = tmp_path / "model.bin"
    model.write_bytes(bytes(4 * 40 * 40))
    tiles = {"file": str(model), "shape": [40, 40], "spacing": 20.0}

    def areas(**more) -> dict[str, list[float] | str]:
        plan = Plan(load_study(waves(str(model), **more)))
        named = {
            f"{name}/{split}": json.loads(plan.simulate_job("waves", name, split, 0))["params"]
            for name in plan.study.problems["waves"].families
            if plan.source("waves", name) == "simulate"
            for split in plan.splits("waves", name)
        }
        named["fine"] = json.loads(plan.derive_job("waves", "fine"))["params"]
        return {name: params["tiles"]["area"] for name, params in named.items() if "tiles" in params}

    judged = {"tiles/test": [0.0, 0.5], "tiles/reference": [0.5, 1.0], "fine": [0.0, 0.5]}
    assert areas() == judged
    other = {**tiles, "file": str(tmp_path / "." / "model.bin"), "stretch": 1.5}
    trained = areas(trained={"role": "seen", "params": {"geology": "tiles", "tiles": other}})
    four = {"train": [0.0, 0.55], "validation": [0.55, 0.7], "test": [0.7, 0.85], "reference": [0.85, 1.0]}
    assert trained == {
        "tiles/test": four["test"],
        "tiles/reference": four["reference"],
        "fine": four["test"],
        **{f"trained/{split}": area for split, area in four.items()},
    }
    for area in ("anywhere", [0.2, 0.9]):
        mine = {"role": "unseen", "params": {"geology": "tiles", "tiles": {**tiles, "area": area}}}
        assert areas(mine=mine) == judged | {"mine/test": area, "mine/reference": area}


def test_an_own_problem_says_what_differs_between_splits(tmp_path):
    """As `docs/extending.md` has it; other problems' splits are drawn alike."""
    (tmp_path / "own.py").write_text(
        "class Halves:\n"
        "    def sample_prior(self, rng, n, params): ...\n"
        "    def simulate(self, x, rng): ...\n"
        "    @staticmethod\n"
        "    def split_params(problem, family, split):\n"
        "        return {**family.params, 'low': 0 if split == 'train' else len(problem.families)}\n"
    )
    family = {"role": "seen", "params": {"high": 9}}
    problem = {"kind": "./own.py:Halves", "families": {"a": family}, "methods": {"r": {"kind": "random-truth"}}}
    plan = Plan(load_study({"config_version": 2, "study": "s", "problems": {"p": problem}}, tmp_path), tmp_path)
    found = {split: json.loads(plan.simulate_job("p", "a", split, 0))["params"] for split in ("train", "test")}
    assert found == {"train": {"high": 9, "low": 0}, "test": {"high": 9, "low": 1}}


def test_what_depends_on_the_forward_process_is_left_out_where_it_is_another(tmp_path):
    """Jets of an outside file were smeared by another detector, unless the study says otherwise; gathers were not."""
    jets_file, branches = tmp_path / "data.root", {"pt": "pt", "eta": "eta", "phi": "phi"}
    jets_file.touch()

    def own(**said):
        data = {
            "role": "observed",
            "read": {"kind": "root", "files": {"test": [str(jets_file)]}, "y": branches},
            **said,
        }
        hidden = {"role": "observed", "events_from": "data"}
        config = jets(data=data, hidden=hidden)
        config["problems"]["jets"]["methods"] = {"random": {"kind": "random-truth"}}
        config["problems"]["jets"]["families"]["seen"] = {"role": "seen", "params": {"process": "wjets"}}
        job = json.loads(Plan(load_study(config)).evaluate_job("jets", "random"))
        return [job["families"][name].get("own_forward", True) for name in job["families"]], list(job["families"])

    found, names = own()
    assert [value for value, name in zip(found, names, strict=True) if name in ("data", "hidden")] == [False, False]
    assert [value for value, name in zip(found, names, strict=True) if name not in ("data", "hidden")].count(False) == 0
    assert all(own(own_forward=True)[0])
    assert registry.load("readers", "segy").own_forward
    with pytest.raises(StudyError, match=r"`own_forward` is of observations from files: it needs `read`"):
        load_study(jets(hidden={"role": "observed", "events_from": "ttbar", "own_forward": True}))


def judged_families(plan: Plan) -> dict:
    """The families of the evaluation of random truths on waves."""
    return json.loads(plan.evaluate_job("waves", "random"))["families"]


def test_judging_depends_on_the_families_that_a_method_answers(tmp_path):
    config = waves(str(tmp_path))
    families = config["problems"]["waves"]["families"]
    del families["tiles"], families["fine"]
    config["problems"]["waves"]["methods"]["few"] = {
        "kind": "random-truth",
        "infer": {"one": {"families": ["salt"]}},
    }
    before = Plan(load_study(config))
    job = json.loads(before.evaluate_job("waves", "few"))
    assert list(job["families"]) == ["salt"]
    assert (len(job["inputs"]["ensembles"]), len(job["inputs"]["references"])) == (1, 1)
    graph = Graph(before, Path("workflow/scripts"))
    assert [path.split("/")[-2:] for path in graph.evaluated("waves", "few")] == [["salt", "test.h5"]]
    assert len(graph.evaluated("waves", "random")) == 2
    families["flat"]["events"] = {"test": 20}
    after = Plan(load_study(config))
    changed = {
        name: after.evaluate_job("waves", name) != before.evaluate_job("waves", name) for name in ("few", "random")
    }
    assert changed == {"few": False, "random": True}


def test_a_file_of_tiles_reruns_what_is_cut_from_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PULLBACK_DATA", str(tmp_path))
    dead = {
        "role": "unseen",
        "events_from": "tiles",
        "shift": {"kind": "missing", "dimension": "time", "fraction": 0.1},
    }
    recorded = {"kind": "simulator", "change": {"wavelet": "$PULLBACK_DATA/w.txt", "wavelet_interval": 0.002}}
    config = waves(
        "$PULLBACK_DATA/model.bin",
        dead=dead,
        recorded={"role": "unseen", "events_from": "salt", "shift": recorded},
    )

    def code() -> dict[str, str]:
        graph = Graph(Plan(load_study(config)), Path(__file__).parents[2] / "workflow/scripts")
        manifests = {name: graph.code("simulate", "waves", name) for name in ("flat", "salt", "tiles")}
        manifests |= {name: graph.code_to_derive("waves", name) for name in ("fine", "dead", "recorded")}
        return {**manifests, "preflight": graph.code("preflight", "waves")}

    (tmp_path / "model.bin").write_bytes(bytes(4 * 40 * 40))
    (tmp_path / "w.txt").write_text("0 1 2 1 0")
    before = code()
    # What simulates again runs the simulator; what drops receivers does not.
    assert "propagators" in before["fine"]
    assert "propagators" not in before["dead"]
    (tmp_path / "model.bin").write_bytes(bytes([1]) * (4 * 40 * 40))
    between = code()
    assert {name for name, text in between.items() if text != before[name]} == {"tiles", "fine"}
    (tmp_path / "w.txt").write_text("0 1 3 1 0")
    after = code()
    assert {name for name, text in after.items() if text != between[name]} == {"recorded"}
    (tmp_path / "w.txt").unlink()
    with pytest.raises(StudyError, match=r"families\.recorded: the file .*w\.txt cannot be read .*correct its path"):
        code()


def test_only_a_shift_of_the_simulator_knows_the_prior():
    """Another prior's parameters rerun what draws from it again; what only adds noise follows its input."""
    noisy = {"role": "unseen", "events_from": "salt", "shift": {"kind": "noise", "relative": 0.1}}
    again = {**noisy, "shift": {"kind": "simulator", "change": {"peak_frequency": 6.0}}}
    cut = Plan(load_study(waves("nowhere.bin", noisy=noisy, again=again)))
    assert "params" not in json.loads(cut.derive_job("waves", "noisy"))
    job = json.loads(cut.derive_job("waves", "again"))
    assert (job["params"], job["block"], job["shift"]["change"]) == ({"geology": "salt"}, 20, {"peak_frequency": 6.0})


def jets(**families) -> dict:
    ttbar = {"role": "unseen", "params": {"process": "ttbar"}}
    spec = {"kind": "unfolding", "families": {"ttbar": ttbar, **families}, "methods": {"oracle": {"kind": "oracle"}}}
    return {"config_version": 2, "study": "s", "problems": {"jets": spec}}


def test_an_oracle_without_an_exact_posterior_reads_the_reference():
    shift = {"kind": "scale", "factor": 2, "feature": "pt"}
    study = load_study(jets(louder={"role": "unseen", "events_from": "ttbar", "shift": shift}))
    cut = Plan(study)
    wanted = job_digest(cut.index_job("jets", "ttbar", "reference"))
    graph = Graph(cut, Path("workflow/scripts"))
    for family in ("ttbar", "louder"):
        assert json.loads(cut.infer_job("jets", "oracle", "default", 0, family, 0))["inputs"]["reference"] == [wanted]
        needed = graph.needed_to_infer("jets", "oracle", "default", 0, family)
        assert needed["reference"] == ["results/s/ensembles/jets/ttbar/reference.h5"]
    toy = plan()
    assert toy.reference("toy", "oracle", "half") == []


def test_an_oracle_is_refused_where_there_is_no_reference():
    read = {"kind": "root", "files": {"test": ["data.root"]}, "y": {"pt": "pt", "eta": "eta", "phi": "phi"}}
    config = jets(data={"role": "observed", "read": read})
    with pytest.raises(
        StudyError, match=r"oracle.infer.default: 'oracle' answers from the reference split, and 'data'"
    ):
        load_study(config)
    config["problems"]["jets"]["methods"]["oracle"]["infer"] = {"default": {"families": ["ttbar"]}}
    load_study(config)


def test_a_family_that_is_left_out_is_no_input_of_the_training(tmp_path):
    text = """
config_version: 2
study: left
problems:
  line:
    kind: gaussian
    families:
      a: {role: seen, params: {gamma: 0.0}}
      b: {role: seen, params: {gamma: 0.5}}
      c: {role: unseen, params: {gamma: 0.2}}
    methods:
      all: {kind: cfm}
      without: {kind: cfm, train: {leave_out: [b]}}
"""
    (tmp_path / "left.yaml").write_text(text)
    plan = Plan(read_study(tmp_path / "left.yaml"), tmp_path)
    assert plan.learned_from("line", "methods", "all", "train") == ["a", "b"]
    assert plan.learned_from("line", "methods", "without", "train") == ["a"]
    inputs = {
        name: json.loads(plan.train_job("line", "methods", name, 0))["inputs"]["train"] for name in ("all", "without")
    }
    assert inputs["without"] == inputs["all"][:1]
    for names, message in (("[d]", "'d' is no seen family"), ("[a, b]", "all seen families are left out")):
        (tmp_path / "left.yaml").write_text(text.replace("[b]", names))
        with pytest.raises(StudyError, match=message):
            read_study(tmp_path / "left.yaml")


BUDGET = """
config_version: 2
study: budget
seeds: 2
problems:
  line:
    kind: gaussian
    families:
      a: {role: seen, params: {gamma: 0.0}}
      b: {role: unseen, params: {gamma: 0.2}}
      b-up: {role: unseen, events_from: b, shift: {kind: scale, factor: 1.1}}
    methods:
      cfm: {kind: cfm}
      resampled: {kind: cfm, train: {bootstrap: true}}
    uncertainties:
      method: cfm
      sources:
        sample: {seeds_of: resampled}
        scale: {families: {b: [b-up]}}
"""


def test_a_budget_is_made_of_results_that_the_study_has(tmp_path):
    (tmp_path / "s.yaml").write_text(BUDGET)
    made = Plan(read_study(tmp_path / "s.yaml"), tmp_path)
    assert list(made.budgets("line")) == ["a", "b"]
    assert made.budgets("line")["b"] == {
        "nominal": [("cfm", "default", 0, "b"), ("cfm", "default", 1, "b")],
        "sample": [("resampled", "default", 0, "b"), ("resampled", "default", 1, "b")],
        "scale": [("cfm", "default", 0, "b-up")],
    }
    assert made.budgets("line")["a"]["scale"] == []
    job = json.loads(made.budget_job("line"))
    assert len(job["inputs"]["results"]) == len(made.budget_results("line")) == 9
    assert job["families"][job["budgets"]["b"]["scale"][0]] == "b-up"
    (tmp_path / "s.yaml").write_text(BUDGET.replace("sources:", "bins: {x1: [0, 1]}\n      sources:"))
    other = Plan(read_study(tmp_path / "s.yaml"), tmp_path)
    assert other.budget_job("line") != made.budget_job("line")
    assert other.report_job() != made.report_job()
    assert other.evaluate_job("line", "cfm") == made.evaluate_job("line", "cfm")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("method: cfm\n      sources", "method: cfn\n      sources", "there is no method 'cfn'; did you mean 'cfm'"),
        ("seeds: 2", "seeds: 1", "the study has one seed"),
        ("[b-up]", "[b]", "'b' does not have the events of 'b'"),
        ("seeds_of: resampled", "seeds_of: resampled, methods: [cfm]", "wanted one of `seeds_of`"),
        ("method: cfm\n      sources", "method: cfm\n      bins: {x1: [1, 0]}\n      sources", "edges that grow"),
    ],
)
def test_a_budget_that_cannot_be_made_is_refused(tmp_path, old, new, message):
    assert old in BUDGET
    (tmp_path / "s.yaml").write_text(BUDGET.replace(old, new))
    with pytest.raises(StudyError, match=message):
        read_study(tmp_path / "s.yaml")


STUDIES = sorted((Path(__file__).parents[2] / "config" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_jobs_of_every_study_are_read_again(path):
    """A job holds all settings of a method, apart from those of its inference: the same Spec comes back."""
    for problem in read_study(path).problems.values():
        for group in ("methods", "priors", "likelihoods"):
            for spec in getattr(problem, group).values():
                again = parse(group, spec.model_dump(mode="json", exclude={"infer"}), path.parent)
                assert again.model_dump(exclude={"infer"}) == spec.model_dump(exclude={"infer"})
                for settings in getattr(spec, "infer", {}).values():
                    given = settings.model_dump(mode="json")
                    assert again.infer_settings(given).model_dump(mode="json") == given


def test_an_inference_follows_the_code_of_its_prior():
    """A guided method reads whichever kind of prior it is given."""
    problem = {
        "kind": "gaussian-mixture",
        "families": {"modes": {"role": "seen"}},
        "priors": {"known": {"kind": "exact"}, "trained": {"kind": "edm", "network": {"kind": "mlp"}}},
        "methods": {name: {"kind": "prior-draws", "prior": name} for name in ("known", "trained")},
    }
    plan = Plan(load_study({"config_version": 2, "study": "s", "problems": {"p": problem}}))
    graph = Graph(plan, Path(__file__).parents[2] / "workflow/scripts")
    known, trained = (graph.code("infer", "p", methods=name, infer="default") for name in ("known", "trained"))
    assert ("exact_prior" in known, "guided.edm" in known) == (True, False)
    assert ("exact_prior" in trained, "guided.edm" in trained) == (False, True)
