"""The rule of learned likelihoods: which jobs wait for it and what an edit reruns."""

import json

import yaml
from dag import REPOSITORY, STUDIES, ask, copy_repository, counts, finish, planned

STUDY = STUDIES / "refine.yaml"
ANSWERS = {"condition": 2, "infer": 2, "evaluate": 1, "report": 1, "receipt": 1, "resolve": 1, "all": 1}


def test_a_likelihood_is_trained_once_for_each_seed(tmp_path):
    jobs = planned(tmp_path, STUDY, "-F")
    found = counts(jobs)
    assert {rule: found[rule] for rule in ("train", "likelihood", "infer", "evaluate")} == {
        "train": 2,
        "likelihood": 2,
        "infer": 2 * 3,
        "evaluate": 1,
    }
    outputs = {name for job in jobs if job.rule == "likelihood" for name in job.output}
    stem = "results/refine/likelihoods/line/gmm/seed-"
    assert outputs == {f"{stem}{seed}{end}" for seed in (0, 1) for end in (".pt", ".curves.csv")}


def test_only_the_inference_that_is_refined_with_it_waits(tmp_path):
    _, text = ask("--d3dag", "-F", "--configfile", STUDY, folder=tmp_path)
    graph = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    label = {node["id"]: node["value"]["rule"] for node in graph["nodes"]}
    edges = [(label[edge["u"]], label[edge["v"]]) for edge in graph["edges"]]
    assert edges.count(("likelihood", "infer")) == edges.count(("likelihood", "condition")) == 2
    assert edges.count(("condition", "infer")) == 4


def edited(folder, key, value):
    study = yaml.safe_load(STUDY.read_text())
    node = study["problems"]["line"]
    *parents, last = key.split(".")
    for name in parents:
        node = node[name]
    node[last] = value
    path = folder / "refine.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def test_what_an_edit_reruns(tmp_path):
    finish(tmp_path, STUDY)
    jobs = planned(tmp_path, edited(tmp_path, "methods.cfm.infer.exact.refine.jitter", 0.5))
    assert counts(jobs) == ANSWERS
    jobs = planned(tmp_path, edited(tmp_path, "likelihoods.gmm.components", 2))
    assert counts(jobs) == {**ANSWERS, "likelihood": 2}


def test_the_code_of_refinement_reruns_what_is_refined(tmp_path):
    repository = copy_repository(tmp_path / "code")
    folder = tmp_path / "run"
    folder.mkdir()
    finish(folder, STUDY, repository)
    path = repository / "src/pullback/methods/refinement/refine.py"
    path.write_text(path.read_text() + "\nANOTHER = 1\n")
    found = counts(planned(folder, STUDY, repository=repository))
    assert found["infer"] == found["condition"] == 4
    assert not {"train", "likelihood"} & set(found)


def test_every_learned_rule_has_a_place_in_the_profile():
    profile = yaml.safe_load((REPOSITORY / "profiles/slurm/profile.yaml").read_text())
    places = profile["set-resources"]
    assert places["likelihood"] == places["prior"]
    assert places["condition"] == places["infer"] == places["unfold"]
