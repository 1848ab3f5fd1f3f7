"""Which jobs a study has. The numbers are worked out by hand from the studies in this folder."""

import json
import subprocess
import sys

import pytest
from dag import REPOSITORY, STUDIES, ask, counts, planned, rules

REST = {"resolve": 1, "report": 1, "receipt": 1, "all": 1}
EXPECTED = {
    # line: 6 ensembles of 500 events, 2 in a shard of 1000; 2 validation ensembles; 2 + 1 shards of the fixed prior.
    # jets: 4 splits of the seen process, 2 of the unseen one, each one file. Two derived families.
    # cfm answers 2 families in 2 parts, two other methods 2 in 1; one method answers 3 families of jets.
    # Only what is in parts has an index.
    "both": {
        "preflight": 2,
        "simulate": 3 + 1 + 2 + 1,
        "collide": 4 + 2,
        "read": 4 + 2,
        "derive": 2,
        "index_ensemble": 2 + 2 + 1 + 4 + 2 + 1,
        "train": 1,
        "prior": 1,
        "infer": 2 * 2 + 2 * 2 + 3,
        "index_posterior": 2,
        "evaluate": 4,
        **REST,
    },
    # 40 training events in shards of 20; two seeds; enkg answers one family, in 2 parts and, with other settings, in 1.
    "fwi": {
        "preflight": 1,
        "simulate": 2 + 1 + 1 + 1 + 2,
        "index_ensemble": 4 + 2,
        "train": 2,
        "prior": 2,
        "infer": 2 * (2 + 1 + 2),
        "index_posterior": 2,
        "evaluate": 2,
        **REST,
    },
    # One problem: no rule of another one's, and nothing of the default study.
    "tiny": {
        "preflight": 1,
        "simulate": 2 + 1 + 1 + 1,
        "index_ensemble": 4,
        "infer": 1,
        "evaluate": 1,
        **REST,
    },
}


@pytest.mark.parametrize("study", EXPECTED)
def test_a_study_has_exactly_its_jobs(study, tmp_path):
    jobs = planned(tmp_path, STUDIES / f"{study}.yaml", "-F")
    assert counts(jobs) == EXPECTED[study]
    outputs = [name for job in jobs for name in job.output]
    assert len(set(outputs)) == len(outputs)
    assert all(name.startswith(f"results/{study}/") for name in outputs)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("ensembles", {"preflight", "simulate", "index_ensemble"}),
        ("models", {"preflight", "simulate", "index_ensemble", "train", "prior"}),
        ("posteriors", {"preflight", "simulate", "index_ensemble", "train", "prior", "infer", "index_posterior"}),
        (
            "metrics",
            {"preflight", "simulate", "index_ensemble", "train", "prior", "infer", "index_posterior", "evaluate"},
        ),
    ],
)
def test_named_targets_stop_at_their_stage(target, expected, tmp_path):
    jobs = planned(tmp_path, STUDIES / "fwi.yaml", "-F", target)
    assert rules(jobs) - {target} == expected


def test_methods_wait_for_what_they_use(tmp_path):
    _, text = ask("--d3dag", "-F", "--configfile", STUDIES / "fwi.yaml", folder=tmp_path)
    graph = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    label = {node["id"]: node["value"]["rule"] for node in graph["nodes"]}
    edges = {(label[edge["u"]], label[edge["v"]]) for edge in graph["edges"]}
    assert {("preflight", "infer"), ("prior", "infer"), ("train", "infer"), ("preflight", "evaluate")} <= edges
    assert ("simulate", "train") not in edges


def test_the_default_target_is_the_whole_study(tmp_path):
    """With the Snakefile at the top and with the one in workflow/."""
    study = STUDIES / "tiny.yaml"
    top = counts(planned(tmp_path, study, "-F"))
    inner = planned(tmp_path, study, "-F", "-s", str(REPOSITORY / "workflow/Snakefile"))
    assert top["all"] == 1
    assert counts(inner) == top


def test_lint_finds_nothing(tmp_path):
    status, text = ask("--lint", "--configfile", STUDIES / "both.yaml", folder=tmp_path)
    assert status == 0, text
    assert "Congratulations" in text


def test_every_rule_says_what_it_does():
    for file in sorted((REPOSITORY / "workflow/rules").glob("*.smk")):
        text = file.read_text()
        for block in text.split("\nrule ")[1:]:
            name = block.split(":")[0]
            docstring = block.split('"""')[1].strip()
            assert len(docstring.splitlines()) == 2, f"{name}: two lines of docstring"
            if file.name != "targets.smk":
                assert "\n    log:" in block, f"{name}: a log"
                assert "benchmark" in text, f"{name}: a benchmark"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("seed: 7", "sede: 7"), "did you mean 'seed'"),
        (("role: unseen, params: {gamma: 0.5}", "role: unsen, params: {gamma: 0.5}"), "families.plus.role"),
        (("kind: oracle", "kind: enkg, prior: none"), "there is no prior 'none'"),
        (("seed: 7", "seed: 7\nseed: 8"), "stands twice"),
    ],
)
def test_a_wrong_study_is_refused_before_any_job(edit, message, tmp_path):
    text = (STUDIES / "both.yaml").read_text()
    assert edit[0] in text
    study = tmp_path / "both.yaml"
    study.write_text(text.replace(*edit, 1))
    status, said = ask("-n", "--configfile", study, folder=tmp_path)
    assert status != 0
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "results").exists()


def test_two_config_files_are_not_merged(tmp_path):
    status, said = ask("-n", "--configfile", STUDIES / "tiny.yaml", STUDIES / "fwi.yaml", folder=tmp_path)
    assert status != 0
    assert "a study is one config file" in said


def test_parsing_loads_nothing_heavy(tmp_path):
    code = (
        "import sys; from snakemake.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    study = STUDIES / "both.yaml"
    arguments = ["-n", "-q", "all", "-s", str(REPOSITORY / "Snakefile"), "--configfile", str(study)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split("LOADED ")[1].split())
    heavy = "torch devito uproot awkward pythia8mc fastjet matplotlib scipy ot skimage lightning_fabric h5py"
    assert "pullback" in loaded
    assert loaded & set(heavy.split()) == set()
