"""The profiles fit the workflow and each other."""

import re

import pytest
import yaml
from dag import REPOSITORY

# Targets, and the bodies of `simulate` and `collide`: no job of theirs is ever submitted.
NO_JOBS = {"all", "ensembles", "models", "posteriors", "metrics", "shard", "collisions"}


def profile(name):
    return yaml.safe_load((REPOSITORY / "profiles" / name / "profile.yaml").read_text())


@pytest.fixture(scope="module")
def rules():
    """Text of every rule; of one that is derived from another, what it changes."""
    text = "".join(path.read_text() for path in sorted((REPOSITORY / "workflow/rules").glob("*.smk")))
    blocks = re.split(r"^ *(?:use )?rule (?:\w+ as )?(\w+)", text, flags=re.M)
    return dict(zip(blocks[1::2], blocks[2::2], strict=True))


def test_the_profile_for_slurm_names_rules_that_there_are(rules):
    slurm = profile("slurm")
    assert set(slurm["set-resources"]) <= set(rules)
    assert {name.strip() for name in slurm["slurm-array-jobs"].split(",")} <= set(rules)


def test_jobs_in_the_queue_ask_for_more_memory_in_every_try(rules):
    slurm = profile("slurm")
    submitted = {name for name, text in rules.items() if "localrule: True" not in text} - NO_JOBS
    # Where the profile names none, the rule's own figure counts, which knows no attempt.
    without = {
        name for name in submitted if "attempt" not in str(slurm["set-resources"].get(name, {}).get("mem_mb", ""))
    }
    assert not without, f"give these a mem_mb with attempt in profiles/slurm: {sorted(without)}"


def test_the_default_profile_overrides_nothing_of_the_one_for_slurm():
    assert not set(profile("default")) & set(profile("slurm"))


def test_retries_stand_in_the_profile_alone(rules):
    assert profile("slurm")["retries"] > 0
    assert not [name for name, text in rules.items() if re.search(r"^ +retries:", text, flags=re.M)]
