"""What Snakemake and PyYAML do by themselves, where pullback does otherwise (docs/architecture.md, Workarounds)."""

import os
import subprocess
import sys

import yaml


def _snakemake(folder, rules, *arguments, **environment):
    """A run of Snakemake without pullback: exit status and words."""
    (folder / "Snakefile").write_text(rules)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})
    return done.returncode, done.stdout + done.stderr


def test_snakemake_runs_a_job_to_its_end_and_deletes_what_it_made_of_a_file_of_the_future(tmp_path):
    (tmp_path / "a").touch()
    os.utime(tmp_path / "a", (2e9, 2e9))
    rules = 'rule one:\n    input: "a"\n    output: "b"\n    shell: "cp {input} {output}; touch ran"\n'
    status, words = _snakemake(tmp_path, rules)
    assert status != 0
    assert (tmp_path / "ran").exists()
    assert not (tmp_path / "b").exists(), words


def test_snakemake_refuses_a_rule_with_a_benchmark_and_a_cache(tmp_path):
    rules = 'rule one:\n    output: "b"\n    benchmark: "c"\n    cache: True\n    shell: "touch {output}"\n'
    (tmp_path / "store").mkdir()
    status, words = _snakemake(tmp_path, rules, "--cache", SNAKEMAKE_OUTPUT_CACHE=str(tmp_path / "store"))
    assert status != 0
    assert "Rules with a benchmark directive may not be marked as eligible for between-workflow caching" in words


def test_plain_yaml_changes_values_and_drops_a_repeated_key():
    text = "norway: no\nrate: 1e-1\nnumber: 010\ntime: 1:30\ntwice: 1\ntwice: 2"
    assert yaml.safe_load(text) == {"norway": False, "rate": "1e-1", "number": 8, "time": 90, "twice": 2}
