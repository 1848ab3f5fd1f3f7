import json
from pathlib import Path

import pytest
import yaml

from pullback import registry
from pullback.study.schema import schema_text, study_schema

REPOSITORY = Path(__file__).resolve().parents[2]
jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture
def check():
    return jsonschema.Draft202012Validator(study_schema())


def test_the_schema_file_is_what_the_models_say():
    """When this fails: make schema."""
    with registry.built_in_only():
        assert (REPOSITORY / "workflow/schemas/study.schema.json").read_text() == schema_text()


def test_every_study_of_the_repository_agrees_with_it(check):
    studies = [REPOSITORY / "config/config.yaml"]
    studies += (REPOSITORY / "config/studies").glob("*.yaml")
    studies += (REPOSITORY / "tests/workflow/studies").glob("*.yaml")
    assert len(studies) > 3
    for study in studies:
        errors = [error.message for error in check.iter_errors(yaml.safe_load(study.read_text()))]
        assert errors == [], study


def test_a_wrong_key_disagrees(check):
    study = yaml.safe_load((REPOSITORY / "tests/workflow/studies/tiny.yaml").read_text())
    assert check.is_valid(study)
    assert not check.is_valid({**study, "sede": 1})
    study["problems"]["line"]["familys"] = {}
    assert not check.is_valid(study)


def test_every_option_says_what_it_is():
    """Editors show descriptions: the larger groups have one, as a docstring."""
    named = set()
    waiting = [study_schema()]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            named |= {part["title"]} if "title" in part and "description" in part else set()
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
    simulators = {"GaussianSimulator", "FwiSimulator", "UnfoldingSimulator"}
    assert simulators | {"CfmSpec", "EiFmSpec", "EnkgSpec", "Train", "Family"} <= named
    assert json.loads(schema_text())["title"] == "A pullback study"
